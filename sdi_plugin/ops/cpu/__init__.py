"""resize_smooth_multiply on CPUs: one call of the compiled C++ kernel (csrc/, docs/derivation.md), with pointers."""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdi_plugin.ops.cpu.stage import COSTS as COSTS
from sdi_plugin.ops.cpu.stage import stage_plan
from sdi_plugin.ops.plain import accumulator

_ABI = 7  # version of the structures here and in stage.py; equal to kAbi in csrc/stage.h


def _load() -> tuple[Any, str]:
    """The compiled library and an empty string, or None and the reason why it is missing."""
    built = os.environ.get("SDI_PLUGIN_KERNEL") or Path(__file__).with_name("_kernel.so")
    if not Path(built).exists():
        why = "the install found no C++ compiler" if sys.platform == "linux" else "there is one for Linux only"
        return None, f"no compiled kernel: {why}, so the reference is used"
    if (team := _team()) is None:
        return None, "this torch has no GOMP_parallel, by which the kernel shares its threads: the reference is used"
    library = ctypes.CDLL(str(built))  # a kernel that is there but broken raises
    if library.sdi_abi() != _ABI:
        raise ImportError(
            f"{built} was built from other sources (ABI {library.sdi_abi()}, expected {_ABI}). Install again."
        )
    library.sdi_use_team.argtypes = (ctypes.c_void_p,)
    library.sdi_use_team(team)
    library.sdi_isa.restype = ctypes.c_char_p
    library.sdi_attend.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int)
    library.sdi_run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int)
    return library, ""


def _team() -> int | None:
    """The address of the GOMP_parallel that torch calls, of libgomp under whatever name or of a replacement for it.

    In the loader's order: what is global, such as a preloaded library, comes before what torch links.
    """
    for name in (None, torch._C.__file__):  # pyright: ignore[reportAttributeAccessIssue]
        found = getattr(ctypes.CDLL(name), "GOMP_parallel", None)
        if found is not None:
            return ctypes.cast(found, ctypes.c_void_p).value
    return None


library, _reason = _load()
_threads = torch.get_num_threads


def threads() -> int:
    """The number of threads for a call of the kernel."""
    return _threads()


def _use_one_thread() -> None:
    global _threads
    _threads = lambda: 1  # noqa: E731


# OpenMP's threads do not survive a fork: a child that asks for more than one would wait for them forever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_use_one_thread)


def reason() -> str:
    """Why the kernel is not available, or the empty string."""
    return _reason


def serves(device: torch.device) -> bool:
    """Whether the kernel accepts tensors on this device."""
    return device.type == "cpu" and library is not None


def isa() -> str:
    """The instruction set in use: "avx512", "avx2" or "baseline"."""
    return library.sdi_isa().decode()


class _Tensors(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("xs", "weights", "biases", "outs", "x_grads", "weight_grads", "bias_grads")
    )


def forward(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    """See `sdi_plugin.ops.resize_smooth_multiply_stage`; returns maps in channels-last memory."""
    dtype = accumulator(*xs)
    channels = weights[0].shape[0]
    # Exact channels-last strides: torch's memory formats leave those of axes of one element open.
    outs = [
        torch.empty((x.shape[0], *x.shape[2:], channels), dtype=dtype, device=x.device).movedim(-1, 1)
        for x in map(xs.__getitem__, targets)
    ]
    _run(dtype, fusion, targets, xs, weights, biases, outs)
    return [in_dtype(out, out_dtype) for out in outs]


def backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
    *,
    needs_maps: bool = True,
    needs_weights: bool = True,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The gradients of xs (in their layout), weights and biases. Recomputes the terms: forward keeps only its inputs.

    A group that is not needed is an empty list.
    """
    dtype = accumulator(*xs)
    maps, parameters = (xs if needs_maps else ()), ((weights, biases) if needs_weights else ((), ()))
    x_grads = [torch.empty_like(x, dtype=dtype) for x in maps]
    weight_grads, bias_grads = (
        [torch.empty(t.shape, dtype=dtype, device=t.device) for t in group] for group in parameters
    )
    _run(dtype, fusion, targets, xs, weights, biases, grads, x_grads, weight_grads, bias_grads, is_backward=True)
    return (
        [in_dtype(grad, x.dtype) for grad, x in zip(x_grads, maps, strict=True)],
        [like(grad, weight) for grad, weight in zip(weight_grads, parameters[0], strict=True)],
        [like(grad, bias) for grad, bias in zip(bias_grads, parameters[1], strict=True)],
    )


def in_dtype(t: Tensor, dtype: torch.dtype) -> Tensor:
    """t in the dtype, with its sign in memory: torch.imag(z.conj()) is a view whose memory holds the negative."""
    # Calling `to` costs time even if it changes nothing.
    return t.resolve_neg() if t.dtype == dtype else t.detach().to(dtype)


def like(grad: Tensor, parameter: Tensor) -> Tensor:
    """The gradient in the parameter's dtype and layout: the optimizer and DDP copy one of another layout."""
    if parameter.is_contiguous() and grad.dtype == parameter.dtype:
        return grad
    wanted = torch.empty_like(parameter)
    return grad if grad.dtype == wanted.dtype and grad.stride() == wanted.stride() else wanted.copy_(grad)


def _run(
    dtype: torch.dtype,
    fusion: str,
    targets: Sequence[int],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    outs: Sequence[Tensor],
    x_grads: Sequence[Tensor] = (),
    weight_grads: Sequence[Tensor] = (),
    bias_grads: Sequence[Tensor] = (),
    *,
    is_backward: bool = False,
) -> None:
    sizes = tuple(tuple(x.shape[2:]) for x in xs)
    out_channels, in_channels = weights[0].shape[:2]
    # Keep a reference until the end: another thread's plans may evict this one, and its tables, from the cache.
    held = stage_plan(xs[0].shape[0], sizes, tuple(targets), out_channels, in_channels, dtype, fusion)
    maps = [[in_dtype(x, dtype) for x in group] for group in (xs, outs)]
    parameters = [[in_dtype(t, dtype).contiguous() for t in group] for group in (weights, biases)]
    arrays = (
        _views(maps[0]),
        *map(_pointers, parameters),
        _views(maps[1]),
        _views(x_grads),
        _pointers(weight_grads),
        _pointers(bias_grads),
    )
    tensors = _Tensors(*[ctypes.addressof(array) if len(array) else None for array in arrays])
    is_double = dtype == torch.float64
    if library.sdi_run(ctypes.byref(held.stage), ctypes.byref(tensors), _threads(), is_double, is_backward):
        raise MemoryError(
            f"resize_smooth_multiply: no memory for maps of {[tuple(x.shape) for x in xs]}. "
            "Use a smaller batch or smaller images."
        )


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])


def _views(tensors: Sequence[Tensor]) -> Any:
    numbers: list[int] = []
    for t in tensors:
        b, c, *space = t.stride()
        numbers += (t.data_ptr(), b, c, *(0,) * (3 - len(space)), *space)
    return (ctypes.c_int64 * len(numbers))(*numbers)  # View of stage.h: a pointer and five strides
