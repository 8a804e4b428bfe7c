"""The study as data: what is trained, in order, the most valuable first.

Part 1 varies one factor at a time from the best setting so far; what is best is chosen by `chosen` from the validation
results, so that the plan grows as results come in and is the same wherever the same results are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.study.compare import difference
from benchmarks.study.settings import PAPER, Protocol, Run, Setting
from benchmarks.study.store import Document, Store

POLYPS = Protocol()
ISIC = Protocol(data="isic2018")
LONG = Protocol(epochs=16)  # what remains of a difference in a longer training
REFERENCE = "unet"  # whose time is the budget at equal time


@dataclass(frozen=True)
class Factor:
    """Alternatives of one part, each tried in the best setting so far."""

    name: str
    changes: tuple[dict[str, Any], ...]
    seeds: int = 3
    protocol: Protocol = POLYPS


@dataclass(frozen=True)
class Contest:
    """Networks side by side. "paper" and "recommended" are U-Net v2 in these settings."""

    networks: tuple[str, ...]
    seeds: int = 3
    protocol: Protocol = POLYPS


_ALL = ("recommended", "paper", "unet", "fpn", "unetplusplus", "manet", "segformer", "upernet", "unet-sdi")
_SHORT = ("recommended", "paper", "unet", "fpn")
_LOW_DATA = ((5, 64), (10, 40), (25, 20), (50, 12))  # per cent of the images, epochs

START = Factor("start", ({"init": "unit"},))
NORM = Factor("norm", ({"norm": "batch"}, {"norm": "layer"}))
SUM = Factor("sum", ({"combine": "sum"},))
FUSIONS = Factor("fusion of levels", ({"combine": "concat"}, {"combine": "attention"}))
LEVELS = Factor("levels", ({"stride2": False}, {"logits_stride": 4}, {"stride2": False, "logits_stride": 2}))
STEM = Factor("stem", ({"stem": True},))
HEADS = Factor("heads", ({"heads": 1}, {"heads": "all"}))
OUTPUT = Factor("output", ({"output": "sum"}, {"output": "sum", "sum_term": True}))
WIDTH = Factor("width", ({"channels": 64},))
ATTENTION = Factor("attention", ({"cbam": False},))
BOUND = Factor("bound", ({"fusion": "asinh"},))

SEQUENCE: tuple[Factor | Contest, ...] = (
    START,
    NORM,
    SUM,
    Contest(("unet", "fpn")),
    LEVELS,
    HEADS,
    OUTPUT,
    FUSIONS,
    ATTENTION,
    WIDTH,
    BOUND,
    STEM,
    Contest(_SHORT),
    Contest(_SHORT, protocol=ISIC),
    Contest(("recommended", "paper", "unet"), protocol=LONG),
    Contest(_ALL),
    Contest(_ALL, seeds=5),
    Contest(_ALL, seeds=5, protocol=replace(POLYPS, budget="time")),
    Contest(_SHORT, seeds=5, protocol=ISIC),
    Contest(_SHORT, protocol=replace(ISIC, budget="time")),
    *(
        Contest(("recommended", "paper", "unet"), protocol=replace(POLYPS, percent=percent, epochs=epochs))
        for percent, epochs in _LOW_DATA
    ),
    Contest(("recommended", "paper", "unet"), protocol=replace(POLYPS, size=224)),
    Contest(_SHORT, protocol=replace(POLYPS, encoder="lite2")),
    Contest(("recommended", "unet"), protocol=replace(POLYPS, start="random", epochs=16)),
)
_PART_1 = tuple(entry for entry in SEQUENCE if isinstance(entry, Factor))


@dataclass
class Choice:
    """What part 1 has come to.

    Attributes:
        setting: the best so far.
        steps: the factor, the setting that it was tried in, and the change that won, if any.
        complete: whether every factor has all of its runs.
    """

    setting: Setting = PAPER
    steps: list[tuple[Factor, Setting, dict[str, Any] | None]] = field(default_factory=list)
    complete: bool = True


def chosen(store: Store) -> Choice:
    """Go through the factors; the best of the changes that beat the best so far by more than the spread is taken."""
    choice = Choice()
    for factor in _PART_1:
        base = [store.read(run) for run in _seeded(factor.protocol, choice.setting, factor.seeds)]
        best, gain = None, 0.0
        for change in factor.changes:
            tried = [store.read(r) for r in _seeded(factor.protocol, replace(choice.setting, **change), factor.seeds)]
            if None in base or None in tried:
                choice.complete = False
                return choice
            found = difference(_present(tried), _present(base))
            if found is not None and found.verdict == "win" and found.mean > gain:
                best, gain = change, found.mean
        choice.steps.append((factor, choice.setting, best))
        choice.setting = replace(choice.setting, **(best or {}))
    return choice


def runs(store: Store) -> Iterator[Run]:
    """Every run that can be named by now, in order, those that are done too; some appear more than once."""
    choice = chosen(store)
    bases = [base for _, base, _ in choice.steps] + [choice.setting]  # the last is that of the factor under way
    for entry in SEQUENCE:
        if isinstance(entry, Contest):
            yield from _contest(entry, store, choice)
        elif _PART_1.index(entry) < len(bases):
            base = bases[_PART_1.index(entry)]
            for change in ({}, *entry.changes):
                yield from _seeded(entry.protocol, replace(base, **change), entry.seeds)


def _contest(contest: Contest, store: Store, choice: Choice) -> Iterator[Run]:
    for seed in range(contest.seeds):
        for name in contest.networks:
            if name == "recommended" and not choice.complete:
                continue
            setting = choice.setting if name == "recommended" else PAPER
            network = "unetv2" if name in ("recommended", "paper") else name
            run = Run(contest.protocol, network, setting, seed)
            if contest.protocol.budget == "time":
                epochs = epochs_at_equal_time(run, store)
                if epochs is None:
                    continue
                run = replace(run, own_epochs=epochs)
            yield run


def epochs_at_equal_time(run: Run, store: Store) -> int | None:
    """Epochs of a network in the time of the reference's; None where the step times were not measured."""
    measured = (store.cost(run.protocol) or {}).get("networks", {})
    if run.contender not in measured or REFERENCE not in measured:
        return None
    ratio = measured[REFERENCE]["step_ms"]["median"] / measured[run.contender]["step_ms"]["median"]
    return max(1, round(run.protocol.epochs * ratio))


def _seeded(protocol: Protocol, setting: Setting, seeds: int) -> list[Run]:
    return [Run(protocol, "unetv2", setting, seed) for seed in range(seeds)]


def _present(documents: Sequence[Document | None]) -> list[Document]:
    return [document for document in documents if document is not None]
