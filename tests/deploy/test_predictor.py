"""`Predictor`: from pixels to masks, by a stand-in for the network and by a real one."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import sdi_plugin
from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.checkpoint import Card
from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.deploy import ImageError, Predictor
from tests.deploy.backends import PLAIN, predictor

IMAGE = lesion_image((4,), 96)[0].crop((0, 0, 96, 70))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network with 0 for about half of its logits."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "x.safetensors"
    model = UNetV2("pvt_v2_b0", classes=2, channels=8)
    card = Card(mean=(120, 110, 100), std=(60, 50, 40), size=(64, 96), labels=("background", "polyp"))
    checkpoint.save(path, model.state_dict(), {"card": card.to_json()})
    return path


def test_a_whole_image_is_resized_for_the_network_and_its_logits_back(file):
    model = sdi_plugin.load(file)
    pixels = np.asarray(IMAGE.resize((96, 64), Image.Resampling.BILINEAR), np.float32)
    images = (torch.from_numpy(pixels) - torch.tensor([120.0, 110, 100])) / torch.tensor([60.0, 50, 40])
    logits = F.interpolate(model(images.permute(2, 0, 1)[None]), (70, 96), mode="bilinear", align_corners=False)
    prediction = Predictor(model)(IMAGE)
    np.testing.assert_allclose(prediction.probabilities, logits[0].softmax(0), atol=1e-5)
    assert prediction.mask.shape == (70, 96)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_files_images_and_arrays_are_the_same(file, tmp_path, precision):
    IMAGE.save(tmp_path / "a.png")
    predict = Predictor(file, precision=precision, flips=True, threads=torch.get_num_threads())
    first, *others = (predict(each) for each in (tmp_path / "a.png", IMAGE, np.asarray(IMAGE)))
    for other in others:
        np.testing.assert_array_equal(first.probabilities, other.probabilities)


def test_images_without_a_known_size_keep_theirs():
    predict = predictor()
    result = predict(IMAGE)
    assert predict.backend.shapes == [(1, 3, 70, 96)]  # pyright: ignore
    expected = 1 / (1 + np.exp(-(np.asarray(IMAGE, np.float32).mean(2) - 127.5) / 10))
    np.testing.assert_allclose(result.probabilities[0], expected, rtol=1e-4)
    np.testing.assert_array_equal(result.mask, expected >= 0.5)


@pytest.mark.parametrize("classes", [1, 3])
def test_tiles_of_a_pointwise_network_are_the_whole(classes):
    whole = predictor(classes=classes)(IMAGE)
    tiled = predictor(classes=classes, tile=32, overlap=0.25, flips=True, batch=2)
    result = tiled(IMAGE)
    assert set(tiled.backend.shapes) == {(2, 3, 32, 32)}  # pyright: ignore
    np.testing.assert_allclose(result.probabilities, whole.probabilities, rtol=1e-4, atol=1e-6)
    assert tiled.takes_whole is not None
    assert len(predictor(tile=128)(IMAGE).mask) == 70  # smaller than a tile


def test_a_large_image_without_a_known_size_is_cut_into_tiles():
    predict = predictor(channels=1)
    assert predict(Image.new("L", (1400, 800), 255)).mask.all()
    assert predict.backend.shapes[0] == (4, 1, 512, 512)  # pyright: ignore


def test_images_are_normalised_by_their_own_statistics_where_the_card_says_so():
    predict = predictor(dataclasses.replace(PLAIN, mean=None, std=None, per_image=True))
    pixels = np.asarray(IMAGE, np.float32)
    expected = ((pixels - pixels.mean((0, 1))) / pixels.std((0, 1))).mean(2)
    np.testing.assert_allclose(predict(IMAGE).probabilities[0], 1 / (1 + np.exp(-expected)), rtol=1e-4)
    assert predict.assumed == ""


def test_what_was_assumed_is_said():
    assert "ImageNet" in predictor(Card()).assumed
    assert predictor(Card()).labels == ("background", "foreground")
    assert predictor(Card(), classes=3).labels == ("background", "class1", "class2")


def test_the_threshold_is_the_cards_or_ones_own():
    grey = Image.new("RGB", (8, 8), (130, 130, 130))  # probability 0.56
    assert predictor()(grey).mask.all()
    assert not predictor(dataclasses.replace(PLAIN, threshold=0.6))(grey).mask.any()
    assert not predictor(threshold=0.6)(grey).mask.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tile": 8}, "tile >= 32"),
        ({"overlap": 1.0}, "overlap from 0 to 0.9"),
        ({"batch": 0}, "batch >= 1"),
        ({"threshold": 2.0}, "threshold from 0 to 1"),
        ({"tile": 64, "size": (64, 64)}, "size or tile, got both"),
        ({"card": Card(mean=(1, 2), std=(1, 2))}, "a mean for each of 3 channels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        predictor(**options)


def test_an_unknown_precision_and_other_arrays_are_refused(file):
    with pytest.raises(ValueError, match="expected a precision of fp32"):
        Predictor(file, precision="int3")
    with pytest.raises(ImageError, match="uint8 or uint16"):
        predictor()(np.zeros((8, 8)))
