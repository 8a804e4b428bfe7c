"""What a prediction leaves in a folder: mask, overlay, probabilities and contours of one page, each whole or not at
all.
"""

import io
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sdi_plugin import files
from sdi_plugin.deploy.contours import geojson

KINDS = ("masks", "overlays", "probabilities", "contours")
_SHARE = 0.4  # of the label's colour inside a region of an overlay


def palette(count: int) -> list[tuple[int, int, int]]:
    """A colour for each label; the background is black, and neighbouring numbers differ much (PASCAL VOC's rule)."""
    colours = []
    for number in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        colours.append(tuple(channels))
    return colours


class MaskWriter:
    """A PNG whose pixels are the labels' numbers, with a palette for people, from bands of rows: only its compressed
    bytes are kept.
    """

    def __init__(self, height: int, width: int, count: int):
        colours = b"".join(bytes(colour) for colour in palette(count))
        header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, palette
        self._parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header), _chunk(b"PLTE", colours)]
        self._compressor = zlib.compressobj(6)

    def add(self, rows: NDArray[np.uint8]) -> None:
        # Each row begins with its filter, 0 for none.
        compressed = self._compressor.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
        if compressed:
            self._parts.append(_chunk(b"IDAT", compressed))

    def write(self, path: Path) -> None:
        rest = [_chunk(b"IDAT", self._compressor.flush()), _chunk(b"IEND", b"")]
        _bytes(path, b"".join(self._parts + rest))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_overlay(path: Path, picture: Image.Image, mask: NDArray[np.uint8], count: int) -> None:
    """The image with each region tinted, and its border in full colour."""
    colours = np.array(palette(count), np.uint8)
    tinted = np.asarray(Image.blend(picture, Image.fromarray(colours[mask]), _SHARE)).copy()
    background = mask == 0
    tinted[background] = np.asarray(picture)[background]
    border = (mask > 0) & (mask != np.asarray(Image.fromarray(mask).filter(ImageFilter.MinFilter(3))))
    tinted[border] = colours[mask[border]]
    _write(path, Image.fromarray(tinted))


def write_probabilities(path: Path, probabilities: NDArray[np.float32]) -> None:
    """NAME.png, 16 bits, 65535 for 1; where there are several channels NAME.0.png, NAME.1.png ... by label's number."""
    for number, map_ in enumerate(probabilities):
        name = f".{number}" if len(probabilities) > 1 else ""
        grey = Image.fromarray((map_ * 65535).round().astype(np.uint16))
        _write(path.with_name(f"{path.name.removesuffix('.png')}{name}.png"), grey)


def write_contours(path: Path, mask: NDArray[np.uint8], labels: Sequence[str]) -> None:
    _bytes(path, json.dumps(geojson(mask, labels)).encode())


def write_json(path: Path, content: Any) -> None:
    _bytes(path, json.dumps(content).encode())


def _write(path: Path, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    _bytes(path, buffer.getvalue())


def _bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, content)
