"""The paper's network, on PVTv2, as nnU-Net trains and calls it."""

from typing import Any

from sdi_plugin.adapters.nnunet.timm_network import TimmUNetV2


class PVTUNetV2(TimmUNetV2):
    """U-Net v2 (Peng, Sonka, Chen 2023, arXiv 2311.17791) on PVTv2, 2-D, with the heads that nnU-Net supervises.

    With equal weights its logits are those of `sdi_plugin.UNetV2`; `sdi-plugin convert` converts weights between the
    two.

    Args:
        input_channels: channels of the image, any number.
        num_classes: K, the channels of the logits.
        encoder: timm's name, "pvt_v2_b0" to "pvt_v2_b5"; the paper's is "pvt_v2_b2".
        channels, options: C of the decoder, and the options of `TimmUNetV2`.

    Shape:
        x: (B, input_channels, H, W), any size. Returns logits (B, K, H, W), or with deep supervision a list of 4
        logits, see `TimmUNetV2`.

    Raises:
        ValueError: an image with other channels or axes; see also `sdi_plugin.UNetV2`.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.nnunet import PVTUNetV2
        >>> network = PVTUNetV2(1, 3, "pvt_v2_b0")
        >>> [tuple(logits.shape[2:]) for logits in network(torch.randn(2, 1, 64, 96))]
        [(64, 96), (32, 48), (16, 24), (8, 12)]
    """

    def __init__(
        self, input_channels: int, num_classes: int, encoder: str = "pvt_v2_b2", channels: int = 32, **options: Any
    ):
        super().__init__(input_channels, num_classes, encoder, channels, **options)
