"""The cases of the ops' tests: shapes, random tensors of these, eager PyTorch, and one way to run them all."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from sdi_plugin import ops
from sdi_plugin.ops import library


class Shape(NamedTuple):
    size: tuple[int, ...]  # the finest level's
    levels: int
    channels: int
    batch: int = 8


CASES = {
    "paper": Shape((44, 44), 4, 32),
    "odd": Shape((13, 9), 4, 5),
    "odd-large": Shape((37, 29), 4, 20),
    "flat": Shape((2, 131), 2, 8),
    "one-pixel": Shape((1, 1), 3, 3, batch=200),  # enough elements for luck to even out
    "one-column": Shape((17, 1), 4, 20),
    "one-level": Shape((8, 8), 1, 16),
    "3d": Shape((12, 10, 9), 3, 18),
    "3d-odd": Shape((9, 11, 7), 3, 7),
    "3d-many-planes": Shape((21, 4, 5), 3, 4),
    "3d-one-pixel-axes": Shape((1, 6, 1), 2, 16),
}
# For the reference, and for what is slow: Triton's interpreter.
SMALL_CASES = {
    "paper": Shape((16, 16), 3, 16, batch=1),
    "odd": Shape((7, 5), 3, 5, batch=2),
    "one-pixel": Shape((1, 1), 2, 3, batch=2),
    "one-column": Shape((9, 1), 3, 20, batch=1),
    "one-level": Shape((8, 8), 1, 16, batch=1),
    "3d": Shape((4, 5, 3), 2, 6, batch=6),
    "3d-one-pixel-axes": Shape((1, 6, 1), 2, 16, batch=1),
}


def make_case(size, levels, dtype=torch.float64, channels=5, batch=2, targets=1):
    """Maps of a pyramid with odd, one-pixel and unequal axes; weights with the scale of torch's default, per target."""
    xs = [torch.randn(batch, channels, *(max(1, math.ceil(s / 2**j)) for s in size)) for j in range(levels)]
    scale = 1 / math.sqrt(channels * 3 ** len(size))
    weights = [torch.randn(channels, channels, *[3] * len(size)) * scale for _ in range(targets * levels)]
    biases = [torch.randn(channels) * scale for _ in range(targets * levels)]
    return [[t.to(dtype).double().requires_grad_() for t in group] for group in (xs, weights, biases)]


def to(case, *args):
    """The case's tensors, detached, on another device or of another dtype."""
    return [[t.detach().to(*args) for t in group] for group in case]


def single(case):
    return to(case, torch.float32)


def eager(xs, weights, biases, level, fusion="product"):
    """The paper's code path in the tensors' own dtype: every map, and every partial product, rounded to it."""
    conv = {4: F.conv2d, 5: F.conv3d}[xs[0].ndim]
    product = torch.ones_like(xs[level])
    for x, weight, bias in zip(xs, weights, biases, strict=True):
        product = product * conv(ops.resize(x, xs[level].shape[2:]), weight, bias, padding=1)
    return product if fusion == "product" else 2 * torch.asinh(product / 2)


def fused(xs, weights, biases, level, fusion="product"):
    """The op, with one target."""
    return library.fused(list(xs), list(weights), list(biases), [level], xs[0].dtype, fusion)[0]


def run(function, case, level, dtype, **options):
    """Output and every gradient of sum(output * fixed weights), in the dtype."""
    groups = [[t.requires_grad_() for t in group] for group in to(case, dtype)]
    output = function(*groups, level, **options)
    generator = torch.Generator().manual_seed(1)
    output.backward(torch.randn(output.shape, generator=generator).to(output))
    return [output, *(t.grad for group in groups for t in group)]


def distance(tensors, exact):
    """The norm of the differences, over all tensors at once: a single one of a few elements may be lucky."""
    return torch.cat([(t.double() - e).flatten() for t, e in zip(tensors, exact, strict=True)]).norm()


def identity_case(values, dtype=torch.float32, device=None):
    """Levels of one channel that are these values everywhere, and convolutions that change nothing."""
    xs = [torch.full((1, 1, 3, 3), value, dtype=dtype, device=device) for value in values]
    weight = torch.zeros(1, 1, 3, 3, dtype=dtype, device=device)
    weight[0, 0, 1, 1] = 1
    return xs, [weight] * len(xs), [torch.zeros(1, dtype=dtype, device=device)] * len(xs)


def negative_view(t):
    """Equal to t, but held in memory with the other sign."""
    view = torch.imag(torch.complex(torch.zeros_like(t), -t).conj())
    assert view.is_neg()
    return view
