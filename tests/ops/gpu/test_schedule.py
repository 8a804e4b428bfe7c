"""What a call launches, by its shapes alone: no GPU, and no Triton, is needed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdi_plugin.ops.gpu import schedule
from sdi_plugin.ops.gpu.chunk import adjoint_kind
from sdi_plugin.ops.gpu.entries import Request


def make(size, levels, *, channels=32, images=1, dtype=torch.bfloat16, in_place=True):
    sizes = tuple(tuple(max(1, s >> level) for s in size) for level in range(levels))
    taps = 3 ** len(size)
    return schedule.make(
        Request(
            sizes=sizes,
            targets=tuple(range(levels)),
            images=images,
            channels=channels,
            out_channels=channels,
            dtype=dtype,
            last=True,
            in_place=in_place,
            bound=0.0,
            precision="ieee",
            strides=(channels * taps, taps, 1),
            interpreted=False,
        )
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("size", "levels", "forward", "both"), [((88, 88), 4, 4, 13), ((64, 64, 64), 5, 12, 40)], ids=["2d", "3d"]
)
def test_few_launches(size, levels, forward, both, dtype):
    made = make(size, levels, dtype=dtype)
    assert len(made.forward) <= forward
    assert len(made.forward) + len(made.backward) <= both


def test_few_bytes_at_the_paper_s_size():
    made = make((88, 88), 4, images=16)
    forward, backward = (sum(launch.moved for launch in launches) for launches in (made.forward, made.backward))
    assert forward <= 100e6
    assert forward + backward <= 450e6


@given(
    size=st.one_of(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 12)] * 3)),
    levels=st.integers(1, 12),
    channels=st.integers(1, 128),
    images=st.integers(1, 3),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    in_place=st.booleans(),
)
def test_every_plane_of_every_target_is_in_one_entry(size, levels, channels, images, dtype, in_place):
    made = make(size, levels, channels=channels, images=images, dtype=dtype, in_place=in_place)
    entries = [entry for chunk in made.chunks for entry in chunk.entries]
    for target in range(levels):
        own = [e for e in entries if e.target == target]
        planes = [plane for e in own for plane in range(e.first, e.first + e.planes)]
        assert planes == list(range(own[0].size[0]))
    for chunk in made.chunks:
        pixels = [images * e.planes * math.prod(e.size[1:]) for e in chunk.entries]
        assert chunk.terms >= sum(pixels) * channels * levels
        for launch in (*chunk.forward, *chunk.backward):
            assert min(launch.grid) >= 0
            assert launch.moved > 0


@pytest.mark.parametrize("images", [1, 8])
def test_a_chunk_holds_no_more_than_its_budget(images):
    made = make((96, 96, 96), 5, images=images)
    levels = images * 32 * 2 * sum((96 >> level) ** 3 for level in range(5))
    assert len(made.chunks) > 1
    for chunk in made.chunks:
        assert 2 * chunk.resized <= 1.05 * max(1 << 26, 3 * levels)


@pytest.mark.parametrize(
    ("level", "entries", "kind"),
    [
        ((1, 8, 8), [(1, 8, 8), (1, 4, 4)], 0),
        ((1, 4, 4), [(1, 8, 8), (1, 4, 4)], 1),
        ((1, 2, 2), [(1, 88, 88)], 2),
        ((1, 7, 7), [(1, 3, 3)], 3),
        ((1, 4, 8), [(1, 8, 4)], 3),
    ],
    ids=["nested", "few rows", "many rows", "not nested", "finer and coarser"],
)
def test_how_a_level_s_gradient_is_summed(level, entries, kind):
    assert adjoint_kind(level, entries) == kind
