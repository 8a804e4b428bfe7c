"""The ops' formulas for torch's FLOP counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sdi_plugin import ops
from sdi_plugin.ops import (
    cpu,
    flops,  # noqa: F401  registers the formulas
    library,
)
from tests.ops.attention import make
from tests.ops.cases import eager, fused, make_case, single

pytestmark = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")


def test_flops_are_counted_and_fewer_than_eager():
    xs, weights, biases = [[t.requires_grad_() for t in group] for group in single(make_case((32, 32), 4, channels=32))]
    counts = []
    for function in (fused, eager):
        with FlopCounterMode(display=False) as counter:
            function(xs, weights, biases, 0).sum().backward()
        counts.append(counter.get_total_flops())
    dense = 2 * 2 * 32 * 32 * 32 * 32 * 9
    forward = sum(dense // 4**j for j in range(4))
    assert counts[0] == 4 * forward
    assert counts[0] < counts[1]


def test_flops_of_backward_are_those_of_what_it_computes():
    xs, weights, biases = single(make_case((32, 32), 2, channels=32, targets=2))
    weights = [w.requires_grad_() for w in weights]
    with FlopCounterMode(display=False) as counter:
        fine, _ = library.fused(xs, weights, biases, [0, 1], torch.float32)
        forward = counter.get_total_flops()
        fine.sum().backward()
    dense = 2 * 2 * 32 * 32 * 32 * 32 * 9
    assert forward == dense + dense // 4 + 2 * dense // 4
    # Backward recomputes the first target's terms, and computes the gradients of their weights.
    assert counter.get_total_flops() - forward == 2 * (dense + dense // 4)


def test_flops_of_a_volume_are_those_of_the_products_on_the_targets_planes():
    """The depth is interpolated before the product: a coarser level costs as much as its plane is smaller."""
    xs, weights, biases = single(make_case((16, 16, 16), 3, channels=32))
    with FlopCounterMode(display=False) as counter:
        fused(xs, weights, biases, 0)
    dense = 2 * 2 * 16**3 * 32 * 32 * 27
    assert counter.get_total_flops() == sum(dense // 4**j for j in range(3))


def test_flops_of_the_attention_are_counted():
    case = [t.float().requires_grad_() for t in make(2, 32, 8, (6, 5))]
    with FlopCounterMode(display=False) as counter:
        output = ops.attend_and_reduce(*case)
        forward = counter.get_total_flops()
        output.sum().backward()
    assert forward == 2 * 2 * (30 * (32 * 8 + 2 * 49) + 3 * 2 * 32)
    assert counter.get_total_flops() == 3 * forward
