"""What a call of attend_and_reduce launches, and with which tensors. Launches are recorded; no GPU, and no Triton."""

import pytest
import torch

from sdi_plugin import ops
from sdi_plugin.ops.gpu.attend import call
from tests.ops.attention import make

FORWARD = ["pool_pixels", "gate_channels", "pool_channels", "reduce_channels"]
BACKWARD = ["pixel_logits", "smooth_backward", "sum_pixels", "gate_gradients", "mlp_backward", "attend_gradients"]


def stage(last=True, dtype=torch.float32):
    layout = torch.channels_last if last else torch.contiguous_format
    cases = [make(2, width, 8, size, dtype) for width, size in ((32, (6, 5)), (48, (3, 3)))]
    groups = [[t.to(dtype, memory_format=layout).requires_grad_() for t in group] for group in zip(*cases, strict=True)]
    return groups


def step(groups):
    outs = ops.attend_and_reduce_stage(*groups)
    leaves = [t for group in groups for t in group if t.requires_grad]
    return outs, torch.autograd.grad(outs, leaves, [torch.ones_like(out) for out in outs])


@pytest.mark.parametrize("last", [True, False], ids=["channels-last", "contiguous"])
def test_all_levels_share_each_launch_and_are_read_and_written_in_place(last, launched):
    step(stage(last))
    launched.clear()
    groups = stage(last)
    outs, grads = step(groups)
    assert [name for name, _, _ in launched] == FORWARD + BACKWARD
    assert not any(is_new for _, is_new, _ in launched)
    fs, fc1, fc2, conv7, conv1 = [[t.data_ptr() for t in group] for group in groups]
    operands = {name: operands for name, _, operands in launched}
    assert operands["pool_pixels"][0] == fs
    assert operands["gate_channels"][1:3] == [fc1, fc2]
    *read, results = operands["reduce_channels"]
    assert read[:3] == [fs, conv7, conv1]
    assert results == [out.data_ptr() for out in outs]
    written = [address for group in operands["attend_gradients"][-5:] for address in group]
    assert written == [grad.data_ptr() for grad in grads]
    assert [grad.stride() for grad in grads] == [t.stride() for group in groups for t in group]


def test_frozen_features_have_no_programs(launched):
    groups = stage()
    step(groups)
    groups[0] = [f.detach() for f in groups[0]]
    step(groups)
    plan = call.plan(call.given(groups, torch.float32))
    every, parameters = (plan._backward[needs, True].program.steps[-1].launch for needs in (True, False))
    assert every.arguments["split"] > parameters.arguments["split"] == 0


def test_layouts_dtypes_and_settings_have_plans_of_their_own(launched, monkeypatch):
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        for groups in (stage(), stage(last=False), stage(dtype=torch.bfloat16)):
            step(groups)
    assert call.plan.cache_info().currsize == 6


def test_what_a_hook_moved_is_laid_out_again(launched):
    groups = stage()
    with torch.autograd.graph.saved_tensors_hooks(
        torch.clone, lambda t: t.clone(memory_format=torch.contiguous_format)
    ):
        outs = ops.attend_and_reduce_stage(*groups)
    torch.autograd.grad(outs, groups[0], [torch.ones_like(out) for out in outs])
    assert [name for name, _, _ in launched] == FORWARD + BACKWARD
