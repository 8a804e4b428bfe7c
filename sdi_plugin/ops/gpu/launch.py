"""Starts the kernels: the only place that does."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sdi_plugin.ops.gpu import INTERPRETED
from sdi_plugin.ops.gpu.schedule import Launch

OPTIONS = ("num_warps", "num_stages")  # for the compiler


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The kernels by name. Imported on the first call, because importing triton takes longer than the whole package."""
    from sdi_plugin.ops.gpu import convolve, resize, weights

    return SimpleNamespace(
        pack=weights.pack,
        resize=resize.resize,
        resize_adjoint=resize.resize_adjoint,
        resize_adjoint_depth=resize.resize_adjoint_depth,
        multiply=convolve.multiply,
        multiply_backward=convolve.multiply_backward,
        gradients=convolve.gradients,
        reduce=weights.reduce,
    )


def arguments(launch: Launch, accumulator: torch.dtype, *, amd: bool = torch.version.hip is not None) -> dict[str, Any]:
    """All that a kernel is given but its tensors. AMD's warps have 64 threads."""
    from triton import language as tl

    given = dict(launch.arguments)
    if launch.kernel != "pack":
        given["ACC"] = tl.float64 if accumulator == torch.float64 else tl.float32
    given["num_warps"] = given.get("num_warps", 4) // (2 if amd else 1)
    return given


def run(launch: Launch, accumulator: torch.dtype, *tensors: Tensor | Sequence[Tensor]) -> None:
    """Run a launch on the current stream of the current device."""
    if INTERPRETED:
        getattr(kernels(), launch.kernel)[launch.grid](*_tuples(tensors), **arguments(launch, accumulator))
        return
    pointers: list[Any] = []
    types: list[Any] = [torch.cuda.current_device()]
    ored = 0
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            pointer = tensor.data_ptr()
            ored |= pointer
            pointers.append(pointer)
            types.append(tensor.dtype)
        else:
            several = tuple([t.data_ptr() for t in tensor])
            for pointer in several:
                ored |= pointer
            pointers.append(several)
            types.append(tensor[0].dtype)
    key = (ored % 16, *types)
    start = launch.prepared.get(key)
    if start is None:
        start = launch.prepared[key] = _prepare(launch, accumulator, tensors)
    else:
        start(pointers)


def _prepare(
    launch: Launch, accumulator: torch.dtype, tensors: Sequence[Tensor | Sequence[Tensor]]
) -> Callable[[list[Any]], None]:
    """Run a launch for the first time; return what runs it again with other pointers of the same types and alignment.

    Triton looks a kernel up by all of its arguments, which takes longer than the rest of a call; here only pointers
    change.
    """
    kernel = getattr(kernels(), launch.kernel)
    given = arguments(launch, accumulator)
    compiled = kernel[launch.grid](*_tuples(tensors), **given)
    rest = [given[name] for name in kernel.arg_names[len(tensors) :]]
    again = compiled[(*launch.grid, 1, 1)[:3]]
    return lambda pointers: again(*pointers, *rest)


def _tuples(tensors: Sequence[Tensor | Sequence[Tensor]]) -> list[Any]:
    return [t if isinstance(t, Tensor) else tuple(t) for t in tensors]
