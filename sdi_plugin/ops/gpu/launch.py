"""Starts the kernels: the only place that does."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sdi_plugin.ops.gpu import INTERPRETED
from sdi_plugin.ops.gpu.chunk import Launch

OPTIONS = ("num_warps", "num_stages")  # for the compiler


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The kernels by name. Imported on the first call, because importing triton takes longer than the whole package."""
    from sdi_plugin.ops.gpu import adjoint, convolve, gradients, resize, weights
    from sdi_plugin.ops.gpu.attend import channels, logits, pixels
    from sdi_plugin.ops.gpu.attend.gradients import attend_gradients, sum_pixels

    return SimpleNamespace(
        pack=weights.pack,
        resize=resize.resize,
        resize_adjoint=adjoint.resize_adjoint,
        resize_adjoint_depth=adjoint.resize_adjoint_depth,
        multiply=convolve.multiply,
        multiply_backward=convolve.multiply_backward,
        gradients=gradients.gradients,
        reduce=weights.reduce,
        pool_pixels=channels.pool_pixels,
        gate_channels=channels.gate_channels,
        pool_channels=pixels.pool_channels,
        reduce_channels=pixels.reduce_channels,
        pixel_logits=logits.pixel_logits,
        smooth_backward=logits.smooth_backward,
        sum_pixels=sum_pixels,
        gate_gradients=channels.gate_gradients,
        mlp_backward=channels.mlp_backward,
        attend_gradients=attend_gradients,
    )


def arguments(launch: Launch, accumulator: torch.dtype, *, amd: bool = torch.version.hip is not None) -> dict[str, Any]:
    """All that a kernel is given but its tensors. AMD's warps have 64 threads."""
    from triton import language as tl

    given = dict(launch.arguments)
    if launch.kernel != "pack":
        given["ACC"] = tl.float64 if accumulator == torch.float64 else tl.float32
    given["num_warps"] = given.get("num_warps", 4) // (2 if amd else 1)
    return given


def on(device: torch.device) -> AbstractContextManager[object]:
    """The kernels run on the current device."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)


def stream(device: torch.device) -> int:
    """The address of the device's current stream."""
    from triton.runtime import driver

    active: Any = driver.active
    return active.get_current_stream(device.index)


def run(
    launch: Launch, accumulator: torch.dtype, *tensors: Tensor | Sequence[Tensor]
) -> Callable[[list[Any], int], None] | None:
    """Run a launch on the current stream of the current device.

    Returns what runs it again on a stream, given the addresses of tensors of the same types and alignment: Triton looks
    a kernel up by all of its arguments, which takes longer than the rest of a call. None in the interpreter.
    """
    kernel = getattr(kernels(), launch.kernel)
    given = arguments(launch, accumulator)
    compiled = kernel[launch.grid](*tensors, **given)
    if INTERPRETED:
        return None
    rest = [given[name] for name in kernel.arg_names[len(tensors) :]]
    again = compiled[(*launch.grid, 1, 1)[:3]]
    return lambda pointers, stream: again(*pointers, *rest, stream=stream)
