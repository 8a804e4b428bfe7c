"""Resizing that the graph computes from the sizes that it gets."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sdi_plugin.deploy import graph

# torch 2.14 itself repeats the first row of images that are one pixel wide.
SIZES = st.tuples(st.integers(1, 40), st.integers(2, 40))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@given(source=SIZES, target=SIZES)
def test_the_matrices_are_torchs_antialiased_resizing(mode, source, target):
    images = torch.rand(1, 2, *source, generator=torch.Generator().manual_seed(0))
    resize = {"bilinear": graph.shrink, "bicubic": graph._cubic_resize}[mode]
    expected = F.interpolate(images, target, mode=mode, antialias=True)
    torch.testing.assert_close(resize(images, target), expected, rtol=0, atol=1e-5)
