"""LesionMetric against the core's metrics, and on several data sets."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.structures import PixelData
from PIL import Image

from sdi_plugin import SegmentationMetrics
from tests.adapters.mmsegmentation import samples as given

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


def test_ignored_pixels_are_not_counted():
    probabilities, labels = torch.rand(3, 16, 16), torch.randint(0, 2, (3, 16, 16))
    labels[:, :4] = 255
    assert evaluate(probabilities, labels) == evaluate(probabilities[:, 4:], labels[:, 4:])


@pytest.mark.parametrize("size", [(1, 6), (6, 1), (1, 1)], ids=["one row", "one column", "one pixel"])
def test_images_of_a_single_row_or_column(size):
    probabilities, labels = torch.full((2, *size), 0.6), torch.ones(2, *size, dtype=torch.long)
    assert evaluate(probabilities, labels)["DSC"] == 100


def test_several_data_sets_are_reported_each():
    probabilities, labels = torch.rand(4, 16, 16), torch.randint(0, 2, (4, 16, 16))
    found = evaluate(probabilities, labels, names=["kvasir", "etis", "kvasir", "etis"])
    assert found["kvasir/DSC"] == evaluate(probabilities[::2], labels[::2])["DSC"]
    assert found["etis/pooled_IoU"] == evaluate(probabilities[1::2], labels[1::2])["pooled_IoU"]
    assert found["DSC"] == pytest.approx((found["kvasir/DSC"] + found["etis/DSC"]) / 2)
    assert len(found) == 27
    assert len(evaluate(probabilities, labels, names=["kvasir"] * 4)) == 9


def test_a_foreground_that_is_not_a_class_is_an_error():
    with pytest.raises(ValueError, match=r"foreground below 2 \(classes\), got 2"):
        evaluate(torch.rand(2, 4, 4), torch.zeros(2, 4, 4), channels=2, foreground=2)


def predictions(*paths, names=(), truth=True):
    """Samples of one predicted pixel each, at number mod 8 in the first row, for these images."""
    found = []
    for number, path in enumerate(paths):
        (sample,) = given.samples(torch.zeros(1, 4, 8, dtype=torch.long))
        probability = torch.zeros(1, 4, 8)
        probability[0, 0, number] = 1
        sample.set_data({"seg_logits": PixelData(data=probability), "pred_sem_seg": PixelData(data=probability)})
        if path:
            sample.set_metainfo({"img_path": path})
        if names:
            sample.set_metainfo({"dataset_name": names[number]})
        if not truth:
            del sample.gt_sem_seg
        found.append(sample.to_dict())
    return found


def test_predictions_are_written_as_mmsegs_own_metric_writes_them(tmp_path):
    samples = predictions("data/img_dir/a.jpg", "data/img_dir/b.c.png")
    arguments = {"output_dir": str(tmp_path / "out"), "keep_results": True}  # what tools/test.py --out passes
    for name, more in (("LesionMetric", {}), ("IoUMetric", {"iou_metrics": ["mDice"]})):
        metric = METRICS.build({"type": name, **more, **arguments, "output_dir": str(tmp_path / name)})
        metric.dataset_meta = {"classes": ("background", "lesion")}
        metric.process({}, samples)
        assert metric.evaluate(2)
    for name in ("a.png", "b.c.png"):
        ours, theirs = (np.array(Image.open(tmp_path / kind / name)) for kind in ("LesionMetric", "IoUMetric"))
        assert ours.dtype == np.uint8
        assert np.array_equal(ours, theirs)
        assert ours.sum() == 1


def test_format_only_writes_without_ground_truth_and_gives_no_figures(tmp_path):
    metric = METRICS.build({"type": "LesionMetric", "output_dir": str(tmp_path / "out"), "format_only": True})
    metric.process({}, predictions("a.jpg", "b.jpg", truth=False))
    assert metric.evaluate(2) == {}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    with pytest.raises(ValueError, match="output_dir with format_only=True"):
        METRICS.build({"type": "LesionMetric", "format_only": True})


def test_images_with_equal_names_never_share_a_file(tmp_path):
    metric = METRICS.build({"type": "LesionMetric", "output_dir": str(tmp_path)})
    metric.process({}, predictions("kvasir/1.png", "etis/1.png", names=["kvasir", "etis"]))
    written = {path.parent.name: np.array(Image.open(path))[0].tolist().index(1) for path in tmp_path.rglob("1.png")}
    assert written == {"kvasir": 0, "etis": 1}
    metric.process({}, predictions("kvasir/1.png", names=["kvasir"]))  # the next evaluation
    with pytest.raises(ValueError, match=r"other/1.jpg and kvasir/1.png .*1.png.*dataset_name"):
        metric.process({}, predictions("other/1.jpg", names=["kvasir"]))
    with pytest.raises(ValueError, match="img_path.*meta_keys"):
        metric.process({}, predictions(None))


@pytest.mark.parametrize("hook", [CheckpointHook, EarlyStoppingHook], ids=lambda hook: hook.__name__)
def test_each_key_knows_its_rule(hook):
    probabilities, labels = torch.rand(4, 16, 16), torch.randint(0, 2, (4, 16, 16))
    for key in evaluate(probabilities, labels, names=["kvasir", "etis"] * 2):
        made: Any = hook(**{"save_best" if hook is CheckpointHook else "monitor": key})
        rule = made.rules[0] if hook is CheckpointHook else made.rule
        assert rule == ("less" if key.endswith("MAE") else "greater"), key
    assert CheckpointHook(save_best="mIoU").rules == ["greater"]
    assert CheckpointHook(save_best="loss").rules == ["less"]
    with pytest.raises(ValueError, match="Cannot infer the rule for key HD95"):
        CheckpointHook(save_best="HD95")
