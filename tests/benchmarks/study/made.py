"""Stored results made by hand: a network's score is what its test says."""

from collections.abc import Callable

import numpy as np

from benchmarks.study import plan, splits
from benchmarks.study.settings import Run
from benchmarks.study.splits import Image
from benchmarks.study.store import Document, Store

Score = Callable[[Run], float]


def validated(run: Run, score: float, sets: dict[str, int] | None = None) -> Document:
    """A result whose images scatter around `score`, in the same way for all networks."""
    return {
        "id": run.id,
        "run": run.to_json(),
        "images_per_hour": 1000,
        "diverged": None,
        "validation": metrics(score, sets or {"kvasir": 30, "clinicdb": 20}),
    }


def metrics(score: float, sets: dict[str, int], names: tuple[str, ...] = ("dice", "iou", "mae")) -> Document:
    noise = {name: np.random.default_rng(count).normal(0, 0.01, count) for name, count in sets.items()}
    return {
        name: {
            "images": splits.fingerprint([Image(name, str(i)) for i in range(count)]),
            "count": count,
            **{metric: [round(float(score + n), 4) for n in noise[name]] for metric in names},
        }
        for name, count in sets.items()
    }


def fill(store: Store, score: Score, costs: bool = False) -> list[Run]:
    """Store what the plan asks for, in its order, until nothing is missing."""
    done: dict[str, Run] = {}
    while True:
        missing = [run for run in plan.runs(store) if run.id not in done]
        if not missing:
            return list(done.values())
        for run in missing:
            done[run.id] = run
            sets = {"isic2018": 25} if run.protocol.data == "isic2018" else None
            store.write(run, validated(run, score(run), sets))


def seeded(run: Run) -> float:
    """A little of its own for every seed: a range of 0.004 over three."""
    return 0.002 * run.seed


def timed(milliseconds: float) -> dict[str, float]:
    return {"median": milliseconds, "q25": milliseconds, "q75": milliseconds}
