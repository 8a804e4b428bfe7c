"""Large images, which libvips decodes to a temporary file: the parts that are asked for are all that is in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.Image import Resampling

PIXELS = 2**26  # of a page, above which it is decoded to a file
_BAND = 2**24  # pixels that are resized at a time

Box = tuple[int, int, int, int]  # left, top, right, bottom
# What libvips decodes as Pillow does: for Pillow's modes the bands of libvips' images, and their format.
_MODES = {"L": (1, "uchar"), "RGB": (3, "uchar"), "RGBA": (4, "uchar"), "I;16": (1, "ushort"), "I;16B": (1, "ushort")}
_LOADERS = {"TIFF": "tiffload_source", "PNG": "pngload_source", "JPEG": "jpegload_source"}


class LargeImage:
    """As much of Pillow's `Image` as a `Picture` needs.

    Args:
        pixels: libvips' image.
        mode: Pillow's, of the pixels.
        convert: what every part goes through.
    """

    def __init__(self, pixels: Any, mode: str, convert: Callable[[Image.Image], Image.Image]):
        import pyvips

        self.width, self.height = pixels.width, pixels.height
        # A region is no operation, of which libvips would keep the last hundred with their files.
        self._region = pyvips.Region.new(pixels)
        self._mode = "I;16" if mode == "I;16B" else mode  # libvips gives the processor's order of bytes
        self._convert = convert

    def crop(self, box: Box) -> Image.Image:
        """The pixels of a rectangle. The first call decodes the image."""
        left, top, right, bottom = box
        size = right - left, bottom - top
        return self._convert(Image.frombytes(self._mode, size, self._region.fetch(left, top, *size)))

    def resize(self, size: tuple[int, int], resample: Resampling) -> Image.Image:
        """The whole image at (width, height), bilinear, band by band."""
        width, height = size
        scale = self.height / height
        rows, support = max(1, int(_BAND / (self.width * scale))), max(1.0, scale)
        result = None
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            # The filter reaches beyond a band's own rows.
            first, last = int(max(0, top * scale - support)), min(self.height, int(bottom * scale + support) + 1)
            band = self.crop((0, first, self.width, last))
            inside = (0, top * scale - first, self.width, min(bottom * scale, last) - first)
            resized = band.resize((width, bottom - top), resample, box=inside)
            result = result or Image.new(resized.mode, size)
            result.paste(resized, (0, top))
        assert result is not None
        return result


def opened(
    path: Path, image: Image.Image, page: int, convert: Callable[[Image.Image], Image.Image]
) -> LargeImage | None:
    """A page that is large, or None where Pillow should read it.

    Args:
        image: the file, as Pillow has opened it, at this page.
        convert: see `LargeImage`.
    """
    if image.width * image.height <= PIXELS or image.mode not in _MODES or image.format not in _LOADERS:
        return None
    try:
        import pyvips
    except (ImportError, OSError):  # OSError: there is no libvips
        return None
    options = {"page": page} if image.format == "TIFF" else {}
    source = pyvips.Source.new_from_file(str(path))
    pixels: Any = pyvips.Operation.call(_LOADERS[image.format], source, fail_on="error", **options)
    alike = (pixels.width, pixels.height, pixels.bands, pixels.format) == (*image.size, *_MODES[image.mode])
    upright = not pixels.get_typeof("orientation") or pixels.get("orientation") == 1
    return LargeImage(pixels, image.mode, convert) if alike and upright else None
