"""Writing: safetensors files that are exact, reproducible, and complete or absent."""

import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sdi_plugin import checkpoint

STATE = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "steps": torch.tensor(7),
}


def test_save_and_read_are_exact(tmp_path: Path):
    shared = torch.randn(3, 3)
    state = {**STATE, "a": shared, "b": shared, "t": torch.randn(2, 5).T, "nan": torch.tensor([float("nan")])}
    checkpoint.save(tmp_path / "x.safetensors", state, {"format": "pt", "note": "ä"})
    found = checkpoint.read(tmp_path / "x.safetensors")
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key].nan_to_num(9), value.nan_to_num(9))
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_equal_weights_give_equal_files(tmp_path: Path):
    metadata = {"format": "pt", "sdi_plugin": "1.0", "naming": "core", "note": 'ä "quoted"'}
    written = set()
    for attempt in range(8):
        order = reversed(STATE) if attempt % 2 else list(STATE)
        checkpoint.save(tmp_path / "x", {key: STATE[key] for key in order}, metadata)
        written.add((tmp_path / "x").read_bytes())
    assert len(written) == 1
    with safe_open(tmp_path / "x", "pt") as file:
        assert file.metadata() == metadata
    checkpoint.save(tmp_path / "y", STATE)
    assert checkpoint.read(tmp_path / "y").keys() == STATE.keys()


def test_save_replaces_in_one_step_and_leaves_nothing_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"a": torch.zeros(2)})

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"a": torch.ones(2)})
    assert os.listdir(tmp_path) == [path.name]
    assert torch.equal(load_file(path)["a"], torch.zeros(2))


def test_save_into_no_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        checkpoint.save(tmp_path / "none" / "x.safetensors", STATE)
    assert caught.value.filename == str(tmp_path / "none")


def test_without_safetensors_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_file(STATE, tmp_path / "x.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"sdi-plugin\[smp\]"):
        checkpoint.read(tmp_path / "x.safetensors")
    with pytest.raises(ImportError, match=r"sdi-plugin\[smp\]"):
        checkpoint.save(tmp_path / "y.safetensors", STATE)
    assert os.listdir(tmp_path) == ["x.safetensors"]
