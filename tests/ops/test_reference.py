"""The specification itself: against formulas written out by hand, and against float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sdi_plugin import ops
from sdi_plugin.ops import reference

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
def test_the_deterministic_way_is_as_exact_as_torch(dtype, monkeypatch):
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


def make_case(size, levels, dtype=torch.float64, channels=5, batch=2):
    """Maps of a pyramid with odd, one-pixel and unequal axes; weights with the scale of torch's default."""
    xs = [torch.randn(batch, channels, *(max(1, math.ceil(s / 2**j)) for s in size)) for j in range(levels)]
    scale = 1 / math.sqrt(channels * 3 ** len(size))
    weights = [torch.randn(channels, channels, *[3] * len(size)) * scale for _ in range(levels)]
    biases = [torch.randn(channels) * scale for _ in range(levels)]
    return [[t.to(dtype).double().requires_grad_() for t in group] for group in (xs, weights, biases)]


def eager(xs, weights, biases, level):
    """The paper's code path in the tensors' own dtype: every map, and every partial product, rounded to it."""
    conv = {4: F.conv2d, 5: F.conv3d}[xs[0].ndim]
    product = torch.ones_like(xs[level])
    for x, weight, bias in zip(xs, weights, biases, strict=True):
        product = product * conv(ops.resize(x, xs[level].shape[2:]), weight, bias, padding=1)
    return product


def run(function, case, level, dtype):
    """Output and every gradient of sum(output * fixed weights), in the dtype."""
    groups = [[t.detach().to(dtype).requires_grad_() for t in group] for group in case]
    output = function(*groups, level)
    generator = torch.Generator().manual_seed(1)
    output.backward(torch.randn(output.shape, generator=generator).to(output.dtype))
    return [output, *(t.grad for group in groups for t in group)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("size", "levels"),
    [((13, 9), 4), ((1, 1), 3), ((17, 1), 4), ((8, 8), 1), ((7, 5, 3), 3), ((1, 6, 1), 2)],
    ids=["odd", "one-pixel", "one-column", "one-level", "3d", "3d-one-pixel-axes"],
)
def test_error_is_at_most_twice_that_of_eager_torch(size, levels, dtype):
    case = make_case(size, levels, dtype)
    errors = {}
    for level in range(levels):
        exact = run(eager, case, level, torch.float64)
        ours = run(ops.resize_smooth_multiply, case, level, dtype)
        plain = run(eager, case, level, dtype)
        names = ["output", *(kind for kind in ("x", "weight", "bias") for _ in range(levels))]
        for name, a, b, c in zip(names, ours, plain, exact, strict=True):
            assert a.dtype == dtype
            pair = errors.setdefault(name, ([], []))
            pair[0].append((a.double() - c).flatten())
            pair[1].append((b.double() - c).flatten())
    # Over all levels at once: a single tensor of a few elements may be lucky in either.
    for name, (ours, plain) in errors.items():
        error, allowed = (torch.cat(e).norm() for e in (ours, plain))
        assert error <= 2 * allowed, f"{name}: {error:.3g} > 2 * {allowed:.3g}"


@pytest.mark.parametrize("size", [(4, 3), (3, 2, 2)], ids=["2d", "3d"])
def test_gradcheck_in_float64(size):
    xs, weights, biases = make_case(size, levels=3, channels=2, batch=1)

    def function(*tensors):
        return ops.resize_smooth_multiply(tensors[:3], tensors[3:6], tensors[6:], 1)

    assert torch.autograd.gradcheck(function, (*xs, *weights, *biases))


def test_the_product_of_half_precision_maps_does_not_overflow_on_the_way():
    xs = [torch.full((1, 1, 3, 3), value, dtype=torch.float16) for value in (300.0, 300.0, 300.0, 1e-4)]
    weights = [torch.zeros(1, 1, 3, 3, dtype=torch.float16) for _ in xs]
    for weight in weights:
        weight[0, 0, 1, 1] = 1
    biases = [torch.zeros(1, dtype=torch.float16) for _ in xs]
    product = ops.resize_smooth_multiply(xs, weights, biases, 0)
    assert torch.isinf(eager(xs, weights, biases, 0)).all()
    torch.testing.assert_close(product, torch.full_like(product, 300.0**3 * float(xs[3][0, 0, 0, 0])))


def test_out_dtype_keeps_the_accumulator():
    xs, weights, biases = [[t.detach().bfloat16() for t in group] for group in make_case((5, 5), 2)]
    assert ops.resize_smooth_multiply(xs, weights, biases, 0, out_dtype=torch.float32).dtype == torch.float32


def test_backends_say_why_they_are_off():
    backends = ops.backends()
    assert backends["reference"] == {"available": True, "reason": ""}
    assert all(backend["available"] or backend["reason"] for backend in backends.values())
