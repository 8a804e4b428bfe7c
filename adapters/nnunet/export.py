"""nnU-Net's checkpoints, as `sdi-plugin convert --to nnunet` writes them; see `sdi_plugin.checkpoint.Export`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdi_plugin import checkpoint
from sdi_plugin.adapters.nnunet.pvt import PVTUNetV2
from sdi_plugin.adapters.nnunet.trainer_pvt import nnUNetTrainerUNetV2PVT

SUFFIXES: tuple[str, ...] = (".pth",)
OUT: str = "to end in .pth for nnU-Net"


def build(description: Mapping[str, Any]) -> PVTUNetV2:
    return PVTUNetV2(
        description["in_channels"],
        description["classes"],
        description["encoder"],
        description["channels"],
        heads=max(1, description["deep_supervision"]),
        norm=description["norm"],
        fusion=description["fusion"],
    )


def write(target: Path, converted: checkpoint.Converted) -> str:
    """What nnU-Net's -pretrained_weights reads: its own checkpoints, of which it takes the weights alone."""
    content = {"network_weights": dict(converted.state), "trainer_name": nnUNetTrainerUNetV2PVT.__name__}
    checkpoint.save_torch(target, content)
    return ""
