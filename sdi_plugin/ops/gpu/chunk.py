"""The launches of a chunk: each one's grid, arguments, and what it moves and computes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from sdi_plugin.ops.gpu.entries import ALIGNED, Entry, Geometry, Size, Tile, ceil, encoded, is_narrow, is_nested, starts

TAPS = 3  # of a program of the weights' gradients
PIXELS = 64  # a step of their sums


@dataclass(frozen=True)
class Launch:
    """A kernel, and all of its arguments but the tensors. moved: each byte read or written once; flops: of products."""

    kernel: str
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    moved: int
    flops: int = 0


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


class Launches:
    """Makes a chunk. first_tile, first_part: where its tiles and parts begin among those of all chunks.

    part: the pixels of a part of the weights' gradients.
    """

    def __init__(
        self, geometry: Geometry, entries: Sequence[Entry], first_tile: int, first_part: int, part: int
    ) -> None:
        self.of, self.entries = geometry, entries
        self.first_tile, self.first_part, self.part = first_tile, first_part, part
        request = self.request = geometry.request
        fields = self._fields()
        self.own = [geometry.pixels(entry) for entry in entries]
        self.parts = [ceil(pixels, part) for pixels in self.own]
        self.shared = {"images": request.images, "entries": fields, "E": len(entries)}
        self.shared |= {"L": geometry.length, "HALO": geometry.halo}
        blocks = {"BLOCK_K": geometry.block_k, "BLOCK_N": geometry.block_n}
        self.products = {"C": request.channels, "CO": request.out_channels, "K": geometry.k, "N": geometry.n, **blocks}
        self.products |= {"DIM": geometry.dim, "PRECISION": request.precision, "taps": geometry.taps}
        self.gather = {"levels": encoded(axis for level in geometry.levels for axis in level), "C": request.channels}
        self.gather["CHANNELS"] = geometry.block_k
        # Bytes, and multiply-adds.
        self.levels = sum(map(math.prod, geometry.levels)) * request.images * request.channels * geometry.item
        self.maps = self.resized * geometry.item
        self.maps += sum(self.own) * request.channels * geometry.item if request.in_place else 0
        self.weights = geometry.terms * geometry.taps * geometry.k * geometry.n * geometry.item
        self.multiplies = sum(self.own) * geometry.length * geometry.taps * request.channels * request.out_channels

    def chunk(self) -> Chunk:
        kinds = [adjoint_kind(level, [entry.size for entry in self.entries]) for level in self.of.levels]
        block = self._adjoint_block()
        depth_blocks, offsets, depth = self._depth_jobs(kinds, block["NARROW"])
        finer, offsets = self._finer(kinds) * self.of.item, encoded(offsets)
        return Chunk(
            tuple(self.entries),
            self.resized,
            self.terms,
            self.map_grads,
            depth,
            self.first_tile,
            self.resize(),
            self.multiply("multiply", self.of.tile, 0),
            self.multiply("multiply_backward", self.of.backward_tile, self.terms * self.of.item),
            {needs: self.gradients(*needs) for needs in ((True, True), (True, False), (False, True))},
            (self.along_depth(depth_blocks, offsets, block, finer, depth),) if any(depth_blocks) else (),
            self.adjoint(kinds, offsets, block, self.map_grads * self.of.item - finer, depth),
        )

    def resize(self) -> Launch:
        counts, block = self._resize_blocks(), self._block()
        block.pop("FEW")
        arguments = {**self.shared, **self.gather, **block, "starts": encoded(starts(counts))}
        arguments |= {"LAST": self.request.last, "PRECISION": self.request.precision}
        return self._by_channels("resize", counts, arguments, self.levels + self.resized * self.of.item)

    def multiply(self, name: str, tile: Tile, extra: int) -> Launch:
        """Forward or backward; extra: the bytes that only this one writes."""
        tiles = [self.of.tiles(entry, entry.planes, tile) for entry in self.entries]
        arguments = {**self.shared, **self.products, **self._shape(tile), "starts": encoded(starts(tiles))}
        arguments |= {"BOUND": self.request.bound, "STAGES": tile.stages, "num_warps": tile.warps}
        results = sum(self.own) * self.request.out_channels * self.of.item
        moved = self.maps + self.weights + results + extra
        return Launch(name, (sum(tiles), self.of.n // self.of.block_n), arguments, moved, 2 * self.multiplies)

    def gradients(self, needs_maps: bool, needs_weights: bool) -> Launch:
        of, tile = self.of, self.of.map_tile
        tiles = [of.length * of.tiles(entry, entry.planes + 2 * of.halo, tile) for entry in self.entries]
        programs = [of.taps // TAPS * of.length * count for count in self.parts]
        split = needs_maps * sum(tiles) * (of.k // of.block_k)
        arguments = {**self.shared, **self.products, **self._shape(tile), "split": split, "chunk": self.part}
        arguments |= {"map_starts": encoded(starts(tiles)), "weight_starts": encoded(starts(programs))}
        arguments["parts"] = encoded(self.first_part + start for start in starts(self.parts))
        arguments |= {"BLOCK": of.weight_block, "TAPS": TAPS, "num_warps": tile.warps, "STAGES": tile.stages}
        arguments["PIXELS"] = PIXELS if of.block_n * of.item < 256 else PIXELS // 2
        arguments["WEIGHT_STAGES"] = 3 if of.item <= 2 else 2 if of.item <= 4 else 1
        partial = sum(self.parts) * of.length * of.taps * of.k * of.n * of.sum_item
        return Launch(
            "gradients",
            (split + needs_weights * sum(programs) * of.weight_blocks,),
            arguments,
            self.terms * of.item
            + needs_maps * (self.weights + self.map_grads * of.item)
            + needs_weights * (self.maps + partial),
            2 * self.multiplies * (needs_maps + needs_weights),
        )

    def along_depth(
        self, counts: Sequence[int], offsets: tuple[int, ...], block: dict[str, int], read: int, depth: int
    ) -> Launch:
        arguments = {**self.shared, **self.gather, "NARROW": block["NARROW"], "offsets": offsets}
        arguments["starts"] = encoded(starts(counts))
        arguments.pop("HALO")
        return self._by_channels("resize_adjoint_depth", counts, arguments, read + depth * self.of.sum_item)

    def adjoint(
        self, kinds: Sequence[int], offsets: tuple[int, ...], block: dict[str, int], read: int, depth: int
    ) -> Launch:
        per_block = block["NARROW"], block["FEW"], block["PIXELS"], block["PIXELS"]  # by kind
        counts = [
            self.request.images * level[0] * ceil(level[1] * level[2], per_block[kind])
            for level, kind in zip(self.of.levels, kinds, strict=True)
        ]
        arguments = {**self.shared, **self.gather, **block, "offsets": offsets, "count": len(self.entries)}
        arguments |= {"starts": encoded(starts(counts)), "kinds": encoded(kinds), "ADD": self.first_tile > 0}
        return self._by_channels("resize_adjoint", counts, arguments, read + depth * self.of.sum_item + self.levels)

    def _by_channels(self, name: str, counts: Sequence[int], arguments: dict[str, Any], moved: int) -> Launch:
        return Launch(name, (sum(counts), self.of.k // self.of.block_k), arguments, moved)

    def _shape(self, tile: Tile) -> dict[str, int]:
        return dict(zip(("TZ", "TY", "TX"), self.of.shape(tile), strict=True))

    def _fields(self) -> tuple[int, ...]:
        """The entries as fields.py names them; sets the elements of the workspaces."""
        fields: list[int] = []
        self.resized = self.terms = self.map_grads = 0
        request, length = self.request, self.of.length
        for entry in self.entries:
            own = entry.level if request.in_place else -1
            bases = self.resized // ALIGNED, self.terms // ALIGNED, self.map_grads // ALIGNED
            fields += (*entry.size, entry.first, entry.planes, own, entry.target * length, *bases)
            area = request.images * math.prod(entry.size[1:])
            halo = area * (entry.planes + 2 * self.of.halo)
            self.resized += _round(halo * request.channels * (length - request.in_place))
            self.terms += _round(area * entry.planes * request.out_channels * length)
            self.map_grads += _round(halo * request.channels * length)
        return encoded(fields)

    def _block(self) -> dict[str, int]:
        """Pixels of a block of `resize` and its adjoint: see there. FEW: pixels with two rows each."""
        if self.request.interpreted:
            return {"NARROW": 256, "FEW": 64, "PIXELS": 64, "ROWS": 4}
        unit = Fraction(64, self.of.block_k * min(self.of.item, 4))  # 1 for 32 channels in half precision
        if self.of.dim == 3:
            return {"NARROW": int(64 * unit), "FEW": int(16 * unit), "PIXELS": 1, "ROWS": 32}
        return {"NARROW": int(128 * unit), "FEW": int(16 * unit), "PIXELS": int(8 * unit), "ROWS": 8}

    def _adjoint_block(self) -> dict[str, int]:
        block = self._block()
        if self.of.dim == 2 and not self.request.interpreted:  # it holds more than `resize`
            block["NARROW"] //= 2
            block["PIXELS"] = max(1, block["PIXELS"] // (4 if self.of.block_k == 64 else 2))
        return block

    def _resize_blocks(self) -> list[int]:
        """The blocks of each job; a level that is read in place has none."""
        counts, block = [], self._block()
        for entry in self.entries:
            planes = self.request.images * (entry.planes + 2 * self.of.halo)
            for j, level in enumerate(self.of.levels):
                pixels = block["NARROW" if is_narrow(level, entry.size) else "PIXELS"]
                is_job = not (self.request.in_place and j == entry.level)
                counts.append(planes * ceil(entry.size[1] * entry.size[2], pixels) if is_job else 0)
        return counts

    def _depth_jobs(self, kinds: Sequence[int], narrow: int) -> tuple[list[int], list[int], int]:
        """The blocks of `resize_adjoint_depth` and where each result begins, by entry and level; and all elements."""
        blocks, offsets, total = [], [], 0
        for entry in self.entries:
            area = entry.size[1] * entry.size[2]
            for level, kind in zip(self.of.levels, kinds, strict=True):
                is_job = self.of.dim == 3 and kind in (1, 2) and not is_nested(level, entry.size)
                blocks.append(self.request.images * level[0] * ceil(area, narrow) if is_job else 0)
                offsets.append(total // ALIGNED)
                total += _round(self.request.images * level[0] * area * self.request.channels) if is_job else 0
        return blocks, offsets, total

    def _finer(self, kinds: Sequence[int]) -> int:
        """The elements that `resize_adjoint_depth` reads."""
        return sum(
            self.request.images * (entry.planes + 2) * entry.size[1] * entry.size[2] * self.request.channels
            for entry in self.entries
            for level, kind in zip(self.of.levels, kinds, strict=True)
            if self.of.dim == 3 and kind in (1, 2) and not is_nested(level, entry.size)
        )


def adjoint_kind(level: Size, entries: Sequence[Size]) -> int:
    """How `resize_adjoint` sums a level's gradient: see `kinds` there."""
    pairs = [list(zip(level, entry, strict=True)) for entry in entries]
    nested = [is_nested(level, entry) for entry in entries]
    if all(nested):
        return 0
    linear = [all(s <= t for s, t in pair) for pair in pairs]
    if not all(a or b for a, b in zip(nested, linear, strict=True)):
        return 3
    widest = max(t if s == 1 else ceil(2 * (t - 1), s - 1) for pair in pairs for s, t in pair if s < t)
    return 1 if widest <= 6 else 2


def _round(elements: int) -> int:
    return ceil(elements, ALIGNED) * ALIGNED
