"""What a call launches, from its shapes alone: entries, grids, workspaces, and what each launch moves and computes.

A call's maps are resized to its targets' sizes, entry by entry; then one launch convolves and multiplies them all.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sdi_plugin.ops.gpu.chunk import PIXELS, TAPS, Chunk, Launch, Launches
from sdi_plugin.ops.gpu.entries import Geometry, Request, ceil, encoded, starts

_PROGRAMS = 1024  # for the weights' gradients: about eight on each multiprocessor of a large GPU


class Schedule(NamedTuple):
    pack: Launch
    chunks: tuple[Chunk, ...]
    reduce: Launch
    kernels: tuple[int, ...]  # shape of the packed weights
    biases: tuple[int, int]
    sums: tuple[int, ...]  # of the terms' gradients, by tile
    parts: tuple[int, ...]  # of the weights' gradients, by chunk of pixels

    @property
    def forward(self) -> tuple[Launch, ...]:
        return (self.pack, *(launch for chunk in self.chunks for launch in chunk.forward))

    @property
    def backward(self) -> tuple[Launch, ...]:
        return (self.pack, *(launch for chunk in self.chunks for launch in chunk.backward), self.reduce)


@lru_cache(maxsize=256)
def make(request: Request) -> Schedule:
    geometry = Geometry(request)
    groups = list(geometry.chunks())
    work = sum(geometry.pixels(entry) for group in groups for entry in group)
    work = work * geometry.length * geometry.taps // TAPS * geometry.weight_blocks
    part_pixels = ceil(max(work // _PROGRAMS, 4 * PIXELS), PIXELS) * PIXELS
    chunks: list[Chunk] = []
    tile = part = 0
    for group in groups:
        chunks.append(Launches(geometry, group, tile, part, part_pixels).chunk())
        tile += sum(geometry.tiles(entry, entry.planes, geometry.backward_tile) for entry in group)
        part += sum(ceil(geometry.pixels(entry), part_pixels) for entry in group)
    shape = (geometry.taps, geometry.k, geometry.n)
    return Schedule(
        _pack(geometry),
        tuple(chunks),
        _reduce(geometry, chunks, part, part_pixels),
        (geometry.terms, *shape),
        (geometry.terms, geometry.n),
        (tile, geometry.length, geometry.n),
        (part, geometry.length, *shape),
    )


def _weights(geometry: Geometry) -> tuple[dict[str, int], int]:
    """The sizes and strides of the weights, and their bytes."""
    request, (o, i, tap) = geometry.request, geometry.request.strides
    arguments = {"STRIDE_O": o, "STRIDE_I": i, "STRIDE_TAP": tap, "CO": request.out_channels, "C": request.channels}
    arguments |= {"TAPS": geometry.taps, "K": geometry.k, "N": geometry.n}
    return arguments, geometry.terms * geometry.taps * request.channels * request.out_channels * geometry.item


def _pack(geometry: Geometry) -> Launch:
    arguments, raw = _weights(geometry)
    block = min(geometry.block_k, geometry.block_n)
    arguments |= {"TERMS": geometry.terms, "BLOCK": block}
    packed = geometry.terms * geometry.taps * geometry.k * geometry.n * geometry.item
    return Launch(
        "pack",
        (geometry.terms, geometry.taps, geometry.n // block),
        {**arguments, "PRECISION": geometry.request.precision},
        raw + packed,
    )


def _reduce(geometry: Geometry, chunks: Sequence[Chunk], parts: int, part_pixels: int) -> Launch:
    arguments, raw = _weights(geometry)
    part_ranges, tile_ranges = _ranges(geometry, chunks, part_pixels)
    arguments |= {"L": geometry.length, "TARGETS": len(geometry.request.targets)}
    arguments |= {"BLOCK_K": geometry.block_k, "BLOCK_N": geometry.block_n}
    arguments["ROWS"] = 16 if geometry.request.interpreted else 128
    blocks = (geometry.k // geometry.block_k) * (geometry.n // geometry.block_n)
    return Launch(
        "reduce",
        (geometry.terms, geometry.taps + 1, blocks),
        {**arguments, "parts": encoded(part_ranges), "tiles": encoded(tile_ranges)},
        parts * geometry.length * geometry.taps * geometry.k * geometry.n * geometry.sum_item + raw,
    )


def _ranges(geometry: Geometry, chunks: Sequence[Chunk], part_pixels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each target, its first part and the one after its last; the same for its tiles."""
    parts, tiles = [0] * len(geometry.request.targets), [0] * len(geometry.request.targets)
    for chunk in chunks:
        for entry in chunk.entries:
            parts[entry.target] += ceil(geometry.pixels(entry), part_pixels)
            tiles[entry.target] += geometry.tiles(entry, entry.planes, geometry.backward_tile)
    ranges = []
    for counts in (parts, tiles):
        firsts = starts(counts)
        ranges.append(tuple(n for first, count in zip(firsts, counts, strict=True) for n in (first, first + count)))
    return ranges[0], ranges[1]
