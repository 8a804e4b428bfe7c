"""The demo reads images and masks by the rule of tests/data/test_masks.py, or names the file."""

import numpy as np
import pytest

from sdi_plugin.cli.demo import dataset
from sdi_plugin.cli.errors import CommandError
from sdi_plugin.data import DataError
from tests.data.drawn import IMAGES, RIGHT, SHAPE, WRONG, encoded, levels, noisy, oriented_pair, source


@pytest.mark.parametrize("kind", RIGHT)
def test_foreground_is_found_in_every_kind_of_mask(kind, tmp_path):
    read = dataset.load(source(tmp_path / "in", a=RIGHT[kind], b=RIGHT[kind]), 8, None)
    np.testing.assert_array_equal(read.test.masks[0][0].numpy(), SHAPE)


@pytest.mark.parametrize("kind", WRONG)
def test_a_mask_that_can_be_read_in_two_ways_is_an_error_that_names_it(kind, tmp_path):
    content, message = WRONG[kind]
    folder = source(tmp_path / "in", a=levels(0, 255), b=content, c=levels(0, 255))
    with pytest.raises(CommandError, match=r"1 of 3 pairs .* b: ") as caught:
        dataset.load(folder, 8, None)
    assert message in str(caught.value)


def test_masks_of_two_scales_in_one_set_are_an_error(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 1), c=levels(0, 255), d=levels(0, 0))
    with pytest.raises(CommandError, match="b: mask of 0 and 1 among"):
        dataset.load(folder, 8, None)


def test_a_set_of_empty_masks_is_an_error(tmp_path):
    folder = source(tmp_path / "in", a=levels(0, 0), b=encoded(noisy(1)[0], "JPEG"))
    with pytest.raises(DataError, match="all 2 masks are empty"):
        dataset.load(folder, 8, None)


@pytest.mark.parametrize(("orientation", "mask_orientation"), [(6, 6), (6, 1), (1, 6), (3, 1)])
def test_it_reads_image_and_mask_as_viewers_show_them(orientation, mask_orientation, tmp_path):
    folder, bright = oriented_pair(tmp_path / "in", orientation, mask_orientation)
    read = dataset.load(folder, 32, None)
    np.testing.assert_array_equal(read.test.masks[0][0].numpy(), bright)
    assert (read.test.images[0, 0, :, :6] > 127).all()
    assert (read.test.images[0, 0, :, 10:] < 128).all()


def test_a_mask_drawn_on_the_stored_pixels_is_an_error(tmp_path):
    folder, _ = oriented_pair(tmp_path / "in", 6, 1, turned=False)
    with pytest.raises(CommandError, match=r"a: size differs: image 24 x 32 \(EXIF orientation 6 applied\)"):
        dataset.load(folder, 32, None)


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_would_look_different_is_an_error_that_names_it(kind, tmp_path):
    content, message = IMAGES[kind]
    folder = source(tmp_path / "in", a=levels(0, 255), b=levels(0, 255))
    (folder / "images" / "b.png").write_bytes(content if isinstance(content, bytes) else encoded(content))
    with pytest.raises(CommandError, match="b: ") as caught:
        dataset.load(folder, 8, None)
    assert message in str(caught.value)
