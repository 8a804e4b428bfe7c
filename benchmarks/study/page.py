"""The page of results and its plots, and whether those that are there are what the stored results give."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.study import compare, plan, plots, tables
from benchmarks.study.plan import Contest, Factor
from benchmarks.study.settings import PAPER, Protocol, Run, Setting
from benchmarks.study.store import LOG, Document, Store, read

PAGE, IMAGES = "results-study.md", "images"
_HEAD = """\
# Study: when does U-Net v2 help, and at what cost

Written by `python -m benchmarks.study --tables` from the stored results; do not edit. How it is done, and what it
cannot say: `benchmarks/study/README.md`.

Scores are the mean Dice of the images of a set, and "mean Dice" is the mean of the sets. A difference is in points of
Dice, with its 95 % interval by a paired bootstrap over images. It is a tie where it is not above the larger of both
networks' ranges over seeds, or where the interval holds 0. "Images an hour" are of training beside other programs: no
measure of cost, which has its own table.
"""
_ELSEWHERE = """\
## Other protocols, not to be compared with the above

**nnU-Net** trains by its own recipe, and U-Net v2 is compared with its networks there: [in equal
time](nnunet.md#in-equal-time-on-one-core).

**Published.** The official repository's logs give U-Net v2, on PVTv2-B2 at 256 pixels, trained inside nnU-Net for 300
epochs, a Dice of 0.895 and an IoU of 0.810 on ISIC 2017, 0.914 and 0.841 on ISIC 2018: of all pixels of a set together,
where this page takes the mean over images. They come from one training each, whose epoch was chosen on the 650 and 808
images that they are of. The official polyp training tests on the test sets after every epoch and keeps the best.
"""


def files(store: Store) -> dict[str, bytes]:
    """The page and its plots by their path below docs/.

    Raises:
        ValueError: there are no results.
    """
    groups = by_protocol(store)
    if not groups:
        raise ValueError(f"study: no results in {store.folder}. Run the study, or name its folder with --results.")
    choice = plan.chosen(store)
    recommended = choice.setting if choice.complete else None
    made: dict[str, bytes] = {}
    competing = {protocol: _competing(group, choice.setting) for protocol, group in groups.items()}
    parts = [_HEAD, _in_short(competing, recommended), _part_1(choice, groups)]
    parts += [*_part_2(store, competing, recommended, made), *_costs(store, competing, recommended, made), _ELSEWHERE]
    return {PAGE: ("\n\n".join(part.strip() for part in parts if part) + "\n").encode(), **made}


def differing(store: Store, docs: Path) -> list[str]:
    """What in `docs` is not what the stored results give: each file in one line.

    A plot that another release of matplotlib drew is compared by its texts, the rest by their bytes.
    """
    expected, found = files(store), []
    for name, data in expected.items():
        file = docs / name
        if not file.exists():
            found.append(f"{file} is missing")
        elif not _same(file.read_bytes(), data):
            found.append(f"{file} is not what the results give")
    known = {docs / name for name in expected}
    found += [f"{file} is of no result" for file in sorted(docs.glob(f"{IMAGES}/study-*.svg")) if file not in known]
    return found


def by_protocol(store: Store) -> dict[Protocol, dict[str, list[Document]]]:
    """Validation and, where they were read, test results by protocol and contender."""
    groups: dict[Protocol, dict[str, list[Document]]] = {}
    for document in store.all():
        run = Run.from_json(document["run"])
        tested = store.read_test(run)
        merged = {**document, **({"test": tested["test"]} if tested else {})}
        groups.setdefault(run.protocol, {}).setdefault(run.contender, []).append(merged)
    return groups


def _in_short(groups: dict[Protocol, dict[str, list[Document]]], recommended: Setting | None) -> str:
    """U-Net v2 against smp's Unet in a line per protocol and setting, on test images where they were read."""
    lines = []
    for protocol in _contested():
        group = groups.get(protocol, {})
        tested = all("test" in document for documents in group.values() for document in documents)
        part = "test" if tested else "validation"
        for ours in (documents for documents in group.values() if documents[0]["run"]["network"] == "unetv2"):
            found = compare.difference(ours, group.get(plan.REFERENCE, ()), part)
            if found is not None:
                title = f"{tables.name(ours[0], recommended)} against smp Unet, {found.seeds} seeds, {part} images"
                lines.append(f"- {tables.title(protocol)}: {title}: **{tables.difference(found)}**")
    return "\n".join(["## In short", "", *lines]) if lines else ""


def _part_1(choice: plan.Choice, groups: dict[Protocol, dict[str, list[Document]]]) -> str:
    lines = ["## Settings, chosen on validation images"]
    for factor, base, won in choice.steps:
        contenders = {c: d[: factor.seeds] for c, d in groups[factor.protocol].items()}
        lines += [f"### {factor.name}, from {base.title()}", tables.factor(factor, base, won, contenders)]
    if choice.complete:
        lines.append(f"The recommended setting, the best by this rule: **{choice.setting.title()}**.")
    else:
        lines.append("Not all runs of this part are there yet: nothing is recommended so far.")
    return "\n\n".join(lines)


def _part_2(
    store: Store,
    groups: dict[Protocol, dict[str, list[Document]]],
    recommended: Setting | None,
    made: dict[str, bytes],
) -> Iterable[str]:
    log = read(store.folder / LOG)
    for protocol in _contested():
        group = groups.get(protocol, {})
        if len(group) < 2:
            continue
        yield f"## {tables.title(protocol)[0].upper()}{tables.title(protocol)[1:]}"
        tested = {c: [d for d in documents if "test" in d] for c, documents in group.items()}
        tested = {c: documents for c, documents in tested.items() if documents}
        for part, runs in (("validation", group), ("test", tested)):
            if len(runs) < 2:
                continue
            when = f", read once, at {log['begun']}" if part == "test" and log else ""
            yield f"### On the {part} images{when}"
            yield tables.contest(runs, part, recommended)
            image = f"{IMAGES}/study-{protocol.id}-{part}.svg"
            made[image] = plots.contest(runs, part, recommended)
            yield f"![{tables.title(protocol)}, {part} images]({image})"
            lost = tables.losses(runs, part, recommended)
            yield "Losses: " + ("; ".join(lost) if lost else "none above the spread") + "."
            if part == "test":
                yield tables.metrics(runs, part, recommended)
    shares = [(p.percent, p) for p in groups if replace(p, percent=100, epochs=plan.POLYPS.epochs) == plan.POLYPS]
    curve = [(percent, groups[p]) for percent, p in sorted(shares, key=lambda s: s[0])]
    if len(curve) > 1:
        image = f"{IMAGES}/study-low-data.svg"
        made[image] = plots.low_data(curve, "validation", recommended)
        yield f"## Few training images\n\n![Mean Dice against the share of the training images]({image})"


def _costs(
    store: Store,
    groups: dict[Protocol, dict[str, list[Document]]],
    recommended: Setting | None,
    made: dict[str, bytes],
) -> Iterable[str]:
    seen = set()
    for protocol in _contested():
        document, file = store.cost(protocol), store.cost_file(protocol)
        if document is None or file in seen:
            continue
        seen.add(file)
        yield f"## Cost at {protocol.size} pixels on {protocol.encoder}"
        yield f"{document['machine']['cpu']}, {document['threads']} threads, batches of {document['batch']}."
        yield tables.cost(document, recommended)
        group = groups.get(protocol, {})
        if len(group) > 1:
            image = f"{IMAGES}/study-{protocol.size}-{protocol.encoder}-cost.svg"
            made[image] = plots.cost(document, group, "validation", recommended)
            yield f"![Mean Dice against the time of a training step]({image})"


def _contested() -> list[Protocol]:
    """Protocols of networks side by side, in the plan's order."""
    contests = [entry for entry in plan.SEQUENCE if isinstance(entry, Contest)]
    factors = {entry.protocol for entry in plan.SEQUENCE if isinstance(entry, Factor)}
    return list(dict.fromkeys([*factors, *(entry.protocol for entry in contests)]))


def _competing(group: dict[str, list[Document]], best: Setting) -> dict[str, list[Document]]:
    """Without the settings of part 1 that are neither the paper's nor the best (so far)."""
    kept = (PAPER, best)
    return {
        c: d
        for c, d in group.items()
        if d[0]["run"]["network"] != "unetv2" or Setting(**d[0]["run"]["setting"]) in kept
    }


def _same(there: bytes, expected: bytes) -> bool:
    if there == expected:
        return True
    creator = re.compile(rb"<dc:title>matplotlib [^<]*</dc:title>")
    drawn = [creator.search(data) for data in (there, expected)]
    if None in drawn or there.count(b"<use ") != expected.count(b"<use ") or drawn[0][0] == drawn[1][0]:  # pyright: ignore[reportOptionalSubscript]
        return False
    return re.findall(rb"<text[^>]*>([^<]*)", there) == re.findall(rb"<text[^>]*>([^<]*)", expected)
