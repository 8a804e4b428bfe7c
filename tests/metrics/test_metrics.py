import math
import re
import sys

import pytest
import torch
import torchmetrics.functional.classification as tm
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import DiceMetric
from torch import Tensor
from torchmetrics import MeanAbsoluteError

from sdi_plugin.metrics import (
    Confusion,
    SegmentationMetrics,
    confusion,
    dice,
    hd95,
    iou,
    mae,
    sensitivity,
    specificity,
)
from tests.metrics.masks import balls, noise, sizes

NAN = math.nan


def masks(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


# Counts and ratios


@sizes
def test_counts_agree_with_torchmetrics(size: tuple[int, ...]) -> None:
    probability, target = noise(size)
    prediction = probability >= 0.5
    counts = confusion(prediction, target)
    theirs = tm.binary_stat_scores(prediction[:, None].int(), target[:, None].int(), multidim_average="samplewise")
    assert all(count.dtype == torch.int64 for count in counts)
    assert torch.stack([counts.tp, counts.fp, counts.tn, counts.fn], 1).equal(theirs[:, :4])


@sizes
def test_ratios_of_images_agree_with_torchmetrics(size: tuple[int, ...]) -> None:
    probability, target = noise(size)
    prediction = probability >= 0.5
    counts = confusion(prediction, target)
    pair = (prediction[:, None].int(), target[:, None].int())
    jaccard = torch.stack([tm.binary_jaccard_index(p, t) for p, t in zip(*pair, strict=True)])
    for ours, theirs in [
        (dice(counts), tm.binary_f1_score(*pair, multidim_average="samplewise")),
        (iou(counts), jaccard),
        (sensitivity(counts), tm.binary_recall(*pair, multidim_average="samplewise")),
        (specificity(counts), tm.binary_specificity(*pair, multidim_average="samplewise")),
    ]:
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours.float(), theirs)


@sizes
def test_pooled_ratios_agree_with_torchmetrics(size: tuple[int, ...]) -> None:
    probability, target = noise(size)
    prediction = probability >= 0.5
    pooled = confusion(prediction, target).pooled()
    pair = (prediction.int(), target.int())
    for ours, theirs in [
        (dice(pooled), tm.binary_f1_score(*pair)),
        (iou(pooled), tm.binary_jaccard_index(*pair)),
        (sensitivity(pooled), tm.binary_recall(*pair)),
        (specificity(pooled), tm.binary_specificity(*pair)),
    ]:
        assert ours.shape == ()
        torch.testing.assert_close(ours.float(), theirs)


@sizes
def test_dice_agrees_with_monai(size: tuple[int, ...]) -> None:
    probability, target = noise(size)
    prediction = probability >= 0.5
    metric = DiceMetric(reduction="none")
    theirs = metric(prediction[:, None].float(), target[:, None].float())
    assert isinstance(theirs, Tensor)
    torch.testing.assert_close(dice(confusion(prediction, target)).float(), theirs[:, 0])


@sizes
def test_mae_agrees_with_torchmetrics(size: tuple[int, ...]) -> None:
    probability, target = noise(size)
    ours = mae(probability, target)
    assert ours.dtype == torch.float64
    theirs = [MeanAbsoluteError()(p.double(), t.double()) for p, t in zip(probability, target, strict=True)]
    torch.testing.assert_close(ours.float(), torch.stack(theirs).float())


def test_counts_beyond_float32_are_exact() -> None:
    counts = Confusion(*(torch.tensor([n]) for n in (2**24 + 1, 1, 0, 2**40)))
    assert dice(counts).item() == (2**25 + 2) / (2**25 + 3)
    assert specificity(counts).item() == 2**40 / (2**40 + 1)
    assert confusion(*[torch.ones(1, 2**24 + 1, dtype=torch.bool)] * 2).tp.item() == 2**24 + 1


def test_empty_and_full_masks() -> None:
    #             both empty, prediction empty, target empty, both full
    counts = confusion(
        masks([0, 0], [0, 0], [1, 0], [1, 1]),
        masks([0, 0], [1, 0], [0, 0], [1, 1]),
    )
    for metric, expected in [
        (dice, [1, 0, 0, 1]),
        (iou, [1, 0, 0, 1]),
        (sensitivity, [NAN, 0, NAN, 1]),
        (specificity, [1, 1, 0.5, NAN]),
    ]:
        assert metric(counts).tolist() == pytest.approx(expected, nan_ok=True, rel=0, abs=0)


def test_no_images_give_no_values() -> None:
    none = torch.zeros(0, 3, 3, dtype=torch.bool)
    assert confusion(none, none).tn.shape == dice(confusion(none, none)).shape == (0,)
    assert mae(none, none).shape == hd95(none, none).shape == (0,)


# Hausdorff distance


def surface(mask: Tensor) -> Tensor:
    """Coordinates of the pixels with a neighbour, along an axis, that is background or beyond the border."""
    found = []
    for position in mask.nonzero().tolist():
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = list(position)
                neighbour[axis] += step
                if not 0 <= neighbour[axis] < mask.shape[axis] or not mask[tuple(neighbour)]:
                    found.append(position)
    return torch.tensor(found, dtype=torch.float64).unique(dim=0)


def hd95_pixel_by_pixel(prediction: Tensor, target: Tensor, spacing: Tensor) -> float:
    distances = torch.cdist(
        surface(prediction) * spacing, surface(target) * spacing, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return max(distances.amin(axis).quantile(0.95).item() for axis in (0, 1))


# MONAI 1.6 warns of its own use of an argument.
@pytest.mark.filterwarnings("ignore:.*`always_return_as_numpy` has been deprecated:FutureWarning")
@pytest.mark.parametrize("draw", [noise, balls], ids=["noise", "balls"])
@pytest.mark.parametrize("spaced", [False, True], ids=["pixels", "spacing"])
@sizes
def test_hd95(size: tuple[int, ...], draw, spaced: bool) -> None:
    first, target = draw(size)
    prediction = first >= 0.5 if draw is noise else first
    spacing = [0.7, 1.3, 2.5][: len(size)] if spaced else None
    ours = hd95(prediction, target, spacing)
    assert ours.dtype == torch.float64
    scale = torch.tensor(spacing or [1.0] * len(size), dtype=torch.float64)
    exact = [hd95_pixel_by_pixel(p, t, scale) for p, t in zip(prediction, target, strict=True)]
    assert ours.tolist() == pytest.approx(exact, rel=1e-12, abs=0)
    theirs = compute_hausdorff_distance(prediction[:, None], target[:, None], True, percentile=95, spacing=spacing)
    torch.testing.assert_close(ours.float(), theirs[:, 0].float())


def test_hd95_of_a_shift_is_its_length() -> None:
    square = torch.zeros(1, 40, 50, dtype=torch.bool)
    square[0, 10:20, 10:20] = True
    assert hd95(square, square.roll(7, 2)).item() == 7
    assert hd95(square, square.roll(7, 2), spacing=(1, 0.5)).item() == 3.5


def test_hd95_of_empty_masks() -> None:
    one, none = masks([1, 0, 0]), masks([0, 0, 0])
    assert hd95(torch.cat([none, none, one]), torch.cat([none, one, none])).tolist() == [0, math.inf, math.inf]


def test_hd95_without_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'sdi-plugin[smp]'")):
        hd95(masks([1]), masks([1]))
    with pytest.raises(ImportError, match="hd95 needs scipy"):
        SegmentationMetrics(hd95=True)
    SegmentationMetrics().update(torch.ones(1, 2, 2), torch.ones(1, 2, 2))


# Errors of the functions


@pytest.mark.parametrize("function", [confusion, hd95], ids=["confusion", "hd95"])
def test_masks_must_be_boolean_and_of_one_shape(function) -> None:
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    with pytest.raises(TypeError, match=re.escape("got torch.float32 and torch.bool")):
        function(mask.float(), mask)
    with pytest.raises(ValueError, match=re.escape("got (2, 3, 4) and (2, 4, 3)")):
        function(mask, mask.mT)
    with pytest.raises(ValueError, match=re.escape("(B, *S)")):
        function(mask[0, 0], mask[0, 0])


def test_mae_needs_one_shape() -> None:
    with pytest.raises(ValueError, match=re.escape("got (2, 1, 4) and (2, 4)")):
        mae(torch.ones(2, 1, 4), torch.ones(2, 4))


@pytest.mark.parametrize("spacing", [(1,), (1, 1, 1), (1, 0), (1, -2), (1, NAN), (1, math.inf)], ids=str)
def test_spacing_must_fit(spacing: tuple[float, ...]) -> None:
    mask = torch.ones(1, 3, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="positive spacing for each of 2 spatial axes"):
        hd95(mask, mask, spacing)
