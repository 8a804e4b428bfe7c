"""`python -m benchmarks.sdi`: SDI in eager PyTorch, torch.compile and sdi_plugin, measured side by side."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import environment

if TYPE_CHECKING:
    from benchmarks.sdi.result import Settings

PROGRAM = "python -m benchmarks.sdi"
_DOCS = environment.ROOT / "docs"
_EPILOG = """\
examples:
  python -m benchmarks.sdi --quick --json out.json      the goals and the plots, about twelve minutes on two cores
  python -m benchmarks.sdi --decoder --json out.json    the attention, decoders and steps of nnU-Net
  python -m benchmarks.sdi                              everything, into benchmarks/results/; then the page
  python -m benchmarks.sdi --cases 2d-stage-512-b2      your own choice of cases, see benchmarks/README.md
  python -m benchmarks.sdi --render                     only the page, from benchmarks/results/
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 for bad input after one line that says why."""
    arguments = parser().parse_args(argv)
    environment.restart_with_settings()
    try:
        if arguments.render:
            _render()
        else:
            _measure(arguments)
    except (OSError, ValueError) as error:
        print(f"benchmarks.sdi: error: {error}", file=sys.stderr)
        return 2
    return 0


def names(arguments: argparse.Namespace) -> list[str]:
    """The cases that a command measures."""
    from benchmarks.sdi import cases

    if arguments.decoder:
        return list(cases.DECODER)
    return list(arguments.cases or ((*cases.QUICK, *cases.DECODER, *cases.SCALING) if arguments.quick else cases.FULL))


def settings(arguments: argparse.Namespace, cores: int, has_gpu: bool) -> "Settings":
    """The settings with which a command measures on a machine."""
    from benchmarks.sdi import contenders
    from benchmarks.sdi.result import MODES, Settings

    device = "cuda" if has_gpu and not arguments.cpu else "cpu"
    is_short = arguments.quick or arguments.decoder
    default = [cores] if is_short or device == "cuda" else sorted({1, cores})
    return Settings(
        threads=tuple(arguments.threads or default),
        compiled=() if arguments.no_compile else MODES,
        channels_last=not is_short,
        peaks=(contenders.EAGER, contenders.OURS) if is_short else contenders.ALL,
        device=device,
    )


def _measure(arguments: argparse.Namespace) -> None:
    import torch

    from benchmarks.sdi import report, result, stored, suite

    # timm 1.0 warns when it is imported; the command's user cannot fix that.
    warnings.filterwarnings("ignore", "`torch.jit.interface` is deprecated", FutureWarning)
    everything = not (arguments.quick or arguments.decoder) and arguments.cases is None
    found = suite.run(names(arguments), settings(arguments, environment.cores(), torch.cuda.is_available()))
    written = arguments.json
    if everything and written is None:
        written = stored.FOLDER / f"{found.machine.name}.json"
    if written is not None:
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(result.to_json(found))
    if everything and arguments.json is None:
        _render()
    print(report.tables(found))


def _render() -> None:
    """Write docs/benchmarks.md, its plots and the marked parts of other documents from all stored results."""
    from benchmarks.sdi import excerpts, plots, report, stored

    results = [stored.read(file) for file in stored.files()]
    for found in results:
        plots.write(found, _DOCS)
    (_DOCS / "benchmarks.md").write_text(report.page(results))
    for document in filter(Path.exists, excerpts.DOCUMENTS):
        document.write_text(excerpts.fill(document.read_text(), results))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Measure SDI in eager PyTorch, torch.compile and sdi_plugin, in turn in one process.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="only the goals and the plots, on all cores")
    what.add_argument("--decoder", action="store_true", help="only the goals for the attention and whole decoders")
    what.add_argument("--cases", nargs="+", metavar="NAME", help="only these cases, such as 2d-level1-352-b4")
    what.add_argument("--render", action="store_true", help="measure nothing: write docs/ from benchmarks/results/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to this file")
    parser.add_argument("--threads", type=_threads, nargs="+", metavar="N", help="numbers of threads [1 and all cores]")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile: it takes most of the time")
    parser.add_argument("--cpu", action="store_true", help="measure on the CPU even if there is a GPU")
    return parser


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of threads, 1 or more, got {text!r}")
    return int(text)
