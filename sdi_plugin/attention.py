"""CBAM's attention (Woo et al. 2018, arXiv 1807.06521) for images and volumes, and U-Net v2's reduction with it."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from sdi_plugin import dimension, ops, precision
from sdi_plugin.ops import reference


class ChannelAttention(nn.Module):
    """Gate the channels by their mean and maximum over the pixels.

    gate = sigmoid( MLP(mean over pixels) + MLP(maximum over pixels) )        arXiv 1807.06521, eq. 2

    Args:
        channels: C.
        reduction: the MLP's hidden layer has C // reduction channels, but at least one.
        dim: number of spatial axes, 2 or 3.

    Shape:
        x: (B, C, *S). Returns the gate, (B, C, 1, ..., 1): multiply it with x.

    Raises:
        ValueError: channels or reduction below 1; dim not 2 or 3.

    Examples:
        >>> import torch
        >>> from sdi_plugin import ChannelAttention
        >>> x = torch.randn(2, 64, 20, 30)
        >>> gate = ChannelAttention(64)(x)
        >>> gate.shape, (gate * x).shape
        (torch.Size([2, 64, 1, 1]), torch.Size([2, 64, 20, 30]))
    """

    def __init__(self, channels: int, reduction: int = 16, dim: int = 2):
        super().__init__()
        dimension.check("ChannelAttention", dim)
        if channels < 1 or reduction < 1:
            raise ValueError(f"ChannelAttention: expected channels and reduction >= 1, got {channels=}, {reduction=}.")
        hidden = max(1, channels // reduction)
        self.fc1 = dimension.conv(dim)(channels, hidden, 1, bias=False)
        self.fc2 = dimension.conv(dim)(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return reference.channel_gate(x, self.fc1.weight, self.fc2.weight)


class SpatialAttention(nn.Module):
    """Gate the pixels by their mean and maximum over the channels.

    gate = sigmoid( conv7x7( [mean over channels, maximum over channels] ) )        arXiv 1807.06521, eq. 3

    Args:
        kernel_size: kernel size of the convolution, odd.
        dim: number of spatial axes, 2 or 3.

    Shape:
        x: (B, C, *S). Returns the gate, (B, 1, *S): multiply it with x.

    Raises:
        ValueError: kernel_size even or below 1; dim not 2 or 3.

    Examples:
        >>> import torch
        >>> from sdi_plugin import SpatialAttention
        >>> SpatialAttention(dim=3)(torch.randn(2, 16, 8, 20, 30)).shape
        torch.Size([2, 1, 8, 20, 30])
    """

    def __init__(self, kernel_size: int = 7, dim: int = 2):
        super().__init__()
        dimension.check("SpatialAttention", dim)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"SpatialAttention: expected an odd kernel_size, got {kernel_size}.")
        self.conv = dimension.conv(dim)(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return reference.pixel_gate(x, self.conv.weight)


class AttentiveReduction(nn.Module):
    """Attend to one level's features and reduce them to the common number of channels.

    x = ca(f) * f;  x = sa(x) * x;  g = norm(conv1x1(x))        Peng et al. 2023, arXiv 2311.17791, eq. 1-2

    Args:
        in_channels: channels of the features.
        channels: C.
        dim: number of spatial axes, 2 or 3.
        norm: "batch" as in the paper, "layer", None, or a function from a number of channels to a module.

    Shape:
        f: (B, in_channels, *S). Returns (B, channels, *S).

    Backward keeps f and the gates (`sdi_plugin.ops.attend_and_reduce_stage`), so there is nothing to checkpoint.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        dim: int = 2,
        norm: str | Callable[[int], nn.Module] | None = "batch",
    ):
        super().__init__()
        self.channel_attention = ChannelAttention(in_channels, dim=dim)
        self.spatial_attention = SpatialAttention(dim=dim)
        self.conv = dimension.conv(dim)(in_channels, channels, 1, bias=False)
        self.bn = norm(channels) if callable(norm) else dimension.norm(norm, channels, dim)

    def forward(self, f: Tensor) -> Tensor:
        return reduce([self], [f])[0]


def reduce(modules: Sequence[AttentiveReduction], fs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of the modules, each for its level, in one call of the op."""
    attended = ops.attend_and_reduce_stage(
        fs,
        [module.channel_attention.fc1.weight for module in modules],
        [module.channel_attention.fc2.weight for module in modules],
        [module.spatial_attention.conv.weight for module in modules],
        [module.conv.weight for module in modules],
        out_dtype=precision.autocast_dtype(fs[0]),
        channels_last=None if any(_computes_statistics(module.bn) for module in modules) else True,
    )
    return [module.bn(g) for module, g in zip(modules, attended, strict=True)]


def _computes_statistics(norm: nn.Module) -> bool:
    """Whether torch sums over pixels: batch norm less exactly in channels last, instance norm after transposing."""
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
        return norm.training
    return isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d)
