"""SDINeck: shapes, and the heads of mmseg behind it."""

import copy

import pytest
import torch

from tests import start
from tests.adapters.mmsegmentation import samples as given

from mmseg.registry import MODELS

NORM = {"type": "BN"}
HEADS = {
    "UPerHead": {"pool_scales": (1, 2), "channels": 8, "norm_cfg": NORM},
    "FPNHead": {"feature_strides": [4, 8, 16], "channels": 8, "norm_cfg": NORM},
    "SegformerHead": {"channels": 8, "norm_cfg": NORM},
}


def neck(**arguments):
    return MODELS.build({"type": "SDINeck", "in_channels": given.CHANNELS, "channels": 8, **arguments})


@pytest.mark.parametrize(
    ("out_channels", "expected"),
    [(None, given.CHANNELS), (12, (12, 12, 12)), ((4, 5, 6), (4, 5, 6))],
    ids=["the backbone's", "one for all", "one per level"],
)
def test_shapes(out_channels, expected):
    maps = given.features(size=(17, 23))
    outputs = neck(out_channels=out_channels)(maps)
    assert isinstance(outputs, tuple)
    assert [tuple(y.shape) for y in outputs] == [(2, c, *x.shape[2:]) for c, x in zip(expected, maps, strict=True)]


def test_bad_arguments_and_maps():
    with pytest.raises(ValueError, match="out_channels for 3 levels"):
        neck(out_channels=(4, 5))
    with pytest.raises(ValueError, match="expected 3 feature maps"):
        neck()(given.features()[:2])


def test_the_start_survives_mmengines_initialisation():
    module = neck(init="unit")
    before = copy.deepcopy(module.state_dict())
    module.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    start.assert_unit(conv for sdi in module.skip.sdi for conv in sdi.convs)
    with pytest.raises(ValueError, match="expected init"):
        neck(init="he")


@pytest.mark.parametrize("kind", HEADS)
def test_heads_of_mmseg_take_its_maps(kind):
    channels = [8] * 3 if kind == "FPNHead" else list(given.CHANNELS)
    module = neck(out_channels=8 if kind == "FPNHead" else None)
    head = MODELS.build(
        {"type": kind, "in_channels": channels, "in_index": [0, 1, 2], "num_classes": 3, **HEADS[kind]}
        | {"loss_decode": {"type": "CrossEntropyLoss", "avg_non_ignore": True}}
    )
    losses = head.loss(module(given.features()), given.samples(torch.randint(0, 3, (2, 64, 96))), {})
    losses["loss_ce"].backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


def test_recomputing_maps_changes_no_gradient():
    plain, recomputing = neck(), neck(with_cp=True)
    recomputing.load_state_dict(plain.state_dict())
    maps = given.features()
    for module in (plain, recomputing):
        torch.stack([y.square().mean() for y in module(maps)]).sum().backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
