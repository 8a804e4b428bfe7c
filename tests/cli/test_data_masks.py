"""Which pixels of a mask are foreground: right for every file, or an error that names the file."""

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdi_plugin.cli.data.prepare import prepare
from sdi_plugin.cli.demo import dataset
from sdi_plugin.cli.errors import CommandError

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
    """The plain layout with one image and one mask, bytes or an image, of each name."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for name, mask in masks.items():
        (folder / "images" / f"{name}.png").write_bytes(encoded(Image.new("RGB", SIZE, (90, 60, 30))))
        content = mask if isinstance(mask, bytes) else encoded(mask)
        suffix = "jpg" if content[:2] == b"\xff\xd8" else "tif" if content[:2] in (b"II", b"MM") else "png"
        (folder / "masks" / f"{name}.{suffix}").write_bytes(content)
    return folder


def prepared(folder, name):
    with Image.open(folder / "masks" / f"{name}.png") as mask:
        assert mask.mode == "L"
        return np.asarray(mask)


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


@pytest.mark.parametrize("kind", RIGHT)
def test_foreground_is_found_in_every_kind_of_mask(kind, tmp_path):
    folder = source(tmp_path / "in", a=RIGHT[kind], b=RIGHT[kind])
    prepare("etis", folder, tmp_path / "out")
    np.testing.assert_array_equal(prepared(tmp_path / "out", "a"), SHAPE)
    read = dataset.load(folder, 8, None)
    np.testing.assert_array_equal(read.test.masks[0][0].numpy(), SHAPE)


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


@pytest.mark.parametrize("kind", WRONG)
def test_a_mask_that_can_be_read_in_two_ways_is_an_error_by_name(kind, tmp_path, capsys):
    content, message = WRONG[kind]
    folder = source(tmp_path / "in", a=levels(0, 255), b=content, c=levels(0, 255))
    with pytest.raises(CommandError, match=r"1 problem\(s\) .*nothing was written"):
        prepare("etis", folder, tmp_path / "out")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("b: ")
    assert message in line
    assert not (tmp_path / "out").exists()
    with pytest.raises(CommandError, match=r"1 of 3 pairs .* b: ") as caught:
        dataset.load(folder, 8, None)
    assert message in str(caught.value)


def test_masks_of_two_scales_in_one_set_are_an_error(tmp_path, capsys):
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 1), c=levels(0, 255), d=levels(0, 0))
    with pytest.raises(CommandError, match=r"1 problem\(s\)"):
        prepare("etis", folder, tmp_path / "out")
    assert capsys.readouterr().err.startswith("b: mask of 0 and 1 among masks of 0 and 255")
    with pytest.raises(CommandError, match="b: mask of 0 and 1 among"):
        dataset.load(folder, 8, None)
    prepare("etis", folder, tmp_path / "out", skip_bad=True)
    assert sorted(path.stem for path in (tmp_path / "out" / "masks").iterdir()) == ["a", "c", "d"]


def test_the_larger_part_decides_which_scale_is_the_sets(tmp_path, capsys):
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 1), c=levels(0, 1))
    with pytest.raises(CommandError):
        prepare("etis", folder, tmp_path / "out")
    assert capsys.readouterr().err.startswith("a: mask of 0 and 255 among masks of 0 and 1")


def test_one_bit_and_empty_masks_go_with_either_scale(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 1), b=levels(0, 255).convert("1"), c=levels(0, 0))
    prepare("etis", folder, tmp_path / "out")
    assert [int(prepared(tmp_path / "out", name).sum()) for name in "abc"] == [SHAPE.sum(), SHAPE.sum(), 0]


def test_a_set_of_empty_masks_is_an_error(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 0), b=encoded(noisy(1)[0], "JPEG"))
    with pytest.raises(CommandError, match="all 2 masks are empty"):
        prepare("etis", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CommandError, match="all 2 masks are empty"):
        dataset.load(folder, 8, None)


def test_masks_that_resizing_makes_empty_are_told(tmp_path, capsys):
    corner = np.zeros(SIZE[::-1], bool)
    corner[0, 0] = True
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 255, corner), c=levels(0, 0))
    prepare("etis", folder, tmp_path / "out", size=6)
    assert capsys.readouterr().err == "1 masks lost all foreground at --size 6: b\n"


def test_only_the_first_problems_are_listed(tmp_path, capsys):
    folder = source(tmp_path / "in", **{f"m{i:03}": levels(0, 100) for i in range(70)})
    with pytest.raises(CommandError, match=r"70 problem\(s\)"):
        prepare("etis", folder, tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 51
    assert lines[-1] == "... and 20 more"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(128, 255), st.integers(0, 127))
def test_two_values_either_side_of_the_threshold_are_told_apart(tmp_path_factory, bits, high, low):
    masks = pytest.importorskip("sdi_plugin.cli.data.masks")
    pixels = np.array([bits])
    content = encoded(levels(low, high, pixels)) if pixels.any() else encoded(levels(0, high, pixels))
    np.testing.assert_array_equal(np.asarray(masks.read(io.BytesIO(content)).pixels), pixels)


# EXIF orientation: what viewers show is what counts.


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "mask_orientation"), [(6, 6), (6, 1), (1, 6), (3, 1), (8, 3)])
@pytest.mark.parametrize("layout", ["plain", "mmseg", "nnunet"])
def test_image_and_mask_are_written_as_viewers_show_them(layout, orientation, mask_orientation, kind, tmp_path, capsys):
    folder, bright = oriented_pair(tmp_path / "in", orientation, mask_orientation, kind)
    out = tmp_path / "Dataset001_A"
    prepare("etis", folder, out, layout=layout)
    images, masks = {
        "plain": ("images", "masks"),
        "mmseg": ("img_dir", "ann_dir"),
        "nnunet": ("imagesTr", "labelsTr"),
    }[layout]
    (image,) = (out / images).glob("a*")
    with Image.open(image) as opened:
        assert opened.getexif().get(ORIENTATION, 1) == 1
        np.testing.assert_array_equal(np.asarray(opened.convert("L")) > 127, bright)
    with Image.open(out / masks / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), bright)


@pytest.mark.parametrize(("orientation", "mask_orientation"), [(6, 6), (6, 1), (1, 6), (3, 1)])
def test_the_demo_reads_image_and_mask_as_viewers_show_them(orientation, mask_orientation, tmp_path):
    folder, bright = oriented_pair(tmp_path / "in", orientation, mask_orientation)
    read = dataset.load(folder, 32, None)
    np.testing.assert_array_equal(read.test.masks[0][0].numpy(), bright)
    assert (read.test.images[0, 0, :, :6] > 127).all()
    assert (read.test.images[0, 0, :, 10:] < 128).all()


def test_a_mask_drawn_on_the_stored_pixels_is_an_error_with_the_cure(tmp_path, capsys):
    folder, _ = oriented_pair(tmp_path / "in", 6, 1, turned=False)
    with pytest.raises(CommandError, match=r"2 problem\(s\)"):
        prepare("etis", folder, tmp_path / "out")
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("a: size differs: image 24 x 32 (EXIF orientation 6 applied), mask 32 x 24")
    assert "remove the orientation" in line
    with pytest.raises(CommandError, match=r"a: size differs: image 24 x 32 \(EXIF orientation 6 applied\)"):
        dataset.load(folder, 32, None)


def test_applied_orientations_are_told(tmp_path, capsys):
    folder, _ = oriented_pair(tmp_path / "in", 3, 1)
    prepare("etis", folder, tmp_path / "out")
    assert "2 pairs have an EXIF orientation in one file and another or none in the other" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["images"] == 2


IMAGES = {
    "sixteen-bit": (levels(0, 40000, dtype=np.uint16), "8 bits"),
    "alpha": (transparent("RGB"), "transparent"),
    "animated": (encoded(levels(0, 255), "PNG", save_all=True, append_images=[levels(255, 0)]), "2 frames"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_would_change_its_look_is_an_error_by_name(kind, tmp_path, capsys):
    content, message = IMAGES[kind]
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 255))
    (folder / "images" / "b.png").write_bytes(content if isinstance(content, bytes) else encoded(content))
    with pytest.raises(CommandError, match=r"1 problem\(s\)"):
        prepare("etis", folder, tmp_path / "out")
    line = capsys.readouterr().err
    assert line.startswith("b: ")
    assert message in line
    with pytest.raises(CommandError, match="b: "):
        dataset.load(folder, 8, None)
