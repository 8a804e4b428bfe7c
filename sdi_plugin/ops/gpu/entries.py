"""What a call on a GPU is, and how its targets are divided: entries, chunks of them, tiles.

An entry is a target level, or a slab of its planes; the entries of a chunk share their launches and the workspace.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch

ALIGNED = 64  # elements, in which the offsets of a workspace are counted
LEAST_CHUNK, MULTIPLE = 1 << 26, 3  # bytes of resized maps, or so many times the levels': what a chunk may hold
# Planes, rows and columns of a tile, by its pixels, in 2-D and in 3-D.
_SHAPES = {
    256: ((1, 16, 16), (4, 8, 8)),
    128: ((1, 8, 16), (2, 8, 8)),
    64: ((1, 8, 8), (1, 8, 8)),
    32: ((1, 4, 8), (1, 4, 8)),
}
_REGISTERS = 170  # for what a program of `multiply_backward` holds, per thread: with more, some GPU spills

Size = tuple[int, ...]


class Tile(NamedTuple):
    """Of a program of `multiply` or `multiply_backward`: its pixels, its warps, and the steps whose loads overlap."""

    pixels: int
    warps: int
    stages: int


class Request(NamedTuple):
    """All that a schedule depends on.

    sizes: the levels', with 2 or 3 axes. last: they are (B, *S, C) in memory. in_place: a level of a target's size is
    read where it is, not from a copy.
    """

    sizes: tuple[tuple[int, ...], ...]
    targets: tuple[int, ...]
    images: int
    channels: int
    out_channels: int
    dtype: torch.dtype  # of the maps inside; sums are in float32, or float64
    last: bool
    in_place: bool
    bound: float  # of the fusion's asinh, or 0
    precision: str  # of a product of float32: "ieee" or "tf32"
    strides: tuple[int, int, int]  # of the weights: output and input channel, tap
    interpreted: bool
    forward: Tile | None = None  # of `multiply`, instead of the one that fits the registers
    backward: Tile | None = None  # of `multiply_backward`


class Entry(NamedTuple):
    target: int  # index in Request.targets
    level: int
    size: tuple[int, int, int]
    first: int  # plane
    planes: int


def ceil(a: int, b: int) -> int:
    return -(-a // b)


def _padded(channels: int) -> tuple[int, int]:
    """Channels, and their block: a power of two from 16, the least that a matrix instruction takes, to 64."""
    block = min(64, max(16, 1 << (channels - 1).bit_length()))
    divisor = channels & -channels
    if 16 <= divisor < block:
        block = divisor  # divides the channels: no masks
    return ceil(channels, block) * block, block


class Geometry:
    """The sizes that all launches of a call share, and their tiles."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.dim = len(request.sizes[0])
        self.halo = self.dim - 2
        self.taps = 3**self.dim
        self.levels: list[Any] = [(*(1,) * (3 - self.dim), *size) for size in request.sizes]  # with 3 axes
        self.length = len(request.sizes)
        self.terms = self.length * len(request.targets)
        self.k, self.block_k = _padded(request.channels)
        self.n, self.block_n = _padded(request.out_channels)
        self.weight_block = min(32, self.block_k, self.block_n)
        self.weight_blocks = (self.k // self.weight_block) * (self.n // self.weight_block)
        self.item = request.dtype.itemsize
        self.sum_item = max(4, self.item)
        self.map_tile = self._tile(0)  # of the maps' gradients
        self.tile = request.forward or self.map_tile
        self.backward_tile = request.backward or self._tile(2 * self.length)

    def _tile(self, held: int) -> Tile:
        """The largest for which the maps' values that a program holds fit the registers."""
        stages = 3 if self.item <= 4 else 1
        if self.request.interpreted:
            return Tile(256, 4, stages)
        for pixels, warps in ((128, 4), (64, 4), (64, 8), (32, 8)):
            registers = (self.sum_item * 2 + held * self.item) * pixels * self.block_n // (128 * warps)
            if registers <= _REGISTERS and pixels * self.block_n <= 4096:
                break
        return Tile(pixels, warps, stages)

    def shape(self, tile: Tile) -> tuple[int, int, int]:
        """Of a tile's pixels: planes, rows and columns."""
        return _SHAPES[tile.pixels][self.dim - 2]

    def pixels(self, entry: Entry) -> int:
        return self.request.images * entry.planes * math.prod(entry.size[1:])

    def tiles(self, entry: Entry, planes: int, tile: Tile) -> int:
        shape = (planes, *entry.size[1:])
        return self.request.images * math.prod(ceil(s, t) for s, t in zip(shape, self.shape(tile), strict=True))

    def chunks(self) -> Iterator[list[Entry]]:
        """The entries of each chunk."""
        request, per_pixel = self.request, (self.length - 1) * self.request.images * self.request.channels * self.item
        levels = request.images * request.channels * self.item * sum(map(math.prod, self.levels))
        budget = max(LEAST_CHUNK, MULTIPLE * levels)
        chunk, used = [], 0
        for target, level in enumerate(request.targets):
            depth, height, width = size = self.levels[level]
            slabs = min(depth, max(1, ceil(per_pixel * math.prod(size), budget)))
            for i in range(slabs):
                first, last = depth * i // slabs, depth * (i + 1) // slabs
                needed = per_pixel * (last - first + 2 * self.halo) * height * width
                if chunk and used + needed > budget:
                    yield chunk
                    chunk, used = [], 0
                chunk.append(Entry(target, level, size, first, last - first))
                used += needed
        yield chunk


def is_narrow(source: Size, target: Size) -> bool:
    """Whether `resize` has no window wider than two: it interpolates every axis, or halves some."""
    pairs = list(zip(source, target, strict=True))
    return all(s <= t for s, t in pairs) or all(s in (t, 2 * t) for s, t in pairs)


def is_nested(source: Size, target: Size) -> bool:
    return all(s % t == 0 for s, t in zip(source, target, strict=True))


def encoded(values: Iterable[int]) -> tuple[int, ...]:
    """Integers of a tuple, as the kernels read them (`number` in fields.py).

    Triton would compile a kernel anew for those that are one, or multiples of 16: these never are.
    """
    return tuple(16 * value + 8 for value in values)


def starts(counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(accumulate(counts, initial=0))[:-1]
