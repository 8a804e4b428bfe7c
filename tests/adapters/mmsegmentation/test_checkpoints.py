"""mmengine's checkpoints with weights_only=True: its own are read, anything else is refused and runs nothing."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

import sdi_plugin.adapters.mmsegmentation  # noqa: F401
from sdi_plugin.checkpoint import CheckpointError
from tests import hostile


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


class GetattrChain:
    """getattr(HistoryBuffer, name), the way from what is admitted to everything else."""

    def __init__(self, name: str):
        self.name = name

    def __reduce__(self):
        return getattr, (HistoryBuffer, self.name)


def history() -> HistoryBuffer:
    buffer = HistoryBuffer()
    for value in (0.5, 2.0, 1.0):
        buffer.update(value)
    return buffer


def test_what_mmengine_writes_is_read(tmp_path):
    written = {
        "meta": {"iter": 3, "seed": np.int64(7), "dataset_meta": {"classes": ("a", "b")}},
        "message_hub": {"log_scalars": {"train/loss": history()}, "runtime_info": {"lr": np.float64(0.1)}},
        "state_dict": {"weight": torch.ones(2)},
        "arrays": [np.arange(3), np.zeros((2, 2), np.float32), np.array([True])],
    }
    torch.save(written, tmp_path / "x.pth")
    found = CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"), "cpu")
    buffer = found["message_hub"]["log_scalars"]["train/loss"]
    assert (buffer.min(), buffer.max(), buffer.current(), buffer.mean()) == (0.5, 2.0, 1.0, 3.5 / 3)
    assert buffer.statistics("mean") == 3.5 / 3
    assert found["meta"] == written["meta"]
    for one, other in zip(found["arrays"], written["arrays"], strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype


READERS = {
    "mmengine": lambda file: CheckpointLoader.load_checkpoint(file, "cpu"),
    "segmentor": lambda file: load_checkpoint(torch.nn.Linear(1, 1), file),
    "torch": torch.load,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_malicious_checkpoint_is_refused_and_runs_nothing(tmp_path, reader):
    file, target = tmp_path / "x.pth", tmp_path / "made by the checkpoint"
    torch.save({"state_dict": {"weight": torch.ones(1)}, "meta": Malice(target)}, file)
    ours = (CheckpointError, r"x\.pth: expected tensors only, .*mkdir.*it was not run")
    kind, message = (pickle.UnpicklingError, "mkdir") if reader == "torch" else ours
    with pytest.raises(kind, match=message):
        READERS[reader](str(file))
    assert not target.exists()


@pytest.mark.parametrize("name", ["__init__", "__class__", "__globals__", "register_statistics"])
def test_getattr_reaches_only_the_statistics(tmp_path, name):
    torch.save({"x": GetattrChain(name)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="x.pth"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"), "cpu")
    torch.save({"x": GetattrChain("mean")}, tmp_path / "x.pth")
    assert CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"), "cpu") == {"x": None}


@pytest.mark.parametrize("reader", ["mmengine", "torch"])
@pytest.mark.parametrize("trick", hostile.NUMPY_TRICKS)
def test_numpy_data_other_than_numbers_are_refused(tmp_path, reader, trick):
    (tmp_path / "x.pth").write_bytes(hostile.saved({"x": hostile.NUMPY_TRICKS[trick]}))
    with pytest.raises(Exception, match=r"numpy data other than numbers|takes no arguments|numpy\.float64"):
        READERS[reader](str(tmp_path / "x.pth"))


def test_a_file_cannot_change_the_statistics_of_the_class(tmp_path):
    buffer = history()
    buffer._statistics_methods = {"mean": torch.Tensor}  # what the pickled state says, for all buffers of a process
    torch.save({"x": buffer}, tmp_path / "x.pth")
    before = dict(HistoryBuffer._statistics_methods)
    found = CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"), "cpu")["x"]
    assert type(found) is HistoryBuffer
    assert found.statistics("mean") == 3.5 / 3
    assert HistoryBuffer._statistics_methods == before


def test_a_url_is_read_with_weights_only(tmp_path, monkeypatch):
    cached = tmp_path / "hub" / "checkpoints" / "x.pth"
    cached.parent.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    torch.save({"meta": Malice(tmp_path / "made")}, cached)
    with pytest.raises(CheckpointError, match="was not run"):
        CheckpointLoader.load_checkpoint("https://nowhere.invalid/x.pth", "cpu")
    assert not (tmp_path / "made").exists()


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="x.pth: expected a checkpoint"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"))
