"""Any model of timm as a feature pyramid: hierarchical ones as they are, plain ViTs through a small pyramid."""

from sdi_plugin.encoder.build import import_timm
from sdi_plugin.encoder.timm_encoder import TimmEncoder

__all__ = ["TimmEncoder", "import_timm"]
