"""Predictions for many files: batches, records of what is finished, bad files, areas and metrics."""

import glob
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sdi_plugin.deploy import images, results, scores, tables
from sdi_plugin.deploy.images import ImageError, Picture
from sdi_plugin.deploy.predictor import Predictor

_RECORDS = ".finished"  # a record per file, written last


class Item(NamedTuple):
    """An input file, and the name of its results in each folder of the output."""

    file: Path
    name: Path


@dataclass
class Summary:
    """What `predict` did.

    Attributes:
        done, skipped: numbers of files that were predicted now, and in an earlier run with the same settings.
        failed: file -> why it cannot be used.
        metrics: of all files that have a truth, as `sdi_plugin.SegmentationMetrics.compute` names them; or empty.

    Examples:
        >>> from sdi_plugin.deploy import Summary
        >>> Summary(done=2).failed
        {}
    """

    done: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def find(inputs: Iterable[str | Path]) -> list[Item]:
    """The files that inputs name: files, folders (all images below them), patterns such as "scans/*.png".

    Raises:
        FileNotFoundError: an input names nothing.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if file.suffix.lower() in images.SUFFIXES)
            named = [(file, file.relative_to(path)) for file in below if file.is_file()]
        elif path.exists():
            named = [(path, Path(path.name))]
        else:
            named = [(Path(name), Path(Path(name).name)) for name in sorted(glob.glob(str(given), recursive=True))]
        if not named:
            raise FileNotFoundError(f"{given}: expected a file, a folder with images or a pattern, found no image.")
        for file, name in named:
            found.setdefault(file, name)
    return _with_names(found)


def _with_names(found: dict[Path, Path]) -> list[Item]:
    """case.jpg becomes case; where two files would share a result, each keeps its suffix, or is numbered."""
    items, taken = [], set()
    stems = [name.with_suffix("") for name in found.values()]
    for (file, name), stem in zip(found.items(), stems, strict=True):
        chosen = stem if stems.count(stem) == 1 else name
        number = 2
        while chosen in taken:
            chosen, number = name.with_name(f"{name.name}-{number}"), number + 1
        taken.add(chosen)
        items.append(Item(file, chosen))
    return items


def predict(
    predictor: Predictor,
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    overlays: bool = False,
    probabilities: bool = False,
    contours: bool = False,
    masks: str | Path | None = None,
    on_file: Callable[[Path, str], None] = lambda file, error: None,
) -> Summary:
    """Write OUT/masks/NAME.png for every page of every input, and OUT/areas.csv.

    A file that is finished is skipped in the next run, unless it or the settings have changed; each result appears
    whole or not at all, also where the process is killed. Files that cannot be used are left out.

    Args:
        inputs: files, folders, patterns, see `Predictor` for what is in them.
        overlays, probabilities, contours: also write OUT/overlays/NAME.png, OUT/probabilities/NAME.png (16 bits, 65535
            for 1) and OUT/contours/NAME.geojson.
        masks: a folder of true masks with the inputs' names, 0 and 255 or 0 and 1, for a network of one foreground;
            writes OUT/metrics.csv, OUT/metrics.json and OUT/report.html.
        on_file: called after each file with the error, or the empty string.

    Returns:
        What was done; `failed` is not empty where a file could not be used.

    Raises:
        FileNotFoundError: an input names nothing.
        ValueError: masks for a network of several foregrounds.

    Examples:
        >>> from sdi_plugin import deploy
        >>> summary = deploy.predict(deploy.Predictor("unetv2-smp"), ["case.jpg"], "predicted", contours=True)
        >>> summary.done, summary.failed
        (1, {})
    """
    out, summary = Path(out), Summary()
    kinds = [
        kind for kind, wanted in zip(results.KINDS, (True, overlays, probabilities, contours), strict=True) if wanted
    ]
    truths = None if masks is None else scores.find(Path(masks))
    settings = _settings(predictor, kinds, masks)
    items = find(inputs)
    pending = []
    for item in items:
        if _record(out, item, settings) is None:
            pending.append(item)
        else:
            summary.skipped += 1
            on_file(item.file, "")

    def finish(item: Item, rows: list[dict[str, Any]], error: str) -> None:
        if error:
            summary.failed[str(item.file)] = error
        else:
            results.write_json(_record_file(out, item), {"key": _key(item, settings), "rows": rows})
            summary.done += 1
        on_file(item.file, error)

    for item, pages in _batches(predictor, pending):
        try:
            rows = [_page(predictor, out, item, *page, kinds, truths) for page in pages]
            finish(item, rows, "")
        except (ImageError, MemoryError) as error:
            finish(item, [], str(error) or type(error).__name__)
    records = [record for item in items if (record := _record(out, item, settings))]
    rows = (row for record in records for row in record)
    summary.metrics = tables.write(out, rows, truths, predictor.card)
    return summary


Page = tuple[int, int, Picture, Any]  # number, count, picture, probabilities where they are already known


def _batches(predictor: Predictor, items: Sequence[Item]) -> Iterator[tuple[Item, Iterator[Page]]]:
    """Each file with its pages. Files of one page that are resized are predicted `batch` at a time."""
    waiting: list[tuple[Item, Picture]] = []

    def flush() -> Iterator[tuple[Item, Iterator[Page]]]:
        if waiting:
            for (item, picture), known in zip(waiting, predictor.whole([p for _, p in waiting]), strict=True):
                yield item, iter([(0, 1, picture, known)])
            waiting.clear()

    for item in items:
        pages = images.pages(item.file, predictor.backend.channels)
        first, error = None, None
        try:
            first = next(pages)
            second = next(pages, None)
        except (ImageError, OSError) as caught:
            second, error = None, caught
        if error is not None or first is None:
            yield item, _failing(error)
        elif second is None and predictor.takes_whole(first):
            waiting.append((item, first))
            if len(waiting) == predictor.batch:
                yield from flush()
        else:
            yield item, _numbered(first, second, pages)
    yield from flush()


def _numbered(first: Picture, second: Picture | None, others: Iterator[Picture]) -> Iterator[Page]:
    count = 1 if second is None else 2
    yield 0, count, first, None
    if second is not None:
        yield 1, count, second, None
    for number, picture in enumerate(others, 2):
        yield number, count, picture, None


def _failing(error: Exception | None) -> Iterator[Page]:
    raise ImageError(str(error))
    yield


def _page(
    predictor: Predictor,
    out: Path,
    item: Item,
    number: int,
    count: int,
    picture: Picture,
    known: Any,
    kinds: Sequence[str],
    truths: dict[str, Path] | None,
) -> dict[str, Any]:
    """Write the results of one page, in bands of rows; returns its row of the tables."""
    name = item.name if count == 1 else item.name.with_name(f"{item.name.name}_page{number + 1}")
    labels, size = predictor.labels, picture.size
    counts, colours = np.zeros(len(labels), np.int64), results.palette(len(labels))
    truth = None if truths is None else scores.truth(truths, name.name, size, labels)
    bands = []
    with ExitStack() as stack:  # the mask, which is opened first, appears last
        add_mask = stack.enter_context(results.png(_path(out, "masks", name, ".png"), size, colours=colours))
        adds = [add_mask]
        if "overlays" in kinds:
            file = _path(out, "overlays", name, ".png")
            adds.append(stack.enter_context(results.overlay(file, picture, colours)))
        add_maps: Callable[[Any], None] = lambda block: None  # noqa: E731
        if "probabilities" in kinds:
            file = _path(out, "probabilities", name, ".png")
            add_maps = stack.enter_context(results.probability_maps(file, size, predictor.backend.classes))
        for top, block in predictor.blocks(picture) if known is None else [(0, known)]:
            band = predictor.mask(block)
            counts += np.bincount(band.ravel(), minlength=len(labels))
            for add in adds:
                add(band)
            add_maps(block)
            if truth is not None:
                truth.add(top, block[-1], band)
            if "contours" in kinds:
                bands.append(band)
        if bands:
            results.write_contours(_path(out, "contours", name, ".geojson"), np.concatenate(bands), labels)
    row: dict[str, Any] = {
        "file": str(item.file),
        "page": number + 1,
        "name": name.as_posix(),
        "height": size[0],
        "width": size[1],
        "pixels": dict(zip(labels, counts.tolist(), strict=True)),
    }
    if truth is not None:
        row["scores"] = truth.scores()
    return row


def _path(out: Path, kind: str, name: Path, suffix: str) -> Path:
    return out / kind / name.with_name(name.name + suffix)


def _settings(predictor: Predictor, kinds: Sequence[str], masks: Any) -> str:
    """A hash of everything on which results depend besides the input."""
    known = (
        *(predictor.backend.identity, predictor.size, predictor.tile, predictor.overlap, len(predictor.flips)),
        *(predictor.threshold, predictor.card.to_json(), list(kinds), str(masks)),
    )
    return hashlib.sha256(json.dumps(known, default=str).encode()).hexdigest()


def _key(item: Item, settings: str) -> list[Any]:
    state = item.file.stat()
    return [settings, str(item.file), state.st_size, state.st_mtime_ns]


def _record_file(out: Path, item: Item) -> Path:
    return _path(out, _RECORDS, item.name, ".json")


def _record(out: Path, item: Item, settings: str) -> list[dict[str, Any]] | None:
    """The rows of a file that is finished, for these settings."""
    try:
        found = json.loads(_record_file(out, item).read_text(encoding="utf-8"))
        return found["rows"] if found["key"] == _key(item, settings) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
