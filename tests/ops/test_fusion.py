"""fusion="asinh": the bounded product. contract.py has how exact it is, for every backend."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin import ops
from sdi_plugin.ops import cpu, library, reference
from tests.ops.cases import fused, identity_case, make_case, to

FLOAT32 = torch.finfo(torch.float32)


def by_reference(xs, weights, biases, level):
    return reference.resize_smooth_multiply(xs, weights, biases, level, fusion="asinh")


def by_default(xs, weights, biases, level):
    return ops.resize_smooth_multiply(xs, weights, biases, level, fusion="asinh")


def by_kernel(xs, weights, biases, level):
    return fused(xs, weights, biases, level, "asinh")


kernel = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")
functions = pytest.mark.parametrize(
    "function", [by_reference, pytest.param(by_kernel, marks=kernel)], ids=["reference", "kernel"]
)


def of_one_value(values, function):
    """The fused form of products that are these values: one level, one channel, a convolution that changes nothing."""
    _, weights, biases = identity_case([0.0])
    return function([torch.tensor(values).view(-1, 1, 1, 1)], weights, biases, 0).flatten()


@functions
@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=1, max_size=40
    )
)
def test_whatever_float32_holds_stays_below_180_and_keeps_its_sign_and_order(values, function):
    values = sorted(values)
    bounded = of_one_value(values, function)
    assert bounded.abs().max() < 180
    assert (bounded * torch.tensor(values).sign() >= 0).all()
    assert (bounded.diff() >= -4 * FLOAT32.eps * bounded[1:].abs()).all()
    exact = 2 * torch.asinh(torch.tensor(values, dtype=torch.float32).double() / 2)
    assert ((bounded - exact).abs() <= 4 * FLOAT32.eps * exact.abs() + 8 * FLOAT32.smallest_normal).all()


@functions
def test_small_products_are_the_papers(function):
    bounded = of_one_value([0.0, 0.01, -0.02], function)
    torch.testing.assert_close(bounded, torch.tensor([0.0, 0.01, -0.02]), rtol=1e-4, atol=0)


def test_float16_maps_of_a_product_past_float16_stay_finite():
    xs, weights, biases = identity_case([300.0] * 4, torch.float16)
    assert ops.resize_smooth_multiply(xs, weights, biases, 0).isinf().all()
    bounded = ops.resize_smooth_multiply(xs, weights, biases, 0, fusion="asinh")
    assert bounded.dtype == torch.float16
    torch.testing.assert_close(
        bounded.float(), torch.full((1, 1, 3, 3), 2 * math.asinh(300.0**4 / 2)), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("size", [(4, 3), (3, 2, 2)], ids=["2d", "3d"])
def test_first_and_second_derivatives_in_float64(size):
    xs, weights, biases = make_case(size, levels=2, channels=2, batch=1)
    case = [xs, *[[(4 * t).detach().requires_grad_() for t in group] for group in (weights, biases)]]

    def function(*tensors):
        return by_default(tensors[:2], tensors[2:4], tensors[4:], 1)

    tensors = tuple(t for group in case for t in group)
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


@pytest.mark.parametrize("function", [ops.resize_smooth_multiply_stage, library.fused], ids=["api", "op"])
def test_another_fusion_is_refused_by_name(function):
    xs, weights, biases = to(make_case((4, 4), 2))
    arguments = (xs, weights, biases, [0]) if function is not library.fused else (xs, weights, biases, [0], xs[0].dtype)
    with pytest.raises(ValueError, match="expected fusion 'product' or 'asinh', got 'sum'"):
        function(*arguments, fusion="sum")
