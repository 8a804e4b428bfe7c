"""What users leave running for hours, small: commands that make a folder or file, and go on where they were killed."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdi_plugin import UNetV2, checkpoint
from tests.cli.images import write_images

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable, "-W", "ignore"]
SDI = [*PYTHON, "-m", "sdi_plugin"]


@dataclass(frozen=True)
class Task:
    """
    Attributes:
        command: makes `out`, or goes on with it.
        state: what an unbroken `out` and one that was killed often have in common.
        once: the command refuses an `out` that is there: it is there when it is whole.
    """

    command: Callable[[Path], list[str]]
    state: Callable[[Path], Any]
    once: bool = False


def demo(folder: Path) -> Task:
    data = write_images(folder / "data", 12, 32)
    options = ["--data", str(data), "--size", "32", "--epochs", "8", "--resume"]

    def state(out: Path) -> Any:
        metrics = json.loads((out / "metrics.json").read_text())
        del metrics["seconds"]
        return metrics, _hash(out / "model" / "model.safetensors")

    return Task(lambda out: [*SDI, "demo", *options, "--out", str(out)], state)


def convert(folder: Path) -> Task:
    source = folder / "core.safetensors"
    checkpoint.save(source, UNetV2("pvt_v2_b0").state_dict())
    return Task(lambda out: [*SDI, "convert", str(source), str(out), "--to", "smp"], _files, once=True)


def prepare(folder: Path) -> Task:
    source = write_images(folder / "source", 60, 64, splits=False)
    return Task(
        lambda out: [*SDI, "data", "prepare", "etis", "--source", str(source), "--out", str(out)], _files, once=True
    )


def mmsegmentation(folder: Path) -> Task:
    from tests.adapters.mmsegmentation import process, samples

    samples.write_dataset(folder / "data" / "isic2018", [f"ISIC_{i}" for i in range(6)])
    config = ROOT / "configs" / "unetv2_pvt_b0_isic.py"
    tool = [*PYTHON, "-m", "sdi_plugin.adapters.mmsegmentation", "train", str(config), "--resume"]

    def state(out: Path) -> Any:
        return _tensors(torch.load(out / "iter_40.pth", weights_only=False)["state_dict"])

    return Task(lambda out: [*tool, "--work-dir", str(out), "--cfg-options", *process.SMALL], state)


def nnunet(folder: Path) -> Task:
    """Every epoch begins with equal random numbers: nnU-Net does not keep their state across an interruption."""
    from tests.reliability import nnunet_training

    nnunet_training.prepare(folder / "data")

    def state(out: Path) -> Any:
        (file,) = out.rglob("checkpoint_final.pth")
        return _tensors(torch.load(file, weights_only=False)["network_weights"])

    return Task(lambda out: [*PYTHON, nnunet_training.__file__, str(folder / "data"), str(out)], state)


# The longest first, so that two processes end together.
TASKS: dict[str, Callable[[Path], Task]] = {
    "MMSegmentation": mmsegmentation,
    "nnU-Net": nnunet,
    "demo": demo,
    "convert": convert,
    "data prepare": prepare,
}


def variables() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _files(out: Path) -> dict[str, str]:
    """The hash of every file but hidden ones; none may be a partial one."""
    files = [out] if out.is_file() else [file for file in out.rglob("*") if file.is_file()]
    assert not [file for file in files if "partial" in file.name]
    return {
        file.relative_to(out).as_posix(): _hash(file)
        for file in files
        if not any(part.startswith(".") for part in file.relative_to(out).parts)
    }


def _tensors(state: Mapping[str, Tensor]) -> dict[str, str]:
    return {
        name: hashlib.sha256(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in state.items()
    }


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
