"""mmseg's own scripts after the plugin's import, and how mmengine's FLOP counter counts SDI."""

import sys
import time
from pathlib import Path
from typing import Any

import mmengine.analysis
import numpy as np
import pytest
import timm.layers
import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.logging import MMLogger
from PIL import Image

from sdi_plugin.adapters.mmsegmentation import tool
from tests.adapters.mmsegmentation import samples as given

from mmseg.registry import MODELS
from mmseg.visualization import SegLocalVisualizer

CONFIG = str(Path(__file__).parents[3] / "configs" / "unetv2_pvt_b0_isic.py")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a script in a folder of its own, and return what it prints."""
    monkeypatch.chdir(tmp_path)
    # what `run` changes for the process of the script
    monkeypatch.setattr(mmengine.analysis, "get_model_complexity_info", mmengine.analysis.get_model_complexity_info)
    monkeypatch.setattr(SegLocalVisualizer, "add_datasample", SegLocalVisualizer.add_datasample)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sdi-plugin", *arguments])
        tool.run(name)
        return capsys.readouterr().out

    yield run
    timm.layers.set_fused_attn(True)  # pyright: ignore[reportPrivateImportUsage]


def test_an_unknown_script_is_an_error_that_lists_the_known_ones(run):
    with pytest.raises(SystemExit, match="benchmark, browse_dataset.*get_flops.*got 'nonsense'"):
        run("nonsense")


@pytest.mark.filterwarnings("ignore")  # from torch.jit.trace
def test_get_flops(run):
    printed = run("get_flops", CONFIG, "--shape", "64")
    assert "Input shape: (64, 64)" in printed
    assert "Params: 3.636M" in printed


def test_print_config_takes_the_keys_of_the_options(run):
    printed = run("print_config", CONFIG, "--cfg-options", "image_size=(32,64)", "data_root=elsewhere")
    assert printed.count("data_root='elsewhere'") == 3
    assert "256" not in printed.split("image_size")[0]


@pytest.mark.filterwarnings("ignore:Layout of the output array", "ignore::UserWarning")
def test_browse_dataset_and_confusion_matrix(run, tmp_path):
    root = given.write_dataset(tmp_path / "isic", ["a", "b"], foreground=255)
    options = ("--cfg-options", f"data_root={root}")
    run("browse_dataset", CONFIG, "--output-dir", "browsed", "--not-show", *options)
    assert len(list(Path("browsed").rglob("*.png"))) == 2
    for mask in (root / "ann_dir").iterdir():
        label = np.array(Image.open(mask)) // 255
        Path("out").mkdir(exist_ok=True)
        Image.fromarray(label).save(Path("out", mask.name))
    run("confusion_matrix", CONFIG, "out", "matrix", *options)
    assert Path("matrix", "confusion_matrix.png").is_file()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_publish_model_reads_what_mmengine_writes(run):
    torch.save({"state_dict": {"x": torch.ones(1)}, "meta": {"seed": np.int64(1)}, "optimizer": {}}, "iter_1.pth")
    run("publish_model", "iter_1.pth", "published.pth")
    for _ in range(100):  # the script does not wait for its `mv`
        if files := list(Path().glob("published-*.pth")):
            break
        time.sleep(0.05)
    (file,) = files
    assert torch.load(file).keys() == {"state_dict", "meta"}


@pytest.mark.filterwarnings("ignore")  # from torch.jit.trace
def test_flops_of_sdi_are_counted(monkeypatch):
    monkeypatch.setattr(MMLogger.get_current_instance(), "disabled", True)  # its handlers may be of an earlier test
    channels, sizes = 8, [(16, 24), (8, 12), (4, 6)]
    head = MODELS.build({"type": "UNetV2Head", "in_channels": given.CHANNELS, "channels": channels, "num_classes": 2})
    inputs: Any = (given.features(batch=1),)
    counted = FlopAnalyzer(head.eval(), inputs).by_module()
    # every level's product has a 3x3 convolution of each of the three levels
    convolutions = sum(3 * 9 * channels**2 * height * width for height, width in sizes)
    assert convolutions <= counted["decoder.skip"] - sum(counted[f"decoder.skip.reductions.{i}"] for i in range(3))
