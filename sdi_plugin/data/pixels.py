"""Opening one image file: whole, upright, with nothing silently left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

Image.init()  # Pillow registers its formats on the first use, and threads that race for it miss some


class PixelError(ValueError):
    """Why a file cannot be used, and the cure, in words that follow its name."""


@dataclass(frozen=True)
class Loaded:
    """A decoded file.

    Attributes:
        size: width and height of the whole image, upright.
        orientation: the EXIF orientation that was applied, 1 for none.
        lossy: from a JPEG file.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int
    lossy: bool


def load(file: str | Path | IO[bytes], what: str, eighth: bool = False) -> Loaded:
    """Decode a file to its end, and turn it as its EXIF orientation says, as viewers do.

    Args:
        file: a path, or an open file of bytes.
        what: "image" or "mask", for the error.
        eighth: decode JPEG at an eighth of its size, which still reads all of the file, in a fraction of the time.

    Raises:
        PixelError: unreadable or truncated, several frames, or transparent pixels.
    """
    try:
        with Image.open(file) as opened:
            kind, frames = opened.format, getattr(opened, "n_frames", 1)
            size, orientation = opened.size, _orientation(opened)
            if eighth:
                opened.draft(None, (opened.width // 8, opened.height // 8))
            opened.load()
            image, left = opened, _orientation(opened)  # TIFF has none left: Pillow has already turned the image
            if left != 1:
                image = ImageOps.exif_transpose(opened)
                size = size if left < 5 else (size[1], size[0])
        transparent = image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255)
    except UnidentifiedImageError as error:
        raise PixelError(f"unreadable {what}: not an image file that Pillow knows") from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        raise PixelError(f"unreadable {what}: {error}") from error
    if frames > 1 and kind != "MPO":  # a camera's MPO is one JPEG picture with previews behind it
        raise PixelError(f"{what} with {frames} frames, expected one. Save the frame that counts")
    if transparent:
        raise PixelError(
            f"{what} with transparent pixels, whose colour is not defined. Save it without an alpha channel"
        )
    return Loaded(image, size, orientation, kind in ("JPEG", "MPO"))


def check_depth(loaded: Loaded) -> None:
    """Raise a PixelError for an image of more than 8 bits per channel, which would be cut off."""
    if loaded.image.mode.startswith(("I", "F")):
        raise PixelError("image of more than 8 bits per channel. Scale it to 8 bits")


def rgb(loaded: Loaded) -> Image.Image:
    """The image as RGB, 8 bits per channel, see `check_depth`."""
    check_depth(loaded)
    return loaded.image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(Base.Orientation, 1)
    except Exception:  # a damaged EXIF block turns nothing, as in viewers
        return 1
    return value if value in range(1, 9) else 1
