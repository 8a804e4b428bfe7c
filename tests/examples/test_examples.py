"""The example scripts run from start to end on small data, as a user calls them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.images import write_images

EXAMPLES = Path(__file__).parents[2] / "examples"

SHORT = """
from sdi_plugin.adapters.nnunet.variants import nnUNetTrainerUNetV2_1epoch

class nnUNetTrainerShort(nnUNetTrainerUNetV2_1epoch):
    def initialize(self):
        super().initialize()
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 4, 2
"""

pytestmark = pytest.mark.slow


def run(name, *arguments, folder):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def lesions(tmp_path_factory):
    """A few images of ISIC 2018 where they are available, otherwise synthetic ones."""
    folder = tmp_path_factory.mktemp("lesions")
    real = Path(__file__).parents[3] / "shared" / "data" / "isic2018"
    if not real.is_dir():
        return write_images(folder / "data", count=20, size=64)
    for kind in ("images", "masks", "splits"):
        (folder / kind).mkdir()
    names = (real / "splits" / "repo_train.txt").read_text().split()[:20]
    for case in names:
        for kind, suffix in (("images", ""), ("masks", "_segmentation")):
            path = next((real / kind).glob(f"{case}{suffix}.*"))
            shutil.copy(path, folder / kind / f"{case}{path.suffix}")
    (folder / "splits" / "train.txt").write_text("\n".join(names[:16]))
    (folder / "splits" / "test.txt").write_text("\n".join(names[16:]))
    return folder


def test_own_network_finds_the_balls(tmp_path):
    out = run("own_network.py", "--steps", "60", folder=tmp_path)
    assert float(out.split("Dice on new volumes: ")[1]) > 0.8


def test_smp_trains_tests_and_saves(tmp_path, lesions):
    arguments = ("--encoder", "tu-pvt_v2_b0", "--size", "64", "--epochs", "2", "--out", "model")
    out = run("smp_lesions.py", "--data", lesions, *arguments, folder=tmp_path)
    assert "images 2" in out or "images 4" in out
    assert (tmp_path / "model" / "config.json").is_file()


@pytest.mark.timeout(1200)  # nnU-Net starts a dozen processes that import torch
def test_nnunet_plans_trains_and_predicts(tmp_path, lesions, monkeypatch):
    pytest.importorskip("nnunetv2")
    small = tmp_path / "small"  # nnU-Net plans its patch by the images
    shutil.copytree(lesions / "splits", small / "splits")
    for kind in ("images", "masks"):
        (small / kind).mkdir()
        for path in (lesions / kind).iterdir():
            _shrink(path, small / kind / f"{path.stem}.png")
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "short.py").write_text(SHORT)
    for variable in ("nnUNet_def_n_proc", "nnUNet_n_proc_DA"):  # each process imports torch again
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "trainers"))
    run("nnunet_2d.py", "--data", small, "--trainer", "nnUNetTrainerShort", "--device", "cpu", folder=tmp_path)
    predictions = {path.stem for path in (tmp_path / "runs" / "nnunet_2d" / "predictions").glob("*.png")}
    assert predictions == set((small / "splits" / "test.txt").read_text().split())


def _shrink(path, target):
    from PIL import Image

    with Image.open(path) as image:
        image.resize((64, 64), Image.Resampling.NEAREST).save(target)
