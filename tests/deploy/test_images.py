"""Image files of many kinds as the arrays that a network takes."""

import struct

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.deploy import images
from sdi_plugin.deploy.images import ImageError

PICTURE = lesion_image((4,), 48)[0].crop((0, 0, 48, 30))


def only(path, channels=3):
    (picture,) = images.pages(path, channels)
    return picture.crop(0, 0, *picture.size)


def expected(image, channels=3):
    array = np.asarray(image, np.float32)
    return array.transpose(2, 0, 1) if array.ndim == 3 else np.broadcast_to(array, (channels, *array.shape))


@pytest.mark.parametrize(
    ("name", "make", "difference"),
    [
        ("a.png", lambda path: PICTURE.save(path), 0),
        ("a.bmp", lambda path: PICTURE.save(path), 0),
        ("a.tif", lambda path: PICTURE.save(path, compression="tiff_lzw"), 0),
        ("a.jpg", lambda path: PICTURE.save(path, quality=98), 12),
        ("cmyk.tif", lambda path: PICTURE.convert("CMYK").save(path), 0),
        ("cmyk.jpg", lambda path: PICTURE.convert("CMYK").save(path, quality=98), 12),
        ("rgba.png", lambda path: PICTURE.convert("RGBA").save(path), 0),
        ("palette.png", lambda path: PICTURE.quantize(256).save(path), 40),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_colour_files_of_every_kind_give_the_same_pixels(tmp_path, name, make, difference):
    make(tmp_path / name)
    assert np.abs(only(tmp_path / name) - expected(PICTURE)).max() <= difference
    assert only(tmp_path / name, channels=1).shape == (1, 30, 48)


def test_grey_fills_three_channels(tmp_path):
    grey = PICTURE.convert("L")
    grey.save(tmp_path / "grey.tif")
    np.testing.assert_array_equal(only(tmp_path / "grey.tif"), expected(grey))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_to_255(tmp_path, suffix):
    values = np.linspace(0, 65535, 48 * 30).reshape(30, 48).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    np.testing.assert_allclose(only(tmp_path / f"deep.{suffix}")[1], values / 257, rtol=1e-6)


def test_the_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[Base.Orientation] = 6  # taken with the camera turned: shown rotated by 90 degrees
    PICTURE.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(only(tmp_path / "turned.png"), expected(PICTURE.rotate(-90, expand=True)))


def test_transparent_pixels_are_laid_on_black(tmp_path):
    image = PICTURE.convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.save(tmp_path / "a.png")
    assert only(tmp_path / "a.png").max() == 0


def test_every_page_is_an_image_of_its_own_size(tmp_path):
    PICTURE.save(tmp_path / "a.tif", save_all=True, append_images=[PICTURE.resize((20, 10)), PICTURE.rotate(180)])
    pages = list(images.pages(tmp_path / "a.tif", 3))
    assert [page.size for page in pages] == [(30, 48), (10, 20), (30, 48)]
    np.testing.assert_array_equal(pages[0].crop(0, 0, 30, 48), expected(PICTURE))


def _truncated(path):
    PICTURE.save(path)
    path.write_bytes(path.read_bytes()[:-200])


def _second_page_without_width(path):
    PICTURE.save(path, "TIFF", save_all=True, append_images=[PICTURE])
    before, width, after = path.read_bytes().rpartition(struct.pack("<HH", 256, 4))  # the last entry of this tag
    path.write_bytes(before + struct.pack("<HH", 255, 4) + after)
    assert width


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"no image"), "not an image file"),
        (_truncated, "unreadable"),
        (_second_page_without_width, "unreadable: Missing dimensions"),
        (lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path, "TIFF"), "floating-point"),
        (lambda path: Image.fromarray(np.full((4, 4), -1, np.int32)).save(path, "TIFF"), "expected 16 bits"),
    ],
    ids=["text", "truncated", "no-width", "float", "negative"],
)
def test_files_that_cannot_be_used_say_why(tmp_path, make, said):
    make(tmp_path / "a.png")
    with pytest.raises(ImageError, match=said):
        only(tmp_path / "a.png")


def test_an_image_too_large_for_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="at most 1000 pixels, got 48 x 30"):
        only(tmp_path / "a.png")


def test_other_numbers_of_channels_are_refused(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="takes 4 channels"):
        only(tmp_path / "a.png", channels=4)


def test_statistics_are_those_of_all_pixels():
    picture = images.from_image(PICTURE.resize((40, 1200)), 3)
    mean, std = picture.statistics()
    array = np.asarray(picture.image, np.float64)
    np.testing.assert_allclose(mean, array.mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(std, array.std((0, 1)), rtol=1e-5)
