"""Lesion metrics as the papers compute them, for MMSegmentation's evaluators."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor

from sdi_plugin import metrics

from mmseg.registry import METRICS

_RATIOS = {
    "DSC": metrics.dice,
    "IoU": metrics.iou,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
}
_ERROR = "MAE"


def name_rules() -> None:
    """Tell mmengine's hooks which of the metric's keys are better when greater or less, so that save_best="DSC" needs
    no rule.

    They look for these names in a key, whatever its case, prefix and suffix, and ask for a rule where they find none.
    """
    for hook in (CheckpointHook, EarlyStoppingHook):  # class attributes, private in mmengine 0.10
        for known, names in ((hook._default_greater_keys, list(_RATIOS)), (hook._default_less_keys, [_ERROR])):
            known.extend(name for name in names if name not in known)


@METRICS.register_module()
class LesionMetric(BaseMetric):
    """DSC, IoU, sensitivity, specificity and MAE of one class: the mean over images, and pooled over all pixels.

    mmseg's IoUMetric pools the pixels of all images, and its mDice includes the background in the average; papers on
    lesions report the mean over images of the lesion alone (polyps), or the lesion's pixels pooled (ISIC in nnU-Net).

    Args:
        foreground: index of the class.
        ignore_index: pixels of this label are not counted.
        output_dir: None, or a folder for the predictions, as `mim test --out` names it: one PNG of class indices per
            image, under the image's name, in a folder named after the sample's `dataset_name` where it has one.
        format_only: write these and compute nothing, for images without ground truth.
        keep_results: as for mmseg's IoUMetric, to which `mim test --out` passes it; they are kept in any case.
        kwargs: see mmengine's BaseMetric.

    Returns:
        DSC, IoU, sensitivity, specificity and pooled_DSC, pooled_IoU, pooled_sensitivity, pooled_specificity in
        percent, like all of mmseg's, and MAE (of probabilities) in [0, 1]. For several data sets (the sample's
        `dataset_name`) also those of each, after its name: "kvasir/DSC". A CheckpointHook with save_best="DSC", or
        another of these, knows its rule.

    Convention:
        Evaluated at the size of the ground truth. The conventions for empty masks are those of
        `sdi_plugin.SegmentationMetrics`; an image for which sensitivity or specificity is undefined is left out of that
        mean.

    Raises:
        ValueError: foreground is not a class of the prediction; format_only without output_dir; two images whose
            predictions would go to the same file, or an image without a path.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.mmsegmentation import LesionMetric
        >>> metric = LesionMetric()  # in a config: val_evaluator=dict(type="LesionMetric")
        >>> label = {"data": torch.tensor([[[0, 1], [1, 1]]])}
        >>> probability = {"data": torch.tensor([[[0.1, 0.9], [0.9, 0.2]]])}
        >>> prediction = {"data": torch.tensor([[[0, 1], [1, 0]]])}
        >>> metric.process(None, [{"gt_sem_seg": label, "seg_logits": probability, "pred_sem_seg": prediction}])
        >>> metric.evaluate(size=1)["DSC"]
        80.0
    """

    def __init__(
        self,
        foreground: int = 1,
        ignore_index: int | None = 255,
        output_dir: str | None = None,
        format_only: bool = False,
        keep_results: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if format_only and not output_dir:
            raise ValueError("LesionMetric: expected an output_dir with format_only=True, got none.")
        self.foreground, self.ignore_index = foreground, ignore_index
        self.output_dir, self.format_only = output_dir, format_only
        self._images: dict[Path, str] = {}  # by the file of their prediction

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            if self.output_dir:
                self._write(sample, Path(self.output_dir))
            if self.format_only:
                self.results.append(())
                continue
            label = sample["gt_sem_seg"]["data"].squeeze(0)
            probability = self._probability(sample["seg_logits"]["data"])
            prediction = sample["pred_sem_seg"]["data"].squeeze(0) == self.foreground
            keep = torch.ones_like(label, dtype=torch.bool) if self.ignore_index is None else label != self.ignore_index
            target = (label == self.foreground)[keep][None].to(prediction.device)
            keep = keep.to(prediction.device)
            counts = metrics.confusion(prediction[keep][None], target)
            error = metrics.mae(probability[keep][None], target) if keep.any() else torch.zeros(1)
            name = sample.get("dataset_name", "")
            self.results.append((name, *(int(count) for count in counts), float(error)))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        if self.format_only:
            print_log(f"LesionMetric: {len(results)} predictions in {self.output_dir}", "current")
            return {}
        computed = _summary(results)
        names = sorted({name for name, *_ in results})
        if len(names) > 1:
            for name in names:
                part = _summary([result for result in results if result[0] == name])
                computed |= {f"{name}/{key}": value for key, value in part.items()}
        print_log("LesionMetric: " + ", ".join(f"{key} {value:.4g}" for key, value in computed.items()), "current")
        return computed

    def _write(self, sample: dict, folder: Path) -> None:
        if "img_path" not in sample:
            raise ValueError(
                "LesionMetric: expected the img_path of each sample for output_dir, got none. "
                "Name it in the meta_keys of PackSegInputs."
            )
        image = sample["img_path"]
        file = folder / sample.get("dataset_name", "") / f"{Path(image).stem}.png"
        if self._images.setdefault(file, image) != image:
            raise ValueError(
                f"LesionMetric: expected one image per file, got {image} and {self._images[file]} for {file}. "
                "Give their data sets a dataset_name each, and name it in the meta_keys of PackSegInputs."
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        prediction = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
        Image.fromarray(prediction.astype(np.uint8)).save(file)

    def _probability(self, logits: Tensor) -> Tensor:
        if logits.shape[0] == 1:
            return logits[0]  # with one channel mmseg's segmentors pass on the sigmoid, under the name of logits
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
    summary[_ERROR] = math.fsum(errors) / len(errors)
    return summary
