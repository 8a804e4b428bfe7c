"""Steps of training: which images, in which order, and how they are augmented: determined by seed and epoch only."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.study.images import Images
from benchmarks.study.settings import Recipe


def steps_of(count: int, recipe: Recipe) -> int:
    """Number of full batches per epoch; the images that remain differ from epoch to epoch."""
    return max(1, count // recipe.batch)


def epoch(images: Images, recipe: Recipe, part: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pixels (B, 3, S, S), 0 to 255, and masks (B, 1, S, S), float32, drawn from torch's global generator.

    Args:
        part: the slice of each batch that this process trains on. Every process draws the whole batch, so that the
            images do not depend on the number of processes.
    """
    order = torch.randperm(len(images))
    for step in range(steps_of(len(images), recipe)):
        chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
        pixels, masks = images.pixels[chosen].float(), images.masks[chosen].float()
        if recipe.augment:
            pixels, masks = _augment(pixels, masks)
        yield pixels[part], masks[part]


def at_scale(pixels: Tensor, masks: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Both resized bilinearly to a multiple of 32, as PraNet's published training does, soft masks included."""
    if scale == 1:
        return pixels, masks
    size = max(32, round(pixels.shape[-1] * scale / 32) * 32)
    small, soft = (F.interpolate(x, (size, size), mode="bilinear", align_corners=True) for x in (pixels, masks))
    return small, soft


def rate(recipe: Recipe, progress: float) -> float:
    """The learning rate after this fraction of all steps."""
    warm_up = 0.05
    if recipe.schedule == "constant":
        return recipe.rate
    if progress < warm_up:
        return recipe.rate * max(progress / warm_up, 0.02)
    return recipe.rate * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2


def _augment(pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Per image: rotation by any angle, zoom from 0.8 to 1.25, mirroring with probability 0.5, gain and offset."""
    count = len(pixels)
    angle, zoom = 2 * math.pi * torch.rand(count), torch.empty(count).uniform_(0.8, 1.25)
    mirror = 1.0 - 2.0 * torch.randint(2, (count,))
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(count, 2, 2)
    maps = torch.zeros(count, 2, 3)
    maps[:, :, :2] = turn * zoom.view(-1, 1, 1) * torch.stack([mirror, torch.ones(count)], 1).view(-1, 1, 2)
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    masks = F.grid_sample(masks, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    gain = torch.empty(count, 3, 1, 1).uniform_(0.85, 1.15)
    offset = torch.empty(count, 1, 1, 1).uniform_(-20, 20)
    return (pixels * gain + offset).clamp(0, 255), masks
