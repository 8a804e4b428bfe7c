"""FLOP formulas of the ops. Import this before making a `torch.utils.flop_counter.FlopCounterMode`.

Not imported with the package: torch's counter imports triton, which takes longer than everything here together.
"""

import math
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from sdi_plugin.ops import library as library  # defines the ops
from sdi_plugin.ops import plan
from sdi_plugin.ops.cpu import stage


@register_flop_formula(torch.ops.sdi_plugin.resize_smooth_multiply)
def _flops(xs: Any, weights: Any, biases: Any, targets: Any, *args: Any, **kwargs: Any) -> int:
    """Multiply-adds of the convolutions and matrix products, twice; interpolation is not counted, as elsewhere."""
    total = 0
    for i, target in enumerate(targets):
        size = xs[target][2:]
        for x, weight in zip(xs, weights[i * len(xs) : (i + 1) * len(xs)], strict=True):
            pooled = plan.pooled_size(x[2:], size)
            pixels = math.prod(pooled if stage.is_by_taps(pooled, size, weight[1]) else size)
            total += 2 * x[0] * pixels * math.prod(weight)
    return total


@register_flop_formula(torch.ops.sdi_plugin.resize_smooth_multiply_backward)
def _backward_flops(grads: Any, xs: Any, weights: Any, biases: Any, targets: Any, *args: Any, **kwargs: Any) -> int:
    """The forward again, whose terms are recomputed, and the two products of its adjoint."""
    return 3 * _flops(xs, weights, biases, targets)
