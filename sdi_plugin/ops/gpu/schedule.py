"""What a call launches, from its shapes alone: entries, grids, workspaces, and what each launch moves and computes.

A call's maps are resized to its targets' sizes, entry by entry; then one launch convolves and multiplies them all. An
entry is a target level, or a slab of its planes; the entries of a chunk share their launches and the workspace.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch

ALIGNED = 64  # elements, in which the offsets of a workspace are counted
_LEAST_CHUNK, _MULTIPLE = 1 << 26, 3  # bytes of resized maps, or so many times the levels': what a chunk may hold
_PROGRAMS = 1024  # for the weights' gradients: about eight on each multiprocessor of a large GPU
_PIXELS = 64  # a step of their sums
_TAPS = 3  # of a program
_REGISTERS = 170  # for what a program of `multiply_backward` holds, per thread: with more, some GPU spills


Size = tuple[int, ...]


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


class Entry(NamedTuple):
    target: int  # index in Request.targets
    level: int
    size: tuple[int, int, int]
    first: int  # plane
    planes: int


@dataclass(frozen=True)
class Launch:
    """A kernel, and all of its arguments but the tensors. moved: each byte read or written once; flops: of products."""

    kernel: str
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    moved: int
    flops: int = 0
    prepared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)  # launch.py's, filled as it runs


class Chunk(NamedTuple):
    """Entries that share their launches. resized, terms, map_grads and depth: the elements of their workspaces."""

    entries: tuple[Entry, ...]
    resized: int
    terms: int
    map_grads: int
    depth: int
    first_tile: int
    resize: Launch
    multiply: Launch
    multiply_backward: Launch
    gradients: dict[tuple[bool, bool], Launch]  # by whether those of the maps, and those of the weights, are needed
    along_depth: tuple[Launch, ...]  # one or none
    adjoint: Launch

    @property
    def forward(self) -> tuple[Launch, ...]:
        return self.resize, self.multiply

    @property
    def backward(self) -> tuple[Launch, ...]:
        return self.resize, self.multiply_backward, self.gradients[True, True], *self.along_depth, self.adjoint


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


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _padded(channels: int) -> tuple[int, int]:
    """Channels, and their block: a power of two from 16, the least that a matrix instruction takes, to 64."""
    block = min(64, max(16, 1 << (channels - 1).bit_length()))
    divisor = channels & -channels
    if 16 <= divisor < block:
        block = divisor  # divides the channels: no masks
    return _ceil(channels, block) * block, block


class _Builder:
    def __init__(self, request: Request):
        self.request = request
        self.dim = len(request.sizes[0])
        self.halo = self.dim - 2
        self.taps = 3**self.dim
        self.levels: list[Any] = [(*(1,) * (3 - self.dim), *size) for size in request.sizes]  # with 3 axes
        self.length = len(request.sizes)
        self.k, self.block_k = _padded(request.channels)
        self.n, self.block_n = _padded(request.out_channels)
        self.weight_block = min(32, self.block_k, self.block_n)
        self.weight_blocks = (self.k // self.weight_block) * (self.n // self.weight_block)
        self.item = request.dtype.itemsize
        self.sum_item = max(4, self.item)
        self.tile, self.warps = self._tile(0)
        self.backward_tile, self.backward_warps = self._tile(2 * self.length)

    def _tile(self, held: int) -> tuple[tuple[int, int, int], int]:
        """Pixels of a program, and its warps, so that the maps' values that it holds fit the registers."""
        if self.request.interpreted:
            return ((4, 8, 8) if self.dim == 3 else (1, 16, 16)), 4
        shapes = {128: ((1, 8, 16), (2, 8, 8)), 64: ((1, 8, 8), (1, 8, 8)), 32: ((1, 4, 8), (1, 4, 8))}
        for pixels, warps in ((128, 4), (64, 4), (64, 8), (32, 8)):
            registers = (self.sum_item * 2 + held * self.item) * pixels * self.block_n // (128 * warps)
            if registers <= _REGISTERS and pixels * self.block_n <= 4096:
                break
        return shapes[pixels][self.dim - 2], warps

    def entries(self) -> Iterator[list[Entry]]:
        """The entries of each chunk."""
        request, per_pixel = self.request, (self.length - 1) * self.request.images * self.request.channels * self.item
        levels = request.images * request.channels * self.item * sum(map(math.prod, self.levels))
        budget = max(_LEAST_CHUNK, _MULTIPLE * levels)
        chunk, used = [], 0
        for target, level in enumerate(request.targets):
            depth, height, width = size = self.levels[level]
            slabs = min(depth, max(1, _ceil(per_pixel * math.prod(size), budget)))
            for i in range(slabs):
                first, last = depth * i // slabs, depth * (i + 1) // slabs
                needed = per_pixel * (last - first + 2 * self.halo) * height * width
                if chunk and used + needed > budget:
                    yield chunk
                    chunk, used = [], 0
                chunk.append(Entry(target, level, size, first, last - first))
                used += needed
        yield chunk

    def _tiles(self, entry: Entry, planes: int, tile: tuple[int, int, int]) -> int:
        shape = (planes, *entry.size[1:])
        return self.request.images * math.prod(_ceil(s, t) for s, t in zip(shape, tile, strict=True))

    def _fields(self, entries: Sequence[Entry]) -> tuple[tuple[int, ...], int, int, int]:
        fields: list[int] = []
        resized = terms = map_grads = 0
        request = self.request
        for entry in entries:
            own = entry.level if request.in_place else -1
            row = entry.target * self.length
            bases = resized // ALIGNED, terms // ALIGNED, map_grads // ALIGNED
            fields += (*entry.size, entry.first, entry.planes, own, row, *bases)
            area = request.images * math.prod(entry.size[1:])
            halo = area * (entry.planes + 2 * self.halo)
            resized += _round(halo * request.channels * (self.length - request.in_place))
            terms += _round(area * entry.planes * request.out_channels * self.length)
            map_grads += _round(halo * request.channels * self.length)
        return encoded(fields), resized, terms, map_grads

    def chunk(
        self, entries: list[Entry], first_tile: int, first_part: int, chunk_pixels: int, is_first: bool
    ) -> tuple[Chunk, int, int]:
        request, item, images = self.request, self.item, self.request.images
        fields, resized, terms, map_grads = self._fields(entries)
        own = [images * entry.planes * math.prod(entry.size[1:]) for entry in entries]  # pixels
        shared = {"images": images, "entries": fields, "E": len(entries), "L": self.length, "HALO": self.halo}
        channels = {"C": request.channels, "CO": request.out_channels, "K": self.k, "N": self.n}
        channels |= {"BLOCK_K": self.block_k, "BLOCK_N": self.block_n}
        precision = {"DIM": self.dim, "PRECISION": request.precision, "taps": self.taps}
        levels = sum(map(math.prod, self.levels)) * images * request.channels * item
        maps = resized * item + (sum(own) * request.channels * item if request.in_place else 0)
        weights = self.length * len(request.targets) * self.taps * self.k * self.n * item
        multiplies = sum(own) * self.length * self.taps * request.channels * request.out_channels
        results = sum(own) * request.out_channels * item

        gather = {"levels": encoded(axis for level in self.levels for axis in level), **self._pixels()}
        gather |= {"C": request.channels, "CHANNELS": self.block_k}
        few = gather.pop("FEW")
        counts = self._resize_blocks(entries)
        resize = Launch(
            "resize",
            (sum(counts), self.k // self.block_k),
            {**shared, **gather, "starts": encoded(_starts(counts)), "LAST": request.last}
            | {"PRECISION": request.precision},
            levels + resized * item,
        )
        multiply, backward = (
            self._multiply(name, entries, tile, warps, {**shared, **channels, **precision}, moved, multiplies)
            for name, tile, warps, moved in (
                ("multiply", self.tile, self.warps, maps + weights + results),
                ("multiply_backward", self.backward_tile, self.backward_warps, maps + weights + results + terms * item),
            )
        )
        map_tiles = [self.length * self._tiles(entry, entry.planes + 2 * self.halo, self.tile) for entry in entries]
        parts = [_ceil(pixels, chunk_pixels) for pixels in own]
        weight_programs = [self.taps // _TAPS * self.length * count for count in parts]
        weight_starts = _starts(weight_programs)
        split = sum(map_tiles) * (self.k // self.block_k)
        tz, ty, tx = self.tile
        partial = sum(parts) * self.length * self.taps * self.k * self.n * self.sum_item
        weight_programs = sum(weight_programs) * self.weight_blocks
        gradients = {
            (needs_maps, needs_weights): Launch(
                "gradients",
                (needs_maps * split + needs_weights * weight_programs,),
                {**shared, **channels, **precision, "split": needs_maps * split, "chunk": chunk_pixels}
                | {"map_starts": encoded(_starts(map_tiles)), "weight_starts": encoded(weight_starts)}
                | {"parts": encoded(first_part + start for start in _starts(parts)), "TZ": tz, "TY": ty, "TX": tx}
                | {
                    "BLOCK": self.weight_block,
                    "TAPS": _TAPS,
                    "PIXELS": _PIXELS if self.block_n * self.item < 256 else _PIXELS // 2,
                    "num_warps": self.warps,
                }
                | {"STAGES": self._stages(), "WEIGHT_STAGES": self._weight_stages()},
                terms * item + needs_maps * (weights + map_grads * item) + needs_weights * (maps + partial),
                2 * multiplies * (needs_maps + needs_weights),
            )
            for needs_maps, needs_weights in ((True, True), (True, False), (False, True))
        }
        kinds = [adjoint_kind(level, [entry.size for entry in entries]) for level in self.levels]
        if self.dim == 2 and not request.interpreted:  # it holds more than `resize`
            gather["NARROW"] //= 2
            gather["PIXELS"] = max(1, gather["PIXELS"] // (4 if self.block_k == 64 else 2))
        narrow = gather["NARROW"]
        per_block = (narrow, few, gather["PIXELS"], gather["PIXELS"])
        counts = [
            images * level[0] * _ceil(level[1] * level[2], per_block[kind])
            for level, kind in zip(self.levels, kinds, strict=True)
        ]
        depth_blocks, offsets, depth = self._depth_jobs(entries, kinds, narrow)
        jobs = {"offsets": encoded(offsets)}
        along_depth = Launch(
            "resize_adjoint_depth",
            (sum(depth_blocks), self.k // self.block_k),
            {key: value for key, value in {**shared, **gather, **jobs}.items() if key not in ("HALO", "PIXELS", "ROWS")}
            | {"starts": encoded(_starts(depth_blocks))},
            self._finer(entries, kinds) * item + depth * self.sum_item,
        )
        adjoint = Launch(
            "resize_adjoint",
            (sum(counts), self.k // self.block_k),
            {**shared, **gather, **jobs, "count": len(entries), "starts": encoded(_starts(counts))}
            | {"kinds": encoded(kinds), "ADD": not is_first, "FEW": few},
            (map_grads - self._finer(entries, kinds)) * item + depth * self.sum_item + levels,
        )
        made = Chunk(
            tuple(entries),
            resized,
            terms,
            map_grads,
            depth,
            first_tile,
            resize,
            multiply,
            backward,
            gradients,
            (along_depth,) if any(depth_blocks) else (),
            adjoint,
        )
        tiles = sum(self._tiles(entry, entry.planes, self.backward_tile) for entry in entries)
        return made, tiles, sum(parts)

    def _multiply(
        self,
        name: str,
        entries: Sequence[Entry],
        tile: tuple[int, int, int],
        warps: int,
        arguments: dict[str, Any],
        moved: int,
        multiplies: int,
    ) -> Launch:
        tiles = [self._tiles(entry, entry.planes, tile) for entry in entries]
        tz, ty, tx = tile
        arguments |= {"starts": encoded(_starts(tiles)), "TZ": tz, "TY": ty, "TX": tx, "BOUND": self.request.bound}
        arguments |= {"STAGES": self._stages(), "num_warps": warps}
        return Launch(name, (sum(tiles), self.n // self.block_n), arguments, moved, 2 * multiplies)

    def _stages(self) -> int:
        return 3 if self.item <= 4 else 1

    def _weight_stages(self) -> int:
        return 3 if self.item <= 2 else 2 if self.item <= 4 else 1

    def _pixels(self) -> dict[str, int]:
        """A block of `resize` and its adjoint: see there. FEW: pixels with two rows each."""
        if self.request.interpreted:
            return {"NARROW": 256, "FEW": 64, "PIXELS": 64, "ROWS": 4}
        unit = Fraction(64, self.block_k * min(self.item, 4))  # 1 for 32 channels in half precision
        if self.dim == 3:
            return {"NARROW": int(64 * unit), "FEW": int(16 * unit), "PIXELS": 1, "ROWS": 32}
        return {"NARROW": int(128 * unit), "FEW": int(16 * unit), "PIXELS": int(8 * unit), "ROWS": 8}

    def _depth_jobs(
        self, entries: Sequence[Entry], kinds: Sequence[int], narrow: int
    ) -> tuple[list[int], list[int], int]:
        """The blocks of `resize_adjoint_depth` and where each result begins, by entry and level; and all elements."""
        blocks, offsets, total = [], [], 0
        for entry in entries:
            area = entry.size[1] * entry.size[2]
            for level, kind in zip(self.levels, kinds, strict=True):
                is_job = self.dim == 3 and kind in (1, 2) and not is_nested(level, entry.size)
                blocks.append(self.request.images * level[0] * _ceil(area, narrow) if is_job else 0)
                offsets.append(total // ALIGNED)
                total += _round(self.request.images * level[0] * area * self.request.channels) if is_job else 0
        return blocks, offsets, total

    def _finer(self, entries: Sequence[Entry], kinds: Sequence[int]) -> int:
        """The elements that `resize_adjoint_depth` reads."""
        return sum(
            self.request.images * (entry.planes + 2) * entry.size[1] * entry.size[2] * self.request.channels
            for entry in entries
            for level, kind in zip(self.levels, kinds, strict=True)
            if self.dim == 3 and kind in (1, 2) and not is_nested(level, entry.size)
        )

    def _resize_blocks(self, entries: Sequence[Entry]) -> list[int]:
        """The blocks of each job; a level that is read in place has none."""
        counts = []
        for entry in entries:
            planes = self.request.images * (entry.planes + 2 * self.halo)
            for j, level in enumerate(self.levels):
                pixels = self._pixels()["NARROW" if is_narrow(level, entry.size) else "PIXELS"]
                is_job = not (self.request.in_place and j == entry.level)
                counts.append(planes * _ceil(entry.size[1] * entry.size[2], pixels) if is_job else 0)
        return counts


def is_narrow(source: Size, target: Size) -> bool:
    """Whether `resize` has no window wider than two: it interpolates every axis, or halves some."""
    pairs = list(zip(source, target, strict=True))
    return all(s <= t for s, t in pairs) or all(s in (t, 2 * t) for s, t in pairs)


def is_nested(source: Size, target: Size) -> bool:
    return all(s % t == 0 for s, t in zip(source, target, strict=True))


def adjoint_kind(level: Size, entries: Sequence[Size]) -> int:
    """How `resize_adjoint` sums a level's gradient: see `kinds` there."""
    pairs = [list(zip(level, entry, strict=True)) for entry in entries]
    nested = [is_nested(level, entry) for entry in entries]
    if all(nested):
        return 0
    linear = [all(s <= t for s, t in pair) for pair in pairs]
    if not all(a or b for a, b in zip(nested, linear, strict=True)):
        return 3
    widest = max(t if s == 1 else _ceil(2 * (t - 1), s - 1) for pair in pairs for s, t in pair if s < t)
    return 1 if widest <= 6 else 2


def encoded(values: Iterable[int]) -> tuple[int, ...]:
    """Integers of a tuple, as the kernels read them (`number` in fields.py).

    Triton would compile a kernel anew for those that are one, or multiples of 16: these never are.
    """
    return tuple(16 * value + 8 for value in values)


def _round(elements: int) -> int:
    return _ceil(elements, ALIGNED) * ALIGNED


def _starts(counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(accumulate(counts, initial=0))[:-1]


@lru_cache(maxsize=256)
def make(request: Request) -> Schedule:
    builder = _Builder(request)
    groups = list(builder.entries())
    terms = len(request.targets) * builder.length
    pixels = [request.images * e.planes * math.prod(e.size[1:]) for group in groups for e in group]
    blocks = (builder.k // builder.block_k) * (builder.n // builder.block_n)
    work = sum(pixels) * builder.length * builder.taps // _TAPS * builder.weight_blocks
    chunk_pixels = _ceil(max(work // _PROGRAMS, 4 * _PIXELS), _PIXELS) * _PIXELS
    chunks: list[Chunk] = []
    tile = part = 0
    for group in groups:
        made, tiles, parts = builder.chunk(group, tile, part, chunk_pixels, is_first=not chunks)
        chunks.append(made)
        tile, part = tile + tiles, part + parts
    o, i, tap = request.strides
    strides = {"STRIDE_O": o, "STRIDE_I": i, "STRIDE_TAP": tap, "CO": request.out_channels, "C": request.channels}
    sizes = {"TAPS": builder.taps, "K": builder.k, "N": builder.n}
    block = min(builder.block_k, builder.block_n)
    raw = terms * builder.taps * request.channels * request.out_channels
    packed = terms * builder.taps * builder.k * builder.n
    pack = Launch(
        "pack",
        (terms, builder.taps, builder.n // block),
        {**strides, **sizes, "TERMS": terms, "BLOCK": block, "PRECISION": request.precision},
        (raw + packed) * builder.item,
    )
    part_ranges, tile_ranges = _ranges(request, chunks, builder, chunk_pixels)
    reduce = Launch(
        "reduce",
        (terms, builder.taps + 1, blocks),
        {**strides, **sizes, "L": builder.length, "TARGETS": len(request.targets)}
        | {
            "parts": encoded(part_ranges),
            "tiles": encoded(tile_ranges),
            "BLOCK_K": builder.block_k,
            "BLOCK_N": builder.block_n,
        }
        | {"ROWS": 16 if request.interpreted else 128},
        part * builder.length * builder.taps * builder.k * builder.n * builder.sum_item + raw * builder.item,
    )
    shape = (builder.length, builder.taps, builder.k, builder.n)
    return Schedule(
        pack,
        tuple(chunks),
        reduce,
        (terms, builder.taps, builder.k, builder.n),
        (terms, builder.n),
        (tile, builder.length, builder.n),
        (part, *shape),
    )


def _ranges(
    request: Request, chunks: Sequence[Chunk], builder: _Builder, chunk_pixels: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each target, its first part and the one after its last; the same for its tiles."""
    parts, tiles = [0] * len(request.targets), [0] * len(request.targets)
    for chunk in chunks:
        for entry in chunk.entries:
            pixels = request.images * entry.planes * math.prod(entry.size[1:])
            parts[entry.target] += _ceil(pixels, chunk_pixels)
            tiles[entry.target] += builder._tiles(entry, entry.planes, builder.backward_tile)
    ranges = []
    for counts in (parts, tiles):
        starts = _starts(counts)
        ranges.append(tuple(n for start, count in zip(starts, counts, strict=True) for n in (start, start + count)))
    return ranges[0], ranges[1]
