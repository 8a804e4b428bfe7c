"""The fused op: against the reference, and all that torch asks of an op. On CPUs; gpu/test_kernels.py has the GPUs."""

import itertools
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import saved_bytes
from sdi_plugin import SDISkip, ops
from sdi_plugin.ops import (
    cpu,
    flops,  # noqa: F401  registers the formulas
    library,
    reference,
)
from tests.ops.test_reference import eager, make_case, run

pytestmark = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")


def fused(xs, weights, biases, level):
    """The op, with one target."""
    return library.fused(list(xs), list(weights), list(biases), [level], xs[0].dtype)[0]


def both(xs, weights, biases, level):
    """Every way to the kernel gives the same bits: the op, and what the functional API takes where nothing listens."""
    output = fused(xs, weights, biases, level)
    assert torch.equal(ops.resize_smooth_multiply(xs, weights, biases, level), output)
    return output


CASES = {
    "paper": ((44, 44), 4, 32),
    "odd": ((13, 9), 4, 5),
    "odd-large": ((37, 29), 4, 20),
    "flat": ((2, 131), 2, 8),
    "one-pixel": ((1, 1), 3, 3),
    "one-column": ((17, 1), 4, 20),
    "one-level": ((8, 8), 1, 16),
    "3d": ((12, 10, 9), 3, 18),
    "3d-odd": ((9, 11, 7), 3, 7),
    "3d-many-planes": ((21, 4, 5), 3, 4),
    "3d-one-pixel-axes": ((1, 6, 1), 2, 16),
}


def total_error(tensors, exact):
    return torch.cat([(t.double() - e).flatten() for t, e in zip(tensors, exact, strict=True)]).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("size", "levels", "channels"), CASES.values(), ids=CASES.keys())
def test_error_is_at_most_twice_that_of_eager_torch(size, levels, channels, dtype):
    case = make_case(size, levels, dtype, channels, batch=8 if math.prod(size) > 1 else 200)  # luck evens out
    results = [
        [run(f, case, level, d) for level in range(levels)]
        for f, d in ((eager, torch.float64), (both, dtype), (eager, dtype))
    ]
    kinds = [slice(0, 1), *(slice(1 + i * levels, 1 + (i + 1) * levels) for i in range(3))]
    for name, kind in zip(("output", "x", "weight", "bias"), kinds, strict=True):
        exact, ours, plain = ([t for result in results[i] for t in result[kind]] for i in range(3))
        assert total_error(ours, exact) <= 2 * total_error(plain, exact), name


mixed = st.one_of(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    st.lists(st.tuples(*[st.integers(1, 5)] * 3), min_size=1, max_size=3),
)


@settings(deadline=None, max_examples=60)
@given(sizes=mixed, channels=st.tuples(st.integers(1, 34), st.integers(1, 34)), level=st.integers(0, 3))
def test_any_sizes_axis_by_axis_and_any_channels_follow_the_reference(sizes, channels, level):
    """Levels that are finer in one axis and coarser in another; C_in and C_out that differ."""
    torch.manual_seed(0)  # the same numbers whenever an example is tried again
    level %= len(sizes)
    inputs, outputs = channels
    dim = len(sizes[0])
    xs = [torch.randn(2, inputs, *size) for size in sizes]
    weights = [torch.randn(outputs, inputs, *[3] * dim) / (inputs * 3**dim) ** 0.5 for _ in sizes]
    case = [xs, weights, [torch.randn(outputs) for _ in sizes]]
    exact, ours, plain = (
        run(f, case, level, dtype)
        for f, dtype in (
            (reference.resize_smooth_multiply, torch.float64),
            (fused, torch.float32),
            (reference.resize_smooth_multiply, torch.float32),
        )
    )
    scale = torch.cat([e.flatten() for e in exact]).norm()
    # Two units in the last place of the whole, where eager torch happens to be exact.
    allowed = 2 * total_error(plain, exact) + 2 * torch.finfo(torch.float32).eps * scale
    assert total_error(ours, exact) <= allowed


def single(case):
    return [[t.detach().float() for t in group] for group in case]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("size", [(12, 10), (9, 6, 5)], ids=["2d", "3d"])
def test_opcheck(size):
    xs, weights, biases = [[t.requires_grad_() for t in group] for group in single(make_case(size, 3, channels=4))]
    targets = [0, 2]
    weights, biases = [[t.detach().clone().requires_grad_() for t in group * 2] for group in (weights, biases)]
    torch.library.opcheck(library.fused, (xs, weights, biases, targets, torch.float32))
    grads = [torch.randn_like(xs[target]) for target in targets]
    # Its own derivative is the reference's, whose pooling torch cannot trace for unknown sizes.
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(library.fused_backward, (grads, xs, weights, biases, targets), test_utils=utilities)


@pytest.mark.parametrize("size", [(33, 20), (9, 6, 5)], ids=["2d", "3d"])
def test_a_stage_is_its_targets(size):
    """Sizes that divide, so that pools nest, and sizes that do not."""
    xs, weights, biases = single(make_case(size, 4, channels=6))
    targets = [0, 2, 3]
    stage = ops.resize_smooth_multiply_stage(xs, weights * 3, biases * 3, targets)
    for target, output in zip(targets, stage, strict=True):
        assert torch.equal(output, fused(xs, weights, biases, target))


@pytest.mark.parametrize(("size", "levels"), [((88, 88), 4), ((32, 32, 32), 5)], ids=["2d-352", "3d-32-l5"])
def test_backward_saves_at_most_an_eighth_of_what_eager_saves(size, levels):
    xs = [torch.randn(1, 32, *(s >> j for s in size), requires_grad=True) for j in range(levels)]
    weights = [torch.randn(32, 32, *[3] * len(size)) for _ in xs]
    biases = [torch.randn(32) for _ in xs]

    def stage(function):
        return saved_bytes(lambda: [function(xs, weights, biases, level) for level in range(levels)])[1]

    assert stage(ops.resize_smooth_multiply) <= stage(eager) / 8


def test_compiles_to_a_single_graph_with_dynamic_sizes():
    skip = SDISkip([6, 8], 4)
    compiled = torch.compile(skip, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (12, 18):
        features = [torch.randn(2, 6, size, 10), torch.randn(2, 8, size // 2, 5)]
        for a, b in zip(compiled(features), skip(features), strict=True):
            torch.testing.assert_close(a, b)
        torch.stack([y.sum() for y in compiled(features)]).sum().backward()


def test_an_exported_program_holds_torch_ops_only():
    program = torch.export.export(SDISkip([6, 8], 4).eval(), ([torch.randn(1, 6, 8, 8), torch.randn(1, 8, 4, 4)],))
    assert "sdi_plugin" not in str(program.graph)


@pytest.mark.parametrize("size", [(4, 3), (3, 2, 2)], ids=["2d", "3d"])
def test_first_and_second_derivatives_in_float64(size):
    xs, weights, biases = make_case(size, levels=2, channels=2, batch=1)

    def op(*tensors):
        return fused(tensors[:2], tensors[2:4], tensors[4:], 0)

    def direct(*tensors):
        return ops.resize_smooth_multiply(tensors[:2], tensors[2:4], tensors[4:], 0)

    for function in (op, direct):
        assert torch.autograd.gradcheck(function, (*xs, *weights, *biases))
        assert torch.autograd.gradgradcheck(function, (*xs, *weights, *biases))


def test_vmap_over_maps_and_weights():
    xs, weights, biases = single(make_case((6, 5), 2, channels=3))
    many = [[torch.stack([t, 2 * t, t - 1]) for t in group] for group in (xs, weights, biases)]

    def function(*tensors):
        return ops.resize_smooth_multiply(tensors[:2], tensors[2:4], tensors[4:], 0)

    result = torch.vmap(function)(*many[0], *many[1], *many[2])
    for i in range(3):
        xs, weights, biases = ([t[i] for t in group] for group in many)
        expected = fused(xs, weights, biases, 0)
        assert torch.equal(result[i], expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=["fp64", "bf16", "fp16"])
def test_other_dtypes_are_served_too(dtype):
    xs, weights, biases = [[t.detach().to(dtype) for t in group] for group in make_case((6, 6), 2)]
    output = ops.resize_smooth_multiply(xs, weights, biases, 0)
    assert output.dtype == dtype
    wide = ops.resize_smooth_multiply(xs, weights, biases, 0, out_dtype=torch.float32)
    assert wide.dtype == torch.float32
    torch.testing.assert_close(output, wide.to(dtype))


def test_under_autocast_the_op_takes_the_tensors_as_they_are():
    xs, weights, biases = single(make_case((6, 6), 2))
    half = [x.bfloat16() for x in xs]
    with torch.autocast("cpu", torch.bfloat16):
        output = ops.resize_smooth_multiply(half, weights, biases, 0)
        wide = ops.resize_smooth_multiply(xs, weights, biases, 0)
    assert output.dtype == torch.bfloat16
    assert torch.equal(wide, fused(xs, weights, biases, 0))
    assert torch.equal(output, fused([x.float() for x in half], weights, biases, 0).bfloat16())


def negative_view(t):
    """Equal to t, but held in memory with the other sign."""
    view = torch.imag(torch.complex(torch.zeros_like(t), -t).conj())
    assert view.is_neg()
    return view


@pytest.mark.parametrize("function", [ops.resize_smooth_multiply, fused], ids=["api", "op"])
def test_negative_views_are_read_with_their_sign(function):
    case = [[t.requires_grad_() for t in group] for group in single(make_case((6, 5), 2))]
    upstream = torch.randn(2, 5, 6, 5)
    results = []
    for arrange in (torch.clone, negative_view):
        output = function(*[[arrange(t) for t in group] for group in case], 0)
        leaves = [t for group in case for t in group]
        results.append([output, *torch.autograd.grad(output, leaves, arrange(upstream))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("at", [(0, 0), (2, 2), (-1, -1)], ids=["first", "middle", "last"])
@pytest.mark.parametrize(
    ("size", "levels", "channels"),
    [((18, 20), 2, 8), ((13, 9), 3, 5), ((6, 5, 7), 2, 8)],
    ids=["winograd", "odd", "3d"],
)
def test_an_infinite_pixel_spoils_nothing_that_is_finite_in_the_reference(size, levels, channels, at):
    case = make_case(size, levels, channels=channels, batch=1)
    pixel = (*[at[0]] * (len(size) - 2), *at)
    for spoilt, level in itertools.product(range(levels), range(levels)):
        xs = [x.detach().clone() for x in case[0]]
        xs[spoilt][(0, 1, *pixel)] = math.inf
        ours, exact = (
            run(f, [xs, *case[1:]], level, torch.float64)[: 1 + levels]
            for f in (fused, reference.resize_smooth_multiply)
        )
        for a, b in zip(ours, exact, strict=True):
            torch.testing.assert_close(a[b.isfinite()], b[b.isfinite()])
        if spoilt == level:
            assert not ours[0][(0, slice(None), *pixel)].isfinite().any()


@pytest.mark.parametrize("function", [ops.resize_smooth_multiply, fused], ids=["api", "op"])
def test_maps_without_pixels_are_an_error(function):
    xs, weights, biases = single(make_case((6, 6), 2))
    with pytest.raises(ValueError, match="expected maps"):
        function([xs[0], xs[1][..., :0]], weights, biases, 0)
    for x, size in ((xs[0], (0, 3)), (xs[0][:, :, :0], (2, 2))):
        with pytest.raises(ValueError, match="resize: expected maps of one pixel or more"):
            ops.resize(x, size)


@pytest.mark.parametrize("function", [ops.resize_smooth_multiply, reference.resize_smooth_multiply])
def test_an_empty_batch_has_gradients_of_zero(function):
    xs, weights, biases = single(make_case((6, 6), 2))
    leaves = [t.requires_grad_() for t in (*[x[:0] for x in xs], *weights, *biases)]
    gradients = torch.autograd.grad(function(leaves[:2], leaves[2:4], leaves[4:], 0).sum(), leaves)
    assert all(torch.equal(g, torch.zeros_like(t)) for g, t in zip(gradients, leaves, strict=True))


def test_an_empty_batch_gives_an_empty_result():
    xs, weights, biases = single(make_case((6, 6), 2))
    assert ops.resize_smooth_multiply([x[:0] for x in xs], weights, biases, 0).shape == (0, 5, 6, 6)


@pytest.mark.parametrize("function", [ops.resize_smooth_multiply_stage, library.fused], ids=["api", "op"])
def test_wrong_counts_and_targets_are_clear_errors(function):
    xs, weights, biases = single(make_case((6, 6), 2))
    more = () if function is ops.resize_smooth_multiply_stage else (torch.float32,)
    with pytest.raises(ValueError, match=r"expected 4 weights and biases \(2 levels, 2 targets\), got 2 and 2"):
        function(xs, weights, biases, [0, 1], *more)
    with pytest.raises(ValueError, match=r"expected targets from 0 \(finest\) to 1, got \[2\]"):
        function(xs, weights, biases, [2], *more)


@pytest.mark.parametrize(
    "change", [lambda x, w, b: (x[:, :3], w, b), lambda x, w, b: (x, w[:, :3], b), lambda x, w, b: (x, w, b[:2])]
)
def test_shapes_that_do_not_fit_never_reach_the_kernel(change):
    xs, weights, biases = single(make_case((6, 6), 2))
    xs[1], weights[1], biases[1] = change(xs[1], weights[1], biases[1])
    with pytest.raises(RuntimeError):  # torch's own, from the reference
        ops.resize_smooth_multiply(xs, weights, biases, 0)
    with pytest.raises(ValueError, match="expected maps"):
        fused(xs, weights, biases, 0)


def test_kernels_of_other_sizes_are_served_by_the_reference():
    xs, weights, biases = single(make_case((6, 6), 2))
    weights = [w[..., 1:2, 1:2].contiguous() for w in weights]
    expected = reference.resize_smooth_multiply(xs, weights, biases, 0)
    assert torch.equal(ops.resize_smooth_multiply(xs, weights, biases, 0), expected)


def test_flops_are_counted_and_fewer_than_eager():
    xs, weights, biases = [[t.requires_grad_() for t in group] for group in single(make_case((32, 32), 4, channels=32))]
    counts = []
    for function in (fused, eager):
        with FlopCounterMode(display=False) as counter:
            function(xs, weights, biases, 0).sum().backward()
        counts.append(counter.get_total_flops())
    dense = 2 * 2 * 32 * 32 * 32 * 32 * 9
    forward = sum(dense // 4**j for j in range(4))
    assert counts[0] == 4 * forward
    assert counts[0] < counts[1]


def test_the_environment_variable_forces_the_reference():
    code = "from sdi_plugin import ops; print(ops.backends()['cpu'])"
    environment = {**os.environ, "SDI_PLUGIN_REFERENCE": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "SDI_PLUGIN_REFERENCE is set" in result.stdout
