"""The tables that the Triton kernels read: linear interpolation of planes, and banded matrices for any resampling.

Made once per shape, on the CPU (`bands`), and kept on the GPU.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdi_plugin.ops import bands
from sdi_plugin.ops.cache import bounded

_CACHE_BYTES = 1 << 26  # per kind of table
PADDING = 66  # positions: a tile of 64 may begin at the last position, and its taps reach one further


class Upsampling(NamedTuple):
    """Interpolation of a plane (h, w) -> (H, W), as the GPU kernels read it: two weights per row and column.

    lows: int32: h, w, then the first source of each row and of each column. weights: those of the first source and of
    the next one for the rows, then the same for the columns. Each list has one position before its axis and PADDING - 1
    after it. They have weight zero and the sources of the edge, so that only pixels are read there that the edge reads
    too (0 * Inf is NaN).
    """

    lows: Tensor
    weights: Tensor

    @property
    def nbytes(self) -> int:
        return self.lows.nbytes + self.weights.nbytes


@bounded(_CACHE_BYTES)
def upsampling(
    source: tuple[int, int], target: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Upsampling:
    lows, weights = [torch.tensor(source, device="cpu")], []
    for pair in zip(source, target, strict=True):
        table = bands.resize(*pair, dtype).bands()
        edges = torch.arange(-1, pair[1] + PADDING - 1, device="cpu").clamp(0, pair[1] - 1)
        lows.append(table.first[edges])
        weights += [pad(weight, (1, PADDING - 1)) for weight in table.padded(2).unbind(1)]
    return Upsampling(torch.cat(lows).int().to(device), torch.cat(weights).to(device))


class Axis(NamedTuple):
    """One axis of a resampling: `bands.resize` from source to target, or a part or its adjoint.

    taps: three matrices, shifted by the offsets -1, 0, 1 of a convolution's taps, with zeros at the border.
    rows: only these rows of the target, first and last + 1. adjoint: the transpose, from those rows to the source.
    """

    source: int
    target: int
    taps: bool = False
    rows: tuple[int, int] | None = None
    adjoint: bool = False

    def sizes(self) -> tuple[int, int]:
        """The size of the axis before and after."""
        begin, end = self.rows or (0, self.target)
        return (end - begin, self.source) if self.adjoint else (self.source, end - begin)

    def bands(self, taps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """For each matrix and row: the first nonzero column (taps, rows), and the weights from there on."""
        begin, end = self.rows or (0, self.target)
        matrix = bands.resize(self.source, self.target, dtype)
        parts = matrix.taps(begin, end) if self.taps else [matrix.rows(begin, end)]
        found = [(part.adjoint() if self.adjoint else part).bands() for part in parts]
        width = max(b.weights.shape[1] for b in found)
        first, weights = torch.stack([b.first for b in found]), torch.stack([b.padded(width) for b in found])
        return first.expand(taps, -1), weights.expand(taps, -1, -1)


class Resampling(NamedTuple):
    """Banded matrices for the three axes of a map, as the GPU kernel `resample` reads them.

    starts: int32: the pixels of the result in all images, the sizes before and after, the widths of the bands, then the
    starts of the three axes, (taps, size) each. weights: those of the three axes, (taps, size, width) each.
    """

    pixels: int
    sizes: tuple[int, ...]  # the result's size
    starts: Tensor
    weights: Tensor

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.weights.nbytes


@bounded(_CACHE_BYTES)
def resampling(images: int, axes: tuple[Axis, Axis, Axis], dtype: torch.dtype, device: torch.device) -> Resampling:
    taps = 3 if any(axis.taps for axis in axes) else 1
    before, after = zip(*(axis.sizes() for axis in axes), strict=True)
    tables = [axis.bands(taps, dtype) for axis in axes]
    pixels = images * math.prod(after)
    header = torch.tensor([pixels, *before, *after, *(weights.shape[-1] for _, weights in tables)], device="cpu")
    starts = torch.cat([header, *(starts.flatten() for starts, _ in tables)]).int()
    weights = torch.cat([weights.flatten() for _, weights in tables])
    return Resampling(pixels, after, starts.to(device), weights.to(device))
