"""StructureLoss in MMSegmentation's form, and the core's with a mask of valid pixels."""

import pytest
import torch

import sdi_plugin.adapters.mmsegmentation  # noqa: F401
from sdi_plugin.losses import structure_loss

from mmseg.registry import MODELS


def loss(**arguments):
    return MODELS.build({"type": "StructureLoss", **arguments})


def test_one_channel_is_the_cores_loss_and_two_are_their_difference():
    two, target = torch.randn(2, 2, 40, 33), torch.randint(0, 2, (2, 40, 33))
    margin = two[:, 1:] - two[:, :1]
    for unweighted in (False, True):
        expected = 0.5 * structure_loss(margin, target[:, None], unweighted_bce=unweighted)
        module = loss(unweighted_bce=unweighted, loss_weight=0.5)
        torch.testing.assert_close(module(margin, target), expected)
        torch.testing.assert_close(module(two, target), expected)
    assert loss().loss_name == "loss_structure"


@pytest.mark.parametrize("unweighted", [False, True], ids=["weighted", "unweighted"])
def test_ignored_pixels_do_not_contribute(unweighted):
    logits, target = torch.randn(1, 1, 40, 50), torch.randint(0, 2, (1, 40, 50))
    target[:, :, 25:] = 255
    found = loss(unweighted_bce=unweighted)(logits, target)
    # Background to the neighbourhoods: as if the image continued with zeros, and the sums ended at the border.
    padded = torch.where(target == 255, 0, target)[:, None].float()
    weight = 1 + 5 * (torch.nn.functional.avg_pool2d(padded, 31, 1, 15) - padded).abs()
    weight, kept, z = weight[..., :25], padded[..., :25], logits[..., :25]
    bce = torch.nn.functional.binary_cross_entropy_with_logits(z, kept, reduction="none")
    bce = bce.mean() if unweighted else (weight * bce).sum() / weight.sum()
    p = z.sigmoid()
    shared, total = (weight * p * kept).sum(), (weight * (p + kept)).sum()
    torch.testing.assert_close(found, bce + 1 - (shared + 1) / (total - shared + 1))


def test_a_full_mask_of_valid_pixels_changes_nothing():
    logits, target = torch.randn(2, 1, 20, 20), torch.randint(0, 2, (2, 1, 20, 20))
    valid = torch.ones_like(target)
    for unweighted in (False, True):
        torch.testing.assert_close(
            structure_loss(logits, target, unweighted_bce=unweighted, valid=valid),
            structure_loss(logits, target, unweighted_bce=unweighted),
        )
    with pytest.raises(ValueError, match="expected a valid mask of the logits' shape"):
        structure_loss(logits, target, valid=valid[:1])


def test_what_it_refuses():
    target = torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match=r"got \(1, 3, 8, 8\)"):
        loss()(torch.zeros(1, 3, 8, 8), target)
    with pytest.raises(ValueError, match="without a sampler"):
        loss()(torch.zeros(1, 1, 8, 8), target, weight=target)
