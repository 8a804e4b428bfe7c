"""`sdi-plugin nnunet enable | disable | status | run`: how nnU-Net v2 finds the trainers of this package."""

from __future__ import annotations

import argparse
from typing import Any

_ABOUT = """How nnU-Net v2 finds the trainers of sdi-plugin.

nnU-Net 2.8 looks for trainers in the folders that the environment variable nnUNet_extTrainer names. An installed
sdi-plugin appends its folder there whenever Python starts, through a file in site-packages; an editable install
(pip install -e) cannot install that file, so `enable` writes it. Nothing is ever written into nnU-Net's own package.
SDI_PLUGIN_NNUNET=0 turns it off for a shell."""

_RUN_EXAMPLE = """examples:
  sdi-plugin nnunet run nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerUNetV2
  sdi-plugin nnunet run nnUNetv2_plan_experiment -d 4 -pl nnUNetPlannerUNetV2

Needed for the planners, which nnU-Net looks for in its own package only, and with nnunetv2 2.6 and 2.7, which look for
trainers there only. With -num_gpus above 1 these two do not find them.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "nnunet",
        help="let nnU-Net v2 find the trainers of sdi-plugin",
        description=_ABOUT,
        epilog="example: sdi-plugin nnunet status",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="nnunet_command", metavar="COMMAND", required=True)
    for name, run, text in (
        ("enable", run_enable, "write the start-up files into site-packages, for editable installs"),
        ("disable", run_disable, "remove them"),
        ("status", run_status, "say whether nnU-Net finds the trainers; if not, say why and exit with 1"),
    ):
        verb = verbs.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"example: sdi-plugin nnunet {name}"
        )
        verb.set_defaults(run=run)
    verb = verbs.add_parser(
        "run",
        help="run a command of nnU-Net that knows the trainers and planners, whatever is enabled",
        description="Run a command of nnU-Net in which the trainers and planners of sdi-plugin are known.",
        epilog=_RUN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("nnunet", metavar="NNUNET_COMMAND", help="such as nnUNetv2_train")
    verb.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    verb.set_defaults(run=run_command)


def run_enable(arguments: argparse.Namespace) -> None:
    from sdi_plugin.cli.nnunet import startup

    print(startup.enable())


def run_disable(arguments: argparse.Namespace) -> None:
    from sdi_plugin.cli.nnunet import startup

    print(startup.disable())


def run_status(arguments: argparse.Namespace) -> int:
    from sdi_plugin.cli.nnunet import startup

    text, on = startup.status()
    print(text)
    return 0 if on else 1


def run_command(arguments: argparse.Namespace) -> None:
    from sdi_plugin.cli.nnunet.command import run

    run(arguments.nnunet, arguments.arguments)
