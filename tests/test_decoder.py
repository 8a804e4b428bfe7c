import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin import UNetV2Decoder
from tests import start

CHANNELS = [4, 8, 12, 16]


def features(size, channels=CHANNELS, batch=2):
    return [torch.randn(batch, c, *(max(1, -(-s // 2**level)) for s in size)) for level, c in enumerate(channels)]


@pytest.mark.parametrize("size", [(32, 48), (16, 8, 8)], ids=["2d", "3d"])
def test_top_down_adds_the_transposed_convolution_of_the_coarser_level(size):
    decoder = UNetV2Decoder(CHANNELS, 6, dim=len(size)).eval()
    fs = features(size)
    *finer, y = decoder.skip(fs)
    transposed = {2: F.conv_transpose2d, 3: F.conv_transpose3d}[len(size)]
    expected = [y]
    for level in (2, 1, 0):
        y = transposed(y, decoder.get_parameter(f"ups.{level}.weight"), stride=2, padding=1) + finer[level]
        expected.insert(0, y)
    torch.testing.assert_close(decoder(fs), expected, rtol=0, atol=0)


@settings(deadline=None, max_examples=20)
@given(
    size=st.one_of(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(*[st.integers(1, 9)] * 3)),
    channels=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_any_pyramid_gives_features_of_every_levels_size(size, channels):
    fs = features(size, channels)
    ys = UNetV2Decoder(channels, 3, dim=len(size))(fs)
    assert [tuple(y.shape) for y in ys] == [(2, 3, *f.shape[2:]) for f in fs]


def test_the_finest_features_reach_every_parameter():
    decoder = UNetV2Decoder(CHANNELS, 4)
    decoder(features((13, 9)))[0].square().mean().backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("dim", [2, 3])
def test_the_papers_start_is_torchs_own(dim):
    start.assert_torchs_own(lambda: UNetV2Decoder(CHANNELS, 6, dim=dim))


@pytest.mark.parametrize("levels", range(2, 9))
def test_the_unit_start_keeps_the_scale_over_any_number_of_levels(levels):
    decoder = UNetV2Decoder([16] * levels, 32, strides=[1] * (levels - 1), init="unit")
    with torch.no_grad():
        fs = [torch.randn(2, 16, 24, 24) for _ in range(levels)]
        scales = [float(h.std()) for h in decoder.skip(fs)]
        outputs = [float(y.std()) for y in decoder(fs)]
    assert all(0.6 < scale < 1.5 for scale in scales), scales
    assert all(0.6 < scale < 2 for scale in outputs), outputs  # the levels' sum has up to three times the variance


@pytest.mark.slow
def test_inductor_compiles_it_for_training():
    """Without an encoder, whose hundreds of kernels would take the compiler minutes."""
    decoder = UNetV2Decoder(CHANNELS, 4)
    twin, fs = copy.deepcopy(decoder), features((16, 24))
    for network in (decoder, torch.compile(twin, fullgraph=True)):
        torch.stack([y.square().mean() for y in network(fs)]).sum().backward()
    for (name, p), q in zip(decoder.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(q.grad, p.grad, msg=name)


def test_strides_of_each_axis_scale_exactly():
    strides = [(1, 2, 2), (2, 2, 2), (4, 1, 3)]
    sizes = [(8, 24, 24), (8, 12, 12), (4, 6, 6), (1, 6, 2)]
    decoder = UNetV2Decoder(CHANNELS, 4, dim=3, strides=strides)
    for up, fine, coarse in zip(decoder.ups, sizes, sizes[1:], strict=False):
        assert tuple(up(torch.randn(1, 4, *coarse)).shape[2:]) == fine
    ys = decoder([torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)])
    assert [tuple(y.shape) for y in ys] == [(2, 4, *size) for size in sizes]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": [2, 2]}, "3 strides between 4 levels, got 2"),
        ({"strides": [2, 2, 0]}, "strides >= 1"),
        ({"strides": [2, 2, (2, 2, 2)]}, "one int or 2 ints"),
    ],
    ids=["strides", "zero-stride", "axes"],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNetV2Decoder(CHANNELS, **arguments)


def test_bad_features_are_named():
    with pytest.raises(ValueError, match="expected 4 feature maps"):
        UNetV2Decoder(CHANNELS)(features((8, 8), CHANNELS[:2]))
