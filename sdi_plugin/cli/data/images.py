"""Reading, checking and writing one image and its mask."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sdi_plugin.cli.errors import CommandError

Image.init()  # Pillow registers its formats on the first use, and threads that race for it miss some


@dataclass(frozen=True)
class Inspection:
    """What was seen in one pair. `peak` is the mask's largest value; `problem` is None where all is well."""

    problem: str | None
    jpeg: bool = False
    peak: int = 0


def inspect(image: bytes, mask: bytes) -> Inspection:
    """Decode both files to their ends, and compare their sizes."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            size, jpeg = opened.size, opened.format == "JPEG"
            # An eighth of the size still reads all of a JPEG file, and takes a fraction of the time.
            opened.draft(None, (size[0] // 8, size[1] // 8))
            opened.load()
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        return Inspection(f"unreadable image: {error}")
    try:
        with Image.open(io.BytesIO(mask)) as opened:
            mask_size, peak = opened.size, opened.convert("L").getextrema()[1]
    except Exception as error:
        return Inspection(f"unreadable mask: {error}")
    if mask_size != size:
        return Inspection(f"size differs: image {size[0]} x {size[1]}, mask {mask_size[0]} x {mask_size[1]}")
    return Inspection(None, jpeg, int(peak))  # pyright: ignore[reportArgumentType]  (one band: one number)


def mask_threshold(peak: int, owner: str) -> int:
    """The value above which a mask is foreground, by the largest value of all masks of a data set.

    All masks decide: in an empty JPEG mask there is noise above 0.

    Raises:
        CommandError: the largest value is that of neither 0/1 nor 0/255 masks.
    """
    if 1 < peak <= 127:
        raise CommandError(f"expected {owner} to have the values 0/1 or 0/255, got a maximum of {peak}. Convert them.")
    return 0 if peak == 1 else 127


def write_rgb(content: bytes, path: Path, size: int | None) -> None:
    """Write an image as RGB PNG; with `size`, resized to size x size (bilinear, antialiased)."""
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    image.save(path, "PNG")


def write_mask(content: bytes, path: Path, size: int | None, threshold: int) -> None:
    """Write a mask as 8-bit PNG, 1 where it is above `threshold`, else 0; with `size`, resized (nearest)."""
    with Image.open(io.BytesIO(content)) as opened:
        mask = opened.convert("L").point([int(value > threshold) for value in range(256)])
    if size is not None:
        mask = mask.resize((size, size), Image.Resampling.NEAREST)
    mask.save(path, "PNG")
