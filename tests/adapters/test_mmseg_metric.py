"""LesionMetric against the core's metrics, and in several data sets."""

import math

import mmseg_samples as given
import pytest
import torch
from mmengine.structures import PixelData

from sdi_plugin import SegmentationMetrics

from mmseg.registry import METRICS


def evaluate(probabilities, labels, channels=1, names=None, **arguments):
    metric = METRICS.build({"type": "LesionMetric", **arguments})
    found = []
    for number, (probability, sample) in enumerate(zip(probabilities, given.samples(labels), strict=True)):
        maps = probability[None] if channels == 1 else torch.stack([1 - probability, probability]).log()
        sample.seg_logits = PixelData(data=maps)
        sample.pred_sem_seg = PixelData(data=(probability >= 0.5)[None].float())
        if names:
            sample.set_metainfo({"dataset_name": names[number]})
        found.append(sample.to_dict())
    metric.process({}, found[:2])
    metric.process({}, found[2:])
    return metric.evaluate(len(found))


@pytest.mark.parametrize("channels", [1, 2], ids=["sigmoid", "softmax"])
def test_equals_the_cores_metrics_in_percent(channels):
    probabilities, labels = torch.rand(4, 20, 30), torch.randint(0, 2, (4, 20, 30))
    labels[3] = 0
    found = evaluate(probabilities, labels, channels)
    core = SegmentationMetrics()
    core.update(probabilities, labels)
    expected = core.compute()
    names = {"DSC": "dice", "IoU": "iou", "sensitivity": "sensitivity", "specificity": "specificity"}
    for ours, theirs in names.items():
        assert found[ours] == pytest.approx(100 * expected[f"mean_{theirs}"])
        assert found[f"pooled_{ours}"] == pytest.approx(100 * expected[f"pooled_{theirs}"])
    assert found["MAE"] == pytest.approx(expected["mae"], rel=1e-5)
    assert len(found) == 9


def test_perfect_and_empty():
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    found = evaluate(torch.zeros(2, 8, 8), labels)
    assert found["DSC"] == found["IoU"] == found["specificity"] == 100
    assert math.isnan(found["sensitivity"])
    labels[:, 2:5] = 1
    found = evaluate(labels.float(), labels)
    assert found["DSC"] == found["pooled_DSC"] == found["sensitivity"] == 100
    assert found["MAE"] == 0


def test_ignored_pixels_count_nowhere():
    probabilities, labels = torch.rand(3, 16, 16), torch.randint(0, 2, (3, 16, 16))
    labels[:, :4] = 255
    assert evaluate(probabilities, labels) == evaluate(probabilities[:, 4:], labels[:, 4:])


def test_several_data_sets_are_reported_each():
    probabilities, labels = torch.rand(4, 16, 16), torch.randint(0, 2, (4, 16, 16))
    found = evaluate(probabilities, labels, names=["kvasir", "etis", "kvasir", "etis"])
    assert found["kvasir/DSC"] == evaluate(probabilities[::2], labels[::2])["DSC"]
    assert found["etis/pooled_IoU"] == evaluate(probabilities[1::2], labels[1::2])["pooled_IoU"]
    assert found["DSC"] == pytest.approx((found["kvasir/DSC"] + found["etis/DSC"]) / 2)
    assert len(found) == 27
    assert len(evaluate(probabilities, labels, names=["kvasir"] * 4)) == 9


def test_a_foreground_that_is_no_class_is_an_error():
    with pytest.raises(ValueError, match=r"foreground below 2 \(classes\), got 2"):
        evaluate(torch.rand(2, 4, 4), torch.zeros(2, 4, 4), channels=2, foreground=2)
