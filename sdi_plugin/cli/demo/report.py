"""What a run leaves behind: metrics.json, report.html (one self-contained file) and a model that smp loads."""

import dataclasses
import html
import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure  # no pyplot: no window system, no global state
from PIL import Image

from sdi_plugin import files
from sdi_plugin.cli import info
from sdi_plugin.cli.demo import train
from sdi_plugin.cli.demo.dataset import Data
from sdi_plugin.deploy import page

RESULTS = ("metrics.json", "report.html")


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
    contact_sheet(overlays(run, data, page.spread(len(metrics.dice)))).save(out / "predictions.png")
    files.write(out / "report.html", page.write("U-Net v2 demo", _sections(run, data, metrics, environment)))
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
        pictures.append(page.outlined(image.permute(1, 2, 0).numpy(), small.numpy(), prediction.numpy()))
    return pictures


def contact_sheet(pictures: list[Image.Image], columns: int = 4) -> Image.Image:
    """The pictures, all of one size, in rows."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * min(columns, len(pictures)), height * -(-len(pictures) // columns)), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


def _sections(run: train.Run, data: Data, metrics: Metrics, environment: dict[str, Any]) -> list[str]:
    settings = [(key, str(value)) for key, value in asdict(run.recipe).items()]
    facts = [
        ("encoder starts from", run.pretrained),
        ("held-out images", f"{len(metrics.dice)}, {metrics.summary['hd95_images']:.0f} of them in the mean of HD95"),
        ("input of the network", f"RGB from 0 to 255, minus {train.MEAN}, divided by {train.STD}"),
        ("training time, s", f"{run.seconds:.0f}"),
    ]
    return [
        f"<h1>U-Net v2 on {html.escape(data.title)}</h1><p>{html.escape(data.note)}</p>",
        "<h2>Metrics on held-out images</h2>" + page.metrics(metrics.summary),
        "<p>Threshold 0.5 on the probability of the last epoch's network; no epoch was selected on these images.</p>",
        "<h2>Curves</h2>" + _curves(run.history),
        "<h2>Some held-out images</h2>" + page.LEGEND + _gallery(run, data, metrics, page.spread(len(metrics.dice))),
        "<h2>The worst</h2>" + _gallery(run, data, metrics, page.worst(metrics.dice)),
        "<h2>Recipe</h2>" + page.table([*facts, *settings]),
        "<h2>Environment</h2><pre>" + html.escape(json.dumps(environment, indent=2)) + "</pre>",
    ]


def _gallery(run: train.Run, data: Data, metrics: Metrics, indices: list[int]) -> str:
    captions = [f"{data.test.names[index]}: Dice {metrics.dice[index]:.3f}" for index in indices]
    return page.gallery(zip(captions, overlays(run, data, indices), strict=True))


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
