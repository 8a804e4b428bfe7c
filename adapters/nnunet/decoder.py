"""U-Net v2's decoder with nnU-Net's interface: heads named seg_layers, deep supervision as a switch."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sdi_plugin import dimension, precision
from sdi_plugin.decoder import UNetV2Decoder
from sdi_plugin.sdi import check_init


class NNUNetDecoder(UNetV2Decoder):
    """`sdi_plugin.UNetV2Decoder` with nnU-Net's contract.

    nnU-Net switches `deep_supervision` on and off, and `-pretrained_weights` leaves out what is named seg_layers.

    Args:
        in_channels, channels, dim, init, options: see `UNetV2Decoder`.
        classes: K, the channels of the logits.
        heads: number of supervised levels, finest first.
        deep_supervision: the switch's initial state.

    Shape:
        features: L tensors (B, in_channels[j], *S_j), fine to coarse. Returns logits (B, K, *S_0), or with deep
        supervision a list of `heads` of them (B, K, *S_j), finest first.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        classes: int,
        channels: int = 32,
        *,
        heads: int,
        deep_supervision: bool = True,
        dim: int = 2,
        init: str = "paper",
        **options: Any,
    ):
        super().__init__(in_channels, channels, dim=dim, **options)
        self.seg_layers = nn.ModuleList(dimension.conv(dim)(channels, classes, 1) for _ in range(heads))
        self.deep_supervision = deep_supervision
        check_init("NNUNetDecoder", init)
        if init == "unit":
            self.init_unit()  # after the heads, so that a seed gives the same numbers as before

    def forward(self, features: Sequence[Tensor]) -> Tensor | list[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ys = super().forward(features)
        with precision.float32_stays(ys[0]):
            if not self.deep_supervision:
                return self.seg_layers[0](ys[0])
            return [head(y) for head, y in zip(self.seg_layers, ys, strict=False)]
