"""`sdi-plugin bench`: measure SDI on this machine. Works in a checkout: benchmarks/ is not part of the wheel."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import sdi_plugin
from sdi_plugin.cli.errors import CommandError


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure SDI against eager PyTorch and torch.compile (from a checkout)",
        description="Measure SDI in eager PyTorch, in torch.compile and in this package: python -m benchmarks.sdi.",
        epilog="example: sdi-plugin bench --quick --json out.json",
    )
    parser.add_argument("--quick", action="store_true", help="only the goals and the plots: about five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the result to")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    root = Path(sdi_plugin.__file__).parents[1]
    if not (root / "benchmarks" / "sdi" / "__main__.py").is_file():
        raise CommandError("bench: expected a checkout: benchmarks/ is not installed. Clone it and run make bench.")
    options = ["--quick"] if arguments.quick else []
    if arguments.json is not None:
        options += ["--json", str(arguments.json.absolute())]
    # In a process of its own, because it restarts itself with its allocator's settings.
    raise SystemExit(subprocess.run([sys.executable, "-m", "benchmarks.sdi", *options], cwd=root).returncode)
