"""What every backend of resize_smooth_multiply promises, stated once. Each backend's tests inherit it."""

import itertools
import math
from collections.abc import Mapping
from types import MappingProxyType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdi_plugin.ops import gpu, library, reference
from tests.ops.cases import (
    SMALL_CASES,
    distance,
    eager,
    identity_case,
    make_case,
    negative_view,
    run,
    single,
    to,
)

CPU = torch.device("cpu")
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
ARRANGEMENTS = {
    "channels-last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "strided": lambda t: torch.stack([t, -t], dim=-1)[..., 0],
    "transposed": lambda t: t.mT.contiguous().mT,
    "expanded": lambda t: t[:1].expand_as(t),
    "negative": negative_view,
}
# Triton's interpreter is slow.
EXAMPLES, LARGEST, DEEPEST, BATCH = (10, 7, 4, 1) if gpu.INTERPRETED else (60, 9, 5, 2)
SIZES = st.one_of(
    st.lists(st.tuples(*[st.integers(1, LARGEST)] * 2), min_size=1, max_size=4),
    st.lists(st.tuples(*[st.integers(1, DEEPEST)] * 3), min_size=1, max_size=3),
)


def check_error(function, shape, dtype, *, device=CPU, fusion="product", factor=1, slack=0.0):
    """The errors of the output and of each kind of gradient, over all targets: at most twice those of eager torch.

    factor: scales weights and biases; large ones push the product far into the logarithm of its asinh.
    slack: in units in the last place of the whole.
    """
    size, levels, channels, batch = shape
    xs, weights, biases = to(make_case(size, levels, dtype, channels, batch), device)
    case = [xs, *[[factor * t for t in group] for group in (weights, biases)]]
    exact, ours, plain = (
        [run(f, case, level, d, fusion=fusion) for level in range(levels)]
        for f, d in ((eager, torch.float64), (function, dtype), (eager, dtype))
    )
    kinds = [slice(0, 1), *(slice(1 + i * levels, 1 + (i + 1) * levels) for i in range(3))]
    for name, kind in zip(("output", "x", "weight", "bias"), kinds, strict=True):
        e, a, b = ([t for result in results for t in result[kind]] for results in (exact, ours, plain))
        assert all(t.dtype == dtype and t.shape == s.shape for t, s in zip(a, e, strict=True)), name
        scale = torch.cat([t.flatten() for t in e]).norm()
        error, allowed = distance(a, e), 2 * distance(b, e) + slack * torch.finfo(dtype).eps * scale
        assert error <= allowed, f"{name}: {error:.3g} > {allowed:.3g}"


class Contract:
    """A subclass calls its backend in `stage`, and says on which shapes and dtypes."""

    device = CPU
    shapes = SMALL_CASES
    asinh_shapes = ("paper", "odd", "one-pixel", "one-column", "3d", "3d-one-pixel-axes")
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    asinh_dtypes = (torch.float32, torch.bfloat16)
    slack = 0.0  # in units in the last place of the whole, where eager torch happens to be exact
    asinh_slack = 0.0
    is_bitwise = False  # whether a layout changes no bit

    def stage(self, xs, weights, biases, targets, fusion="product"):
        raise NotImplementedError

    def one(self, xs, weights, biases, level, fusion="product"):
        return self.stage(list(xs), list(weights), list(biases), [level], fusion)[0]

    def pytest_generate_tests(self, metafunc):
        asinh = "factor" in metafunc.fixturenames
        if "shape" in metafunc.fixturenames:
            names = self.asinh_shapes if asinh else self.shapes
            metafunc.parametrize("shape", [self.shapes[name] for name in names], ids=names)
        if "dtype" in metafunc.fixturenames:
            dtypes = self.asinh_dtypes if asinh else self.dtypes
            metafunc.parametrize("dtype", dtypes, ids=[NAMES[dtype] for dtype in dtypes])

    def test_error_is_at_most_twice_that_of_eager_torch(self, shape, dtype):
        check_error(self.one, shape, dtype, device=self.device, slack=self.slack)

    @pytest.mark.parametrize("factor", [1, 30], ids=["small", "large"])
    def test_error_of_asinh_is_at_most_twice_that_of_eager_torch(self, shape, dtype, factor):
        options = {"fusion": "asinh", "factor": factor, "slack": self.asinh_slack}
        check_error(self.one, shape, dtype, device=self.device, **options)

    @pytest.mark.parametrize("size", [(7, 6), (8, 8), (3, 4, 2)], ids=["2d", "2d-nested", "3d"])
    def test_float64_is_exact_and_a_stage_is_its_targets(self, size):
        levels = 3 if len(size) == 2 else 2
        case = to(make_case(size, levels, channels=4, batch=1, targets=2), self.device)
        ours, theirs = ([[t.clone().requires_grad_() for t in group] for group in case] for _ in range(2))
        targets = [levels - 1, 0]
        xs, weights, biases = ours
        outs = self.stage(xs, weights, biases, targets)
        halves = [slice(0, levels), slice(levels, 2 * levels)]
        expected = [
            eager(theirs[0], theirs[1][half], theirs[2][half], target)
            for half, target in zip(halves, targets, strict=True)
        ]
        upstream = [torch.randn_like(t) for t in expected]
        torch.testing.assert_close(outs, expected, rtol=1e-12, atol=1e-12)
        leaves = [[t for group in groups for t in group] for groups in (ours, theirs)]
        found, exact = (torch.autograd.grad(ys, ts, upstream) for ys, ts in zip((outs, expected), leaves, strict=True))
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("arrange", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
    def test_any_memory_layout(self, arrange):
        xs, weights, biases = to(make_case((9, 8), 3, channels=6), self.device, torch.float32)
        arranged = [[arrange(t) for t in xs], [arrange(t) for t in weights], biases]
        plain = [[torch.empty_like(t, memory_format=torch.contiguous_format).copy_(t) for t in g] for g in arranged]
        for level in (0, 2):
            results = []
            for case in (arranged, plain):
                leaves = [[t.detach().requires_grad_() for t in group] for group in case]
                output = self.one(leaves[0], leaves[1], leaves[2], level)
                upstream = torch.ones_like(output, memory_format=torch.contiguous_format) / 3
                upstream = arrange(upstream) if case is arranged else upstream
                results.append([output, *torch.autograd.grad(output, [t for g in leaves for t in g], upstream)])
            for a, b in zip(*results, strict=True):
                assert torch.equal(a, b) if self.is_bitwise else torch.testing.assert_close(a, b) is None

    @settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.differing_executors])
    @given(sizes=SIZES, channels=st.tuples(st.integers(1, 34), st.integers(1, 34)), level=st.integers(0, 3))
    def test_any_sizes_axis_by_axis_and_any_channels(self, sizes, channels, level):
        """Levels that are finer in one axis and coarser in another; C_in and C_out that differ."""
        torch.manual_seed(0)  # the same numbers whenever an example is tried again
        level %= len(sizes)
        inputs, outputs = channels
        dim = len(sizes[0])
        xs = [torch.randn(BATCH, inputs, *size) for size in sizes]
        weights = [torch.randn(outputs, inputs, *[3] * dim) / (inputs * 3**dim) ** 0.5 for _ in sizes]
        case = to([xs, weights, [torch.randn(outputs) for _ in sizes]], self.device)
        specification = reference.resize_smooth_multiply
        exact, ours, plain = (
            run(f, case, level, dtype)
            for f, dtype in (
                (specification, torch.float64),
                (self.one, torch.float32),
                (specification, torch.float32),
            )
        )
        scale = torch.cat([e.flatten() for e in exact]).norm()
        # Two units in the last place of the whole, where eager torch happens to be exact.
        allowed = 2 * distance(plain, exact) + 2 * torch.finfo(torch.float32).eps * scale
        assert distance(ours, exact) <= allowed

    def test_the_product_of_half_precision_maps_does_not_overflow_on_the_way(self):
        case = identity_case((300.0, 300.0, 300.0, 1e-4), torch.float16, self.device)
        assert torch.isinf(eager(*case, 0)).all()
        product = self.one(*case, 0)
        torch.testing.assert_close(product, torch.full_like(product, 300.0**3 * float(case[0][3][0, 0, 0, 0])))

    def test_asinh_keeps_infinite_values_and_nan(self):
        values = (torch.inf, -torch.inf, torch.nan, 3e38, -1e-3)
        _, weights, biases = identity_case([0.0], device=self.device)
        x = torch.tensor(values, device=self.device).view(-1, 1, 1, 1)
        torch.testing.assert_close(self.one([x], weights, biases, 0, "asinh"), 2 * torch.asinh(x / 2), equal_nan=True)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, in Triton's interpreter
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
class KernelContract(Contract):
    """What the op promises besides, with any kernel."""

    is_bitwise = True
    opcheck_sizes = ((12, 10), (9, 6, 5))
    opcheck_utilities = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    infinite_shapes: Mapping[str, tuple[tuple[int, ...], int, int]] = MappingProxyType(
        {"winograd": ((18, 20), 2, 8), "odd": ((13, 9), 3, 5), "3d": ((6, 5, 7), 2, 8)}
    )

    def stage(self, xs, weights, biases, targets, fusion="product"):
        return library.fused(xs, weights, biases, list(targets), xs[0].dtype, fusion)

    def pytest_generate_tests(self, metafunc):
        super().pytest_generate_tests(metafunc)
        if "opcheck_size" in metafunc.fixturenames:
            ids = [f"{len(size)}d" for size in self.opcheck_sizes]
            metafunc.parametrize("opcheck_size", self.opcheck_sizes, ids=ids)
        if "infinite_shape" in metafunc.fixturenames:
            metafunc.parametrize("infinite_shape", self.infinite_shapes.values(), ids=self.infinite_shapes.keys())

    @pytest.mark.parametrize("at", [(0, 0), (2, 2), (-1, -1)], ids=["first", "middle", "last"])
    def test_an_infinite_pixel_spoils_nothing_that_is_finite_in_the_reference(self, infinite_shape, at):
        size, levels, channels = infinite_shape
        case = to(make_case(size, levels, channels=channels, batch=1), self.device)
        pixel = (*[at[0]] * (len(size) - 2), *at)
        for spoilt, level in itertools.product(range(levels), range(levels)):
            xs = [x.clone() for x in case[0]]
            xs[spoilt][(0, 1, *pixel)] = math.inf
            ours, exact = (
                run(f, [xs, *case[1:]], level, torch.float64)[: 1 + levels]
                for f in (self.one, reference.resize_smooth_multiply)
            )
            for a, b in zip(ours, exact, strict=True):
                torch.testing.assert_close(a[b.isfinite()], b[b.isfinite()])
            if spoilt == level:
                assert not ours[0][(0, slice(None), *pixel)].isfinite().any()

    @pytest.mark.parametrize("fusion", reference.FUSIONS)
    def test_opcheck(self, opcheck_size, fusion):
        case = single(to(make_case(opcheck_size, 3, channels=4, targets=2), self.device))
        xs, weights, biases = [[t.requires_grad_() for t in group] for group in case]
        arguments = xs, weights, biases, [0, 2]
        torch.library.opcheck(library.fused, (*arguments, torch.float32, fusion), test_utils=self.opcheck_utilities)
        grads = [torch.randn_like(xs[target]) for target in (0, 2)]
        # Its own derivative is the reference's, whose pooling torch cannot trace for unknown sizes.
        utilities = [name for name in self.opcheck_utilities if name != "test_aot_dispatch_dynamic"]
        torch.library.opcheck(library.fused_backward, (grads, *arguments, fusion), test_utils=utilities)

    @pytest.mark.parametrize("size", [(7, 6), (4, 3, 5)], ids=["2d", "3d"])
    def test_gradients_that_are_not_needed_are_left_out_and_change_no_others(self, size):
        xs, weights, biases = single(to(make_case(size, 2, channels=4, targets=2), self.device))
        arguments = list(map(torch.ones_like, xs)), xs, weights, biases, [0, 1]
        every = library.fused_backward(*arguments)
        for needs in ((True, False), (False, True)):
            found = library.fused_backward(*arguments, needs_maps=needs[0], needs_weights=needs[1])
            for group, needed, expected in zip(found, (needs[0], needs[1], needs[1]), every, strict=True):
                assert len(group) == (len(expected) if needed else 0)
                assert all(torch.equal(a, b) for a, b in zip(group, expected, strict=False))

    @pytest.mark.parametrize("size", [(5, 4), (2, 3, 4)], ids=["2d", "3d"])
    def test_the_gradient_of_a_weight_has_its_layout(self, size):
        xs, weights, biases = single(to(make_case(size, 2, channels=4, batch=1), self.device))
        last = torch.channels_last if len(size) == 2 else torch.channels_last_3d
        formats = torch.contiguous_format, last
        weights = [w.to(memory_format=f).requires_grad_() for w, f in zip(weights, formats, strict=True)]
        self.one(xs, weights, biases, 0).sum().backward()
        for weight in weights:
            assert weight.grad is not None
            assert weight.grad.stride() == weight.stride()
        gradients = [w.grad for w in weights]
        plain = [w.detach().contiguous().requires_grad_() for w in weights]
        self.one(xs, plain, biases, 0).sum().backward()
        torch.testing.assert_close(gradients, [w.grad for w in plain])
