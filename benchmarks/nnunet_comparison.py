"""nnU-Net's own network against U-Net v2 in nnU-Net, in equal time on one core: the mean Dice on test images.

    python -m benchmarks.nnunet_comparison isic --data DATA       # DATA/isic2018
    python -m benchmarks.nnunet_comparison polyps --data DATA     # DATA/kvasir, clinicdb, colondb
    python -m benchmarks.nnunet_comparison --render               # the tables of docs/nnunet.md

A folder of DATA has images/, masks/ and splits/. The trainers' seconds per step are measured first, in one process,
interleaved; each then gets as many epochs of a few steps as fit the budget. Seconds are CPU time, so that other
programs on the machine count little. A run is a process on one thread; finished runs are in benchmarks/results/nnunet/,
and the command goes on after them. Planning, preprocessing, recipe, augmentation and evaluation are nnU-Net's, but for
the batch, the number of epochs and their steps, and test images that are not mirrored.
"""

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks import markdown
from benchmarks.environment import ALLOCATOR, ROOT, machine
from benchmarks.nnunet_training import in_one_process, plan_and_preprocess, read_pair, write_raw

RESULTS = ROOT / "benchmarks" / "results" / "nnunet"
PAGE = ROOT / "docs" / "nnunet.md"
STOCK, OURS = "nnUNetTrainer", "nnUNetTrainerUNetV2"
LITE = f"{OURS}Timm_tf_efficientnet_lite0"
SIZE, BATCH, STEPS, SEEDS, ROUNDS = 128, 4, 5, 3, 7  # STEPS per epoch


class Part(NamedTuple):
    """Cases of a split of a data set: all, or every so many, or the first of them."""

    folder: str
    split: str
    every: int = 1
    first: int | None = None

    def names(self, data: Path) -> list[str]:
        return (data / self.folder / "splits" / f"{self.split}.txt").read_text().split()[: self.first : self.every]

    def ids(self, data: Path) -> list[str]:
        return [f"{self.folder}-{name}" for name in self.names(data)]


class Study(NamedTuple):
    title: str
    budget: float  # seconds of one core per run
    trainers: tuple[str, ...]
    train: tuple[Part, ...]
    test: tuple[Part, ...]


STUDIES = {
    "isic": Study(
        "ISIC 2018",
        300,
        (STOCK, OURS, LITE, f"{LITE}_noPretrain"),
        (Part("isic2018", "repo_train", first=300),),
        (Part("isic2018", "repo_test", every=6),),
    ),
    "polyps": Study(
        "Polyps",
        300,
        (STOCK, LITE),
        (Part("kvasir", "pranet_train"), Part("clinicdb", "pranet_train")),
        (Part("kvasir", "pranet_test"), Part("clinicdb", "pranet_test"), Part("colondb", "all", every=8)),
    ),
}


def prepare(study: Study, data: Path, work: Path) -> None:
    """Training and test images as one data set of nnU-Net, whose fold 0 validates on the test images."""
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

    assert nnUNet_raw
    assert nnUNet_preprocessed
    splits = Path(nnUNet_preprocessed) / "Dataset901_Comparison" / "splits_final.json"
    if splits.exists():
        return
    write_raw(Path(nnUNet_raw) / "Dataset901_Comparison", _pairs(data, (*study.train, *study.test)))
    plan_and_preprocess(batch=BATCH)
    train, test = ([case for part in parts for case in part.ids(data)] for parts in (study.train, study.test))
    splits.write_text(json.dumps([{"train": train, "val": test}]))


def _pairs(data: Path, parts: Iterable[Part]) -> Iterator[tuple[str, Image.Image, np.ndarray]]:
    for part in parts:
        for case, name in zip(part.ids(data), part.names(data), strict=True):
            yield case, *read_pair(data / part.folder, name, (SIZE, SIZE))


def step_seconds(names: tuple[str, ...]) -> dict[str, float]:
    """CPU seconds of a training step with its augmentation: the median of each trainer, all in turn."""
    trainers = {name: _trainer(name) for name in names}
    for trainer in trainers.values():
        trainer.on_train_start()
        trainer.on_train_epoch_start()
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS + 1):
        for name, trainer in trainers.items():
            begin = time.process_time()
            trainer.train_step(next(trainer.dataloader_train))
            found[name].append(time.process_time() - begin)
    return {name: round(statistics.median(seconds[1:]), 4) for name, seconds in found.items()}


def run(name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train and test: the mean Dice per image of every test set."""
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(seed)
    trainer = _trainer(name)
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, STEPS
    begin = time.process_time()
    trainer.run_training()
    spent = time.process_time() - begin
    trainer.inference_allowed_mirroring_axes = None
    trainer.perform_actual_validation(False)
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    dice: dict[str, list[float]] = {}
    for case in summary["metric_per_case"]:
        folder = Path(case["prediction_file"]).name.partition("-")[0]
        dice.setdefault(folder, []).append(case["metrics"]["1"]["Dice"])
    return {"dice": {folder: statistics.fmean(values) for folder, values in dice.items()}, "seconds": round(spent, 1)}


def _trainer(name: str) -> Any:
    from nnunetv2.run.run_training import get_trainer_from_args
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    MetaLogger.plot_progress_png = lambda self, output_folder: None
    trainer = get_trainer_from_args("901", "2d", 0, name, device=torch.device("cpu"))
    trainer.disable_checkpointing = True
    trainer.num_val_iterations_per_epoch = 1
    return trainer


def compare(key: str, data: Path, work: Path) -> None:
    """Every run that the results do not have yet."""
    study, file = STUDIES[key], RESULTS / f"{key}.json"
    call(key, "--prepare", data=data, work=work)
    if file.exists():
        result = json.loads(file.read_text())
    else:
        step = call(key, "--measure", data=data, work=work)
        result = {"machine": machine()["cpu"], "versions": _versions(), "budget": study.budget, "step": step}
        result |= {"runs": []}
    for seed in range(SEEDS):
        for name in study.trainers:
            if any((run["trainer"], run["seed"]) == (name, seed) for run in result["runs"]):
                continue
            epochs = round(study.budget / STEPS / result["step"][name])
            options = ("--run", name, str(seed), str(epochs))
            found = call(key, *options, data=data, work=work)
            result["runs"].append({"trainer": name, "seed": seed, "steps": STEPS * epochs, **found})
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(result["runs"][-1]), flush=True)


def call(key: str, *options: str, data: Path, work: Path) -> Any:
    """One stage in a process of its own, on one thread; what it prints goes to a log."""
    out = work / key / "out.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    variables = {**ALLOCATOR, "OMP_NUM_THREADS": "1", "nnUNet_n_proc_DA": "0" if "--prepare" not in options else "1"}
    command = [sys.executable, "-m", "benchmarks.nnunet_comparison", key, "--data", str(data), "--work", str(work)]
    with (work / key / "log.txt").open("a") as log:
        subprocess.run(
            [*command, "--out", str(out), *options], check=True, stdout=log, stderr=log, env={**os.environ, **variables}
        )
    return json.loads(out.read_text())


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with the tables of the stored results."""
    parts = {key: functools.partial(_section, study, results.get(key)) for key, study in STUDIES.items()}
    return markdown.fill(PAGE.read_text(), parts)


def _section(study: Study, result: Mapping[str, Any] | None) -> str:
    """Per trainer and test set the mean over the seeds, and the lowest and highest; then who won, and whether a seed of
    the next is above one of the winner's.
    """
    if result is None:
        return "Not measured yet."
    folders = sorted(result["runs"][0]["dice"])
    rows, means = [], {}
    for name in study.trainers:
        runs = [run for run in result["runs"] if run["trainer"] == name]
        if not runs:
            continue
        found = {folder: [run["dice"][folder] for run in runs] for folder in folders}
        means[name] = [statistics.fmean(run["dice"].values()) for run in runs]
        dice = [f"{statistics.fmean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in found.values()]
        spent = statistics.fmean(run["seconds"] for run in runs)
        rows.append((name, f"{result['step'][name]:.2f}", runs[0]["steps"], f"{spent:.0f}", len(runs), *dice))
    table = markdown.table(("trainer", "seconds per step", "steps", "seconds", "seeds", *folders), rows)
    best, second, *_ = sorted(means, key=lambda name: -statistics.fmean(means[name]))
    tie = " Their seeds overlap: a tie." if min(means[best]) <= max(means[second]) else ""
    highest, next_ = statistics.fmean(means[best]), statistics.fmean(means[second])
    return f"{table}\n\nHighest mean: {best}, {highest:.3f}; next {second}, {next_:.3f}.{tie}"


def stored() -> dict[str, Any]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "nnunetv2", "timm")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES, nargs="?")
    parser.add_argument("--data", type=Path, help="the folder of the data sets' folders")
    parser.add_argument("--work", type=Path, default=Path("runs/nnunet-comparison"), help="nnU-Net's folders")
    parser.add_argument("--render", action="store_true", help="write the tables of docs/nnunet.md")
    for hidden in ("--prepare", "--measure"):  # the stages, each of which compare() runs in a process of its own
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.render:
        PAGE.write_text(render(stored()))
        return
    if not arguments.study or not arguments.data:
        parser.error("expected a study and --data")
    study, data, work = STUDIES[arguments.study], arguments.data.resolve(), arguments.work.resolve()
    if not arguments.out:
        return compare(arguments.study, data, work)
    in_one_process(work / arguments.study, arguments.out)
    found: Any = {}
    if arguments.prepare:
        prepare(study, data, work)
    else:
        os.environ.update(nnUNet_n_proc_DA="0")  # needed for training in one process, but an error in planning
        torch.set_num_threads(1)
        if arguments.measure:
            found = step_seconds(study.trainers)
        else:
            name, seed, epochs = arguments.run
            found = run(name, int(seed), int(epochs))
    arguments.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
