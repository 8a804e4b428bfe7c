"""Every official layout, packed and unpacked, comes out as the same images, masks and splits."""

import importlib
import json
import multiprocessing.pool
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sdi_plugin import data
from sdi_plugin.data import DATASETS, DataError, prepare
from tests.data.layouts import (
    CASES,
    FORMS,
    HEIGHT,
    PRANET,
    WIDTH,
    encode,
    expected_mask,
    one_zip,
    pairs,
    write_folder,
    zip_for_each_folder,
)


@pytest.mark.parametrize(
    ("case", "form"),
    [
        pytest.param(case, form, id=f"{case}-{form.__name__}")
        for case in CASES
        for form in FORMS
        if not ("plain" in case and form is zip_for_each_folder)  # that layout is one folder
    ],
)
def test_every_layout_in_every_form_is_recognised(case, form, tmp_path):
    name, files, splits = CASES[case]
    out = tmp_path / "out"
    written = prepare(name, form(files, tmp_path), out)
    ids = sorted({id_ for split in splits.values() for id_ in split})
    assert {path.stem: path.read_text().split() for path in (out / "splits").iterdir()} == splits
    assert sorted(path.stem for path in (out / "images").iterdir()) == ids
    assert sorted(path.name for path in (out / "masks").iterdir()) == [f"{id_}.png" for id_ in ids]
    for id_ in ids:
        with Image.open(out / "masks" / f"{id_}.png") as mask:
            assert mask.mode == "L"
            np.testing.assert_array_equal(np.asarray(mask), expected_mask(id_))
        (image,) = (out / "images").glob(f"{id_}.*")
        with Image.open(image) as opened:
            assert opened.mode == "RGB"
            assert opened.size == (WIDTH, HEIGHT)
    described = json.loads((out / "dataset.json").read_text())
    assert described["splits"] == {split: len(members) for split, members in splits.items()}
    assert described["citation"] == DATASETS[name].citation
    assert (written.folder, written.images, written.dataset) == (out, len(ids), DATASETS[name])
    assert written.splits == described["splits"]
    assert written.left_out == written.notes == []
    assert not (tmp_path / ".out.partial").exists()


def test_source_may_be_the_data_sets_own_folder(tmp_path):
    write_folder(CASES["kvasir-official"][1], tmp_path)
    prepare("kvasir", tmp_path / "Kvasir-SEG", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["source_layout"] == "official"


def test_jpeg_images_keep_their_bytes_and_others_become_png(tmp_path):
    files = CASES["kvasir-official"][1]
    prepare("kvasir", one_zip(files, tmp_path), tmp_path / "out")
    assert (tmp_path / "out" / "images" / "cju1.jpg").read_bytes() == files["Kvasir-SEG/images/cju1.jpg"]
    prepare("colondb", one_zip(CASES["colondb-images"][1], tmp_path), tmp_path / "png")
    with Image.open(tmp_path / "png" / "images" / "1.png") as image:
        assert np.asarray(image)[0, 0].tolist() == [sum(b"1") % 256, 90, 30]


def test_size_resizes_images_and_masks(tmp_path):
    files = pairs("images/{}.jpg", "masks/{}.png", "a")
    noise = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(noise * 255).save(write_folder(files, tmp_path / "in") / "masks" / "a.png")
    prepare("etis", tmp_path / "in", tmp_path / "out", size=16)
    with Image.open(tmp_path / "out" / "images" / "a.png") as image:
        assert image.size == (16, 16)
    with Image.open(tmp_path / "out" / "masks" / "a.png") as mask:
        assert mask.size == (16, 16)
        # Nearest: every output pixel is the input pixel under its centre.
        rows, columns = (((np.arange(16) + 0.5) * length / 16).astype(int) for length in (HEIGHT, WIDTH))
        np.testing.assert_array_equal(np.asarray(mask), noise[np.ix_(rows, columns)])


@pytest.mark.parametrize("foreground", [1, 128, 255])
def test_masks_with_0_and_1_or_up_to_255_become_0_and_1(foreground, tmp_path):
    files = {"images/a.png": encode("image", "a", ".png"), "masks/a.png": encode("mask", "a", ".png", foreground)}
    prepare("etis", write_folder(files, tmp_path / "in"), tmp_path / "out")
    with Image.open(tmp_path / "out" / "masks" / "a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected_mask("a"))


def test_noise_in_one_empty_mask_stays_background(tmp_path):
    masks = {"masks/a.jpg": encode("mask", "a", ".jpg"), "masks/b.jpg": encode("mask", "b", ".jpg", 9)}
    images = {f"images/{id_}.png": encode("image", id_, ".png") for id_ in "ab"}
    prepare("etis", write_folder(images | masks, tmp_path / "in"), tmp_path / "out")
    with Image.open(tmp_path / "out" / "masks" / "b.png") as mask:
        assert not np.asarray(mask).any()


def test_mmseg_layout_has_one_image_suffix_and_complete_splits(tmp_path):
    files = CASES["kvasir-official"][1] | pairs("Kvasir-SEG/images/{}.png", "Kvasir-SEG/masks/{}.png", "cju9")
    prepare("kvasir", one_zip(files, tmp_path), tmp_path / "out", layout="mmseg")
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (described["img_suffix"], described["seg_map_suffix"]) == (".png", ".png")
    assert sorted(path.name for path in (tmp_path / "out" / "img_dir").iterdir()) == [
        "cju1.png",
        "cju2.png",
        "cju9.png",
    ]
    for id_ in (tmp_path / "out" / "splits" / "train.txt").read_text().split():
        assert (tmp_path / "out" / "ann_dir" / f"{id_}.png").is_file()


def test_nnunet_layout_passes_nnunets_own_check(tmp_path, monkeypatch, capsys):
    verify = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    out = tmp_path / "Dataset101_Isic"
    prepare("isic2018", one_zip(CASES["isic2018-official"][1], tmp_path), out, layout="nnunet")
    # Threads in place of spawned processes, each of which would import torch for seconds.
    pools = SimpleNamespace(get_context=lambda _: SimpleNamespace(Pool=multiprocessing.pool.ThreadPool))
    monkeypatch.setattr(verify, "multiprocessing", pools)
    verify.verify_dataset_integrity(str(out), num_processes=1)
    assert "verify_dataset_integrity Done" in capsys.readouterr().out
    described = json.loads((out / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "lesion": 1}
    assert described["numTraining"] == 2
    assert [path.name for path in sorted((out / "imagesTr").iterdir())] == [
        "ISIC_0000001_0000.png",
        "ISIC_0000002_0000.png",
    ]
    assert [path.name for path in (out / "labelsTs").iterdir()] == ["ISIC_0000003.png"]
    folds = json.loads((out / "splits" / "splits_final.json").read_text())
    assert folds == [{"train": ["ISIC_0000001"], "val": ["ISIC_0000002"]}]


def test_nnunet_takes_the_named_family_or_trains_on_everything(tmp_path):
    files = PRANET | {"TestDataset/Kvasir/train.txt": b"cju3\n", "TestDataset/Kvasir/val.txt": b"cju1\n"}
    source = one_zip(files, tmp_path)
    written = prepare("kvasir", source, tmp_path / "Dataset001_A", layout="nnunet")
    assert [path.name for path in (tmp_path / "Dataset001_A" / "imagesTr").iterdir()] == ["cju3_0000.png"]
    assert written.notes == ["1 images are in none of the chosen splits: left out"]
    assert written.splits == {"train": 1, "test": 1}
    prepare("kvasir", source, tmp_path / "Dataset002_B", layout="nnunet", splits="pranet")
    assert len(list((tmp_path / "Dataset002_B" / "imagesTr").iterdir())) == 2
    written = prepare("etis", source, tmp_path / "Dataset003_C", layout="nnunet")
    assert len(list((tmp_path / "Dataset003_C" / "imagesTr").iterdir())) == 2
    assert written.notes == ["no training and test split: all images become training cases"]
    with pytest.raises(DataError, match="splits of 'other'"):
        prepare("etis", source, tmp_path / "Dataset004_D", layout="nnunet", splits="other")


@pytest.mark.parametrize("name", ["kvasir", "clinicdb", "colondb", "isic2018"])
def test_real_data_come_out_complete(name, shared_data, tmp_path):
    source = tmp_path / name
    source.mkdir()
    (source / "splits").symlink_to(shared_data / name / "splits")
    images = sorted((shared_data / name / "images").iterdir())[:12]
    masks = sorted((shared_data / name / "masks").iterdir())[:12]
    for folder, paths in (("images", images), ("masks", masks)):
        (source / folder).mkdir()
        for path in paths:
            (source / folder / path.name).symlink_to(path)
    prepare(name, source, tmp_path / "out", size=32, skip_bad=True)  # the splits name all images, 12 are here
    listed = {path.stem: path.read_text().split() for path in (tmp_path / "out" / "splits").iterdir()}
    assert listed.keys() == {path.stem for path in (shared_data / name / "splits").iterdir()}
    ids = {path.stem for path in images}
    assert {id_ for split in listed.values() for id_ in split} == ids
    for id_ in ids:
        (original,) = (path for path in masks if path.stem in (id_, f"{id_}_segmentation"))
        with Image.open(original) as before, Image.open(tmp_path / "out" / "masks" / f"{id_}.png") as after:
            share = (np.asarray(before.convert("L")) > 127).mean()
            assert abs(np.asarray(after).mean() - share) < 0.02  # nearest resizing moves the border by half a pixel


def test_without_pillow_the_catalogue_is_there_and_prepare_names_the_extra(monkeypatch, tmp_path):
    for module in ("check", "output", "masks", "pixels"):
        monkeypatch.delitem(sys.modules, f"sdi_plugin.data.{module}", raising=False)
        monkeypatch.delattr(data, module, raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    importlib.reload(data)
    assert "kvasir" in data.DATASETS
    with pytest.raises(ImportError, match=r"Install them: pip install 'sdi-plugin\[smp\]'"):
        data.prepare("kvasir", tmp_path, tmp_path / "out")
