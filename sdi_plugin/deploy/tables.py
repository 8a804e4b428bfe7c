"""The tables of all files of a prediction: areas, and with true masks metrics and a report."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdi_plugin import files
from sdi_plugin.checkpoint.card import Card
from sdi_plugin.deploy import results, scores


def write(out: Path, rows: Iterable[dict[str, Any]], truths: Mapping[str, Path] | None, card: Card) -> dict[str, float]:
    """Write areas.csv of the records' rows, one per page; and where a row has scores, metrics.csv, metrics.json and
    report.html. Returns the metrics of all files that have a truth.
    """
    rows = list(rows)
    out.mkdir(parents=True, exist_ok=True)
    areas = [["file", "page", "width", "height", "label", "pixels", "share"]]
    for row in rows:
        place = [row["file"], row["page"], row["width"], row["height"]]
        total = row["width"] * row["height"]
        areas += [[*place, label, pixels, f"{pixels / total:.6f}"] for label, pixels in row["pixels"].items()]
    files.write(out / "areas.csv", _csv(areas))
    scored = [row for row in rows if row.get("scores")]
    if truths is None or not scored:
        return {}
    from sdi_plugin.deploy import report

    each, metrics = scores.metrics(scored)
    names = [name for name in each[0] if name != "name"]
    files.write(out / "metrics.csv", _csv([names, *([_number(row[name]) for name in names] for row in each)]))
    results.write_json(out / "metrics.json", {k: v if v == v else None for k, v in metrics.items()})
    report.write(out, truths, each, metrics, card)
    return metrics


def _number(value: Any) -> Any:
    return f"{value:.6f}" if isinstance(value, float) else value


def _csv(rows: list[list[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
