"""The data sets and MaskToLabels, on folders as `sdi-plugin data prepare --layout mmseg` writes them."""

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from tests.adapters.mmsegmentation import samples as given

from mmseg.registry import DATASETS, TRANSFORMS


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def test_several_folders_are_concatenated_under_their_names(tmp_path):
    roots = [given.write_dataset(tmp_path / name, [f"{name}{i}" for i in range(2)]) for name in ("b", "a")]
    dataset = DATASETS.build({"type": "PolypDataset", "data_root": roots, "ann_file": "splits/test.txt"})
    assert [dataset[i]["dataset_name"] for i in range(4)] == ["b", "b", "a", "a"]
    assert [dataset[i]["img_path"].rsplit("/", 1)[1] for i in range(4)] == ["b0.png", "b1.png", "a0.png", "a1.png"]
    everything = DATASETS.build({"type": "LesionDataset", "data_root": str(roots[0])})
    assert len(everything) == 2


def test_a_folder_that_is_not_prepared_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset.json, found none.*--layout mmseg"):
        DATASETS.build({"type": "ISICDataset", "data_root": str(tmp_path)})
    (tmp_path / "dataset.json").write_text('{"layout": "plain"}')
    with pytest.raises(ValueError, match="layout mmseg, got 'plain'"):
        DATASETS.build({"type": "ISICDataset", "data_root": str(tmp_path)})
    with pytest.raises(ValueError, match="one folder or more"):
        DATASETS.build({"type": "ISICDataset", "data_root": []})


def test_a_missing_split_is_an_error_that_lists_the_existing_ones(tmp_path):
    root = given.write_dataset(tmp_path / "isic", ["a"])
    with pytest.raises(FileNotFoundError, match=r"splits/valid.txt, .*there are test.txt, train.txt, val.txt"):
        DATASETS.build({"type": "ISICDataset", "data_root": str(root), "ann_file": "splits/valid.txt"})


def test_missing_folders_are_an_error_that_names_all_of_them(tmp_path):
    roots = [str(given.write_dataset(tmp_path / "kvasir", ["a"])), str(tmp_path / "etis"), str(tmp_path / "cvc300")]
    with pytest.raises(FileNotFoundError, match=r"found no .*etis, .*cvc300\. .*--out .*etis.*leave them out"):
        DATASETS.build({"type": "PolypDataset", "data_root": roots, "ann_file": "splits/test.txt"})


def labels(*masks, folder="ann_dir", **arguments):
    """What one MaskToLabels makes of masks in files a.png, b.png ... of one folder."""
    transform = TRANSFORMS.build({"type": "MaskToLabels", **arguments})
    files = [f"{folder}/{name}.png" for name in "abc"]
    given = [{"gt_seg_map": np.array([m], np.uint8), "seg_map_path": f} for m, f in zip(masks, files, strict=False)]
    found = [transform(one)["gt_seg_map"] for one in given]
    assert all(one.dtype == np.uint8 for one in found)
    return [one[0].tolist() for one in found]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([0, 255, 255, 0], [0, 1, 1, 0]),
        ([255, 255], [1, 1]),
        ([0, 1, 1, 0], [0, 1, 1, 0]),
        ([0, 1, 255, 0], [0, 1, 255, 0]),
        ([1, 255], [1, 255]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
    ids=["0 and 255", "255", "0 and 1", "0, 1 and 255 = ignored", "1 and 255 = ignored", "empty"],
)
def test_masks_become_labels(mask, expected):
    assert labels(mask, [0]) == [expected, [0]]


def test_foreground_says_what_255_is_where_a_mask_does_not():
    assert labels([0, 255], [0, 1, 255], foreground=1) == [[0, 255], [0, 1, 255]]
    assert labels([0, 255], [255], foreground=255) == [[0, 1], [1]]
    with pytest.raises(ValueError, match="values 0 and 255, got 1, 255 in ann_dir/a.png"):
        labels([255, 1], foreground=255)
    with pytest.raises(ValueError, match="foreground None, 1 or 255, got 2"):
        labels(foreground=2)


@pytest.mark.parametrize("masks", [([0, 255], [0, 1, 255]), ([0, 1], [0, 255])], ids=["ignored later", "255 later"])
def test_masks_of_two_kinds_in_one_folder_are_an_error_with_both_files(masks):
    with pytest.raises(ValueError, match=r"a.png .*b.png.*MaskToLabels\(foreground=1\).*ignored.*foreground=255"):
        labels(*masks)


def test_each_folder_has_its_own_kind_of_masks():
    transform = TRANSFORMS.build({"type": "MaskToLabels"})
    for folder, peak in (("kvasir", 255), ("clinicdb", 1)):
        found = transform({"gt_seg_map": np.array([[0, peak]], np.uint8), "seg_map_path": f"{folder}/a.png"})
        assert found["gt_seg_map"].tolist() == [[0, 1]]


@pytest.mark.parametrize("mask", [[0, 3], [0, 1, 2, 255], [0, 127, 128, 255]], ids=["3", "2 classes", "grey"])
def test_masks_of_other_values_are_refused_and_a_missing_mask_is_not(mask):
    with pytest.raises(ValueError, match=r"got .* in ann_dir/a.png.*--layout mmseg"):
        labels(mask)
    assert TRANSFORMS.build({"type": "MaskToLabels"})({"img": 1}) == {"img": 1}
