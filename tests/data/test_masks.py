"""Which pixels of a mask are foreground: right for every file, or an error that names the file."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdi_plugin.data import DataError, masks, prepare
from tests.data.drawn import (
    IMAGES,
    ORIENTATION,
    RIGHT,
    SHAPE,
    SIZE,
    WRONG,
    encoded,
    levels,
    noisy,
    oriented_pair,
    source,
)


def prepared(folder, name):
    with Image.open(folder / "masks" / f"{name}.png") as mask:
        assert mask.mode == "L"
        return np.asarray(mask)


@pytest.mark.parametrize("kind", RIGHT)
def test_foreground_is_found_in_every_kind_of_mask(kind, tmp_path):
    folder = source(tmp_path / "in", a=RIGHT[kind], b=RIGHT[kind])
    prepare("etis", folder, tmp_path / "out")
    np.testing.assert_array_equal(prepared(tmp_path / "out", "a"), SHAPE)


@pytest.mark.parametrize("kind", WRONG)
def test_a_mask_that_can_be_read_in_two_ways_is_an_error_that_names_it(kind, tmp_path):
    content, message = WRONG[kind]
    folder = source(tmp_path / "in", a=levels(0, 255), b=content, c=levels(0, 255))
    with pytest.raises(DataError, match=r"1 problem\(s\) .*nothing was written") as caught:
        prepare("etis", folder, tmp_path / "out")
    (problem,) = caught.value.problems
    assert problem.startswith("b: ")
    assert message in problem
    assert not (tmp_path / "out").exists()


def test_masks_of_two_scales_in_one_set_are_an_error(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 1), c=levels(0, 255), d=levels(0, 0))
    with pytest.raises(DataError, match=r"1 problem\(s\) .*first is b: mask of 0 and 1 among masks of 0 and 255"):
        prepare("etis", folder, tmp_path / "out")
    prepare("etis", folder, tmp_path / "out", skip_bad=True)
    assert sorted(path.stem for path in (tmp_path / "out" / "masks").iterdir()) == ["a", "c", "d"]


def test_the_larger_part_decides_which_scale_is_the_sets(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 1), c=levels(0, 1))
    with pytest.raises(DataError, match="first is a: mask of 0 and 255 among masks of 0 and 1"):
        prepare("etis", folder, tmp_path / "out")


def test_one_bit_and_empty_masks_go_with_either_scale(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 1), b=levels(0, 255).convert("1"), c=levels(0, 0))
    prepare("etis", folder, tmp_path / "out")
    assert [int(prepared(tmp_path / "out", name).sum()) for name in "abc"] == [SHAPE.sum(), SHAPE.sum(), 0]


def test_a_set_of_empty_masks_is_an_error(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 0), b=encoded(noisy(1)[0], "JPEG"))
    with pytest.raises(DataError, match="all 2 masks are empty"):
        prepare("etis", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_that_resizing_makes_empty_are_reported(tmp_path):
    corner = np.zeros(SIZE[::-1], bool)
    corner[0, 0] = True
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 255, corner), c=levels(0, 0))
    written = prepare("etis", folder, tmp_path / "out", size=6)
    assert written.notes == ["1 masks lost all foreground at 6 x 6 pixels: b"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(128, 255), st.integers(0, 127))
def test_two_values_either_side_of_the_threshold_are_told_apart(tmp_path_factory, bits, high, low):
    pixels = np.array([bits])
    content = encoded(levels(low, high, pixels)) if pixels.any() else encoded(levels(0, high, pixels))
    np.testing.assert_array_equal(np.asarray(masks.read(io.BytesIO(content)).pixels), pixels)


# EXIF orientation: what viewers show is what counts.


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "mask_orientation"), [(6, 6), (6, 1), (1, 6), (3, 1), (8, 3)])
@pytest.mark.parametrize("layout", ["plain", "mmseg", "nnunet"])
def test_image_and_mask_are_written_as_viewers_show_them(layout, orientation, mask_orientation, kind, tmp_path):
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


def test_a_mask_drawn_on_the_stored_pixels_is_an_error_with_the_cure(tmp_path):
    folder, _ = oriented_pair(tmp_path / "in", 6, 1, turned=False)
    with pytest.raises(DataError, match=r"2 problem\(s\)") as caught:
        prepare("etis", folder, tmp_path / "out")
    problem = caught.value.problems[0]
    assert problem.startswith("a: size differs: image 24 x 32 (EXIF orientation 6 applied), mask 32 x 24")
    assert "remove the orientation" in problem


def test_applied_orientations_are_reported(tmp_path):
    folder, _ = oriented_pair(tmp_path / "in", 3, 1)
    written = prepare("etis", folder, tmp_path / "out")
    (note,) = written.notes
    assert note.startswith("2 pairs have an EXIF orientation in one file and another or none in the other")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["images"] == 2


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_would_look_different_is_an_error_that_names_it(kind, tmp_path):
    content, message = IMAGES[kind]
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 255))
    (folder / "images" / "b.png").write_bytes(content if isinstance(content, bytes) else encoded(content))
    with pytest.raises(DataError, match=r"1 problem\(s\)") as caught:
        prepare("etis", folder, tmp_path / "out")
    (problem,) = caught.value.problems
    assert problem.startswith("b: ")
    assert message in problem
