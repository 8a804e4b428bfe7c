"""The scaling plots: time and saved memory against the image's size and against the number of levels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.sdi.cases import LEVELS, SIZES, Case
from benchmarks.sdi.contenders import EAGER, OURS

_COLOURS = {EAGER: "#888888", OURS: "#c2185b"}


def write(result: Mapping[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Draw what the result holds the cases for.

    Returns:
        (caption, file) of every plot written.
    """
    plots = []
    by_size = _series(result, (*SIZES, "2d-stage-352-b1"))
    if len(by_size) > 1:
        plots.append(("2-D stage, four levels, batch 1: against the image's size", by_size, "size", "scaling-size.png"))
    by_levels = _series(result, (*LEVELS, "2d-stage-512-b1"))
    if len(by_levels) > 1:
        plots.append(
            ("2-D stage, 512, batch 1: against the number of levels", by_levels, "levels", "scaling-levels.png")
        )
    for caption, rows, axis, name in plots:
        _draw(caption, rows, axis, folder / name)
    return [(caption, folder / name) for caption, _, _, name in plots]


def _series(result: Mapping[str, Any], names: tuple[str, ...]) -> dict[Case, dict[str, Mapping[str, Any]]]:
    """The rows of some cases, by case and mode, of the largest number of threads that each was measured at."""
    found: dict[Case, dict[str, Mapping[str, Any]]] = {}
    for row in sorted(result["cases"], key=lambda row: row["threads"]):
        if row["name"] in names:
            found.setdefault(Case.parse(row["name"]), {})[row["mode"]] = row
    return dict(sorted(found.items(), key=lambda item: (item[0].size, item[0].levels)))


def _draw(caption: str, rows: Mapping[Case, Mapping[str, Mapping[str, Any]]], axis: str, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    xs = [getattr(case, axis) for case in rows]
    for panel, title, get in (
        (panels[0], "forward, ms", lambda row, name: row["forward"]["ms"][name]["median"]),
        (panels[1], "forward + backward, ms", lambda row, name: row["forward+backward"]["ms"][name]["median"]),
        (panels[2], "saved for backward, MiB", lambda row, name: row["forward+backward"]["saved_bytes"][name] / 2**20),
    ):
        for name, colour in _COLOURS.items():
            panel.plot(xs, [get(row, name) for row in rows.values()], "o-", color=colour, label=name)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel({"size": "image, pixels", "levels": "levels"}[axis])
        panel.set_xticks(xs)
        panel.grid(alpha=0.3)
        if axis == "size":  # all grow with the square: on linear axes only the last could be read
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            panel.set_xticks(xs, [str(x) for x in xs], fontsize=8)
            panel.minorticks_off()
        else:
            panel.set_ylim(bottom=0)
    panels[0].legend(frameon=False)
    figure.suptitle(caption, fontsize=11)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
