"""Contours: the polygons of a mask enclose exactly its pixels."""

import numpy as np
import pytest

from sdi_plugin.deploy.contours import geojson


def area(ring):
    points = np.array(ring)
    return 0.5 * (points[:-1, 0] * points[1:, 1] - points[1:, 0] * points[:-1, 1]).sum()


@pytest.mark.parametrize("seed", range(20))
def test_borders_and_holes_enclose_the_pixels(seed):
    random = np.random.default_rng(seed)
    mask = (random.random(random.integers(1, 14, 2)) < random.uniform(0.2, 0.9)).astype(np.uint8)
    mask *= random.integers(1, 3, mask.shape, dtype=np.uint8)
    features = geojson(mask, ("background", "a", "b"))["features"]
    for feature in features:
        border, *holes = feature["geometry"]["coordinates"]
        assert all(ring[0] == ring[-1] for ring in (border, *holes))
        assert area(border) > 0
        assert all(area(hole) < 0 for hole in holes)
        assert area(border) + sum(map(area, holes)) == feature["properties"]["pixels"]
    for number, label in enumerate(("a", "b"), 1):
        found = [each["properties"]["pixels"] for each in features if each["properties"]["label"] == label]
        assert sum(found) == (mask == number).sum()


def test_a_rectangle_has_four_corners():
    mask = np.zeros((9, 9), np.uint8)
    mask[2:5, 3:8] = 1
    (feature,) = geojson(mask, ("background", "polyp"))["features"]
    assert feature["geometry"] == {"type": "Polygon", "coordinates": [[[3, 2], [8, 2], [8, 5], [3, 5], [3, 2]]]}
    assert feature["properties"] == {"label": "polyp", "pixels": 15}
