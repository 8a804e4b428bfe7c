"""Frozen encoders: no gradients, nothing kept for backward, evaluation mode for good."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.memory import saved_bytes
from sdi_plugin import UNetV2


def step(model):
    model.train()
    torch.stack([y.square().mean() for y in model(torch.randn(2, 3, 64, 64))]).sum().backward()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("freeze", [True, 1], ids=["whole", "one-level"])
def test_what_is_frozen_stays_as_it_is(name, freeze):
    model = UNetV2(name, channels=8, freeze=freeze, deep_supervision=2)
    before = copy.deepcopy(model.state_dict())
    frozen = {key for key, parameter in model.named_parameters() if not parameter.requires_grad}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    step(model)
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert frozen
    assert all(key.startswith("encoder.model.") for key in frozen)
    assert not moved & frozen
    assert {key for key, parameter in model.named_parameters() if parameter.grad is not None}.isdisjoint(frozen)
    whole = {key for key in before if key.startswith("encoder.") and not key.startswith("encoder.model.levels.")}
    if freeze is True:  # batch norm's statistics, too
        assert moved & whole == set()
    else:
        assert frozen < whole


def test_a_frozen_batch_norm_and_stochastic_depth_stay_in_evaluation():
    model = UNetV2("test_resnet", channels=8, freeze=2).train()
    norms = [module for module in model.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.training for norm in norms] == sorted(norm.training for norm in norms)
    assert {norm.training for norm in norms} == {False, True}
    for norm in norms:
        assert norm.training == norm.weight.requires_grad


def test_a_frozen_encoder_keeps_no_maps_for_backward():
    x, kept = torch.randn(2, 3, 64, 64), {}
    for freeze in (False, True):
        model = UNetV2("test_vit", channels=8, freeze=freeze)
        features, kept[freeze] = saved_bytes(
            lambda m=model: m.encoder.model.vit.forward_features(x), model.parameters()
        )
        assert features.requires_grad is not freeze
    assert kept[True] == 0 < kept[False]


def test_a_frozen_encoder_survives_a_checkpoint():
    model = UNetV2("test_resnet", channels=8, freeze=True)
    twin = UNetV2("test_resnet", channels=8, freeze=True)
    twin.load_state_dict(model.state_dict())
    assert not any(parameter.requires_grad for parameter in twin.encoder.parameters())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(twin.eval()(x), model.eval()(x))


def test_a_class_token_that_the_patches_do_not_see_waits_for_no_gradient():
    model = UNetV2("xcit_nano_12_p16_224", channels=8, deep_supervision=2)
    step(model)
    assert not [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
