"""`sdi-plugin convert`: weights from one naming to another."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdi_plugin import frameworks
from sdi_plugin.cli.errors import CommandError
from sdi_plugin.cli.output import report
from sdi_plugin.deploy.exports import EXPORTS, export_of
from sdi_plugin.version import __version__

if TYPE_CHECKING:
    from sdi_plugin.checkpoint import Export, Recognised


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "convert",
        help="weights from the official naming or a framework's to the core's or another framework's",
        description="Rename the weights of U-Net v2 for another framework. The tensors stay bit for bit the same, and\n"
        "nothing is written unless they fit the network that they describe.",
        epilog="examples:\n"
        "  sdi-plugin convert official.pth unetv2.safetensors --to core\n"
        "    then, in Python: sdi_plugin.load('unetv2.safetensors')\n"
        "  sdi-plugin convert official.pth unetv2 --to smp\n"
        "    then, after import sdi_plugin.adapters.smp: smp.from_pretrained('unetv2')\n"
        "  sdi-plugin convert unetv2 unetv2.pth --to mmseg\n"
        "    then: mim test mmseg CONFIG --checkpoint unetv2.pth, with the printed options of the model\n"
        "  sdi-plugin convert official.pth unetv2.pth --to nnunet\n"
        "    then: nnUNetv2_train ... -tr nnUNetTrainerUNetV2PVT -pretrained_weights unetv2.pth\n"
        "  sdi-plugin convert fold_0/checkpoint_final.pth unetv2.safetensors --to core",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", type=Path, help="checkpoint, or the folder that save_pretrained wrote")
    parser.add_argument(
        "target",
        metavar="OUT",
        type=Path,
        help="a file ending in .safetensors, with --to mmseg or nnunet in .pth; with --to smp also a folder",
    )
    parser.add_argument("--to", choices=tuple(EXPORTS), required=True, help="the naming to write")
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from sdi_plugin import checkpoint
    from sdi_plugin.checkpoint.card import KEY
    from sdi_plugin.checkpoint.export import build_without_weights

    source, target, to = arguments.source, arguments.target, arguments.to
    export = export_of(to)
    _check_target(target, export, arguments.force)
    whole = checkpoint.read_whole(source)
    try:
        found = checkpoint.recognise(whole.state, whole.card)
        converted = found.named(to)
        network = build_without_weights(export.build, found.description)
        checkpoint.check(converted, network.state_dict(), f"UNetV2 ({found.description['encoder']})")
    except checkpoint.CheckpointError as error:
        raise CommandError(f"{source}: {error}") from error

    card = dataclasses.replace(
        whole.card,
        architecture={"framework": "core", "arguments": found.description},
        versions={**whole.card.versions, **frameworks.versions()},
    )
    metadata = {
        "format": "pt",
        "sdi_plugin": __version__,
        "naming": to,
        "arguments": json.dumps(found.description),
        KEY: card.to_json(),
    }
    try:
        advice = export.write(target, checkpoint.Converted(converted, network, found.description, metadata))
    except OSError as error:
        raise CommandError(f"{target}: could not be written: {error.strerror}.") from error
    summary = _summary(source, target, to, found)
    report(f"{summary}\n{advice}" if advice else summary)


def _check_target(target: Path, export: "Export", force: bool) -> None:
    if target.suffix not in export.SUFFIXES:
        raise CommandError(f"expected OUT {export.OUT}, got {target}.")
    if not target.parent.is_dir():
        raise CommandError(f"{target.parent}: no such folder to write {target.name} in. Create it first.")
    if target.suffix and target.is_dir():
        raise CommandError(f"{target}: expected a file, got a folder. Give another name.")
    if not target.suffix and target.exists() and not target.is_dir():
        raise CommandError(f"{target}: expected a folder, got a file. Give another name.")
    if target.exists() and not force:
        raise CommandError(f"{target} exists. Give another name, or pass --force to replace it.")


def _summary(source: Path, target: Path, to: str, found: "Recognised") -> str:
    network = ", ".join(f"{name}={value}" for name, value in found.description.items())
    what = f"dropped {', '.join(found.dropped)}" if found.dropped else "dropped nothing"
    return f"{source}: {found.naming} U-Net v2 ({network}); {what}; wrote {target} ({to})"
