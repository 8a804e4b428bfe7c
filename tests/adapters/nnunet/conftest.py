"""Shared by the tests of nnU-Net's trainers: folders that nnU-Net finds, with no data in them."""

from pathlib import Path

import pytest


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path))
    (tmp_path / "Dataset001_Test").mkdir()
    return tmp_path


@pytest.fixture
def no_data(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer's `initialize` looks for no data set."""
    monkeypatch.setattr("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.infer_dataset_class", lambda folder: None)


@pytest.fixture
def small(no_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's network on the smallest PVT."""
    monkeypatch.setattr("sdi_plugin.adapters.nnunet.nnUNetTrainerUNetV2PVT.encoder", "pvt_v2_b0")
