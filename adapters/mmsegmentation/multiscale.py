"""Training at several scales, as PraNet and U-Net v2 are trained."""

import random
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.structures import PixelData

from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS


@MODELS.register_module()
class MultiScaleSegDataPreProcessor(SegDataPreProcessor):
    """mmseg's SegDataPreProcessor, with each training batch resized to one of several scales at random.

    Args:
        scales: the factors, all equally likely. The official recipe steps at 0.75, 1 and 1.25 for every
            batch; here a batch gets one of them, so train three times as many iterations for as many steps.
        divisor: sides are rounded to a multiple of it, 32 officially.
        kwargs: see mmseg's SegDataPreProcessor.

    Convention:
        Images are resized bilinearly with align_corners=True, as officially; labels by the nearest pixel, centres
        aligned. Prediction is at the images' own size.

    Raises:
        ValueError: no scales, or one that is not positive.

    Examples:
        >>> import torch
        >>> from mmengine.structures import PixelData
        >>> from sdi_plugin.adapters.mmsegmentation import MultiScaleSegDataPreProcessor
        >>> from mmseg.structures import SegDataSample
        >>> sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 64, 64)))
        >>> to_batch = MultiScaleSegDataPreProcessor(scales=[1.5], size=(64, 64))
        >>> to_batch({"inputs": [torch.zeros(3, 64, 64)], "data_samples": [sample]}, training=True)["inputs"].shape
        torch.Size([1, 3, 96, 96])
    """

    def __init__(self, scales: Sequence[float] = (0.75, 1.0, 1.25), divisor: int = 32, **kwargs: Any):
        super().__init__(**kwargs)
        if not scales or min(scales) <= 0:
            raise ValueError(f"MultiScaleSegDataPreProcessor: expected one or more scales > 0, got {scales!r}.")
        self.scales, self.divisor = tuple(scales), divisor

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        if not training:
            return data
        scale = random.choice(self.scales)
        size = tuple(max(1, round(s * scale / self.divisor)) * self.divisor for s in data["inputs"].shape[2:])
        if scale == 1 or size == tuple(data["inputs"].shape[2:]):
            return data
        data["inputs"] = F.interpolate(data["inputs"], size, mode="bilinear", align_corners=True)
        for sample in data["data_samples"]:
            labels = sample.gt_sem_seg.data
            resized = F.interpolate(labels[None].float(), size, mode="nearest-exact")[0].to(labels.dtype)
            del sample.gt_sem_seg  # a PixelData refuses another size
            sample.gt_sem_seg = PixelData(data=resized)
            sample.set_metainfo({"img_shape": size, "pad_shape": size})
        return data
