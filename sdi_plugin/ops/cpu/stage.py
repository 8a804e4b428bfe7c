"""What the C++ kernel needs besides the tensors, in the structures of csrc/stage.h, made once per set of shapes."""

import ctypes
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops import bands, plan, reference
from sdi_plugin.ops.cache import bounded

# Multiply-adds of the interpolation are memory-bound: each costs about as much as four of a matrix product.
_STREAM_COST = 4.0
# F(2x2, 3x3) needs 16 products instead of 36, plus its transforms. Used from this map size on (csrc/winograd.h).
_WINOGRAD_COST, _WINOGRAD_PIXELS = 0.55, 256
# The least work of a unit, which one thread does: rows of an image, planes of a volume.
_UNIT_ROWS, _UNIT_PLANES = 22, 4
# Sizes of the caches: for the plans, and for the axis tables that they share.
_PLAN_BYTES, _TABLE_BYTES = 1 << 26, 1 << 24
_OVERHEAD = 2048  # bytes, roughly, of the Python and torch objects of a table or an array
# Each unit has its own gradients of all weights: more units cost memory, and this many keep a machine busy.
_MOST_UNITS = 64


def _direct_cost(target: Sequence[int], channels: int) -> float:
    """C per tap, reduced by Winograd where it applies, plus the interpolation of the map."""
    dense = _WINOGRAD_COST if min(target[-2:]) > 1 and math.prod(target) >= _WINOGRAD_PIXELS else 1
    return 3 ** len(target) * channels * dense + _STREAM_COST * 2 ** len(target)


COSTS = plan.Costs(_STREAM_COST, _direct_cost)


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


class Stage(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "in_channels", "out_channels", "depth_taps")),
        *((name, ctypes.c_int64) for name in ("levels", "map_count", "target_count")),
        *((name, ctypes.c_void_p) for name in ("maps", "targets")),
        ("bound", ctypes.c_double),
    )


class Table(NamedTuple):
    """The bands of one axis as the kernel reads them, and those of its adjoint."""

    axis: _Axis
    back: _Axis
    kept: list[Tensor]  # the memory that both point to

    @property
    def nbytes(self) -> int:
        return _OVERHEAD + sum(t.nbytes for t in self.kept)


class Plan(NamedTuple):
    stage: Stage
    kept: list[Any]  # the memory that the stage points to: hold the plan for as long as the kernel runs
    nbytes: int


@bounded(_TABLE_BYTES)
def axis_table(source: int, target: int, dtype: torch.dtype) -> Table:
    matrix, axes, kept = bands.resize(source, target, dtype), [], []
    for first, count, weights in (matrix.bands(), matrix.adjoint().bands()):
        tensors = first.int(), count.int(), weights
        axes.append(_Axis(*[t.data_ptr() for t in tensors], weights.shape[1]))  # pyright: ignore[reportCallIssue]
        kept += tensors
    return Table(axes[0], axes[1], kept)


@bounded(_PLAN_BYTES)
def stage_plan(
    batch: int,
    sizes: tuple[tuple[int, ...], ...],
    targets: tuple[int, ...],
    out_channels: int,
    in_channels: int,
    dtype: torch.dtype,
    fusion: str,
) -> Plan:
    kept: list[Any] = []
    depth_taps = 3 if len(sizes[0]) == 3 else 1

    nbytes = 0

    def array(kind: Any, items: Sequence[Any]) -> int:
        nonlocal nbytes
        kept.append((kind * len(items))(*items))
        nbytes += _OVERHEAD + ctypes.sizeof(kept[-1])
        return ctypes.addressof(kept[-1])

    def axes(source: Sequence[int], target: Sequence[int]) -> tuple[list[_Axis], list[_Axis]]:
        nonlocal nbytes
        tables = [axis_table(s, t, dtype) for s, t in zip(_3d(source), _3d(target), strict=True)]
        kept.extend(tables)
        nbytes += sum(table.nbytes for table in tables)
        return [table.axis for table in tables], [table.back for table in tables]

    planned = plan.make(sizes, targets, in_channels, COSTS)
    described = []
    for target, planned_terms in zip(targets, planned.targets, strict=True):
        size, terms = sizes[target], []
        for term in planned_terms:
            interpolation = [_Axis()] * 4
            if term.by_taps:
                forth, back = axes(planned.maps[term.map].size, size)
                interpolation = [*forth, back[2]]
            terms.append(_Term(term.map, term.by_taps, *interpolation))
        units = [_Unit(*unit) for unit in _units(batch, _3d(size), depth_taps)]
        pointers = array(_Term, terms), array(_Unit, units)
        described.append(_Target(*_3d(size), *pointers, len(units)))
    maps = []
    for size, source in planned.maps:
        forth, back = axes(size if source is None else planned.maps[source].size, size)
        maps.append(_Map(-1 if source is None else source, *_3d(size), *forth, *back))
    counts = len(sizes), len(maps), len(targets)
    pointers = array(_Map, maps), array(_Target, described)
    bound = reference.FUSIONS[fusion]
    return Plan(Stage(batch, in_channels, out_channels, depth_taps, *counts, *pointers, bound), kept, nbytes)


def _3d(size: Sequence[int]) -> tuple[int, ...]:
    return (*[1] * (3 - len(size)), *size)


def _units(batch: int, size: Sequence[int], depth_taps: int) -> list[tuple[int, ...]]:
    """Split a target, depending only on its shape, into (image, first plane, last + 1, first row, last + 1)."""
    depth, height, _ = size
    axis, least = (depth, _UNIT_PLANES) if depth_taps == 3 else (height, _UNIT_ROWS)
    step = max(least, -(-axis * batch // _MOST_UNITS))
    step = -(-axis // -(-axis // step)) if axis else step  # even shares
    step += step % 2  # Winograd computes rows in pairs
    ranges = [(begin, min(axis, begin + step)) for begin in range(0, axis, step)]
    return [(image, *r, 0, height) if depth_taps == 3 else (image, 0, 1, *r) for image in range(batch) for r in ranges]
