"""An image in overlapping tiles, blended with Gaussian weights band by band: memory does not grow with its height."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along an axis: evenly spread, the last ends at the end, neighbours share `overlap` or more."""
    if length <= tile:
        return [0]
    count = int(np.ceil((length - tile) / max(1, int(tile * (1 - overlap))))) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def weights(height: int, width: int) -> Array:
    """Gaussian weights of a tile's pixels, its deviation an eighth of each side, and never 0."""

    def axis(length: int) -> NDArray[np.float64]:
        return np.exp(-0.5 * ((np.arange(length) - (length - 1) / 2) / (length / 8)) ** 2)

    return np.maximum(np.outer(axis(height), axis(width)), 1e-4).astype(np.float32)


def blend(
    size: tuple[int, int],
    tile: tuple[int, int],
    overlap: float,
    batch: int,
    predict: Callable[[list[tuple[int, int, int, int]]], Array],
) -> Iterator[tuple[int, Array]]:
    """The weighted mean of the tiles' maps, as (first row, (K, rows, W)) from the top down.

    Args:
        size: (height, width) of the image.
        predict: maps (B, K, *tile) for B <= batch rectangles (top, left, bottom, right).
    """
    (height, width), (tile_height, tile_width) = size, (min(a, b) for a, b in zip(tile, size, strict=True))
    tops = starts(height, tile_height, overlap)
    lefts = starts(width, tile_width, overlap)
    weight = weights(tile_height, tile_width)
    total: Array | None = None
    weighed = np.zeros((tile_height, width), np.float32)
    for row, top in enumerate(tops):
        boxes = [(top, left, top + tile_height, left + tile_width) for left in lefts]
        for first in range(0, len(boxes), batch):
            part = boxes[first : first + batch]
            for (_, left, _, right), map_ in zip(part, predict(part), strict=True):
                if total is None:
                    total = np.zeros((map_.shape[0], tile_height, width), np.float32)
                total[:, :, left:right] += map_ * weight
                weighed[:, left:right] += weight
        assert total is not None
        done = (tops[row + 1] if row + 1 < len(tops) else height) - top  # no later tile reaches these rows
        yield top, total[:, :done] / weighed[:done]
        for buffer in (total, weighed[None]):
            kept = tile_height - done
            buffer[:, :kept] = buffer[:, done:].copy()
            buffer[:, kept:] = 0
