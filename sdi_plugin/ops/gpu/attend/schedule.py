"""What a call of attend_and_reduce launches, from its shapes alone: grids, arguments, workspaces, bytes and FLOPs.

All levels share each launch: four forward, six backward.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from sdi_plugin.ops.gpu.chunk import Launch
from sdi_plugin.ops.gpu.entries import ceil, encoded, starts

_PROGRAMS = 512  # for a sum over all pixels: about four on each multiprocessor of a large GPU
_LEAST_PART = 128  # pixels of a part of such a sum
_SMOOTH = 128  # pixels of a program of conv7's adjoint: one for each thread


class Request(NamedTuple):
    """All that a schedule depends on. sizes: the levels', with 2 or 3 axes; channels, hidden: those of each level."""

    sizes: tuple[tuple[int, ...], ...]
    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    out_channels: int
    images: int
    dtype: torch.dtype  # of the features; sums are in float32, or float64
    last: bool  # whether features and results are (B, *S, C) in memory
    grad_last: bool  # whether the results' gradients are
    out_item: int  # bytes of an element of the results
    precision: str  # of a product of float32: "ieee" or "tf32"
    conv7_strides: tuple[int, int]  # of its two maps, and of its taps
    interpreted: bool


class Schedule(NamedTuple):
    """forward and backward: launches in order. The others: the elements of the workspaces, in the accumulator's dtype.

    pooled: (B, parts, 2, C) of every level; logits: (B, 3, P); conv7_parts: (parts, 2, taps); products:
    (B, parts, CO, C); gate_sums: (B, parts, 2, C); conv1_sums: (B, CO, C); vectors: (B, 3, C); hidden:
    (B, L, 3, hidden).
    """

    pool_pixels: Launch
    gate_channels: Launch
    pool_channels: Launch
    reduce_channels: Launch
    pixel_logits: Launch
    smooth_backward: Launch
    sum_pixels: Launch
    gate_gradients: Launch
    mlp_backward: Launch
    attend_gradients: dict[bool, Launch]  # by whether those of the features are needed
    pooled: int
    logits: int
    conv7_parts: int
    products: int
    gate_sums: int
    conv1_sums: int
    vectors: int
    hidden: int

    @property
    def forward(self) -> tuple[Launch, ...]:
        return self.pool_pixels, self.gate_channels, self.pool_channels, self.reduce_channels

    @property
    def backward(self) -> tuple[Launch, ...]:
        sums = self.pixel_logits, self.smooth_backward, self.sum_pixels
        return *sums, self.gate_gradients, self.mlp_backward, self.attend_gradients[True]


def block_of(channels: Sequence[int]) -> int:
    """A power of two from 16, the least that a matrix instruction takes, to 64: the largest that divides all channels,
    or else one that the widest fit in."""
    divisor = math.gcd(64, *channels)
    return divisor if divisor >= 16 else min(64, max(16, 1 << (max(channels) - 1).bit_length()))


class _Blocks(NamedTuple):
    """Channels of a program's tile, and its pixels."""

    k: int
    n: int
    pool: int  # pixels of a step, where a program goes through a part of them
    sums: int  # the same, where it has a matrix product too
    pixels: int  # of a program that goes through the channels
    reduction: int  # the same, where it has a matrix product too
    maps: int  # of a program that writes the features' gradients


def _blocks(request: Request) -> _Blocks:
    """With more pixels, some GPU spills (`python -m benchmarks.gpu_compile`)."""
    k, n, item = block_of(request.channels), block_of([request.out_channels]), request.dtype.itemsize
    if request.interpreted:
        return _Blocks(k, n, 64, 64, 128, 128, 128)
    if item > 4:
        return _Blocks(k, n, 32, 16, 32, 32, 16)
    if item == 4 and request.precision == "ieee":
        return _Blocks(k, n, 64, 16, 64, 32, 32)
    return _Blocks(k, n, 64, 32, 64, 128 if item <= 2 and n <= 32 else 64, 64)


@lru_cache(maxsize=256)
def make(request: Request) -> Schedule:
    return _Maker(request).schedule()


class _Maker:
    def __init__(self, request: Request) -> None:
        self.request, self.blocks = request, _blocks(request)
        self.item, self.sum_item = request.dtype.itemsize, max(4, request.dtype.itemsize)
        self.pixels = [math.prod(size) for size in request.sizes]
        self.channel_blocks = [ceil(channels, self.blocks.k) for channels in request.channels]
        self.out_blocks = ceil(request.out_channels, self.blocks.n)
        self.dim = len(request.sizes[0])
        self.rows = 7 ** (self.dim - 1)  # of conv7's taps
        work = sum(p * blocks for p, blocks in zip(self.pixels, self.channel_blocks, strict=True))
        self.part = self._part(work, self.blocks.pool)
        self.parts = [ceil(pixels, self.part) for pixels in self.pixels]
        self.taps = 64 if request.interpreted else 16  # of conv7, in a program of its gradient
        tap_blocks = ceil(7 * self.rows, self.taps)
        self.conv7_part = self._part(sum(self.pixels) * 2 * tap_blocks // 4, self.blocks.pool)
        self.conv7_parts = [request.images * ceil(pixels, self.conv7_part) for pixels in self.pixels]
        self.shared: dict[str, Any] = {"images": request.images, "L": len(request.sizes), "levels": self._fields()}
        self.maps = {"LAST": request.last, "ALIGN": math.gcd(16, *request.channels), "BLOCK_K": self.blocks.k}
        self.products = {"CO": request.out_channels, "BLOCK_N": self.blocks.n}
        self.dots = {"PRECISION": request.precision, "STAGES": 3 if self.item <= 2 else 2 if self.item <= 4 else 1}
        strides = dict(zip(("STRIDE_MAP", "STRIDE_TAP"), request.conv7_strides, strict=True))
        self.smooth = {"rows": self.rows, "DIM": self.dim, **strides}
        self.hidden = max(16, 1 << (max(request.hidden) - 1).bit_length())
        mlp_block = max(16, min(self.blocks.k, 8192 // self.hidden))  # of channels, with all hidden ones
        self.mlp = {"HIDDEN": self.hidden, "BLOCK_K": mlp_block, "ALIGN": self.maps["ALIGN"]}
        # Bytes of what several launches move.
        self.feature_bytes = request.images * self._sum(self.pixels, request.channels) * self.item
        self.result_bytes = request.images * sum(self.pixels) * request.out_channels * request.out_item
        self.pixel_bytes = request.images * sum(self.pixels) * self.sum_item  # of a number per pixel
        self.vector_bytes = request.images * sum(request.channels) * self.sum_item  # of a number per channel
        self.mlp_bytes = 2 * self._sum(request.channels, request.hidden) * self.item
        self.conv1_bytes = sum(request.channels) * request.out_channels * self.item
        self.conv7_bytes = len(request.sizes) * 2 * 7 * self.rows * self.item
        self.conv7_flops = 2 * 2 * 7 * self.rows * request.images * sum(self.pixels)
        self.flops = 2 * request.images * self._sum(self.pixels, request.channels) * request.out_channels

    def schedule(self) -> Schedule:
        request, images = self.request, self.request.images
        channels, per_part = sum(request.channels), self._sum(self.parts, request.channels)
        return Schedule(
            self._pool_pixels(),
            self._gate_channels(),
            self._pool_channels(),
            self._reduce_channels(),
            self._pixel_logits(),
            self._smooth_backward(),
            self._sum_pixels(),
            self._gate_gradients(),
            self._mlp_backward(),
            {needs_maps: self._attend_gradients(needs_maps) for needs_maps in (True, False)},
            pooled=images * per_part * 2,
            logits=images * sum(self.pixels) * 3,
            conv7_parts=sum(self.conv7_parts) * 2 * 7 * self.rows,
            products=images * per_part * request.out_channels,
            gate_sums=images * per_part * 2,
            conv1_sums=images * channels * request.out_channels,
            vectors=images * channels * 3,
            hidden=images * len(request.sizes) * 3 * self.hidden,
        )

    def _part(self, work: int, step: int) -> int:
        """Pixels of a part, in whole steps, so that all parts have about _PROGRAMS programs."""
        return ceil(max(self.request.images * work // _PROGRAMS, _LEAST_PART), step) * step

    def _fields(self) -> tuple[int, ...]:
        """The levels as levels.py names them."""
        fields: list[int] = []
        pixels, channels = starts(self.pixels), starts(self.request.channels)
        parts = starts([p * c for p, c in zip(self.parts, self.request.channels, strict=True)])
        for i, size in enumerate(self.request.sizes):
            fields += (*(1,) * (3 - self.dim), *size, self.request.channels[i], self.request.hidden[i], self.parts[i])
            fields += (pixels[i], channels[i], parts[i])
        return encoded(fields)

    @staticmethod
    def _sum(counts: Sequence[int], others: Sequence[int]) -> int:
        return sum(count * other for count, other in zip(counts, others, strict=True))

    def _tiles(self, pixels: int) -> list[int]:
        """Tiles of so many pixels, of every level."""
        return [self.request.images * ceil(own, pixels) for own in self.pixels]

    def _by_parts(self) -> list[int]:
        return [self.request.images * p * b for p, b in zip(self.parts, self.channel_blocks, strict=True)]

    def _launch(
        self, name: str, counts: Sequence[int], arguments: dict[str, Any], moved: int, flops: int = 0
    ) -> Launch:
        shared = {**self.shared, "starts": encoded(starts(counts)), **arguments}
        return Launch(name, (sum(counts),), shared, moved, flops)

    def _pool_pixels(self) -> Launch:
        arguments = {**self.maps, "part": self.part, "PIXELS": self.blocks.pool}
        moved = self.feature_bytes + 2 * self._part_bytes()
        return self._launch("pool_pixels", self._by_parts(), arguments, moved)

    def _part_bytes(self) -> int:
        """Of a number per channel and part."""
        return self.request.images * self._sum(self.parts, self.request.channels) * self.sum_item

    def _gate_channels(self) -> Launch:
        rows = 4 if self.request.interpreted else max(1, 2048 // self.blocks.k)
        arguments = {**self.mlp, "ROWS": rows, **self.shared}
        moved = 2 * self._part_bytes() + 3 * self.vector_bytes + self.mlp_bytes
        return Launch("gate_channels", (self.request.images * len(self.pixels),), arguments, moved, self._mlp_flops(3))

    def _mlp_flops(self, layers: int) -> int:
        return 2 * layers * self.request.images * self._sum(self.request.channels, self.request.hidden)

    def _pool_channels(self) -> Launch:
        pixels = self.blocks.pixels
        moved = self.feature_bytes + self.vector_bytes + 2 * self.pixel_bytes
        return self._launch("pool_channels", self._tiles(pixels), {**self.maps, "PIXELS": pixels}, moved)

    def _reduce_channels(self) -> Launch:
        arguments = {**self.maps, **self.products, **self.dots, **self.smooth, "PIXELS": self.blocks.reduction}
        moved = self.feature_bytes + self.vector_bytes + 3 * self.pixel_bytes + self.result_bytes
        moved += self.conv1_bytes + self.conv7_bytes
        made = self._launch(
            "reduce_channels", self._tiles(self.blocks.reduction), arguments, moved, self.flops + self.conv7_flops
        )
        return self._by_outputs(made)

    def _by_outputs(self, made: Launch) -> Launch:
        return Launch(made.kernel, (*made.grid, self.out_blocks), made.arguments, made.moved, made.flops)

    def _pixel_logits(self) -> Launch:
        pixels = self.blocks.pixels
        arguments = {**self.maps, **self.products, "GRAD_LAST": self.request.grad_last, "PIXELS": pixels}
        moved = self.feature_bytes + self.vector_bytes + 4 * self.pixel_bytes + 2 * self.result_bytes
        return self._launch("pixel_logits", self._tiles(pixels), arguments, moved)

    def _smooth_backward(self) -> Launch:
        pixels = _SMOOTH
        tiles, tap_blocks = self._tiles(pixels), ceil(7 * self.rows, self.taps)
        weights = [parts * 2 * tap_blocks for parts in self.conv7_parts]
        arguments = {**self.shared, **self.smooth, "split": sum(tiles), "part": self.conv7_part, "TAPS": self.taps}
        arguments |= {"map_starts": encoded(starts(tiles)), "weight_starts": encoded(starts(weights))}
        arguments |= {"PIXELS": pixels, "STEP": self.blocks.pool}
        parts = sum(self.conv7_parts) * 2 * 7 * self.rows * self.sum_item
        moved = 6 * self.pixel_bytes + parts + self.conv7_bytes
        return Launch("smooth_backward", (sum(tiles) + sum(weights),), arguments, moved, 2 * self.conv7_flops)

    def _sum_pixels(self) -> Launch:
        arguments = {**self.maps, **self.products, **self.dots, "GRAD_LAST": self.request.grad_last}
        arguments |= {"part": self.part, "PIXELS": self.blocks.sums}
        moved = self.feature_bytes + self.result_bytes + 4 * self.pixel_bytes + 2 * self.vector_bytes
        moved += (self.request.out_channels + 2) * self._part_bytes()
        return self._by_outputs(self._launch("sum_pixels", self._by_parts(), arguments, moved, self.flops))

    def _gate_gradients(self) -> Launch:
        counts = [self.request.images * blocks for blocks in self.channel_blocks]
        arguments = {**self.products, "BLOCK_K": self.blocks.k, "ALIGN": self.maps["ALIGN"]}
        moved = (self.request.out_channels + 2) * self._part_bytes() + self.conv1_bytes
        moved += (self.request.out_channels + 3) * self.vector_bytes
        return self._launch("gate_gradients", counts, arguments, moved)

    def _mlp_backward(self) -> Launch:
        arguments = {**self.mlp, **self.shared}
        moved = 6 * self.vector_bytes + self.mlp_bytes
        return Launch("mlp_backward", (self.request.images * len(self.pixels),), arguments, moved, self._mlp_flops(5))

    def _attend_gradients(self, needs_maps: bool) -> Launch:
        tiles = [t * b for t, b in zip(self._tiles(self.blocks.maps), self.channel_blocks, strict=True)]
        split = sum(tiles) if needs_maps else 0
        second_split, block = split + sum(self.channel_blocks), 64
        conv7 = len(self.pixels) * ceil(2 * 7 * self.rows, block)
        firsts = starts(self.conv7_parts)
        parts = [n for first, count in zip(firsts, self.conv7_parts, strict=True) for n in (first, first + count)]
        arguments = {**self.shared, **self.maps, **self.products, **self.dots, **self.smooth}
        arguments.pop("DIM")
        arguments |= {"GRAD_LAST": self.request.grad_last, "split": split, "second_split": second_split}
        arguments |= {"map_starts": encoded(starts(tiles)), "weight_starts": encoded(starts(self.channel_blocks))}
        arguments |= {"parts": encoded(parts), "HIDDEN": self.hidden, "PIXELS": self.blocks.maps}
        arguments |= {"ROWS": 32, "BLOCK": block}
        moved = (self.request.out_channels + 3) * self.vector_bytes + self.mlp_bytes + self.conv1_bytes
        moved += sum(self.conv7_parts) * 2 * 7 * self.rows * self.sum_item + self.conv7_bytes
        if needs_maps:
            moved += 2 * self.feature_bytes + self.result_bytes + 4 * self.pixel_bytes + 4 * self.vector_bytes
            moved += self.conv1_bytes
        flops = needs_maps * self.flops + self._mlp_flops(3)
        return Launch("attend_gradients", (second_split + conv7,), arguments, moved, flops)
