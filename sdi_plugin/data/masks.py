"""One rule for masks, wherever they are read: which pixels are foreground, or why the file does not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageChops

from sdi_plugin.data import pixels
from sdi_plugin.data.errors import DataError
from sdi_plugin.data.pixels import PixelError

_NOISE = 16  # of JPEG, in an area that was black, and between channels that were equal
_FEW = 8  # lossless files of 3 to this many values are label maps; smoothed masks have more
_CURE = "Save what is foreground as 255, all else as 0"
_SOFT = 0.1  # the share of pixels between dark and bright: 0.01 at the borders of JPEG masks of 256 x 256


@dataclass(frozen=True)
class Mask:
    """`pixels`: mode L, 0 and 1. `scale`: 1 or 255, the file's foreground; None where either would read the same."""

    pixels: Image.Image
    scale: int | None
    orientation: int

    @property
    def empty(self) -> bool:
        return self.pixels.getextrema()[1] == 0


def read(file: str | Path | IO[bytes]) -> Mask:
    """The mask in a file of 0 and 1, or of dark and bright values: above 127 is foreground (16 bits: 32767).

    Palettes and colours count as grey where their channels are equal, one-bit files as they look.

    Raises:
        PixelError: the file cannot be read, or its values allow more than one reading.
    """
    loaded = pixels.load(file, "mask")
    try:
        grey = _grey(loaded.image)
    except PixelError:
        raise
    except ValueError as error:  # a mode that Pillow does not convert
        raise PixelError(f"unreadable mask: {error}") from error
    scale, threshold = (None, 0) if loaded.image.mode == "1" else _scale(grey, loaded.lossy)
    return Mask(Image.fromarray((grey > threshold).astype(np.uint8)), scale, loaded.orientation)


def disagreeing(scales: Mapping[str, int | None]) -> dict[str, str]:
    """{id: problem} of the masks whose scale is not that of most masks of the set.

    A file of 0 and 1 among files of 0 and 255 may hold noise or foreground, a file of 0 and 255 among files of 0 and 1
    pixels to ignore.
    """
    counts = Counter(scale for scale in scales.values() if scale is not None)
    if len(counts) < 2:
        return {}
    usual = max(counts, key=lambda scale: (counts[scale], scale))
    return {
        id_: f"mask of 0 and {scale} among masks of 0 and {usual}. Bring all masks of the set to 0 and 255"
        for id_, scale in scales.items()
        if scale not in (None, usual)
    }


def check_not_all_empty(empty: Sequence[bool], where: str) -> None:
    """Raise a DataError where no mask of the set has foreground."""
    if all(empty):
        raise DataError(f"all {len(empty)} masks are empty in {where}. Take the masks that mark the objects.")


def _grey(image: Image.Image) -> np.ndarray[Any, Any]:
    """One number per pixel."""
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.mode not in ("P", "PA", "RGB", "RGBA"):
        raise PixelError(f"mask of mode {image.mode}, expected grey. Save it as 8-bit grey, foreground 255")
    colours = image.convert("RGB")
    red, green, blue = colours.split()
    spread = [np.asarray(ImageChops.difference(green, other)).max() for other in (red, blue)]
    if max(spread) > _NOISE:
        raise PixelError("mask with colours, of which none is known to be foreground. Save it as grey, foreground 255")
    return np.asarray(colours.convert("L"))


def _scale(grey: np.ndarray[Any, Any], lossy: bool) -> tuple[int | None, int]:
    """The file's foreground (1, 255, None where empty), and the threshold above which a pixel is foreground."""
    low, peak = grey.min(), grey.max()
    if not (low >= 0 and peak <= 65535):  # false for NaN, too
        raise PixelError(f"mask with values from {low} to {peak}, expected 0 and 1, or 0 and 255. {_CURE}")
    if grey.dtype.kind == "f" and (grey % 1).any():
        raise PixelError(f"mask with values that are not whole numbers, expected 0 and 1, or 0 and 255. {_CURE}")
    peak, top = int(peak), 255 if peak <= 255 else 65535
    if peak == 0 or (lossy and peak <= _NOISE):
        return None, top // 2
    if peak == 1:
        return 1, 0
    if peak <= top // 2:
        raise PixelError(f"mask with values up to {peak}, expected 0 and 1, or 0 and 255. {_CURE}")
    counts = np.bincount(grey.astype(np.int64, copy=False).ravel(), minlength=top + 1)
    values = np.flatnonzero(counts)
    if not lossy and 2 < len(values) <= _FEW:
        listed = ", ".join(map(str, values))
        raise PixelError(f"mask with the {len(values)} values {listed}, expected 0 and 1, or 0 and 255. {_CURE}")
    soft = counts[top // 4 : 3 * top // 4].sum() / grey.size
    if len(values) > 2 and soft > _SOFT:
        raise PixelError(f"mask with {soft:.0%} of its pixels between dark and bright, expected 0 and 255. {_CURE}")
    return 255, top // 2
