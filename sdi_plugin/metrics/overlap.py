"""Counts of pixels and their ratios, and the mean absolute error."""

from typing import NamedTuple

import torch
from torch import Tensor

from sdi_plugin.metrics import checks


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
    checks.masks(prediction, target)
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
    checks.shapes(probability, target)
    # One image at a time: a sum over a batch may add in another order, so that the last digit depends on the batch.
    errors = [(p.double() - t.double()).abs().mean() for p, t in zip(probability, target, strict=True)]
    return torch.stack(errors) if errors else probability.new_empty(0, dtype=torch.float64)


def _overlap(shared: Tensor, total: Tensor) -> Tensor:
    return torch.where(total == 0, 1.0, shared.double() / total.double())
