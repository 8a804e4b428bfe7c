"""The plots: time and saved memory against image size and against number of levels, for one machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.sdi.cases import LEVELS, SIZES
from benchmarks.sdi.contenders import EAGER, OURS
from benchmarks.sdi.result import Result, Row

DATA = "Description"  # the PNG's text field with the plotted data, which a test compares with the stored result
_COLOURS = {EAGER: "#888888", OURS: "#c2185b"}
_LINES = {
    "size": ("2-D stage, four levels, batch 1: against the image's size", SIZES),
    "levels": ("2-D stage, 512, batch 1: against the number of levels", LEVELS),
}


def images(result: Result) -> list[tuple[str, str, dict[str, Any]]]:
    """(caption, path relative to docs/, data) for every plot whose cases are in the result."""
    found = []
    for axis, (caption, names) in _LINES.items():
        rows = [row for row in result.cases if row.name in names]
        if len({row.name for row in rows}) > 1:
            found.append((caption, f"images/{result.machine.name}-{axis}.png", _data(axis, rows)))
    return found


def write(result: Result, docs: Path) -> None:
    for caption, path, data in images(result):
        _draw(caption, data, docs / path)


def _data(axis: str, rows: list[Row]) -> dict[str, Any]:
    """The axis, its points, and for each panel and contender the values at these points.

    Raises:
        ValueError: the points of a line were not timed in turn with each other.
    """
    by_mode = {
        mode: sorted((row for row in rows if row.mode == mode), key=lambda row: getattr(row.case, axis))
        for mode in ("forward", "forward+backward")
    }
    for mode, line in by_mode.items():
        if len({(row.group, row.threads, row.rounds) for row in line}) != 1:
            raise ValueError(f"plots: expected the {mode} rows of one line from one group, got {line}.")
    training = by_mode["forward+backward"]
    return {
        "axis": axis,
        "points": [getattr(row.case, axis) for row in training],
        "panels": {
            "forward, ms": {name: [row.ms[name].median for row in by_mode["forward"]] for name in _COLOURS},
            "forward + backward, ms": {name: [row.ms[name].median for row in training] for name in _COLOURS},
            "saved for backward, MiB": {name: [row.saved_bytes[name] / 2**20 for row in training] for name in _COLOURS},
        },
    }


def _draw(caption: str, data: Mapping[str, Any], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    axis, points = data["axis"], data["points"]
    for panel, (title, lines) in zip(panels, data["panels"].items(), strict=True):
        for name, values in lines.items():
            panel.plot(points, values, "o-", color=_COLOURS[name], label=name)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel({"size": "image, pixels", "levels": "levels"}[axis])
        panel.set_xticks(points)
        panel.grid(alpha=0.3)
        if axis == "size":  # all grow with the square: on linear axes only the last would be readable
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xticks(points, [str(x) for x in points], fontsize=8)
            panel.minorticks_off()
        else:
            panel.set_ylim(bottom=0)
    panels[0].legend(frameon=False)
    figure.suptitle(caption, fontsize=11)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={DATA: json.dumps(data)})
