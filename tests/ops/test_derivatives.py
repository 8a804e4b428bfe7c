"""Derivatives of every kind: forward mode, higher orders, torch.func's transforms; against the reference's own."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils._pytree import tree_leaves

from sdi_plugin import SDISkip, ops
from sdi_plugin.ops import cpu, library, reference
from tests.ops.cases import fused, make_case, single

pytestmark = [
    pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}"),
    # torch's own formulas of forward mode are scripts.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning"),
]


def by(function):
    """A function of 2 maps, 2 weights and 2 biases, flat."""
    return lambda *tensors: function(tensors[:2], tensors[2:4], tensors[4:], 0)


ours, theirs = by(ops.resize_smooth_multiply), by(reference.resize_smooth_multiply)


@pytest.fixture
def tensors():
    return [t.detach() for group in make_case((5, 4), 2, channels=3) for t in group]


@pytest.fixture
def tangents(tensors):
    return [torch.randn_like(t) for t in tensors]


def scalar(function):
    return lambda *tensors: function(*tensors).square().sum()


def by_dual_level(function, tensors, tangents):
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, s) for t, s in zip(tensors, tangents, strict=True)]
        return forward_ad.unpack_dual(function(*duals)).tangent


def forward_over_reverse(function, tensors, tangents):
    """The tangent of the gradient of a graph that was made outside the level."""
    leaf = tensors[0].clone().requires_grad_()
    out = function(leaf, *tensors[1:])
    with forward_ad.dual_level():
        upstream = forward_ad.make_dual(torch.ones_like(out), out.detach())
        return forward_ad.unpack_dual(torch.autograd.grad(out, leaf, upstream)[0]).tangent


def batched_grads(function, tensors, tangents):
    leaves = [t.clone().requires_grad_() for t in tensors]
    out = function(*leaves)
    return torch.autograd.grad(out, leaves, torch.stack([out.detach(), torch.ones_like(out)]), is_grads_batched=True)


TRANSFORMS = {
    "jvp": lambda f, t, s: jvp(f, tuple(t), tuple(s))[1],
    "jacfwd": lambda f, t, s: jacfwd(f, argnums=(0, 4))(*t),
    "linearize": lambda f, t, s: linearize(f, *t)[1](*s),
    "dual-level": by_dual_level,
    "forward-over-reverse": forward_over_reverse,
    "grad": lambda f, t, s: grad(scalar(f), argnums=(0, 2, 5))(*t),
    "vjp": lambda f, t, s: vjp(f, *t)[1](f(*t)),
    "jacrev": lambda f, t, s: jacrev(f, argnums=(1, 5))(*t),
    "hessian": lambda f, t, s: hessian(scalar(f), argnums=(4, 5))(*t),
    "vmap-of-grad": lambda f, t, s: vmap(grad(scalar(f), argnums=(0, 3)))(*map(torch.stack, zip(t, s, strict=True))),
    "grad-of-vmap": lambda f, t, s: grad(lambda x: vmap(f, (0, *[None] * 5))(x, *t[1:]).square().sum())(
        torch.stack([t[0], s[0]])
    ),
    "batched-grads": batched_grads,
}


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # from linearize
@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching rule")
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_every_transform_gives_what_the_reference_gives(transform, tensors, tangents):
    found, expected = transform(ours, tensors, tangents), transform(theirs, tensors, tangents)
    torch.testing.assert_close(found, expected)
    assert all(torch.count_nonzero(t) for t in tree_leaves(found))


def test_per_sample_gradients_of_a_module():
    skip = SDISkip([2, 3], 4).eval()
    features = [torch.randn(3, 2, 6, 6), torch.randn(3, 3, 3, 3)]
    parameters = dict(skip.named_parameters())

    def loss(parameters, *maps):
        return torch.stack(
            [y.square().sum() for y in functional_call(skip, parameters, ([m[None] for m in maps],))]
        ).sum()

    found = vmap(grad(loss), (None, 0, 0))(parameters, *features)
    for i in range(3):
        alone = grad(loss)(parameters, *[f[i] for f in features])
        torch.testing.assert_close({name: g[i] for name, g in found.items()}, alone)


ORDERS = {"api": ours, "op": by(fused)}


@pytest.mark.parametrize("function", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("size", [(2, 2), (2, 1, 2)], ids=["2d", "3d"])
def test_third_derivatives_in_float64(function, size):
    tensors = [t for group in make_case(size, levels=2, channels=2, batch=1) for t in group]

    def second(*tensors):
        first = torch.autograd.grad(function(*tensors).square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), tensors, create_graph=True)

    assert torch.autograd.gradcheck(second, tensors, fast_mode=True)


@pytest.mark.parametrize("function", ORDERS.values(), ids=ORDERS.keys())
def test_a_graph_of_gradients_where_inputs_depend_on_each_other_or_are_frozen(function):
    xs, weights, biases = make_case((4, 3), 2, channels=2, batch=1)
    fine, frozen = xs[0], [t.detach() for t in biases]

    def second(f):
        coarse = fine[..., ::2, ::2] * 2
        (first,) = torch.autograd.grad(f(fine, coarse, *weights, *frozen).sum(), fine, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [fine, *weights])

    torch.testing.assert_close(second(function), second(theirs))


def test_gradients_of_gradients_under_autocast():
    """Half-precision maps with float32 weights: the reference inside takes them as the kernels do."""
    xs, weights, biases = single(make_case((6, 4), 2, channels=3))
    halves = [x.bfloat16().requires_grad_() for x in xs]
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.resize_smooth_multiply(halves, weights, biases, 0, out_dtype=torch.float32)
        first = torch.autograd.grad(out.square().sum(), halves, create_graph=True)
    (plain,) = torch.autograd.grad(out.square().sum(), halves[:1], retain_graph=True)
    second = torch.autograd.grad(torch.stack([g.float().square().sum() for g in first]).sum(), halves)
    assert [g.dtype for g in (*first, *second)] == [torch.bfloat16] * 4
    torch.testing.assert_close(first[0], plain)
    assert all(torch.count_nonzero(g) for g in second)


def test_the_derivative_of_the_backward_op_itself_is_an_error_and_not_zero(tensors):
    xs, weights, biases = [t.requires_grad_() for t in tensors[:2]], tensors[2:4], tensors[4:]
    grads = [torch.ones_like(xs[0])]
    x_grads, _, _ = library.fused_backward(grads, xs, weights, biases, [0])
    with pytest.raises(RuntimeError, match="no autograd formula"):
        x_grads[0].sum().backward()


@pytest.mark.parametrize("over", ["maps", "everything"])
def test_vmap_over_an_empty_batch_gives_an_empty_result(tensors, over):
    dims = (0,) * (2 if over == "maps" else 6) + (None,) * (4 if over == "maps" else 0)
    inputs = [t if d is None else t.expand(0, *t.shape) for t, d in zip(tensors, dims, strict=True)]
    leaves = [t.requires_grad_() for t in inputs]
    result = vmap(ours, dims)(*leaves)
    assert result.shape == (0, 2, 3, 5, 4)
    gradients = torch.autograd.grad(result.sum(), leaves)
    assert all(torch.equal(g, torch.zeros_like(t)) for g, t in zip(gradients, leaves, strict=True))


def test_vmap_alone_goes_to_the_kernel(tensors, monkeypatch):
    monkeypatch.setattr(reference, "resize_smooth_multiply", None)
    many = [torch.stack([t, 2 * t]) for t in tensors]
    result = vmap(vmap(ours), 1)(*[torch.stack([m, m - 1], 1) for m in many])
    assert result.shape == (2, 2, 2, 3, 5, 4)


def test_transforms_inside_torch_compile(tensors):
    def loss(x):
        return grad(lambda x: ours(x, *tensors[1:]).square().sum())(x)

    torch.testing.assert_close(torch.compile(loss, backend="aot_eager", fullgraph=True)(tensors[0]), loss(tensors[0]))
