"""The Triton kernels against the reference: on a GPU where there is one, else by Triton's interpreter.

Without a GPU these run under TRITON_INTERPRET=1, which test_interpreter.py sets for them. Sizes are small, as
the interpreter is slow; float16 and float32, as its bfloat16 is not right.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin import ops
from sdi_plugin.ops import bands, gpu, library, reference
from sdi_plugin.ops.gpu import call, tables
from tests.ops.test_reference import eager, make_case

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = pytest.mark.skipif(not gpu.serves(DEVICE), reason="no GPU, and TRITON_INTERPRET is not 1")


@pytest.fixture(scope="module", autouse=True)
def _exact_float32():
    """The reference's float32, too, is IEEE's: TF32 would hide what the kernels add."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(params=["by taps", "by the cost model"])
def way(request, monkeypatch):
    """The cost model sends maps of few channels, as small tests have, through no taps."""
    if request.param == "by taps":
        monkeypatch.setattr(call, "is_by_taps", always_by_taps)


def always_by_taps(source, target, channels):
    return math.prod(source[-2:]) < math.prod(target[-2:])


def stage_case(size, levels, channels, *, batch=2, targets=None):
    """make_case for several targets: other weights for each."""
    xs, weights, biases = make_case(size, levels, torch.float16, channels, batch)
    for _ in range(1, levels if targets is None else len(targets)):
        _, more_weights, more_biases = make_case((1,) * len(size), levels, torch.float16, channels, 1)
        weights, biases = weights + more_weights, biases + more_biases
    return [[t.detach().to(DEVICE) for t in group] for group in (xs, weights, biases)]


def upstream(outputs):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(o.shape, generator=generator).to(o.device, o.dtype) for o in outputs]


def ours(case, targets, dtype, fusion="product"):
    """Lists of outputs and of the gradients of xs, weights and biases."""
    xs, weights, biases = [[t.to(dtype) for t in group] for group in case]
    outputs = gpu.forward(xs, weights, biases, targets, dtype, fusion)
    return [outputs, *gpu.backward(upstream(outputs), xs, weights, biases, targets, fusion)]


def theirs(function, case, targets, dtype):
    xs, weights, biases = case = [[t.detach().to(dtype).requires_grad_() for t in group] for group in case]
    levels = len(xs)
    outputs = [
        function(xs, weights[t * levels : (t + 1) * levels], biases[t * levels : (t + 1) * levels], target)
        for t, target in enumerate(targets)
    ]
    torch.autograd.backward(outputs, upstream(outputs))
    return [outputs, *([t.grad for t in group] for group in case)]


def check_error(case, targets, dtype, function=eager, slack=0.0, fusion="product"):
    exact = theirs(function, case, targets, torch.float64)
    plain = theirs(function, case, targets, dtype)
    names = ("output", "x", "weight", "bias")
    for name, a, b, c in zip(names, ours(case, targets, dtype, fusion), plain, exact, strict=True):
        assert all(t.dtype == dtype and t.shape == e.shape for t, e in zip(a, c, strict=True)), name
        error, allowed, scale = (
            torch.cat([t.flatten() for t in tensors]).norm()
            for tensors in ([t.double() - e for t, e in zip(a, c, strict=True)],
                            [t.double() - e for t, e in zip(b, c, strict=True)], c)
        )  # fmt: skip
        assert error <= 2 * allowed + slack * torch.finfo(dtype).eps * scale, f"{name}: {error:.3g} > 2 * {allowed:.3g}"


CASES = {
    "paper": ((16, 16), 3, 16, 1),
    "odd": ((7, 5), 3, 5, 2),
    "one-pixel": ((1, 1), 2, 3, 2),
    "one-column": ((9, 1), 3, 20, 1),
    "one-level": ((8, 8), 1, 16, 1),
    "3d": ((4, 5, 3), 2, 6, 2),
    "3d-one-pixel-axes": ((1, 6, 1), 2, 16, 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize(("size", "levels", "channels", "batch"), CASES.values(), ids=CASES.keys())
def test_error_is_at_most_twice_that_of_eager_torch(size, levels, channels, batch, dtype, monkeypatch):
    monkeypatch.setattr(call, "is_by_taps", always_by_taps)
    check_error(stage_case(size, levels, channels, batch=batch), range(levels), dtype)


def bounded_eager(xs, weights, biases, level):
    return 2 * torch.asinh(eager(xs, weights, biases, level) / 2)


@pytest.mark.parametrize("factor", [1, 30], ids=["small", "large"])
@pytest.mark.parametrize("case", ["paper", "odd", "3d"])
def test_asinh_is_as_exact(case, factor, monkeypatch):
    monkeypatch.setattr(call, "is_by_taps", always_by_taps)
    size, levels, channels, batch = CASES[case]
    xs, weights, biases = stage_case(size, levels, channels, batch=batch)
    scaled = [xs, [factor * w for w in weights], [factor * b for b in biases]]
    # Two units in the last place of the whole, where eager torch happens to be exact.
    check_error(scaled, range(levels), torch.float32, bounded_eager, slack=2, fusion="asinh")


def test_asinh_keeps_infinite_values_and_nan():
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, -1e-3], device=DEVICE).view(-1, 1, 1, 1)
    weight = torch.zeros(1, 1, 3, 3, device=DEVICE)
    weight[0, 0, 1, 1] = 1
    (output,) = gpu.forward([x], [weight], [torch.zeros(1, device=DEVICE)], [0], torch.float32, "asinh")
    torch.testing.assert_close(output, 2 * torch.asinh(x / 2), equal_nan=True)


mixed = st.one_of(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3),
    st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=3),
)


@settings(deadline=None, max_examples=10)
@given(sizes=mixed, channels=st.tuples(st.integers(1, 34), st.integers(1, 34)), level=st.integers(0, 2))
def test_any_sizes_axis_by_axis_and_any_channels_follow_the_reference(sizes, channels, level):
    """Levels that are finer in one axis and coarser in another; C_in and C_out that differ."""
    inputs, outputs = channels
    dim = len(sizes[0])
    xs = [torch.randn(1, inputs, *size) for size in sizes]
    weights = [torch.randn(outputs, inputs, *[3] * dim) / (inputs * 3**dim) ** 0.5 for _ in sizes]
    case = [[t.to(DEVICE) for t in group] for group in (xs, weights, [torch.randn(outputs) for _ in sizes])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call, "is_by_taps", always_by_taps)
        # Two units in the last place of the whole, where eager torch happens to be exact.
        check_error(case, [level % len(sizes)], torch.float32, reference.resize_smooth_multiply, slack=2)


@pytest.mark.parametrize("size", [(7, 6), (3, 4, 2)], ids=["2d", "3d"])
def test_float64_is_exact(size, way):
    case, targets = stage_case(size, 2, 4, batch=1), range(2)
    for a, b in zip(ours(case, targets, torch.float64), theirs(eager, case, targets, torch.float64), strict=True):
        torch.testing.assert_close(list(a), list(b), rtol=1e-12, atol=1e-12)


def single(case):
    return [[t.float() for t in group] for group in case]


@pytest.mark.parametrize("arrange", ["channels-last", "strided", "expanded"])
def test_any_memory_layout(arrange):
    xs, weights, biases = single(stage_case((9, 8), 2, 6, targets=[0]))
    expected = gpu.forward(xs, weights, biases, [0], torch.float32)[0]
    assert expected.is_contiguous(memory_format=torch.channels_last)
    if arrange == "channels-last":
        xs = [x.contiguous(memory_format=torch.channels_last) for x in xs]
    elif arrange == "strided":
        xs = [torch.stack([x, -x], dim=-1)[..., 0] for x in xs]
        weights = [w.transpose(2, 3).contiguous().transpose(2, 3) for w in weights]
    else:
        xs = [x[:1].expand_as(x) for x in xs]
        expected = expected[:1].expand_as(expected)
    assert torch.equal(gpu.forward(xs, weights, biases, [0], torch.float32)[0], expected)


@pytest.mark.parametrize("size", [(9, 6), (4, 5, 3)], ids=["2d", "3d"])
def test_same_bits_on_every_run(size, monkeypatch):
    monkeypatch.setattr(call, "is_by_taps", always_by_taps)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    case = stage_case(size, 2, 20, batch=1)
    first, second = (ours(case, range(2), torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("at", [(0, 0), (1, 1), (-1, -1)], ids=["first", "middle", "last"])
def test_an_infinite_pixel_spoils_nothing_that_is_finite_in_the_reference(at, monkeypatch):
    monkeypatch.setattr(call, "is_by_taps", always_by_taps)
    case = stage_case((7, 6), 2, 4, batch=1, targets=[0])
    case[0][1][(0, 1, *at)] = math.inf
    for found, exact in zip(ours(case, [0], torch.float64), theirs(eager, case, [0], torch.float64), strict=True):
        for a, b in zip(found, exact, strict=True):
            torch.testing.assert_close(a[b.isfinite()], b[b.isfinite()])


def call_of(case, targets):
    xs, weights, biases = case
    return call.Call(xs, weights, biases, targets)


def test_several_slabs_are_one(monkeypatch):
    monkeypatch.setattr(call, "is_by_taps", always_by_taps)
    case = stage_case((4, 4, 3), 2, 4, batch=2, targets=[0])
    whole = ours(case, [0], torch.float64)
    monkeypatch.setattr(call, "_SMALLEST_SLAB", 1)
    made = call_of(case, [0])
    assert len(list(made.slabs([t for t in made.terms[0] if t.by_taps], (4, 4, 3)))) > 1
    for a, b in zip(ours(case, [0], torch.float64), whole, strict=True):
        torch.testing.assert_close(list(a), list(b), rtol=1e-12, atol=1e-12)


def test_some_of_the_levels_alone():
    case = stage_case((8, 6), 3, 4, targets=[2, 1])
    check_error(case, [2, 1], torch.float32)


def test_half_precision_maps_with_float32_weights_are_as_under_autocast(monkeypatch):
    monkeypatch.setattr(call, "is_by_taps", always_by_taps)
    xs, weights, biases = stage_case((8, 8), 2, 16, targets=[0])
    halves, weights, biases = [x.half() for x in xs], [w.float() for w in weights], [b.float() for b in biases]
    (output,) = gpu.forward(halves, weights, biases, [0], torch.float32)
    assert output.dtype == torch.float32
    grads = gpu.backward([torch.ones_like(output)], halves, weights, biases, [0])
    for gradients, inputs in zip(grads, (halves, weights, biases), strict=True):
        assert [g.dtype for g in gradients] == [t.dtype for t in inputs]
    # The weights are numbers of float16, so nothing but the last rounding differs.
    half_weights, half_biases = [w.half() for w in weights], [b.half() for b in biases]
    (half,) = gpu.forward(halves, half_weights, half_biases, [0], torch.float16)
    assert torch.equal(output.half(), half)


def test_the_product_of_half_precision_maps_does_not_overflow_on_the_way():
    values = (300.0, 300.0, 300.0, 1e-4)
    xs = [torch.full((1, 1, 3, 3), value, dtype=torch.float16, device=DEVICE) for value in values]
    weights = [torch.zeros(1, 1, 3, 3, dtype=torch.float16, device=DEVICE) for _ in xs]
    for weight in weights:
        weight[0, 0, 1, 1] = 1
    biases = [torch.zeros(1, dtype=torch.float16, device=DEVICE) for _ in xs]
    (product,) = gpu.forward(xs, weights, biases, [0], torch.float16)
    torch.testing.assert_close(product, torch.full_like(product, 300.0**3 * float(xs[3][0, 0, 0, 0])))


def test_pools_nest_where_windows_divide():
    made = call_of(single(stage_case((8, 8), 4, 2)), range(4))
    parents = {key.size: parent.size for key, parent in made._parents.items() if key.level == 0}
    assert parents == {(4, 4): (8, 8), (2, 2): (4, 4), (1, 1): (2, 2)}
    made = call_of(single(stage_case((9, 9), 3, 2)), range(3))
    assert {parent.size for key, parent in made._parents.items() if key.level == 0} == {(9, 9)}


def test_the_cost_model_goes_through_the_low_resolution_where_that_is_cheaper():
    assert call.is_by_taps((44, 44), (88, 88), 32)
    assert call.is_by_taps((16, 16, 16), (32, 32, 32), 32)
    assert not call.is_by_taps((88, 88), (88, 88), 32)
    assert not call.is_by_taps((32, 64, 64), (64, 64, 64), 32)
    assert not call.is_by_taps((44, 44), (88, 88), 1)


def test_tables_are_the_matrices_of_the_axes():
    for source, target in ((3, 7), (7, 3), (1, 4), (4, 1)):
        matrix = bands.resize(source, target, torch.float64).dense()
        for adjoint, expected in ((False, matrix), (True, matrix.T)):
            axis = tables.Axis(source, target, adjoint=adjoint)
            starts, weights = axis.bands(1, torch.float64)
            dense = torch.zeros(expected.shape[0], expected.shape[1] + weights.shape[-1], dtype=torch.float64)
            dense.scatter_(1, starts[0].unsqueeze(1) + torch.arange(weights.shape[-1]), weights[0])
            assert torch.equal(dense[:, : expected.shape[1]], expected)


def test_the_functional_api_and_the_op_call_these_kernels():
    case = stage_case((6, 5), 2, 4, targets=[0])
    xs, weights, biases = [[t.float().requires_grad_() for t in group] for group in case]
    leaves = [*xs, *weights, *biases]
    (expected,) = gpu.forward(xs, weights, biases, [0], torch.float32)
    gradients = [t for group in gpu.backward(upstream([expected]), xs, weights, biases, [0]) for t in group]
    by_api = ops.resize_smooth_multiply_stage(xs, weights, biases, [0])
    for (output,) in (by_api, library.fused(xs, weights, biases, [0], torch.float32)):
        assert torch.equal(output, expected)
        found = torch.autograd.grad(output, leaves, upstream([output]))
        assert all(torch.equal(a, b) for a, b in zip(found, gradients, strict=True))


def test_the_op_is_registered_right():
    xs, weights, biases = [
        [t.float().requires_grad_() for t in group] for group in stage_case((4, 3), 2, 2, targets=[0])
    ]
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(library.fused, (xs, weights, biases, [0], torch.float32), test_utils=utilities)
    grads = [torch.randn_like(xs[0])]
    torch.library.opcheck(library.fused_backward, (grads, xs, weights, biases, [0]), test_utils=utilities)
