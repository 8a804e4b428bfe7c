"""Which pairs of image and mask of a source are good, and what is wrong with the others."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sdi_plugin.data import masks, pixels
from sdi_plugin.data.catalogue import Dataset
from sdi_plugin.data.errors import DataError
from sdi_plugin.data.masks import Mask
from sdi_plugin.data.pixels import Loaded, PixelError
from sdi_plugin.data.recognise import Found
from sdi_plugin.data.source import Source


@dataclass(frozen=True)
class Inspection:
    """What was seen in one pair.

    Attributes:
        problem: None where nothing is wrong.
        jpeg: the image is a JPEG file that may be copied as it is: upright, grey or RGB.
        turned: the two have different EXIF orientations, which were applied.
        scale, empty: the mask's, see `masks.Mask`.
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


def inspect_all(
    source: Source, found: Found, in_threads: Callable[..., list[Any]]
) -> tuple[dict[str, Inspection], list[str]]:
    """The inspections of all good pairs, by id, and everything that is wrong with the others and with the splits.

    Args:
        in_threads: computes [function(item) for item in items] from (function, items, label).
    """
    paired = sorted(found.images.keys() & found.masks.keys())
    problems = []
    for id_ in sorted(found.images.keys() - found.masks.keys()):
        looked_for = " or ".join(re.sub(r"\{\w+\}", id_, pattern) for pattern in found.mask_patterns)
        problems.append(f"{id_}: missing mask (looked for {looked_for})")
    for id_ in sorted(found.masks.keys() - found.images.keys()):
        problems.append(f"{id_}: mask without image ({found.masks[id_]})")

    def inspect_pair(id_: str) -> Inspection:
        try:
            image, mask = source.read(found.images[id_]), source.read(found.masks[id_])
        except Exception as error:  # a damaged archive raises BadZipFile, zlib.error, EOFError ...
            return Inspection(f"unreadable file: {error}")
        return inspect(image, mask)

    inspections = dict(zip(paired, in_threads(inspect_pair, paired, "check"), strict=True))
    bad = {id_: seen.problem for id_, seen in inspections.items() if seen.problem}
    bad |= masks.disagreeing({id_: seen.scale for id_, seen in inspections.items() if id_ not in bad})
    problems += [f"{id_}: {problem}" for id_, problem in sorted(bad.items())]
    for split, ids in found.splits.items():
        problems += [f"{id_}: in split {split}, but there is no such image" for id_ in ids if id_ not in found.images]
    return {id_: seen for id_, seen in inspections.items() if id_ not in bad}, problems


def refuse(
    dataset: Dataset, source: Source, good: dict[str, Inspection], problems: list[str], skip_bad: bool
) -> list[str]:
    """Raise a DataError where a source cannot be written, or return what is worth checking."""
    if problems and not skip_bad:
        raise DataError(
            f"{len(problems)} problem(s) in {source.path}; nothing was written. The first is {problems[0]}. Repair the "
            "source, or leave out what is wrong: skip_bad=True, in the command --skip-bad.",
            problems,
        )
    if not good:
        raise DataError(
            f"no good pair of image and mask of {dataset.name} in {source.path}; nothing was written.", problems
        )
    masks.check_not_all_empty([seen.empty for seen in good.values()], f"{source.path}; nothing was written")
    turned = [id_ for id_, seen in good.items() if seen.turned]
    if not turned:
        return []
    return [
        f"{len(turned)} pairs have an EXIF orientation in one file and another or none in the other. Applied; see "
        f"whether they fit: {first(turned)}"
    ]


def first(ids: list[str]) -> str:
    """The first of them, for a message."""
    return ", ".join(ids[:5]) + (" ..." if len(ids) > 5 else "")
