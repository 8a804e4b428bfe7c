"""What a run leaves behind: metrics.json, report.html (one self-contained file) and a model that smp loads."""

import base64
import dataclasses
import html
import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure  # no pyplot: no window system, no global state
from PIL import Image
from scipy import ndimage
from torch import Tensor

from sdi_plugin import files
from sdi_plugin.cli import info
from sdi_plugin.cli.demo import train
from sdi_plugin.cli.demo.dataset import Data

_TRUTH, _PREDICTION = (0, 200, 80), (230, 0, 160)
_SHOWN = 8
RESULTS = ("metrics.json", "report.html")
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


@dataclass(frozen=True)
class Metrics:
    summary: dict[str, float]
    dice: list[float]


def evaluate(run: train.Run, data: Data) -> Metrics:
    metrics = train.evaluate(run.model, data.test, run.recipe.batch, hd95=True)
    return Metrics(metrics.compute(), [float(value) for value in metrics.per_image()["dice"]])


def write(out: Path, run: train.Run, data: Data, metrics: Metrics) -> None:
    """Write the results; metrics.json comes last, so that its presence says that everything is there."""
    (out / "metrics.json").unlink(missing_ok=True)
    scores = {"mean_dice": metrics.summary["mean_dice"]}
    run.model.card = dataclasses.replace(train.card(run.recipe, run.model, data), metrics=_finite(metrics.summary))
    run.model.save_pretrained(out / "model", dataset=data.title, metrics=scores)  # pyright: ignore[reportCallIssue]
    environment = info.collect()
    contact_sheet(overlays(run, data, _spread(metrics))).save(out / "predictions.png")
    files.write(out / "report.html", _page(run, data, metrics, environment).encode())
    document = {
        **{key: _finite(metrics.summary).get(key) for key in metrics.summary},  # JSON has no nan
        "seconds": round(run.seconds, 1),
        "data": data.title,
        "recipe": asdict(run.recipe),
        "input": {"size": run.recipe.size, "mean": train.MEAN, "std": train.STD},
        "encoder_start": run.pretrained,
        "versions": environment["versions"],
    }
    files.write(out / "metrics.json", (json.dumps(document, indent=2) + "\n").encode())


def _finite(scores: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in scores.items() if math.isfinite(value)}


def overlays(run: train.Run, data: Data, indices: list[int]) -> list[Image.Image]:
    """Each image beside a copy with the outlines of truth and prediction."""
    pictures = []
    for index in indices:
        image, truth = data.test.images[index], data.test.masks[index]
        size = (run.recipe.size, run.recipe.size)
        prediction = train.predict(run.model, image[None], size)[0, 0] > 0.5
        small = torch.nn.functional.interpolate(truth[None].float(), size)[0, 0] > 0.5
        pixels = image.permute(1, 2, 0).numpy().copy()
        outlined = pixels.copy()
        outlined[_outline(small)] = _TRUTH
        outlined[_outline(prediction)] = _PREDICTION
        pictures.append(Image.fromarray(np.concatenate([pixels, outlined], axis=1)))
    return pictures


def contact_sheet(pictures: list[Image.Image], columns: int = 4) -> Image.Image:
    """The pictures, all of one size, in rows."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * min(columns, len(pictures)), height * -(-len(pictures) // columns)), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


def _spread(metrics: Metrics) -> list[int]:
    """Indices of a few images, evenly over the held-out list: not chosen by their scores."""
    count = len(metrics.dice)
    return [int(i) for i in np.linspace(0, count - 1, min(_SHOWN, count))]


def _outline(mask: Tensor) -> np.ndarray[Any, Any]:
    filled = mask.numpy()
    return filled & ~ndimage.binary_erosion(filled, iterations=1)


def _page(run: train.Run, data: Data, metrics: Metrics, environment: dict[str, Any]) -> str:
    worst = [int(i) for i in np.argsort(metrics.dice, kind="stable")[:_SHOWN]]
    legend = (
        f'<p>Left: the image. Right: the outlines of <b style="color:rgb{_TRUTH}">truth</b> and '
        f'<b style="color:rgb{_PREDICTION}">prediction</b>.</p>'
    )
    rows = [(_LABELS[key], f"{value:.4f}") for key, value in metrics.summary.items() if key in _LABELS]
    settings = [(key, str(value)) for key, value in asdict(run.recipe).items()]
    facts = [
        ("encoder starts from", run.pretrained),
        ("held-out images", f"{len(metrics.dice)}, {metrics.summary['hd95_images']:.0f} of them in the mean of HD95"),
        ("input of the network", f"RGB from 0 to 255, minus {train.MEAN}, divided by {train.STD}"),
        ("training time, s", f"{run.seconds:.0f}"),
    ]
    sections = [
        f"<h1>U-Net v2 on {html.escape(data.title)}</h1><p>{html.escape(data.note)}</p>",
        "<h2>Metrics on held-out images</h2>" + _table(rows),
        "<p>Threshold 0.5 on the probability of the last epoch's network; no epoch was selected on these images.</p>",
        "<h2>Curves</h2>" + _curves(run.history),
        "<h2>Some held-out images</h2>" + legend + _gallery(run, data, metrics, _spread(metrics)),
        "<h2>The worst</h2>" + _gallery(run, data, metrics, worst),
        "<h2>Recipe</h2>" + _table([*facts, *settings]),
        "<h2>Environment</h2><pre>" + html.escape(json.dumps(environment, indent=2)) + "</pre>",
    ]
    style = (
        "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}td{padding:.1em 1em .1em 0}"
        "figure{display:inline-block;margin:.5em}figcaption{font-size:80%}pre{font-size:80%;overflow:auto}"
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>U-Net v2 demo</title>'
        f"<style>{style}</style></head><body>{''.join(sections)}</body></html>\n"
    )


def _gallery(run: train.Run, data: Data, metrics: Metrics, indices: list[int]) -> str:
    figures = []
    for index, picture in zip(indices, overlays(run, data, indices), strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        source = base64.b64encode(buffer.getvalue()).decode()
        caption = f"{html.escape(data.test.names[index])}: Dice {metrics.dice[index]:.3f}"
        image = f'<img alt="{caption}" src="data:image/png;base64,{source}">'
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return "".join(figures)


def _curves(history: list[dict[str, float]]) -> str:
    figure = Figure(figsize=(8, 3), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    for axes, key, title in zip(
        figure.subplots(1, 2), ("loss", "mean_dice"), ("training loss", "held-out mean Dice"), strict=True
    ):
        axes.plot(epochs, [entry[key] for entry in history], marker="o")
        axes.set(title=title, xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
        axes.grid(alpha=0.3)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"
