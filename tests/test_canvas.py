"""Padding, resizing and cropping, on images and volumes of any size."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sdi_plugin import canvas

SIZES = st.one_of(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 12)] * 3))
MINIMA = st.integers(1, 32)


def corner(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The first size[k] entries of every spatial axis."""
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, 0, length)
    return x


@settings(deadline=None, max_examples=50)
@given(size=SIZES, minimum=MINIMA)
def test_padding_adds_zeros_only_at_the_end_of_small_axes(size, minimum):
    x = torch.rand(2, 3, *size) + 1
    padded = canvas.pad(x, minimum)
    assert tuple(padded.shape) == (2, 3, *canvas.padded_size(size, minimum))
    assert all(after == max(before, minimum) for before, after in zip(size, padded.shape[2:], strict=True))
    assert torch.equal(corner(padded, size), x)
    assert torch.count_nonzero(padded) == x.numel()


@settings(deadline=None, max_examples=50)
@given(size=SIZES, multiple=st.integers(1, 16), times=st.integers(1, 3))
def test_padding_reaches_the_next_multiple(size, multiple, times):
    padded = canvas.pad(torch.ones(1, 1, *size), multiple * times, multiple)
    assert tuple(padded.shape[2:]) == canvas.padded_size(size, multiple * times, multiple)
    for before, after in zip(size, padded.shape[2:], strict=True):
        assert after % multiple == 0
        assert after == multiple * times or after - before < multiple


@settings(deadline=None, max_examples=50)
@given(size=SIZES, minimum=MINIMA)
def test_logits_at_the_padded_size_come_back_as_they_are(size, minimum):
    x = torch.rand(2, 3, *size)
    padded = canvas.pad(x, minimum)
    assert torch.equal(canvas.to_image(padded, size, padded.shape[2:]), x)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), size=SIZES, minimum=MINIMA)
def test_logits_of_another_size_are_resized_to_the_padded_size_and_cropped(data, size, minimum):
    coarse = data.draw(st.tuples(*[st.integers(1, 8)] * len(size)), label="the logits' size")
    logits = torch.rand(1, 2, *coarse)
    actual = canvas.to_image(logits, size, canvas.padded_size(size, minimum))
    mode = "bilinear" if len(size) == 2 else "trilinear"
    whole = F.interpolate(logits, tuple(max(axis, minimum) for axis in size), mode=mode, align_corners=False)
    assert tuple(actual.shape) == (1, 2, *size)
    torch.testing.assert_close(actual, corner(whole, size), rtol=0, atol=0)


@settings(deadline=None, max_examples=50)
@given(size=SIZES, scale=st.integers(1, 4))
def test_resizing_keeps_a_constant_and_does_nothing_at_equal_size(size, scale):
    x = torch.full((1, 2, *size), 0.3)
    assert canvas.resize(x, size) is x
    resized = canvas.resize(x, [scale * axis for axis in size])
    torch.testing.assert_close(resized, torch.full_like(resized, 0.3))


@pytest.mark.parametrize("size", [(20, 40), (20, 9, 40)], ids=["2d", "3d"])
def test_gradients_reach_the_image_and_the_logits(size):
    x = torch.rand(1, 1, *size, requires_grad=True)
    canvas.to_image(2 * canvas.pad(x, 32), size, canvas.padded_size(size, 32)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(x, 2))
