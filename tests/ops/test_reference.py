"""The specification itself: against formulas written out by hand, against eager PyTorch, and against float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sdi_plugin import ops
from sdi_plugin.ops import reference
from tests.ops.cases import make_case, to
from tests.ops.contract import Contract

sizes = st.one_of(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=3, max_size=3),
)


def axis_weights(source: int, target: int) -> Tensor:
    """The rows of one axis, from the definitions: means over [floor(i s/t), ceil((i+1) s/t)), or linear weights."""
    rows = torch.zeros(target, source, dtype=torch.float64)
    for i in range(target):
        if target <= source:
            start, stop = i * source // target, math.ceil((i + 1) * source / target)
            rows[i, start:stop] = 1 / (stop - start)
        else:
            position = i * (source - 1) / (target - 1)
            low = min(int(position), source - 1)
            rows[i, low] += 1 - (position - low)
            rows[i, min(low + 1, source - 1)] += position - low
    return rows


def by_definition(x: Tensor, size: tuple[int, ...]) -> Tensor:
    for axis, target in enumerate(size, start=2):
        x = (x.movedim(axis, -1) @ axis_weights(x.shape[axis], target).T).movedim(-1, axis)
    return x


@settings(deadline=None, max_examples=60)
@given(sizes)
def test_resize_is_pooling_or_interpolation_on_each_axis(pairs):
    source, target = zip(*pairs, strict=True)
    x = torch.randn(2, 3, *source, dtype=torch.float64)
    torch.testing.assert_close(ops.resize(x, target), by_definition(x, target))


@settings(deadline=None, max_examples=30)
@given(sizes)
def test_resize_by_matrices_is_resize(pairs):
    source, target = zip(*pairs, strict=True)
    x = torch.randn(2, 3, *source, dtype=torch.float64)
    torch.testing.assert_close(reference.resize_by_matrices(x, target), ops.resize(x, target))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
def test_the_deterministic_path_is_as_exact_as_torch(dtype, monkeypatch):
    """The branch that GPUs take; the basis vectors inside are resized by torch itself."""
    x = torch.randn(8, 4, 9, 14).to(dtype)
    exact, plain = ops.resize(x.double(), (13, 6)), ops.resize(x, (13, 6))
    monkeypatch.setattr(reference, "_lacks_deterministic_backward", lambda tensor: tensor.ndim == 4)
    ours = ops.resize(x, (13, 6))
    assert ours.dtype == dtype
    assert (ours.double() - exact).norm() <= 2 * (plain.double() - exact).norm()


def test_resize_to_the_same_size_is_the_same_tensor():
    x = torch.randn(1, 2, 5, 1)
    assert ops.resize(x, (5, 1)) is x


class TestReference(Contract):
    def stage(self, xs, weights, biases, targets, fusion="product"):
        return reference.resize_smooth_multiply_stage(xs, weights, biases, targets, fusion=fusion)


@pytest.mark.parametrize("size", [(4, 3), (3, 2, 2)], ids=["2d", "3d"])
def test_gradcheck_in_float64(size):
    xs, weights, biases = make_case(size, levels=3, channels=2, batch=1)

    def function(*tensors):
        return ops.resize_smooth_multiply(tensors[:3], tensors[3:6], tensors[6:], 1)

    assert torch.autograd.gradcheck(function, (*xs, *weights, *biases))


def test_out_dtype_keeps_the_accumulator():
    xs, weights, biases = to(make_case((5, 5), 2), torch.bfloat16)
    assert ops.resize_smooth_multiply(xs, weights, biases, 0, out_dtype=torch.float32).dtype == torch.float32


def test_backends_say_why_they_are_off():
    backends = ops.backends()
    assert backends["reference"] == {"available": True, "reason": ""}
    assert all(backend["available"] or backend["reason"] for backend in backends.values())
