"""fusion="asinh": the bounded product, by the reference and by the CPU kernel. gpu/test_kernels.py has the GPU's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin import ops
from sdi_plugin.ops import cpu, library, reference
from tests.ops.test_reference import eager, make_case, run

FLOAT32 = torch.finfo(torch.float32)


def bounded_eager(xs, weights, biases, level):
    """As a user would write it, every step rounded to the tensors' dtype."""
    return 2 * torch.asinh(eager(xs, weights, biases, level) / 2)


def by_reference(xs, weights, biases, level):
    return reference.resize_smooth_multiply(xs, weights, biases, level, fusion="asinh")


def by_default(xs, weights, biases, level):
    return ops.resize_smooth_multiply(xs, weights, biases, level, fusion="asinh")


def by_kernel(xs, weights, biases, level):
    return library.fused(list(xs), list(weights), list(biases), [level], xs[0].dtype, "asinh")[0]


kernel = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")
functions = pytest.mark.parametrize(
    "function", [by_reference, pytest.param(by_kernel, marks=kernel)], ids=["reference", "kernel"]
)


def scaled(case, factor):
    """Larger terms, whose product is far into the logarithm."""
    return [case[0], *([(factor * t).detach().requires_grad_() for t in group] for group in case[1:])]


CASES = {
    "paper": ((44, 44), 4, 32),
    "odd": ((13, 9), 4, 5),
    "one-pixel": ((1, 1), 3, 3),
    "one-column": ((17, 1), 4, 20),
    "3d": ((12, 10, 9), 3, 18),
    "3d-one-pixel-axes": ((1, 6, 1), 2, 16),
}


@functions
@pytest.mark.parametrize("factor", [1, 30], ids=["small", "large"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("size", "levels", "channels"), CASES.values(), ids=CASES.keys())
def test_error_is_at_most_twice_that_of_eager_torch(size, levels, channels, dtype, factor, function):
    batch = 8 if math.prod(size) > 1 else 200  # luck evens out
    case = scaled(make_case(size, levels, dtype, channels, batch), factor)
    kinds = [slice(0, 1), *(slice(1 + i * levels, 1 + (i + 1) * levels) for i in range(3))]
    results = [
        [run(f, case, level, d) for level in range(levels)]
        for f, d in ((bounded_eager, torch.float64), (function, dtype), (bounded_eager, dtype))
    ]
    for name, kind in zip(("output", "x", "weight", "bias"), kinds, strict=True):
        exact, ours, plain = ([t for result in each for t in result[kind]] for each in results)
        error, allowed = (
            torch.cat([(t.double() - e).flatten() for t, e in zip(tensors, exact, strict=True)]).norm()
            for tensors in (ours, plain)
        )
        assert error <= 2 * allowed, f"{name}: {error:.3g} > 2 * {allowed:.3g}"


def of_one_value(values, function):
    """The fused form of products that are these values: one level, one channel, a convolution that changes nothing."""
    x = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    return function([x], [weight], [torch.zeros(1)], 0).flatten()


@functions
@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=1, max_size=40
    )
)
def test_whatever_float32_holds_stays_below_180_and_keeps_its_sign_and_order(values, function):
    values = sorted(values)
    fused = of_one_value(values, function)
    assert fused.abs().max() < 180
    assert (fused * torch.tensor(values).sign() >= 0).all()
    assert (fused.diff() >= -4 * FLOAT32.eps * fused[1:].abs()).all()
    exact = 2 * torch.asinh(torch.tensor(values, dtype=torch.float32).double() / 2)
    assert ((fused - exact).abs() <= 4 * FLOAT32.eps * exact.abs() + 8 * FLOAT32.smallest_normal).all()


@functions
def test_infinite_values_and_nan_stay_what_they_are(function):
    fused = of_one_value([math.inf, -math.inf, math.nan], function)
    assert fused[0] == math.inf
    assert fused[1] == -math.inf
    assert fused[2].isnan()


@functions
def test_small_products_are_the_papers(function):
    fused = of_one_value([0.0, 0.01, -0.02], function)
    torch.testing.assert_close(fused, torch.tensor([0.0, 0.01, -0.02]), rtol=1e-4, atol=0)


def test_float16_maps_of_a_product_past_float16_stay_finite():
    xs = [torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16) for _ in range(4)]
    weights = [torch.zeros(1, 1, 3, 3, dtype=torch.float16) for _ in xs]
    for weight in weights:
        weight[0, 0, 1, 1] = 1
    biases = [torch.zeros(1, dtype=torch.float16) for _ in xs]
    assert ops.resize_smooth_multiply(xs, weights, biases, 0).isinf().all()
    fused = ops.resize_smooth_multiply(xs, weights, biases, 0, fusion="asinh")
    assert fused.dtype == torch.float16
    torch.testing.assert_close(fused.float(), torch.full((1, 1, 2, 2), 2 * math.asinh(300.0**4 / 2)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [(4, 3), (3, 2, 2)], ids=["2d", "3d"])
def test_first_and_second_derivatives_in_float64(size):
    case = scaled(make_case(size, levels=2, channels=2, batch=1), 4)

    def function(*tensors):
        return by_default(tensors[:2], tensors[2:4], tensors[4:], 1)

    tensors = tuple(t for group in case for t in group)
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


@kernel
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_opcheck():
    xs, weights, biases = [
        [t.detach().float().requires_grad_() for t in group] for group in make_case((9, 7), 2, channels=4)
    ]
    torch.library.opcheck(library.fused, (xs, weights, biases, [0], torch.float32, "asinh"))


@pytest.mark.parametrize("function", [ops.resize_smooth_multiply_stage, library.fused], ids=["api", "op"])
def test_another_fusion_is_refused_by_name(function):
    xs, weights, biases = [[t.detach() for t in group] for group in make_case((4, 4), 2)]
    arguments = (xs, weights, biases, [0]) if function is not library.fused else (xs, weights, biases, [0], xs[0].dtype)
    with pytest.raises(ValueError, match="expected fusion 'product' or 'asinh', got 'sum'"):
        function(*arguments, fusion="sum")
