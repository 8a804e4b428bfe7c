"""The closed forms of an axis against torch's own resizing of basis vectors, bit for bit."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin import ops
from sdi_plugin.ops import bands, reference
from sdi_plugin.ops.cpu import stage

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
def test_weights_are_torchs_own_bit_for_bit(dtype, source, target):
    matrix, expected = bands.resize(source, target, dtype), by_torch(source, target, dtype)
    assert torch.equal(matrix.dense(), expected)
    assert torch.equal(unfolded(matrix.bands(), source), expected)
    assert torch.equal(unfolded(matrix.adjoint().bands(), target), expected.T)


def test_a_long_axis_takes_memory_in_proportion():
    for pair in ((100_000, 50_000), (50_000, 100_000)):
        for matrix in (bands.resize(*pair, torch.float32), bands.resize(*pair, torch.float32).adjoint()):
            assert sum(t.nbytes for t in matrix.bands()) < 4_000_000


@pytest.fixture
def elsewhere():
    """Another default device, on which tensors have no memory."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize(("source", "target"), [(7, 7), (7, 3), (3, 7)], ids=["equal", "pool", "interpolate"])
def test_all_tables_are_on_the_cpu_whatever_the_default_device(source, target, elsewhere):
    matrix = bands.resize(source, target, torch.float32)
    found = [matrix, matrix.adjoint()]
    tensors = [t for m in found for t in (m.row, m.column, m.weight, m.dense(), *m.bands(), m.bands().padded(9))]
    # Shapes that no other test has, because tables are cached.
    table = stage.axis_table(100 * source, 100 * target, torch.float32)
    tensors += table.kept
    assert {t.device.type for t in tensors} == {"cpu"}


def test_deterministic_resizing_does_not_call_itself(monkeypatch, request):
    x = torch.randn(1, 2, 5, 8, dtype=torch.float64)
    expected = ops.resize(x, (9, 3))
    monkeypatch.setattr(reference, "_lacks_deterministic_backward", lambda tensor: True)
    torch.testing.assert_close(ops.resize(x, (9, 3)), expected)
    request.getfixturevalue("elsewhere")
    torch.testing.assert_close(ops.resize(x, (9, 3)), expected)
