"""Drawn images in the folders of the real data sets, and runs small enough for a test."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.study.settings import Protocol
from benchmarks.study.work import Place

LISTS = {
    "kvasir": {"pranet_train": [f"k{i:03d}" for i in range(130)], "pranet_test": ["t0", "t1"]},
    "clinicdb": {"pranet_train": ["1", "2", "199", "200", "203"], "pranet_test": ["612"]},
    "colondb": {"all": ["c0", "c1", "c2"], "cvc300_test60_ids": ["c1"]},
    "isic2018": {"repo_train": ["i0", "i1"], "repo_val": ["i2"], "repo_test": ["i3"]},
}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for folder, lists in LISTS.items():
        for part in ("images", "masks", "splits"):
            (root / folder / part).mkdir(parents=True)
        for name, ids in lists.items():
            (root / folder / "splits" / f"{name}.txt").write_text("\n".join(ids) + "\n")
            for image in ids:
                mask = np.zeros((40, 50), np.uint8)
                top, left = generator.integers(5, 20, 2)
                mask[top : top + 12, left : left + 18] = 255
                pixels = generator.integers(0, 90, (40, 50, 3)) + mask[:, :, None] // 2
                Image.fromarray(pixels.astype(np.uint8)).save(root / folder / "images" / f"{image}.png")
                suffix = "_segmentation" if folder == "isic2018" else ""
                Image.fromarray(mask).save(root / folder / "masks" / f"{image}{suffix}.png")
    return root


@pytest.fixture
def place(data, tmp_path):
    return Place(data, tmp_path / "out")


@pytest.fixture
def protocol():
    """32 pixels, two epochs of two images of ISIC 2018, a random start."""
    return Protocol(data="isic2018", size=32, start="random", epochs=2)
