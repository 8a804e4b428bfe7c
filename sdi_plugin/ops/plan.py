"""From which map each map of a stage is made, and how each term is computed: by shapes only, for every device."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from sdi_plugin.ops.reference import pooled_size

Size = tuple[int, ...]


class Costs(NamedTuple):
    """A backend's cost model, in multiply-adds of a matrix product per output element.

    stream: cost of one multiply-add of the interpolation, which is memory-bound.
    direct: cost of a term that is convolved at the target's size, for this size and C channels, with its interpolation.
    """

    stream: float
    direct: Callable[[Size, int], float]


class Map(NamedTuple):
    """A map of a stage: an input, or pooled or interpolated from the map of index `source`."""

    size: Size
    source: int | None


class Term(NamedTuple):
    """One factor of a target's product."""

    entry: int  # index in weights and biases
    pooled: int  # index of the level's map, pooled to be no finer than the target on any axis
    map: int  # index of the map that is convolved: `pooled` by taps, otherwise a map of the target's size
    by_taps: bool


class Plan(NamedTuple):
    maps: tuple[Map, ...]  # the levels first, then the others, each after its source
    targets: tuple[tuple[Term, ...], ...]  # for each target one term per level
    rounds: tuple[tuple[int, ...], ...]  # indices of the pooled maps; the sources of a round are made before it


def is_by_taps(source: Size, target: Size, channels: int, costs: Costs) -> bool:
    """The cost model: is a pooled level's term cheaper at the low resolution (by taps) than at the target's size?

    By taps, for C channels and scales s of the axes, it costs C / (s_x s_y) per tap, because the depth is interpolated
    before the product, and 6 + 18 / s_x for the interpolation of the taps (docs/derivation.md).
    """
    scale_x = target[-1] / source[-1]
    scale = scale_x * (target[-2] / source[-2])
    by_taps = 3 ** len(target) * channels / scale + costs.stream * (6 + 18 / scale_x)
    return scale > 1 and by_taps < costs.direct(target, channels)


@lru_cache(maxsize=256)
def make(sizes: tuple[Size, ...], targets: tuple[int, ...], channels: int, costs: Costs) -> Plan:
    """The plan of a stage, from levels of these sizes and this many channels, fine to coarse, to the levels `targets`.

    If one size divides another, the mean of means is the mean: a map is then pooled from the smallest such map, and
    the level itself is read once.
    """
    maps = [Map(size, None) for size in sizes]
    known = [{size: level} for level, size in enumerate(sizes)]  # each level's pooled maps
    interpolated: dict[tuple[int, Size], int] = {}
    depths = dict.fromkeys(range(len(sizes)), 0)  # how often each map has been pooled

    def add(size: Size, source: int) -> int:
        maps.append(Map(size, source))
        return len(maps) - 1

    def pool(level: int, size: Size) -> int:
        if size not in known[level]:
            full = sizes[level]
            nested = [
                m for m in known[level] if all(f % a == a % b == 0 for f, a, b in zip(full, m, size, strict=True))
            ]
            source = known[level][min(nested, key=math.prod, default=full)]
            known[level][size] = add(size, source)
            depths[known[level][size]] = depths[source] + 1
        return known[level][size]

    def interpolate(index: int, size: Size) -> int:
        if maps[index].size == size:
            return index
        if (index, size) not in interpolated:
            interpolated[index, size] = add(size, index)
        return interpolated[index, size]

    def term(entry: int, level: int, size: Size) -> Term:
        pooled = pool(level, pooled_size(sizes[level], size))
        by_taps = is_by_taps(maps[pooled].size, size, channels, costs)
        return Term(entry, pooled, pooled if by_taps else interpolate(pooled, size), by_taps)

    levels = range(len(sizes))
    terms = tuple(
        tuple(term(t * len(sizes) + level, level, sizes[target]) for level in levels)
        for t, target in enumerate(targets)
    )
    last = max(depths.values())
    rounds = tuple(tuple(i for i, depth in depths.items() if depth == round_) for round_ in range(1, last + 1))
    return Plan(tuple(maps), terms, rounds)
