"""FLOP formulas of the ops. Import this before making a `torch.utils.flop_counter.FlopCounterMode`.

Not imported with the package: torch's counter imports triton, which takes longer than importing the whole package.
"""

import math
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from sdi_plugin.ops import dispatch, plan


@register_flop_formula(torch.ops.sdi_plugin.resize_smooth_multiply_stage, get_raw=True)
def _flops(xs: Any, weights: Any, biases: Any, targets: Any, *args: Any, **kwargs: Any) -> int:
    """Twice the multiply-adds of the convolutions and matrix products. Interpolation is not counted, as usual.

    The products are those that the kernels for the tensors' device plan. By taps, the depth is interpolated before the
    product.
    """
    sizes = tuple(tuple(map(int, x.shape[2:])) for x in xs)
    costs = dispatch.backend_of(xs[0].device).COSTS
    planned = plan.make(sizes, tuple(targets), int(xs[0].shape[1]), costs)
    total = 0
    for target, terms in zip(targets, planned.targets, strict=True):
        for term in terms:
            pixels = math.prod(sizes[target][:-2]) * math.prod(planned.maps[term.map].size[-2:])
            total += 2 * xs[0].shape[0] * pixels * weights[term.entry].numel()
    return total


@register_flop_formula(torch.ops.sdi_plugin.resize_smooth_multiply_stage_backward, get_raw=True)
def _backward_flops(
    grads: Any,
    xs: Any,
    weights: Any,
    biases: Any,
    targets: Any,
    fusion: str = "product",
    needs_maps: bool = True,
    needs_weights: bool = True,
    **kwargs: Any,
) -> int:
    """The recomputed forward, and the products of its adjoint that are needed."""
    return (1 + needs_maps + needs_weights) * _flops(xs, weights, biases, targets)


@register_flop_formula(torch.ops.sdi_plugin.attend_and_reduce_stage, get_raw=True)
def _attend_flops(fs: Any, fc1: Any, fc2: Any, conv7: Any, conv1: Any, *args: Any, **kwargs: Any) -> int:
    """Twice the multiply-adds of the reductions, of the pixels' convolutions and of the channels' dense layers."""
    total = 0
    for f, first, second, square, reduction in zip(fs, fc1, fc2, conv7, conv1, strict=True):
        per_pixel = reduction.numel() + square.numel()
        total += 2 * f.shape[0] * (math.prod(f.shape[2:]) * per_pixel + 2 * first.numel() + second.numel())
    return total


@register_flop_formula(torch.ops.sdi_plugin.attend_and_reduce_stage_backward, get_raw=True)
def _attend_backward_flops(grads: Any, inputs: Any, kept: Any, needs_maps: bool = True, **kwargs: Any) -> int:
    """One product for the weights' gradients, and one for those of the maps, of each of forward's."""
    levels = len(inputs) // 5
    return (1 + needs_maps) * _attend_flops(*[inputs[i * levels : (i + 1) * levels] for i in range(5)])
