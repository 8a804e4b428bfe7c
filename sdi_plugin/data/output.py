"""Where each output layout puts an image and its mask, how they are written, and what describes the set."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sdi_plugin.data import masks, pixels
from sdi_plugin.data.errors import DataError
from sdi_plugin.data.splits import Chosen

LAYOUTS = ("plain", "mmseg", "nnunet")


@dataclass(frozen=True)
class Item:
    """One pair's place in the output, relative to its folder; `copy`: the image's bytes stay as they are."""

    id: str
    image: str
    mask: str
    copy: bool


def check_out(layout: str, out: Path) -> None:
    """Check the layout, and for nnU-Net the folder's name, by which it finds a data set.

    Raises:
        DataError: an unknown layout, or with the layout nnunet a name other than DatasetNNN_Name.
    """
    if layout not in LAYOUTS:
        raise DataError(f"expected a layout of {', '.join(LAYOUTS)}, got {layout!r}.")
    if layout == "nnunet" and not re.fullmatch(r"Dataset(?!000)\d{3}_[A-Za-z0-9]\w*", out.name):
        raise DataError(
            f"expected a folder named DatasetNNN_Name for nnU-Net, got {out.name!r}. "
            "Rename it, for example to nnUNet_raw/Dataset101_Kvasir."
        )


def plan(layout: str, jpeg: Mapping[str, bool], size: int | None, chosen: Chosen | None) -> list[Item]:
    """The places of all pairs.

    Args:
        layout: plain, mmseg or nnunet.
        jpeg: for each id, whether its image is a JPEG file, which is copied where size and layout allow it.
        size: the side to resize to, or None.
        chosen: the training, validation and test ids (nnunet only).
    """
    if layout == "nnunet":
        assert chosen is not None
        train, val, test = chosen
        return [
            Item(id_, f"images{part}/{id_}_0000.png", f"labels{part}/{id_}.png", False)
            for part, ids in (("Tr", [*train, *val]), ("Ts", test))
            for id_ in ids
        ]
    if layout == "mmseg":  # its data sets have one image suffix
        jpeg = dict.fromkeys(jpeg, all(jpeg.values()))
    images, masks = ("img_dir", "ann_dir") if layout == "mmseg" else ("images", "masks")
    items = []
    for id_, is_jpeg in jpeg.items():
        copy = is_jpeg and size is None
        items.append(Item(id_, f"{images}/{id_}.{'jpg' if copy else 'png'}", f"{masks}/{id_}.png", copy))
    return items


def write_rgb(content: bytes, path: Path, size: int | None) -> None:
    """Write an image as upright RGB PNG; with `size`, resized to size x size (bilinear, antialiased)."""
    image = pixels.rgb(pixels.load(io.BytesIO(content), "image"))
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    image.save(path, "PNG")


def write_mask(content: bytes, path: Path, size: int | None) -> bool:
    """Write a mask as upright 8-bit PNG of 0 and 1; with `size`, resized (nearest). True if it has foreground."""
    mask = masks.read(io.BytesIO(content)).pixels
    if size is not None:
        mask = mask.resize((size, size), Image.Resampling.NEAREST)
    mask.save(path, "PNG")
    return mask.getextrema()[1] == 1


def write_description(
    folder: Path,
    layout: str,
    description: dict[str, Any],
    splits: Mapping[str, list[str]],
    items: list[Item],
    chosen: Chosen | None,
) -> None:
    """Write splits/*.txt and dataset.json; for nnU-Net dataset.json has its keys too.

    nnU-Net reads its own splits from the folder of the preprocessed data only. splits/splits_final.json is that
    file for a validation split, ready to be copied there.
    """
    (folder / "splits").mkdir()
    for name, ids in splits.items():
        (folder / "splits" / f"{name}.txt").write_text("".join(f"{id_}\n" for id_ in ids), encoding="utf-8")
    target = description["classes"][1]
    if layout == "mmseg":
        description |= {"img_suffix": Path(items[0].image).suffix, "seg_map_suffix": ".png"}
    if layout == "nnunet":
        assert chosen is not None
        train, val, _ = chosen
        description |= {
            "channel_names": {"0": "R", "1": "G", "2": "B"},
            "labels": {"background": 0, target: 1},
            "numTraining": len(train) + len(val),
            "file_ending": ".png",
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        }
        if val:
            _write_json(folder / "splits" / "splits_final.json", [{"train": train, "val": val}])
    _write_json(folder / "dataset.json", description)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
