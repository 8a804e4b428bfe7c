"""Image files as a network takes them: upright, every page, 1 or 3 channels, pixels from 0 to 255. No torch here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from sdi_plugin.deploy import large

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MAX_PIXELS = 2**30  # per page: against files that expand to more memory than there is

Array = NDArray[np.float32]


class ImageError(ValueError):
    """Why a file cannot be used, and the cure, in words that follow its name.

    Examples:
        >>> import numpy as np
        >>> from sdi_plugin.deploy import ImageError, Predictor
        >>> try:
        ...     Predictor("unetv2-smp")(np.zeros((8, 8)))
        ... except ImageError as error:
        ...     print(error)
        expected an array (H, W) or (H, W, C) of uint8 or uint16, got (8, 8) float64
    """


@dataclass(frozen=True)
class Picture:
    """One page, decoded. Its pixels become numbers only where they are asked for: a band of a large image, say.

    Attributes:
        image: mode L or RGB; for 16 bits F, scaled to 0 to 255.
        channels: of the arrays that the methods return, 1 or 3.
    """

    image: Image.Image | large.LargeImage
    channels: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.height, self.image.width

    def crop(self, top: int, left: int, bottom: int, right: int) -> Array:
        """A rectangle as (C, H, W)."""
        return self._array(self._part((left, top, right, bottom)))

    def resized(self, size: tuple[int, int]) -> Array:
        """The whole as (C, *size), bilinear with antialiasing, as the demo and torchvision train."""
        height, width = size
        return self._array(self._resized((width, height)))

    def statistics(self) -> tuple[Array, Array]:
        """Mean and standard deviation of each channel over all pixels, in bands."""
        height, width = self.size
        sums = np.zeros((2, self.channels))
        for top in range(0, height, 512):
            band = self.crop(top, 0, min(top + 512, height), width).astype(np.float64)
            sums += band.sum((1, 2)), (band**2).sum((1, 2))
        mean, square = sums / (height * width)
        return mean.astype(np.float32), np.sqrt(np.maximum(square - mean**2, 0)).astype(np.float32)

    def rgb(self, top: int, bottom: int) -> Image.Image:
        """Rows of the page for people to look at."""
        return _seen(self._part((0, top, self.image.width, bottom)))

    def thumbnail(self, largest: int) -> Image.Image:
        """The page for people to look at, no side longer than `largest`."""
        scale = min(1, largest / max(self.size))
        width, height = (max(1, round(side * scale)) for side in (self.image.width, self.image.height))
        return _seen(self._resized((width, height)))

    def _part(self, box: large.Box) -> Image.Image:
        with _explained():  # of a large image, a part may be the first that is damaged
            return self.image.crop(box)

    def _resized(self, size: tuple[int, int]) -> Image.Image:
        with _explained():
            return self.image.resize(size, Image.Resampling.BILINEAR)

    def _array(self, part: Image.Image) -> Array:
        pixels = np.asarray(part, dtype=np.float32)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(np.broadcast_to(pixels, (self.channels, *pixels.shape[1:])))


def pages(path: Path, channels: int) -> Iterator[Picture]:
    """Every page of a file.

    Args:
        channels: 3 for RGB, 1 for grey. Colours become grey, and grey fills all three.

    Convention:
        16 bits: 65535 is white. Transparent pixels are laid on black. The EXIF orientation is applied. Of a camera's
        MPO file only the picture counts, not its previews.

    Raises:
        ImageError: no image, damaged or truncated, too large, numbers without a known range; or another `channels`.
    """
    with _opened(path) as image:
        with _explained():
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        for index in range(count):
            with _explained():
                image.seek(index)
                if image.width * image.height > MAX_PIXELS:
                    raise ImageError(f"expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
                found = large.opened(path, image, index, lambda part: _converted(part, channels))
                picture = Picture(found, channels) if found else from_image(_loaded(image, count), channels)
            yield picture


def from_image(image: Image.Image, channels: int) -> Picture:
    """An image of Pillow, in any of its modes; see `pages`."""
    return Picture(_converted(image, channels), channels)


def _seen(part: Image.Image) -> Image.Image:
    return (part.convert("L") if part.mode == "F" else part).convert("RGB")


def _loaded(image: Image.Image, pages: int) -> Image.Image:
    image.load()
    page = image if pages == 1 else image.copy()  # seek replaces the pixels
    return page if page.getexif().get(Base.Orientation, 1) == 1 else ImageOps.exif_transpose(page)


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """An image in the modes of a `Picture`."""
    if channels not in (1, 3):
        raise ImageError(f"the network takes {channels} channels; image files have 1 or 3")
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise ImageError("floating-point pixels, whose range is not known. Save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    wanted = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def from_array(array: NDArray[Any], channels: int) -> Picture:
    """An array (H, W) or (H, W, C), uint8, or uint16 where it is grey."""
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3):
        raise ImageError(f"expected an array (H, W) or (H, W, C) of uint8 or uint16, got {array.shape} {array.dtype}")
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return from_image(Image.fromarray(array), channels)


def _from_16_bits(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 65535:
        raise ImageError(f"pixels from {low} to {high}, expected 16 bits: 0 to 65535. Scale them")
    return Image.fromarray(pixels.astype(np.float32) / np.float32(257))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # MAX_PIXELS takes its place
    try:
        with _explained():
            image = Image.open(path)
        with image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise ImageError("not an image file that Pillow knows") from error
    except (ImageError, FileNotFoundError):
        raise
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        said = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"unreadable: {said}") from error
