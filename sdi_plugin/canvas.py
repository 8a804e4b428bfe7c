"""Images of any size: small ones are padded for the encoder, and logits are resized and cropped back to the image."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

_LINEAR = {2: "bilinear", 3: "trilinear"}


def padded_size(size: Sequence[int], minimum: int, multiple: int = 1) -> tuple[int, ...]:
    """The size of an image after `pad`."""
    if multiple > 1:
        size = [(axis + multiple - 1) // multiple * multiple for axis in size]
    return tuple(max(axis, minimum) for axis in size)


def pad(x: Tensor, minimum: int, multiple: int = 1) -> Tensor:
    """Zero-pad images (B, C, *S) at the end of every axis, to `minimum` pixels or more and a multiple of `multiple`.

    `minimum` is itself such a multiple.
    """
    size = x.shape[2:]
    padded = padded_size(size, minimum, multiple)
    if padded == tuple(size):
        return x
    # F.pad takes (before, after) per axis, the last axis first.
    axes = zip(reversed(size), reversed(padded), strict=True)
    return F.pad(x, [amount for before, after in axes for amount in (0, after - before)])


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps (B, C, *S) linearly, align_corners=False, as the official code resizes logits."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=_LINEAR[x.ndim - 2], align_corners=False)


def to_image(logits: Tensor, size: Sequence[int], padded: Sequence[int]) -> Tensor:
    """Resize and crop the logits (B, K, *S) of a padded image to the pixels of the original image (B, K, *size).

    Args:
        size: size of the image before `pad`.
        padded: size of the image after it. If the result should have a fraction of the image's size, pass that
            fraction of both.
    """
    logits = resize(logits, padded)
    return logits[(..., *(slice(axis) for axis in size))]
