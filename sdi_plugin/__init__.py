"""U-Net v2 and its SDI skip connections (Peng, Sonka, Chen 2023, arXiv 2311.17791).

Names are imported on first use: the command line starts at once, and an exported network runs without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdi_plugin import torch_version
from sdi_plugin.version import __version__

torch_version.check()

if TYPE_CHECKING:
    from sdi_plugin.attention import ChannelAttention, SpatialAttention
    from sdi_plugin.decoder import UNetV2Decoder
    from sdi_plugin.deploy.loading import load
    from sdi_plugin.losses import DeepSupervisionLoss, StructureLoss, structure_loss
    from sdi_plugin.metrics import SegmentationMetrics
    from sdi_plugin.model import UNetV2
    from sdi_plugin.sdi import SDI, SDISkip

__all__ = [
    "SDI",
    "ChannelAttention",
    "DeepSupervisionLoss",
    "SDISkip",
    "SegmentationMetrics",
    "SpatialAttention",
    "StructureLoss",
    "UNetV2",
    "UNetV2Decoder",
    "__version__",
    "load",
    "structure_loss",
]

_MODULES = {
    "SDI": "sdi",
    "ChannelAttention": "attention",
    "DeepSupervisionLoss": "losses",
    "SDISkip": "sdi",
    "SegmentationMetrics": "metrics",
    "SpatialAttention": "attention",
    "StructureLoss": "losses",
    "UNetV2": "model",
    "UNetV2Decoder": "decoder",
    "load": "deploy.loading",
    "structure_loss": "losses",
}
# `import sdi_plugin` alone gives these too.
_SUBMODULES = ("attention", "checkpoint", "decoder", "losses", "metrics", "model", "ops", "sdi")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"sdi_plugin.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'sdi_plugin' has no attribute {name!r}")
    value = getattr(import_module(f"sdi_plugin.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
