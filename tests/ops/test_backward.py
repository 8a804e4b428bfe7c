"""The backward of the fused op: it computes what is used and not frozen, and nothing else."""

import pytest
import torch

from sdi_plugin import ops
from sdi_plugin.ops import cpu, library, reference
from sdi_plugin.ops.cpu import stage as cpu_stage
from tests.ops.cases import make_case, single

pytestmark = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")


def loss(stage, case, targets, used):
    outs = stage(*case, targets)
    return torch.stack([outs[i].square().sum() for i in used]).sum()


def by_op(*arguments):
    return loss(lambda xs, *rest: library.fused(xs, *rest, xs[0].dtype), *arguments)


def by_api(*arguments):
    return loss(ops.resize_smooth_multiply_stage, *arguments)


def by_reference(*arguments):
    return loss(reference.resize_smooth_multiply_stage, *arguments)


LOSSES = {"api": by_api, "op": by_op, "compiled": torch.compile(by_api, backend="aot_eager", fullgraph=True)}


@pytest.fixture
def calls(monkeypatch):
    """What each call of the kernel's backward got: the targets, and which groups are needed."""
    calls, backward = [], cpu.backward

    def recorded(grads, xs, weights, biases, targets, fusion="product", *, needs_maps=True, needs_weights=True):
        assert len(grads) == len(targets)
        assert len(weights) == len(biases) == len(targets) * len(xs)
        calls.append((list(targets), needs_maps, needs_weights))
        return backward(grads, xs, weights, biases, targets, fusion, needs_maps=needs_maps, needs_weights=needs_weights)

    monkeypatch.setattr(cpu, "backward", recorded)
    return calls


@pytest.mark.parametrize("function", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("used", [(1,), (0, 2)], ids=["one", "two"])
def test_backward_gets_the_targets_that_are_used_alone(function, used, calls):
    case, targets = make_case((9, 6), 3, channels=4, targets=3), [0, 2, 1]
    leaves = [t for group in case for t in group]
    found = torch.autograd.grad(function(case, targets, used), leaves, allow_unused=True)
    expected = torch.autograd.grad(by_reference(case, targets, used), leaves, allow_unused=True)
    assert [g is None for g in found] == [g is None for g in expected]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert calls == [([targets[i] for i in used], True, True)]


@pytest.mark.parametrize("function", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("frozen", [(0,), (1, 2), (1,)], ids=["maps", "parameters", "weights"])
def test_backward_computes_nothing_for_what_is_frozen(function, frozen, calls):
    case = [[t.requires_grad_() for t in group] for group in single(make_case((9, 6), 2, channels=4, targets=2))]
    every = dict(enumerate(torch.autograd.grad(function(case, [0, 1], [0, 1]), [t for group in case for t in group])))
    for group in frozen:
        case[group] = [t.detach() for t in case[group]]
    leaves = {i: t for i, t in enumerate(t for group in case for t in group) if t.requires_grad}
    found = torch.autograd.grad(function(case, [0, 1], [0, 1]), list(leaves.values()))
    assert all(torch.equal(every[i], gradient) for i, gradient in zip(leaves, found, strict=True))
    assert calls == [([0, 1], True, True), ([0, 1], 0 not in frozen, 2 not in frozen)]


def test_the_second_derivative_of_a_partly_used_stage_goes_to_the_reference(calls):
    case = make_case((5, 4), 2, channels=2, batch=1, targets=2)
    leaves = [*case[0], *case[1][:2]]
    results = []
    for stage in (reference.resize_smooth_multiply_stage, ops.resize_smooth_multiply_stage):
        first = torch.autograd.grad(loss(stage, case, [0, 1], [0]), leaves, create_graph=True)
        assert not calls
        results.append(torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["maps", "parameters"])
def test_opcheck_of_a_part_of_the_gradients(needs):
    xs, weights, biases = single(make_case((6, 5), 2, targets=2))
    weights = [w.to(memory_format=torch.channels_last) for w in weights]
    arguments = [torch.randn_like(x) for x in xs], xs, weights, biases, [0, 1], "product", *needs
    torch.library.opcheck(library.fused_backward, arguments)


@pytest.fixture(params=[False, True], ids=["default", "deterministic"])
def is_deterministic(request):
    """Deterministic algorithms, which also fill all new memory with NaN."""
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("function", [by_api, by_op, by_reference], ids=["api", "op", "reference"])
@pytest.mark.parametrize("size", [(11, 7), (5, 6, 3)], ids=["2d", "3d"])
def test_the_default_device_does_not_matter(function, size, is_deterministic, monkeypatch):
    """The kernel's tables are made anew; with deterministic algorithms, the reference resizes as it does on GPUs."""
    for module, name in ((cpu, "stage_plan"), (cpu_stage, "axis_table")):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    monkeypatch.setattr(reference, "_lacks_deterministic_backward", lambda x: is_deterministic)
    case = make_case(size, 3, channels=4, targets=2)
    leaves = [t for group in case for t in group]
    expected = torch.autograd.grad(by_reference(case, [2, 0], [0, 1]), leaves)
    with torch.device("meta"):
        found = torch.autograd.grad(function(case, [2, 0], [0, 1]), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class Stop(torch.autograd.Function):
    """The identity, without a gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, *grads):
        return None


def test_without_any_gradient_backward_does_nothing(calls):
    case = make_case((6, 5), 2)
    loss(lambda *case: [Stop.apply(out) for out in ops.resize_smooth_multiply_stage(*case)], case, [0], [0]).backward()
    assert all(t.grad is None for group in case for t in group)
    assert calls == []
