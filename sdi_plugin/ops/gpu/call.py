"""A call of `sdi_plugin.ops.gpu`: its plan, made once per shapes, strides, dtypes, devices and settings."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial, reduce
from itertools import count, islice
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from sdi_plugin.ops import reference
from sdi_plugin.ops.gpu import INTERPRETED, launch, schedule, tuning
from sdi_plugin.ops.gpu.chunk import Chunk
from sdi_plugin.ops.gpu.entries import Request, Tile
from sdi_plugin.ops.gpu.layouts import LAST, channels_last, contiguous, copies, empty, strides_of, with_channels
from sdi_plugin.ops.gpu.program import Program, Step, Workspace, step

_T = TypeVar("_T")


class Given(NamedTuple):
    """All that a plan depends on. Of tensors: xs, weights and biases in one list."""

    levels: int
    targets: tuple[int, ...]
    fusion: str
    out_dtype: torch.dtype | None  # a plan needs one
    allows_tf32: bool
    is_tuned: bool
    shapes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]
    negated: tuple[bool, ...]  # views whose memory holds the negative


def given(
    tensors: Sequence[Tensor], levels: int, targets: Sequence[int], fusion: str, out_dtype: torch.dtype | None
) -> Given:
    return Given(
        levels,
        tuple(targets),
        fusion,
        out_dtype,
        allows_tf32(),
        tuning.is_on(),
        tuple([t.shape for t in tensors]),
        tuple([t.stride() for t in tensors]),
        tuple([t.dtype for t in tensors]),
        tuple([t.device for t in tensors]),
        tuple([t.is_neg() for t in tensors]),
    )


@lru_cache(maxsize=256)
def plan(given: Given) -> "Plan":
    return Plan(given)


class Plan:
    """What every call with these shapes, strides, dtypes, devices and settings does.

    Of a tensor the kernels read only the memory, so that such calls differ in addresses alone. tensors below are xs,
    weights and biases in one list.
    """

    def __init__(self, given: Given) -> None:
        self.given = given
        self.levels, self.targets, self.fusion = given.levels, given.targets, given.fusion
        self.device = given.devices[0]
        x_shapes, weight_shapes, _ = self.split(given.shapes)
        x_dtypes, weight_dtypes, bias_dtypes = self.split(given.dtypes)
        self.dtype = _lowest({*x_dtypes, *weight_dtypes})
        self.accumulator = torch.promote_types(self.dtype, torch.float32)
        self.weight_dtype, self.bias_dtype = _common(weight_dtypes), _common(bias_dtypes)

        # Tensors without data have the layouts.
        layouts = [
            torch.empty_strided(shape, strides, device="meta")
            for shape, strides in zip(given.shapes, given.strides, strict=True)
        ]
        xs, weights, biases = self.split(layouts)
        last = LAST[xs[0].ndim]
        self.is_last = all(x.is_contiguous(memory_format=last) for x in xs)
        strides, self.is_in_layout = strides_of(weights, last)

        # Whether the kernels read a group's tensors where they are, and write its gradients where they are returned.
        negated = [any(group) for group in self.split(given.negated)]
        self.has_one_map_dtype = len(set(x_dtypes)) == 1
        self.reads_maps = self.has_one_map_dtype and x_dtypes[0] == self.dtype and not negated[0]
        self.reads_maps &= self.is_last or all(x.is_contiguous() for x in xs)
        self.writes_weights = self.is_in_layout and len(set(weight_dtypes)) == 1
        self.reads_weights = self.writes_weights and not negated[1]
        self.writes_biases = len(set(bias_dtypes)) == 1
        self.reads_biases = self.writes_biases and not negated[2] and all(bias.is_contiguous() for bias in biases)

        precision = "tf32" if self.dtype == torch.float32 and given.allows_tf32 else "ieee"
        self.in_place = self.is_last and precision == "ieee"  # TF32: `resize` rounds them
        out_channels, channels, *_ = self.weight_shape = weight_shapes[0]
        self.request = Request(
            sizes=tuple([tuple(shape[2:]) for shape in x_shapes]),
            targets=given.targets,
            images=x_shapes[0][0],
            channels=channels,
            out_channels=out_channels,
            dtype=self.dtype,
            last=self.is_last,
            in_place=self.in_place,
            bound=reference.FUSIONS[given.fusion],
            precision=precision,
            strides=strides,
            interpreted=INTERPRETED,
        )
        self.schedule = schedule.make(self.request)
        self.outs = [with_channels(x_shapes[target], out_channels) for target in given.targets]
        self.map_grads = [with_channels(shape, channels) for shape in x_shapes]
        self.weight_strides = weights[0].stride() if self.is_in_layout else contiguous(self.weight_shape)
        self.packed = Workspace()
        self.packed.add(math.prod(self.schedule.kernels), self.dtype)
        self.packed.add(math.prod(self.schedule.biases), self.accumulator)
        self._pack = self._pack_program()
        self._forward: _Made | None = None
        self._backward: dict[tuple[bool, bool], _Made] = {}

    def forward(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The results, one for each target, and what backward can read instead of weights and biases."""
        outs = [empty(layout, self.given.out_dtype, self.device) for layout in self.outs]
        packed = self.pack(tensors)
        memory = [*self._maps(tensors), *outs]

        def run(made: _Made) -> None:
            made.program.run(memory, (self.packed, packed), (made.workspace, made.workspace.allocate(self.device)))

        if self._forward is None:
            self._forward = self._tuned("multiply", self._forward_program, run)
        run(self._forward)
        return outs, packed

    def backward(
        self,
        grads: Sequence[Tensor],
        tensors: Sequence[Tensor],
        packed: Tensor,
        *,
        needs_maps: bool = True,
        needs_weights: bool = True,
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """The gradients of the maps, the weights and the biases; of a group that is not needed, an empty list."""
        needs = needs_maps, needs_weights
        dtypes = self.given.dtypes[: self.levels] if needs_maps else ()
        maps = [empty(*of, self.device) for of in zip(self.map_grads, dtypes, strict=False)]
        weights, biases = self._parameter_grads() if needs_weights else ((), ())
        grads = [channels_last(grad) for grad in grads]
        grad_dtypes = tuple([grad.dtype for grad in grads])
        memory = [*self._maps(tensors), *grads, *maps, *weights, *biases]

        def run(made: _Made) -> Tensor:
            workspace = made.workspace.allocate(self.device)
            made.program.run(memory, (self.packed, packed), (made.workspace, workspace), key=grad_dtypes)
            return workspace

        made = self._backward.get(needs)
        if made is None:
            make = partial(self._backward_program, *needs)
            made = self._backward[needs] = self._tuned("multiply_backward", make, run)
        workspace = run(made)
        for grad, part in zip(maps, made.totals, strict=False):
            last = grad.movedim(1, -1)
            last.copy_(made.workspace.parts[part].of(workspace).view(last.shape))
        _, own_weights, own_biases = self.split(tensors)
        return (
            maps,
            weights if self.writes_weights else copies(weights, own_weights),
            biases if self.writes_biases else copies(biases, own_biases),
        )

    def pack(self, tensors: Sequence[Tensor]) -> Tensor:
        """All weights and biases, as the products take them."""
        _, weights, biases = self.split(tensors)
        if not self.reads_weights:
            weights = [weight.resolve_neg().to(self.weight_dtype) for weight in weights]
            weights = weights if self.is_in_layout else [weight.contiguous() for weight in weights]
        if not self.reads_biases:
            biases = [bias.resolve_neg().to(self.bias_dtype).contiguous() for bias in biases]
        packed = self.packed.allocate(self.device)
        self._pack.run([*weights, *biases], (self.packed, packed))
        return packed

    def takes(self, xs: Sequence[Tensor], packed: Tensor) -> bool:
        """Whether maps and packed weights are as they were in forward: autograd's hooks may move what it saves."""
        given = self.given
        return all(
            x.stride() == stride and x.dtype == dtype and x.device == device and x.is_neg() == negated
            for x, stride, dtype, device, negated in zip(
                xs, given.strides, given.dtypes, given.devices, given.negated, strict=False
            )
        ) and (packed.device == self.device and packed.is_contiguous())

    def split(self, every: Sequence[_T]) -> tuple[Sequence[_T], Sequence[_T], Sequence[_T]]:
        """What is of xs, of weights and of biases."""
        first, last = self.levels, self.levels * (1 + len(self.targets))
        return every[:first], every[first:last], every[last:]

    def _maps(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """The levels in the maps' dtype: (B, *S, C), or all (B, C, *S), in memory."""
        xs = tensors[: self.levels]
        if self.reads_maps:
            return xs
        xs = [x.resolve_neg().to(self.dtype) for x in xs]
        return xs if self.is_last else [x.contiguous() for x in xs]

    def _parameter_grads(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Where the kernels write the gradients of weights and biases."""
        terms = range(self.levels * len(self.targets))
        weight, bias = (self.weight_shape, self.weight_strides), (self.weight_shape[:1], (1,))
        return (
            [empty(weight, self.weight_dtype, self.device) for _ in terms],
            [empty(bias, self.bias_dtype, self.device) for _ in terms],
        )

    def _pack_program(self) -> Program:
        terms = self.levels * len(self.targets)
        memory = iter(range(2 * terms + 2))
        weights, biases = take(memory, terms), take(memory, terms)
        kernels, packed_biases = memory
        steps = [step(self.schedule.pack, weights, biases, kernels, packed_biases)]
        return Program(steps, self.accumulator, self.device)

    def _own(self, chunk: Chunk, xs: Sequence[int], resized: int) -> list[int]:
        """For each entry, the level that is read in place; or anything."""
        return [xs[entry.level] if self.in_place else resized for entry in chunk.entries]

    def _tuned(
        self, kernel: str, make: Callable[[schedule.Schedule], "_Made"], run: Callable[["_Made"], Any]
    ) -> "_Made":
        """What is made from the schedule, or, if calls are tuned, from that with the fastest tile of a kernel."""
        if not self.given.is_tuned:
            return make(self.schedule)
        name = "forward" if kernel == "multiply" else "backward"  # of the tile in a request

        def of(tile: Tile) -> _Made:
            return make(schedule.make(self.request._replace(**{name: tile})))

        def seconds(tile: Tile) -> float:
            made = of(tile)
            return tuning.seconds(lambda: run(made))

        with launch.on(self.device):
            key, tiles = tuning.key(kernel, self.request, self.device), tuning.candidates(kernel, self.request)
            return of(tuning.choose(key, tiles, seconds))

    def _forward_program(self, made: schedule.Schedule) -> "_Made":
        memory = count()
        xs, outs = take(memory, self.levels), take(memory, len(self.targets))
        kernels, biases, resized = take(memory, 3)
        workspace = Workspace()
        workspace.add(max(chunk.resized for chunk in made.chunks), self.dtype)
        steps: list[Step] = []
        for chunk in made.chunks:
            written = [outs[entry.target] for entry in chunk.entries]
            steps += [
                step(chunk.resize, xs, resized),
                step(chunk.multiply, resized, self._own(chunk, xs, resized), kernels, biases, written),
            ]
        return _Made(workspace, Program(steps, self.accumulator, self.device))

    def _backward_program(self, needs_maps: bool, needs_weights: bool, made: schedule.Schedule) -> "_Made":
        chunks, memory = made.chunks, count()
        terms = self.levels * len(self.targets)
        xs, grads = take(memory, self.levels), take(memory, len(self.targets))
        maps = take(memory, self.levels if needs_maps else 0)
        weight_grads, bias_grads = (take(memory, terms if needs_weights else 0) for _ in range(2))
        kernels, biases = take(memory, 2)
        first = next(memory)  # of the workspace
        workspace = Workspace()

        def part(elements: int, dtype: torch.dtype) -> int:
            return first + workspace.add(elements, dtype)

        sums = part(math.prod(made.sums), self.accumulator)
        parts = part(math.prod(made.parts) if needs_weights else 0, self.accumulator)
        resized = part(max(chunk.resized for chunk in chunks), self.dtype)
        term_grads = part(max(chunk.terms for chunk in chunks), self.dtype)
        inner = part(max(chunk.map_grads for chunk in chunks) if needs_maps else 0, self.dtype)
        depth = part(max(chunk.depth for chunk in chunks) if needs_maps else 0, self.accumulator)
        # The kernels write maps of one dtype, and add those of several chunks in the accumulator's.
        totals = maps
        if needs_maps and not (len(chunks) == 1 and self.has_one_map_dtype):
            totals = [part(math.prod(shape), self.accumulator) for shape, _ in self.map_grads]
        steps: list[Step] = []
        for i, chunk in enumerate(chunks):
            chunk_sums = sums
            if chunk.first_tile:
                chunk_sums = first + workspace.add_rest(sums - first, chunk.first_tile * math.prod(made.sums[1:]))
            operands = resized, self._own(chunk, xs, resized), kernels
            read = [grads[entry.target] for entry in chunk.entries]
            steps += [
                step(chunk.resize, xs, resized),
                step(chunk.multiply_backward, *operands, biases, read, term_grads, chunk_sums),
                step(chunk.gradients[needs_maps, needs_weights], *operands, term_grads, inner, parts),
            ]
            if needs_maps:
                steps += [step(along, inner, depth) for along in chunk.along_depth]
                written = maps if i == len(chunks) - 1 and self.has_one_map_dtype else totals
                steps.append(step(chunk.adjoint, inner, depth, totals, written))
        if needs_weights:
            steps.append(step(made.reduce, parts, sums, weight_grads, bias_grads))
        left = () if self.has_one_map_dtype else tuple([total - first for total in totals])
        return _Made(workspace, Program(steps, self.accumulator, self.device), left)


class _Made(NamedTuple):
    workspace: Workspace
    program: Program
    totals: tuple[
        int, ...
    ] = ()  # the parts that hold the maps' gradients in the accumulator's dtype, if these are several


def take(memory: Iterator[int], count: int) -> list[int]:
    return list(islice(memory, count))


def allows_tf32() -> bool:
    """Whether torch's settings let its own convolutions of float32 maps round to TF32."""
    return torch.backends.cudnn.allow_tf32


def _common(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    """The dtype of all, or one that holds them."""
    return reduce(torch.promote_types, dtypes)


def _lowest(dtypes: set[torch.dtype]) -> torch.dtype:
    """The lowest precision of the inputs, as under autocast."""
    size = min([dtype.itemsize for dtype in dtypes])
    lowest = {dtype for dtype in dtypes if dtype.itemsize == size}
    return lowest.pop() if len(lowest) == 1 else torch.float32  # bfloat16 and float16 have no common lower one
