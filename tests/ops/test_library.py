"""The fused op in torch: compilation, export, transforms, autocast; and what it refuses.

contract.py has what each backend promises.
"""

import os
import subprocess
import sys
from inspect import signature

import pytest
import torch

from benchmarks.memory import saved_bytes
from sdi_plugin import SDISkip, ops
from sdi_plugin.ops import (
    cpu,
    gpu,
    library,
    reference,
)
from tests.ops.cases import eager, fused, make_case, negative_view, run, single, to

pytestmark = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")


@pytest.mark.parametrize("size", [(44, 44), (12, 10, 9)], ids=["2d", "3d"])
def test_every_way_to_the_kernel_gives_the_same_bits(size):
    """The op, and the shortcut of the functional API where nothing traces or transforms the call."""
    case = make_case(size, 3, channels=8)
    for level in range(3):
        results = [run(f, case, level, torch.float32) for f in (fused, ops.resize_smooth_multiply)]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("size", [(33, 20), (9, 6, 5)], ids=["2d", "3d"])
def test_a_stage_is_its_targets(size):
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


def test_tensors_on_two_devices_are_a_clear_error():
    xs, weights, biases = single(make_case((6, 6), 2))
    with pytest.raises(ValueError, match="expected all tensors on one device, got cpu and meta"):
        fused(xs, [w.to("meta") for w in weights], biases, 0)


def test_compiles_to_a_single_graph_with_dynamic_sizes():
    skip = SDISkip([6, 8], 4)
    compiled = torch.compile(skip, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (12, 18):
        features = [torch.randn(2, 6, size, 10), torch.randn(2, 8, size // 2, 5)]
        for a, b in zip(compiled(features), skip(features), strict=True):
            torch.testing.assert_close(a, b)
        torch.stack([y.sum() for y in compiled(features)]).sum().backward()


@pytest.mark.parametrize("name", ["reason", "serves", "forward", "backward"])
def test_both_backends_have_the_same_functions(name):
    assert signature(getattr(cpu, name)) == signature(getattr(gpu, name))


def test_one_name_has_one_signature_in_every_layer():
    assert signature(ops.resize_smooth_multiply) == signature(reference.resize_smooth_multiply)
    stages = [layer.resize_smooth_multiply_stage for layer in (ops, library, reference)]
    assert len({signature(stage) for stage in stages}) == 1


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
def test_other_dtypes_are_supported_too(dtype):
    xs, weights, biases = to(make_case((6, 6), 2), dtype)
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


def test_kernels_of_other_sizes_go_to_the_reference():
    xs, weights, biases = single(make_case((6, 6), 2))
    weights = [w[..., 1:2, 1:2].contiguous() for w in weights]
    expected = reference.resize_smooth_multiply(xs, weights, biases, 0)
    assert torch.equal(ops.resize_smooth_multiply(xs, weights, biases, 0), expected)


def test_the_environment_variable_forces_the_reference():
    code = "from sdi_plugin import ops; print(ops.backends()['cpu'])"
    environment = {**os.environ, "SDI_PLUGIN_REFERENCE": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "SDI_PLUGIN_REFERENCE is set" in result.stdout
