"""The demo's images in memory: synthetic, or read from a folder in the plain layout."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from sdi_plugin import memory
from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.cli.errors import CommandError
from sdi_plugin.data import masks, pixels, recognise, splits
from sdi_plugin.data.check import check_sizes
from sdi_plugin.data.pixels import PixelError

Item = TypeVar("Item")
DRAWN_TRAIN, DRAWN_TEST = 256, 64
_SHOWN = 20  # problems in one error


@dataclass(frozen=True)
class Split:
    """Images (N, 3, size, size) uint8 for the network, and one mask (1, H, W) bool for each.

    The masks for training have the network's size; those for testing keep their own.
    """

    names: list[str]
    images: Tensor
    masks: list[Tensor]


@dataclass(frozen=True)
class Data:
    title: str
    note: str
    train: Split
    test: Split
    licence: str | None = None

    def fingerprint(self) -> str:
        """A hash of every pixel, with which a resumed run checks that it sees the same data."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update("\n".join(split.names).encode())
            digest.update(split.images.numpy().tobytes())
            for mask in split.masks:
                digest.update(mask.numpy().tobytes())
        return digest.hexdigest()


def draw(size: int, seed: int) -> Data:
    """A data set of synthetic images; training and held-out images never share a seed."""
    _check_memory(DRAWN_TRAIN + DRAWN_TEST, size)

    def split(name: str, number: int, count: int) -> Split:
        pairs = [lesion_image((seed, number, i), size) for i in _progress(range(count), f"drawing {name} images")]
        return _split([f"{name}-{i:03d}" for i in range(count)], [a for a, _ in pairs], [b for _, b in pairs])

    return Data(
        title="synthetic images",
        note="These images are drawn by a program, not photographed: a score on them says nothing about real skin.",
        train=split("train", 0, DRAWN_TRAIN),
        test=split("test", 1, DRAWN_TEST),
    )


def load(folder: Path, size: int, family: str | None) -> Data:
    """Real images with their splits.

    Raises:
        CommandError: no folder, too few images, ids of the splits without a pair, or files that cannot be used.
        sdi_plugin.data.DataError: no images or masks there, an image without a mask, splits that cannot be used.
    """
    if not folder.is_dir():
        raise CommandError(f"demo: expected a folder with images/, masks/ and splits/ for --data, got {folder}.")
    pairs = recognise.plain_pairs(folder)
    held_out = sorted(pairs)[::5]
    without_splits = (sorted(set(pairs) - set(held_out)), [], held_out)
    given = splits.read(folder)
    chosen = splits.choose(given, family, without_splits)
    train, validation, test = chosen
    if not train or not test:
        raise CommandError(f"demo: expected at least two images in {folder}, got {len(pairs)}.")
    unknown = [name for name in [*train, *validation, *test] if name not in pairs]
    if unknown:
        raise CommandError(
            f"demo: {len(unknown)} ids of the splits have no image and mask in {folder}: {', '.join(unknown[:5])} ..."
        )

    _check_memory(len(train) + len(test), size)
    problems: dict[str, str] = {}
    scales: dict[str, int | None] = {}

    def read(names: list[str], title: str) -> list[tuple[Image.Image, Image.Image]]:
        pairs_read = []
        for name in _progress(names, f"reading {title} images"):
            try:
                loaded, mask = pixels.load(pairs[name][0], "image"), masks.read(pairs[name][1])
                check_sizes(loaded, mask)
                image = pixels.rgb(loaded).resize((size, size), Image.Resampling.BILINEAR)
            except PixelError as error:
                problems[name] = str(error)
                continue
            scales[name] = mask.scale
            pairs_read.append((image, mask.pixels))
        return pairs_read

    read_train, read_test = read(train, "training"), read(test, "held-out")
    problems |= masks.disagreeing(scales)
    if problems:
        listed = "; ".join(f"{name}: {problem}" for name, problem in sorted(problems.items())[:_SHOWN])
        raise CommandError(
            f"demo: {len(problems)} of {len(train) + len(test)} pairs in {folder} cannot be used: {listed}"
            f"{' ...' if len(problems) > _SHOWN else '.'}"
        )
    masks.check_not_all_empty([mask.getextrema()[1] == 0 for _, mask in read_train + read_test], str(folder))
    small = [mask.resize((size, size), Image.Resampling.NEAREST) for _, mask in read_train]
    return Data(
        title=f"{folder.resolve().name} ({len(train)} to train, {len(test)} held out)",
        note="Held-out masks are compared at their own size, as the official polyp evaluation does."
        + _splits_note(given, chosen is without_splits, train),
        train=_split(train, [image for image, _ in read_train], small),
        test=_split(test, [image for image, _ in read_test], [mask for _, mask in read_test]),
        licence=_licence(folder / "dataset.json"),
    )


def _licence(file: Path) -> str | None:
    """What `sdi-plugin data prepare` wrote of the data; None for data from elsewhere."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["licence"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _splits_note(given: dict[str, list[str]], made_here: bool, train: list[str]) -> str:
    if made_here:
        return " There are no training and test splits: every fifth image was held out, which leaks between frames."
    name = next(name for name, parts in splits.families(given).items() if parts.get("train") == train)
    return f" Splits: {name or 'train and test'}."


def _split(names: list[str], images: list[Image.Image], masks: list[Image.Image]) -> Split:
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous() for image in images]
    return Split(names, torch.stack(pixels), [torch.from_numpy(np.array(mask) > 0)[None] for mask in masks])


def _check_memory(count: int, size: int) -> None:
    # RGB and a mask, one byte each, once in Pillow's form and once in torch's.
    memory.check(count * size * size * 4 * 2, f"demo: reading {count} images at {size} x {size}")


def _progress(items: Iterable[Item], title: str) -> Iterable[Item]:
    return tqdm(items, desc=title, leave=False, disable=None)
