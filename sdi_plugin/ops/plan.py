"""What the kernels of every device decide alike: which terms take the low resolution, and which maps there are."""

import math
from collections.abc import Sequence
from typing import NamedTuple


def pooled_size(source: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """The size of a level after pooling the axes in which it is finer than the target."""
    return tuple(min(s, t) for s, t in zip(source, target, strict=True))


def is_by_taps(source: Sequence[int], target: Sequence[int], channels: int, stream_cost: float) -> bool:
    """The cost model: is a pooled level's term cheaper through the low resolution than by interpolating its map first?

    For each output element, directly: taps * channels. Through the low resolution: that divided by the scale of all
    axes, plus the interpolation of the taps, an axis after the other: 6 + 18 / s_x [+ 54 / (s_x s_y)] for scales s,
    each of which costs as much as `stream_cost` multiply-adds of a matrix product.
    """
    scales = [t / s for s, t in zip(source, target, strict=True)]
    direct = 3 ** len(scales) * channels
    stream, scale = 0.0, 1.0
    for axis, s in enumerate(reversed(scales)):
        stream += 6 * 3**axis / scale
        scale *= s
    return scale > 1 and direct / scale + stream_cost * stream < direct


class Map(NamedTuple):
    """A map of a stage: an input, or made from the map of index `source`."""

    size: tuple[int, ...]
    source: int | None


class Pyramid:
    """The maps of a stage: the inputs, and what is pooled and interpolated from them, each once."""

    def __init__(self, sizes: Sequence[Sequence[int]]):
        self.maps = [Map(tuple(size), None) for size in sizes]
        self._pooled = [{m.size: i} for i, m in enumerate(self.maps)]  # for each level: size -> index
        self._interpolated: dict[tuple[int, tuple[int, ...]], int] = {}

    def pooled(self, level: int, size: tuple[int, ...]) -> int:
        """Index of a level's map at a size that is nowhere finer than its own.

        Where the sizes divide, a mean of means is the mean: the smallest map that there is serves as the source, and
        the level itself is read once.
        """
        known = self._pooled[level]
        if size not in known:
            full = self.maps[level].size
            nested = [m for m in known if all(f % a == 0 and a % b == 0 for f, a, b in zip(full, m, size, strict=True))]
            known[size] = self._add(size, known[min(nested, key=math.prod, default=full)])
        return known[size]

    def interpolated(self, index: int, size: tuple[int, ...]) -> int:
        """Index of a map at a size that is nowhere coarser than its own."""
        if self.maps[index].size == size:
            return index
        if (index, size) not in self._interpolated:
            self._interpolated[index, size] = self._add(size, index)
        return self._interpolated[index, size]

    def _add(self, size: tuple[int, ...], source: int) -> int:
        self.maps.append(Map(size, source))
        return len(self.maps) - 1
