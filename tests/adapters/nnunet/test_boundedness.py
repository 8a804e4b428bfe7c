"""SDI stays bounded during a training with nnU-Net's recipe, on real images and volumes, in emulated float16."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
import torch.nn.functional as F
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from benchmarks import float16
from benchmarks.nnunet_training import Maxima, read_pair
from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2
from tests.adapters.nnunet import plans as nnunet_plans

ITERATIONS, VALIDATE_EVERY, CASES_READ = 300, 10, 30

# Levels -> strides and patch. Axes are halved as long as two pixels are left at the coarsest level, for instance norm.
STRIDES: dict[str, tuple[list[list[int]], tuple[int, ...]]] = {
    "2d-4-levels": (nnunet_plans.strides(4, 2), (64, 64)),
    "2d-6-levels": (nnunet_plans.strides(6, 2), (64, 64)),
    "2d-7-levels": (nnunet_plans.strides(7, 2), (128, 128)),
    "2d-8-levels": ([*nnunet_plans.strides(7, 2), [1, 2]], (128, 128)),
    "3d-4-levels": (nnunet_plans.strides(4), (24, 32, 24)),
    "3d-6-levels": ([*nnunet_plans.strides(4), [1, 2, 1], [1, 2, 1]], (24, 32, 24)),
    "3d-7-levels": ([*nnunet_plans.strides(4), [1, 2, 1], [1, 2, 1], [1, 1, 3]], (24, 32, 24)),
    "3d-8-levels": ([*nnunet_plans.strides(3), [2, 1, 1], [1, 2, 1], [1, 1, 2], [1, 2, 1], [1, 2, 1]], (24, 32, 24)),
}


class Cases(NamedTuple):
    images: Tensor  # (N, channels, *patch), mean 0 and standard deviation 1 per image and channel
    labels: Tensor  # (N, 1, *patch)
    labels_count: int


def read_images(data: Path, patch: tuple[int, ...]) -> Cases:
    folder = data / "isic2018"
    names = (folder / "splits" / "repo_train.txt").read_text().split()[:CASES_READ]
    pairs = [read_pair(folder, name, (patch[0], patch[1])) for name in names]
    images = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() for image, _ in pairs])
    return Cases(standard(images), torch.stack([torch.from_numpy(mask)[None].float() for _, mask in pairs]), 2)


def read_volumes(data: Path, patch: tuple[int, ...]) -> Cases:
    folder = data / "hippocampus"
    names = sorted(path.name for path in (folder / "imagesTr").glob("*.nii.gz"))[:CASES_READ]
    images, labels = (
        torch.stack([centre(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / kind / n))), patch) for n in names])
        for kind in ("imagesTr", "labelsTr")
    )
    return Cases(standard(images), labels, 3)


def centre(array: Any, patch: tuple[int, ...]) -> Tensor:
    """(1, *patch) from the middle of a volume."""
    volume = torch.from_numpy(array.astype(np.float32))
    for axis, (size, wanted) in enumerate(zip(volume.shape, patch, strict=True)):
        volume = volume.narrow(axis, (size - wanted) // 2, wanted)
    return volume[None]


def standard(images: Tensor) -> Tensor:
    axes = tuple(range(2, images.ndim))
    return (images - images.mean(axes, keepdim=True)) / images.std(axes, keepdim=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The same training, bit for bit, on machines with any number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(one_thread, no_data, shared_data) -> Callable[..., Any]:
    def run(kind: Any, case: str) -> "Training":
        strides, patch = STRIDES[case]
        cases = (read_images if len(patch) == 2 else read_volumes)(shared_data, patch)
        return Training(kind, strides, patch, cases)

    return run


class Training:
    """What nnU-Net's own steps do to a network in float16: its trainer, optimiser, loss and gradient scaler."""

    def __init__(self, kind: Any, strides: list[list[int]], patch: tuple[int, ...], cases: Cases):
        torch.manual_seed(0)
        self.cases = cases
        architecture = nnunet_plans.architecture(strides, features=[min(64, 4 * 2**i) for i in range(len(strides))])
        plans = nnunet_plans.plans_of(architecture, patch, data_identifier="none")
        dataset = {
            "channel_names": {str(i): "channel" for i in range(cases.images.shape[1])},
            "labels": {"background": 0, **{str(i): i for i in range(1, cases.labels_count)}},
            "file_ending": ".png",
        }
        trainer = nnunet_plans.trainer_of(kind, plans, dataset)
        trainer.initialize()
        float16.emulate(trainer.network)
        trainer.grad_scaler = torch.amp.GradScaler("cpu")
        maxima = Maxima(trainer.network)
        self.maps, self.logits = 0.0, 0.0
        self.skipped: list[int] = []
        self.validation: list[float] = []
        held_out = range(len(cases.images) - 6, len(cases.images))
        for iteration in range(ITERATIONS):
            scale = trainer.grad_scaler.get_scale()
            chosen = torch.randint(0, held_out.start, (2,))
            trainer.train_step(self._batch(trainer, chosen, flip=bool(iteration % 2)))
            if trainer.grad_scaler.get_scale() < scale:
                self.skipped.append(iteration)
            if iteration % VALIDATE_EVERY == VALIDATE_EVERY - 1:
                trainer.network.eval()
                with torch.no_grad():
                    batches = [self._batch(trainer, torch.tensor(held_out[i : i + 2])) for i in (0, 2, 4)]
                    self.validation.append(float(np.mean([trainer.validation_step(b)["loss"] for b in batches])))
                trainer.network.train()
            self.maps, self.logits = max([self.maps, *maxima.maps]), max(self.logits, maxima.logits)

    def _batch(self, trainer: Any, chosen: Tensor, *, flip: bool = False) -> dict[str, Any]:
        images, labels = self.cases.images[chosen], self.cases.labels[chosen]
        if flip:
            images, labels = images.flip(-1), labels.flip(-1)
        sizes = [
            [round(n * s) for n, s in zip(labels.shape[2:], scales, strict=True)]
            for scales in trainer._get_deep_supervision_scales()
        ]
        return {"data": images, "target": [F.interpolate(labels, size=size, mode="nearest-exact") for size in sizes]}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case[3] == "8" else pytest.mark.long) for case in STRIDES]
)
def test_300_iterations_of_nnunets_recipe_stay_within_float16(train, case):
    ours, stock = train(nnUNetTrainerUNetV2, case), train(nnUNetTrainer, case)
    assert ours.maps < 1000
    assert ours.logits < 6000  # nnU-Net's predictor multiplies them by up to 10, in half precision
    # The scaler starts at 65,536, so that a gradient of 1 overflows: now and then nnU-Net's own network has one, too.
    assert len([step for step in ours.skipped if step >= 20]) <= 1
    # nnU-Net's loss is cross-entropy minus Dice; with 1 - Dice it is never negative, so that it can be doubled.
    assert 1 + max(ours.validation) <= 2 * (1 + max(stock.validation))
