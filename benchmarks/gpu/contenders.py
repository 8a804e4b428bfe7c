"""The contenders for one stage, SDI or the attention before it, and their calls on several sets of inputs."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.device import Device
from benchmarks.sdi import eager
from benchmarks.sdi.cases import CHANNELS, Case
from sdi_plugin import ops

Stage = Callable[..., list[Tensor]]  # of the maps of all levels, then of each group of parameters

EAGER, CHANNELS_LAST, GROUPED, COMPILE, OURS = "eager", "eager-channels-last", "grouped", "compile", "ours"
ALL = (OURS, CHANNELS_LAST, EAGER, GROUPED, COMPILE)
MODES = ("forward", "forward+backward")
PRECISIONS = {"bf16": torch.bfloat16, "tf32": torch.float32}
_SETS = 64  # at most: then the small maps of batch 1 fit in the cache


def of(case: Case) -> tuple[str, ...]:
    """The contenders for a case."""
    return tuple(name for name in ALL if case.kind == "stage" or name != GROUPED)


def grouped(
    xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], targets: Sequence[int]
) -> list[Tensor]:
    """SDI with one grouped convolution per target, whose weights hold those of all levels: (L C, C, 3, 3[, 3])."""
    convolve, outs = F.conv2d if xs[0].ndim == 4 else F.conv3d, []
    for weight, bias, target in zip(weights, biases, targets, strict=True):
        resized = torch.cat([eager.resize(x, xs[target].shape[2:]) for x in xs], 1)
        first, *others = convolve(resized, weight, bias, padding=1, groups=len(xs)).chunk(len(xs), 1)
        for term in others:
            first = first * term
        outs.append(first)
    return outs


def attention(*groups: Sequence[Tensor]) -> list[Tensor]:
    return [eager.attend_and_reduce(*level) for level in zip(*groups, strict=True)]


class Inputs(NamedTuple):
    """One set of a stage's leaves, and the gradients of its outputs.

    parameters: weights and biases of SDI; fc1, fc2, conv7 and conv1 of the attention.
    """

    xs: list[Tensor]
    parameters: list[list[Tensor]]
    grads: list[Tensor]


def calls(
    case: Case, precision: str, name: str, mode: str, device: Device, sets: int | None = None
) -> list[Callable[[], object]]:
    """A contender's call on each set of inputs, which together exceed the last cache where 64 sets do.

    Sets have their own maps and gradients of outputs, in the layout of the contender; they share the weights.
    """
    function, inputs = stage_of(case, name, device), inputs_of(case, precision, name, device)
    if sets is None:
        sets = min(_SETS, math.ceil(1.2 * device.cache / _size([*inputs.xs, *inputs.grads])))
    copies = [inputs, *(_copy(inputs) for _ in range(sets - 1))]
    configure(precision, name)

    def forward(own: Inputs) -> object:
        with torch.no_grad():
            return function(own.xs, *own.parameters)

    def both(own: Inputs) -> object:
        outs = function(own.xs, *own.parameters)
        return torch.autograd.grad(outs, [*own.xs, *(t for group in own.parameters for t in group)], own.grads)

    call = forward if mode == "forward" else both
    return [lambda own=own: call(own) for own in copies]


def configure(precision: str, name: str = OURS) -> None:
    """Torch's settings for a contender: TF32 wherever maps are float32, and cuDNN's fastest algorithm where it pays."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = name in (CHANNELS_LAST, GROUPED, COMPILE)


def flops(case: Case, mode: str) -> int:
    """FLOPs of the convolutions at the target's size, as every contender but ours must compute them.

    For the attention, of the reductions alone.
    """
    pixels = [math.prod(case.sizes[target]) for target in case.targets]
    if case.kind == "attention":
        forward = 2 * case.batch * CHANNELS * sum(w * n for w, n in zip(case.widths, pixels, strict=True))
    else:
        forward = 2 * case.batch * CHANNELS**2 * 3**case.dim * case.levels * sum(pixels)
    return forward if mode == "forward" else 3 * forward


def least_bytes(case: Case, precision: str, mode: str) -> int:
    """Bytes of the maps read once and written once, and of the weights: forward, and backward which recomputes."""
    pixels = [case.batch * math.prod(size) for size in case.sizes]
    outs, weights = CHANNELS * sum(pixels), len(case.targets) * case.levels * CHANNELS * (CHANNELS * 3**case.dim + 1)
    maps = outs
    if case.kind == "attention":
        maps, weights = sum(w * n for w, n in zip(case.widths, pixels, strict=True)), CHANNELS * sum(case.widths)
    forward = maps + outs + weights
    return PRECISIONS[precision].itemsize * (forward if mode == "forward" else forward + 2 * maps + outs + 2 * weights)


def stage_of(case: Case, name: str, device: Device) -> Stage:
    if case.kind == "attention":
        plain, ours = attention, ops.attend_and_reduce_stage
    else:
        plain, ours = eager.stage, ops.resize_smooth_multiply_stage
    stage = device.compile(plain) if name == COMPILE else {OURS: ours, GROUPED: grouped}.get(name, plain)
    return stage if case.kind == "attention" else partial(stage, targets=case.targets)


def inputs_of(case: Case, precision: str, name: str, device: Device) -> Inputs:
    dtype = PRECISIONS[precision]
    xs, parameters, grads = _values(case)
    if name == GROUPED:
        parameters = [[torch.cat(part) for part in _split(group, case.levels)] for group in parameters]
    layout = torch.channels_last if case.dim == 2 else torch.channels_last_3d
    memory_format = torch.contiguous_format if name == EAGER else layout

    def leaf(t: Tensor) -> Tensor:
        moved = t.detach().to(device.type, dtype)
        return (moved.contiguous(memory_format=memory_format) if t.ndim > 1 else moved).requires_grad_()

    own = [[leaf(t) for t in group] for group in parameters]
    return Inputs([leaf(x) for x in xs], own, [leaf(g).detach() for g in grads])


@lru_cache(maxsize=1)
def _values(case: Case) -> Inputs:
    """In float32 on the CPU: the same for every contender, and drawn once for all of them."""
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    if case.kind == "attention":
        xs, ones, sevens = case.features(torch.float32, "cpu"), [1] * case.dim, [7] * case.dim
        of = [(width, max(1, width // 16)) for width in case.widths]
        parameters = [
            [drawn(hidden, width, *ones, scale=width**-0.5) for width, hidden in of],
            [drawn(width, hidden, *ones, scale=hidden**-0.5) for width, hidden in of],
            [drawn(1, 2, *sevens, scale=(2 * 7**case.dim) ** -0.5) for _ in of],
            [drawn(CHANNELS, width, *ones, scale=width**-0.5) for width, _ in of],
        ]
    else:
        xs, *parameters = case.inputs(torch.float32, "cpu")
    grads = [drawn(case.batch, CHANNELS, *case.sizes[target]) for target in case.targets]
    return Inputs(xs, parameters, grads)


def _copy(inputs: Inputs) -> Inputs:
    xs = [x.detach().clone().requires_grad_() for x in inputs.xs]
    return Inputs(xs, inputs.parameters, [g.clone() for g in inputs.grads])


def _split(tensors: list[Tensor], length: int) -> list[list[Tensor]]:
    return [tensors[i : i + length] for i in range(0, len(tensors), length)]


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
