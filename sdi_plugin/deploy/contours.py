"""The regions of a mask as polygons along the pixels' edges, in GeoJSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up: (x, y) with y down

Ring = list[list[int]]


def geojson(mask: NDArray[np.uint8], labels: Sequence[str]) -> dict[str, Any]:
    """A feature for each connected region of each label but the background.

    Convention:
        Coordinates are pixels' corners, x to the right, y down: the first pixel is the square from (0, 0) to (1, 1).
        Pixels that touch at a corner only are two regions. The first ring is the border, others are holes.

    Raises:
        ImportError: scipy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError("Contours need scipy. Install it: pip install 'sdi-plugin[smp]'") from error
    features = []
    for number in np.unique(mask[mask > 0]).tolist():
        labelled: Any = ndimage.label(mask == number)
        regions = labelled[0]
        for region, box in enumerate(ndimage.find_objects(regions), 1):
            inside = regions[box] == region
            top, left = box[0].start, box[1].start
            features.append(
                {
                    "type": "Feature",
                    "properties": {"label": labels[number], "pixels": int(inside.sum())},
                    "geometry": {"type": "Polygon", "coordinates": _rings(inside, left, top)},
                }
            )
    return {"type": "FeatureCollection", "features": features}


def _rings(inside: NDArray[np.bool_], left: int, top: int) -> list[Ring]:
    """The border of one connected region, and its holes, each closed."""
    padded = np.pad(inside, 1)
    # The edges of pixels whose neighbour is outside, each directed so that the inside is on its right.
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))  # where the edges above, right, below, left begin
    onward: dict[tuple[int, int], list[int]] = {}
    for direction, (neighbour, (dx, dy)) in enumerate(zip(neighbours, corners, strict=True)):
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            onward.setdefault((x + dx, y + dy), []).append(direction)
    rings = []
    while onward:
        start = next(iter(onward))  # the topmost row's first edge above comes first: the border
        point, direction = start, onward[start][0]
        ring: Ring = []
        while True:
            choices = onward[point]
            # Where two pixels touch at a corner, turn right: stay on the same pixel.
            chosen = min(choices, key=lambda each: (direction + 1 - each) % 4)
            choices.remove(chosen)
            if not choices:
                del onward[point]
            if not ring or chosen != direction:
                ring.append([point[0] + left, point[1] + top])
            direction = chosen
            point = point[0] + _STEPS[direction][0], point[1] + _STEPS[direction][1]
            if point == start:
                break
        rings.append([*ring, ring[0]])
    return rings
