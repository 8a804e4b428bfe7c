"""attend_and_reduce: errors against float64, ties of maxima, what backward keeps, and torch's machinery around it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.func import grad, vmap

from benchmarks.memory import saved_bytes
from sdi_plugin import SDISkip, UNetV2Decoder, ops
from sdi_plugin.ops import (
    attend,
    cpu,
    plain,
    reference,
)
from tests.ops.attention import DTYPES, NAMES, SHAPES, make, nans, run


def op(*tensors):
    f, fc1, fc2, conv7, conv1 = ([t] for t in tensors)
    return attend.fused(f, fc1, fc2, conv7, conv1, tensors[0].dtype)[0][0]


ours, theirs = ops.attend_and_reduce, reference.attend_and_reduce
WAYS = {"api": ours, "op": op}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_error_is_at_most_twice_that_of_eager_torch(shape, dtype, backend):
    # Some gradients are one number, whose error may be zero by chance: several cases count together.
    cases = [make(*shape, dtype=dtype) for _ in range(8)]
    exact, found, eager = (
        [torch.stack(each) for each in zip(*[run(f, case, d) for case in cases], strict=True)]
        for f, d in ((theirs, torch.float64), (ours, dtype), (theirs, dtype))
    )
    for name, e, a, b in zip(NAMES, exact, found, eager, strict=True):
        assert a.dtype == dtype
        # Two units in the last place of the whole, where eager torch happens to be exact.
        allowed = 2 * (b - e).norm() + 2 * torch.finfo(dtype).eps * e.norm()
        assert (a - e).norm() <= allowed, name


@pytest.fixture(params=["kernel", "torch"])
def backend(request, monkeypatch):
    """The C++ kernel if there is one, and torch's own ops, which serve elsewhere."""
    if request.param == "torch":
        monkeypatch.setattr(attend, "_backend", lambda *_: plain)


@pytest.mark.parametrize("function", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_float64_is_exact(shape, function, backend):
    case = make(*shape)
    torch.testing.assert_close(run(function, case, torch.float64), run(theirs, case, torch.float64))


TIES = {
    "after-relu": lambda *shape: torch.randn(shape).relu(),
    "all-zero": torch.zeros,
    "constant": lambda *shape: torch.full(shape, -0.5),
    "few-values": lambda *shape: torch.randint(-1, 2, shape).double(),
    "constant-channels": lambda *shape: torch.randn(shape[:2] + (1,) * (len(shape) - 2)).expand(shape),
}


@pytest.mark.parametrize("size", [(5, 7), (2, 3, 4), (1, 1)], ids=["2d", "3d", "one-pixel"])
@pytest.mark.parametrize("values", TIES.values(), ids=TIES.keys())
def test_equal_maxima_share_the_gradient(values, size, backend):
    case = make(2, 6, 4, size, values=values)
    torch.testing.assert_close(run(ours, case, torch.float64), run(theirs, case, torch.float64))


LAYOUTS = {
    "channels-last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "strided": lambda t: torch.stack([t, -t], dim=-1)[..., 0],
    "transposed": lambda t: t.mT.contiguous().mT,
    "expanded": lambda t: t[:1].expand_as(t),
    "negative": lambda t: torch.imag(torch.complex(torch.zeros_like(t), -t).conj()),
}


@pytest.mark.parametrize("size", [(9, 8), (3, 4, 5)], ids=["2d", "3d"])
@pytest.mark.parametrize("arrange", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_any_memory_layout(arrange, size, backend):
    f, *weights = [t.float() for t in make(2, 16, 6, size)]
    arranged = arrange(f)
    results = []
    for x in (arranged, arranged.clone(memory_format=torch.contiguous_format)):
        leaves = [x.detach().requires_grad_(), *[w.requires_grad_() for w in weights]]
        output = ours(*leaves)
        upstream = arrange(torch.ones(output.shape) / 3)
        results.append([output, *torch.autograd.grad(output, leaves, upstream)])
    torch.testing.assert_close(*results)


def test_results_are_laid_out_as_the_features_and_gradients_as_what_they_belong_to(backend):
    f, *weights = [t.float() for t in make(2, 16, 6, (9, 8))]
    for layout in (torch.contiguous_format, torch.channels_last):
        leaves = [f.to(memory_format=layout).requires_grad_(), *[w.requires_grad_() for w in weights]]
        output = ours(*leaves)
        assert output.is_contiguous(memory_format=layout)
        for leaf, gradient in zip(leaves, torch.autograd.grad(output.sum(), leaves), strict=True):
            assert gradient.stride() == leaf.stride()


@pytest.mark.parametrize("which", [0, 1], ids=["f", "fc1"])
def test_a_nan_is_not_hidden(which, backend):
    case = make(1, 8, 4, (12, 3))
    case[which].view(-1)[0] = float("nan")
    assert nans(ours, case) == nans(theirs, case)


def test_a_stage_is_its_levels_and_what_is_unused_has_no_gradient():
    levels = [make(2, c, 8, size) for c, size in ((8, (9, 6)), (16, (5, 3)), (24, (2, 2)))]
    groups = [[t.requires_grad_() for t in group] for group in zip(*levels, strict=True)]
    outs = ops.attend_and_reduce_stage(*groups)
    for level, out in zip(levels, outs, strict=True):
        torch.testing.assert_close(out, theirs(*level))
    leaves = [t for group in groups for t in group]
    loss = outs[0].square().sum() + outs[2].square().sum()
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    expected = reference.attend_and_reduce_stage(*groups)
    loss = expected[0].square().sum() + expected[2].square().sum()
    torch.testing.assert_close(found, torch.autograd.grad(loss, leaves, allow_unused=True))


@pytest.mark.parametrize("function", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("frozen", [(0,), (1, 2, 3, 4), (2, 4)], ids=["maps", "weights", "some-weights"])
def test_what_is_frozen_has_no_gradient_and_changes_no_other(function, frozen):
    case = make(2, 16, 4, (6, 5))
    _, *every = run(function, case, torch.float64)
    leaves = [t.requires_grad_(i not in frozen) for i, t in enumerate(case)]
    output = function(*leaves)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    output.backward(upstream)
    for i, (leaf, expected) in enumerate(zip(leaves, every, strict=True)):
        gradient = leaf.grad
        assert (gradient is None) == (i in frozen)
        assert gradient is None or torch.equal(gradient, expected)


@pytest.mark.parametrize("size", [(40, 36), (12, 10, 9)], ids=["2d", "3d"])
def test_backward_keeps_f_the_result_and_one_number_per_pixel(size, backend):
    case = [t.float().requires_grad_() for t in make(1, 64, 8, size)]
    _, kept = saved_bytes(lambda: ours(*case), without=case[1:])
    pixels = torch.Size(size).numel()
    assert kept == 4 * (64 * pixels + 8 * pixels + pixels + 3 * 64)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(6, 5), (3, 2, 4)], ids=["2d", "3d"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_opcheck(size):
    case = [t.float().requires_grad_() for t in make(2, 16, 4, size)]
    torch.library.opcheck(attend.fused, (*[[t] for t in case], torch.float32))
    detached = [t.detach() for t in case]
    kept = [state[0] for state in attend.fused(*[[t] for t in detached], torch.float32)]
    for needs_maps in (True, False):
        arguments = [torch.randn_like(kept[0])], detached, kept, needs_maps
        torch.library.opcheck(attend.fused_backward, arguments)


@pytest.mark.parametrize("function", WAYS.values(), ids=WAYS.keys())
def test_first_and_second_derivatives(function):
    case = [t.requires_grad_() for t in make(1, 2, 1, (2, 2))]
    assert torch.autograd.gradcheck(function, case)
    assert torch.autograd.gradgradcheck(function, case)


def test_transforms():
    many = [torch.stack(ts) for ts in zip(make(2, 5, 3, (4, 3)), make(2, 5, 3, (4, 3)), strict=True)]
    stacked = torch.stack([theirs(*[t[i] for t in many]) for i in range(2)])
    torch.testing.assert_close(vmap(ours)(*many), stacked)
    assert vmap(ours)(*[t[:0] for t in many]).shape == (0, *stacked.shape[1:])

    def loss(function):
        return vmap(grad(lambda *ts: function(*ts).square().sum(), argnums=(0, 3)))(*many)

    torch.testing.assert_close(loss(ours), loss(theirs))


@pytest.mark.parametrize("function", [ours, theirs], ids=["ours", "reference"])
def test_an_empty_batch_has_gradients_of_zero(function):
    case = [t.requires_grad_() for t in make(0, 8, 4, (6, 5))]
    output = function(*case)
    assert output.shape == (0, 4, 6, 5)
    assert not any(g.count_nonzero() for g in torch.autograd.grad(output.sum(), case))


@pytest.mark.slow
def test_compiles_to_a_single_graph_with_dynamic_sizes():
    compiled = torch.compile(ours, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((6, 5), (9, 8)):
        case = make(2, 8, 4, size)
        torch.testing.assert_close(run(compiled, case, torch.float64), run(theirs, case, torch.float64))


def test_an_exported_program_holds_torch_ops_only():
    class Module(torch.nn.Module):
        def forward(self, *tensors):
            return ours(*tensors)

    program = torch.export.export(Module(), tuple(make(1, 8, 4, (6, 5))))
    assert "sdi_plugin" not in str(program.graph)


def test_under_autocast_the_op_takes_tensors_as_they_are_and_the_module_returns_what_a_layer_returns():
    case = [t.float() for t in make(1, 8, 4, (6, 5))]
    reduction = SDISkip([8], 4, reduction_norm=None).reductions[0]
    with torch.autocast("cpu", torch.bfloat16):
        output, reduced = ours(*case), reduction(case[0])
    assert torch.equal(output, ours(*case))
    assert reduced.dtype == torch.bfloat16
    torch.testing.assert_close(reduced.float(), reduction(case[0]), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("function", WAYS.values(), ids=WAYS.keys())
def test_what_is_wrong_is_named(function):
    f, *weights = make(1, 8, 4, (6, 5))
    with pytest.raises(ValueError, match="expected (maps|per level a map)"):
        function(f[..., :0], *weights)
    with pytest.raises((ValueError, RuntimeError)):
        function(f[:, :3], *weights)
    with pytest.raises(
        ValueError, match=r"expected one fc1, fc2, conv7 and conv1 per level, got 1 levels and 1, 0, 1, 1"
    ):
        ops.attend_and_reduce_stage([f], [weights[0]], [], [weights[2]], [weights[3]])


def test_a_decoder_in_channels_last_keeps_it_everywhere():
    decoder = UNetV2Decoder([8, 16]).to(memory_format=torch.channels_last)
    layouts = []
    for module in decoder.modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda m, i, o: layouts.append(o.is_contiguous(memory_format=torch.channels_last))
            )
    features = [torch.randn(2, 8, 12, 10), torch.randn(2, 16, 6, 5)]
    features = [f.to(memory_format=torch.channels_last).requires_grad_() for f in features]
    outputs = decoder(features)
    assert layouts
    assert all(layouts)
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in outputs)
    gradients = torch.autograd.grad(torch.stack([y.sum() for y in outputs]).sum(), features)
    assert all(g.is_contiguous(memory_format=torch.channels_last) for g in gradients)


@pytest.mark.skipif(bool(cpu.reason()), reason="the CPU kernel is off")
@pytest.mark.parametrize("training", [False, True])
def test_between_the_ops_all_maps_are_channels_last_unless_statistics_are_computed_there(training):
    decoder, layouts = UNetV2Decoder([8, 16]).train(training), []
    reductions: Any = decoder.skip.reductions

    def note(t):
        layouts.append(t.is_contiguous(memory_format=torch.channels_last))
        assert layouts[-1] != t.is_contiguous()

    def note_map_and_gradient(norm, inputs, output):
        for t in (*inputs, output):
            note(t)
            t.register_hook(note)

    for reduction in reductions:
        reduction.bn.register_forward_hook(note_map_and_gradient)
    features = [torch.randn(2, 8, 12, 10, requires_grad=True), torch.randn(2, 16, 6, 5, requires_grad=True)]
    torch.stack([y.square().sum() for y in decoder(features)]).sum().backward()
    assert layouts == [not training] * 8
    assert all(f.grad is not None and f.grad.is_contiguous() for f in features)


@pytest.mark.skipif(bool(cpu.reason()), reason="the CPU kernel is off")
@pytest.mark.parametrize("shape", [(3, 40, 12, (60, 20)), (2, 24, 8, (9, 6, 5))], ids=["2d", "3d"])
def test_the_same_bits_on_every_run_and_for_any_number_of_threads(shape):
    case, threads, results = make(*shape), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 3):
            torch.set_num_threads(count)
            results.append(run(ours, case, torch.float32))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_is_as_exact(isa):
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[2])\n"
        "from sdi_plugin.ops import attend_and_reduce as ours, cpu, reference\n"
        "from tests.ops.attention import SHAPES, make, run\n"
        "if cpu.reason() or cpu.isa() != sys.argv[1]: raise SystemExit(3)\n"
        "for shape in (SHAPES['2d'], SHAPES['odd'], SHAPES['3d'], (1, 70, 33, (40, 33))):\n"
        "    case = make(*shape)\n"
        "    torch.testing.assert_close(*[run(f, case, torch.float64) for f in (ours, reference.attend_and_reduce)])\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, isa, str(Path(__file__).parents[2])]
    status = subprocess.run(command, env={**os.environ, "SDI_PLUGIN_ISA": isa}).returncode
    if status == 3:
        pytest.skip(f"this processor has no {isa}")
    assert status == 0
