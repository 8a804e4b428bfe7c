"""`python -m benchmarks.study`: make the runs that are missing, read the test sets once, write and verify the page."""

import argparse
import functools
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import environment

RESULTS = environment.ROOT / "benchmarks" / "results" / "study"
_EPILOG = """\
examples:
  python -m benchmarks.study --data DATA --out OUT              go on with the study; kill and repeat at will
  python -m benchmarks.study --data DATA --out OUT --list       every run of the plan, and whether it is there
  python -m benchmarks.study --data DATA --out OUT --cost       parameters, operations, memory and times
  python -m benchmarks.study --data DATA --out OUT --read-test-sets
  python -m benchmarks.study --tables                           docs/results-study.md and its plots from the JSON
  python -m benchmarks.study --verify                           the same, compared with what is there
  torchrun --nproc-per-node 8 -m benchmarks.study --full --data DATA --out OUT --weights pvt_v2_b2.pth
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 1 where --verify finds a difference, 2 for bad input, told in one line."""
    arguments = _parser().parse_args(argv)
    if "LOCAL_RANK" not in os.environ:
        environment.restart_with_settings()
    # timm 1.0 says so when it is imported; it is nothing that the command's user could mend.
    warnings.filterwarnings("ignore", "`torch.jit.interface` is deprecated", FutureWarning)
    try:
        return _run(arguments)
    except (ImportError, OSError, ValueError) as error:
        print(f"benchmarks.study: error: {error}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    if not (arguments.verify or arguments.tables) and (arguments.data is None or arguments.out is None):
        raise ValueError("study: expected --data, the data sets' folders, and --out, a folder for what is made.")
    from benchmarks.study import page, work
    from benchmarks.study.store import Store, write_bytes

    if arguments.verify:
        found = page.differing(Store(arguments.results), arguments.docs)
        print("\n".join(found) or "the page and its plots are what the results give")
        return 1 if found else 0
    if arguments.tables:
        for name, data in page.files(Store(arguments.results)).items():
            write_bytes(arguments.docs / name, data)
            print(arguments.docs / name)
        return 0
    place = work.Place(arguments.data, arguments.out, arguments.weights)
    say = functools.partial(print, flush=True)
    wanted = work.matching(arguments.only)
    if arguments.list:
        for run in dict.fromkeys(work.plan.runs(place.store)):
            if wanted(run):
                print("done   " if place.store.read(run) else "missing", run.id)
        return 0
    if arguments.cost:
        from benchmarks.study import cost

        cost.measure(place.store)
        return 0
    if arguments.read_test_sets:
        from benchmarks.study import test_sets

        print(f"{test_sets.read_once(place, say)} runs measured on the test sets, which are not read again")
        return 0
    if arguments.release is not None:
        from benchmarks.study import release

        release.write(place, arguments.release, say)
        return 0
    if arguments.full:
        from benchmarks.study import full

        protocol = replace(full.PROTOCOL, **{k: v for k, v in _full_options(arguments).items() if v is not None})
        full.run_full(place, protocol=protocol, seeds=arguments.seeds, most_steps=arguments.most_steps, say=say)
        return 0
    made = work.work(place, wanted=wanted, say=say)
    print(f"{made} runs made; nothing that can be made by now is missing")
    return 0


def _full_options(arguments: argparse.Namespace) -> dict[str, Any]:
    names = {"size": "size", "encoder": "encoder", "start": "encoder_start", "epochs": "epochs"}
    return {field: getattr(arguments, name) for field, name in names.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description="A seeded comparison of U-Net v2 with smp's decoders, and of its parts. See benchmarks/study/.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="kvasir/, clinicdb/, colondb/ and isic2018/")
    parser.add_argument("--out", type=Path, metavar="DIR", help="results/, work/ and cache/ of the study")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="ImageNet weights of an encoder without a package")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="runs whose id has all of these words")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="print the plan")
    action.add_argument("--cost", action="store_true", help="measure what every network costs; on a quiet machine")
    action.add_argument("--read-test-sets", action="store_true", help="once, when every run of the plan is there")
    action.add_argument("--tables", action="store_true", help="write the page and the plots")
    action.add_argument("--verify", action="store_true", help="1 where the page or a plot is not what the results give")
    action.add_argument(
        "--release", type=Path, metavar="DIR", help="write the best model of each data set, with a card"
    )
    action.add_argument("--full", action="store_true", help="the paper's recipe, for GPUs; by torchrun on several")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="of --tables and --verify")
    parser.add_argument("--docs", type=Path, default=environment.ROOT / "docs", metavar="DIR", help="of these, too")
    full = parser.add_argument_group("--full")
    full.add_argument("--seeds", type=int, default=3, metavar="N", help="[%(default)s]")
    full.add_argument("--size", type=int, metavar="N", help="[352]")
    full.add_argument("--encoder", metavar="NAME", help="[pvt-b2]")
    full.add_argument("--encoder-start", metavar="WORD", help="imagenet or random [imagenet]")
    full.add_argument("--epochs", type=int, metavar="N", help="[100]")
    full.add_argument("--most-steps", type=int, metavar="N", help="end every epoch after so many batches, to try it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
