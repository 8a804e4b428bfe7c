"""How tensors lie in memory where the kernels read and write them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
Layout = tuple[tuple[int, ...], tuple[int, ...]]  # shape and strides


def channels_last(x: Tensor) -> Tensor:
    """x with (B, *S, C) in memory, and with its sign."""
    x = x.resolve_neg()
    last = LAST[x.ndim]
    return x if x.is_contiguous(memory_format=last) else x.contiguous(memory_format=last)


def empty(layout: Layout, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    return torch.empty_strided(*layout, dtype=dtype, device=device)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple([math.prod(shape[i + 1 :]) for i in range(len(shape))])


def with_channels(like: Sequence[int], channels: int) -> Layout:
    """(B, channels, *S), with exact channels-last strides: torch's memory formats leave those of axes of one open."""
    batch, _, *size = like
    image, *rest = contiguous((batch, *size, channels))
    return (batch, channels, *size), (image, 1, *rest[:-1])


def copies(tensors: Sequence[Tensor], likes: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(like).copy_(t) for t, like in zip(tensors, likes, strict=bool(tensors))]


def strides_of(weights: Sequence[Tensor], last: torch.memory_format) -> tuple[tuple[int, int, int], bool]:
    """The strides of output channel, input channel and tap of the weights if all have one dense layout, and True.

    Otherwise, and False, those of contiguous ones.
    """
    first, strides = weights[0], weights[0].stride()
    tap = strides[-1]
    nested = tuple([tap * 3**i for i in reversed(range(len(strides) - 2))])
    is_dense = first.is_contiguous() or first.is_contiguous(memory_format=last)
    if is_dense and strides[2:] == nested and all(weight.stride() == strides for weight in weights):
        return (strides[0], strides[1], tap), True
    taps = math.prod(first.shape[2:])
    return (first.shape[1] * taps, taps, 1), False
