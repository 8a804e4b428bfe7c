"""One self-contained HTML page about masks: tables of metrics, and images with the outlines of truth and prediction."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRUTH, PREDICTION = (0, 200, 80), (230, 0, 160)
SHOWN = 8  # images in each gallery
LEGEND = (
    f'<p>Left: the image. Right: the outlines of <b style="color:rgb{TRUTH}">truth</b> and '
    f'<b style="color:rgb{PREDICTION}">prediction</b>.</p>'
)
_LABELS = {
    "mean_dice": "Dice, mean over images",
    "mean_iou": "IoU, mean over images",
    "mae": "mean absolute error of the probability",
    "mean_sensitivity": "sensitivity, mean over images",
    "mean_specificity": "specificity, mean over images",
    "mean_hd95": "95th percentile of the Hausdorff distance, pixels, mean over images with both masks",
    "pooled_dice": "Dice, pooled pixels",
    "pooled_iou": "IoU, pooled pixels",
    "pooled_sensitivity": "sensitivity, pooled pixels",
    "pooled_specificity": "specificity, pooled pixels",
}
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}td{padding:.1em 1em .1em 0}"
    "figure{display:inline-block;margin:.5em}figcaption{font-size:80%}pre{font-size:80%;overflow:auto}"
)


def write(title: str, sections: Iterable[str]) -> bytes:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    ).encode()


def table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def metrics(summary: Mapping[str, float]) -> str:
    """What `sdi_plugin.SegmentationMetrics.compute` returns, in words."""
    return table((_LABELS[key], f"{value:.4f}") for key, value in summary.items() if key in _LABELS)


def outlined(pixels: NDArray[np.uint8], truth: NDArray[Any], prediction: NDArray[Any]) -> Image.Image:
    """An image (H, W, 3) beside a copy with the outlines of two boolean masks (H, W)."""
    marked = pixels.copy()
    marked[_outline(truth)] = TRUTH
    marked[_outline(prediction)] = PREDICTION
    return Image.fromarray(np.concatenate([pixels, marked], axis=1))


def _outline(mask: NDArray[Any]) -> NDArray[Any]:
    filled = np.pad(mask, 1)
    inner = filled[:-2, 1:-1] & filled[2:, 1:-1] & filled[1:-1, :-2] & filled[1:-1, 2:]
    return mask & ~inner


def gallery(pictures: Iterable[tuple[str, Image.Image]]) -> str:
    figures = []
    for caption, picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        source, caption = base64.b64encode(buffer.getvalue()).decode(), html.escape(caption)
        image = f'<img alt="{caption}" src="data:image/png;base64,{source}">'
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return "".join(figures)


def spread(count: int) -> list[int]:
    """Indices of a few images, evenly over the list: not chosen by their scores."""
    return [int(i) for i in np.linspace(0, count - 1, min(SHOWN, count))]


def worst(dice: Sequence[float]) -> list[int]:
    return [int(i) for i in np.argsort(dice, kind="stable")[:SHOWN]]
