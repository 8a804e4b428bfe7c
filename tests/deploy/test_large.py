"""Images that libvips decodes to a file have the pixels that Pillow gives them, in little memory."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.deploy import images, large
from sdi_plugin.deploy.images import ImageError

pytest.importorskip("pyvips", reason="needs libvips: pip install 'sdi-plugin[deploy]'")
PICTURE = lesion_image((4,), 48)[0].crop((0, 0, 48, 30))
DEEP = Image.fromarray((np.arange(30 * 48, dtype=np.uint16) * 45).reshape(30, 48))
LZW = {"compression": "tiff_lzw"}


@pytest.fixture
def all_large(monkeypatch):
    monkeypatch.setattr(large, "PIXELS", 0)


def transparent(image):
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("image", "name", "options"),
    [
        (PICTURE, "colour.png", {}),
        (PICTURE, "colour.jpg", {"quality": 80}),
        (PICTURE, "colour.tif", LZW),
        (PICTURE.convert("L"), "grey.png", {}),
        (PICTURE.convert("L"), "grey.jpg", {}),
        (PICTURE.convert("L"), "grey.tif", {}),
        (transparent(PICTURE), "transparent.png", {}),
        (transparent(PICTURE), "transparent.tif", LZW),
        (DEEP, "16-bits.png", {}),
        (DEEP, "16-bits.tif", LZW),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_large_image_has_the_pixels_that_pillow_reads(tmp_path, monkeypatch, image, name, options, channels):
    image.save(tmp_path / name, **options)
    (expected,) = images.pages(tmp_path / name, channels)
    monkeypatch.setattr(large, "PIXELS", 0)
    (picture,) = images.pages(tmp_path / name, channels)
    assert isinstance(picture.image, large.LargeImage)
    assert picture.size == expected.size
    for box in [(0, 0, 30, 48), (7, 5, 30, 20), (0, 47, 1, 48)]:
        np.testing.assert_array_equal(picture.crop(*box), expected.crop(*box))
    np.testing.assert_array_equal(np.asarray(picture.thumbnail(40)), np.asarray(expected.thumbnail(40)))
    np.testing.assert_array_equal(np.asarray(picture.rgb(3, 9)), np.asarray(expected.rgb(3, 9)))
    np.testing.assert_array_equal(picture.statistics(), expected.statistics())


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("size", [(11, 17), (1, 1), (300, 40), (299, 7), (500, 401)], ids=str)
def test_a_large_image_is_resized_in_bands_as_in_one(tmp_path, monkeypatch, size):
    image = PICTURE.resize((200, 300))
    image.save(tmp_path / "a.png")
    monkeypatch.setattr(large, "_BAND", 3000)
    (picture,) = images.pages(tmp_path / "a.png", 3)
    found, expected = picture.resized(size), images.from_image(image, 3).resized(size)
    assert np.abs(found - expected).max() <= 1  # rounded elsewhere
    assert np.abs(found - expected).mean() < 0.01


@pytest.mark.usefixtures("all_large")
def test_every_page_of_a_large_file_is_an_image_of_its_own(tmp_path):
    turned = PICTURE.rotate(180)
    PICTURE.save(tmp_path / "a.tif", save_all=True, append_images=[turned.resize((20, 10)), turned])
    first, second, third = images.pages(tmp_path / "a.tif", 3)
    assert [page.size for page in (first, second, third)] == [(30, 48), (10, 20), (30, 48)]
    np.testing.assert_array_equal(third.crop(0, 0, 30, 48), images.from_image(turned, 3).crop(0, 0, 30, 48))


def turned(path):
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    PICTURE.save(path, exif=exif)


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("turned.jpg", turned),
        ("turned.tif", turned),
        ("palette.png", lambda path: PICTURE.quantize(64).save(path)),
        ("cmyk.jpg", lambda path: PICTURE.convert("CMYK").save(path)),
        ("a.bmp", PICTURE.save),
        ("one-colour-transparent.png", lambda path: PICTURE.save(path, transparency=(0, 0, 0))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pillow_reads_what_libvips_may_read_otherwise(tmp_path, name, make):
    make(tmp_path / name)
    (picture,) = images.pages(tmp_path / name, 3)
    assert isinstance(picture.image, Image.Image)


def test_pillow_reads_large_images_where_libvips_is_missing(tmp_path, monkeypatch, all_large):
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "pyvips", None)
    (picture,) = images.pages(tmp_path / "a.png", 3)
    assert isinstance(picture.image, Image.Image)


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_truncated_large_file_says_so(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    PICTURE.resize((300, 300)).save(path)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(ImageError, match=r"unreadable|not an image file"):
        next(images.pages(path, 3)).crop(0, 0, 300, 300)


BANDS = """
import resource, sys
from pathlib import Path
from sdi_plugin.deploy import images
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(small,) = images.pages(Path(sys.argv[1]), 3)
small.crop(0, 0, 9, 9)
before = peak()
(picture,) = images.pages(Path(sys.argv[2]), 3)
height, width = picture.size
for top in range(0, height, 100):
    picture.crop(top, 0, min(top + 100, height), width)
print(height, (peak() - before) / 2**10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_a_large_image_needs_the_memory_of_its_parts_alone(tmp_path):
    PICTURE.save(tmp_path / "small.jpg")
    PICTURE.resize((9000, 9000), Image.Resampling.NEAREST).save(tmp_path / "large.jpg")  # 309 MiB in Pillow
    command = [sys.executable, "-c", BANDS, tmp_path / "small.jpg", tmp_path / "large.jpg"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    height, mebibytes = done.stdout.split()
    assert int(height) == 9000
    assert float(mebibytes) < 100
