"""attend_and_reduce on CPUs: one call of the compiled C++ kernel (csrc/attend*.h), with pointers."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from sdi_plugin.ops import cpu
from sdi_plugin.ops.plain import accumulator, empty_result


class _View(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("stride", ctypes.c_int64 * 5))


class _Level(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("channels", "hidden", "out_channels", "d", "h", "w")),
        *((name, _View) for name in ("f", "g")),
        *((name, ctypes.c_void_p) for name in ("fc1", "fc2", "conv7", "conv1", "channels_kept", "pixels_kept")),
        *((name, _View) for name in ("g_grad", "f_grad")),
        *((name, ctypes.c_void_p) for name in ("fc1_grad", "fc2_grad", "conv7_grad", "conv1_grad")),
    )


class _Attention(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_int64) for name in ("batch", "depth_taps", "levels")), ("level", ctypes.c_void_p))


def forward(
    fs: Sequence[Tensor],
    fc1: Sequence[Tensor],
    fc2: Sequence[Tensor],
    conv7: Sequence[Tensor],
    conv1: Sequence[Tensor],
    out_dtype: torch.dtype,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `sdi_plugin.ops.plain.forward`."""
    groups = fs, fc1, fc2, conv7, conv1
    dtype = accumulator(*[t for group in groups for t in group])
    gs, channels, pixels = [], [], []
    for f, weight in zip(fs, conv1, strict=True):
        batch, width, *size = f.shape
        gs.append(empty_result(f, weight.shape[0], dtype))
        channels.append(torch.empty((batch, 3, width), dtype=dtype, device=f.device))
        pixels.append(torch.empty((batch, 3, *size), dtype=dtype, device=f.device))
    _run(dtype, groups, (gs, channels, pixels))
    return [cpu.in_dtype(g, out_dtype) for g in gs], channels, pixels


def backward(
    grads: Sequence[Tensor],
    groups: Sequence[Sequence[Tensor]],
    kept: Sequence[Sequence[Tensor]],
    *,
    needs_maps: bool = True,
) -> list[list[Tensor]]:
    """See `sdi_plugin.ops.plain.backward`."""
    dtype = kept[1][0].dtype
    # In the layout of the maps themselves, where that is dense.
    found = [
        [torch.empty_like(t, dtype=dtype) if i == 0 else torch.empty(t.shape, dtype=dtype, device=t.device) for t in ts]
        for i, ts in enumerate(groups)
        if needs_maps or i
    ]
    _run(dtype, groups, kept, grads, found)
    wanted = groups if needs_maps else groups[1:]
    return [[cpu.like(grad, t) for grad, t in zip(*pair, strict=True)] for pair in zip(found, wanted, strict=True)]


def _run(
    dtype: torch.dtype,
    groups: Sequence[Sequence[Tensor]],
    kept: Sequence[Sequence[Tensor]],
    grads: Sequence[Tensor] = (),
    found: Sequence[Sequence[Tensor]] = (),
) -> None:
    held: list[Tensor] = []  # what the structures point to

    def pointer(t: Tensor) -> int:
        held.append(cpu.in_dtype(t, dtype).contiguous())
        return held[-1].data_ptr()

    def view(t: Tensor) -> _View:
        held.append(cpu.in_dtype(t, dtype))
        b, c, *space = held[-1].stride()
        return _View(held[-1].data_ptr(), (ctypes.c_int64 * 5)(b, c, *(0,) * (3 - len(space)), *space))

    levels = (_Level * len(groups[0]))()
    for i, (f, *weights) in enumerate(zip(*groups, strict=True)):
        g, channels, pixels = (group[i] for group in kept)
        level = levels[i]
        sizes = f.shape[1], weights[0].shape[0], g.shape[1], *(1,) * (5 - f.ndim), *f.shape[2:]
        level.channels, level.hidden, level.out_channels, level.d, level.h, level.w = sizes
        level.f, level.g = view(f), view(g)
        level.fc1, level.fc2, level.conv7, level.conv1 = map(pointer, weights)
        level.channels_kept, level.pixels_kept = channels.data_ptr(), pixels.data_ptr()
        if grads:
            level.g_grad = view(grads[i])
            *map_grads, fc1, fc2, conv7, conv1 = (group[i].data_ptr() for group in found)
            level.fc1_grad, level.fc2_grad, level.conv7_grad, level.conv1_grad = fc1, fc2, conv7, conv1
            if map_grads:
                level.f_grad = view(found[0][i])
    attention = _Attention(
        groups[0][0].shape[0], 7 if groups[0][0].ndim == 5 else 1, len(levels), ctypes.addressof(levels)
    )
    is_double = dtype == torch.float64
    if cpu.library.sdi_attend(ctypes.byref(attention), cpu.threads(), is_double, bool(grads)):
        raise MemoryError(
            f"attend_and_reduce: no memory for maps of {[tuple(f.shape) for f in groups[0]]}. "
            "Use a smaller batch or smaller images."
        )
