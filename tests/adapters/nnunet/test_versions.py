"""The installed nnU-Net, and older ones, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAINERS = {
    "nnUNetTrainerUNetV2_5epochs": "PlainConvUNetV2",
    "nnUNetTrainerUNetV2PVT_noPretrain": "PVTUNetV2",
}


def step(folder: Path, trainer: str, *first: Path) -> str:
    """What step.py prints last, with these folders before all others on the path."""
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*first, root]))}
    command = [sys.executable, "-m", "tests.adapters.nnunet.step", str(folder), trainer]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip().split("\n")[-1]


@pytest.mark.slow
@pytest.mark.parametrize("version", [None, "2.6.2", "2.7.0"], ids=["installed", "2.6.2", "2.7.0"])
def test_a_step_and_a_prediction(tmp_path, version):
    first = []
    if version is not None:
        # Its dependencies are those of the one that is installed, or fewer.
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "nnunet")]
        installed = subprocess.run([*install, f"nnunetv2=={version}"], capture_output=True, text=True)
        if installed.returncode:
            pytest.skip(f"nnunetv2 {version} does not install here: {installed.stderr.strip()[-200:]}")
        first = [tmp_path / "nnunet"]
    for trainer, network in TRAINERS.items():
        (tmp_path / trainer).mkdir()
        assert step(tmp_path / trainer, trainer, *first) == f"{trainer} {network}"
