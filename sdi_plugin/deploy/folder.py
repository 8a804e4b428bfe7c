"""Predictions for many files: batches, records of what is finished, bad files, areas and metrics."""

import csv
import glob
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sdi_plugin import files
from sdi_plugin.deploy import images, results
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
            writes OUT/metrics.csv and OUT/metrics.json.
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
    truths = None if masks is None else _truths(Path(masks))
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
    _tables(out, [record for item in items if (record := _record(out, item, settings))], summary)
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
    """Write the results of one page; returns its row of the tables."""
    name = item.name if count == 1 else item.name.with_name(f"{item.name.name}_page{number + 1}")
    labels = predictor.labels
    height, width = picture.size
    writer, counts = results.MaskWriter(height, width, len(labels)), np.zeros(len(labels), np.int64)
    bands, kept = [], []
    for _, block in predictor.blocks(picture) if known is None else [(0, known)]:
        band = predictor.mask(block)
        writer.add(band)
        counts += np.bincount(band.ravel(), minlength=len(labels))
        if "overlays" in kinds or "contours" in kinds:
            bands.append(band)
        if "probabilities" in kinds or truths is not None:
            kept.append(block)
    mask = np.concatenate(bands) if bands else None
    whole = np.concatenate(kept, 1) if kept else None
    row: dict[str, Any] = {
        "file": str(item.file),
        "page": number + 1,
        "height": height,
        "width": width,
        "pixels": dict(zip(labels, counts.tolist(), strict=True)),
    }
    if truths is not None and whole is not None:
        row["scores"] = _scores(predictor, truths, name, whole)
    if "overlays" in kinds and mask is not None:
        results.write_overlay(_path(out, "overlays", name, ".png"), picture.rgb(), mask, len(labels))
    if "probabilities" in kinds and whole is not None:
        results.write_probabilities(_path(out, "probabilities", name, ".png"), whole)
    if "contours" in kinds and mask is not None:
        results.write_contours(_path(out, "contours", name, ".geojson"), mask, labels)
    writer.write(_path(out, "masks", name, ".png"))
    return row


def _path(out: Path, kind: str, name: Path, suffix: str) -> Path:
    return out / kind / name.with_name(name.name + suffix)


def _truths(folder: Path) -> dict[str, Path]:
    """name -> file, also without the ending _segmentation of ISIC's masks."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of masks, found none.")
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in images.SUFFIXES]
    return {file.stem.removesuffix("_segmentation"): file for file in found}


def _scores(predictor: Predictor, truths: dict[str, Path], name: Path, probabilities: Any) -> dict[str, float] | None:
    """The counts and errors of one page, from which all metrics follow; None where there is no truth."""
    import torch

    from sdi_plugin.data import masks
    from sdi_plugin.data.pixels import PixelError
    from sdi_plugin.metrics import confusion, mae

    if (file := truths.get(name.name)) is None:
        return None
    if len(predictor.labels) != 2:
        raise ValueError(f"predict: expected masks for one foreground, got the labels {predictor.labels}.")
    try:
        truth = torch.from_numpy(np.array(masks.read(file).pixels) > 0)
    except PixelError as error:
        raise ImageError(f"its mask {file.name}: {error}") from error
    if truth.shape != probabilities.shape[1:]:
        raise ImageError(f"its mask {file.name} has {tuple(truth.shape)} pixels, the image {probabilities.shape[1:]}")
    foreground = torch.from_numpy(np.ascontiguousarray(probabilities[-1]))
    predicted = torch.from_numpy(predictor.mask(probabilities) == 1)
    counts = {key: int(value) for key, value in confusion(predicted[None], truth[None])._asdict().items()}
    return {**counts, "mae": float(mae(foreground[None], truth[None]))}


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


def _tables(out: Path, records: list[list[dict[str, Any]]], summary: Summary) -> None:
    rows = [row for record in records for row in record]
    out.mkdir(parents=True, exist_ok=True)
    areas = [["file", "page", "width", "height", "label", "pixels", "share"]]
    for row in rows:
        place = [row["file"], row["page"], row["width"], row["height"]]
        total = row["width"] * row["height"]
        areas += [[*place, label, pixels, f"{pixels / total:.6f}"] for label, pixels in row["pixels"].items()]
    files.write(out / "areas.csv", _csv(areas))
    scored = [row for row in rows if row.get("scores")]
    if scored:
        summary.metrics = _metrics(out, scored)


def _metrics(out: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    import torch

    from sdi_plugin.metrics import Confusion, dice, iou, sensitivity, specificity

    counts = Confusion(*(torch.tensor([row["scores"][name] for row in rows]) for name in Confusion._fields))
    errors = [row["scores"]["mae"] for row in rows]
    ratios = {"dice": dice, "iou": iou, "sensitivity": sensitivity, "specificity": specificity}
    each = {name: ratio(counts) for name, ratio in ratios.items()}
    summary = {f"mean_{name}": float(values[values.isfinite()].mean()) for name, values in each.items()}
    summary |= {f"pooled_{name}": float(ratio(counts.pooled())) for name, ratio in ratios.items()}
    summary |= {"mae": sum(errors) / len(errors), "images": len(rows)}
    table = [["file", "page", *each, "mae"]]
    for index, row in enumerate(rows):
        table.append([row["file"], row["page"], *(f"{each[name][index]:.6f}" for name in each), f"{errors[index]:.6f}"])
    files.write(out / "metrics.csv", _csv(table))
    results.write_json(out / "metrics.json", {k: v if v == v else None for k, v in summary.items()})
    return summary


def _csv(rows: list[list[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
