"""Checking and writing one image and its mask."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sdi_plugin.cli.data import masks, pixels
from sdi_plugin.cli.data.masks import Mask
from sdi_plugin.cli.data.pixels import Loaded, PixelError


@dataclass(frozen=True)
class Inspection:
    """What was seen in one pair.

    Attributes:
        problem: None where all is well.
        jpeg: the image is a JPEG file that may be copied as it is: upright, grey or RGB.
        turned: the two have different EXIF orientations, which were applied.
        scale, empty: of the mask, see `masks.Mask`.
    """

    problem: str | None
    jpeg: bool = False
    turned: bool = False
    scale: int | None = None
    empty: bool = False


def inspect(image: bytes, mask: bytes) -> Inspection:
    """Decode both files to their ends, and compare their sizes."""
    try:
        loaded = pixels.load(io.BytesIO(image), "image", eighth=True)
        pixels.check_depth(loaded)
        seen = masks.read(io.BytesIO(mask))
        check_sizes(loaded, seen)
    except PixelError as error:
        return Inspection(str(error))
    return Inspection(
        None,
        jpeg=loaded.lossy and loaded.orientation == 1 and loaded.image.mode in ("L", "RGB"),
        turned=loaded.orientation != seen.orientation,
        scale=seen.scale,
        empty=seen.empty,
    )


def check_sizes(image: Loaded, mask: Mask) -> None:
    """Raise a PixelError where the two differ in size as viewers show them."""
    if mask.pixels.size == image.size:
        return
    text = ""
    for name, size, orientation in (
        ("image", image.size, image.orientation),
        ("mask", mask.pixels.size, mask.orientation),
    ):
        text += f", {name} {size[0]} x {size[1]}"
        if orientation != 1:
            text += f" (EXIF orientation {orientation} applied)"
    cure = "Take the mask that was drawn on this image"
    if mask.pixels.size == image.size[::-1] and (image.orientation, mask.orientation) != (1, 1):
        cure = "Where the mask was drawn on the pixels as stored, remove the orientation from the file that has one"
    raise PixelError(f"size differs: {text[2:]}. {cure}")


def write_rgb(content: bytes, path: Path, size: int | None) -> None:
    """Write an image as upright RGB PNG; with `size`, resized to size x size (bilinear, antialiased)."""
    image = pixels.rgb(pixels.load(io.BytesIO(content), "image"))
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    image.save(path, "PNG")


def write_mask(content: bytes, path: Path, size: int | None) -> bool:
    """Write a mask as upright 8-bit PNG of 0 and 1; with `size`, resized (nearest). Whether it has foreground."""
    mask = masks.read(io.BytesIO(content)).pixels
    if size is not None:
        mask = mask.resize((size, size), Image.Resampling.NEAREST)
    mask.save(path, "PNG")
    return mask.getextrema()[1] == 1
