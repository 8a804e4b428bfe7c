"""Plots as SVG, the same bytes wherever the same release of matplotlib draws them."""

import io
from collections.abc import Sequence
from typing import Any

from benchmarks.study import compare, tables
from benchmarks.study.settings import PAPER, Setting

_OURS, _OTHERS = "#c2185b", "#666666"


def contest(group: tables.Group, part: str, recommended: Setting | None) -> bytes:
    """Every seed's score as a point, the best network on top, a bar at the mean."""
    rows = [
        (tables.name(documents[0], recommended), [compare.score(d, part) for d in documents], documents[0]["run"])
        for documents in group.values()
    ]
    rows.sort(key=lambda row: (sum(row[1]) / len(row[1]), row[0]))
    figure, (axes,) = _figure(8, 0.9 + 0.28 * len(rows), 1)
    for y, (_, scores, run) in enumerate(rows):
        colour = _OURS if run["network"] == "unetv2" else _OTHERS
        axes.plot(scores, [y] * len(scores), "o", color=colour, markersize=4, alpha=0.6)
        axes.plot([sum(scores) / len(scores)], [y], "|", color=colour, markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), [title for title, _, _ in rows], fontsize=8)
    axes.set_xlabel("mean Dice over sets; a point is a seed", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    return _svg(figure)


def low_data(groups: Sequence[tuple[int, tables.Group]], part: str, recommended: Setting | None) -> bytes:
    """Scores against the share of the training images, the range over seeds shaded.

    Args:
        groups: (per cent, runs), from few to many.
    """
    contenders = sorted({contender for _, group in groups for contender in group})
    figure, (axes,) = _figure(6, 3.6, 1)
    for number, contender in enumerate(contenders):
        points = [(percent, group[contender]) for percent, group in groups if contender in group]
        if len(points) < 2:
            continue
        setting = Setting(**points[0][1][0]["run"]["setting"])
        ours = points[0][1][0]["run"]["network"] == "unetv2"
        scores = [[compare.score(d, part) for d in documents] for _, documents in points]
        xs = [percent for percent, _ in points]
        style: dict[str, Any] = {"color": _OURS if ours and setting == recommended != PAPER else f"C{number}"}
        means = [sum(s) / len(s) for s in scores]
        axes.plot(xs, means, "o-", label=tables.name(points[0][1][0], recommended), **style)
        axes.fill_between(xs, [min(s) for s in scores], [max(s) for s in scores], alpha=0.15, linewidth=0, **style)
    axes.set_xscale("log")
    ticks = [percent for percent, _ in groups]
    axes.set_xticks(ticks, [f"{tick} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("of the training images")
    axes.set_ylabel("mean Dice")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def cost(document: dict[str, Any], group: tables.Group, part: str, recommended: Setting | None) -> bytes:
    """The score against the time of a training step, relative to Unet's."""
    figure, (axes,) = _figure(6, 3.6, 1)
    measured = document["networks"]
    reference = measured["unet"]["step_ms"]["median"]
    for contender, documents in sorted(group.items()):
        if contender not in measured:
            continue
        scores = [compare.score(d, part) for d in documents]
        x, y = measured[contender]["step_ms"]["median"] / reference, sum(scores) / len(scores)
        colour = _OURS if documents[0]["run"]["network"] == "unetv2" else _OTHERS
        axes.errorbar([x], [y], [[y - min(scores)], [max(scores) - y]], fmt="o", color=colour, capsize=2)
        axes.annotate(tables.name(documents[0], recommended), (x, y), (4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("time of a training step, relative to smp's Unet")
    axes.set_ylabel("mean Dice")
    axes.grid(alpha=0.3)
    return _svg(figure)


def _figure(width: float, height: float, panels: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _svg(figure: Any) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    # Ids from a fixed salt, no date, text as text: nothing but the data decides the bytes.
    with matplotlib.rc_context({"svg.hashsalt": "study", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": f"matplotlib {matplotlib.__version__}"})
    return buffer.getvalue()
