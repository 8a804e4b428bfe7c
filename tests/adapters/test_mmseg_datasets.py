"""The data sets and MaskToLabels, on folders as `sdi-plugin data prepare --layout mmseg` writes them."""

import mmseg_samples as given
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmseg.registry import DATASETS, TRANSFORMS


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def test_several_folders_follow_each_other_under_their_names(tmp_path):
    roots = [given.write_dataset(tmp_path / name, [f"{name}{i}" for i in range(2)]) for name in ("b", "a")]
    dataset = DATASETS.build({"type": "PolypDataset", "data_root": roots, "ann_file": "splits/test.txt"})
    assert [dataset[i]["dataset_name"] for i in range(4)] == ["b", "b", "a", "a"]
    assert [dataset[i]["img_path"].rsplit("/", 1)[1] for i in range(4)] == ["b0.png", "b1.png", "a0.png", "a1.png"]
    everything = DATASETS.build({"type": "LesionDataset", "data_root": str(roots[0])})
    assert len(everything) == 2


def test_what_is_no_prepared_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset.json, found none.*--layout mmseg"):
        DATASETS.build({"type": "ISICDataset", "data_root": str(tmp_path)})
    (tmp_path / "dataset.json").write_text('{"layout": "plain"}')
    with pytest.raises(ValueError, match="layout mmseg, got 'plain'"):
        DATASETS.build({"type": "ISICDataset", "data_root": str(tmp_path)})
    with pytest.raises(ValueError, match="one folder or more"):
        DATASETS.build({"type": "ISICDataset", "data_root": []})


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([0, 255, 128, 127], [0, 1, 1, 0]),
        ([0, 1, 1, 0], [0, 1, 1, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
    ids=["0 and 255", "0 and 1", "empty"],
)
def test_masks_become_labels(mask, expected):
    results = {"gt_seg_map": np.array([mask], np.uint8)}
    found = TRANSFORMS.build({"type": "MaskToLabels"})(results)["gt_seg_map"]
    assert found.tolist() == [expected]
    assert found.dtype == np.uint8


def test_masks_of_several_classes_are_refused_and_none_is_needed():
    transform = TRANSFORMS.build({"type": "MaskToLabels"})
    with pytest.raises(ValueError, match="got values up to 3 in a.png"):
        transform({"gt_seg_map": np.array([[0, 3]], np.uint8), "seg_map_path": "a.png"})
    assert transform({"img": 1}) == {"img": 1}
