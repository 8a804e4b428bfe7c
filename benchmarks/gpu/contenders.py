"""The contenders for one SDI stage, and their calls on several sets of inputs."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.device import Device
from benchmarks.sdi import eager
from benchmarks.sdi.cases import CHANNELS, Case
from sdi_plugin import ops

Stage = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[int]], list[Tensor]]

EAGER, CHANNELS_LAST, GROUPED, COMPILE, OURS = "eager", "eager-channels-last", "grouped", "compile", "ours"
ALL = (OURS, CHANNELS_LAST, EAGER, GROUPED, COMPILE)
MODES = ("forward", "forward+backward")
PRECISIONS = {"bf16": torch.bfloat16, "tf32": torch.float32}
_SETS = 64  # at most: then the small maps of batch 1 fit in the cache


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


class Inputs(NamedTuple):
    """One set of a stage's leaves, and the gradients of its outputs."""

    xs: list[Tensor]
    weights: list[Tensor]
    biases: list[Tensor]
    grads: list[Tensor]


def calls(
    case: Case, precision: str, name: str, mode: str, device: Device, sets: int | None = None
) -> list[Callable[[], object]]:
    """A contender's call on each set of inputs, which together exceed the last cache where 64 sets do.

    Sets have their own maps and gradients of outputs, in the layout of the contender; they share the weights.
    """
    function, inputs = _stage(name, device), _inputs(case, precision, name, device)
    if sets is None:
        sets = min(_SETS, math.ceil(1.2 * device.cache / _size([*inputs.xs, *inputs.grads])))
    copies = [inputs, *(_copy(inputs) for _ in range(sets - 1))]
    configure(precision, name)

    def forward(own: Inputs) -> object:
        with torch.no_grad():
            return function(own.xs, own.weights, own.biases, case.targets)

    def both(own: Inputs) -> object:
        outs = function(own.xs, own.weights, own.biases, case.targets)
        return torch.autograd.grad(outs, [*own.xs, *own.weights, *own.biases], own.grads)

    call = forward if mode == "forward" else both
    return [lambda own=own: call(own) for own in copies]


def configure(precision: str, name: str = OURS) -> None:
    """Torch's settings for a contender: TF32 wherever maps are float32, and cuDNN's fastest algorithm where it pays."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = name in (CHANNELS_LAST, GROUPED, COMPILE)


def flops(case: Case, mode: str) -> int:
    """FLOPs of the convolutions at the target's size, as every contender but ours must compute them."""
    pixels = sum(math.prod(case.sizes[target]) for target in case.targets)
    forward = 2 * case.batch * CHANNELS**2 * 3**case.dim * case.levels * pixels
    return forward if mode == "forward" else 3 * forward


def least_bytes(case: Case, precision: str, mode: str) -> int:
    """Bytes of the maps read once and written once, and of the weights: forward, and backward which recomputes."""
    item = PRECISIONS[precision].itemsize
    maps = case.batch * CHANNELS * sum(math.prod(size) for size in case.sizes)
    weights = len(case.targets) * case.levels * CHANNELS * (CHANNELS * 3**case.dim + 1)
    forward = 2 * maps + weights
    return item * (forward if mode == "forward" else forward + 3 * maps + 2 * weights)


def _stage(name: str, device: Device) -> Stage:
    if name == COMPILE:
        return device.compile(eager.stage)
    return {OURS: ops.resize_smooth_multiply_stage, GROUPED: grouped}.get(name, eager.stage)


def _inputs(case: Case, precision: str, name: str, device: Device) -> Inputs:
    dtype = PRECISIONS[precision]
    xs, weights, biases, grads = _values(case)
    if name == GROUPED:
        weights, biases = ([torch.cat(part) for part in _split(group, case.levels)] for group in (weights, biases))
    layout = torch.channels_last if case.dim == 2 else torch.channels_last_3d
    memory_format = torch.contiguous_format if name == EAGER else layout

    def leaf(t: Tensor) -> Tensor:
        moved = t.detach().to(device.type, dtype)
        return (moved.contiguous(memory_format=memory_format) if t.ndim > 1 else moved).requires_grad_()

    made = Inputs(*([leaf(t) for t in group] for group in (xs, weights, biases, grads)))
    return made._replace(grads=[g.detach() for g in made.grads])


@lru_cache(maxsize=1)
def _values(case: Case) -> Inputs:
    """In float32 on the CPU: the same for every contender, and drawn once for all of them."""
    generator = torch.Generator().manual_seed(1)
    xs, weights, biases = case.inputs(torch.float32, "cpu")
    return Inputs(xs, weights, biases, [torch.randn(xs[t].shape, generator=generator) for t in case.targets])


def _copy(inputs: Inputs) -> Inputs:
    xs = [x.detach().clone().requires_grad_() for x in inputs.xs]
    return Inputs(xs, inputs.weights, inputs.biases, [g.clone() for g in inputs.grads])


def _split(tensors: list[Tensor], length: int) -> list[list[Tensor]]:
    return [tensors[i : i + length] for i in range(0, len(tensors), length)]


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
