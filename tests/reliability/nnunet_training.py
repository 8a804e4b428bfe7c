"""`python nnunet_training.py DATA OUT`: go on with a training of nnU-Net on a small data set that DATA holds."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2
from tests.adapters.nnunet import life as nnunet_life


def prepare(data: Path) -> None:
    """Write the images, and plan."""
    data.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        life = nnunet_life.prepare(patch, data)
        life.write_images((32, 32))
        life.plan("2d")


def train(data: Path, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        life = nnunet_life.prepare(patch, data)
        patch.setenv("nnUNet_results", str(out))
        original = nnUNetTrainerUNetV2.on_epoch_start

        def on_epoch_start(trainer: nnUNetTrainerUNetV2) -> None:
            trainer.save_every = 1
            np.random.seed(trainer.current_epoch)
            torch.manual_seed(trainer.current_epoch)
            original(trainer)

        patch.setattr(nnUNetTrainerUNetV2, "on_epoch_start", on_epoch_start)
        patch.setattr(nnUNetTrainerUNetV2, "epochs", 8)
        torch.manual_seed(0)
        life.train("2d", "nnUNetTrainerUNetV2", continue_training=True)


if __name__ == "__main__":
    train(*map(Path, sys.argv[1:]))
