"""The tables that the Triton kernels read: linear interpolation of planes, and banded matrices of any resampling.

Made once for each shape, of torch's own resizing (`reference.resize_matrix`), and kept on the GPU.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdi_plugin.ops import plan, reference


class Upsampling(NamedTuple):
    """`table` of both axes of a plane (h, w) -> (H, W), as the GPU kernels read it.

    lows: int32: h, w, then low of the rows and of the columns. weights: first and second of the rows, then those of the
    columns. Each list has one position before its axis and PADDING - 1 behind it, of weight zero.
    """

    lows: Tensor
    weights: Tensor


PADDING = 66  # of the tables: a tile of 64 positions may begin at the last one, and its taps reach one further


@lru_cache(maxsize=256)
def upsampling(
    source: tuple[int, int], target: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Upsampling:
    tables = [[pad(t, (1, PADDING - 1)) for t in plan.table(*pair, dtype)] for pair in zip(source, target, strict=True)]
    lows = torch.cat([torch.tensor(source, dtype=torch.int32), *(low for low, _, _ in tables)])
    weights = torch.cat([t for _, first, second in tables for t in (first, second)])
    return Upsampling(lows.to(device), weights.to(device))


class Axis(NamedTuple):
    """One axis of a resampling: `reference.resize_matrix` from source to target, or a part or its adjoint.

    taps: three matrices, moved by the offsets -1, 0, 1 of a convolution's taps, which bring zeros in at the border.
    rows: of the target alone, first and last + 1. adjoint: the transpose, which goes from those rows to the source.
    """

    source: int
    target: int
    taps: bool = False
    rows: tuple[int, int] | None = None
    adjoint: bool = False

    def sizes(self) -> tuple[int, int]:
        """Of the axis before and after."""
        begin, end = self.rows or (0, self.target)
        return (end - begin, self.source) if self.adjoint else (self.source, end - begin)

    def bands(self, taps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Of each matrix and row: the first column that is not zero (taps, rows), and the weights from there."""
        if self.source == self.target and not self.taps and self.rows is None:
            return torch.arange(self.source).repeat(taps, 1), torch.ones(taps, self.source, 1, dtype=dtype)
        matrix = reference.resize_matrix(self.source, self.target, dtype=dtype)
        if self.taps:
            padded = pad(matrix, (0, 0, 1, 1))
            matrices = torch.stack([padded[tap : tap + self.target] for tap in range(3)])
        else:
            matrices = matrix.expand(taps, -1, -1)
        matrices = matrices[:, slice(*(self.rows or (None,)))]
        matrices = matrices.mT if self.adjoint else matrices
        starts = (matrices != 0).int().argmax(-1)
        lasts = matrices.shape[-1] - 1 - (matrices != 0).flip(-1).int().argmax(-1)
        lasts = torch.where((matrices != 0).any(-1), lasts, starts)
        width = int((lasts - starts).max()) + 1
        columns = starts.unsqueeze(-1) + torch.arange(width)
        padded = pad(matrices, (0, width))
        return starts, padded.gather(-1, columns)


class Resampling(NamedTuple):
    """Banded matrices for the three axes of a map, as the GPU kernel `resample` reads them.

    starts: int32: the pixels of the result in all images, the sizes before and after, the widths of the bands, then the
    starts of the three axes, (taps, size) each. weights: of the three axes, (taps, size, width) each.
    """

    pixels: int
    sizes: tuple[int, ...]  # of the result
    starts: Tensor
    weights: Tensor


@lru_cache(maxsize=1024)
def resampling(images: int, axes: tuple[Axis, Axis, Axis], dtype: torch.dtype, device: torch.device) -> Resampling:
    taps = 3 if any(axis.taps for axis in axes) else 1
    before, after = zip(*(axis.sizes() for axis in axes), strict=True)
    bands = [axis.bands(taps, dtype) for axis in axes]
    pixels = images * math.prod(after)
    header = torch.tensor([pixels, *before, *after, *(weights.shape[-1] for _, weights in bands)], dtype=torch.int32)
    starts = torch.cat([header, *(starts.flatten().int() for starts, _ in bands)])
    weights = torch.cat([weights.flatten() for _, weights in bands])
    return Resampling(pixels, after, starts.to(device), weights.to(device))
