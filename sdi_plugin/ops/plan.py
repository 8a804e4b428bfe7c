"""What the kernels of every device decide alike: which terms take the low resolution, and the weights of resizing."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops import reference


class Table(NamedTuple):
    """One axis' interpolation matrix: row i is first[i] at low[i] and second[i] at low[i] + 1."""

    low: Tensor
    first: Tensor
    second: Tensor


@lru_cache(maxsize=256)
def table(source: int, target: int, dtype: torch.dtype = torch.float32) -> Table:
    """The two weights of every row of `reference.resize_matrix`, for a source that is not finer than the target."""
    matrix = reference.resize_matrix(source, target, dtype=dtype)
    # A row of a single weight may be anywhere; keep low + 1 inside.
    low = (matrix != 0).int().argmax(1)
    rows = torch.arange(target)
    padded = torch.nn.functional.pad(matrix, (0, 1))
    return Table(low.int(), matrix[rows, low].contiguous(), padded[rows, low + 1].contiguous())


def pooled_size(source: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """The size of a level after pooling the axes in which it is finer than the target."""
    return tuple(min(s, t) for s, t in zip(source, target, strict=True))


def is_by_taps(source: Sequence[int], target: Sequence[int], channels: int, stream_cost: float) -> bool:
    """The cost model: is a pooled level's term cheaper through the low resolution than by interpolating its map first?

    For each output element, directly: taps * channels. Through the low resolution: that divided by the scale of all
    axes, plus the interpolation of the taps, an axis after the other: 6 + 18 / s_x [+ 54 / (s_x s_y)] for scales s,
    each of which costs as much as `stream_cost` multiply-adds of a matrix product.
    """
    scales = [t / s for s, t in zip(source, target, strict=True)]
    direct = 3 ** len(scales) * channels
    stream, scale = 0.0, 1.0
    for axis, s in enumerate(reversed(scales)):
        stream += 6 * 3**axis / scale
        scale *= s
    return scale > 1 and direct / scale + stream_cost * stream < direct
