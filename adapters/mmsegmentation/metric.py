"""Lesion metrics as the papers compute them, for MMSegmentation's evaluators."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from sdi_plugin import metrics

from mmseg.registry import METRICS

_RATIOS = {
    "DSC": metrics.dice,
    "IoU": metrics.iou,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
}


@METRICS.register_module()
class LesionMetric(BaseMetric):
    """DSC, IoU, sensitivity, specificity and MAE of one class: the mean over images, and pooled over all pixels.

    mmseg's IoUMetric pools the pixels of all images, and its mDice averages the background in; papers on lesions report
    the mean over images of the lesion alone (polyps), or the lesion's pixels pooled (ISIC in nnU-Net).

    Args:
        foreground: the class.
        ignore_index: pixels of this label count nowhere.
        kwargs: of mmengine's BaseMetric.

    Returns:
        DSC, IoU, sensitivity, specificity and pooled_DSC, pooled_IoU, pooled_sensitivity, pooled_specificity in
        percent, as all of mmseg's, and MAE (of probabilities) in [0, 1]. For several data sets (the sample's
        `dataset_name`) also those of each, after its name: "kvasir/DSC". In a CheckpointHook: save_best="DSC",
        rule="greater".

    Convention:
        Evaluated at the size of the ground truth. The conventions for empty masks are those of
        `sdi_plugin.SegmentationMetrics`; sensitivity and specificity of an image that has none are left out of the
        mean.

    Raises:
        ValueError: foreground is no class of the prediction.
    """

    def __init__(self, foreground: int = 1, ignore_index: int | None = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.foreground, self.ignore_index = foreground, ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            label = sample["gt_sem_seg"]["data"].squeeze()
            probability = self._probability(sample["seg_logits"]["data"])
            prediction = sample["pred_sem_seg"]["data"].squeeze() == self.foreground
            keep = torch.ones_like(label, dtype=torch.bool) if self.ignore_index is None else label != self.ignore_index
            target = (label == self.foreground)[keep][None].to(prediction.device)
            keep = keep.to(prediction.device)
            counts = metrics.confusion(prediction[keep][None], target)
            error = metrics.mae(probability[keep][None], target) if keep.any() else torch.zeros(1)
            name = sample.get("dataset_name", "")
            self.results.append((name, *(int(count) for count in counts), float(error)))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        computed = _summary(results)
        names = sorted({name for name, *_ in results})
        if len(names) > 1:
            for name in names:
                part = _summary([result for result in results if result[0] == name])
                computed |= {f"{name}/{key}": value for key, value in part.items()}
        print_log("LesionMetric: " + ", ".join(f"{key} {value:.4g}" for key, value in computed.items()), "current")
        return computed

    def _probability(self, logits: Tensor) -> Tensor:
        if logits.shape[0] == 1:
            return logits[0]  # of one channel mmseg's segmentors hand on the sigmoid, under the name of logits
        if self.foreground >= logits.shape[0]:
            raise ValueError(
                f"LesionMetric: expected foreground below {logits.shape[0]} (classes), got {self.foreground}."
            )
        return logits.softmax(0)[self.foreground]


def _summary(results: list[tuple]) -> dict[str, float]:
    _, *columns = zip(*results, strict=True)
    *counts, errors = columns
    confusion = metrics.Confusion(*(torch.tensor(count) for count in counts))
    summary = {}
    for name, ratio in _RATIOS.items():
        values = [value for value in ratio(confusion).tolist() if math.isfinite(value)]
        summary[name] = 100 * math.fsum(values) / len(values) if values else math.nan
    summary |= {f"pooled_{name}": 100 * float(ratio(confusion.pooled())) for name, ratio in _RATIOS.items()}
    summary["MAE"] = math.fsum(errors) / len(errors)
    return summary
