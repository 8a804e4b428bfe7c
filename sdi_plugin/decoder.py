"""The decoder of U-Net v2: SDI skip connections and top-down fusion. It returns features; the caller adds the heads."""

import math
from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from sdi_plugin import canvas, dimension, precision
from sdi_plugin.sdi import SDISkip


class UNetV2Decoder(nn.Module):
    """Attention, reduction and SDI for every level, then top-down fusion.

    y_L = h_L;  y_i = up(y_{i+1}) + h_i        Peng et al. 2023, arXiv 2311.17791, fig. 1

    Args:
        in_channels: channels of the encoder's levels, fine to coarse.
        channels: C of the decoder.
        dim: number of spatial axes, 2 or 3.
        strides: from each level to the next coarser one, finest first, each an int or one int per axis; 2 by default.
        norm, fusion: those of `SDI`.
        init: "paper", torch's default initialisation; or "unit": SDI's terms start at 1 + noise (see `SDI`), and up
            halves the mean square of its input, so that y keeps its scale over any number of levels.
        reduction_norm: the norm after the 1x1 reductions, see `SDISkip`.
        checkpointing: recompute SDI in backward instead of storing its maps, see `SDISkip`.

    Shape:
        features: L tensors (B, in_channels[j], *S_j), fine to coarse. Returns the L features y (B, C, *S_j), finest
        first. The paper's heads are 1x1 convolutions of the first ones.

    Convention:
        up: bias-free transposed convolution, kernel stride + 2 (4x4 at stride 2), padding 1. If the size of a level is
        not an exact multiple of the next, its output is resized linearly, align_corners=False.
        If SDI returns float32 under autocast in float16 (see `SDI`), up-sampling and sums are in float32 too.

    Raises:
        ValueError: an argument is out of range; the features differ from the arguments, see `SDISkip`.

    Examples:
        >>> import torch
        >>> from sdi_plugin import UNetV2Decoder
        >>> decoder = UNetV2Decoder([16, 32, 64])
        >>> features = [torch.randn(2, 16, 40, 32), torch.randn(2, 32, 20, 16), torch.randn(2, 64, 10, 8)]
        >>> y = decoder(features)[0]
        >>> torch.nn.Conv2d(32, 4, kernel_size=1)(y).shape  # a head
        torch.Size([2, 4, 40, 32])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 32,
        *,
        dim: int = 2,
        strides: Sequence[int | Sequence[int]] | None = None,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
        reduction_norm: str | Callable[[int], nn.Module] | None = "batch",
        checkpointing: bool = False,
    ):
        super().__init__()
        levels = len(in_channels)
        strides = (2,) * (levels - 1) if strides is None else strides
        if len(strides) != levels - 1:
            raise ValueError(
                f"UNetV2Decoder: expected {levels - 1} strides between {levels} levels, got {len(strides)}."
            )
        self.skip = SDISkip(
            in_channels,
            channels,
            dim=dim,
            norm=norm,
            fusion=fusion,
            init=init,
            reduction_norm=reduction_norm,
            checkpointing=checkpointing,
        )
        self.ups = nn.ModuleList(_up(channels, stride, dim) for stride in strides)
        if init == "unit":
            self._init_unit_ups()

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        *finer, y = self.skip(features)
        ys = [y]
        with precision.float32_stays(y):
            for h, up in zip(reversed(finer), reversed(self.ups), strict=True):
                y = canvas.resize(up(y), h.shape[2:]) + h
                ys.append(y)
        return ys[::-1]

    def init_unit(self) -> None:
        """Draw the weights of init="unit" again: for networks whose own initialisation has overwritten them."""
        self.skip.init_unit()
        self._init_unit_ups()

    def _init_unit_ups(self) -> None:
        """w ~ N(0, 1 / (2 n)), where n values of the input contribute to each value of the output."""
        for up in self.ups:
            up = cast(nn.ConvTranspose2d, up)
            reached = up.weight[:, 0].numel() / math.prod(up.stride)
            nn.init.normal_(up.weight, std=math.sqrt(0.5 / reached))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.skip.set_grad_checkpointing(enable)


def _up(channels: int, stride: int | Sequence[int], dim: int) -> nn.Module:
    strides = (stride,) * dim if isinstance(stride, int) else tuple(stride)
    if len(strides) != dim or min(strides) < 1:
        raise ValueError(f"UNetV2Decoder: expected strides >= 1, one int or {dim} ints, got {stride}.")
    kernel = tuple(s + 2 for s in strides)
    return dimension.conv_transpose(dim)(
        channels, channels, cast(int, kernel), stride=cast(int, strides), padding=1, bias=False
    )
