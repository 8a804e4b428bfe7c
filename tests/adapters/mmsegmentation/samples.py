"""Small inputs in MMSegmentation's form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from PIL import Image

import sdi_plugin.adapters.mmsegmentation  # noqa: F401

from mmseg.structures import SegDataSample

CHANNELS = (8, 16, 24)


def features(
    channels: Sequence[int] = CHANNELS, size: tuple[int, int] = (16, 24), batch: int = 2
) -> list[torch.Tensor]:
    """Maps of a backbone, fine to coarse, each half the size of the one before."""
    return [torch.randn(batch, c, -(-size[0] // 2**i), -(-size[1] // 2**i)) for i, c in enumerate(channels)]


def samples(labels: torch.Tensor) -> list[Any]:
    """Data samples with the labels (B, H, W)."""
    found = []
    for label in labels:
        shape = tuple(label.shape)
        sample = SegDataSample(metainfo={"img_shape": shape, "ori_shape": shape, "pad_shape": shape, "flip": False})
        sample.gt_sem_seg = PixelData(data=label[None])
        found.append(sample)
    return found


def batch(size: tuple[int, int] = (64, 64), classes: int = 2, images: int = 2) -> dict[str, Any]:
    """What a dataloader gives: images (3, H, W), uint8, and their samples."""
    pixels = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(images)]
    return {"inputs": pixels, "data_samples": samples(torch.randint(0, classes, (images, *size)))}


def write_dataset(folder: Path, ids: Sequence[str], size: tuple[int, int] = (40, 48), foreground: int = 1) -> Path:
    """A folder as `sdi-plugin data prepare --layout mmseg` writes it: a bright disc on a dark, noisy background."""
    for name in ("img_dir", "ann_dir", "splits"):
        (folder / name).mkdir(parents=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for number, id_ in enumerate(ids):
        noise = np.random.default_rng(number)
        centre = noise.uniform(0.3, 0.7, 2) * size
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.25 * min(size)) ** 2
        image = np.where(disc, 190, 60)[..., None] + noise.integers(-20, 20, (*size, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / "img_dir" / f"{id_}.png")
        Image.fromarray((disc * foreground).astype(np.uint8)).save(folder / "ann_dir" / f"{id_}.png")
    for split in ("train", "val", "test"):
        (folder / "splits" / f"{split}.txt").write_text("".join(f"{id_}\n" for id_ in ids))
    (folder / "dataset.json").write_text('{"layout": "mmseg", "img_suffix": ".png", "seg_map_suffix": ".png"}')
    return folder
