"""attend_and_reduce on GPUs: Triton kernels, four launches forward and six backward for all levels of a stage.

Features and results are read and written where they are, contiguous or channels last. docs/derivation.md has the
equations.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LIMITS = (
    "attend_and_reduce: features of one dtype, parameters in float64 only with features in float64, results of one "
    "number of channels, at most 256 hidden channels, fewer than 2^31 elements per map and image; the rest is computed "
    "by torch's own ops"
)
KEPT_PER_PIXEL = 3  # mean, maximum and gate
_MOST_HIDDEN = 256  # a program holds a tile of all of them
_MOST_ELEMENTS = 1 << 31  # addresses inside an image have 32 bits


def takes(groups: Sequence[Sequence[Tensor]]) -> bool:
    """Whether the kernels compute the op for these fs, fc1, fc2, conv7 and conv1: see LIMITS."""
    fs, fc1, *_, conv1 = groups
    is_double, outs = fs[0].dtype == torch.float64, conv1[0].shape[0]
    return (
        all(f.dtype == fs[0].dtype for f in fs)
        and (is_double or all(t.dtype != torch.float64 for group in groups for t in group))
        and all(weight.shape[0] <= _MOST_HIDDEN for weight in fc1)
        and all(weight.shape[0] == outs for weight in conv1)
        and all(max(f.shape[1], outs, 3) * math.prod(f.shape[2:]) < _MOST_ELEMENTS for f in fs)
    )


def forward(
    groups: Sequence[Sequence[Tensor]], out_dtype: torch.dtype, channels_last: bool | None = None
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `sdi_plugin.ops.plain.forward`. The results are laid out as the features, whatever `channels_last` says."""
    # Imported on the first call, as in sdi_plugin.ops.gpu.
    from sdi_plugin.ops.gpu.attend import call

    return call.plan(call.given(groups, out_dtype)).forward(groups)


def backward(
    grads: Sequence[Tensor],
    groups: Sequence[Sequence[Tensor]],
    kept: Sequence[Sequence[Tensor]],
    *,
    needs_maps: bool = True,
) -> list[list[Tensor]]:
    """See `sdi_plugin.ops.plain.backward`. Bitwise equal on every run: no sum is atomic."""
    from sdi_plugin.ops.gpu.attend import call

    found = call.plan(call.given(groups, kept[0][0].dtype))
    return found.backward(grads, groups, kept, needs_maps=needs_maps)
