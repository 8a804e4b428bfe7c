"""Binary segmentation metrics as the papers compute them: per image, or over the pixels of all images."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

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


class Confusion(NamedTuple):
    """Pixel counts, int64: (B,), one per image, or scalars when pooled.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> prediction, target = torch.tensor([[1, 1, 0, 0]]).bool(), torch.tensor([[1, 0, 0, 0]]).bool()
        >>> counts = metrics.confusion(prediction, target)
        >>> counts.tp, counts.pooled().fp
        (tensor([1]), tensor(1))
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor

    def pooled(self) -> "Confusion":
        """The counts of all images together, for ratios over all pixels."""
        return Confusion(*(count.sum() for count in self))


def confusion(prediction: Tensor, target: Tensor) -> Confusion:
    """Count true and false positives and negatives in every image.

    Shape:
        prediction, target: boolean masks (B, *S). Returns int64 counts (B,), on the masks' device.

    Raises:
        TypeError: a mask is not boolean.
        ValueError: the shapes differ, or have no axis after B.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> prediction, target = torch.tensor([[1, 1, 0, 0]]).bool(), torch.tensor([[1, 0, 0, 0]]).bool()
        >>> metrics.confusion(prediction, target)
        Confusion(tp=tensor([1]), fp=tensor([1]), fn=tensor([0]), tn=tensor([2]))
    """
    _check_masks(prediction, target)
    predicted = prediction.flatten(1).sum(1)
    true = target.flatten(1).sum(1)
    tp = (prediction & target).flatten(1).sum(1)
    return Confusion(tp, predicted - tp, true - tp, target[0:1].numel() - predicted - true + tp)


def dice(counts: Confusion) -> Tensor:
    """2 tp / (2 tp + fp + fn), float64, in the shape of the counts. 1 if prediction and target are both empty.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> metrics.dice(metrics.Confusion(*torch.tensor([1, 1, 0, 2])))  # tp, fp, fn, tn
        tensor(0.6667, dtype=torch.float64)
    """
    return _overlap(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: Confusion) -> Tensor:
    """tp / (tp + fp + fn), float64, in the shape of the counts. 1 if prediction and target are both empty.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> metrics.iou(metrics.Confusion(*torch.tensor([1, 1, 0, 2])))  # tp, fp, fn, tn
        tensor(0.5000, dtype=torch.float64)
    """
    return _overlap(counts.tp, counts.tp + counts.fp + counts.fn)


def sensitivity(counts: Confusion) -> Tensor:
    """tp / (tp + fn), float64, in the shape of the counts. nan if the target is empty.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> metrics.sensitivity(metrics.Confusion(*torch.tensor([1, 1, 0, 2])))  # tp, fp, fn, tn
        tensor(1., dtype=torch.float64)
    """
    return counts.tp.double() / (counts.tp + counts.fn).double()


def specificity(counts: Confusion) -> Tensor:
    """tn / (tn + fp), float64, in the shape of the counts. nan if the target covers the whole image.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> metrics.specificity(metrics.Confusion(*torch.tensor([1, 1, 0, 2])))  # tp, fp, fn, tn
        tensor(0.6667, dtype=torch.float64)
    """
    return counts.tn.double() / (counts.tn + counts.fp).double()


def mae(probability: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error per image.

    Shape:
        probability: (B, *S) in [0, 1]. target: the same shape, in {0, 1}. Any dtypes. Returns (B,), float64.

    Raises:
        ValueError: the shapes differ, or have no axis after B.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> metrics.mae(torch.tensor([[0.9, 0.5]]), torch.tensor([[1, 0]]))
        tensor([0.3000], dtype=torch.float64)
    """
    _check_shapes(probability, target)
    # One image at a time: a sum over a batch may add in another order, so that the last digit depends on the batch.
    errors = [(p.double() - t.double()).abs().mean() for p, t in zip(probability, target, strict=True)]
    return torch.stack(errors) if errors else probability.new_empty(0, dtype=torch.float64)


def hd95(prediction: Tensor, target: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """95th percentile of the Hausdorff distance per image, computed on the CPU.

    The surface of a mask is the mask minus its erosion with the 4-neighbourhood (6 in 3-D), with background outside the
    image. For every surface pixel of one mask, take the Euclidean distance to the nearest surface pixel of the other;
    take the 95th percentile (linear interpolation) of these in each direction; the result is the larger of the two.

    Args:
        spacing: the size of a pixel along each axis of S, in the unit of the result. Pixels by default.

    Shape:
        prediction, target: boolean masks (B, *S). Returns (B,), float64, CPU.

    Convention:
        Both masks empty: 0. One empty: inf.

    Raises:
        ImportError: scipy is not installed.
        TypeError: a mask is not boolean.
        ValueError: the shapes differ or have no axis after B; spacing is not one positive number per axis of S.

    Examples:
        >>> import torch
        >>> from sdi_plugin import metrics
        >>> prediction, target = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
        >>> prediction[0, 4, 2], target[0, 4, 5] = True, True
        >>> metrics.hd95(prediction, target), metrics.hd95(prediction, target, spacing=(1, 0.5))
        (tensor([3.], dtype=torch.float64), tensor([1.5000], dtype=torch.float64))
    """
    _check_masks(prediction, target)
    _check_spacing(spacing, prediction.ndim - 1)
    ndimage = _import_ndimage()
    pairs = zip(prediction.cpu().numpy(), target.cpu().numpy(), strict=True)
    return torch.tensor([_hd95_of_image(p, t, spacing, ndimage) for p, t in pairs], dtype=torch.float64)


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
            _import_ndimage()  # fail now, not after the first epoch
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


def _overlap(shared: Tensor, total: Tensor) -> Tensor:
    return torch.where(total == 0, 1.0, shared.double() / total.double())


def _finite_mean(values: Tensor) -> float:
    finite = values[values.isfinite()].tolist()
    return math.fsum(finite) / len(finite) if finite else math.nan  # fsum: exact in any order


def _hd95_of_image(prediction: Any, target: Any, spacing: Sequence[float] | None, ndimage: Any) -> float:
    if not prediction.any() or not target.any():
        return math.inf if prediction.any() or target.any() else 0.0
    # Both surfaces are inside the box around both masks, so nothing outside it matters.
    (box,) = ndimage.find_objects((prediction | target).astype("uint8"))
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction[box], target[box])]
    percentiles = []
    for start, end in (surfaces, surfaces[::-1]):
        distances = ndimage.distance_transform_edt(~end, sampling=spacing)[start]
        percentiles.append(torch.from_numpy(distances).quantile(0.95).item())
    return max(percentiles)


def _import_ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError("hd95 needs scipy. Install it: pip install 'sdi-plugin[smp]'") from error
    return ndimage


def _check_shapes(first: Tensor, target: Tensor) -> None:
    if first.shape != target.shape or first.ndim < 2:
        raise ValueError(
            f"metrics: expected tensors of one shape (B, *S), got {tuple(first.shape)} and {tuple(target.shape)}. "
            "Resize the prediction to the target; add or remove the channel axis."
        )


def _check_masks(prediction: Tensor, target: Tensor) -> None:
    if prediction.dtype != torch.bool or target.dtype != torch.bool:
        raise TypeError(
            f"metrics: expected boolean masks, got {prediction.dtype} and {target.dtype}. "
            "Threshold a probability (probability >= 0.5); convert a mask of 0 and 1 with .bool()."
        )
    _check_shapes(prediction, target)


def _check_spacing(spacing: Sequence[float] | None, axes: int) -> None:
    if spacing is not None and (len(spacing) != axes or not all(0 < size < math.inf for size in spacing)):
        raise ValueError(f"metrics: expected a positive spacing for each of {axes} spatial axes, got {spacing}.")


def _checked(probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors as (B, *S), or an error."""
    _check_shapes(probability, target)
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
