"""The equations in plain torch: the specification that every kernel is tested against."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sdi_plugin.ops import bands

# The fusions by name, each with the scale of its asinh; 0 means the product itself.
FUSIONS = {"product": 0.0, "asinh": 2.0}

_POOL = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """See `sdi_plugin.ops.resize`."""
    size, dim = tuple(size), x.ndim - 2
    if _lacks_deterministic_backward(x):
        return resize_by_matrices(x, size)
    pooled = pooled_size(x.shape[2:], size)
    if pooled != tuple(x.shape[2:]):
        x = _POOL[dim](x, pooled)
    if pooled != size:
        x = F.interpolate(x, size=size, mode=_LINEAR[dim], align_corners=True)
    return x


def pooled_size(source: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """The size of a map after pooling the axes on which it is finer than the target."""
    return tuple(min(s, t) for s, t in zip(source, target, strict=True))


def _lacks_deterministic_backward(x: Tensor) -> bool:
    """On GPUs neither the pooling nor the interpolation has a deterministic backward; matrix products do."""
    return x.is_cuda and torch.are_deterministic_algorithms_enabled()


def resize_matrix(source: int, target: int, *, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """One axis of `resize` as a (target, source) matrix."""
    return bands.resize(source, target, torch.promote_types(dtype, torch.float32)).dense().to(device, dtype)


def resize_by_matrices(x: Tensor, size: Sequence[int]) -> Tensor:
    """`resize` as one matrix product per axis that changes, in float32 or wider, like torch's own resizing."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    resized = x.to(dtype)
    for axis, (source, target) in enumerate(zip(x.shape[2:], size, strict=True), start=2):
        if source != target:
            matrix = resize_matrix(source, target, dtype=dtype, device=x.device)
            resized = (resized.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return resized.to(x.dtype)


def resize_smooth_multiply(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    level: int,
    *,
    fusion: str = "product",
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """See `sdi_plugin.ops.resize_smooth_multiply`."""
    size, dim = xs[level].shape[2:], xs[level].ndim - 2
    # The product of four maps overflows float16 long before the maps themselves do.
    accumulator = torch.promote_types(xs[level].dtype, torch.float32)
    product = None
    for x, weight, bias in zip(xs, weights, biases, strict=True):
        # padding=1, not "same": FLOP counters know only the former's operator.
        term = _CONV[dim](resize(x, size), weight, bias, padding=1).to(accumulator)
        product = term if product is None else product * term
    assert product is not None  # levels >= 1 is checked by the caller
    return bound(product, FUSIONS[fusion]).to(out_dtype or xs[level].dtype)


def resize_smooth_multiply_stage(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    *,
    fusion: str = "product",
    out_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """See `sdi_plugin.ops.resize_smooth_multiply_stage`."""
    own = [slice(t * len(xs), (t + 1) * len(xs)) for t in range(len(targets))]
    return [
        resize_smooth_multiply(xs, weights[terms], biases[terms], target, fusion=fusion, out_dtype=out_dtype)
        for target, terms in zip(targets, own, strict=True)
    ]


def bound(product: Tensor, scale: float) -> Tensor:
    """scale * asinh(product / scale), or the product itself if scale is 0."""
    return scale * torch.asinh(product / scale) if scale else product


def attend_and_reduce(
    f: Tensor, fc1: Tensor, fc2: Tensor, conv7: Tensor, conv1: Tensor, *, out_dtype: torch.dtype | None = None
) -> Tensor:
    """See `sdi_plugin.ops.attend_and_reduce`."""
    x = channel_gate(f, fc1, fc2) * f
    x = pixel_gate(x, conv7) * x
    return _CONV[f.ndim - 2](x, conv1).to(out_dtype or f.dtype)


def channel_gate(x: Tensor, fc1: Tensor, fc2: Tensor) -> Tensor:
    """CBAM's gate (B, C, 1, ..., 1) of the channels, from their mean and maximum over the pixels."""
    pixels, conv = tuple(range(2, x.ndim)), _CONV[x.ndim - 2]
    pooled = x.mean(pixels, keepdim=True), x.amax(pixels, keepdim=True)
    mean, maximum = (conv(torch.relu(conv(p, fc1)), fc2) for p in pooled)
    return torch.sigmoid(mean + maximum)


def pixel_gate(x: Tensor, conv7: Tensor) -> Tensor:
    """CBAM's gate (B, 1, *S) of the pixels, from their mean and maximum over the channels."""
    pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
    return torch.sigmoid(_CONV[x.ndim - 2](pooled, conv7, padding=conv7.shape[-1] // 2))


def attend_and_reduce_stage(
    fs: Sequence[Tensor],
    fc1: Sequence[Tensor],
    fc2: Sequence[Tensor],
    conv7: Sequence[Tensor],
    conv1: Sequence[Tensor],
    *,
    out_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """See `sdi_plugin.ops.attend_and_reduce_stage`."""
    levels = zip(fs, fc1, fc2, conv7, conv1, strict=True)
    return [attend_and_reduce(*level, out_dtype=out_dtype) for level in levels]
