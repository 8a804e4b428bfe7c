"""Predictions against true masks: counts band by band, from which all metrics follow."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdi_plugin.deploy import images
from sdi_plugin.deploy.images import ImageError

HD95_PIXELS = 2**24  # of a page, beyond which its distance is left out: it needs some 30 bytes for each


def find(folder: Path) -> dict[str, Path]:
    """name -> file, also without the ending _segmentation of ISIC's masks."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of masks, found none.")
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in images.SUFFIXES]
    return {file.stem.removesuffix("_segmentation"): file for file in found}


def read(file: Path) -> NDArray[np.bool_]:
    """A true mask (H, W).

    Raises:
        ImageError: it cannot be read, or its values allow more than one reading.
    """
    from sdi_plugin.data import masks
    from sdi_plugin.data.pixels import PixelError

    try:
        return np.asarray(masks.read(file).pixels) > 0
    except PixelError as error:
        raise ImageError(f"its mask {file.name}: {error}") from error


class Truth:
    """The true mask of one page, against which bands of its prediction are counted."""

    def __init__(self, mask: NDArray[np.bool_]):
        self._mask = mask
        self._predicted = np.zeros_like(mask)
        self._error = 0.0

    def add(self, top: int, probability: NDArray[np.float32], band: NDArray[np.uint8]) -> None:
        """The foreground's probability and the labels, from row `top` on."""
        rows = slice(top, top + len(band))
        self._predicted[rows] = band == 1
        self._error += float(np.abs(probability.astype(np.float64) - self._mask[rows]).sum())

    def scores(self) -> dict[str, float | None]:
        """tp, fp, fn, tn, mae and hd95, which is None for pages above HD95_PIXELS, inf where one mask is empty."""
        import torch

        from sdi_plugin.metrics import confusion, hd95

        predicted, truth = (torch.from_numpy(mask)[None] for mask in (self._predicted, self._mask))
        counts = {key: int(value) for key, value in confusion(predicted, truth)._asdict().items()}
        distance = float(hd95(predicted, truth)) if self._mask.size <= HD95_PIXELS else None
        return {**counts, "mae": self._error / self._mask.size, "hd95": distance}


def truth(truths: dict[str, Path], name: str, size: tuple[int, int], labels: Sequence[str]) -> Truth | None:
    """The truth of a page, or None where there is none.

    Raises:
        ImageError: it cannot be read, or has another size.
        ValueError: labels of several foregrounds.
    """
    if (file := truths.get(name)) is None:
        return None
    if len(labels) != 2:
        raise ValueError(f"predict: expected masks for one foreground, got the labels {labels}.")
    mask = read(file)
    if mask.shape != size:
        raise ImageError(f"its mask {file.name} has {mask.shape} pixels, the image {size}")
    return Truth(mask)


def metrics(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """For each page file, page, name and its metrics; and what `SegmentationMetrics.compute` returns for all."""
    import torch

    from sdi_plugin.metrics import Confusion, dice, iou, sensitivity, specificity

    ratios = {"dice": dice, "iou": iou, "sensitivity": sensitivity, "specificity": specificity}
    counts = Confusion(*(torch.tensor([row["scores"][name] for row in rows]) for name in Confusion._fields))
    values: dict[str, list[Any]] = {name: ratio(counts).tolist() for name, ratio in ratios.items()}
    values |= {name: [row["scores"][name] for row in rows] for name in ("mae", "hd95")}
    summary = {f"mean_{name}": _mean(values[name]) for name in ratios}
    summary["mae"] = _mean(values["mae"])
    summary |= {f"pooled_{name}": float(ratio(counts.pooled())) for name, ratio in ratios.items()}
    summary |= {"images": len(rows), "mean_hd95": _mean(values["hd95"]), "hd95_images": len(_finite(values["hd95"]))}
    each = [
        {"file": row["file"], "page": row["page"], "name": row["name"], **dict(zip(values, numbers, strict=True))}
        for row, numbers in zip(rows, zip(*values.values(), strict=True), strict=True)
    ]
    return each, summary


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _mean(values: Sequence[float | None]) -> float:
    finite = _finite(values)
    return math.fsum(finite) / len(finite) if finite else math.nan
