"""Pairs of image and mask as files of every kind, valid and invalid."""

import io
from typing import Any

import numpy as np
from PIL import Image

SIZE = (32, 24)  # width, height
SHAPE = np.zeros(SIZE[::-1], bool)
SHAPE[8:16, 8:24] = True  # whole blocks of 8, so that JPEG keeps it
ORIENTATION = 0x0112
COLOURED = [0, 0, 0, 128, 0, 0]  # black and red
GREY = [255, 255, 255, 0, 0, 0]  # index 0 is white


def encoded(image, kind="PNG", orientation=1, **options):
    if orientation != 1:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def levels(low, high, shape=SHAPE, dtype: Any = np.uint8):
    return Image.fromarray(np.where(shape, high, low).astype(dtype))


def three(low, middle, high):
    """Three values, each of a third of the pixels."""
    return Image.fromarray(np.repeat(np.array([low, middle, high], np.uint8), 256).reshape(SIZE[::-1]))


def palette(colours):
    image = levels(0, 1)
    image.putpalette(colours)
    return image


def transparent(mode):
    image = levels(0, 255).convert(mode)
    image.putalpha(levels(0, 255))
    return image


def noisy(*peaks):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, peak + 1, SIZE[::-1], dtype=np.uint8)) for peak in peaks]


def source(folder, **masks):
    """The plain layout with one image and one mask, bytes or an image, for each name."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for name, mask in masks.items():
        (folder / "images" / f"{name}.png").write_bytes(encoded(Image.new("RGB", SIZE, (90, 60, 30))))
        content = mask if isinstance(mask, bytes) else encoded(mask)
        suffix = "jpg" if content[:2] == b"\xff\xd8" else "tif" if content[:2] in (b"II", b"MM") else "png"
        (folder / "masks" / f"{name}.{suffix}").write_bytes(content)
    return folder


RIGHT = {
    "0-255": levels(0, 255),
    "0-1": levels(0, 1),
    "0-128": levels(0, 128),
    "one-bit": levels(0, 255).convert("1"),
    "rgb": levels(0, 255).convert("RGB"),
    "rgb-0-1": levels(0, 1).convert("RGB"),
    "opaque-alpha": levels(0, 255).convert("RGBA"),
    "grey-and-opaque-alpha": levels(0, 255).convert("LA"),
    "sixteen-bit": levels(0, 65535, dtype=np.uint16),
    "sixteen-bit-0-1": levels(0, 1, dtype=np.uint16),
    "sixteen-bit-0-255": levels(0, 255, dtype=np.uint16),
    "sixteen-bit-tiff": encoded(levels(0, 65535, dtype=np.uint16), "TIFF"),
    "float-tiff": encoded(levels(0, 1, dtype=np.float32), "TIFF"),
    "jpeg": encoded(levels(0, 255), "JPEG", quality=95),
    "jpeg-rgb": encoded(levels(0, 255).convert("RGB"), "JPEG", quality=95),
    "jpeg-near-0-and-255": encoded(levels(9, 243), "JPEG", quality=75),
    "grey-palette": palette([0, 0, 0, 255, 255, 255]),
    "grey-palette-turned-round": None,
}
RIGHT["grey-palette-turned-round"] = levels(1, 0)
RIGHT["grey-palette-turned-round"].putpalette(GREY)


WRONG = {
    "0-100": (levels(0, 100), "values up to 100"),
    "several-classes": (three(0, 1, 2), "values up to 2"),
    "label-and-ignore": (three(0, 1, 255), "the 3 values 0, 1, 255"),
    "cup-and-disc": (three(0, 128, 255), "the 3 values 0, 128, 255"),
    "palette": (palette(COLOURED), "colours"),
    "rgb": (Image.merge("RGB", [levels(0, 255), levels(0, 0), levels(0, 0)]), "colours"),
    "alpha": (transparent("RGB"), "transparent"),
    "grey-and-alpha": (transparent("L"), "transparent"),
    "sixteen-bit": (levels(0, 4095, dtype=np.uint16), "values up to 4095"),
    "float": (encoded(levels(0, 0.5, dtype=np.float32), "TIFF"), "whole numbers"),
    "negative": (encoded(levels(-1, 255, dtype=np.int32), "TIFF"), "values from -1"),
    "photograph": (noisy(255)[0], "between dark and bright"),
    "dark-jpeg": (encoded(levels(0, 100), "JPEG"), "values up to 1"),
    "animated": (
        encoded(levels(0, 255), "PNG", save_all=True, append_images=[levels(255, 0)]),
        "2 frames",
    ),
    "truncated": (encoded(noisy(255)[0].convert("1"))[:-40], "unreadable mask"),
}


def oriented_pair(folder, orientation, mask_orientation, kind="JPEG", turned=True):
    """A pair whose left quarter is bright; stored as a camera with that orientation would have."""
    bright = np.zeros((24, 32), bool)
    bright[:, :8] = True
    undo = {1: [], 3: [Image.Transpose.ROTATE_180], 6: [Image.Transpose.ROTATE_90], 8: [Image.Transpose.ROTATE_270]}
    for name, angle in (("images", orientation), ("masks", mask_orientation)):
        (folder / name).mkdir(parents=True)
        image = levels(0, 255, bright)
        for step in undo[angle] if turned else []:
            image = image.transpose(step)
        image = image.convert("RGB") if name == "images" else image
        as_kind = kind if name == "images" else "PNG"
        suffix = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif"}[as_kind]
        (folder / name / f"a.{suffix}").write_bytes(encoded(image, as_kind, angle))
    for name in ("images", "masks"):
        (path,) = (folder / name).iterdir()
        (folder / name / f"b{path.suffix}").write_bytes(path.read_bytes())
    return folder, bright


IMAGES = {
    "sixteen-bit": (levels(0, 40000, dtype=np.uint16), "8 bits"),
    "alpha": (transparent("RGB"), "transparent"),
    "animated": (encoded(levels(0, 255), "PNG", save_all=True, append_images=[levels(255, 0)]), "2 frames"),
}
