"""`python -m benchmarks.sdi`: SDI by eager PyTorch, by torch.compile and by sdi_plugin, measured side by side."""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment

_RESULTS = environment.ROOT / "benchmarks" / "results"
_DOCS = environment.ROOT / "docs"
_EPILOG = """\
examples:
  python -m benchmarks.sdi --quick --json out.json      the goals, in under 5 minutes on two cores
  python -m benchmarks.sdi                              everything; writes benchmarks/results/ and docs/benchmarks.md
  python -m benchmarks.sdi --cases 2d-stage-512-b2      cases of your own, see benchmarks/README.md
  python -m benchmarks.sdi --render benchmarks/results/NAME.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 for bad input, told in one line."""
    arguments = _parser().parse_args(argv)
    environment.restart_with_settings()
    try:
        if arguments.render is not None:
            _render(json.loads(arguments.render.read_text()))
            return 0
        _measure(arguments)
    except (OSError, ValueError) as error:
        print(f"benchmarks.sdi: error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(arguments: argparse.Namespace) -> None:
    import torch

    from benchmarks.sdi import cases, contenders, report, suite

    # timm 1.0 says so when it is imported; it is nothing that the command's user could mend.
    warnings.filterwarnings("ignore", "`torch.jit.interface` is deprecated", FutureWarning)
    device = "cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu"
    most = environment.cores()
    everything = not arguments.quick and arguments.cases is None
    default = [most] if arguments.quick or device == "cuda" else sorted({1, most})
    settings = suite.Settings(
        threads=arguments.threads or default,
        rounds=4 if arguments.quick else 5,
        seconds=4.0 if arguments.quick else 5.0,
        compiled=() if arguments.no_compile else suite.MODES,
        channels_last=not arguments.quick,
        peaks=(contenders.EAGER, contenders.OURS) if arguments.quick else contenders.ALL,
        device=device,
    )
    names = arguments.cases or (cases.QUICK if arguments.quick else cases.FULL)
    result = suite.run(names, settings)
    written = arguments.json
    if everything and written is None:
        written = _RESULTS / f"{result['machine']['name']}.json"
    if written is not None:
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(result, indent=1) + "\n")
    if everything:
        _render(result)
    tables = [report.times_table, report.memory_table, report.floors_table]
    if set(names) & set(cases.QUICK):
        tables.append(report.goals_table)
    print("\n\n".join(table(result) for table in tables))


def _render(result: dict[str, Any]) -> None:
    from benchmarks.sdi import plots, report

    images = plots.write(result, _DOCS / "images")
    relative = [(caption, file.relative_to(_DOCS).as_posix()) for caption, file in images]
    (_DOCS / "benchmarks.md").write_text(report.page(result, relative))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sdi",
        description="Measure SDI by eager PyTorch, by torch.compile and by sdi_plugin, in turn in one process.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="only what the goals are about, on all cores")
    what.add_argument("--cases", nargs="+", metavar="NAME", help="only these cases, such as 2d-level1-352-b4")
    what.add_argument("--render", type=Path, metavar="FILE", help="measure nothing: write docs/ from a result")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result goes")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="numbers of threads [1 and all cores]")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes most of the time")
    parser.add_argument("--cpu", action="store_true", help="measure on the CPU also where there is a GPU")
    return parser
