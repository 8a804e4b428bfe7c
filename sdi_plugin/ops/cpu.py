"""resize_smooth_multiply on CPUs: convolutions and matrix products by torch, the rest by the compiled C++ kernel.

A coarser level's channels are mixed at the low resolution, where that is cheap, and interpolated tap by tap
(csrc/resize_smooth_multiply.cpp; docs/derivation.md). Everything inside is float32 and channels last.
"""

import ctypes
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops import plan, reference

FORMAT = {4: torch.channels_last, 5: torch.channels_last_3d}
_ABI = 1  # of the structures below; the same number stands in csrc
_DEPTH_SLAB = 8  # planes of the target whose tap products exist at a time
# Multiply-adds of the kernel stream through memory: each costs about as much as four of a matrix product.
_STREAM_COST = 4


def _load() -> tuple[Any, str]:
    """The compiled library, or None and the reason."""
    built = Path(__file__).with_name(f"_kernel{sysconfig.get_config_var('EXT_SUFFIX')}")
    if not built.exists():
        return None, "not compiled: the install found no C++ compiler with OpenMP, so the reference serves"
    library = ctypes.CDLL(str(built))  # a kernel that is there but broken raises
    if library.sdi_abi() != _ABI:
        raise ImportError(
            f"{built} was built from other sources (ABI {library.sdi_abi()}, expected {_ABI}). Install again."
        )
    for function in (library.sdi_forward, library.sdi_backward):
        function.restype = None
    return library, ""


class _Axis(ctypes.Structure):
    _fields_ = (("low", ctypes.c_void_p), ("first", ctypes.c_void_p), ("second", ctypes.c_void_p))


class _Level(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("taps", "source", "bias", "bias_sum")),
        *((name, ctypes.c_int64) for name in ("start", "planes", "h", "w")),
        *((name, _Axis) for name in ("z", "y", "x")),
    )


class _Target(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("B", "D", "H", "W", "C", "depth_taps", "z_begin", "z_end"))


library, reason = _load()
available = library is not None


def is_by_taps(source: Sequence[int], target: Sequence[int], channels: int) -> bool:
    """`plan.is_by_taps` for this kernel."""
    return plan.is_by_taps(source, target, channels, _STREAM_COST)


class _Term(NamedTuple):
    x: Tensor  # the level's map, pooled where it is finer
    by_taps: bool


def forward(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], level: int) -> Tensor:
    """See `sdi_plugin.ops.resize_smooth_multiply`; float32, returns channels last."""
    size = xs[level].shape[2:]
    terms = _terms(xs, weights, size)
    shape = (xs[level].shape[0], weights[level].shape[0], *size)
    out = torch.empty(shape, memory_format=FORMAT[len(shape)])
    first = True
    for term, weight, bias in zip(terms, weights, biases, strict=True):
        if not term.by_taps:
            dense = _conv(_interpolate(term.x, size), weight, bias)
            out = out.copy_(dense) if first else out.mul_(dense)
            first = False
    taps = [(t.x, _mixing(w), b) for t, w, b in zip(terms, weights, biases, strict=True) if t.by_taps]
    for target, image, slabs in _slabs(out, [x for x, _, _ in taps]) if taps else ():
        levels, keep = [], []
        for (x, mixing, bias), (start, stop) in zip(taps, slabs, strict=True):
            products = _planes(x, image, start, stop) @ mixing
            bias = bias.contiguous()
            keep += [products, bias]
            levels.append(_level(x, size, start, stop, taps=products, bias=bias))
        _call(library.sdi_forward, _pointer(out, image), levels, target)
    return out


def backward(
    grad: Tensor, xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], level: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The gradients of xs, weights and biases. Recomputes the terms: forward keeps nothing but its inputs."""
    size = xs[level].shape[2:]
    terms = _terms(xs, weights, size)
    grad = _last(grad)
    inputs = {j: _interpolate(t.x, size) for j, t in enumerate(terms) if not t.by_taps}
    dense = {j: _last(_conv(x, weights[j], biases[j])) for j, x in inputs.items()}
    taps = [j for j, t in enumerate(terms) if t.by_taps]
    mixings = {j: _mixing(weights[j]) for j in taps}
    grads = {j: torch.zeros_like(terms[j].x) for j in taps}
    mixing_grads = {j: torch.zeros_like(mixings[j]) for j in taps}
    sums = {j: grad.new_zeros(grad.shape[:2]) for j in taps}
    for target, image, slabs in _slabs(grad, [terms[j].x for j in taps]):
        levels, kept = [], []
        for j, (start, stop) in zip(taps, slabs, strict=True):
            x = _planes(terms[j].x, image, start, stop)
            products, bias = x @ mixings[j], biases[j].contiguous()
            gradient = torch.zeros_like(products)
            kept.append((j, start, stop, x, products, bias, gradient))
            pointers = {"taps": gradient, "source": products, "bias": bias, "bias_sum": sums[j][image:]}
            levels.append(_level(terms[j].x, size, start, stop, **pointers))
        maps = (ctypes.c_void_p * len(dense))(*(_pointer(d, image).value for d in dense.values()))
        _call(library.sdi_backward, _pointer(grad, image), maps, ctypes.c_int64(len(dense)), levels, target)
        for j, start, stop, x, _, _, gradient in kept:
            _planes(grads[j], image, start, stop).add_(gradient @ mixings[j].T)
            mixing_grads[j].addmm_(x.T, gradient)
    x_grads, weight_grads, bias_grads = [], [], []
    for j, (term, weight, bias) in enumerate(zip(terms, weights, biases, strict=True)):
        if term.by_taps:
            x_grad, bias_grad = grads[j], sums[j].sum(0)
            weight_grad = _unmixing(mixing_grads[j], weight)
        else:
            x_grad, weight_grad, bias_grad = _conv_backward(dense[j], inputs[j], weight, bias)
            x_grad = _interpolate_backward(x_grad, term.x)
        x_grads.append(_pool_backward(x_grad, xs[j]).contiguous())
        weight_grads.append(weight_grad.contiguous())
        bias_grads.append(bias_grad)
    return x_grads, weight_grads, bias_grads


def _terms(xs: Sequence[Tensor], weights: Sequence[Tensor], size: Sequence[int]) -> list[_Term]:
    terms = []
    for x, weight in zip(xs, weights, strict=True):
        pooled = plan.pooled_size(x.shape[2:], size)
        terms.append(_Term(_last(reference.resize(x, pooled)), is_by_taps(pooled, size, weight.shape[1])))
    return terms


def _last(x: Tensor) -> Tensor:
    """Channels last in memory, in fact and not only by torch's lenient word for axes of one element."""
    return x.permute(0, *range(2, x.ndim), 1).contiguous().permute(0, x.ndim - 1, *range(1, x.ndim - 1))


def _mixing(weight: Tensor) -> Tensor:
    """(C_out, C, *taps) -> (C, taps * C_out): all taps' channel mixings as one matrix."""
    return weight.permute(1, *range(2, weight.ndim), 0).reshape(weight.shape[1], -1)


def _unmixing(mixing: Tensor, weight: Tensor) -> Tensor:
    inner = (weight.shape[1], *weight.shape[2:], weight.shape[0])
    return mixing.reshape(inner).permute(weight.ndim - 1, 0, *range(1, weight.ndim - 1)).contiguous()


def _slabs(out: Tensor, maps: Sequence[Tensor]) -> Any:
    """(target, first image, [(first, last + 1) plane of each map]) for every call of the kernel.

    In 2-D one call does all images. In 3-D it does a few planes of one image, so that the 27 products of a voxel exist
    for those alone.
    """
    if out.numel() == 0:
        return
    batch, channels, *size = out.shape
    if len(size) == 2:
        yield _Target(batch, 1, *size, channels, 1, 0, 1), 0, [(0, x.shape[0]) for x in maps]
        return
    tables = [plan.table(x.shape[2], size[0]) for x in maps]
    for image in range(batch):
        for begin in range(0, size[0], _DEPTH_SLAB):
            end = min(size[0], begin + _DEPTH_SLAB)
            low, high = max(0, begin - 1), min(size[0], end + 1) - 1  # the convolution's depth taps
            ranges = [(int(t.low[low]), int(t.low[high]) + 1 + int(t.second[high] != 0)) for t in tables]
            yield _Target(1, *size, channels, 3, begin, end), image, ranges


def _planes(x: Tensor, image: int, start: int, stop: int) -> Tensor:
    """The pixels of some planes of a channels-last map, as rows (pixels, C) that share its memory."""
    rows = x.permute(0, *range(2, x.ndim), 1)
    return (rows if x.ndim == 4 else rows[image, start:stop]).view(-1, x.shape[1])


def _level(x: Tensor, size: Sequence[int], start: int, stop: int, **tensors: Tensor) -> _Level:
    axes = [_Axis(*(tensor.data_ptr() for tensor in plan.table(s, t))) for s, t in zip(x.shape[2:], size, strict=True)]
    depth = (start, stop - start) if x.ndim == 5 else (0, 1)
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    return _Level(
        **pointers,
        start=depth[0],
        planes=depth[1],
        h=x.shape[-2],
        w=x.shape[-1],
        z=axes[0] if x.ndim == 5 else _Axis(),
        y=axes[-2],
        x=axes[-1],
    )


def _pointer(x: Tensor, image: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(x[image:].data_ptr())


def _call(function: Any, *arguments: Any) -> None:
    *before, levels, target = arguments
    array, threads = (_Level * len(levels))(*levels), ctypes.c_int64(torch.get_num_threads())
    function(*before, array, ctypes.c_int64(len(levels)), ctypes.byref(target), threads)


def _conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (torch.conv2d if x.ndim == 4 else torch.conv3d)(x, weight, bias, padding=1)


def _conv_backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dim = x.ndim - 2
    ones, zeros = [1] * dim, [0] * dim
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [bias.numel()], ones, ones, ones, False, zeros, 1, [True, True, True]
    )


def _interpolate(x: Tensor, size: Sequence[int]) -> Tensor:
    return x if x.shape[2:] == tuple(size) else _last(reference.resize(x, size))


def _interpolate_backward(grad: Tensor, x: Tensor) -> Tensor:
    if grad.shape == x.shape:
        return grad
    aten = torch.ops.aten
    adjoint = aten.upsample_bilinear2d_backward if x.ndim == 4 else aten.upsample_trilinear3d_backward
    return adjoint(grad.contiguous(), list(grad.shape[2:]), list(x.shape), True)


def _pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    if grad.shape == x.shape:
        return grad
    aten = torch.ops.aten
    adjoint = aten._adaptive_avg_pool2d_backward if x.ndim == 4 else aten._adaptive_avg_pool3d_backward
    return adjoint(grad.contiguous(), x.contiguous())
