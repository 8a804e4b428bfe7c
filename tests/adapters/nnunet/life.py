"""nnU-Net's whole life cycle in one process, on data small enough for a test: plan, preprocess, train, predict."""

import functools
import json
import multiprocessing
import multiprocessing.pool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api as api
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from PIL import Image

from sdi_plugin.adapters.nnunet import nnUNetPlannerUNetV2
from sdi_plugin.cli.nnunet.startup import trainers_folder

DATASET = "Dataset901_Test"


class Planner(nnUNetPlannerUNetV2):
    """Features from 4 instead of 32, so that a step takes milliseconds."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.UNet_base_num_features = 4


class FewVoxels(DatasetFingerprintExtractor):
    """nnU-Net draws 1e8 voxels for its statistics, more than these data have."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.num_foreground_voxels_for_intensitystats = 1e4


class Life:
    """One data set in folders of its own. `configure` it, `plan`, then `train` and `predict` any configuration."""

    def __init__(self, folder: Path):
        self.raw, self.preprocessed, self.results = (folder / part for part in ("raw", "preprocessed", "results"))
        self.plans_name = "nnUNetUNetV2Plans"

    @property
    def plans_file(self) -> Path:
        return self.preprocessed / DATASET / f"{self.plans_name}.json"

    def write_images(self, size: tuple[int, int], *, cases: int = 5) -> None:
        """RGB images with one bright rectangle each."""
        self._write(cases, {"0": "R", "1": "G", "2": "B"}, {"background": 0, "lesion": 1}, ".png", "NaturalImage2DIO")
        for case in range(cases):
            image, mask = _scene(size, case)
            Image.fromarray(np.stack([image] * 3, -1)).save(self.folder("imagesTr") / f"case{case}_0000.png")
            Image.fromarray(mask).save(self.folder("labelsTr") / f"case{case}.png")

    def write_volumes(
        self,
        size: tuple[int, int, int],
        *,
        spacing: tuple[float, float, float] = (1, 1, 1),
        labels: dict[str, Any] | None = None,
        channels: int = 1,
        cases: int = 5,
        **description: Any,
    ) -> None:
        """Volumes with one bright box each, half of it label 1, half label 2; the first slice is to be ignored (3)."""
        labels = labels or {"background": 0, "front": 1, "back": 2}
        names = {str(channel): "MRI" for channel in range(channels)}
        self._write(cases, names, labels, ".nii.gz", "SimpleITKIO", **description)
        for case in range(cases):
            image, mask = _scene(size, case)
            half = np.arange(size[-1]) >= size[-1] // 2
            mask = (mask * (1 + half)).astype(np.uint8)
            if "ignore" in labels:
                mask[0] = 3
            for channel in range(channels):
                _save(image, spacing, self.folder("imagesTr") / f"case{case}_{channel:04}.nii.gz")
            _save(mask, spacing, self.folder("labelsTr") / f"case{case}.nii.gz")

    def plan(self, *configurations: str, planner: Any = Planner) -> dict[str, Any]:
        api.extract_fingerprint_dataset(901, FewVoxels, num_processes=1, check_dataset_integrity=True)
        api.plan_experiment_dataset(901, planner)
        if configurations:
            self.preprocess(*configurations)
        return json.loads(self.plans_file.read_text())

    def preprocess(self, *configurations: str) -> None:
        api.preprocess_dataset(901, self.plans_name, list(configurations), num_processes=[1], show_progress_bar=False)

    def train(
        self, configuration: str, trainer: str = "nnUNetTrainerUNetV2_1epoch", *, fold: int | str = 0, **named: Any
    ) -> Path:
        """Train and validate on the CPU. Returns the folder of the trained model."""
        run_training("901", configuration, fold, trainer, self.plans_name, device=torch.device("cpu"), **named)
        return self.results / DATASET / f"{trainer}__{self.plans_name}__{configuration}"

    def predict(self, model: Path, fold: int | str = 0, previous: Path | None = None) -> dict[str, Any]:
        """{case: predicted labels} of all images, from the model's folder as nnUNetv2_predict_from_modelfolder does."""
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(model), (fold,))
        out = model / "predicted"
        out.mkdir(exist_ok=True)
        stage: dict[str, Any] = {} if previous is None else {"folder_with_segs_from_prev_stage": str(previous)}
        predictor.predict_from_files_sequential(str(self.folder("imagesTr")), str(out), **stage)
        return {path.name.split(".")[0]: _load(path) for path in out.iterdir() if path.suffix in (".png", ".gz")}

    def folder(self, name: str) -> Path:
        folder = self.raw / DATASET / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _write(self, cases: int, channels: Any, labels: Any, ending: str, reader: str, **description: Any) -> None:
        content = {
            "channel_names": channels,
            "labels": labels,
            "numTraining": cases,
            "file_ending": ending,
            "overwrite_image_reader_writer": reader,
            **description,
        }
        (self.folder("imagesTr").parent / "dataset.json").write_text(json.dumps(content))


def _scene(size: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    mask[tuple(slice(n // 4, n // 4 + n // 2 - generator.integers(0, 2)) for n in size)] = 1
    return (generator.integers(0, 60, size) + 150 * mask).astype(np.uint8), mask


def _save(array: Any, spacing: tuple[float, ...], path: Path) -> None:
    image = sitk.GetImageFromArray(array if "labels" in path.parent.name else array.astype(np.float32))
    image.SetSpacing([float(step) for step in spacing[::-1]])
    sitk.WriteImage(image, str(path))


def _load(path: Path) -> Any:
    return np.array(Image.open(path)) if path.suffix == ".png" else sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def prepare(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Life:
    """A Life in that folder; nnU-Net's processes become threads, its epochs two steps, and it draws no plot of them."""
    life = Life(folder)
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(folder / variable))
        (folder / variable).mkdir(exist_ok=True)
    monkeypatch.setenv("nnUNet_extTrainer", str(trainers_folder()))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    threads = SimpleNamespace(Pool=multiprocessing.pool.ThreadPool)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: threads)
    # While it plans, nnU-Net sets torch's threads to nnUNet_n_proc_DA: 0, right for training, is an error there.
    monkeypatch.setattr(default_experiment_planner, "get_allowed_n_proc_DA", lambda: 1)
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda self, output_folder: None)
    original = nnUNetTrainer.__init__

    @functools.wraps(original)
    def short(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1

    monkeypatch.setattr(nnUNetTrainer, "__init__", short)
    return life
