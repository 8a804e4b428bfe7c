"""resize_smooth_multiply on CPUs by the compiled C++ kernel (csrc/, docs/derivation.md): plans, pointers, one call.

A plan is all that the kernel needs to know besides the tensors, made once for each set of shapes.
"""

import ctypes
import math
import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops import bands, plan, reference
from sdi_plugin.ops.cache import bounded

_ABI = 4  # of the structures below; the same number stands in csrc/stage.h
# Multiply-adds of the interpolation stream through memory: each costs about as much as four of a matrix product.
_STREAM_COST = 4
# F(2x2, 3x3) takes 16 of 36 products and its transforms; for maps from this size on (csrc/winograd.h).
_WINOGRAD_COST, _WINOGRAD_PIXELS = 0.55, 256
# What one thread does at a time, at least: rows of an image, planes of a volume.
_UNIT_ROWS, _UNIT_PLANES = 22, 4
# Of the plans that are kept, and of the tables of an axis that they share.
_PLAN_BYTES, _TABLE_BYTES = 1 << 26, 1 << 24
_OVERHEAD = 2048  # about what Python's and torch's own objects take for a table or an array, in bytes
# Every unit has gradients of all weights of its own. More than this many do not make a machine any busier.
_MOST_UNITS = 64


def _load() -> tuple[Any, str]:
    """The compiled library, or None and the reason."""
    built = os.environ.get("SDI_PLUGIN_KERNEL") or Path(__file__).with_name(
        f"_kernel{sysconfig.get_config_var('EXT_SUFFIX')}"
    )
    if not Path(built).exists():
        return None, "not compiled: the install found no C++ compiler with OpenMP, so the reference serves"
    library = ctypes.CDLL(str(built))  # a kernel that is there but broken raises
    if library.sdi_abi() != _ABI:
        raise ImportError(
            f"{built} was built from other sources (ABI {library.sdi_abi()}, expected {_ABI}). Install again."
        )
    library.sdi_isa.restype = ctypes.c_char_p
    library.sdi_run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int)
    return library, ""


library, reason = _load()
available = library is not None
_threads = torch.get_num_threads


def _use_one_thread() -> None:
    global _threads
    _threads = lambda: 1  # noqa: E731


# OpenMP's threads do not survive a fork; a child that asked for more than its own would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_use_one_thread)


def isa() -> str:
    """The instruction set that serves here: "avx512", "avx2" or "baseline"."""
    return library.sdi_isa().decode()


class _Axis(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_void_p) for name in ("first", "count", "weights")), ("width", ctypes.c_int64))


class _Map(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("source", "d", "h", "w")),
        *((name, _Axis) for name in ("z", "y", "x", "z_back", "y_back", "x_back")),
    )


class _Term(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("map", "by_taps")),
        *((name, _Axis) for name in ("z", "y", "x", "x_back")),
    )


class _Unit(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("image", "z_begin", "z_end", "y_begin", "y_end"))


class _Target(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("d", "h", "w")),
        *((name, ctypes.c_void_p) for name in ("terms", "units")),
        ("unit_count", ctypes.c_int64),
    )


class _Stage(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "in_channels", "out_channels", "depth_taps")),
        *((name, ctypes.c_int64) for name in ("levels", "map_count", "target_count")),
        *((name, ctypes.c_void_p) for name in ("maps", "targets")),
        ("bound", ctypes.c_double),
    )


class _Tensors(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("xs", "weights", "biases", "outs", "x_grads", "weight_grads", "bias_grads")
    )


class _Table(NamedTuple):
    """The bands of one axis as the kernel reads them."""

    axis: _Axis
    kept: tuple[Tensor, ...]  # what the axis' pointers point to

    @property
    def nbytes(self) -> int:
        return _OVERHEAD + sum(t.nbytes for t in self.kept)


class _Plan(NamedTuple):
    stage: _Stage
    kept: list[Any]  # what the stage's pointers point to: hold the plan for as long as the kernel runs
    nbytes: int


def is_by_taps(source: Sequence[int], target: Sequence[int], channels: int) -> bool:
    """The cost model: is a pooled level's term cheaper through the low resolution than by interpolating its map first?

    In multiply-adds of a matrix product for an output element, for C channels and scales s of the axes. Directly: C for
    each tap, or what Winograd leaves of them, and the map's interpolation. Through the low resolution: C / (s_x s_y)
    for each tap, as the depth is interpolated before the product, and 6 + 18 / s_x for the taps' interpolation.
    """
    taps, scales = 3 ** len(target), [t / s for s, t in zip(source, target, strict=True)]
    dense = _WINOGRAD_COST if min(target[-2:]) > 1 and math.prod(target) >= _WINOGRAD_PIXELS else 1
    direct = taps * channels * dense + _STREAM_COST * 2 ** len(target)
    by_taps = taps * channels / (scales[-1] * scales[-2]) + _STREAM_COST * (6 + 18 / scales[-1])
    return math.prod(scales) > 1 and by_taps < direct


def forward(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    """See `sdi_plugin.ops.resize_smooth_multiply_stage`; returns maps in channels-last memory."""
    dtype = _accumulator(xs)
    channels = weights[0].shape[0]
    # Channels last in fact, and not only by torch's lenient word for axes of one element.
    outs = [
        torch.empty((x.shape[0], *x.shape[2:], channels), dtype=dtype, device=x.device).movedim(-1, 1)
        for x in map(xs.__getitem__, targets)
    ]
    _run(dtype, fusion, targets, xs, weights, biases, outs)
    return [_as(out, out_dtype) for out in outs]


def backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The gradients of xs, weights and biases. Recomputes the terms: forward keeps nothing but its inputs."""
    dtype = _accumulator(xs)
    x_grads, weight_grads, bias_grads = (
        [torch.empty(t.shape, dtype=dtype, device=t.device) for t in group] for group in (xs, weights, biases)
    )
    _run(dtype, fusion, targets, xs, weights, biases, grads, x_grads, weight_grads, bias_grads)
    return (
        [_as(grad, x.dtype) for grad, x in zip(x_grads, xs, strict=True)],
        [_as(grad, weight.dtype) for grad, weight in zip(weight_grads, weights, strict=True)],
        [_as(grad, bias.dtype) for grad, bias in zip(bias_grads, biases, strict=True)],
    )


def _accumulator(xs: Sequence[Tensor]) -> torch.dtype:
    return torch.float64 if any(x.dtype == torch.float64 for x in xs) else torch.float32


def _as(t: Tensor, dtype: torch.dtype) -> Tensor:
    """In the dtype, and with its sign in memory: torch.imag(z.conj()) is a view whose memory holds the negative."""
    # A call of `to` that does nothing still takes its time.
    return t.resolve_neg() if t.dtype == dtype else t.detach().to(dtype)


def _run(
    dtype: torch.dtype,
    fusion: str,
    targets: Sequence[int],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    outs: Sequence[Tensor],
    x_grads: Sequence[Tensor] = (),
    weight_grads: Sequence[Tensor] = (),
    bias_grads: Sequence[Tensor] = (),
) -> None:
    sizes = tuple(tuple(x.shape[2:]) for x in xs)
    # Held to the end: another thread's plans may push this one out of the cache, and its tables with it.
    out_channels, in_channels = weights[0].shape[:2]
    held = _plan(xs[0].shape[0], sizes, tuple(targets), out_channels, in_channels, dtype, fusion)
    maps = [[_as(x, dtype) for x in group] for group in (xs, outs)]
    parameters = [[_as(t, dtype).contiguous() for t in group] for group in (weights, biases)]
    arrays = (
        _views(maps[0]),
        *map(_pointers, parameters),
        _views(maps[1]),
        _views(x_grads),
        _pointers(weight_grads),
        _pointers(bias_grads),
    )
    tensors = _Tensors(*map(ctypes.addressof, arrays))
    is_double, is_backward = dtype == torch.float64, bool(x_grads)
    if library.sdi_run(ctypes.byref(held.stage), ctypes.byref(tensors), _threads(), is_double, is_backward):
        raise MemoryError(
            f"resize_smooth_multiply: no memory for maps of {[tuple(x.shape) for x in xs]}. "
            "Use a smaller batch or smaller images."
        )


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])


def _views(tensors: Sequence[Tensor]) -> Any:
    numbers: list[int] = []
    for t in tensors:
        b, c, *space = t.stride()
        numbers += (t.data_ptr(), b, c, *(0,) * (3 - len(space)), *space)
    return (ctypes.c_int64 * len(numbers))(*numbers)  # _View: a pointer and five strides


@bounded(_TABLE_BYTES)
def _table(source: int, target: int, dtype: torch.dtype, is_adjoint: bool) -> _Table:
    matrix = bands.resize(source, target, dtype)
    first, count, weights = (matrix.adjoint() if is_adjoint else matrix).bands()
    kept = first.int(), count.int(), weights
    return _Table(_Axis(*(t.data_ptr() for t in kept), weights.shape[1]), kept)


@bounded(_PLAN_BYTES)
def _plan(
    batch: int,
    sizes: tuple[tuple[int, ...], ...],
    targets: tuple[int, ...],
    out_channels: int,
    in_channels: int,
    dtype: torch.dtype,
    fusion: str,
) -> _Plan:
    kept: list[Any] = []
    depth_taps = 3 if len(sizes[0]) == 3 else 1

    nbytes = 0

    def array(kind: Any, items: Sequence[Any]) -> int:
        nonlocal nbytes
        kept.append((kind * len(items))(*items))
        nbytes += _OVERHEAD + ctypes.sizeof(kept[-1])
        return ctypes.addressof(kept[-1])

    def axes(source: Sequence[int], target: Sequence[int], *, is_adjoint: bool = False) -> list[_Axis]:
        nonlocal nbytes
        tables = [_table(s, t, dtype, is_adjoint) for s, t in zip(_3d(source), _3d(target), strict=True)]
        kept.extend(tables)
        nbytes += sum(table.nbytes for table in tables)
        return [table.axis for table in tables]

    pyramid = plan.Pyramid(sizes)
    described = []
    for target in targets:
        size, terms = sizes[target], []
        for level in range(len(sizes)):
            index = pyramid.pooled(level, plan.pooled_size(sizes[level], size))
            by_taps = is_by_taps(pyramid.maps[index].size, size, in_channels)
            interpolation = [_Axis()] * 4
            if by_taps:
                source = pyramid.maps[index].size
                interpolation = [*axes(source, size), axes(source, size, is_adjoint=True)[2]]
            terms.append(_Term(index if by_taps else pyramid.interpolated(index, size), by_taps, *interpolation))
        units = [_Unit(*unit) for unit in _units(batch, _3d(size), depth_taps)]
        pointers = array(_Term, terms), array(_Unit, units)
        described.append(_Target(*_3d(size), *pointers, len(units)))
    maps = []
    for m in pyramid.maps:
        source = m.size if m.source is None else pyramid.maps[m.source].size
        tables = axes(source, m.size), axes(source, m.size, is_adjoint=True)
        maps.append(_Map(-1 if m.source is None else m.source, *_3d(m.size), *tables[0], *tables[1]))
    counts = len(sizes), len(maps), len(targets)
    pointers = array(_Map, maps), array(_Target, described)
    bound = reference.FUSIONS[fusion]
    return _Plan(_Stage(batch, in_channels, out_channels, depth_taps, *counts, *pointers, bound), kept, nbytes)


def _3d(size: Sequence[int]) -> tuple[int, ...]:
    return (*[1] * (3 - len(size)), *size)


def _units(batch: int, size: Sequence[int], depth_taps: int) -> list[tuple[int, ...]]:
    """Split a target by its shape alone: (image, first plane, last + 1, first row, last + 1) each."""
    depth, height, _ = size
    axis, least = (depth, _UNIT_PLANES) if depth_taps == 3 else (height, _UNIT_ROWS)
    step = max(least, -(-axis * batch // _MOST_UNITS))
    step = -(-axis // -(-axis // step)) if axis else step  # even shares
    step += step % 2  # Winograd makes rows in pairs
    ranges = [(begin, min(axis, begin + step)) for begin in range(0, axis, step)]
    return [(image, *r, 0, height) if depth_taps == 3 else (image, 0, 1, *r) for image in range(batch) for r in ranges]
