"""The Triton kernels of attend_and_reduce: on a GPU where there is one, otherwise in Triton's interpreter.

Without a GPU these run under TRITON_INTERPRET=1, which test_interpreter.py sets for them. Sizes are small, as the
interpreter is slow; float16 and float32, as its bfloat16 is wrong.
"""

import pytest
import torch

from sdi_plugin import ops
from sdi_plugin.ops import attend, gpu, plain, reference
from sdi_plugin.ops.gpu import attend as kernels
from tests.ops.attention import NAMES, make, nans, run
from tests.ops.gpu import interpreter

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = [
    pytest.mark.skipif(not gpu.serves(DEVICE), reason="no GPU, and TRITON_INTERPRET is not 1"),
    pytest.mark.usefixtures("exact_float32"),
]

if gpu.INTERPRETED:
    interpreter.configure()

ours, theirs = ops.attend_and_reduce, reference.attend_and_reduce
SHAPES = {  # batch, channels in, channels out, size
    "2d": (2, 33, 5, (3, 5)),
    "one-channel": (1, 1, 1, (4, 3)),
    "one-pixel": (2, 20, 8, (1, 1)),
    "one-column": (1, 80, 70, (9, 1)),
    "3d": (1, 8, 4, (2, 3, 4)),
}


def on_device(case):
    return [t.to(DEVICE) for t in case]


def last(t):
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


def backend_of(*case):
    return attend._backend([[t] for t in case])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_float64_is_exact(shape):
    case = on_device(make(*shape))
    assert backend_of(*case) is kernels
    torch.testing.assert_close(run(ours, case, torch.float64), run(theirs, case, torch.float64), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("2d", torch.float32), ("2d", torch.float16), ("3d", torch.float32)],
    ids=["2d-fp32", "2d-fp16", "3d-fp32"],
)
def test_error_is_at_most_twice_that_of_eager_torch(name, dtype):
    f, *weights = on_device(make(*SHAPES[name], dtype=dtype))
    case = [last(f), *weights]
    exact, found, eager = (run(f, case, d) for f, d in ((theirs, torch.float64), (ours, dtype), (theirs, dtype)))
    for part, e, a, b in zip(NAMES, exact, found, eager, strict=True):
        assert a.dtype == dtype
        # Two units in the last place of the whole, where eager torch happens to be exact.
        assert (a - e).norm() <= 2 * (b - e).norm() + 2 * torch.finfo(dtype).eps * e.norm(), part


TIES = {
    "after-relu": lambda *shape: torch.randn(shape).relu(),
    "constant": lambda *shape: torch.full(shape, -0.5),
}


@pytest.mark.parametrize("values", TIES.values(), ids=TIES.keys())
def test_equal_maxima_share_the_gradient(values):
    case = on_device(make(1, 6, 4, (3, 4), values=values))
    torch.testing.assert_close(run(ours, case, torch.float64), run(theirs, case, torch.float64), rtol=1e-11, atol=1e-12)


LAYOUTS = {
    "channels-last": last,
    "strided": lambda t: torch.stack([t, -t], dim=-1)[..., 0],
    "expanded": lambda t: t[:1].expand_as(t),
    "negative": lambda t: torch.imag(torch.complex(torch.zeros_like(t), -t).conj()),
}


@pytest.mark.parametrize("arrange", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_any_layout_of_features_and_gradients(arrange):
    f, *weights = on_device(make(2, 16, 6, (3, 2)))
    if arrange is not LAYOUTS["expanded"]:
        f = f[:1]
    weights[2] = arrange(weights[2])  # conv7
    f, results = arrange(f), []
    for function in (ours, theirs):
        leaves = [t.detach().requires_grad_() for t in (f, *weights)]
        output = function(*leaves)
        upstream = arrange(torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=DEVICE).view_as(output))
        gradients = torch.autograd.grad(output, leaves, upstream)
        results.append([output, *gradients])
        if function is ours:
            assert output.stride() == plain.empty_result(f, 6, f.dtype).stride()
            assert [g.stride() for g in gradients] == [torch.empty_like(t).stride() for t in leaves]
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-12)


def stage(levels=((32, (4, 3)), (16, (2, 2)))):
    cases = [on_device(make(1, width, 8, size)) for width, size in levels]
    return [[t.requires_grad_() for t in group] for group in zip(*cases, strict=True)]


def step(function, groups, *options):
    outs = function(*groups, *options)
    leaves = [t for group in groups for t in group if t.requires_grad]
    return [*outs, *torch.autograd.grad(outs, leaves, [torch.cos(out.detach()) for out in outs])]


def test_a_stage_is_its_levels_each_in_its_layout():
    groups = stage()
    groups[0][0] = last(groups[0][0]).detach().requires_grad_()
    found = step(ops.attend_and_reduce_stage, groups)
    torch.testing.assert_close(found, step(reference.attend_and_reduce_stage, groups), rtol=1e-11, atol=1e-12)


def test_the_op_is_the_api_and_every_run_has_the_same_bits():
    fs, *parameters = stage([(16, (3, 2))])
    groups = [[f.detach().float() for f in fs], *[[t.detach().half() for t in group] for group in parameters]]
    groups = [[t.requires_grad_() for t in group] for group in groups]
    found = step(ops.attend_and_reduce_stage, groups)
    again = step(lambda *inputs: attend.fused(*inputs, torch.float32)[0], groups)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert [t.dtype for t in found[1:]] == [t.dtype for group in groups for t in group]


def test_frozen_features_change_no_other_gradient():
    groups = stage([(6, (3, 2))])
    every = step(ops.attend_and_reduce_stage, groups)
    groups[0] = [groups[0][0].detach()]
    without = step(ops.attend_and_reduce_stage, groups)
    assert all(torch.equal(a, b) for a, b in zip([every[0], *every[2:]], without, strict=True))


def test_what_the_kernels_do_not_take_torch_s_ops_compute(monkeypatch):
    f, fc1, fc2, conv7, conv1 = on_device(make(1, 8, 4, (3, 2)))
    several = [[f.float(), f], [fc1.float()] * 2, [fc2.float()] * 2, [conv7.float()] * 2, [conv1.float()] * 2]
    assert attend._backend(several) is plain
    assert backend_of(f.float(), fc1, fc2, conv7, conv1) is plain  # parameters in float64
    assert attend._backend([[f, f], [fc1] * 2, [fc2] * 2, [conv7] * 2, [conv1, conv1[:2]]]) is plain
    assert backend_of(f, fc1.expand(257, -1, 1, 1), fc2.expand(-1, 257, 1, 1), conv7, conv1) is plain
    monkeypatch.setattr(kernels, "_MOST_ELEMENTS", 8 * 6)
    assert backend_of(f, fc1, fc2, conv7, conv1) is plain
    assert str(ops.backends()["triton"]["limits"]).startswith("attend_and_reduce: ")


def test_backward_is_computed_by_what_computed_forward():
    f, fc1, fc2, conv7, conv1 = on_device(make(1, 8, 4, (3, 2)))
    groups = [[f, f], [fc1] * 2, [fc2] * 2, [conv7] * 2, [conv1, conv1[:2]]]
    for group in groups:
        group[:] = [t.requires_grad_() for t in group]
    found, expected = (
        torch.autograd.grad(function(*groups)[0].square().sum(), [group[0] for group in groups])
        for function in (ops.attend_and_reduce_stage, reference.attend_and_reduce_stage)
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1], ids=["f", "fc1"])
def test_a_nan_is_not_hidden(which):
    case = on_device(make(1, 8, 4, (12, 3)))
    case[which].view(-1)[0] = float("nan")
    assert nans(ours, case) == nans(theirs, case)


def test_an_empty_batch_has_gradients_of_zero():
    case = [t.requires_grad_() for t in on_device(make(0, 8, 4, (3, 2)))]
    output = ours(*case)
    assert output.shape == (0, 4, 3, 2)
    assert not any(g.count_nonzero() for g in torch.autograd.grad(output.sum(), case))
