"""resize_smooth_multiply_stage in torch.library: schema, fake, autograd and vmap.

Only this file and attend.py use torch.library.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.library import custom_op

from sdi_plugin.ops import checks, dispatch, gpu, reference

_NAME = "sdi_plugin::resize_smooth_multiply_stage"
_T = TypeVar("_T")


def resize_smooth_multiply_stage(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    *,
    fusion: str = "product",
    out_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """See `sdi_plugin.ops.resize_smooth_multiply_stage`: the fused op if it applies, otherwise the reference."""
    key = _key(xs, weights, biases, targets, fusion, out_dtype)
    if key is not None and (known := _known.get(key)) is not None:
        return _run(known, [*xs, *weights, *biases])
    checks.counts(xs, weights, biases, targets)
    checks.fusion_name(fusion)
    checks.pixels("resize_smooth_multiply", [x.shape[2:] for x in xs])
    backend = _serving(xs, weights, biases)
    if backend is None:
        return reference.resize_smooth_multiply_stage(xs, weights, biases, targets, fusion=fusion, out_dtype=out_dtype)
    dtypes = [out_dtype or xs[target].dtype for target in targets]
    common = dtypes[0] if len(set(dtypes)) == 1 else torch.float32
    if key is not None:
        return _run(_remember(key, common, dtypes), [*xs, *weights, *biases])
    if dispatch.is_plain((*xs, *weights, *biases)):
        outs = _Direct.apply(backend, len(xs), list(targets), common, fusion, *xs, *weights, *biases)
    else:
        outs = fused(list(xs), list(weights), list(biases), list(targets), common, fusion)
    return _cast(outs, dtypes)


def _cast(outs: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    return [out if out.dtype == dtype else out.to(dtype) for out, dtype in zip(outs, dtypes, strict=True)]


class _Known(NamedTuple):
    """A call on a GPU that has passed all checks, and would again: they depend on its key alone."""

    plan: Any
    dtypes: list[torch.dtype]  # of the results, if these differ from the plan's


_known: dict[Any, _Known] = {}
_MOST_KNOWN = 256


def _key(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str,
    out_dtype: torch.dtype | None,
) -> Any:
    """All that the checks and the plan of a call on a GPU depend on; None if it is another call, or not a plain one."""
    if torch.compiler.is_compiling() or not xs or dispatch.backend_of(xs[0].device) is not gpu:
        return None
    tensors = [*xs, *weights, *biases]
    if (
        dispatch.FORCE_REFERENCE
        or dispatch.is_exporting()
        or dispatch.is_transformed()
        or not dispatch.is_plain(tensors)
    ):
        return None
    from sdi_plugin.ops.gpu import call

    return call.given(tensors, len(xs), targets, fusion, out_dtype)


def _remember(key: Any, common: torch.dtype, dtypes: list[torch.dtype]) -> _Known:
    from sdi_plugin.ops.gpu import call

    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    made = _Known(call.plan(key._replace(out_dtype=common)), [] if set(dtypes) == {common} else dtypes)
    _known[key] = made
    return made


def _run(known: _Known, tensors: Sequence[Tensor]) -> list[Tensor]:
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        outs = list(_Planned.apply(known.plan, *tensors))
    else:
        outs, _ = known.plan.forward(tensors)
    return _cast(outs, known.dtypes) if known.dtypes else outs


def _serving(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> ModuleType | None:
    """The backend that accepts these tensors, or None for the reference."""
    if not dispatch.allows_kernels([*xs, *weights, *biases]):
        return None
    backend = dispatch.backend_of(xs[0].device)
    return backend if backend.serves(xs[0].device) and checks.is_uniform(xs, weights, biases) else None


# Written out: torch 2.4 to 2.6 cannot derive schemas from types of collections.abc.
_INPUTS = "Tensor[] xs, Tensor[] weights, Tensor[] biases, SymInt[] targets"
_SCHEMA = f'({_INPUTS}, ScalarType out_dtype, str fusion="product") -> Tensor[]'
_BACKWARD_SCHEMA = (
    f'(Tensor[] grads, {_INPUTS}, str fusion="product", bool needs_maps=True, bool needs_weights=True) -> '
    "(Tensor[], Tensor[], Tensor[])"
)


@custom_op(_NAME, mutates_args=(), device_types=("cpu", "cuda"), schema=_SCHEMA)
def fused(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    checks.counts(xs, weights, biases, targets)
    checks.fusion_name(fusion)
    checks.one_device(_NAME, (*xs, *weights, *biases))
    if not checks.is_uniform(xs, weights, biases):
        raise ValueError(
            f"{_NAME}: expected maps (B, C, *S) of one B and C, weights "
            f"(C_out, C, 3, 3[, 3]) and biases (C_out,), got {[tuple(t.shape) for t in (*xs, *weights, *biases)]}. "
            "Call sdi_plugin.ops.resize_smooth_multiply_stage, which takes other shapes too."
        )
    return dispatch.backend_of(xs[0].device).forward(xs, weights, biases, targets, out_dtype, fusion)


@custom_op(f"{_NAME}_backward", mutates_args=(), device_types=("cpu", "cuda"), schema=_BACKWARD_SCHEMA)
def fused_backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
    needs_maps: bool = True,
    needs_weights: bool = True,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    backend = dispatch.backend_of(xs[0].device)
    needs = {"needs_maps": needs_maps, "needs_weights": needs_weights}
    return backend.backward(grads, xs, weights, biases, targets, fusion, **needs)


@fused.register_fake
def _fake(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    checks.one_device(_NAME, (*xs, *weights, *biases))
    shapes = [(xs[t].shape[0], *xs[t].shape[2:], weights[0].shape[0]) for t in targets]
    return [xs[0].new_empty(shape, dtype=out_dtype).movedim(-1, 1) for shape in shapes]


@fused_backward.register_fake
def _fake_backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
    needs_maps: bool = True,
    needs_weights: bool = True,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    if dispatch.backend_of(xs[0].device) is gpu:
        x_grads = [x.new_empty(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1) for x in xs]
    else:
        x_grads = [torch.empty_like(x) for x in xs]
    weight_grads, bias_grads = ([torch.empty_like(t) for t in group] for group in (weights, biases))
    return x_grads if needs_maps else [], *((weight_grads, bias_grads) if needs_weights else ([], []))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    xs, weights, biases, ctx.targets, _, ctx.fusion = inputs
    ctx.levels = len(xs)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*xs, *weights, *biases)


def _split(tensors: Sequence[_T], levels: int) -> tuple[list[_T], list[_T], list[_T]]:
    """The list of xs, weights and biases, split again; there are as many weights as biases."""
    terms = (len(tensors) - levels) // 2
    return list(tensors[:levels]), list(tensors[levels : levels + terms]), list(tensors[levels + terms :])


def _reference_backward(
    grads: Sequence[Tensor], tensors: Sequence[Tensor], levels: int, targets: Sequence[int], fusion: str
) -> list[Tensor | None]:
    """The gradients of xs, weights and biases, computed by the reference.

    For gradients that are differentiated again, or that a transform intercepts: torch's own ops have derivatives of
    every order and rules for every transform.
    """
    create_graph = torch.is_grad_enabled()
    # As in the kernels: everything in the accumulator's dtype, without autocast.
    dtype = reduce(torch.promote_types, [t.dtype for t in tensors], torch.float32)
    with torch.enable_grad(), torch.autocast(tensors[0].device.type, enabled=False):
        # Views: if one input was computed from another, its gradient must not flow on to that one here.
        inputs = [t.view_as(t) for t in tensors]
        groups = _split([t.to(dtype) for t in inputs], levels)
        outs = reference.resize_smooth_multiply_stage(*groups, targets, fusion=fusion)
        outs = [out.to(grad.dtype) for out, grad in zip(outs, grads, strict=True)]
        needed = [t for t in inputs if t.requires_grad]
        found = iter(torch.autograd.grad(outs, needed, grads, create_graph=create_graph))
    return [next(found) if t.requires_grad else None for t in inputs]


def _gradients(ctx: Any, grads: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    """The gradients that backward returns for xs, weights and biases; needs: for each of these, whether it needs one.

    Targets that nothing uses have no gradient: the kernel gets the others, and their weights and biases.
    """
    levels, (xs, weights, biases) = ctx.levels, _split(ctx.saved_tensors[: len(needs)], ctx.levels)
    used = {i: grad for i, grad in enumerate(grads) if grad is not None}
    terms = [i * levels + level for i in used for level in range(levels)]
    x_needs, *parameter_needs = _split(needs, levels)
    needs_maps, needs_weights = any(x_needs), any(group[term] for group in parameter_needs for term in terms)
    if not used or not (needs_maps or needs_weights):
        return [None] * len(needs)
    given, targets = list(used.values()), [ctx.targets[i] for i in used]
    groups = xs, [weights[term] for term in terms], [biases[term] for term in terms]
    tensors = [t for group in groups for t in group]
    if dispatch.is_followed(given):
        found = _split(_reference_backward(given, tensors, levels, targets, ctx.fusion), levels)
    else:
        kernel = dispatch.backend_of(xs[0].device).backward if dispatch.is_plain((*given, *tensors)) else fused_backward
        only = {"needs_maps": needs_maps, "needs_weights": needs_weights}
        found = kernel(given, *groups, targets, ctx.fusion, **only)
    # A group that is not needed is empty.
    x_grads, *parameters = found
    by_term = [dict(zip(terms, group, strict=False)) for group in parameters]
    return [*(x_grads or [None] * levels), *(group.get(term) for group in by_term for term in range(len(weights)))]


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    needs = [needed for group in ctx.needs_input_grad[:3] for needed in group]
    return (*_split(_gradients(ctx, grads, needs), ctx.levels), None, None, None)


fused.register_autograd(_backward, setup_context=_setup_context)


class _Direct(torch.autograd.Function):
    """`fused` and its autograd without the dispatcher."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: ModuleType,
        levels: int,
        targets: list[int],
        out_dtype: torch.dtype,
        fusion: str,
        *tensors: Tensor,
    ) -> Any:
        ctx.levels, ctx.targets, ctx.fusion = levels, targets, fusion
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return tuple(backend.forward(*_split(tensors, levels), targets, out_dtype, fusion))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        return None, None, None, None, None, *_gradients(ctx, grads, ctx.needs_input_grad[5:])


class _Planned(torch.autograd.Function):
    """The same on a GPU, by a plan: backward reads the weights as forward has packed them."""

    @staticmethod
    def forward(ctx: Any, plan: Any, *tensors: Tensor) -> Any:
        outs, packed = plan.forward(tensors)
        ctx.plan, ctx.levels, ctx.targets, ctx.fusion = plan, plan.levels, plan.targets, plan.fusion
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, packed)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        plan, levels, (_, *needs) = ctx.plan, ctx.levels, ctx.needs_input_grad
        given = [grad for grad in grads if grad is not None]
        *tensors, packed = ctx.saved_tensors
        is_whole = (
            len(given) == len(grads)
            and not dispatch.is_followed(given)
            and dispatch.is_plain((*given, *tensors, packed))
        )
        if not (is_whole and plan.takes(tensors[:levels], packed)):
            return None, *_gradients(ctx, grads, needs)
        needs_maps, needs_weights = True in needs[:levels], True in needs[levels:]
        found = plan.backward(given, tensors, packed, needs_maps=needs_maps, needs_weights=needs_weights)
        none = [None] * len(tensors)
        return None, *(found[0] or none[:levels]), *(found[1] or none[levels::2]), *(found[2] or none[levels::2])


def _vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[list[Tensor], list[int]]:
    """One call per element: the op has its own batch axis, and the weights may differ between elements."""
    dims, groups = in_dims[:3], inputs[:3]

    def element(select: Callable[[Tensor, int], Tensor]) -> list[list[Tensor]]:
        return [
            [t if d is None else select(t, d) for t, d in zip(group, ds, strict=True)]
            for group, ds in zip(groups, dims, strict=True)
        ]

    results = [fused(*element(lambda t, d, i=i: t.select(d, i)), *inputs[3:]) for i in range(info.batch_size)]
    # Without elements, one made of zeros gives the shapes, and the graph for empty gradients.
    shapes = results or [fused(*element(torch.sum), *inputs[3:])]
    outs = [torch.stack(outs)[: info.batch_size] for outs in zip(*shapes, strict=True)]
    return outs, [0] * len(outs)


if dispatch.HAS_VMAP:
    fused.register_vmap(_vmap)
