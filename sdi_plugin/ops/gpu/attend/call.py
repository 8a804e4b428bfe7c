"""A call of attend_and_reduce on a GPU: its plan, made once per shapes, strides, dtypes, device and settings."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops.gpu import INTERPRETED
from sdi_plugin.ops.gpu.attend import schedule
from sdi_plugin.ops.gpu.call import allows_tf32, take
from sdi_plugin.ops.gpu.layouts import LAST
from sdi_plugin.ops.gpu.program import Program, Step, Workspace, step
from sdi_plugin.ops.plain import accumulator, empty_result, is_channels_last

Groups = Sequence[Sequence[Tensor]]


class Given(NamedTuple):
    """All that a plan depends on. Of tensors: fs, fc1, fc2, conv7 and conv1 in one list."""

    levels: int
    out_dtype: torch.dtype
    allows_tf32: bool
    shapes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    negated: tuple[bool, ...]  # views whose memory holds the negative
    device: torch.device


def given(groups: Groups, out_dtype: torch.dtype) -> Given:
    tensors = [t for group in groups for t in group]
    return Given(
        len(groups[0]),
        out_dtype,
        allows_tf32(),
        tuple([t.shape for t in tensors]),
        tuple([t.stride() for t in tensors]),
        tuple([t.dtype for t in tensors]),
        tuple([t.is_neg() for t in tensors]),
        tensors[0].device,
    )


@lru_cache(maxsize=256)
def plan(given: Given) -> "Plan":
    return Plan(given)


class _Made(NamedTuple):
    workspace: Workspace
    program: Program


class Plan:
    """What every call with these shapes, strides, dtypes, device and settings does."""

    def __init__(self, given: Given) -> None:
        self.given, self.device, self.levels = given, given.device, given.levels
        # Tensors without data have the layouts.
        layouts = [
            torch.empty_strided(shape, strides, dtype=dtype, device="meta")
            for shape, strides, dtype in zip(given.shapes, given.strides, given.dtypes, strict=True)
        ]
        fs, fc1, fc2, conv7, conv1 = _groups(layouts, self.levels)
        self.dtype, self.accumulator = fs[0].dtype, accumulator(*layouts)
        self.dim = fs[0].ndim - 2
        self.memory_format = LAST[fs[0].ndim]
        # One layout for all maps: a map of one pixel, or of one channel, may have both.
        self.is_last = any(map(is_channels_last, fs)) and all(self._is_laid_out(f, last=True) for f in fs)
        self.weight_dtype = reduce(torch.promote_types, given.dtypes[self.levels :])
        conv7_strides = _conv7_strides(conv7)
        # Whether the kernels read the parameters where they are, and write their gradients where they are returned.
        self.are_in_place = (
            set(given.dtypes[self.levels :]) == {self.weight_dtype}
            and not any(given.negated[self.levels :])
            and all(t.flatten(1).is_contiguous() for t in (*fc1, *fc2, *conv1))
            and conv7_strides is not None
        )
        results = [empty_result(f, conv1[0].shape[0], given.out_dtype) for f in fs]
        self.results = [(tuple(g.shape), g.stride()) for g in results]
        self.are_results_in_place = all(self._is_laid_out(g, self.is_last) for g in results)
        taps = 7**self.dim
        self.request = schedule.Request(
            sizes=tuple([tuple(f.shape[2:]) for f in fs]),
            channels=tuple([f.shape[1] for f in fs]),
            hidden=tuple([w.shape[0] for w in fc1]),
            out_channels=conv1[0].shape[0],
            images=fs[0].shape[0],
            dtype=self.dtype,
            last=self.is_last,
            grad_last=self.is_last,
            out_item=given.out_dtype.itemsize,
            precision="tf32" if self.dtype == torch.float32 and given.allows_tf32 else "ieee",
            conv7_strides=conv7_strides if self.are_in_place and conv7_strides else (taps, 1),
            interpreted=INTERPRETED,
        )
        self._forward = self._forward_program()
        self._backward: dict[tuple[bool, bool], _Made] = {}

    def forward(self, groups: Groups) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """See `sdi_plugin.ops.plain.forward`."""
        fs, options = groups[0], {"dtype": self.accumulator, "device": self.device}
        gs = [torch.empty_strided(*layout, dtype=self.given.out_dtype, device=self.device) for layout in self.results]
        channels = [torch.empty((f.shape[0], 3, f.shape[1]), **options) for f in fs]
        pixels = [torch.empty((f.shape[0], 3, *f.shape[2:]), **options) for f in fs]
        if fs[0].shape[0]:
            written = gs if self.are_results_in_place else self._written(gs)
            self._run(self._forward, [*self._read(groups), *channels, *pixels, *written])
            _copy(written, gs)
        return gs, channels, pixels

    def backward(
        self, grads: Sequence[Tensor], groups: Groups, kept: Groups, *, needs_maps: bool = True
    ) -> list[list[Tensor]]:
        """See `sdi_plugin.ops.plain.backward`."""
        found = [[torch.empty_like(t) for t in group] if needs_maps or i else [] for i, group in enumerate(groups)]
        if not grads[0].shape[0]:
            return [[t.zero_() for t in group] for group in found]
        gs, channels, pixels = kept
        grads = [grad.resolve_neg().to(g.dtype) for grad, g in zip(grads, gs, strict=True)]
        grad_last = all(self._is_laid_out(grad, last=True) for grad in grads)
        written = [self._written(found[0]), *map(self._parameter_grads, found[1:])]
        made = self._backward.get((needs_maps, grad_last))
        if made is None:
            made = self._backward[needs_maps, grad_last] = self._backward_program(needs_maps, grad_last)
        memory = [
            *self._read(groups),
            *[t.contiguous() for group in (channels, pixels) for t in group],
            *self._maps(gs, self.is_last),
            *self._maps(grads, grad_last),
            *[t for group in written for t in group],
        ]
        self._run(made, memory)
        for own, results in zip(written, found, strict=True):
            _copy(own, results)
        return found

    def _run(self, made: _Made, memory: Sequence[Tensor]) -> None:
        # Autograd's hooks may have moved what it kept: all that a prepared launch depends on is in its key.
        key = tuple([t.dtype for t in memory])
        made.program.run(memory, (made.workspace, made.workspace.allocate(self.device)), key=key)

    def _is_laid_out(self, t: Tensor, last: bool) -> bool:
        return t.is_contiguous(memory_format=self.memory_format) if last else t.is_contiguous()

    def _maps(self, maps: Iterable[Tensor], last: bool) -> list[Tensor]:
        layout = self.memory_format if last else torch.contiguous_format
        return [t.resolve_neg().contiguous(memory_format=layout) for t in maps]

    def _read(self, groups: Groups) -> list[Tensor]:
        """The inputs as the kernels read them: the features in one layout, the parameters dense and of one dtype."""
        fs, *parameters = [self._maps(groups[0], self.is_last), *groups[1:]]
        if not self.are_in_place:
            parameters = [[t.resolve_neg().to(self.weight_dtype).contiguous() for t in group] for group in parameters]
        return [t for group in (fs, *parameters) for t in group]

    def _written(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Where the kernels write maps: these themselves, or where they have another layout, others."""
        layout = self.memory_format if self.is_last else torch.contiguous_format
        return [t if self._is_laid_out(t, self.is_last) else torch.empty_like(t, memory_format=layout) for t in maps]

    def _parameter_grads(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Where the kernels write the gradients of parameters."""
        if self.are_in_place:
            return grads
        return [torch.empty(grad.shape, dtype=self.weight_dtype, device=self.device) for grad in grads]

    def _forward_program(self) -> _Made:
        made, memory = schedule.make(self.request), count()
        fs, fc1, fc2, conv7, conv1, channels, pixels, gs = (take(memory, self.levels) for _ in range(8))
        workspace = Workspace()
        pooled = next(memory) + workspace.add(made.pooled, self.accumulator)
        steps = [
            step(made.pool_pixels, fs, pooled),
            step(made.gate_channels, pooled, fc1, fc2, channels),
            step(made.pool_channels, fs, channels, pixels),
            step(made.reduce_channels, fs, conv7, conv1, channels, pixels, gs),
        ]
        return self._made(workspace, steps)

    def _backward_program(self, needs_maps: bool, grad_last: bool) -> _Made:
        made, memory = schedule.make(self.request._replace(grad_last=grad_last)), count()
        fs, fc1, fc2, conv7, conv1, channels, pixels, gs, grads = (take(memory, self.levels) for _ in range(9))
        f_grads = take(memory, self.levels if needs_maps else 0)
        parameter_grads = [take(memory, self.levels) for _ in range(4)]
        workspace, first = Workspace(), next(memory)

        def part(elements: int) -> int:
            return first + workspace.add(elements, self.accumulator)

        logits, conv7_parts, products = part(made.logits), part(made.conv7_parts), part(made.products)
        gate_sums, conv1_sums, vectors = part(made.gate_sums), part(made.conv1_sums), part(made.vectors)
        hidden = part(made.hidden)
        steps = [
            step(made.pixel_logits, fs, gs, grads, channels, pixels, logits),
            step(made.smooth_backward, conv7, pixels, logits, conv7_parts),
            step(made.sum_pixels, fs, grads, channels, pixels, logits, products, gate_sums),
            step(made.gate_gradients, products, gate_sums, conv1, channels, conv1_sums, vectors),
            step(made.mlp_backward, vectors, hidden, fc1, fc2, channels),
            step(
                made.attend_gradients[needs_maps],
                *(fs, grads, conv1, channels, pixels, logits, vectors, hidden, conv1_sums, conv7_parts),
                *(f_grads or fs, *parameter_grads),
            ),
        ]
        return self._made(workspace, steps)

    def _made(self, workspace: Workspace, steps: Sequence[Step]) -> _Made:
        return _Made(workspace, Program(steps, self.accumulator, self.device))


def _groups(tensors: Sequence[Any], levels: int) -> list[list[Any]]:
    return [list(tensors[i : i + levels]) for i in range(0, len(tensors), levels)]


def _copy(sources: Sequence[Tensor], results: Sequence[Tensor]) -> None:
    for source, result in zip(sources, results, strict=True):
        if source is not result:
            result.copy_(source)


def _conv7_strides(weights: Sequence[Tensor]) -> tuple[int, int] | None:
    """The strides of map and tap of all weights, if they have one dense layout."""
    taps = math.prod(weights[0].shape[2:])
    last = LAST[weights[0].ndim]
    if all(weight.is_contiguous() for weight in weights):
        return taps, 1
    return (1, 2) if all(weight.is_contiguous(memory_format=last) for weight in weights) else None
