import math
import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sdi_plugin.metrics import (
    SegmentationMetrics,
    confusion,
    dice,
    hd95,
    iou,
    mae,
    sensitivity,
    specificity,
)
from tests.metrics.masks import noise, sizes

NAN = math.nan


def accumulated(probability: Tensor, target: Tensor, batches: list[int], **options) -> SegmentationMetrics:
    metrics = SegmentationMetrics(**options)
    for p, t in zip(probability.split(batches), target.split(batches), strict=True):
        metrics.update(p, t)
    return metrics


def same(first: dict[str, float], second: dict[str, float]) -> bool:
    """Equal to the last bit, nan included."""
    return first.keys() == second.keys() and all(repr(first[key]) == repr(second[key]) for key in first)


def test_means_and_pooled_values() -> None:
    probability, target = noise((21, 34))
    result = accumulated(probability, target, [2, 3], hd95=True).compute()
    counts = confusion(probability >= 0.5, target)
    expected = {"mae": mae(probability, target).mean(), "images": 5, "hd95_images": 5}
    expected["mean_hd95"] = hd95(probability >= 0.5, target).mean()
    for name, ratio in [("dice", dice), ("iou", iou), ("sensitivity", sensitivity), ("specificity", specificity)]:
        expected[f"mean_{name}"] = ratio(counts).mean()
        expected[f"pooled_{name}"] = ratio(counts.pooled())
    assert result == pytest.approx({key: float(value) for key, value in expected.items()}, rel=1e-14, abs=0)
    assert abs(result["mean_dice"] - result["pooled_dice"]) > 1e-3
    without = accumulated(probability, target, [5]).compute()
    assert result.keys() - without.keys() == {"mean_hd95", "hd95_images"}


@given(data=st.data(), seed=st.integers(0, 2**32), size=st.sampled_from([(7, 9), (64, 1), (3, 4, 5)]))
@settings(deadline=None, max_examples=30)
def test_batching_changes_nothing(data: st.DataObject, seed: int, size: tuple[int, ...]) -> None:
    images = 6
    probability, target = noise(size, images, seed)
    target &= torch.rand(images, generator=torch.Generator().manual_seed(seed)).reshape(-1, *[1] * len(size)) < 0.7
    batches: list[int] = []
    while sum(batches) < images:
        batches.append(data.draw(st.integers(1, images - sum(batches))))
    order = torch.tensor(data.draw(st.permutations(range(images))))
    metrics = accumulated(probability, target, batches, hd95=True)
    at_once = accumulated(probability, target, [images], hd95=True)
    permuted = accumulated(probability[order], target[order], batches, hd95=True)
    assert same(metrics.compute(), at_once.compute())
    assert same(metrics.compute(), permuted.compute())
    for name, values in metrics.per_image().items():
        assert values[order].nan_to_num(-1).equal(permuted.per_image()[name].nan_to_num(-1))


def test_large_images_do_not_depend_on_the_batch() -> None:
    probability, target = noise((352, 352), images=3)  # large enough for torch to split a sum between threads
    assert same(accumulated(probability, target, [3]).compute(), accumulated(probability, target, [1, 2]).compute())


def test_empty_masks_in_the_means() -> None:
    both, missed, invented, full = (torch.zeros(1, 4, 4) for _ in range(4))
    missed_target, full_target = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    missed_target[0, 0, 0] = invented[0, 1, 1] = 1
    full += 1
    metrics = SegmentationMetrics(hd95=True)
    metrics.update(torch.cat([both, missed, invented, full]), torch.cat([both, missed_target, both, full_target]))
    result = metrics.compute()
    assert result["mean_dice"] == result["mean_iou"] == 0.5
    assert result["mean_sensitivity"] == 0.5  # over the two images with a lesion
    assert result["mean_specificity"] == pytest.approx((1 + 1 + 15 / 16) / 3, rel=1e-15)
    assert (result["mean_hd95"], result["hd95_images"], result["images"]) == (0, 2, 4)
    assert metrics.per_image()["hd95"].tolist() == [0, math.inf, math.inf, 0]
    assert metrics.per_image()["sensitivity"].isnan().tolist() == [True, False, True, False]


def test_nan_where_all_images_are_left_out() -> None:
    metrics = SegmentationMetrics(hd95=True)
    metrics.update(torch.ones(2, 4, 4), torch.zeros(2, 4, 4))
    result = metrics.compute()
    assert math.isnan(result["mean_hd95"])
    assert math.isnan(result["mean_sensitivity"])
    assert math.isnan(result["pooled_sensitivity"])
    assert (result["hd95_images"], result["mean_specificity"], result["mean_dice"]) == (0, 0, 0)


def test_per_image_finds_the_worst_case() -> None:
    _, target = noise((8, 8), images=3)
    probability = target.float()
    probability[1] = 1 - probability[1]
    metrics = accumulated(probability, target, [1, 2])
    assert metrics.per_image().keys() == {"dice", "iou", "sensitivity", "specificity", "mae"}
    assert metrics.per_image()["dice"].argmin() == metrics.per_image()["mae"].argmax() == 1


@sizes
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64], ids=str)
def test_channel_axis_and_dtype_of_the_target_change_nothing(size: tuple[int, ...], dtype: torch.dtype) -> None:
    probability, target = noise(size)
    plain = accumulated(probability, target, [5], hd95=True).compute()
    channel = accumulated(probability[:, None], target[:, None].to(dtype), [5], hd95=True).compute()
    assert same(plain, channel)


def test_half_precision_views_and_gradients_are_fine() -> None:
    probability, target = noise((12, 10))
    probability = probability.half()
    transposed = accumulated(probability.mT, target.mT, [5]).compute()
    copied = accumulated(probability.mT.float().contiguous().requires_grad_(), target.mT.contiguous(), [5])
    assert same(transposed, copied.compute())
    assert not copied.per_image()["mae"].requires_grad


def test_threshold_is_included() -> None:
    probability = torch.tensor([[[0.25, 0.5], [0.75, 1.0]]])
    target = torch.ones(1, 2, 2)
    found = [accumulated(probability, target, [1], threshold=t).compute()["pooled_sensitivity"] for t in (0.5, 0.75, 1)]
    assert found == [0.75, 0.5, 0.25]
    with pytest.raises(ValueError, match=re.escape("threshold in [0, 1], got 127")):
        SegmentationMetrics(threshold=127)


@pytest.mark.parametrize(
    ("probability", "target", "message"),
    [
        (torch.rand(2, 1, 4, 4), torch.ones(2, 4, 4), "got (2, 1, 4, 4) and (2, 4, 4)"),
        (torch.rand(2, 4, 4), torch.ones(2, 4, 5), "got (2, 4, 4) and (2, 4, 5)"),
        (torch.rand(4, 4), torch.ones(4, 4), "S of two or three axes and at least one pixel, got (4, 4)"),
        (torch.rand(2, 3, 4, 4, 4), torch.ones(2, 3, 4, 4, 4), "one class at a time"),
        (torch.rand(0, 1, 4, 4), torch.ones(0, 1, 4, 4), "at least one pixel"),
        (torch.full((2, 4, 4), -3.5), torch.ones(2, 4, 4), "values from -3.5 to -3.5. Apply sigmoid"),
        (torch.full((2, 4, 4), 1.01), torch.ones(2, 4, 4), "values from 1.01 to 1.01"),
        (torch.full((2, 4, 4), NAN), torch.ones(2, 4, 4), "values from nan"),
        (torch.rand(2, 4, 4), torch.full((2, 4, 4), 255, dtype=torch.uint8), "0 and 1, got values from 255 to 255"),
        (torch.rand(2, 4, 4), torch.full((2, 4, 4), 0.5), "a target of 0 and 1"),
        (torch.rand(2, 4, 4, 4), torch.ones(2, 4, 4, 4), "each of 3 spatial axes"),
    ],
    ids=[
        "channel-in-one",
        "other-size",
        "no-batch-axis",
        "two-channels",
        "no-image",
        "logits",
        "above-one",
        "nan",
        "target-255",
        "soft-target",
        "spacing",
    ],
)
def test_a_bad_batch_leaves_the_accumulator_unchanged(probability: Tensor, target: Tensor, message: str) -> None:
    metrics = accumulated(*noise((6, 7)), [5], hd95=True, spacing=(1, 2))
    before = metrics.compute()
    with pytest.raises(ValueError, match=re.escape(message)):
        metrics.update(probability, target)
    assert same(metrics.compute(), before)
    assert all(len(values) == 5 for values in metrics.per_image().values())


def test_no_update_yet() -> None:
    metrics = SegmentationMetrics()
    with pytest.raises(RuntimeError, match="at least one image, got none"):
        metrics.compute()
    metrics.update(*noise((6, 7)))
    metrics.reset()
    with pytest.raises(RuntimeError, match=re.escape("Call update(probability, target) first")):
        metrics.per_image()


def test_pickled_and_continued() -> None:
    probability, target = noise((6, 7))
    metrics = pickle.loads(pickle.dumps(accumulated(probability[:2], target[:2], [2])))
    metrics.update(probability[2:], target[2:])
    assert same(metrics.compute(), accumulated(probability, target, [5]).compute())
