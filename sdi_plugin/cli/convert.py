"""`sdi-plugin convert`: weights from one naming to another."""

import argparse
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdi_plugin import files
from sdi_plugin.cli.errors import CommandError
from sdi_plugin.cli.output import report
from sdi_plugin.version import __version__

_WEIGHTS = "model.safetensors"  # and config.json: the names that save_pretrained and from_pretrained use


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
    parser.add_argument("--to", choices=("core", "smp", "mmseg", "nnunet"), required=True, help="the naming to write")
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    source, target, to = arguments.source, arguments.target, arguments.to
    _check_target(target, to, arguments.force)

    from sdi_plugin import checkpoint

    state = checkpoint.read(_weights_file(source))
    try:
        naming = checkpoint.identify(state)
        description = checkpoint.describe(state)
        converted, dropped = checkpoint.convert(state, to)
        network = _network(to, description)
        checkpoint.check(converted, network.state_dict(), f"UNetV2 ({description['encoder']})")
    except checkpoint.CheckpointError as error:
        raise CommandError(f"{source}: {error}") from error

    metadata = {"format": "pt", "sdi_plugin": __version__, "naming": to, "arguments": json.dumps(description)}
    try:
        if to == "mmseg":
            _save_mmseg(target, converted, description, metadata)
        elif to == "nnunet":
            _save_nnunet(target, converted)
        elif target.suffix:
            checkpoint.save(target, converted, metadata)
        else:
            _save_folder(target, converted, metadata, network)
    except OSError as error:
        raise CommandError(f"{target}: could not be written: {error.strerror}.") from error
    lines = [_summary(source, target, to, naming, description, dropped)]
    if to == "mmseg":
        lines.append(f"options of the model: {_mmseg_options(description)}")
    report("\n".join(lines))


def _check_target(target: Path, to: str, force: bool) -> None:
    if to == "mmseg" and target.suffix != ".pth":
        raise CommandError(f"expected OUT to end in .pth, which mmengine reads, got {target}.")
    if to == "core" and target.suffix != ".safetensors":
        raise CommandError(f"expected OUT to end in .safetensors, got {target}.")
    if to == "nnunet" and target.suffix != ".pth":
        raise CommandError(f"expected OUT to end in .pth for nnU-Net, got {target}.")
    if to == "smp" and target.suffix not in ("", ".safetensors"):
        raise CommandError(f"expected OUT to end in .safetensors, or a folder without a suffix, got {target}.")
    if not target.parent.is_dir():
        raise CommandError(f"{target.parent}: no such folder to write {target.name} in. Make it first.")
    if target.suffix and target.is_dir():
        raise CommandError(f"{target}: expected a file, got a folder. Give another name.")
    if not target.suffix and target.exists() and not target.is_dir():
        raise CommandError(f"{target}: expected a folder, got a file. Give another name.")
    if target.exists() and not force:
        raise CommandError(f"{target} exists. Give another name, or pass --force to replace it.")


def _weights_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    if not (source / _WEIGHTS).is_file():
        raise CommandError(f"{source}: expected a checkpoint, or a folder with {_WEIGHTS}, got a folder without it.")
    return source / _WEIGHTS


def _network(to: str, description: Mapping[str, Any]) -> Any:
    """The network without weights; shapes that no network has are the checkpoint's fault."""
    from sdi_plugin import checkpoint

    try:
        return checkpoint.without_weights(lambda: _build(to, description))
    except (MemoryError, RuntimeError, ValueError) as error:
        call = ", ".join(f"{name}={value!r}" for name, value in description.items())
        raise checkpoint.CheckpointError(
            f"expected the weights of U-Net v2, got those of UNetV2({call}): {error}"
        ) from error


def _build(to: str, description: Mapping[str, Any]) -> Any:
    if to == "core":
        from sdi_plugin.model import UNetV2

        return UNetV2(**description)
    if to == "mmseg":
        from sdi_plugin.adapters.mmsegmentation.segmentor import unetv2

        return unetv2(**description)
    if to == "nnunet":
        from sdi_plugin.adapters.nnunet import PVTUNetV2

        return PVTUNetV2(
            description["in_channels"],
            description["classes"],
            description["encoder"],
            description["channels"],
            heads=max(1, description["deep_supervision"]),
            norm=description["norm"],
            fusion=description["fusion"],
        )
    from sdi_plugin.adapters.smp import UNetV2 as SmpUNetV2

    return SmpUNetV2(
        encoder_name="tu-" + description["encoder"],
        encoder_weights=None,
        decoder_channels=description["channels"],
        decoder_norm=description["norm"],
        decoder_fusion=description["fusion"],
        in_channels=description["in_channels"],
        classes=description["classes"],
        deep_supervision=description["deep_supervision"],
        drop_path_rate=0.1,  # as in the core, for training further
    )


def _save_folder(target: Path, state: Mapping[str, Any], metadata: Mapping[str, str], network: Any) -> None:
    """What smp's from_pretrained reads: both files are complete before either appears under its name."""
    from sdi_plugin import checkpoint

    config = json.dumps(network.config | {"_model_class": "UNetV2"}, indent=2, sort_keys=True)
    with files.folder(target, into=True) as partial:
        checkpoint.save(partial / _WEIGHTS, state, metadata)
        (partial / "config.json").write_text(config, encoding="utf-8")


def _save_mmseg(
    target: Path, state: Mapping[str, Any], description: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """What mmengine's runner and mmseg's init_model read: a file of torch.save with the names of the classes."""
    import torch

    count = max(2, description["classes"])  # one channel: background and foreground
    classes = ["background", "foreground"] if count == 2 else [str(index) for index in range(count)]
    palette = [[0, 0, 0], *([37 * i % 256, 192 * i % 256, 64 * i % 256] for i in range(1, count))]
    meta = {**metadata, "dataset_meta": {"classes": classes, "palette": palette}}
    buffer = io.BytesIO()
    torch.save({"meta": meta, "state_dict": dict(state)}, buffer)
    files.write(target, buffer.getvalue())


def _mmseg_options(description: Mapping[str, Any]) -> str:
    """For --cfg-options, after configs/unetv2_pvt_isic.py or another one with these classes."""
    from sdi_plugin.adapters.mmsegmentation.segmentor import config

    options = config(**description)
    return " ".join(
        f"model.{part}.{name}={json.dumps(value, separators=(',', ':'))}".replace('"', "").replace("null", "None")
        for part in ("backbone", "decode_head")
        for name, value in options[part].items()
        if name != "type"
    )


def _save_nnunet(target: Path, state: Mapping[str, Any]) -> None:
    """What nnU-Net's -pretrained_weights reads: its own checkpoints, of which it takes the weights alone."""
    import torch

    buffer = io.BytesIO()
    torch.save({"network_weights": dict(state), "trainer_name": "nnUNetTrainerUNetV2PVT"}, buffer)
    files.write(target, buffer.getvalue())


def _summary(
    source: Path, target: Path, to: str, naming: str, description: Mapping[str, Any], dropped: list[str]
) -> str:
    network = ", ".join(f"{name}={value}" for name, value in description.items())
    what = f"dropped {', '.join(dropped)}" if dropped else "dropped nothing"
    return f"{source}: {naming} U-Net v2 ({network}); {what}; wrote {target} ({to})"
