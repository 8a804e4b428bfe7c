"""`python -m benchmarks.gpu`: the phases one after the other, each in processes of its own, or the page from a result.

Imports no torch: whatever a phase does to its process, the run goes on and keeps its results.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import environment, markdown
from benchmarks.gpu import results, runner, tables

_PAGE = environment.ROOT / "docs" / "gpu.md"
_EPILOG = f"""\
phases: {", ".join(f"{phase.name} ({phase.seconds} s)" for phase in runner.PHASES)}.
A phase that ends early leaves its time to the next ones. DIR gets results.json, rewritten after every item, and
log.txt. The exit status is 1 if correctness or integration failed or did not finish.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0; 1 if correctness or integration failed; 2 for bad input."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.render:
            text = markdown.fill(_PAGE.read_text(), tables.parts(results.read(arguments.render)))
            _PAGE.write_text(text)
            return 0
        found = runner.run(arguments.out, arguments.only, arguments.dry)
    except (OSError, ValueError) as error:
        print(f"benchmarks.gpu: error: {error}", file=sys.stderr)
        return 2
    print(tables.summary(found))
    return 1 if runner.failed(found) else 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Check and measure the kernels on a GPU. Needs torch with Triton, pytest with plugins, timm.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [phase.name for phase in runner.PHASES]
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="DIR", help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PHASE", help="only these phases")
    parser.add_argument("--dry", action="store_true", help="run every phase's code on tiny sizes, without a GPU")
    parser.add_argument("--render", type=Path, metavar="RESULTS.json", help="measure nothing: write docs/gpu.md")
    return parser
