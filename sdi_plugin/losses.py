"""Training losses: PraNet's structure loss, and deep supervision for any loss."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DeepSupervisionLoss", "StructureLoss", "structure_loss"]

_WINDOW = 31  # the side of the neighbourhood in which a pixel is compared with its surroundings; 1 + 2 + 4 + 8 + 16


def structure_loss(
    logits: Tensor, target: Tensor, *, unweighted_bce: bool = False, valid: Tensor | None = None
) -> Tensor:
    """Weighted binary cross-entropy plus weighted IoU; both give more weight to pixels near an edge of the target.

    w = 1 + 5 |avgpool_31(t) - t|                                Fan et al. 2020 (PraNet), arXiv 2006.11392, sec. 2.4;
    L = sum(w bce) / sum(w)                                      Wei et al. 2020 (F3Net), arXiv 1911.11445, eq. 3-8
        + 1 - (sum(w p t) + 1) / (sum(w (p + t)) - sum(w p t) + 1)         with p = sigmoid(logits)

    Args:
        logits: the network's output before the sigmoid.
        target: the mask, in {0, 1}; soft labels in [0, 1] work too. Any dtype. Values are not checked, because a
            GPU would have to synchronise: convert a mask of 0 and 255 to 0 and 1 first.
        unweighted_bce: take the plain mean of the cross-entropy over all pixels. The published code of PraNet and of
            U-Net v2 does this: it passes `reduce="none"`, which counts as true, so that its weights cancel.
        valid: a mask of the pixels that count, True or 1; all of them by default. Other pixels are treated as
            background where neighbourhoods are averaged for the weights, and are left out of the sums.

    Shape:
        logits, target, valid: (B, K, *S), S of two or three axes. Returns a scalar.

    Convention:
        Sums run over the pixels of one channel of one image, the mean over images and channels. The average pooling has
        stride 1 and includes its zero padding. Computed in float32, or float64 for float64 logits, even under autocast.

    Raises:
        TypeError: the logits are not floating point.
        ValueError: the shapes differ, or S does not have two or three axes.

    Examples:
        >>> import torch
        >>> from sdi_plugin import structure_loss
        >>> target = torch.zeros(1, 1, 8, 8)
        >>> target[..., 2:6, 2:6] = 1
        >>> right, wrong = structure_loss(20 * target - 10, target), structure_loss(10 - 20 * target, target)
        >>> bool(right < 0.01 < 1 < wrong)
        True
    """
    _check(logits, target, "target")
    if valid is not None:
        _check(logits, valid, "valid mask")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits, target = logits.to(dtype), target.to(dtype)
    axes = tuple(range(2, logits.ndim))

    if valid is not None:
        valid = valid.to(dtype)
        target = target * valid
    weight = 1 + 5 * (_local_mean(target) - target).abs()
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if valid is not None:
        weight, bce = weight * valid, bce * valid
    if unweighted_bce:
        bce = bce.mean() if valid is None else bce.sum() / valid.sum().clamp_min(1)
    else:
        bce = (weight * bce).sum(axes) / weight.sum(axes).clamp_min(1)  # the sum is 1 or more if any pixel counts

    probability = logits.sigmoid()
    intersection = (weight * probability * target).sum(axes)
    total = (weight * (probability + target)).sum(axes)
    iou = (intersection + 1) / (total - intersection + 1)
    return (bce + 1 - iou).mean()


class StructureLoss(nn.Module):
    """`structure_loss` as a module.

    Examples:
        >>> import torch
        >>> from sdi_plugin import StructureLoss
        >>> criterion = StructureLoss()
        >>> criterion(torch.randn(2, 1, 32, 32), torch.ones(2, 1, 32, 32)).shape
        torch.Size([])
    """

    def __init__(self, unweighted_bce: bool = False) -> None:
        super().__init__()
        self.unweighted_bce = unweighted_bce

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return structure_loss(logits, target, unweighted_bce=self.unweighted_bce)

    def extra_repr(self) -> str:
        return f"unweighted_bce={self.unweighted_bce}"


class DeepSupervisionLoss(nn.Module):
    """The weighted sum of one loss over the outputs of several heads.

    Args:
        loss: called with one head's logits and the target at that head's size.
        weights: one per head, finest first; 1 for every head by default, as in the official U-Net v2 recipe, which sums
            its two finest heads.

    Shape:
        outputs: a sequence of logits (B, K, *S_i), finest first. A single tensor, which a network returns in eval mode,
            is the finest head only: its loss is returned unweighted.
        target: (B, *S) of class indices, or (B, K, *S). Returns what `loss` returns.

    Convention:
        If S differs from S_i, the target takes the value of the nearest pixel, with pixel centres aligned (torch's
        "nearest-exact"; fits align_corners=False). Class indices, masks and the dtype are preserved.

    Raises:
        ValueError: no weights, a weight that is not finite, no outputs, different numbers of outputs and weights, or a
            target whose number of axes fits neither form.

    Examples:
        >>> import torch
        >>> from sdi_plugin import DeepSupervisionLoss
        >>> criterion = DeepSupervisionLoss(torch.nn.CrossEntropyLoss(), weights=[1, 0.5])
        >>> heads = [torch.randn(2, 3, 32, 32), torch.randn(2, 3, 16, 16)]
        >>> criterion(heads, torch.randint(0, 3, (2, 32, 32))).shape
        torch.Size([])
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        if self.weights is not None and not (self.weights and all(map(math.isfinite, self.weights))):
            raise ValueError(
                f"DeepSupervisionLoss: expected one finite weight per head, got {weights=}. Pass None for weights of 1."
            )

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return self.loss(outputs, _target_for(outputs, target))
        if not outputs:
            raise ValueError("DeepSupervisionLoss: expected the logits of at least one head, got an empty sequence.")
        weights = self.weights or (1.0,) * len(outputs)
        if len(weights) != len(outputs):
            raise ValueError(
                f"DeepSupervisionLoss: expected {len(weights)} outputs ({weights=}), got {len(outputs)}. "
                "Pass one weight per head."
            )
        losses = [self.loss(output, _target_for(output, target)) for output in outputs]
        return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum(0)

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


def _check(logits: Tensor, target: Tensor, name: str) -> None:
    if not logits.is_floating_point():
        raise TypeError(
            f"structure_loss: expected floating-point logits, got {logits.dtype}. Pass the network's output as it is."
        )
    if logits.ndim not in (4, 5):
        raise ValueError(
            f"structure_loss: expected logits of shape (B, K, H, W) or (B, K, D, H, W), got {tuple(logits.shape)}. "
            "Add the missing axes with unsqueeze."
        )
    if logits.shape != target.shape:
        raise ValueError(
            f"structure_loss: expected a {name} of the logits' shape {tuple(logits.shape)}, got {tuple(target.shape)}. "
            "Give a binary mask its channel axis with target.unsqueeze(1); one-hot encode class indices."
        )


def _local_mean(target: Tensor) -> Tensor:
    """avgpool_31, one axis after the other, with 8 sums an axis instead of 31: of windows of 1, 2, 4, 8 and 16.

    avg_pool2d adds element by element on CPUs, which took 9 % of a training step.
    """
    for axis in range(2, target.ndim):
        length = target.shape[axis]
        part = F.pad(target, [0, 0] * (target.ndim - 1 - axis) + [_WINDOW // 2] * 2)
        total, width = part.narrow(axis, 0, length), 1
        while 2 * width < _WINDOW:
            rest = part.shape[axis] - width
            part = part.narrow(axis, 0, rest) + part.narrow(axis, width, rest)
            width *= 2
            # The windows of 1, 2, 4, ... before this one end where it begins.
            total = total + part.narrow(axis, width - 1, length)
        target = total / _WINDOW
    return target


def _target_for(output: Tensor, target: Tensor) -> Tensor:
    """The target at the spatial size of `output`, by indexing, so that values of every dtype are kept."""
    if target.ndim not in (output.ndim, output.ndim - 1):
        raise ValueError(
            f"DeepSupervisionLoss: expected a target (B, *S) of class indices or (B, K, *S) for logits "
            f"{tuple(output.shape)}, got {tuple(target.shape)}. Add or remove axes of the target."
        )
    first = target.ndim - output.ndim + 2
    for i, size in enumerate(output.shape[2:]):  # torch 2.4 cannot compile enumerate(..., start)
        axis = first + i
        old = target.shape[axis]
        if old != size:
            centres = 2 * torch.arange(size, device=target.device) + 1
            target = target.index_select(axis, centres * old // (2 * size))
    return target
