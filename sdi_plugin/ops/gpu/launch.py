"""Launches the kernels in `multiply` and `resample`: grids, tiles, tables. Maps are (images, *S, C), contiguous."""

from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops.gpu import tables

_THREADS = 128
_ELEMENTS = 512  # per row of a tile: four per thread, a 16-byte load of float32
_ROWS = 2  # per tile, which reads each row of a coarser level once for all of its rows; with four, registers spill
JOBS = 4  # at most, per launch of `resample`: the kernel has separate code for each


class Taps(NamedTuple):
    """A term whose channels have been mixed: G (images, h, w, 3, 3, C), with the target plane's size."""

    products: Tensor
    size: tuple[int, int]


class Slab(NamedTuple):
    """Planes [begin, end) of every image in maps (B, depth, H, W, C); in 2-D, depth is 1 and the slab is everything."""

    begin: int
    end: int
    depth: int


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The kernels by name. Imported on the first call, because importing triton takes longer than the whole package."""
    from sdi_plugin.ops.gpu.multiply import multiply, multiply_backward
    from sdi_plugin.ops.gpu.resample import resample

    return SimpleNamespace(multiply=multiply, multiply_backward=multiply_backward, resample=resample)


def options(kernel: str, *, amd: bool = torch.version.hip is not None) -> dict[str, int]:
    """Compiler options. AMD's warps have 64 threads. On NVIDIA `resample` gets 64 registers: ptxas otherwise spills."""
    registers = {"maxnreg": 64} if kernel == "resample" and not amd else {}
    return {"num_warps": _THREADS // (64 if amd else 32), "num_stages": 1, **registers}


def channel_block(channels: int) -> int:
    """CHANNELS: a power of two up to 64.

    The largest that divides the channels, so that no mask is needed; if that is below 16, the next one above them.
    """
    divisor = min(64, channels & -channels)
    return divisor if divisor >= 16 else min(64, 1 << (channels - 1).bit_length())


def tile(channels: int, width: int, device: torch.device) -> tuple[int, int, int]:
    """ROWS, COLUMNS and CHANNELS per program of `multiply` and `multiply_backward`."""
    block = channel_block(channels)
    if device.type == "cpu":  # the interpreter's cost is per operation, whatever its size
        return 16, min(64, 1 << (width - 1).bit_length()), block
    return _ROWS, max(4, min(64, _ELEMENTS // block)), block


def pixels(block: int, device: torch.device) -> int:
    """PIXELS per program of `resample`, for its block of channels."""
    return 1024 if device.type == "cpu" else max(4, _ELEMENTS // block)


def resample(
    jobs: Sequence[tuple[Tensor, Tensor, tables.Resampling]],
    channels: int,
    *,
    taps: int = 1,
    sum_taps: bool = False,
    accumulate: bool = False,
) -> None:
    """Run jobs (x, out, resampling), all with the same dtypes. accumulate: add to out (with sum_taps)."""
    for first in range(0, len(jobs), JOBS):
        xs, outs, plans = zip(*jobs[first : first + JOBS], strict=True)
        block = channel_block(channels)
        size = pixels(block, xs[0].device)
        kernels().resample[(_blocks(max(p.pixels for p in plans), size), _blocks(channels, block), len(xs))](
            xs,
            outs,
            tuple(p.starts for p in plans),
            tuple(p.weights for p in plans),
            C=channels,
            JOBS=len(xs),
            TAPS=taps,
            SUM_TAPS=sum_taps,
            ACCUMULATE=accumulate,
            ACC=_accumulator(plans[0].weights),
            PIXELS=size,
            CHANNELS=block,
            **options("resample"),
        )


def multiply(
    out: Tensor, dense: Sequence[Tensor], taps: Sequence[Taps], biases: Tensor, slab: Slab, bound: float
) -> None:
    """out and dense: (B, [D,] H, W, C); biases: (terms, C), the dense terms first, in the accumulator's dtype.

    bound: the scale of the product's asinh, or 0.
    """
    lows, weights = _tables(taps, biases)
    grid, arguments = _launch(out, len(dense), len(taps), biases, slab, bound)
    products = tuple(t.products for t in taps)
    kernels().multiply[grid](out, tuple(dense), products, lows, weights, biases, **arguments)


def multiply_backward(
    grad: Tensor,
    dense: Sequence[Tensor],
    taps: Sequence[Taps],
    biases: Tensor,
    dense_grads: Sequence[Tensor],
    slab: Slab,
    bound: float,
) -> tuple[list[Tensor], Tensor]:
    """Write dense_grads. Return the gradients of the taps terms at the target's size, and of the biases (terms, C)."""
    lows, weights = _tables(taps, biases)
    grid, arguments = _launch(grad, len(dense), len(taps), biases, slab, bound)
    height, width, channels = grad.shape[-3:]
    term_grads = [t.products.new_empty(grid[1], height, width, channels) for t in taps]
    sums = biases.new_empty(grid[0] * grid[1], *biases.shape)
    products = tuple(t.products for t in taps)
    kernels().multiply_backward[grid](
        grad,
        tuple(dense),
        products,
        lows,
        weights,
        biases,
        tuple(dense_grads),
        tuple(term_grads),
        sums,
        **arguments,
    )
    return term_grads, sums.sum(0)


def taps_adjoint(term_grads: Sequence[Tensor], taps: Sequence[Taps], accumulator: torch.dtype) -> list[Tensor]:
    """The gradient of each G, (images, h, w, 9 * C), from those of the terms: first the columns, then the rows."""
    grads, height = list(term_grads), term_grads[0].shape[1] if term_grads else 0
    channels = term_grads[0].shape[-1] if term_grads else 0
    for step, axis in enumerate((1, 0)):
        jobs = []
        for grad, t in zip(grads, taps, strict=True):
            images, h, w = t.products.shape[:3]
            adjoint = tables.Axis((h, w)[axis], t.size[axis], taps=True, adjoint=True)
            other = tables.Axis(height, height) if axis else tables.Axis(w, w)
            axes = (tables.Axis(1, 1), other, adjoint) if axis else (tables.Axis(1, 1), adjoint, other)
            dtype = accumulator if axis else t.products.dtype
            out = grad.new_empty(images, *axes[1].sizes()[1:], axes[2].sizes()[1], 3, channels * 3**step, dtype=dtype)
            jobs.append((grad, out, tables.resampling(images, axes, accumulator, grad.device)))
        resample(jobs, channels * 3**step, taps=3)
        grads = [out for _, out, _ in jobs]
    return [grad.flatten(3) for grad in grads]


def _launch(
    like: Tensor, dense: int, taps: int, biases: Tensor, slab: Slab, bound: float
) -> tuple[tuple[int, int, int], dict[str, Any]]:
    height, width, channels = like.shape[-3:]
    rows, columns, block = tile(channels, width, like.device)
    planes = slab.end - slab.begin
    grid = (_blocks(height, rows) * _blocks(width, columns), like.shape[0] * planes, _blocks(channels, block))
    constants = {
        "C": channels,
        "DENSE": dense,
        "TAPS": taps,
        "PADDING": tables.PADDING,
        "BOUND": bound,
        "ACC": _accumulator(biases),
    }
    tiles = {"ROWS": rows, "COLUMNS": columns, "CHANNELS": block}
    sizes = {"D": slab.depth, "H": height, "W": width, "z": slab.begin, "planes": planes}
    return grid, {**sizes, **constants, **tiles, **options("multiply")}


def _tables(taps: Sequence[Taps], biases: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    found = [
        tables.upsampling((t.products.shape[1], t.products.shape[2]), t.size, biases.dtype, biases.device) for t in taps
    ]
    return tuple(t.lows for t in found), tuple(t.weights for t in found)


def _accumulator(tensor: Tensor) -> Any:
    from triton import language as tl

    return tl.float64 if tensor.dtype == torch.float64 else tl.float32


def _blocks(size: int, block: int) -> int:
    return -(-size // block)
