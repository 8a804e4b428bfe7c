"""The core's own checkpoints, as `sdi-plugin convert --to core` writes them; see `sdi_plugin.checkpoint.Export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdi_plugin import checkpoint
from sdi_plugin.model import UNetV2

SUFFIXES: tuple[str, ...] = (".safetensors",)
OUT: str = "to end in .safetensors"


def build(description: Mapping[str, Any]) -> UNetV2:
    return UNetV2(**description)


def write(target: Path, converted: checkpoint.Converted) -> str:
    checkpoint.save(target, converted.state, converted.metadata)
    return f"load it in Python: sdi_plugin.load({str(target)!r})"
