"""Make the runs that are missing: one after the other, several workers side by side if wanted, killed at will."""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import environment
from benchmarks.study import images, plan, splits
from benchmarks.study.encoders import ENCODERS
from benchmarks.study.evaluate import evaluate
from benchmarks.study.processes import ALONE, Processes
from benchmarks.study.settings import Run
from benchmarks.study.store import Document, Store
from benchmarks.study.train import Trained, save_weights, train


@dataclass(frozen=True)
class Place:
    """Where the study reads and writes.

    Args:
        data: the data sets' folders.
        out: results/ (JSON), work/ (checkpoints and weights) and cache/ (decoded images).
        weights: see `load_imagenet`.
    """

    data: Path
    out: Path
    weights: Path | None = None

    @property
    def store(self) -> Store:
        return Store(self.out / "results")

    def folder(self, run: Run) -> Path:
        return self.out / "work" / run.id

    def load(self, listed: list[splits.Image], size: int) -> images.Images:
        return images.load(self.data, listed, size, self.out / "cache")


def work(place: Place, *, wanted: Callable[[Run], bool] = lambda run: True, say: Callable[[str], None] = print) -> int:
    """Make what is missing, in the plan's order, until nothing is. Returns how many runs were made.

    A run that another worker has begun is left to it.
    """
    made = 0
    while True:
        run = next((run for run in missing(place.store) if wanted(run) and not _is_taken(place, run)), None)
        if run is None:
            return made
        with _taken(place, run) as free:
            if free and place.store.read(run) is None:
                make(run, place, say=say)
                made += 1


def missing(store: Store) -> Iterator[Run]:
    return (run for run in plan.runs(store) if store.read(run) is None)


def make(run: Run, place: Place, *, say: Callable[[str], None] = print) -> Document:
    """Train, validate and store one run; or copy it, where the same training is there under another budget."""
    twin = replace(run, protocol=replace(run.protocol, budget="epochs", epochs=run.epochs), own_epochs=None)
    done = None if twin == run else place.store.read(twin)
    if done is not None:
        document = {**done, "id": run.id, "run": run.to_json(), "copy_of": twin.id}
        place.store.write(run, document)
        return document
    return train_and_store(run, place, say=say)


def train_and_store(
    run: Run,
    place: Place,
    *,
    group: Processes = ALONE,
    device: str = "cpu",
    most_steps: int | None = None,
    say: Callable[[str], None] = print,
) -> Document:
    """The run's document, which the first process stores."""
    listed, validation = splits.training(run.protocol.data, place.data)
    listed = splits.share(listed, run.protocol.percent, run.seed)
    if group.first:
        place.load(listed, run.protocol.size)  # one process fills the cache
    group.wait()
    trained = train(
        run,
        place.load(listed, run.protocol.size),
        place.folder(run),
        device=device,
        weights=place.weights,
        processes=group,
        most_steps=most_steps,
        say=say if group.first else lambda line: None,
    )
    document = _document(run, trained, listed) | {"processes": group.count, "most_steps": most_steps}
    if group.first:
        if trained.diverged is None:
            document["validation"] = measured(trained.model, run, validation, place)
            save_weights(trained.model, place.folder(run))
        place.store.write(run, document)
    group.wait()
    return document


def measured(model: torch.nn.Module, run: Run, sets: splits.Named, place: Place, *, full: bool = False) -> Document:
    """By set: which images, and their metrics."""
    found: Document = {}
    for name, listed in sets.items():
        values = evaluate(model, place.load(listed, run.protocol.size), ENCODERS[run.protocol.encoder], full=full)
        found[name] = {"images": splits.fingerprint(listed), "count": len(listed), **values}
    return found


def _document(run: Run, trained: Trained, listed: list[splits.Image]) -> Document:
    import segmentation_models_pytorch as smp
    import timm

    import sdi_plugin

    versions = {module.__name__: module.__version__ for module in (torch, smp, timm, sdi_plugin)}
    seconds = sum(trained.seconds)
    machine: dict[str, Any] = environment.machine()
    return {
        "id": run.id,
        "run": run.to_json(),
        "start": trained.start,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "train": {"images": splits.fingerprint(listed), "count": len(listed), "seen": trained.images},
        "losses": [round(loss, 5) for loss in trained.losses],
        "seconds": [round(s, 1) for s in trained.seconds],
        "images_per_hour": round(trained.images / seconds * 3600),
        "diverged": trained.diverged,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions,
        "machine": {key: machine[key] for key in ("cpu", "cores", "gpus", "load_before")},
        "threads": torch.get_num_threads(),
        "commit": environment.commit(),
        "environment": environment.settings(),
    }


def _lock(place: Place, run: Run) -> Path:
    return place.out / "work" / f"{run.id.replace('/', '-')}.lock"


def _is_taken(place: Place, run: Run) -> bool:
    with _taken(place, run) as free:
        return not free


@contextmanager
def _taken(place: Place, run: Run) -> Iterator[bool]:
    """Hold the run's lock, which ends with the process; False where another worker has it."""
    file = _lock(place, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        handle.write(str(os.getpid()))
        handle.flush()
        yield True


def matching(words: Iterable[str]) -> Callable[[Run], bool]:
    """Runs whose id has every one of the words."""
    return lambda run: all(word in run.id for word in words)
