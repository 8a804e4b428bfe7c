"""The fused op on CPUs: against the reference, and all that torch asks of an op."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reference import eager, make_case, run
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import saved_bytes
from sdi_plugin import SDISkip, ops
from sdi_plugin.ops import (
    cpu,
    flops,  # noqa: F401  registers the formulas
    library,
    reference,
)

pytestmark = pytest.mark.skipif(not cpu.available, reason=f"the CPU kernel is off: {cpu.reason}")

CASES = {
    "paper": ((44, 44), 4, 32),
    "odd": ((13, 9), 4, 5),
    "one-pixel": ((1, 1), 3, 3),
    "one-column": ((17, 1), 4, 20),
    "one-level": ((8, 8), 1, 16),
    "3d": ((12, 10, 9), 3, 18),
    "3d-many-planes": ((21, 4, 5), 3, 4),
    "3d-one-pixel-axes": ((1, 6, 1), 2, 16),
}


def total_error(tensors, exact):
    return torch.cat([(t.double() - e).flatten() for t, e in zip(tensors, exact, strict=True)]).norm()


@pytest.mark.parametrize(("size", "levels", "channels"), CASES.values(), ids=CASES.keys())
def test_error_is_at_most_twice_that_of_eager_torch(size, levels, channels):
    case = make_case(size, levels, torch.float32, channels, batch=8)
    results = [
        [run(f, case, level, dtype) for level in range(levels)]
        for f, dtype in ((eager, torch.float64), (library.fused, torch.float32), (eager, torch.float32))
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
            (library.fused, torch.float32),
            (reference.resize_smooth_multiply, torch.float32),
        )
    )
    scale = torch.cat([e.flatten() for e in exact]).norm()
    # Two units in the last place of the whole, where eager torch happens to be exact.
    allowed = 2 * total_error(plain, exact) + 2 * torch.finfo(torch.float32).eps * scale
    assert total_error(ours, exact) <= allowed


def single(case):
    return [[t.detach().float() for t in group] for group in case]


@pytest.mark.parametrize("arrange", ["contiguous", "channels-last", "strided", "expanded"])
def test_any_memory_layout(arrange):
    xs, weights, biases = single(make_case((9, 8), 3, channels=6))
    expected = library.fused(xs, weights, biases, 0)
    if arrange == "channels-last":
        xs = [x.contiguous(memory_format=torch.channels_last) for x in xs]
    elif arrange == "strided":
        xs = [torch.stack([x, -x], dim=-1)[..., 0] for x in xs]
        weights = [w.transpose(2, 3).contiguous().transpose(2, 3) for w in weights]
    elif arrange == "expanded":
        xs = [x[:1].expand_as(x) for x in xs]
        expected = expected[:1].expand_as(expected)
    assert torch.equal(library.fused(xs, weights, biases, 0), expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("size", [(12, 10), (9, 6, 5)], ids=["2d", "3d"])
def test_opcheck(size):
    xs, weights, biases = [[t.requires_grad_() for t in group] for group in single(make_case(size, 3, channels=4))]
    torch.library.opcheck(library.fused, (xs, weights, biases, 0))
    grad = torch.randn(2, 4, *size)
    detached = [[t.detach() for t in group] for group in (xs, weights, biases)]
    torch.library.opcheck(library.fused_backward, (grad, *detached, 0), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("size", [(33, 20), (19, 6, 5)], ids=["2d", "3d"])
def test_same_bits_on_every_run(size):
    case = make_case(size, 4, torch.float32, channels=40)
    first, second = (run(library.fused, case, 0, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("size", [(33, 20), (19, 6, 5)], ids=["2d", "3d"])
def test_the_kernel_gives_the_same_bits_for_any_number_of_threads(size, monkeypatch):
    """The vendor libraries' products are kept out: a stand-in for the convolution, and weights of one entry a row."""
    monkeypatch.setattr(cpu, "_conv", lambda x, weight, bias: x + 1)
    monkeypatch.setattr(cpu, "_conv_backward", lambda grad, x, weight, bias: (grad, weight, bias))
    xs, weights, biases = single(make_case(size, 4, channels=40))
    weights = [torch.zeros_like(w) for w in weights]
    for weight in weights:
        weight[range(40), range(40)] = 0.5
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            x_grads, _, bias_grads = cpu.backward(torch.ones(2, 40, *size), xs, weights, biases, 0)
            results.append([cpu.forward(xs, weights, biases, 0), x_grads[0], *bias_grads[1:]])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_concurrent_calls_from_several_threads():
    xs, weights, biases = single(make_case((33, 20), 4, channels=32))
    expected, results = library.fused(xs, weights, biases, 0), []

    def call():
        for _ in range(10):
            results.append(library.fused(xs, weights, biases, 0))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    assert all(torch.equal(result, expected) for result in results)


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


def test_a_second_derivative_is_a_clear_error():
    xs, weights, biases = [[t.requires_grad_() for t in group] for group in single(make_case((5, 5), 2))]
    (gradient,) = torch.autograd.grad(library.fused(xs, weights, biases, 0).sum(), xs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="resize_smooth_multiply_backward"):
        gradient.sum().backward()


def test_other_dtypes_and_autocast_are_served_by_the_reference():
    case = make_case((6, 6), 2)
    for dtype in (torch.float64, torch.bfloat16):
        xs, weights, biases = [[t.detach().to(dtype) for t in group] for group in case]
        expected = reference.resize_smooth_multiply(xs, weights, biases, 0)
        assert torch.equal(ops.resize_smooth_multiply(xs, weights, biases, 0), expected)
    with torch.autocast("cpu", torch.bfloat16):
        xs, weights, biases = single(case)
        half = [x.bfloat16() for x in xs]
        assert ops.resize_smooth_multiply(half, weights, biases, 0).dtype == torch.bfloat16


def test_flops_are_counted_and_fewer_than_eager():
    xs, weights, biases = [[t.requires_grad_() for t in group] for group in single(make_case((32, 32), 4, channels=32))]
    counts = []
    for function in (library.fused, eager):
        with FlopCounterMode(display=False) as counter:
            function(xs, weights, biases, 0).sum().backward()
        counts.append(counter.get_total_flops())
    dense = 2 * 2 * 32 * 32 * 32 * 32 * 9
    forward = sum(dense // 4**j for j in range(4))
    assert counts[0] == 4 * forward
    assert counts[0] < counts[1]


def test_the_cost_model_goes_through_the_low_resolution_where_that_is_cheaper():
    assert cpu.is_by_taps((44, 44), (88, 88), channels=32)
    assert cpu.is_by_taps((16, 16, 16), (32, 32, 32), channels=32)
    assert not cpu.is_by_taps((88, 88), (88, 88), channels=32)
    assert not cpu.is_by_taps((87, 87), (88, 88), channels=32)
    assert not cpu.is_by_taps((44, 44), (88, 88), channels=1)


def test_the_environment_variable_forces_the_reference():
    code = "from sdi_plugin import ops; print(ops.backends()['cpu'])"
    environment = {**os.environ, "SDI_PLUGIN_REFERENCE": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "SDI_PLUGIN_REFERENCE is set" in result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same():
    code = (
        "import os, torch; from sdi_plugin import SDISkip; "
        "s = SDISkip([4, 8], 16).eval(); f = [torch.ones(1, 4, 9, 9), torch.ones(1, 8, 5, 5)]; a = s(f)[0]\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    torch.set_num_threads(1)\n"  # what a DataLoader's worker does: OpenMP's threads do not survive a fork
        "    os._exit(0 if torch.equal(s(f)[0], a) else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60).returncode == 0
