"""The command `sdi-plugin`. Commands import what they need when they run, so that --help is instant."""

import argparse
import sys
import warnings
from collections.abc import Sequence

from sdi_plugin.cli import bench, convert, data, demo, export, info, nnunet, predict
from sdi_plugin.cli.errors import CommandError
from sdi_plugin.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, or 2 for bad input, which is reported in one line on stderr (`--debug` shows the traceback);
        some commands have one of their own (`nnunet status`).
    """
    arguments = build_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            # timm 1.0 says so when it is imported; the command's user cannot change that.
            warnings.filterwarnings("ignore", "`torch.jit.interface` is deprecated", FutureWarning)
            return arguments.run(arguments) or 0
    except (CommandError, ImportError, OSError, ValueError) as error:
        if arguments.debug:
            raise
        print(f"sdi-plugin: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sdi-plugin: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sdi-plugin",
        description="U-Net v2 and its SDI skip connections: demo, data sets, weights, prediction, speed.",
        epilog="example: sdi-plugin demo --out runs/demo",
    )
    parser.add_argument("--version", action="version", version=f"sdi-plugin {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (info, demo, data, convert, predict, export, bench, nnunet):
        command.add_parser(commands)
    for command in _leaves(parser):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers that run something: `data` only groups `data list` and `data prepare`."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [leaf for group in groups for sub in group.choices.values() for leaf in _leaves(sub)] or [parser]


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {str(error.strerror).lower()}"
    return " ".join(str(error).split())
