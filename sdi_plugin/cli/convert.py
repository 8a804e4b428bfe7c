"""`sdi-plugin convert`: weights from one naming to another."""

import argparse
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdi_plugin.cli.errors import CommandError
from sdi_plugin.cli.output import report
from sdi_plugin.version import __version__

if TYPE_CHECKING:
    from sdi_plugin.checkpoint import Export, Recognised

# The modules that know how weights are built and saved, see `sdi_plugin.checkpoint.Export`. Each needs its framework.
_EXPORTS = {
    "core": "sdi_plugin.cli.core_export",
    "smp": "sdi_plugin.adapters.smp.export",
    "mmseg": "sdi_plugin.adapters.mmsegmentation.export",
    "nnunet": "sdi_plugin.adapters.nnunet.export",
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "convert",
        help="weights from the official naming or a framework's to the core's or another framework's",
        description="Rename the weights of U-Net v2 for another framework. The tensors stay bit for bit the same, and\n"
        "nothing is written unless they fit the network that they describe.",
        epilog="examples:\n"
        "  sdi-plugin convert official.pth unetv2.safetensors --to core\n"
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
    parser.add_argument("--to", choices=tuple(_EXPORTS), required=True, help="the naming to write")
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from sdi_plugin import checkpoint

    source, target, to = arguments.source, arguments.target, arguments.to
    export: checkpoint.Export = importlib.import_module(_EXPORTS[to])  # pyright: ignore[reportAssignmentType]
    _check_target(target, export, arguments.force)
    state = checkpoint.read(_weights_file(source))
    try:
        found = checkpoint.recognise(state)
        converted = found.named(to)
        network = _network(export, found.description)
        checkpoint.check(converted, network.state_dict(), f"UNetV2 ({found.description['encoder']})")
    except checkpoint.CheckpointError as error:
        raise CommandError(f"{source}: {error}") from error

    arguments_of_network = json.dumps(found.description)
    metadata = {"format": "pt", "sdi_plugin": __version__, "naming": to, "arguments": arguments_of_network}
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


def _weights_file(source: Path) -> Path:
    """The source itself, or the weights in a folder of save_pretrained."""
    from sdi_plugin.checkpoint.export import WEIGHTS

    if not source.is_dir():
        return source
    if not (source / WEIGHTS).is_file():
        raise CommandError(f"{source}: expected a checkpoint, or a folder with {WEIGHTS}, got a folder without it.")
    return source / WEIGHTS


def _network(export: "Export", description: Mapping[str, Any]) -> Any:
    """The network without weights; shapes that no network has are the checkpoint's fault."""
    from sdi_plugin import checkpoint

    try:
        return checkpoint.without_weights(lambda: export.build(description))
    except (MemoryError, RuntimeError, ValueError) as error:
        call = ", ".join(f"{name}={value!r}" for name, value in description.items())
        raise checkpoint.CheckpointError(
            f"expected the weights of U-Net v2, got those of UNetV2({call}): {error}"
        ) from error


def _summary(source: Path, target: Path, to: str, found: "Recognised") -> str:
    network = ", ".join(f"{name}={value}" for name, value in found.description.items())
    what = f"dropped {', '.join(found.dropped)}" if found.dropped else "dropped nothing"
    return f"{source}: {found.naming} U-Net v2 ({network}); {what}; wrote {target} ({to})"
