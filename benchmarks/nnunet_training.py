"""Train with nnU-Net's own recipe on a few real images, and record the largest values of SDI, logits and losses.

    python -m benchmarks.nnunet_training --data ISIC --out runs/asinh-0.json --fusion asinh --seed 0
    python -m benchmarks.nnunet_training --data ISIC --out runs/stock-0.json --trainer nnUNetTrainer --seed 0
    python -m benchmarks.nnunet_training --report runs/*.json          # a Markdown table of what was recorded

One run is one process: nnU-Net plans, preprocesses (both once per folder --work), trains and validates fold 0 on the
CPU, in 2-D. DATA is a folder with images/, masks/ (ID_segmentation.png) and splits/repo_train.txt, of which the first
--cases are used. The plan is nnU-Net's own for these images, except that the first stage has --features channels
instead of 32, so that a step takes a tenth of a second on a CPU. --float16 rounds as automatic mixed precision on a GPU
would (`benchmarks.float16`), with nnU-Net's gradient scaler.
"""

import argparse
import functools
import json
import multiprocessing
import multiprocessing.pool
import os
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import float16

_DATASET = "Dataset901_Boundedness"


class Maxima:
    """The largest absolute values of SDI's maps and of the logits over all forwards since the last `reset`."""

    def __init__(self, network: nn.Module):
        self.maps: list[float] = []  # by level, fine to coarse
        self.logits = 0.0
        skip = getattr(network.decoder, "skip", None)
        if skip is not None:  # nnU-Net's own networks have none
            skip.register_forward_hook(self._see_maps)
        network.register_forward_hook(self._see_logits)

    def _see_maps(self, module: nn.Module, inputs: Any, maps: Sequence[Tensor]) -> None:
        seen = [_largest(x) for x in maps]
        self.maps = [max(pair) for pair in zip(seen, self.maps or seen, strict=True)]

    def _see_logits(self, module: nn.Module, inputs: Any, logits: Any) -> None:
        for x in [logits] if isinstance(logits, Tensor) else logits:
            self.logits = max(self.logits, _largest(x))

    def reset(self) -> None:
        self.maps, self.logits = [], 0.0


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max())


def prepare(data: Path, work: Path, *, cases: int, size: int, features: int) -> None:
    """Write a raw data set, and let nnU-Net plan and preprocess it, unless --work already has one."""
    if (work / "preprocessed" / _DATASET / "nnUNetPlans_2d").is_dir():
        return
    names = (data / "splits" / "repo_train.txt").read_text().split()[:cases]
    write_raw(work / "raw" / _DATASET, ((case, *read_pair(data, case, (size, size))) for case in names))
    plan_and_preprocess(features=features)


def write_raw(raw: Path, cases: Iterable[tuple[str, Image.Image, np.ndarray]]) -> None:
    """A raw data set of nnU-Net: names, images and boolean masks (H, W)."""
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    for case, image, mask in cases:
        image.save(raw / "imagesTr" / f"{case}_0000.png")
        Image.fromarray(mask.astype(np.uint8)).save(raw / "labelsTr" / f"{case}.png")
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(list((raw / "labelsTr").iterdir())),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    (raw / "dataset.json").write_text(json.dumps(description))


def plan_and_preprocess(*, features: int = 32, batch: int | None = None) -> None:
    """nnU-Net's own, of data set 901, with other numbers of channels at the first stage and of images per batch."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    class Planner(ExperimentPlanner):
        def __init__(self, *arguments: Any, **named: Any):
            super().__init__(*arguments, **named)
            self.UNet_base_num_features = features

        def get_plans_for_configuration(self, *arguments: Any, **named: Any) -> dict[str, Any]:
            plan = super().get_plans_for_configuration(*arguments, **named)
            return plan | ({} if batch is None else {"batch_size": batch})

    class FewVoxels(DatasetFingerprintExtractor):
        """Draws fewer voxels for the statistics than nnU-Net's 1e8, which is more than these images have."""

        def __init__(self, *arguments: Any, **named: Any):
            super().__init__(*arguments, **named)
            self.num_foreground_voxels_for_intensitystats = 1e4

    api.extract_fingerprint_dataset(901, FewVoxels, num_processes=1, check_dataset_integrity=True)
    api.plan_experiment_dataset(901, Planner)
    api.preprocess_dataset(901, "nnUNetPlans", ["2d"], num_processes=[1], show_progress_bar=False)


def read_pair(data: Path, case: str, size: tuple[int, int]) -> tuple[Image.Image, np.ndarray]:
    """An image and its boolean mask (H, W), both resized to (H, W)."""
    image = Image.open(next((data / "images").glob(f"{case}.*"))).convert("RGB")
    mask = Image.open(next((data / "masks").glob(f"{case}[._]*"))).convert("L")
    image, mask = (each.resize((size[1], size[0]), Image.Resampling.BILINEAR) for each in (image, mask))
    return image, np.array(mask) > 127


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run; returns what is written to --out."""
    from nnunetv2.run.run_training import run_training
    from nnunetv2.training.logging.nnunet_logger import MetaLogger
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    MetaLogger.plot_progress_png = lambda self, output_folder: None
    record: dict[str, Any] = {
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
        "epochs": [],
        "skipped": [],
    }
    _watch(nnUNetTrainer, arguments, record)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(arguments.seed)
    begin = time.time()
    run_training("901", "2d", 0, arguments.trainer, "nnUNetPlans", device=torch.device("cpu"))
    summary = next((arguments.work / "results" / arguments.out.stem).rglob("validation/summary.json"))
    record["dice"] = json.loads(summary.read_text())["foreground_mean"]["Dice"]
    record["seconds"] = round(time.time() - begin)
    return record


def _watch(trainer: Any, arguments: argparse.Namespace, record: dict[str, Any]) -> None:
    """Patch nnU-Net's trainer, and those that inherit from it, to follow the arguments and to fill the record."""
    original = {name: getattr(trainer, name) for name in ("__init__", "initialize", "train_step", "on_epoch_end")}

    @functools.wraps(original["__init__"])  # nnU-Net reads the names of its arguments
    def short(self: Any, *args: Any, **named: Any) -> None:
        original["__init__"](self, *args, **named)
        self.num_epochs, self.num_iterations_per_epoch = arguments.epochs, arguments.iterations
        self.num_val_iterations_per_epoch = arguments.validation_iterations

    def initialize(self: Any) -> None:
        original["initialize"](self)
        if arguments.float16:
            float16.emulate(self.network)
            self.grad_scaler = torch.amp.GradScaler("cpu")
        self.maxima = Maxima(self.network)

    def train_step(self: Any, batch: Any) -> Any:
        scale = self.grad_scaler.get_scale() if self.grad_scaler else 1
        result = original["train_step"](self, batch)
        record["steps"] = record.get("steps", 0) + 1
        if self.grad_scaler and self.grad_scaler.get_scale() < scale:
            record["skipped"].append(record["steps"])
        return result

    def on_epoch_end(self: Any) -> None:
        values = {name: float(self.logger.get_value(name, step=-1)) for name in ("train_losses", "val_losses")}
        epoch = {"maps": self.maxima.maps, "logits": self.maxima.logits, **values}
        record["epochs"].append(epoch)
        self.maxima.reset()
        original["on_epoch_end"](self)

    for name, function in (
        ("__init__", short),
        ("initialize", initialize),
        ("train_step", train_step),
        ("on_epoch_end", on_epoch_end),
    ):
        setattr(trainer, name, function)


def report(files: Sequence[Path]) -> str:
    """One row per run: the largest values of the whole run, the worst losses, the validation Dice."""
    rows = [
        "| run | stages | max abs h | epochs with h > 65,504 | max abs logit | worst validation loss | skipped steps "
        "| Dice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in files:
        record = json.loads(file.read_text())
        epochs = record["epochs"]
        maps = [max(epoch["maps"], default=0.0) for epoch in epochs]
        rows.append(
            f"| {file.stem} | {len(epochs[0]['maps']) or '-'} | {max(maps):.0f} | {sum(m > 65504 for m in maps)} "
            f"| {max(epoch['logits'] for epoch in epochs):.0f} | {max(epoch['val_losses'] for epoch in epochs):.2f} "
            f"| {len(record['skipped'])} | {record.get('dice', float('nan')):.3f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, nargs="+", metavar="JSON", help="print a table of these runs, and exit")
    parser.add_argument("--data", type=Path, help="folder of ISIC 2018")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--work", type=Path, default=Path("runs/nnunet-training"), help="nnU-Net's folders")
    parser.add_argument("--trainer", default="nnUNetTrainerUNetV2")
    parser.add_argument("--fusion", default=None, help="SDI's fusion, instead of the trainer's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--validation-iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--float16", action="store_true")
    arguments = parser.parse_args()
    if arguments.report:
        print(report(arguments.report))
        return
    if not arguments.data or not arguments.out:
        parser.error("--data and --out are needed for a run")
    in_one_process(arguments.work, arguments.out)
    prepare(arguments.data, arguments.work, cases=arguments.cases, size=arguments.size, features=arguments.features)
    if arguments.fusion:
        _set_fusion(arguments.fusion)
    torch.set_num_threads(arguments.threads)  # planning has changed it
    os.environ.update(nnUNet_n_proc_DA="0")  # needed for training in one process, but an error in planning
    record = train(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1))
    print(report([arguments.out]))


def _set_fusion(fusion: str) -> None:
    from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2

    original = nnUNetTrainerUNetV2._adapt_plans

    def adapt(self: Any, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
        plans["configurations"][configuration]["architecture"]["arch_kwargs"]["fusion"] = fusion
        return original(self, plans, configuration)

    nnUNetTrainerUNetV2._adapt_plans = adapt


def in_one_process(work: Path, out: Path) -> None:
    """Set nnU-Net's folders in its environment variables, and run its worker processes as threads of this one."""
    from sdi_plugin.cli.nnunet.startup import trainers_folder

    for name in ("raw", "preprocessed", f"results/{out.stem}"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name.partition('/')[0]}"] = str((work / name).resolve())
    os.environ.update(nnUNet_extTrainer=str(trainers_folder()), nnUNet_n_proc_DA="1", nnUNet_def_n_proc="1")
    threads = SimpleNamespace(Pool=multiprocessing.pool.ThreadPool)
    multiprocessing.get_context = lambda method=None: threads  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    main()
