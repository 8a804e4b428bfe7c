"""One axis of a resize as a banded matrix, and its adjoint: for the C++ kernel and the reference.

Closed forms, whose cost is linear in the axis. Tables are always on the CPU, whatever torch's default device is,
because the C++ kernel reads their memory.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

_CPU = torch.device("cpu")


class Bands(NamedTuple):
    """A matrix, dense within each row: row i has weights[i, k] in column first[i] + k for k < count[i].

    first, count: int64. weights: (rows, widest row), zero from count[i] on. A row of zeros has count 0 and first 0.
    """

    first: Tensor
    count: Tensor
    weights: Tensor

    def padded(self, width: int) -> Tensor:
        """The weights, zero-padded to `width` columns, which must be at least as many as they have."""
        return pad(self.weights, (0, width - self.weights.shape[1]))


class Matrix(NamedTuple):
    """A sparse matrix: its nonzero entries, in any order."""

    row: Tensor
    column: Tensor
    weight: Tensor
    shape: tuple[int, int]

    def adjoint(self) -> "Matrix":
        return Matrix(self.column, self.row, self.weight, (self.shape[1], self.shape[0]))

    def bands(self) -> Bands:
        rows, columns = self.shape
        empty = torch.full((rows,), columns, device=_CPU)
        first = empty.scatter_reduce(0, self.row, self.column, "amin")
        end = torch.zeros_like(empty).scatter_reduce(0, self.row, self.column + 1, "amax")
        count = (end - first).clamp(min=0)
        first = torch.where(count > 0, first, 0)
        weights = torch.zeros(rows, int(count.max()), dtype=self.weight.dtype, device=_CPU)
        weights[self.row, self.column - first[self.row]] = self.weight
        return Bands(first, count, weights)

    def dense(self) -> Tensor:
        matrix = torch.zeros(self.shape, dtype=self.weight.dtype, device=_CPU)
        matrix[self.row, self.column] = self.weight
        return matrix


def resize(source: int, target: int, dtype: torch.dtype) -> Matrix:
    """One axis of `sdi_plugin.ops.resize` as a (target, source) matrix.

    For float32 and float64 the weights are bitwise those of torch's own pooling and interpolation on CPUs.
    """
    at = torch.arange(target, device=_CPU)
    if target == source:
        return Matrix(at, at, torch.ones(target, dtype=dtype, device=_CPU), (target, source))
    if target < source:
        # Means over the windows [floor(i s / t), ceil((i + 1) s / t)).
        begin, end = at * source // target, -(-(at + 1) * source // target)
        row = torch.repeat_interleave(at, end - begin)
        before = torch.cumsum(end - begin, 0) - (end - begin)
        column = torch.arange(len(row), device=_CPU) + (begin - before)[row]
        return Matrix(row, column, (1 / (end - begin).to(dtype))[row], (target, source))
    # Linear, align_corners=True. torch computes the index of the lower source in float32, also for float64.
    position = at.to(dtype) * (torch.tensor(source - 1, dtype=dtype, device=_CPU) / (target - 1))
    low = position.float().floor().long().clamp(max=source - 1)
    second = (position - low).clamp(0, 1)
    second = torch.where(low < source - 1, second, 0)
    row, column, weight = torch.cat([at, at]), torch.cat([low, low + 1]), torch.cat([1 - second, second])
    used = weight != 0
    return Matrix(row[used], column[used], weight[used], (target, source))
