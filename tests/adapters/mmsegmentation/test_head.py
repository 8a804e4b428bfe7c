"""UNetV2Head: shapes, what it refuses, one channel handled correctly, deep supervision."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sdi_plugin.adapters.mmsegmentation import UNetV2Head
from sdi_plugin.losses import structure_loss
from tests import start
from tests.adapters.mmsegmentation import samples as given

from mmseg.registry import MODELS

BCE = {"type": "CrossEntropyLoss", "use_sigmoid": True, "avg_non_ignore": True}
DICE = {"type": "DiceLoss", "use_sigmoid": True, "naive_dice": True}


def head(in_channels=given.CHANNELS, **arguments) -> UNetV2Head:
    return MODELS.build({"type": "UNetV2Head", "in_channels": in_channels, "num_classes": 2, **arguments})


def labels(size=(64, 96), classes=2) -> torch.Tensor:
    return torch.randint(0, classes, (2, *size))


@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_any_number_of_levels(levels):
    channels = [8, 16, 24, 32, 40][:levels]
    logits = head(channels, num_classes=3)(given.features(channels, (33, 40)))
    assert logits.shape == (2, 3, 33, 40)


def test_in_index_chooses_among_the_maps_of_the_backbone():
    maps = given.features((8, 16, 24, 32))
    module = head((16, 32), in_index=(1, 3), strides=(4,))
    assert module(maps).shape == (2, 2, *maps[1].shape[2:])


@pytest.mark.parametrize("init", ["paper", "unit"])
def test_the_start_survives_mmengines_initialisation(init):
    module: Any = head(init=init)
    before = copy.deepcopy(module.state_dict())
    module.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    if init == "unit":
        start.assert_unit(conv for sdi in module.decoder.skip.sdi for conv in sdi.convs)
    else:
        start.assert_torchs_own(head)


def test_another_start_is_an_error():
    with pytest.raises(ValueError, match='expected init "paper" or "unit", got \'he\''):
        head(init="he")


@pytest.mark.parametrize(
    ("in_channels", "in_index", "message"),
    [
        ((8, 16), (0, 1, 2), r"one in_channels for each in_index, got in_channels=\(8, 16\) and in_index=\(0, 1, 2\)"),
        (512, None, r"one in_channels for each level, fine to coarse, such as \[64, 128, 320, 512\], got 512"),
        ((8, 16), 1, "one in_channels for each in_index, got .* in_index=1"),
        ((), None, "one in_channels for each level, .*, got \\(\\)"),
    ],
    ids=["lengths", "one", "index", "none"],
)
def test_mismatched_in_channels_and_in_index(in_channels, in_index, message):
    with pytest.raises(ValueError, match=f"UNetV2Head: expected {message}"):
        head(in_channels, in_index=in_index)


def test_a_backbone_of_too_few_maps_is_an_error():
    message = r"5 maps .*in_index=\[0, 1, 2, 3, 4\].*, got 4 from the backbone. Pass in_channels of 4 levels"
    with pytest.raises(ValueError, match=message):
        head((8, 16, 24, 32, 40))(given.features((8, 16, 24, 32)))
    with pytest.raises(ValueError, match=r"in_index=\(1, 4\).*, got 4 from the backbone"):
        head((16, 40), in_index=(1, 4))(given.features((8, 16, 24, 32)))


def test_maps_from_coarse_to_fine_are_an_error_and_in_index_reverses_them():
    maps = given.features()
    backwards = given.CHANNELS[::-1]
    with pytest.raises(ValueError, match=r"fine to coarse, got the sizes 4x6, 8x12, 16x24 .*in_index=\(2, 1, 0\)"):
        head(backwards, in_index=(2, 1, 0))(maps)
    with pytest.raises(ValueError, match="fine to coarse, got the sizes 4x6, 8x12, 16x24"):
        head(backwards)(maps[::-1])
    module = head(in_index=(2, 1, 0))  # as for the decoder of mmseg's UNet, which gives coarse maps first
    assert module(maps[::-1]).shape[2:] == maps[0].shape[2:]
    equal = [torch.randn(1, c, 8, 8) for c in given.CHANNELS]  # dilated backbones
    assert head()(equal).shape[2:] == (8, 8)


def test_other_maps_than_announced():
    with pytest.raises(ValueError, match="expected 8 channels at level 0, got 16"):
        head()(given.features((16, 16, 24)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 1, "num_classes": 3}, "num_classes=2 .*, got 3"),
        ({"out_channels": 1, "threshold": 1.0}, "threshold between 0 and 1, got 1.0"),
        ({"out_channels": 1, "sampler": {"type": "OHEMPixelSampler"}}, "no sampler with out_channels=1"),
        (
            {"out_channels": 1, "loss_decode": {**BCE, "class_weight": [1.0, 5.0]}},
            r"class_weight of one value, .*, got \[1.0, 5.0\]. Use class_weight=",
        ),
        ({"sampler": {"type": "OHEMPixelSampler"}, "loss_decode": {"type": "StructureLoss"}}, "without a sampler"),
        ({"deep_supervision": 4}, "deep_supervision from 0 to 3 levels, got 4"),
        ({"deep_supervision": 2, "head_weights": [1.0]}, "2 head_weights"),
        ({"deep_supervision": 2, "summed_heads": 3}, "summed_heads from 1 to 2"),
        ({"num_classes": 3, "loss_decode": {"type": "StructureLoss"}}, "one foreground, got 3 channels"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        head(**arguments)


@pytest.mark.parametrize(
    "loss",
    [
        {"type": "CrossEntropyLoss", "avg_non_ignore": True},
        {"type": "DiceLoss", "use_sigmoid": False},
        {"type": "LovaszLoss", "per_image": True},
        {"type": "FocalLoss"},
        {"type": "TverskyLoss"},
    ],
    ids=lambda loss: loss["type"],
)
def test_losses_that_are_wrong_for_one_channel_are_refused(loss):
    with pytest.raises(ValueError, match=f"got {loss['type']}.*out_channels=num_classes"):
        head(out_channels=1, loss_decode=[BCE, loss])


def losses(module, maps, target) -> dict[str, torch.Tensor]:
    return module.loss(maps, given.samples(target), {})


def test_one_channel_losses_and_accuracy_equal_their_definitions():
    target = labels()
    target[0, :5] = 255
    module = head(out_channels=1, loss_decode=[BCE, DICE, {"type": "StructureLoss"}])
    maps = given.features()
    with torch.no_grad():
        found = losses(module, maps, target)
        logits = F.interpolate(module(maps), (64, 96), mode="bilinear")[:, 0]
    valid, mask = target != 255, (target == 1).float()
    probability = logits.sigmoid() * valid
    bce = F.binary_cross_entropy_with_logits(logits[valid], mask[valid])
    overlap, total = (probability * mask).sum((1, 2)), probability.sum((1, 2)) + mask.sum((1, 2))
    dice = (1 - (2 * overlap + 1e-3) / (total + 1e-3)).mean()
    structure = structure_loss(logits[:, None], mask[:, None], valid=valid[:, None])
    accuracy = 100 * ((logits > 0)[valid] == mask[valid].bool()).float().mean()
    assert found.keys() == {"loss_ce", "loss_dice", "loss_structure", "acc_seg"}
    torch.testing.assert_close(found["loss_ce"], bce)
    torch.testing.assert_close(found["loss_dice"], dice)
    torch.testing.assert_close(found["loss_structure"], structure)
    torch.testing.assert_close(found["acc_seg"], accuracy)


def test_class_weight_of_one_channel_is_that_of_the_foreground():
    target = labels()
    target[0, :5] = 255
    weighted = head(out_channels=1, loss_decode={**BCE, "class_weight": [3.0]})
    logits = torch.randn(2, 1, 64, 96)
    valid, mask = target != 255, (target == 1).float()
    expected = F.binary_cross_entropy_with_logits(logits[:, 0][valid], mask[valid], pos_weight=torch.tensor(3.0))
    torch.testing.assert_close(weighted.loss_by_feat(logits, given.samples(target))["loss_ce"], expected)


def test_a_perfect_prediction_costs_nothing_with_one_channel():
    module = head(out_channels=1, loss_decode=[BCE, DICE])
    target = labels()
    logits = (200.0 * target - 100)[:, None]
    found = module.loss_by_feat(logits, given.samples(target))
    assert found["loss_ce"] < 1e-6
    assert found["loss_dice"] < 1e-6
    assert found["acc_seg"] == 100


@pytest.mark.parametrize("channels", [1, 2], ids=["sigmoid", "softmax"])
def test_ignored_pixels_change_neither_loss_nor_gradient(channels):
    module = head(out_channels=channels, loss_decode=None if channels == 2 else [BCE, DICE, {"type": "StructureLoss"}])
    target = labels()
    target[:, 10:20] = 255
    gradients = []
    for value in (0.0, 7.0):
        logits = torch.linspace(-2, 2, 2 * channels * 64 * 96).reshape(2, channels, 64, 96)
        logits[:, :, 10:20] = value
        logits.requires_grad_()
        found = module.loss_by_feat(logits, given.samples(target))
        torch.stack([found[name] for name in found if "loss" in name]).sum().backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert torch.equal(gradients[0][:, :, 10:20], torch.zeros_like(gradients[0][:, :, 10:20]))


@pytest.mark.parametrize(
    ("loss", "everything"),
    [(BCE, 0), (DICE, 0), (DICE, 255), ({"type": "StructureLoss"}, 0), ({"type": "StructureLoss"}, 255)],
    ids=lambda value: value["type"] if isinstance(value, dict) else {0: "background", 255: "ignored"}[value],
)
def test_images_without_foreground_give_finite_losses(loss, everything):
    module = head(out_channels=1, loss_decode=loss)
    found = losses(module, given.features(), torch.full((2, 64, 96), everything))
    assert all(value.isfinite() for value in found.values())


def test_deep_supervision_weights_each_level_and_names_it():
    maps, target = given.features(), labels()
    module = head(deep_supervision=3, head_weights=(1, 0.5, 0.25))
    with torch.no_grad():
        weighted = losses(module, maps, target)
        module.head_weights = (1.0, 1.0, 1.0)
        plain = losses(module, maps, target)
    assert list(weighted) == [f"{p}{n}" for p in ("", "level1.", "level2.") for n in ("loss_ce", "acc_seg")]
    for prefix, factor in (("", 1), ("level1.", 0.5), ("level2.", 0.25)):
        torch.testing.assert_close(weighted[f"{prefix}loss_ce"], factor * plain[f"{prefix}loss_ce"])
        assert weighted[f"{prefix}acc_seg"] == plain[f"{prefix}acc_seg"]


def test_every_parameter_gets_a_gradient():
    module = head(deep_supervision=2, dropout_ratio=0.1)
    found = losses(module, given.features(), labels())
    torch.stack([found[name] for name in found if "loss" in name]).sum().backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


def test_prediction_adds_the_logits_of_summed_heads():
    module, maps = head(deep_supervision=2, summed_heads=2).eval(), given.features()
    metas = [sample.metainfo for sample in given.samples(labels())]
    with torch.no_grad():
        found = module.predict(maps, metas, {})
        fine, coarse = module.forward_heads(maps)
    expected = sum(F.interpolate(logits, (64, 96), mode="bilinear") for logits in (fine, coarse))
    torch.testing.assert_close(found, expected)
    assert coarse.shape[2:] == maps[1].shape[2:]


def test_a_sampler_works_with_several_channels():
    module = head(sampler={"type": "OHEMPixelSampler", "thresh": 0.7, "min_kept": 100})
    assert losses(module, given.features(), labels())["loss_ce"] > 0


def test_checkpointing_changes_no_gradient():
    plain, recomputing = head(), head(with_cp=True)
    recomputing.load_state_dict(plain.state_dict())
    maps, target = given.features(), labels()
    for module in (plain, recomputing):
        losses(module, maps, target)["loss_ce"].backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
