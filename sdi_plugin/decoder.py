"""The decoder of U-Net v2: SDI skip connections, top-down fusion, one segmentation head for each supervised level."""

import math
from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from sdi_plugin import canvas, dimension, precision
from sdi_plugin.sdi import SDISkip


class UNetV2Decoder(nn.Module):
    """Attention, reduction and SDI for every level, then top-down fusion and 1x1 heads.

    y_L = h_L;  y_i = up(y_{i+1}) + h_i;  logits_i = head_i(y_i)        Peng et al. 2023, arXiv 2311.17791, fig. 1

    Args:
        in_channels: of the encoder's levels, fine to coarse.
        classes: of the heads; 0 leaves the heads out and returns the features y.
        channels: C of the decoder.
        dim: number of spatial axes, 2 or 3.
        strides: from each level to the next coarser one, finest first, an int or one int per axis; 2 by default.
        deep_supervision: number of heads, finest first; 0 is one head, that of the finest level.
        norm, fusion: of SDI's product, see `SDI`.
        init: "paper", torch's own start, or "unit": SDI's terms start at 1 + noise (see `SDI`), and up halves the
            variance, so that y, too, starts near 1 for any number of levels.
        reduction_norm: after the 1x1 reductions, see `SDISkip`.
        checkpointing: recompute attention and SDI in backward instead of storing their maps.

    Shape:
        features: L tensors (B, in_channels[j], *S_j), fine to coarse. Returns logits (B, classes, *S_j), finest first,
        one for each head, or the L features y (B, C, *S_j).

    Convention:
        up: bias-free transposed convolution, kernel stride + 2 (4x4 at stride 2), padding 1; where levels are not exact
        multiples of each other its output is resized linearly, align_corners=False.
        Where SDI returns float32 under autocast in float16 (see `SDI`), so do up-sampling, sums and heads.

    Raises:
        ValueError: the features differ from what was announced (see `SDISkip`); more heads than levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        classes: int,
        channels: int = 32,
        *,
        dim: int = 2,
        strides: Sequence[int | Sequence[int]] | None = None,
        deep_supervision: int = 0,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
        reduction_norm: str | Callable[[int], nn.Module] | None = "batch",
        checkpointing: bool = False,
    ):
        super().__init__()
        levels = len(in_channels)
        if classes < 0:
            raise ValueError(f"UNetV2Decoder: expected classes >= 0, got {classes}.")
        if not 0 <= deep_supervision <= levels:
            raise ValueError(
                f"UNetV2Decoder: expected deep_supervision from 0 to {levels} (one head per level at most), "
                f"got {deep_supervision}."
            )
        strides = (2,) * (levels - 1) if strides is None else strides
        if len(strides) != levels - 1:
            raise ValueError(
                f"UNetV2Decoder: expected {levels - 1} strides between {levels} levels, got {len(strides)}."
            )
        self.classes = classes
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
        heads = max(1, deep_supervision) if classes else 0
        self.heads = nn.ModuleList(dimension.conv(dim)(channels, classes, 1) for _ in range(heads))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        ys = self.forward_features(features)
        if not self.classes:
            return ys
        with precision.float32_stays(ys[0]):
            return [head(y) for head, y in zip(self.heads, ys, strict=False)]

    def forward_features(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The features y_1..y_L before the heads, finest first."""
        *finer, y = self.skip(features)
        ys = [y]
        with precision.float32_stays(y):
            for h, up in zip(reversed(finer), reversed(self.ups), strict=True):
                y = canvas.resize(up(y), h.shape[2:]) + h
                ys.append(y)
        return ys[::-1]

    def init_unit(self) -> None:
        """Draw the start of init="unit", whatever was drawn before: for networks that draw it last."""
        self.skip.init_unit()
        self._init_unit_ups()

    def _init_unit_ups(self) -> None:
        """w ~ N(0, 1 / (2 n)) for the n values of its input that reach a value of its output."""
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
