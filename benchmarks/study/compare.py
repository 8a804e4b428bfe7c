"""Differences between networks: over images by a paired bootstrap, over seeds by their spread."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.study.store import Document

RESAMPLES = 4000
Values = dict[str, np.ndarray]  # by set: (images,)


@dataclass(frozen=True)
class Difference:
    """Of the scores of a network and a reference, at equal seeds.

    Attributes:
        mean: of the seeds' differences; positive where the network is better.
        low, high: the 95 % interval over images.
        spread: the larger of both networks' ranges over seeds.
        seeds: how many both have.
    """

    mean: float
    low: float
    high: float
    spread: float
    seeds: int

    @property
    def verdict(self) -> str:
        """ "win" or "loss" where the difference is above the spread over seeds and its interval is without 0."""
        if self.seeds < 2 or abs(self.mean) <= self.spread or self.low <= 0 <= self.high:
            return "tie" if self.seeds > 1 else "one seed"
        return "win" if self.mean > 0 else "loss"


def score(document: Document, part: str = "validation", metric: str = "dice") -> float:
    """The mean over the sets of their images' mean; 0 for a run that diverged."""
    values = per_set(document, part, metric)
    return float(np.mean([v.mean() for v in values.values()])) if values else 0.0


def per_set(document: Document, part: str, metric: str) -> Values:
    """Finite values of a metric by set, of the image in the mean of the set."""
    return {
        name: np.array([math.nan if value is None else value for value in found[metric]])
        for name, found in document.get(part, {}).items()
    }


def spread(scores: Sequence[float]) -> float:
    """The range over seeds."""
    return max(scores) - min(scores)


def difference(
    network: Sequence[Document],
    reference: Sequence[Document],
    part: str = "validation",
    metric: str = "dice",
    sets: Sequence[str] | None = None,
) -> Difference | None:
    """Compare the runs of two networks at the seeds that both have; None where there is none.

    Args:
        sets: by name; all by default, each of equal weight.

    Raises:
        ValueError: the runs are not of the same images.
    """
    ours, theirs = _by_seed(network, part), _by_seed(reference, part)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    deltas: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        a, b = per_set(ours[seed], part, metric), per_set(theirs[seed], part, metric)
        for name in sets or a:
            if ours[seed][part][name]["images"] != theirs[seed][part][name]["images"]:
                raise ValueError(
                    f"study: {ours[seed]['id']} and {theirs[seed]['id']} are not of the same {name} images."
                )
            deltas.setdefault(name, []).append(a[name] - b[name])
    over_seeds = [np.nanmean(values, axis=0) for values in deltas.values()]
    low, high = interval(over_seeds)
    ranges = []
    for runs in (ours, theirs):
        ranges.append(spread([_mean(runs[seed], part, metric, deltas) for seed in seeds]))
    mean = float(np.mean([np.nanmean(values) for values in over_seeds]))
    return Difference(mean, low, high, max(ranges), len(seeds))


def interval(sets: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % of the mean over sets of the sets' means, images drawn anew within each set."""
    means = np.zeros(RESAMPLES)
    for values in sets:
        finite = values[np.isfinite(values)]
        means += finite[_drawn(len(finite), RESAMPLES)].mean(1) / len(sets)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


@functools.lru_cache(maxsize=8)
def _drawn(count: int, resamples: int) -> np.ndarray:
    return np.random.default_rng(count).integers(count, size=(resamples, count))


def _by_seed(documents: Sequence[Document], part: str) -> dict[int, Document]:
    return {document["run"]["seed"]: document for document in documents if part in document}


def _mean(document: Document, part: str, metric: str, sets: Any) -> float:
    values = per_set(document, part, metric)
    return float(np.mean([np.nanmean(values[name]) for name in sets]))
