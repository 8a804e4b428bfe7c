"""Tables in Markdown, from the stored results alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.study import compare, network
from benchmarks.study.evaluate import FULL
from benchmarks.study.plan import REFERENCE, Factor
from benchmarks.study.settings import PAPER, Protocol, Run, Setting
from benchmarks.study.store import Document

Group = Mapping[str, Sequence[Document]]  # the runs of one protocol, by contender
_TITLES = {
    "kvasir": "Kvasir", "clinicdb": "ClinicDB", "colondb": "ColonDB", "cvc300": "CVC-300", "isic2018": "ISIC 2018",
    "dice": "Dice", "iou": "IoU", "mae": "MAE", "hd95": "HD95, pixels", "s_measure": "S-measure",
    "e_measure": "E-measure", "weighted_f": "weighted F",
}  # fmt: skip
DATA = {"polyps": "polyps", "isic2018": "ISIC 2018"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def contest(group: Group, part: str, recommended: Setting | None) -> str:
    """Networks side by side: Dice by set, and the difference to Unet and to the paper's setting."""
    sets = _sets(group, part)
    references = {"smp Unet": REFERENCE, "paper's setting": Run(Protocol(), setting=PAPER).contender}
    header = [
        "network",
        "seeds",
        "epochs",
        *(f"{_TITLES[s]} Dice / IoU" for s in sets),
        "mean Dice",
        "range over seeds",
    ]
    rows = []
    for contender, documents in _ranked(group, part):
        scores = [compare.score(d, part) for d in documents]
        cells = [f"{_mean(documents, part, s, 'dice'):.3f} / {_mean(documents, part, s, 'iou'):.3f}" for s in sets]
        row = [name(documents[0], recommended), _seeds(documents), str(Run.from_json(documents[0]["run"]).epochs)]
        row += [*cells, f"{np.mean(scores):.4f}", f"{compare.spread(scores):.4f}"]
        for reference in references.values():
            found = compare.difference(documents, group.get(reference, ()), part) if contender != reference else None
            row.append(difference(found))
        rows.append(row)
    return table([*header, *(f"against {title}" for title in references)], rows)


def metrics(group: Group, part: str, recommended: Setting | None) -> str:
    """Every metric by set, the mean over images and seeds."""
    known = [m for m in FULL if all(m in found for d in _all(group, part) for found in d[part].values())]
    rows = [
        [
            name(documents[0], recommended),
            _TITLES[s],
            *(f"{_mean(documents, part, s, m):.{_digits(m)}f}" for m in known),
        ]
        for s in _sets(group, part)
        for _, documents in _ranked(group, part)
    ]
    return table(["network", "set", *(_TITLES[m] for m in known)], rows)


def factor(factor: Factor, base: Setting, won: Mapping[str, Any] | None, group: Group) -> str:
    """One factor of part 1: the setting that it was tried in, and each alternative against it."""
    reference = group[_contender(base)]
    sets = _sets(group, "validation")
    rows = []
    for change in ({}, *factor.changes):
        documents = group[_contender(base, change)]
        scores = [compare.score(d) for d in documents]
        title = ", ".join(f"{key} {value}" for key, value in change.items()) or "as before"
        if change and change == won:
            title += " (chosen)"
        found = compare.difference(documents, reference) if change else None
        cells = [f"{_mean(documents, 'validation', s, 'dice'):.3f}" for s in sets]
        hour = f"{np.mean([d['images_per_hour'] for d in documents]):.0f}"
        row = [title, _seeds(documents), *cells, f"{np.mean(scores):.4f}", f"{compare.spread(scores):.4f}"]
        rows.append([*row, difference(found), hour])
    header = [factor.name, "seeds", *(_TITLES[s] for s in sets), "mean Dice", "range over seeds", "against as before"]
    return table([*header, "images an hour"], rows)


def cost(document: Document, recommended: Setting | None) -> str:
    """What a network costs; times relative to smp's Unet, measured in turns."""
    measured = document["networks"]
    reference = measured[REFERENCE]
    rows = []
    for found in measured.values():
        ratios = [f"{found[key]['median'] / reference[key]['median']:.2f}" for key in ("step_ms", "inference_ms")]
        row = [name(found, recommended), f"{found['parameters'] / 1e6:.2f}", f"{found['gmac']:.2f}"]
        rows.append([*row, f"{found['saved_bytes'] / 2**20:.0f}", *ratios])
    header = ["network", "parameters, M", "GMAC per image", "kept for backward, MiB", "train step", "inference"]
    return table([*header[:4], *(f"{title}, relative to Unet" for title in header[4:])], rows)


def losses(group: Group, part: str, recommended: Setting | None) -> list[str]:
    """Where a setting of U-Net v2 is below another network by more than the spread, in words."""
    found = []
    for ours in (d for d in group.values() if d[0]["run"]["network"] == "unetv2"):
        for theirs in (d for d in group.values() if d[0]["run"]["network"] not in ("unetv2", "unet-sdi")):
            lost = compare.difference(ours, theirs, part)
            if lost is not None and lost.verdict == "loss":
                names = f"{name(ours[0], recommended)} is below {name(theirs[0], recommended)}"
                found.append(f"{names}: {difference(lost)}")
    return found


def difference(found: compare.Difference | None) -> str:
    """In points of Dice, with the interval over images and the verdict."""
    if found is None:
        return "-"
    points = [100 * value for value in (found.mean, found.low, found.high)]
    return f"{points[0]:+.2f} ({points[1]:+.2f} to {points[2]:+.2f}), {found.verdict}"


def name(document: Document, recommended: Setting | None) -> str:
    run = document["run"]
    setting = Setting(**run["setting"])
    if run["network"] == "unetv2" and setting == recommended and setting != PAPER:
        return f"U-Net v2, recommended ({setting.title()})"
    return network.title(run["network"], setting)


def title(protocol: Protocol) -> str:
    start = {"imagenet": "ImageNet weights", "random": "a random start"}[protocol.start]
    share = f", {protocol.percent} % of the training images" if protocol.percent < 100 else ""
    budget = f"{protocol.epochs} epochs" + (" of Unet's time for every network" if protocol.budget == "time" else "")
    return f"{DATA[protocol.data]}, {protocol.size} pixels, {protocol.encoder}, {start}, {budget}{share}"


def _contender(setting: Setting, change: Mapping[str, Any] | None = None) -> str:
    return Run(Protocol(), setting=replace(setting, **(change or {}))).contender


def _ranked(group: Group, part: str) -> list[tuple[str, Sequence[Document]]]:
    return sorted(group.items(), key=lambda item: (-np.mean([compare.score(d, part) for d in item[1]]), item[0]))


def _all(group: Group, part: str) -> list[Document]:
    return [d for documents in group.values() for d in documents if part in d]


def _sets(group: Group, part: str) -> list[str]:
    return list(next((d[part] for d in _all(group, part)), {}))


def _mean(documents: Sequence[Document], part: str, name: str, metric: str) -> float:
    """Over images and seeds; distances that are infinite are left out."""
    values = [compare.per_set(d, part, metric)[name] for d in documents if part in d]
    return float(np.nanmean(values)) if values else float("nan")


def _digits(metric: str) -> int:
    return 1 if metric == "hd95" else 3


def _seeds(documents: Sequence[Document]) -> str:
    diverged = sum(d.get("diverged") is not None for d in documents)
    return f"{len(documents)}" + (f" ({diverged} diverged)" if diverged else "")
