"""smp's checkpoints, as `sdi-plugin convert --to smp` writes them; see `sdi_plugin.checkpoint.Export`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdi_plugin import checkpoint, files
from sdi_plugin.adapters.smp.model import UNetV2
from sdi_plugin.checkpoint.export import WEIGHTS

SUFFIXES: tuple[str, ...] = ("", ".safetensors")
OUT: str = "to end in .safetensors, or a folder without a suffix"


def build(description: Mapping[str, Any]) -> UNetV2:
    return UNetV2(
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


def write(target: Path, converted: checkpoint.Converted) -> str:
    """A file, or a folder that smp.from_pretrained reads: both of its files are complete before either appears."""
    if target.suffix:
        checkpoint.save(target, converted.state, converted.metadata)
        return ""
    network: Any = converted.network
    config = json.dumps(network.config | {"_model_class": "UNetV2"}, indent=2, sort_keys=True)
    with files.folder(target, into=True) as partial:
        checkpoint.save(partial / WEIGHTS, converted.state, converted.metadata)
        (partial / "config.json").write_text(config, encoding="utf-8")
    return ""
