"""The only file that uses torch.library: schema, fake, autograd and vmap of resize_smooth_multiply."""

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from sdi_plugin.ops import cpu, gpu, reference

FORCE_REFERENCE = os.environ.get("SDI_PLUGIN_REFERENCE", "") not in ("", "0")
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def resize_smooth_multiply(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    *,
    fusion: str = "product",
    out_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """See `sdi_plugin.ops.resize_smooth_multiply_stage`: the fused op where it applies, else the reference."""
    _check_counts(xs, weights, biases, targets)
    _check_fusion(fusion)
    if _is_fused(xs, weights, biases):
        dtypes = [out_dtype or xs[target].dtype for target in targets]
        common = dtypes[0] if len(set(dtypes)) == 1 else torch.float32
        if _is_plain((*xs, *weights, *biases)):
            outs = _Direct.apply(len(xs), list(targets), common, fusion, *xs, *weights, *biases)
        else:
            outs = fused(list(xs), list(weights), list(biases), list(targets), common, fusion)
        return [out if out.dtype == dtype else out.to(dtype) for out, dtype in zip(outs, dtypes, strict=True)]
    levels = len(xs)
    groups = [slice(i * levels, (i + 1) * levels) for i in range(len(targets))]
    return [
        reference.resize_smooth_multiply(xs, weights[group], biases[group], target, fusion=fusion, out_dtype=out_dtype)
        for target, group in zip(targets, groups, strict=True)
    ]


def reasons() -> dict[str, str]:
    """Why the kernels of each kind do not serve, or an empty string."""
    forced = "SDI_PLUGIN_REFERENCE is set: the plain-torch reference serves instead" if FORCE_REFERENCE else ""
    return {"cpu": forced or cpu.reason, "triton": forced or gpu.reason()}


def _is_fused(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> bool:
    # An exported program is to run where this package is not: it gets torch's own ops.
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    if FORCE_REFERENCE or exporting() or xs[0].ndim not in (4, 5):
        return False
    tensors = (*xs, *weights, *biases)
    device = xs[0].device
    if any(t.device != device or t.dtype not in _DTYPES for t in tensors) or not _serves(device):
        return False
    return _is_uniform(xs, weights, biases)


def _check_counts(
    xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], targets: Sequence[int]
) -> None:
    expected = len(xs) * len(targets)
    if not expected or len(weights) != expected or len(biases) != expected:
        raise ValueError(
            f"resize_smooth_multiply: expected {expected} weights and biases ({len(xs)} levels, {len(targets)} targets)"
            f", got {len(weights)} and {len(biases)}. Pass one convolution for every target and level."
        )
    if not all(0 <= target < len(xs) for target in targets):
        raise ValueError(
            f"resize_smooth_multiply: expected targets from 0 (finest) to {len(xs) - 1}, got {list(targets)}."
        )


def _check_fusion(fusion: str) -> None:
    if fusion not in reference.FUSIONS:
        expected = " or ".join(map(repr, reference.FUSIONS))
        raise ValueError(f"resize_smooth_multiply: expected fusion {expected}, got {fusion!r}.")


def _is_uniform(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> bool:
    """Whether the shapes are what the kernels take for granted. The reference takes, or refuses, what is not."""
    batch, channels, *size = xs[0].shape
    shape = (weights[0].shape[0], channels, *(3,) * len(size))
    return (
        all(x.ndim == xs[0].ndim and x.shape[0] == batch and x.shape[1] == channels for x in xs)
        and all(tuple(weight.shape) == shape for weight in weights)
        and all(tuple(bias.shape) == shape[:1] for bias in biases)
    )


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether nothing listens to the dispatcher: then torch.library's layers in Python, slow for small maps, can go."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or any(type(t) is not Tensor and type(t) is not torch.nn.Parameter for t in tensors)
    )


def _serves(device: torch.device) -> bool:
    return (device.type == "cpu" and cpu.available) or gpu.serves(device)


def _by_triton(device: torch.device) -> bool:
    """On GPUs, and where its interpreter is asked for."""
    return device.type == "cuda" or gpu.INTERPRETED


def _kernels(x: Tensor) -> ModuleType:
    return gpu if _by_triton(x.device) else cpu


@custom_op("sdi_plugin::resize_smooth_multiply", mutates_args=(), device_types=("cpu", "cuda"))
def fused(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    _check_counts(xs, weights, biases, targets)
    _check_fusion(fusion)
    if not _is_uniform(xs, weights, biases):
        raise ValueError(
            "sdi_plugin::resize_smooth_multiply: expected maps (B, C, *S) of one B and C, weights "
            f"(C_out, C, 3, 3[, 3]) and biases (C_out,), got {[tuple(t.shape) for t in (*xs, *weights, *biases)]}. "
            "Call sdi_plugin.ops.resize_smooth_multiply, which takes other shapes too."
        )
    return _kernels(xs[0]).forward(xs, weights, biases, targets, out_dtype, fusion)


@custom_op("sdi_plugin::resize_smooth_multiply_backward", mutates_args=(), device_types=("cpu", "cuda"))
def fused_backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    return _kernels(xs[0]).backward(grads, xs, weights, biases, targets, fusion)


@fused.register_fake
def _fake(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    shapes = [(xs[t].shape[0], *xs[t].shape[2:], weights[0].shape[0]) for t in targets]
    return [xs[0].new_empty(shape, dtype=out_dtype).movedim(-1, 1) for shape in shapes]


@fused_backward.register_fake
def _fake_backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    x_grads, weight_grads, bias_grads = ([t.new_empty(t.shape) for t in group] for group in (xs, weights, biases))
    if _by_triton(xs[0].device):
        x_grads = [x.new_empty(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1) for x in xs]
    return x_grads, weight_grads, bias_grads


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    xs, weights, biases, ctx.targets, _, ctx.fusion = inputs
    ctx.levels = len(xs)
    ctx.save_for_backward(*xs, *weights, *biases)


def _split(tensors: Sequence[Tensor], levels: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """xs, weights and biases again, of which there are equally many of the latter two."""
    terms = (len(tensors) - levels) // 2
    return list(tensors[:levels]), list(tensors[levels : levels + terms]), list(tensors[levels + terms :])


def _backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    return *fused_backward(grads, *_split(ctx.saved_tensors, ctx.levels), ctx.targets, ctx.fusion), None, None, None


fused.register_autograd(_backward, setup_context=_setup_context)


def _setup_backward_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grads, xs, weights, biases, ctx.targets, ctx.fusion = inputs
    ctx.outputs, ctx.levels = len(grads), len(xs)
    ctx.save_for_backward(*grads, *xs, *weights, *biases)


def _double_backward(ctx: Any, *gradients: list[Tensor | None]) -> tuple[Any, ...]:
    """Second derivatives, which are rare, are those of the reference."""
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        grads, others = inputs[: ctx.outputs], inputs[ctx.outputs :]
        xs, weights, biases = _split(others, ctx.levels)
        outs = [
            reference.resize_smooth_multiply(
                xs, weights[i : i + len(xs)], biases[i : i + len(xs)], target, fusion=ctx.fusion
            )
            for i, target in zip(range(0, len(weights), len(xs)), ctx.targets, strict=True)
        ]
        outs = [out.to(grad.dtype) for out, grad in zip(outs, grads, strict=True)]
        first = torch.autograd.grad(outs, others, grads, create_graph=True)
    given = [(f, g) for f, g in zip(first, [g for group in gradients for g in group], strict=True) if g is not None]
    second = torch.autograd.grad([f for f, _ in given], inputs, [g for _, g in given], allow_unused=True)
    second = [torch.zeros_like(t) if g is None else g for t, g in zip(inputs, second, strict=True)]
    return second[: ctx.outputs], *_split(second[ctx.outputs :], ctx.levels), None, None


fused_backward.register_autograd(_double_backward, setup_context=_setup_backward_context)


class _Direct(torch.autograd.Function):
    """`fused` and its autograd without the dispatcher."""

    @staticmethod
    def forward(
        ctx: Any, levels: int, targets: list[int], out_dtype: torch.dtype, fusion: str, *tensors: Tensor
    ) -> Any:
        ctx.levels, ctx.targets, ctx.fusion = levels, targets, fusion
        ctx.save_for_backward(*tensors)
        return tuple(_kernels(tensors[0]).forward(*_split(tensors, levels), targets, out_dtype, fusion))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        inputs = _split(ctx.saved_tensors, ctx.levels)
        # With create_graph the op is needed, which has a derivative.
        function = fused_backward if torch.is_grad_enabled() else _kernels(grads[0]).backward
        x_grads, weight_grads, bias_grads = function(list(grads), *inputs, ctx.targets, ctx.fusion)
        return None, None, None, None, *x_grads, *weight_grads, *bias_grads


def _vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[list[Tensor], list[int]]:
    """One call for each element: the op has its own batch axis, and weights may differ."""
    dims, groups = in_dims[:3], inputs[:3]

    def element(i: int) -> list[list[Tensor]]:
        return [
            [t if d is None else t.select(d, i) for t, d in zip(group, ds, strict=True)]
            for group, ds in zip(groups, dims, strict=True)
        ]

    results = [fused(*element(i), *inputs[3:]) for i in range(info.batch_size)]
    outs = [torch.stack(outs) for outs in zip(*results, strict=True)]
    return outs, [0] * len(outs)


if hasattr(fused, "register_vmap"):  # torch 2.5 or later; before, vmap says that the op has no rule
    fused.register_vmap(_vmap)
