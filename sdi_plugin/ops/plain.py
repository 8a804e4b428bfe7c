"""attend_and_reduce in torch's own ops, forward and backward, where there is no kernel for it.

As in the kernels, backward keeps f, the gates, the channels' poolings, and the result; everything else is recomputed.
docs/derivation.md has the equations.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KEPT_PER_PIXEL = 1  # the gate; mean and maximum are computed again
_CONV = {2: F.conv2d, 3: F.conv3d}


class Level(NamedTuple):
    """f: (B, C, *S); fc1: (H, C, 1, ...); fc2: (C, H, 1, ...); conv7: (1, 2, 7, 7[, 7]); conv1: (C_out, C, 1, ...)."""

    f: Tensor
    fc1: Tensor
    fc2: Tensor
    conv7: Tensor
    conv1: Tensor


class Kept(NamedTuple):
    """What backward needs besides the inputs.

    channels: (B, 3, C), mean, maximum and gate of the channels; pixels: (B, 1, *S), the gate of the pixels.
    """

    g: Tensor
    channels: Tensor
    pixels: Tensor


def forward(
    groups: Sequence[Sequence[Tensor]], out_dtype: torch.dtype, channels_last: bool | None = None
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """g, and what is kept of the channels and of the pixels, of every level.

    groups: fs, fc1, fc2, conv7, conv1; channels_last: see `empty_result`.
    """
    with torch.autocast(groups[0][0].device.type, enabled=False):
        levels = [Level(*level) for level in zip(*groups, strict=True)]
        g, channels, pixels = zip(*[_forward(level, out_dtype, channels_last) for level in levels], strict=True)
    return list(g), list(channels), list(pixels)


def backward(
    grads: Sequence[Tensor],
    groups: Sequence[Sequence[Tensor]],
    kept: Sequence[Sequence[Tensor]],
    *,
    needs_maps: bool = True,
) -> list[list[Tensor]]:
    """The gradients of fs (an empty list if they are not needed), fc1, fc2, conv7 and conv1.

    groups: as for `forward`; kept: g, channels, pixels.
    """
    with torch.autocast(grads[0].device.type, enabled=False):
        found = [
            _backward(grad, Level(*level), Kept(*state), needs_maps)
            for grad, level, state in zip(grads, zip(*groups, strict=True), zip(*kept, strict=True), strict=True)
        ]
    return [list(group) if needs_maps or i else [] for i, group in enumerate(zip(*found, strict=True))]


def is_channels_last(f: Tensor) -> bool:
    """Whether f, and so the result, has its channels adjacent in memory, as torch's convolutions decide it."""
    last = torch.channels_last if f.ndim == 4 else torch.channels_last_3d
    return f.is_contiguous(memory_format=last) and not f.is_contiguous()


def empty_result(f: Tensor, channels: int, dtype: torch.dtype, channels_last: bool | None = None) -> Tensor:
    """Memory for a result (B, C_out, *S), channels last or contiguous; if None, channels last if f is."""
    batch, size = f.shape[0], f.shape[2:]
    if is_channels_last(f) if channels_last is None else channels_last:
        return f.new_empty((batch, *size, channels), dtype=dtype).movedim(-1, 1)
    return f.new_empty((batch, channels, *size), dtype=dtype)


def accumulator(*tensors: Tensor) -> torch.dtype:
    is_double = any(t.dtype == torch.float64 for t in tensors)
    return torch.float64 if is_double else torch.float32


def _like(grad: Tensor, t: Tensor) -> Tensor:
    """The gradient in the dtype and layout of what it belongs to."""
    like = torch.empty_like(t)
    return grad if grad.dtype == like.dtype and grad.stride() == like.stride() else like.copy_(grad)


def _matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.flatten(1).to(dtype)


def _over(channels: Tensor, f: Tensor) -> Tensor:
    """Values (B, C) of the channels as (B, C, 1, ..., 1)."""
    return channels.reshape(*channels.shape, *[1] * (f.ndim - 2))


def _pooled_pixels(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Mean and maximum (B, 2, *S) over the channels."""
    return torch.stack([x.mean(1, dtype=dtype), x.amax(1).to(dtype)], 1)


def _forward(level: Level, out_dtype: torch.dtype, channels_last: bool | None) -> Kept:
    f, dtype = level.f, accumulator(*level)
    space = tuple(range(2, f.ndim))
    fc1, fc2, conv1 = (_matrix(w, dtype) for w in (level.fc1, level.fc2, level.conv1))
    pooled = torch.stack([f.mean(space, dtype=dtype), f.amax(space).to(dtype)], 1)
    gate = torch.sigmoid(torch.relu(pooled @ fc1.T).sum(1) @ fc2.T)
    x = f * _over(gate, f).to(f.dtype)
    maps = _pooled_pixels(x, dtype)
    pixel_gate = torch.sigmoid(_CONV[f.ndim - 2](maps, level.conv7.to(dtype), padding=3))
    # The channels' gate is part of the weights, and the pixels' is one number for a pixel's whole result.
    weights, flat = (conv1 * gate[:, None]).to(f.dtype), f.flatten(2)
    reduced = torch.bmm(flat.mT, weights.mT).mT if is_channels_last(f) else torch.bmm(weights, flat)
    out = empty_result(f, len(conv1), out_dtype, channels_last)
    g = torch.mul(reduced.unflatten(2, f.shape[2:]), pixel_gate, out=out)
    return Kept(g, torch.cat([pooled, gate[:, None]], 1), pixel_gate)


def _backward(grad: Tensor, level: Level, kept: Kept, needs_maps: bool) -> tuple[Tensor, ...]:
    f, dtype = level.f, accumulator(*level)
    space, width = tuple(range(2, f.ndim)), f.shape[1]
    fc1, fc2, conv1 = (_matrix(w, dtype) for w in (level.fc1, level.fc2, level.conv1))
    pooled, gate = kept.channels[:, :2], kept.channels[:, 2]
    x, pixel_gate = f * _over(gate, f).to(f.dtype), kept.pixels
    maps = _pooled_pixels(x, dtype)
    # The gate's derivative is s (1 - s), and g = s W (ca f): no product with f is needed, and no division by s.
    logit = (grad.to(dtype) * kept.g).sum(1, keepdim=True) * (1 - pixel_gate)
    map_grads, conv7_grad = _convolution_backward(logit, maps, level.conv7.to(dtype))
    mean_grad, maximum_grad = map_grads.unbind(1)
    scaled = (grad * pixel_gate).to(f.dtype).flatten(2)

    ties = x == maps[:, 1:].to(f.dtype)
    shared = (maximum_grad / ties.sum(1))[:, None]
    pooled_grads = torch.where(ties, shared, 0) + mean_grad[:, None] / width
    products = torch.bmm(scaled, f.flatten(2).mT).to(dtype)  # (B, C_out, C)
    gate_grad = (products * conv1).sum(1) + (pooled_grads * f).sum(space)

    dense_grad = gate_grad * gate * (1 - gate)
    hidden = pooled @ fc1.T
    hidden_grad = (dense_grad @ fc2)[:, None] * (hidden > 0)
    fc1_grad = torch.einsum("bkh,bkc->hc", hidden_grad, pooled)
    fc2_grad = dense_grad.T @ torch.relu(hidden).sum(1)
    conv1_grad = (products * gate[:, None]).sum(0)
    parameters = [
        _like(found.reshape(weight.shape), weight)
        for found, weight in zip((fc1_grad, fc2_grad, conv7_grad, conv1_grad), level[1:], strict=True)
    ]
    if not needs_maps:
        return torch.empty(0), *parameters
    mean_grads, maximum_grads = (hidden_grad @ fc1).unbind(1)
    ties = f == _over(pooled[:, 1], f).to(f.dtype)
    weights = (conv1 * gate[:, None]).to(f.dtype)
    is_last = f.stride(1) == 1  # the product is written as f is
    reduced = torch.bmm(scaled.mT, weights).mT if is_last else torch.bmm(weights.mT, scaled)
    reduced = reduced.unflatten(2, f.shape[2:])
    f_grad = torch.addcmul(reduced.to(dtype), pooled_grads, _over(gate, f))
    f_grad += _over(mean_grads / math.prod(f.shape[2:]), f)
    f_grad += torch.where(ties, _over(maximum_grads / ties.sum(space), f), 0)
    return _like(f_grad, f), *parameters


def _convolution_backward(grad: Tensor, maps: Tensor, conv7: Tensor) -> tuple[Tensor, Tensor]:
    ones = [1] * (maps.ndim - 2)
    threes, zeros = [3 * one for one in ones], [0 * one for one in ones]
    found = torch.ops.aten.convolution_backward(
        grad, maps, conv7, None, ones, threes, ones, False, zeros, 1, [True, True, False]
    )
    return found[0], found[1]
