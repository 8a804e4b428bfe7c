"""U-Net v2 and its SDI skip connections (Peng, Sonka, Chen 2023, arXiv 2311.17791)."""

from sdi_plugin.attention import ChannelAttention, SpatialAttention
from sdi_plugin.decoder import UNetV2Decoder
from sdi_plugin.losses import DeepSupervisionLoss, StructureLoss, structure_loss
from sdi_plugin.metrics import SegmentationMetrics
from sdi_plugin.model import UNetV2
from sdi_plugin.sdi import SDI, SDISkip
from sdi_plugin.version import __version__

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
    "structure_loss",
]
