"""The closed forms of an axis against torch's own resizing of basis vectors, bit by bit."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin import ops
from sdi_plugin.ops import bands, reference

axes = st.integers(1, 200)


def by_torch(source, target, dtype):
    basis = torch.eye(source, dtype=dtype).unsqueeze(1)
    if target < source:
        basis = F.adaptive_avg_pool1d(basis, target)
    if target > source:
        basis = F.interpolate(basis, target, mode="linear", align_corners=True)
    return basis.squeeze(1).T


def unfolded(found, columns):
    first, count, weights = found
    dense = torch.zeros(len(first), columns + weights.shape[1], dtype=weights.dtype)
    dense.scatter_(1, first.unsqueeze(1) + torch.arange(weights.shape[1]), weights)
    assert torch.equal((weights != 0).sum(1), count)
    return dense[:, :columns]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@settings(deadline=None, max_examples=100)
@given(source=axes, target=axes)
def test_weights_are_torchs_own_bit_by_bit(dtype, source, target):
    matrix, expected = bands.resize(source, target, dtype), by_torch(source, target, dtype)
    assert torch.equal(matrix.dense(), expected)
    assert torch.equal(unfolded(matrix.bands(), source), expected)
    assert torch.equal(unfolded(matrix.adjoint().bands(), target), expected.T)


@settings(deadline=None, max_examples=30)
@given(source=axes, target=axes, offset=st.integers(-1, 1))
def test_rows_bring_zeros_in_beyond_the_matrix(source, target, offset):
    matrix = bands.resize(source, target, torch.float32)
    expected = F.pad(matrix.dense(), (0, 0, 1, 1))[1 + offset : 1 + offset + target]
    assert torch.equal(matrix.rows(offset, target + offset).dense(), expected)


def test_a_long_axis_takes_memory_in_proportion():
    for pair in ((100_000, 50_000), (50_000, 100_000)):
        for matrix in (bands.resize(*pair, torch.float32), bands.resize(*pair, torch.float32).adjoint()):
            assert sum(t.nbytes for t in matrix.bands()) < 4_000_000


def test_deterministic_resizing_does_not_call_itself(monkeypatch):
    x = torch.randn(1, 2, 5, 8, dtype=torch.float64)
    expected = ops.resize(x, (9, 3))
    monkeypatch.setattr(reference, "_lacks_deterministic_backward", lambda tensor: True)
    torch.testing.assert_close(ops.resize(x, (9, 3)), expected)
