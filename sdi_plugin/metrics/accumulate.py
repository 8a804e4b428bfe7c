"""The metrics of a data set, batch by batch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sdi_plugin.metrics import checks
from sdi_plugin.metrics.distance import hd95, import_ndimage
from sdi_plugin.metrics.overlap import Confusion, confusion, dice, iou, mae, sensitivity, specificity

_RATIOS = {"dice": dice, "iou": iou, "sensitivity": sensitivity, "specificity": specificity}


class SegmentationMetrics:
    """Accumulate the metrics of a data set, batch by batch.

    Counts are exact (int64) and means over images are taken in float64: results do not depend on the batching.

    Args:
        threshold: a pixel is predicted positive if probability >= threshold.
        hd95: also compute the 95th percentile Hausdorff distance (needs scipy; slower than the rest).
        spacing: the size of a pixel along each spatial axis, for hd95. Pixels by default.

    Convention:
        If both masks are empty, Dice and IoU are 1 and HD95 is 0; if one is empty, Dice and IoU are 0. The means leave
        out HD95 if one mask is empty (inf), sensitivity if the target has no positives, and specificity if it has no
        negatives (nan). If all images are left out, the mean is nan.

    Raises:
        ImportError: hd95 is on and scipy is not installed.
        ValueError: threshold outside [0, 1].

    Examples:
        >>> import torch
        >>> from sdi_plugin import SegmentationMetrics
        >>> metrics = SegmentationMetrics()
        >>> metrics.update(torch.tensor([[[0.9, 0.8], [0.1, 0.2]]]), torch.tensor([[[1, 1], [0, 0]]]))
        >>> metrics.update(torch.tensor([[[0.9, 0.1], [0.1, 0.2]]]), torch.tensor([[[1, 1], [1, 0]]]))
        >>> scores = metrics.compute()
        >>> scores["images"], scores["mean_dice"], round(scores["pooled_dice"], 3)
        (2, 0.75, 0.75)
    """

    def __init__(self, threshold: float = 0.5, hd95: bool = False, spacing: Sequence[float] | None = None) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(
                f"SegmentationMetrics: expected a threshold in [0, 1], got {threshold}. "
                "It is compared with probabilities."
            )
        if hd95:
            import_ndimage()  # fail now, not after the first epoch
        self.threshold = threshold
        self.hd95 = hd95
        self.spacing = None if spacing is None else tuple(spacing)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._counts: list[Confusion] = []
        self._mae: list[Tensor] = []
        self._hd95: list[Tensor] = []

    @torch.no_grad()
    def update(self, probability: Tensor, target: Tensor) -> None:
        """Add a batch. After an error the accumulator is as it was before.

        Shape:
            probability: (B, 1, *S) or (B, *S) in [0, 1], S of two or three axes. target: the same shape, in {0, 1}.
            Any dtypes. With four axes, axis 1 is the channel if its size is 1, and otherwise the depth of a volume.

        Raises:
            ValueError: another shape, no pixels, values outside [0, 1] (probability) or {0, 1} (target), or a spacing
                that does not fit S.
        """
        probability, target = _checked(probability, target)
        if probability.device.type == "mps":  # it has no float64
            probability, target = probability.cpu(), target.cpu()
        prediction, mask = probability >= self.threshold, target.bool()
        counts = Confusion(*(count.cpu() for count in confusion(prediction, mask)))
        errors = mae(probability, target).cpu()
        distances = hd95(prediction, mask, self.spacing) if self.hd95 else None
        self._counts.append(counts)
        self._mae.append(errors)
        if distances is not None:
            self._hd95.append(distances)

    def per_image(self) -> dict[str, Tensor]:
        """dice, iou, sensitivity, specificity, mae and, if on, hd95 of every image, in the order of the updates.

        Shape:
            Each tensor is (images,), float64, CPU; inf and nan as in the class's conventions.

        Raises:
            RuntimeError: no update yet.
        """
        counts = self._all_counts()
        values = {name: ratio(counts) for name, ratio in _RATIOS.items()} | {"mae": torch.cat(self._mae)}
        return values | {"hd95": torch.cat(self._hd95)} if self.hd95 else values

    def compute(self) -> dict[str, float]:
        """The metrics of all images so far.

        Returns:
            mean_dice, mean_iou, mean_sensitivity, mean_specificity, mae: means of the images' values.
            pooled_dice, pooled_iou, pooled_sensitivity, pooled_specificity: ratios of the counts over all pixels.
            images: their number. With hd95: mean_hd95, and hd95_images, the number of images with a finite distance.

        Raises:
            RuntimeError: no update yet.
        """
        values = self.per_image()
        pooled = self._all_counts().pooled()
        result = {f"mean_{name}": _finite_mean(values[name]) for name in _RATIOS}
        result["mae"] = _finite_mean(values["mae"])
        result |= {f"pooled_{name}": ratio(pooled).item() for name, ratio in _RATIOS.items()}
        result["images"] = len(values["mae"])
        if self.hd95:
            result["mean_hd95"] = _finite_mean(values["hd95"])
            result["hd95_images"] = int(values["hd95"].isfinite().sum())
        return result

    def _all_counts(self) -> Confusion:
        if not self._counts:
            raise RuntimeError(
                "SegmentationMetrics: expected at least one image, got none. Call update(probability, target) first."
            )
        return Confusion(*(torch.cat(parts) for parts in zip(*self._counts, strict=True)))


def _finite_mean(values: Tensor) -> float:
    finite = values[values.isfinite()].tolist()
    return math.fsum(finite) / len(finite) if finite else math.nan  # fsum: exact in any order


def _checked(probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors as (B, *S), or an error."""
    checks.shapes(probability, target)
    shape = tuple(probability.shape)
    has_channel = len(shape) >= 4 and shape[1] == 1
    if len(shape) - has_channel not in (3, 4) or probability.numel() == 0:
        raise ValueError(
            f"SegmentationMetrics: expected (B, 1, *S) or (B, *S), S of two or three axes and at least one pixel, "
            f"got {shape}. Pass one class at a time."
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        low, high = probability.aminmax()
        raise ValueError(
            f"SegmentationMetrics: expected probabilities in [0, 1], got values from {low.item():g} to "
            f"{high.item():g}. Apply sigmoid to logits."
        )
    if not ((target == 0) | (target == 1)).all():
        low, high = target.aminmax()
        raise ValueError(
            f"SegmentationMetrics: expected a target of 0 and 1, got values from {low.item():g} to {high.item():g}. "
            "Threshold a mask of 0 and 255: mask > 127."
        )
    return (probability.squeeze(1), target.squeeze(1)) if has_channel else (probability, target)
