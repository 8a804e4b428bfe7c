"""torch's layers for a number of spatial axes: 2 for images, 3 for volumes."""

from torch import nn


def check(owner: str, dim: int) -> None:
    if dim not in (2, 3):
        raise ValueError(f"{owner}: expected dim 2 (images) or 3 (volumes), got {dim!r}.")


def conv(dim: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return {2: nn.Conv2d, 3: nn.Conv3d}[dim]


def conv_transpose(dim: int) -> type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    return {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dim]


def norm(kind: str | None, channels: int, dim: int) -> nn.Module:
    """A normalisation by name: "batch", "layer" (over the channels and pixels of each image) or None."""
    if kind is None:
        return nn.Identity()
    if kind == "batch":
        return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dim](channels)
    if kind == "layer":
        return nn.GroupNorm(1, channels)
    raise ValueError(f'norm: expected None, "batch" or "layer", got {kind!r}.')
