"""The only file that uses torch.library: schema, fake and autograd of resize_smooth_multiply."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from sdi_plugin.ops import cpu, reference

FORCE_REFERENCE = os.environ.get("SDI_PLUGIN_REFERENCE", "") not in ("", "0")


def resize_smooth_multiply(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    level: int,
    *,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """See `sdi_plugin.ops.resize_smooth_multiply`: the fused op where it applies, else the reference."""
    if _is_fused(xs, weights, biases, out_dtype):
        return fused(list(xs), list(weights), list(biases), level)
    return reference.resize_smooth_multiply(xs, weights, biases, level, out_dtype=out_dtype)


def cpu_reason() -> str:
    """Why the C++ kernel does not serve, or an empty string."""
    return "SDI_PLUGIN_REFERENCE is set: the plain-torch reference serves instead" if FORCE_REFERENCE else cpu.reason


def arrange(xs: Sequence[Tensor]) -> list[Tensor]:
    """See `sdi_plugin.ops.arrange`."""
    return [x.contiguous(memory_format=cpu.FORMAT[x.ndim]) for x in xs] if _is_served(xs) else list(xs)


def _is_fused(
    xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], out_dtype: torch.dtype | None
) -> bool:
    if out_dtype not in (None, torch.float32) or not _is_served((*xs, *weights, *biases)):
        return False
    return xs[0].ndim in (4, 5) and all(tuple(weight.shape[2:]) == (3,) * (xs[0].ndim - 2) for weight in weights)


def _is_served(tensors: Sequence[Tensor]) -> bool:
    """Whether the kernel takes these tensors: float32 on a CPU, outside autocast and export."""
    # An exported program is to run where this package is not: it gets torch's own ops.
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    if not cpu.available or FORCE_REFERENCE or exporting() or torch.is_autocast_enabled("cpu"):
        return False
    return all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)


@custom_op("sdi_plugin::resize_smooth_multiply", mutates_args=(), device_types="cpu")
def fused(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], level: int) -> Tensor:
    return cpu.forward(xs, weights, biases, level)


@custom_op("sdi_plugin::resize_smooth_multiply_backward", mutates_args=(), device_types="cpu")
def fused_backward(
    grad: Tensor, xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], level: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    return cpu.backward(grad, xs, weights, biases, level)


@fused.register_fake
def _fake(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], level: int) -> Tensor:
    shape = (xs[level].shape[0], weights[level].shape[0], *xs[level].shape[2:])
    return xs[level].new_empty(shape).to(memory_format=cpu.FORMAT[len(shape)])


@fused_backward.register_fake
def _fake_backward(
    grad: Tensor, xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], level: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    x_grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in xs]
    others = [[torch.empty_like(t, memory_format=torch.contiguous_format) for t in ts] for ts in (weights, biases)]
    return x_grads, others[0], others[1]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    xs, weights, biases, ctx.level = inputs
    ctx.levels = len(xs)
    ctx.save_for_backward(*xs, *weights, *biases)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    n, saved = ctx.levels, list(ctx.saved_tensors)
    return *fused_backward(grad, saved[:n], saved[n : 2 * n], saved[2 * n :], ctx.level), None


fused.register_autograd(_backward, setup_context=_setup_context)
