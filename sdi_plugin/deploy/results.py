"""What a prediction leaves in a folder: mask, overlay, probabilities and contours of one page, each whole or not at
all.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sdi_plugin import files
from sdi_plugin.deploy.contours import geojson
from sdi_plugin.deploy.images import Picture

KINDS = ("masks", "overlays", "probabilities", "contours")
_ROWS = 64  # worked on at a time
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


Rows = NDArray[np.uint8] | NDArray[np.uint16]


@contextmanager
def png(
    path: Path, size: tuple[int, int], dtype: str = "uint8", colours: Sequence[tuple[int, int, int]] = ()
) -> Iterator[Callable[[Rows], None]]:
    """A PNG of (height, width), whole or not at all, from bands of rows that are written as they come.

    Args:
        dtype: of grey rows (H, W); rows (H, W, 3) of uint8 are colours.
        colours: a palette for rows of uint8, the labels' numbers.

    Yields:
        A function that takes the next band.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    compressor, above = zlib.compressobj(6), None
    depth, kind = (8, 3) if colours else (16, 0) if dtype == "uint16" else (8, 2)
    with files.writing(path) as file:
        header = struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, 0)
        file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header))
        if colours:
            file.write(_chunk(b"PLTE", b"".join(bytes(colour) for colour in colours)))

        def add(rows: Rows) -> None:
            nonlocal above
            for top in range(0, len(rows), _ROWS):
                lines = rows[top : top + _ROWS].astype(f">{np.dtype(dtype).str[1:]}", "C").view(np.uint8)
                lines = lines.reshape(len(lines), -1)
                # Each line begins with its filter: 0 for none, 2 for the difference to the line above.
                if not colours:
                    first = np.zeros_like(lines[:1]) if above is None else above
                    above, lines = lines[-1:].copy(), lines - np.concatenate([first, lines[:-1]])
                filtered = np.pad(lines, ((0, 0), (1, 0)), constant_values=0 if colours else 2)
                if compressed := compressor.compress(filtered.tobytes()):
                    file.write(_chunk(b"IDAT", compressed))

        yield add
        file.write(_chunk(b"IDAT", compressor.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@contextmanager
def overlay(path: Path, picture: Picture, colours: Sequence[tuple[int, int, int]]) -> Iterator[Callable[[Rows], None]]:
    """The image with each region tinted, and its border in full colour, from bands of the mask."""
    table = np.array(colours, np.uint8)
    waiting: NDArray[np.uint8] | None = None  # rows whose lower neighbour is not known, below the row above them
    top = 0

    def emit(below: NDArray[np.uint8]) -> None:
        nonlocal top
        assert waiting is not None
        around = np.concatenate([waiting, below])
        for first in range(0, len(waiting) - 1, _ROWS):
            part = around[first : first + _ROWS + 2]
            least = np.asarray(Image.fromarray(part).filter(ImageFilter.MinFilter(3)))[1:-1]
            mask = part[1:-1]
            image = picture.rgb(top, top + len(mask))
            tinted = np.asarray(Image.blend(image, Image.fromarray(table[mask]), _SHARE)).copy()
            tinted[mask == 0] = np.asarray(image)[mask == 0]
            border = (mask > 0) & (mask != least)
            tinted[border] = table[mask[border]]
            add(tinted)
            top += len(mask)

    def add_mask(rows: Rows) -> None:
        nonlocal waiting
        rows = rows.astype(np.uint8, copy=False)
        if waiting is None:
            waiting = np.concatenate([rows[:1], rows])  # beyond the edge: as at the edge
        else:
            emit(rows[:1])
            waiting = np.concatenate([waiting[-1:], rows])

    with png(path, picture.size) as add:
        yield add_mask
        if waiting is not None:
            emit(waiting[-1:])


@contextmanager
def probability_maps(path: Path, size: tuple[int, int], count: int) -> Iterator[Callable[[NDArray[np.float32]], None]]:
    """NAME.png, 16 bits, 65535 for 1; where there are several channels NAME.0.png, NAME.1.png ... by label's number."""
    names = [f".{number}" for number in range(count)] if count > 1 else [""]
    with ExitStack() as stack:
        adds = [
            stack.enter_context(png(path.with_name(f"{path.name.removesuffix('.png')}{name}.png"), size, "uint16"))
            for name in names
        ]

        def add(maps: NDArray[np.float32]) -> None:
            for add_map, map_ in zip(adds, maps, strict=True):
                for top in range(0, len(map_), _ROWS):
                    add_map((map_[top : top + _ROWS] * 65535).round().astype(np.uint16))

        yield add


def write_contours(path: Path, mask: NDArray[np.uint8], labels: Sequence[str]) -> None:
    _bytes(path, json.dumps(geojson(mask, labels)).encode())


def write_json(path: Path, content: Any) -> None:
    _bytes(path, json.dumps(content).encode())


def _bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, content)
