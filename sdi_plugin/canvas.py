"""Images of any size: small ones are padded for the encoder, and the logits are resized and cropped to the image."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

_LINEAR = {2: "bilinear", 3: "trilinear"}


def padded_size(size: Sequence[int], minimum: int) -> tuple[int, ...]:
    """The size of an image after `pad`."""
    return tuple(max(axis, minimum) for axis in size)


def pad(x: Tensor, minimum: int) -> Tensor:
    """Zero-pad images (B, C, *S) at the end of every axis that has fewer than `minimum` pixels."""
    size = x.shape[2:]
    if all(axis >= minimum for axis in size):
        return x
    # F.pad takes (before, after) of the last axis first.
    return F.pad(x, [amount for axis in reversed(size) for amount in (0, max(0, minimum - axis))])


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bring maps (B, C, *S) to another size, linearly with align_corners=False: the official code's rule for logits."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=_LINEAR[x.ndim - 2], align_corners=False)


def to_image(logits: Tensor, size: Sequence[int], minimum: int) -> Tensor:
    """Bring the logits (B, K, *S) of a padded image to the image's own pixels (B, K, *size).

    Args:
        size: of the image before `pad`.
        minimum: that the image was padded to; for logits at a fraction of the image's size, the same fraction of both.
    """
    logits = resize(logits, padded_size(size, minimum))
    return logits[(..., *(slice(axis) for axis in size))]
