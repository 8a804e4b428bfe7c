"""One call of `sdi_plugin.ops.gpu`: allocates the workspaces and results, and runs the schedule's launches."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops import reference
from sdi_plugin.ops.gpu import INTERPRETED, launch, schedule
from sdi_plugin.ops.gpu.schedule import Chunk, Schedule

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Call(NamedTuple):
    """What forward and backward both need. Of a tensor the kernels read only the memory."""

    schedule: Schedule
    maps: tuple[Tensor, ...]  # the levels in the maps' dtype: (B, *S, C), or all (B, C, *S), in memory
    accumulator: torch.dtype
    in_place: bool
    is_in_layout: bool  # whether the schedule's strides of the weights are those of the caller's
    kernels: Tensor
    biases: Tensor

    def own(self, chunk: Chunk, workspace: Tensor) -> tuple[Tensor, ...]:
        return tuple([self.maps[entry.level] if self.in_place else workspace for entry in chunk.entries])


def prepare(
    xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], targets: Sequence[int], fusion: str
) -> Call:
    dtype = _lowest(xs, weights)
    accumulator = torch.promote_types(dtype, torch.float32)
    last = _LAST[xs[0].ndim]
    maps = _plain(xs, dtype)
    is_last = all(x.is_contiguous(memory_format=last) for x in maps)
    maps = maps if is_last else [x.contiguous() for x in maps]
    weights, strides, is_in_layout = _strided(_plain(weights, _common(weights)))
    biases = [bias.contiguous() for bias in _plain(biases, _common(biases))]
    precision = "tf32" if dtype == torch.float32 and allows_tf32() else "ieee"
    in_place = is_last and precision == "ieee"  # TF32: `resize` rounds them
    made = schedule.make(
        schedule.Request(
            sizes=tuple([tuple(x.shape[2:]) for x in xs]),
            targets=tuple(targets),
            images=xs[0].shape[0],
            channels=xs[0].shape[1],
            out_channels=weights[0].shape[0],
            dtype=dtype,
            last=is_last,
            in_place=in_place,
            bound=reference.FUSIONS[fusion],
            precision=precision,
            strides=strides,
            interpreted=INTERPRETED,
        )
    )
    device = xs[0].device
    kernels = torch.empty(made.kernels, dtype=dtype, device=device)
    packed = torch.empty(made.biases, dtype=accumulator, device=device)
    launch.run(made.pack, accumulator, weights, biases, kernels, packed)
    return Call(made, tuple(maps), accumulator, in_place, is_in_layout, kernels, packed)


def forward(call: Call, outs: Sequence[Tensor]) -> None:
    """Write outs, one for each target, (B, *S, C_out) in memory."""
    for chunk in call.schedule.chunks:
        resized = call.kernels.new_empty(chunk.resized)
        launch.run(chunk.resize, call.accumulator, call.maps, resized)
        own = call.own(chunk, resized)
        written = [outs[entry.target] for entry in chunk.entries]
        launch.run(chunk.multiply, call.accumulator, resized, own, call.kernels, call.biases, written)


def backward(
    call: Call,
    grads: Sequence[Tensor],
    map_grads: Sequence[Tensor],
    weight_grads: Sequence[Tensor],
    bias_grads: Sequence[Tensor],
) -> None:
    """Write the gradients of the maps, of the weights and of the biases; of a group, only if any are given.

    Maps, and grads, which are those of the results, are (B, *S, C) in memory.
    """
    made, accumulator = call.schedule, call.accumulator
    needs = bool(map_grads), bool(weight_grads)
    sums = call.biases.new_empty(made.sums)
    parts = call.biases.new_empty(made.parts if weight_grads else 0)
    # The kernels write results of one dtype, and add those of several chunks in the accumulator's.
    is_direct = len(made.chunks) == 1 and _is_uniform(map_grads)
    totals = map_grads if is_direct else [torch.empty_like(g, dtype=accumulator) for g in map_grads]
    for i, chunk in enumerate(made.chunks):
        resized, terms = call.kernels.new_empty(chunk.resized), call.kernels.new_empty(chunk.terms)
        own = call.own(chunk, resized)
        launch.run(chunk.resize, accumulator, call.maps, resized)
        read = [grads[entry.target] for entry in chunk.entries]
        first = sums[chunk.first_tile :] if chunk.first_tile else sums
        operands = resized, own, call.kernels
        launch.run(chunk.multiply_backward, accumulator, *operands, call.biases, read, terms, first)
        inner = call.kernels.new_empty(chunk.map_grads if map_grads else 0)
        launch.run(chunk.gradients[needs], accumulator, *operands, terms, inner, parts)
        if map_grads:
            depth = call.biases.new_empty(chunk.depth)
            for step in chunk.along_depth:
                launch.run(step, accumulator, inner, depth)
            is_last = i == len(made.chunks) - 1 and _is_uniform(map_grads)
            written = map_grads if is_last else totals
            launch.run(chunk.adjoint, accumulator, inner, depth, totals, written)
    if map_grads and not _is_uniform(map_grads):
        _copy(totals, map_grads)
    if weight_grads:
        written = weight_grads
        if not (call.is_in_layout and _is_uniform(weight_grads)):
            dtype = _common(weight_grads)
            written = [torch.empty(grad.shape, dtype=dtype, device=grad.device) for grad in weight_grads]
        sums_of = bias_grads if _is_uniform(bias_grads) else [grad.to(accumulator) for grad in bias_grads]
        launch.run(made.reduce, accumulator, parts, sums, written, sums_of)
        _copy(written, weight_grads)
        _copy(sums_of, bias_grads)


def allows_tf32() -> bool:
    """Whether torch's settings let its own convolutions of float32 maps round to TF32."""
    return torch.backends.cudnn.allow_tf32


def channels_last(x: Tensor) -> Tensor:
    """x with (B, *S, C) in memory, and with its sign."""
    x = x.resolve_neg()
    last = _LAST[x.ndim]
    return x if x.is_contiguous(memory_format=last) else x.contiguous(memory_format=last)


def empty_channels_last(like: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """(B, channels, *S), with exact channels-last strides: torch's memory formats leave those of axes of one open."""
    batch, _, *size = like.shape
    strides = [channels]
    for length in reversed(size):
        strides.append(strides[-1] * length)
    return torch.empty_strided(
        (batch, channels, *size), (strides[-1], 1, *reversed(strides[:-1])), dtype=dtype, device=like.device
    )


def _is_uniform(tensors: Sequence[Tensor]) -> bool:
    return all(t.dtype == tensors[0].dtype for t in tensors)


def _common(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype of all tensors, or one that holds them."""
    if _is_uniform(tensors):
        return tensors[0].dtype
    return reduce(torch.promote_types, [t.dtype for t in tensors])


def _copy(sources: Sequence[Tensor], results: Sequence[Tensor]) -> None:
    if sources is not results:
        for source, result in zip(sources, results, strict=True):
            result.copy_(source)


def _plain(tensors: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
    """The tensors in the dtype, and with their sign in memory."""
    if all(t.dtype == dtype and not t.is_neg() for t in tensors):
        return tensors
    return [t.resolve_neg().to(dtype) for t in tensors]


def _strided(weights: Sequence[Tensor]) -> tuple[Sequence[Tensor], tuple[int, int, int], bool]:
    """The weights in one dense layout; its strides of output channel, input channel and tap; whether it was theirs."""
    first, strides = weights[0], weights[0].stride()
    tap = strides[-1]
    nested = tuple([tap * 3**i for i in reversed(range(len(strides) - 2))])
    is_dense = first.is_contiguous() or first.is_contiguous(memory_format=_LAST[first.ndim])
    if is_dense and strides[2:] == nested and all(weight.stride() == strides for weight in weights):
        return weights, (strides[0], strides[1], tap), True
    taps = math.prod(first.shape[2:])
    return [weight.contiguous() for weight in weights], (first.shape[1] * taps, taps, 1), False


def _lowest(xs: Sequence[Tensor], weights: Sequence[Tensor]) -> torch.dtype:
    """The lowest precision of the inputs, as under autocast."""
    dtypes = {t.dtype for t in (*xs, *weights)}
    size = min([dtype.itemsize for dtype in dtypes])
    lowest = {dtype for dtype in dtypes if dtype.itemsize == size}
    return lowest.pop() if len(lowest) == 1 else torch.float32  # bfloat16 and float16 have no common lower one
