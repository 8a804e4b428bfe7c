"""Tiles cover an image, and their blend is what they agree on."""

import itertools

import numpy as np
import pytest

from sdi_plugin.deploy import tiles


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("length", [31, 32, 33, 64, 100, 1000])
def test_tiles_reach_from_end_to_end_and_overlap(length, overlap):
    starts = tiles.starts(length, 32, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - 32)
    assert all(b - a <= max(1, 32 * (1 - overlap)) + 0.5 for a, b in itertools.pairwise(starts))
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("size", [(20, 20), (64, 64), (97, 130), (33, 500)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_that_agree_give_what_they_agree_on(size, batch):
    image = np.random.default_rng(0).random((2, *size), np.float32)
    batches = []

    def predict(boxes):
        batches.append(len(boxes))
        return np.stack([image[:, top:bottom, left:right] for top, left, bottom, right in boxes])

    bands = list(tiles.blend(size, (32, 48), 0.5, batch, predict))
    np.testing.assert_allclose(np.concatenate([band for _, band in bands], 1), image, rtol=1e-5)
    tops = [top for top, _ in bands]
    assert tops == np.cumsum([0, *(band.shape[1] for _, band in bands)])[:-1].tolist()
    assert max(batches) <= batch


def test_the_middle_of_a_tile_weighs_most():
    weight = tiles.weights(32, 32)
    assert weight.argmax() in (15 * 32 + 15, 15 * 32 + 16, 16 * 32 + 15, 16 * 32 + 16)
    assert weight.min() > 0
