"""The contenders: eager PyTorch, also channels last, torch.compile of it, sdi_plugin; on GPUs also as CUDA graphs."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.sdi import eager
from benchmarks.sdi.cases import CHANNELS, ENCODER, Case, Inputs
from sdi_plugin import SDISkip, UNetV2, UNetV2Decoder, dimension, ops
from sdi_plugin.attention import reduce

EAGER, CHANNELS_LAST, COMPILE, OURS, OURS_COMPILE = "eager", "eager-channels-last", "compile", "ours", "ours-compile"
ALL = (EAGER, CHANNELS_LAST, COMPILE, OURS, OURS_COMPILE)
COMPILE_MODE = {"cpu": None, "cuda": "max-autotune"}
COMPILE_NOTE = (
    "On CPUs torch.compile runs in its default mode: max-autotune chooses between templates, and on CPUs inductor has "
    "none for 3x3 convolutions, which run in oneDNN in any mode, and for matrix products only with frozen weights."
)


@dataclass
class Contender:
    """A call without arguments that returns the outputs, and the leaves whose gradients backward computes."""

    name: str
    call: Callable[[], list[Tensor]]
    leaves: list[Tensor]
    kinds: list[str]  # one per leaf: x, weight, bias or parameter

    @property
    def parameters(self) -> list[Tensor]:
        return [leaf for leaf, kind in zip(self.leaves, self.kinds, strict=True) if kind != "x"]

    def forward(self) -> list[Tensor]:
        """The outputs, without a graph, as in inference."""
        with torch.no_grad():
            return self.call()

    def backward_of(self, cotangents: Sequence[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        """A function that runs forward and backward, and accumulates nothing into the leaves."""
        return lambda: torch.autograd.grad(self.call(), self.leaves, cotangents)

    def cotangents(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the outputs: the same values for every contender, in the memory layout of its outputs.

        A pointwise loss would return them in this layout.
        """
        generator = torch.Generator().manual_seed(1)
        return [torch.empty_like(y).copy_(torch.randn(y.shape, generator=generator)) for y in outputs]


def names(case: Case, *, compiled: bool = True, channels_last: bool = True) -> list[str]:
    """The contenders of a case, in the order of tables."""
    found = [EAGER]
    if channels_last and case.kind in ("stage", "level"):
        found.append(CHANNELS_LAST)
    compiled = compiled and case.kind not in ("decoder", "step")  # of many convolutions, which compiling leaves alone
    if compiled:
        found.append(COMPILE)
    found.append(OURS)
    # Compiling also speeds up the encoder, so a network with our skip connection is compiled too.
    return [*found, OURS_COMPILE] if compiled and case.kind == "network" else found


def build(
    case: Case, name: str, *, training: bool = True, dtype: torch.dtype | None = None, device: str = "cpu"
) -> Contender:
    """One contender of a case.

    Args:
        training: whether norms use the batch's statistics; not for "stage" and "level", which have none.
        dtype: dtype of the inputs and the computation, by default the case's. The values of the inputs do not depend
            on it.
    """
    dtype = dtype or case.dtype
    if case.kind in ("stage", "level"):
        return _sdi(case, name, case.inputs(dtype, device))
    if case.kind == "attention":
        return _attention(case, name, training, dtype, device)
    if case.kind == "decoder":
        return _decoder(case, name, training, dtype, device)
    if case.kind == "step":
        return _step(case, name, training, device)
    return _network(case, name, training, device)


def _compile(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    # Cases differ in size: with static shapes each gets its own, fastest code.
    return torch.compile(function, dynamic=False, mode=COMPILE_MODE[device])


def _marked(function: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    """Mark the begin of each iteration: max-autotune's CUDA graphs reuse the memory of their outputs."""

    def call() -> list[Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        return function()

    return call


def _sdi(case: Case, name: str, inputs: Inputs) -> Contender:
    xs, weights, biases = inputs
    targets, device = case.targets, xs[0].device.type
    if name == CHANNELS_LAST:
        layout = torch.channels_last if case.dim == 2 else torch.channels_last_3d
        # The weights are converted once, as by a module's .to(memory_format=...); the maps in every call.
        weights = [w.detach().to(memory_format=layout).requires_grad_() for w in weights]
        calls = {name: lambda: eager.stage([x.contiguous(memory_format=layout) for x in xs], weights, biases, targets)}
    elif name == COMPILE:
        compiled = _compile(eager.stage, device)
        calls = {name: _marked(lambda: compiled(xs, weights, biases, targets))}
    else:
        calls = {
            EAGER: lambda: eager.stage(xs, weights, biases, targets),
            OURS: lambda: ops.resize_smooth_multiply_stage(xs, weights, biases, targets),
        }
    kinds = ["x"] * len(xs) + ["weight"] * len(weights) + ["bias"] * len(biases)
    return Contender(name, calls[name], [*xs, *weights, *biases], kinds)


def _attention(case: Case, name: str, training: bool, dtype: torch.dtype, device: str) -> Contender:
    torch.manual_seed(0)
    skip = SDISkip(case.widths, CHANNELS, dim=case.dim).to(device, dtype).train(training)
    features = case.features(dtype, device)
    ours: Any = skip.reductions
    plain: Any = eager.Skip(skip).reductions

    def run() -> list[Tensor]:
        return [reduction(f) for reduction, f in zip(plain, features, strict=True)]

    function = (lambda: reduce(list(ours), features)) if name == OURS else run
    call = _marked(_compile(function, device)) if name == COMPILE else function
    parameters = list(ours.parameters())
    kinds = ["x"] * len(features) + ["parameter"] * len(parameters)
    return Contender(name, call, [*features, *parameters], kinds)


def _decoder(case: Case, name: str, training: bool, dtype: torch.dtype, device: str) -> Contender:
    torch.manual_seed(0)
    decoder = UNetV2Decoder(case.widths, CHANNELS, dim=case.dim).to(device, dtype).train(training)
    head = dimension.conv(case.dim)(CHANNELS, 1, 1).to(device, dtype)
    features = case.features(dtype, device)
    function = decoder if name == OURS else eager.Decoder(decoder)
    leaves = [*features, *decoder.parameters(), *head.parameters()]
    kinds = ["x"] * len(features) + ["parameter"] * (len(leaves) - len(features))
    return Contender(name, lambda: [head(function(features)[0])], leaves, kinds)


def _step(case: Case, name: str, training: bool, device: str) -> Contender:
    """nnU-Net's own network of a plan as `eager`, and ours on the same encoder."""
    from benchmarks import nnunet  # needs nnU-Net

    torch.manual_seed(0)
    own, ours = "PlainConvUNet", "U-Net v2, plain encoder"
    network = nnunet.build(ours if name == OURS else own, case.dim, case.levels, 512 if case.dim == 2 else 320)
    network = network.train(training).to(device)
    image = case.image(device, channels=1)
    leaves: list[Tensor] = list(network.parameters())

    def call() -> list[Tensor]:
        return list(network(image))

    return Contender(name, call, leaves, ["parameter"] * len(leaves))


def _network(case: Case, name: str, training: bool, device: str) -> Contender:
    torch.manual_seed(0)
    model = UNetV2(ENCODER, channels=CHANNELS, drop_path=0.0).train(training).to(device)
    if name in (EAGER, COMPILE):
        model = with_eager_skip(model)
    image = case.image(device)
    run = _compile(model, device) if name in (COMPILE, OURS_COMPILE) else model

    def call() -> list[Tensor]:
        return [run(image)]

    leaves: list[Tensor] = list(model.parameters())
    marked = _marked(call) if name in (COMPILE, OURS_COMPILE) else call
    return Contender(name, marked, leaves, ["parameter"] * len(leaves))


def with_eager_skip(model: UNetV2) -> UNetV2:
    """A copy of the network with the paper's skip connection, in plain PyTorch, with the same weights."""
    model = copy.deepcopy(model)
    decoder = cast(Any, model.decoder)
    decoder.skip = eager.Skip(cast(nn.Module, decoder.skip))
    return model
