"""Masks and probabilities for the tests of the metrics."""

import pytest
import torch
from torch import Tensor

SIZES = {"2d": (32, 32), "2d-odd-non-square": (37, 18), "3d": (12, 12, 12), "3d-odd-non-cubic": (9, 5, 14)}
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())


def noise(size: tuple[int, ...], images: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities and boolean targets; every image has its own amount of foreground."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.linspace(0.2, 0.8, images).reshape(-1, *[1] * len(size))
    target = torch.rand(images, *size, generator=generator) < share
    return torch.rand(images, *size, generator=generator), target


def balls(size: tuple[int, ...], images: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs of overlapping balls, some cut by the border of the image."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) for n in size], indexing="ij"), -1)
    masks = []
    for _ in range(2 * images):
        centre = torch.rand(len(size), generator=generator) * torch.tensor(size)
        radius = (0.2 + 0.2 * torch.rand(1, generator=generator)) * max(size)
        mask = (grid - centre).norm(dim=-1) < radius
        assert mask.any()
        masks.append(mask)
    return torch.stack(masks[:images]), torch.stack(masks[images:])
