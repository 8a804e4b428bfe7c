"""`sdi-plugin convert` of what mmengine's Runner writes: weights, optimiser, schedules, and the log's history."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch.utils.data import DataLoader

import sdi_plugin.adapters.mmsegmentation  # noqa: F401
from sdi_plugin import checkpoint
from sdi_plugin.adapters.mmsegmentation import segmentor
from sdi_plugin.cli import main
from tests.adapters.mmsegmentation import samples as given

# mmengine's and torch's own
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    config = segmentor.config("pvt_v2_b0", in_channels=3, classes=2, channels=8, deep_supervision=2, norm=None)
    config["data_preprocessor"] = {"type": "SegDataPreProcessor", "mean": [128.0] * 3, "std": [64.0] * 3}
    config["data_preprocessor"]["size"] = (32, 32)
    batches = DataLoader(range(4), 2, collate_fn=lambda _: given.batch((32, 32)))  # pyright: ignore[reportArgumentType]
    Runner(
        config,
        str(folder),
        train_dataloader=batches,
        train_cfg={"by_epoch": False, "max_iters": 2},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-4}},
        param_scheduler={"type": "PolyLR", "by_epoch": False},
        default_hooks={
            "logger": {"type": "LoggerHook", "interval": 1, "log_metric_by_epoch": False},
            "checkpoint": {"type": "CheckpointHook", "interval": 2, "by_epoch": False},
        },
        default_scope="mmseg",
        log_level="ERROR",
        experiment_name="convert",
    ).train()
    return folder / "iter_2.pth"


@pytest.mark.parametrize("target", ["smp", "core.safetensors", "mmseg.pth"])
def test_a_checkpoint_of_a_runner_is_converted(tmp_path, written, target):
    assert "history_buffer" in str(_names(written))
    to = target.partition(".")[0]
    assert main(["convert", str(written), str(tmp_path / target), "--to", to]) == 0
    found = checkpoint.read(tmp_path / target / "model.safetensors" if to == "smp" else tmp_path / target)
    whole = CheckpointLoader.load_checkpoint(str(written), "cpu")
    assert len(whole["message_hub"]["log_scalars"]["train/loss"].data[0]) == 2
    expected, _ = checkpoint.convert(whole["state_dict"], to)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def _names(path: Path) -> bytes:
    """The pickle in a checkpoint: what it holds is named there."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def test_it_needs_no_mmengine(tmp_path, written):
    code = "import sys; sys.modules['mmengine'] = None\nfrom sdi_plugin.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["convert", str(written), str(tmp_path / "x.safetensors"), "--to", "core"]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert checkpoint.identify(checkpoint.read(tmp_path / "x.safetensors")) == "core"
