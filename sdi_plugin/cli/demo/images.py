"""Procedurally drawn images that look somewhat like dermoscopy: a lesion, skin, hairs, gel bubbles.

They exist so that the demo runs anywhere without a download. A score on them says nothing about skin.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]


def lesion_image(seed: tuple[int, ...], size: int) -> tuple[Image.Image, Image.Image]:
    """One RGB image and its mask (mode L, 0 and 255), size x size pixels, the same for the same seed."""
    random = np.random.default_rng(seed)
    # Drawn at one resolution and then reduced, so that the same seed is the same picture at any size.
    canvas = 256
    y, x = np.mgrid[0:canvas, 0:canvas] / (canvas - 1) * 2 - 1
    border = _border(random, y, x)
    mask = border < 0
    skin = random.uniform(190, 235) * np.array([1, random.uniform(0.68, 0.8), random.uniform(0.56, 0.7)])
    image = skin + 12 * _noise(random, canvas, 4)[..., None] + 5 * _noise(random, canvas, 32)[..., None]
    dark = skin * random.uniform(0.3, 0.75) * np.array([1, random.uniform(0.7, 0.95), random.uniform(0.6, 0.95)])
    alpha = _sigmoid(-border * random.uniform(12, 45)) * np.clip(0.85 + 0.25 * _noise(random, canvas, 8), 0.3, 1.0)
    image = image * (1 - alpha[..., None]) + (dark + 18 * _noise(random, canvas, 16)[..., None]) * alpha[..., None]
    vignette = 1 - random.uniform(0.1, 0.5) * np.clip(np.hypot(y, x) - 0.5, 0, None) ** 2
    image = np.clip(image * vignette[..., None], 0, 255).astype(np.uint8)
    picture = _clutter(random, Image.fromarray(image))
    return (
        picture.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0),
        Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.NEAREST),
    )


def _border(random: np.random.Generator, y: Array, x: Array) -> Array:
    """A signed distance-like map, negative inside one irregular blob."""
    centre_y, centre_x = random.uniform(-0.35, 0.35, 2)
    angle = np.arctan2(y - centre_y, x - centre_x)
    radius = np.full_like(angle, random.uniform(0.25, 0.6))
    for order in range(2, 8):
        radius *= 1 + random.normal(0, 0.22 / order) * np.cos(order * angle + random.uniform(0, 2 * np.pi))
    stretch, tilt = random.uniform(0.75, 1.3), random.uniform(0, np.pi)
    radius *= np.sqrt(np.cos(angle - tilt) ** 2 * stretch + np.sin(angle - tilt) ** 2 / stretch)
    return np.hypot(y - centre_y, x - centre_x) - radius


def _noise(random: np.random.Generator, canvas: int, cells: int) -> Array:
    """Smooth noise of unit scale with about `cells` bumps across."""
    coarse = Image.fromarray(random.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((canvas, canvas), Image.Resampling.BICUBIC), dtype=np.float64)


def _clutter(random: np.random.Generator, image: Image.Image) -> Image.Image:
    """Hairs and bubbles, which cross the lesion and are not part of the mask."""
    draw = ImageDraw.Draw(image)
    size = image.width
    for _ in range(random.integers(0, 14)):
        left, top = random.uniform(-0.5, 0.8, 2) * size
        width, height = random.uniform(0.3, 1.5, 2) * size
        start = random.uniform(0, 360)
        shade = int(random.uniform(20, 80))
        draw.arc(
            (left, top, left + width, top + height),
            start,
            start + random.uniform(30, 120),
            fill=(shade, shade // 2, shade // 3),
            width=int(random.integers(1, 4)),
        )
    for _ in range(random.integers(0, 6)):
        left, top = random.uniform(0, 0.95, 2) * size
        diameter = random.uniform(0.02, 0.08) * size
        draw.ellipse((left, top, left + diameter, top + diameter), outline=(245, 235, 230))
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -40, 40)))
