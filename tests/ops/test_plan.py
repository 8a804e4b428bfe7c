"""The plan of a stage: nested pools, interpolated maps, and the path of each term."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin.ops import cpu, gpu, plan

DIRECT = plan.Costs(stream=0.0, direct=lambda target, channels: 0.0)
BY_TAPS = plan.Costs(stream=0.0, direct=lambda target, channels: math.inf)


def sources(made, level):
    """Each pooled map of a level and what it is pooled from, as sizes."""
    pooled = [i for round_ in made.rounds for i in round_]
    found = {i: made.maps[i] for i in pooled}
    for i in pooled:
        origin = found[i].source
        while origin in found:
            origin = found[origin].source
        if origin != level:
            del found[i]
    return {m.size: made.maps[m.source].size for m in found.values()}


def test_pools_nest_where_windows_divide():
    made = plan.make(((8, 8), (4, 4), (2, 2), (1, 1)), (0, 1, 2, 3), 2, DIRECT)
    assert sources(made, 0) == {(4, 4): (8, 8), (2, 2): (4, 4), (1, 1): (2, 2)}
    assert [len(round_) for round_ in made.rounds] == [3, 2, 1]
    made = plan.make(((9, 9), (5, 5), (3, 3)), (0, 1, 2), 2, DIRECT)
    assert set(sources(made, 0).values()) == {(9, 9)}


@pytest.mark.parametrize("costs", [cpu.COSTS, gpu.COSTS, DIRECT, BY_TAPS], ids=["cpu", "gpu", "direct", "by-taps"])
@settings(deadline=None, max_examples=60)
@given(
    sizes=st.one_of(
        st.lists(st.tuples(*[st.integers(1, 16)] * 2), min_size=1, max_size=4),
        st.lists(st.tuples(*[st.integers(1, 8)] * 3), min_size=1, max_size=4),
    ),
    channels=st.integers(1, 64),
)
def test_every_map_follows_its_source_and_every_term_has_its_size(costs, sizes, channels):
    targets = tuple(range(len(sizes)))
    made = plan.make(tuple(sizes), targets, channels, costs)
    assert [m.size for m in made.maps[: len(sizes)]] == sizes
    assert all(m.source is not None and m.source < i for i, m in enumerate(made.maps) if i >= len(sizes))
    assert [term.entry for terms in made.targets for term in terms] == list(range(len(sizes) ** 2))
    for target, terms in zip(targets, made.targets, strict=True):
        for level, term in enumerate(terms):
            assert made.maps[term.pooled].size == tuple(map(min, sizes[level], sizes[target]))
            assert made.maps[term.map].size == sizes[target] if not term.by_taps else term.map == term.pooled
            assert not (term.by_taps and made.maps[term.map].size[-2:] == sizes[target][-2:])


def test_a_plan_is_made_once():
    arguments = ((8, 8), (4, 4)), (0, 1), 32, cpu.COSTS
    assert plan.make(*arguments) is plan.make(*arguments)
