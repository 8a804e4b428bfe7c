"""Images and masks, decoded and resized once into a cache that every run reads."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor

from benchmarks.study.splits import Image
from benchmarks.study.store import write_bytes

_FOREGROUND = 127  # masks are 0 and 255, some of them JPEG files


@dataclass(frozen=True)
class Images:
    """Images of a list, with their masks.

    Shape:
        pixels: (N, 3, size, size) uint8. masks: (N, 1, size, size) bool, for training. truths: N masks (1, H, W) bool
        at their original sizes, at which predictions are scored.
    """

    listed: list[Image]
    pixels: Tensor
    masks: Tensor
    truths: list[Tensor]

    def __len__(self) -> int:
        return len(self.listed)


def load(root: Path, images: Sequence[Image], size: int, cache: Path) -> Images:
    """The images, from the cache if it has them.

    Raises:
        FileNotFoundError: an image or a mask is missing.
        ValueError: they differ in size.
    """
    name = hashlib.sha256("\n".join(f"{i.folder}/{i.id}" for i in images).encode()).hexdigest()[:16]
    file = cache / f"{name}-{size}.npz"
    if not file.exists():
        buffer = io.BytesIO()
        np.savez(buffer, **_decode(root, images, size))
        write_bytes(file, buffer.getvalue())
    with np.load(file) as stored:
        pixels, masks, bits, shapes = (stored[key] for key in ("pixels", "masks", "bits", "shapes"))
    ends = np.cumsum(shapes.prod(1))
    flat = np.unpackbits(bits)[: ends[-1]].astype(bool)
    truths = [
        torch.from_numpy(part.reshape(1, *shape))
        for part, shape in zip(np.split(flat, ends[:-1]), shapes.tolist(), strict=True)
    ]
    return Images(list(images), torch.from_numpy(pixels), torch.from_numpy(masks), truths)


def _decode(root: Path, images: Sequence[Image], size: int) -> dict[str, Any]:
    pixels, masks, truths = [], [], []
    for image in images:
        picture = Picture.open(_file(root / image.folder / "images", image.id)).convert("RGB")
        mask = Picture.open(_file(root / image.folder / "masks", image.id, "_segmentation")).convert("L")
        if picture.size != mask.size:
            raise ValueError(f"study: {image.folder}/{image.id}: the image is {picture.size}, its mask {mask.size}.")
        truth = Picture.fromarray((np.asarray(mask) > _FOREGROUND).astype(np.uint8))
        pixels.append(np.asarray(picture.resize((size, size), Picture.Resampling.BILINEAR)).transpose(2, 0, 1))
        masks.append(np.asarray(truth.resize((size, size), Picture.Resampling.NEAREST), dtype=bool)[None])
        truths.append(np.asarray(truth, dtype=bool))
    return {
        "pixels": np.stack(pixels),
        "masks": np.stack(masks),
        "bits": np.packbits(np.concatenate([truth.ravel() for truth in truths])),
        "shapes": np.array([truth.shape for truth in truths]),
    }


def _file(folder: Path, stem: str, suffix: str = "") -> Path:
    for ending in (".png", ".jpg", ".jpeg", ".tif", ".bmp"):
        for name in (f"{stem}{suffix}{ending}", f"{stem}{ending}"):
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"study: no image of the id {stem} in {folder}.")
