"""What `predict` shows where it knows the truth: report.html, one self-contained file."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdi_plugin import files
from sdi_plugin.checkpoint.card import Card
from sdi_plugin.deploy import images, page, scores
from sdi_plugin.deploy.images import Picture

_SIDE = 256  # of the longer side of an image that is shown


def write(
    out: Path, truths: Mapping[str, Path], each: Sequence[dict[str, Any]], summary: Mapping[str, float], card: Card
) -> None:
    """OUT/report.html, of the metrics that `scores.metrics` returned, and the masks in OUT."""
    dice = [row["dice"] for row in each]
    facts = [
        ("images", f"{len(each)}, {summary['hd95_images']} of them in the mean of HD95"),
        ("threshold", str(card.threshold)),
        ("labels", ", ".join(card.labels)),
        ("trained on", card.data.get("name", "not known")),
    ]
    sections = [
        "<h1>Predictions against the truth</h1>" + page.table(facts),
        "<h2>Metrics</h2>" + page.metrics(summary),
        "<h2>Some images</h2>" + page.LEGEND + page.gallery(_pictures(out, truths, each, page.spread(len(dice)))),
        "<h2>The worst</h2>" + page.gallery(_pictures(out, truths, each, page.worst(dice))),
        "<h2>The network</h2><pre>" + html.escape(json.dumps(json.loads(card.to_json()), indent=2)) + "</pre>",
    ]
    files.write(out / "report.html", page.write("Predictions of U-Net v2", sections))


def _pictures(
    out: Path, truths: Mapping[str, Path], each: Sequence[dict[str, Any]], indices: Sequence[int]
) -> Iterator[tuple[str, Image.Image]]:
    for row in map(each.__getitem__, indices):
        name = Path(row["name"])
        picture = _page(Path(row["file"]), row["page"]).thumbnail(_SIDE)
        size = picture.size
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own mask, of an image that was accepted
        try:
            predicted = np.asarray(Image.open(out / "masks" / f"{name}.png").resize(size, Image.Resampling.NEAREST))
        finally:
            Image.MAX_IMAGE_PIXELS = limit
        truth = Image.fromarray(scores.read(truths[name.name])).resize(size, Image.Resampling.NEAREST)
        yield f"{name}: Dice {row['dice']:.3f}", page.outlined(np.asarray(picture), np.asarray(truth), predicted == 1)


def _page(file: Path, number: int) -> Picture:
    for index, picture in enumerate(images.pages(file, 3), 1):
        if index == number:
            return picture
    raise ValueError(f"{file}: expected a page {number}.")
