"""attend_and_reduce on CPUs: one call of the compiled C++ kernel (csrc/attend*.h), with pointers."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from sdi_plugin.ops import cpu
from sdi_plugin.ops.plain import KEPT_PER_PIXEL as KEPT_PER_PIXEL
from sdi_plugin.ops.plain import accumulator, empty_result

_NOTHING = (0,) * 6  # a View without data


def forward(
    groups: Sequence[Sequence[Tensor]], out_dtype: torch.dtype, channels_last: bool | None = None
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `sdi_plugin.ops.plain.forward`."""
    dtype = accumulator(*[t for group in groups for t in group])
    gs, channels, pixels = [], [], []
    for f, weight in zip(groups[0], groups[-1], strict=True):
        batch, width, *size = f.shape
        gs.append(empty_result(f, weight.shape[0], dtype, channels_last))
        channels.append(torch.empty((batch, 3, width), dtype=dtype, device=f.device))
        pixels.append(torch.empty((batch, 1, *size), dtype=dtype, device=f.device))
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
    dtype, maps, parameters = kept[1][0].dtype, groups[0] if needs_maps else (), groups[1:]
    # In the layout of the maps themselves, where that is dense.
    found = [
        [torch.empty_like(f, dtype=dtype) for f in maps],
        *([torch.empty(t.shape, dtype=dtype, device=t.device) for t in group] for group in parameters),
    ]
    _run(dtype, groups, kept, grads, found)
    return [
        [cpu.in_dtype(grad, f.dtype) for grad, f in zip(found[0], maps, strict=True)],
        *(list(map(cpu.like, *pair)) for pair in zip(found[1:], parameters, strict=True)),
    ]


def _run(
    dtype: torch.dtype,
    groups: Sequence[Sequence[Tensor]],
    kept: Sequence[Sequence[Tensor]],
    grads: Sequence[Tensor] = (),
    found: Sequence[Sequence[Tensor]] = (),
) -> None:
    held: list[Tensor] = []  # what the numbers point to

    def pointer(t: Tensor) -> int:
        held.append(cpu.in_dtype(t, dtype).contiguous())
        return held[-1].data_ptr()

    def view(t: Tensor) -> tuple[int, ...]:
        held.append(cpu.in_dtype(t, dtype))
        b, c, *space = held[-1].stride()
        return held[-1].data_ptr(), b, c, *(0,) * (3 - len(space)), *space

    # AttentionLevel of csrc/attention.h for every level: integers, pointers and views, all of 8 bytes.
    numbers: list[int] = []
    for i, (f, *weights) in enumerate(zip(*groups, strict=True)):
        g, channels, pixels = (group[i] for group in kept)
        numbers += f.shape[1], weights[0].shape[0], g.shape[1], *(1,) * (5 - f.ndim), *f.shape[2:]
        numbers += (*view(f), *view(g), *map(pointer, weights), channels.data_ptr(), pixels.data_ptr())
        if grads:
            numbers += (*view(grads[i]), *(view(found[0][i]) if found[0] else _NOTHING))
            numbers += [group[i].data_ptr() for group in found[1:]]
        else:
            numbers += (*_NOTHING, *_NOTHING, *(0,) * 4)
    levels = (ctypes.c_int64 * len(numbers))(*numbers)
    maps = groups[0]
    attention = (ctypes.c_int64 * 4)(
        maps[0].shape[0], 7 if maps[0].ndim == 5 else 1, len(maps), ctypes.addressof(levels)
    )
    is_double = dtype == torch.float64
    if cpu.library.sdi_attend(attention, cpu.threads(), is_double, bool(grads)):
        raise MemoryError(
            f"attend_and_reduce: no memory for maps of {[tuple(f.shape) for f in maps]}. "
            "Use a smaller batch or smaller images."
        )
