"""The cases of attend_and_reduce's tests: shapes, random tensors of these, and one way to run a function of them."""

from typing import Any

import torch

SHAPES = {  # batch, channels in, channels out, size
    "2d": (2, 64, 32, (20, 30)),
    "odd": (3, 33, 5, (7, 5)),
    "one-pixel": (64, 20, 8, (1, 1)),
    "one-channel": (4, 1, 1, (9, 8)),
    "one-column": (2, 16, 8, (40, 1)),
    "3d": (2, 24, 8, (5, 6, 7)),
    "3d-one-pixel-axes": (8, 8, 4, (1, 6, 1)),
}
NAMES = ("output", "f", "fc1", "fc2", "conv7", "conv1")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make(batch, channels, outputs, size, dtype=torch.float64, *, values=torch.randn):
    """f and the weights, rounded to the dtype, in float64."""
    ones, hidden = [1] * len(size), max(1, channels // 16)
    shapes = [
        (hidden, channels, *ones),
        (channels, hidden, *ones),
        (1, 2, *[7] * len(size)),
        (outputs, channels, *ones),
    ]
    weights = [torch.randn(shape) / torch.Size(shape[1:]).numel() ** 0.5 for shape in shapes]
    return [t.to(dtype).double() for t in (values(batch, channels, *size), *weights)]


def run(function, case, dtype):
    """Output and every gradient of sum(output * fixed weights)."""
    leaves: list[Any] = [t.to(dtype).requires_grad_() for t in case]
    output = function(*leaves)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    return [output.detach(), *torch.autograd.grad(output, leaves, upstream)]


def nans(function, case):
    """How many numbers of the output and of every gradient are NaN."""
    return [int(t.isnan().sum()) for t in run(function, case, torch.float64)]
