"""Test-time augmentation that averages probabilities."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import PixelData

from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS


@MODELS.register_module()
class MeanProbabilityTTA(SegTTAModel):
    """mmseg's SegTTAModel, correct for one-channel heads too, and with the merged probabilities in the result.

    mmseg's own applies the sigmoid a second time where out_channels=1, and passes on the logits of the last
    augmentation as those of all.

    Convention:
        `seg_logits` of the result is what mmseg's segmentors give: with one channel the probability (1, H, W), with K
        channels logits (K, H, W), here the logarithm of the mean probability, so that its softmax is that mean.

    Examples:
        >>> from mmengine.config import Config
        >>> import sdi_plugin.adapters.mmsegmentation
        >>> config = Config.fromfile("configs/unetv2_pvt_isic.py")  # `mim test ... --tta` reads tta_model
        >>> config.tta_model
        {'type': 'MeanProbabilityTTA'}
    """

    def merge_preds(self, data_samples_list: Sequence[Sequence[Any]]) -> list[Any]:
        module: Any = self.module
        merged = []
        for samples in data_samples_list:
            maps = torch.stack([sample.seg_logits.data for sample in samples])
            if module.out_channels == 1:
                logits = maps.mean(0)
                prediction = (logits > module.decode_head.threshold).to(logits)
            else:
                logits = maps.softmax(1).mean(0).log()
                prediction = logits.argmax(0, keepdim=True)
            result = samples[0]  # with its ground truth and its image's path
            result.set_data({"seg_logits": PixelData(data=logits), "pred_sem_seg": PixelData(data=prediction)})
            merged.append(result)
        return merged
