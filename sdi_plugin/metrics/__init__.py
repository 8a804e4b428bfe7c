"""Binary segmentation metrics as the papers compute them: per image, or over the pixels of all images."""

from sdi_plugin.metrics.accumulate import SegmentationMetrics
from sdi_plugin.metrics.distance import hd95
from sdi_plugin.metrics.overlap import Confusion, confusion, dice, iou, mae, sensitivity, specificity

__all__ = [
    "Confusion",
    "SegmentationMetrics",
    "confusion",
    "dice",
    "hd95",
    "iou",
    "mae",
    "sensitivity",
    "specificity",
]
