"""MMSegmentation's data sets read what `prepare` writes in the layout mmseg."""

import pytest
from mmengine.registry import DefaultScope

import sdi_plugin.adapters.mmsegmentation  # noqa: F401
from sdi_plugin.data import prepare
from tests.data.layouts import CASES, write_folder

from mmseg.registry import DATASETS

PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations"},
    {"type": "MaskToLabels"},
    {"type": "PackSegInputs", "meta_keys": ("img_path", "dataset_name")},
]


@pytest.mark.parametrize(
    ("kind", "case", "split", "classes"),
    [
        ("ISICDataset", "isic2016-official", "train", ("background", "lesion")),
        ("ISICDataset", "isic2017-official", "val", ("background", "lesion")),
        ("ISICDataset", "isic2018-official", "test", ("background", "lesion")),
        ("PH2Dataset", "ph2-official", "all", ("background", "lesion")),
        ("PolypDataset", "kvasir-pranet", "pranet_train", ("background", "polyp")),
        ("PolypDataset", "clinicdb-pranet", "pranet_test", ("background", "polyp")),
        ("PolypDataset", "colondb-pranet", "pranet_test", ("background", "polyp")),
        ("PolypDataset", "cvc300-pranet", "pranet_test", ("background", "polyp")),
        ("PolypDataset", "etis-pranet", "pranet_test", ("background", "polyp")),
    ],
)
def test_reads_what_data_prepare_writes(tmp_path, kind, case, split, classes):
    name, files, splits = CASES[case]
    source, out = write_folder(files, tmp_path / "download"), tmp_path / "data"
    prepare(name, source, out, "mmseg")
    config = {"type": kind, "data_root": str(out), "ann_file": f"splits/{split}.txt", "pipeline": PIPELINE}
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(config)
    assert len(dataset) == len(splits[split])
    assert dataset.metainfo["classes"] == classes
    assert len(dataset.metainfo["palette"]) == 2
    for item in dataset:
        label = item["data_samples"].gt_sem_seg.data
        assert item["inputs"].shape[1:] == label.shape[1:]
        assert sorted(label.unique().tolist()) == [0, 1]
        assert item["data_samples"].dataset_name == "data"
