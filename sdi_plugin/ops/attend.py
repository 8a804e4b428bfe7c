"""attend_and_reduce_stage in torch.library: schema, fake, autograd and vmap."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from sdi_plugin.ops import checks, cpu, dispatch, gpu, plain, reference
from sdi_plugin.ops.cpu import attend as cpu_kernel
from sdi_plugin.ops.gpu import attend as gpu_kernels

_NAME = "sdi_plugin::attend_and_reduce_stage"
_GROUPS = 5  # fs, fc1, fc2, conv7, conv1


def attend_and_reduce_stage(
    fs: Sequence[Tensor],
    fc1: Sequence[Tensor],
    fc2: Sequence[Tensor],
    conv7: Sequence[Tensor],
    conv1: Sequence[Tensor],
    *,
    out_dtype: torch.dtype | None = None,
    channels_last: bool | None = None,
) -> list[Tensor]:
    """See `sdi_plugin.ops.attend_and_reduce_stage`: the fused op if it applies, otherwise the reference."""
    groups = fs, fc1, fc2, conv7, conv1
    checks.attention_counts(*groups)
    checks.pixels("attend_and_reduce", [f.shape[2:] for f in fs])
    tensors = [t for group in groups for t in group]
    if not _is_served(groups, tensors):
        return reference.attend_and_reduce_stage(*groups, out_dtype=out_dtype)
    dtypes = [out_dtype or f.dtype for f in fs]
    common = dtypes[0] if len(set(dtypes)) == 1 else torch.float32
    if dispatch.is_plain(tensors):
        outs = _Direct.apply(common, channels_last, len(fs), *tensors)[: len(fs)]
    else:
        outs = fused(*map(list, groups), common, channels_last)[0]
    return [out if out.dtype == dtype else out.to(dtype) for out, dtype in zip(outs, dtypes, strict=True)]


def _is_served(groups: Sequence[Sequence[Tensor]], tensors: Sequence[Tensor]) -> bool:
    return (
        dispatch.allows_kernels(tensors)
        and tensors[0].device.type in ("cpu", "cuda")
        and checks.is_attention(*groups)
        # Without a kernel, a compiler does better on torch's own ops.
        and not (torch.compiler.is_compiling() and _backend(groups) is plain)
    )


def _backend(groups: Sequence[Sequence[Tensor]], pixels: Sequence[Tensor] | None = None) -> ModuleType:
    """The module whose forward and backward compute the op for these tensors.

    pixels: what forward kept per pixel. Backward gets the levels that are used, which the GPU kernels may take where
    they did not take all of the stage.
    """
    device = groups[0][0].device
    if dispatch.backend_of(device) is gpu:
        is_theirs = pixels is None or pixels[0].shape[1] == gpu_kernels.KEPT_PER_PIXEL
        return gpu_kernels if is_theirs and gpu.serves(device) and gpu_kernels.takes(groups) else plain
    return cpu_kernel if cpu.serves(device) else plain


# Written out, as in library.py.
_INPUTS = ", ".join(f"Tensor[] {name}" for name in ("fs", "fc1", "fc2", "conv7", "conv1"))
_SCHEMA = f"({_INPUTS}, ScalarType out_dtype, bool? channels_last=None) -> (Tensor[], Tensor[], Tensor[])"
_BACKWARD_SCHEMA = "(Tensor[] grads, Tensor[] inputs, Tensor[] kept, bool needs_maps=True) -> Tensor[]"


@custom_op(_NAME, mutates_args=(), device_types=("cpu", "cuda"), schema=_SCHEMA)
def fused(
    fs: Sequence[Tensor],
    fc1: Sequence[Tensor],
    fc2: Sequence[Tensor],
    conv7: Sequence[Tensor],
    conv1: Sequence[Tensor],
    out_dtype: torch.dtype,
    channels_last: bool | None = None,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    groups = fs, fc1, fc2, conv7, conv1
    checks.attention_counts(*groups)
    checks.one_device(_NAME, [t for group in groups for t in group])
    if not checks.is_attention(*groups):
        raise ValueError(
            f"{_NAME}: expected per level a map (B, C, *S), fc1 (H, C, 1, 1[, 1]), fc2 (C, H, 1, 1[, 1]), conv7 "
            f"(1, 2, 7, 7[, 7]) and conv1 (C_out, C, 1, 1[, 1]), got {[tuple(t.shape) for g in groups for t in g]}. "
            "Call sdi_plugin.ops.attend_and_reduce_stage, which takes other shapes too."
        )
    return _backend(groups).forward(groups, out_dtype, channels_last)


@custom_op(f"{_NAME}_backward", mutates_args=(), device_types=("cpu", "cuda"), schema=_BACKWARD_SCHEMA)
def fused_backward(
    grads: Sequence[Tensor], inputs: Sequence[Tensor], kept: Sequence[Tensor], needs_maps: bool = True
) -> list[Tensor]:
    """The gradients of the inputs (fs, fc1, fc2, conv7, conv1 of every level), without fs if they are not needed."""
    groups, state = _split(inputs, _GROUPS), _split(kept, 3)
    found = _backend(groups, state[-1]).backward(grads, groups, state, needs_maps=needs_maps)
    return [t for group in found for t in group]


@fused.register_fake
def _fake(
    fs: Sequence[Tensor],
    fc1: Sequence[Tensor],
    fc2: Sequence[Tensor],
    conv7: Sequence[Tensor],
    conv1: Sequence[Tensor],
    out_dtype: torch.dtype,
    channels_last: bool | None = None,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    levels = list(zip(fs, fc1, fc2, conv7, conv1, strict=True))
    checks.one_device(_NAME, [t for level in levels for t in level])
    backend = _backend((fs, fc1, fc2, conv7, conv1))
    channels_last = None if backend is gpu_kernels else channels_last
    common = plain.accumulator(*[t for level in levels for t in level])
    dtypes = [plain.accumulator(*level) if backend is plain else common for level in levels]
    return (
        [plain.empty_result(f, w.shape[0], out_dtype, channels_last) for f, *_, w in levels],
        [f.new_empty(f.shape[0], 3, f.shape[1], dtype=dtype) for f, dtype in zip(fs, dtypes, strict=True)],
        [
            f.new_empty(f.shape[0], backend.KEPT_PER_PIXEL, *f.shape[2:], dtype=dtype)
            for f, dtype in zip(fs, dtypes, strict=True)
        ],
    )


@fused_backward.register_fake
def _fake_backward(
    grads: Sequence[Tensor], inputs: Sequence[Tensor], kept: Sequence[Tensor], needs_maps: bool = True
) -> list[Tensor]:
    levels = len(inputs) // _GROUPS
    return [torch.empty_like(t) for t in inputs[0 if needs_maps else levels :]]


def _split(tensors: Sequence[Any], groups: int) -> list[list[Any]]:
    levels = len(tensors) // groups
    return [list(tensors[i * levels : (i + 1) * levels]) for i in range(groups)]


def _reference_backward(grads: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients computed by the reference, where they are differentiated again or a transform intercepts them."""
    create_graph, dtype = torch.is_grad_enabled(), plain.accumulator(*tensors)
    with torch.enable_grad(), torch.autocast(tensors[0].device.type, enabled=False):
        # Views: if one input was computed from another, its gradient must not flow on to that one here.
        inputs = [t.view_as(t) for t in tensors]
        outs = reference.attend_and_reduce_stage(*_split([t.to(dtype) for t in inputs], _GROUPS))
        outs = [out.to(grad.dtype) for out, grad in zip(outs, grads, strict=True)]
        needed = [t for t in inputs if t.requires_grad]
        found = iter(torch.autograd.grad(outs, needed, grads, create_graph=create_graph))
    return [next(found) if t.requires_grad else None for t in inputs]


def _gradients(ctx: Any, grads: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    """The gradients of fs, fc1, fc2, conv7 and conv1; the kernel gets only the levels whose result is used."""
    saved, levels = ctx.saved_tensors, ctx.levels
    used = {
        i: grad
        for i, grad in enumerate(grads[:levels])
        if grad is not None and any(needs[group * levels + i] for group in range(_GROUPS))
    }
    found: list[Tensor | None] = [None] * len(needs)
    if not used:
        return found
    given, rows = list(used.values()), [saved[group * levels + i] for group in range(_GROUPS + 3) for i in used]
    inputs, kept = rows[: _GROUPS * len(used)], rows[_GROUPS * len(used) :]
    places = [group * levels + i for group in range(_GROUPS) for i in used]
    if dispatch.is_followed(given):
        results: Sequence[Tensor | None] = _reference_backward(given, inputs)
    else:
        needs_maps = any(needs[i] for i in used)
        if dispatch.is_plain((*given, *inputs)):
            groups, state = _split(inputs, _GROUPS), _split(kept, 3)
            found_groups = _backend(groups, state[-1]).backward(given, groups, state, needs_maps=needs_maps)
            results = [t for group in found_groups for t in group]
        else:
            results = fused_backward(given, inputs, kept, needs_maps)
        results = [*([None] * len(used) if not needs_maps else []), *results]
    for place, result in zip(places, results, strict=True):
        found[place] = result if needs[place] else None
    return found


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    groups = inputs[:_GROUPS]
    ctx.levels = len(groups[0])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*[t for group in (*groups, *output) for t in group])


def _backward(ctx: Any, grads: list[Tensor | None], *state: Any) -> tuple[Any, ...]:
    needs = [needed for group in ctx.needs_input_grad[:_GROUPS] for needed in group]
    return (*_split(_gradients(ctx, grads, needs), _GROUPS), None, None)


fused.register_autograd(_backward, setup_context=_setup_context)


class _Direct(torch.autograd.Function):
    """`fused` and its autograd without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, out_dtype: torch.dtype, channels_last: bool | None, levels: int, *tensors: Tensor) -> Any:
        groups = _split(tensors, _GROUPS)
        state = _backend(groups).forward(groups, out_dtype, channels_last)
        outs = [t for group in state for t in group]
        ctx.levels = levels
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*outs[levels:])
        ctx.save_for_backward(*tensors, *outs)
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        return None, None, None, *_gradients(ctx, grads, ctx.needs_input_grad[3:])


def _vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
    """One call per element: the op has its own batch axis, and the weights may differ between elements."""
    groups, dims = inputs[:_GROUPS], in_dims[:_GROUPS]

    def element(i: int) -> list[list[Tensor]]:
        return [
            [t if d is None else t.select(d, i) if info.batch_size else t.sum(d) for t, d in zip(ts, ds, strict=True)]
            for ts, ds in zip(groups, dims, strict=True)
        ]

    # Without elements, one made of zeros gives the shapes, and the graph for empty gradients.
    results = [fused(*element(i), *inputs[_GROUPS:]) for i in range(max(1, info.batch_size))]
    stacked = tuple(
        [torch.stack(outs)[: info.batch_size] for outs in zip(*kind, strict=True)]
        for kind in zip(*results, strict=True)
    )
    return stacked, tuple([0] * len(kind) for kind in stacked)


if dispatch.HAS_VMAP:
    fused.register_vmap(_vmap)
