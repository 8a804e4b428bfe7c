"""U-Net v2 on a model of timm, as nnU-Net trains and calls it."""

from collections.abc import Sequence

from torch import Tensor, nn

from sdi_plugin import canvas
from sdi_plugin.adapters.nnunet.decoder import NNUNetDecoder
from sdi_plugin.encoder import TimmEncoder

# Scales of the heads' logits, by which nnU-Net reduces the 2-D labels for each head: each level has half the size of
# the finer one, and all are resized by the finest one's stride, as in the official ISIC training.
SCALES = (1.0, 0.5, 0.25, 0.125)


class TimmUNetV2(nn.Module):
    """U-Net v2 (Peng, Sonka, Chen 2023, arXiv 2311.17791) on any model of timm, 2-D, with the heads that nnU-Net
    supervises.

    With equal weights its logits are those of `sdi_plugin.UNetV2`.

    Args:
        input_channels: channels of the image, any number.
        num_classes: K, the channels of the logits.
        encoder: timm's name, see `sdi_plugin.UNetV2`.
        channels: C of the decoder.
        heads: the number of supervised levels, 4 at most; the encoder may have fewer.
        deep_supervision: whether all heads return logits, or only the finest; `decoder.deep_supervision` switches it.
        norm, fusion: for SDI's product, None and "product" as in the paper; see `sdi_plugin.SDI`.
        init: initialisation of the decoder, "paper" or "unit"; see `sdi_plugin.UNetV2Decoder`.
        freeze, image_size, stem: of the encoder, see `sdi_plugin.UNetV2`.

    Shape:
        x: (B, input_channels, H, W), any size that the encoder takes. Returns logits (B, K, H, W), or with deep
        supervision a list of `heads` logits of size round(H * s), round(W * s) for s = 1, 1/2, 1/4, 1/8, to which
        nnU-Net resizes its labels.

    Raises:
        ValueError: an image with other channels or axes; see also `sdi_plugin.UNetV2`.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.nnunet import TimmUNetV2
        >>> network = TimmUNetV2(1, 3, "tf_efficientnet_lite0")
        >>> [tuple(logits.shape[2:]) for logits in network(torch.randn(2, 1, 64, 96))]
        [(64, 96), (32, 48), (16, 24), (8, 12)]
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        encoder: str,
        channels: int = 32,
        *,
        heads: int = len(SCALES),
        deep_supervision: bool = True,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
        freeze: bool | int = False,
        image_size: int | Sequence[int] | None = None,
        stem: bool = False,
    ):
        super().__init__()
        size = (image_size[0], image_size[1]) if isinstance(image_size, Sequence) else image_size
        self.encoder = TimmEncoder(
            encoder, input_channels, freeze=freeze, image_size=size, stem=stem, owner=type(self).__name__
        )
        self.decoder = NNUNetDecoder(
            self.encoder.out_channels,
            num_classes,
            channels,
            strides=self.encoder.steps,
            heads=min(heads, len(self.encoder.out_channels)),
            deep_supervision=deep_supervision,
            norm=norm,
            fusion=fusion,
            init=init,
        )

    @property
    def scales(self) -> tuple[float, ...]:
        """Of the heads' logits, finest first."""
        return SCALES[: len(self.decoder.seg_layers)]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if x.ndim != 4 or x.shape[1] != self.encoder.in_channels:
            raise ValueError(
                f"{type(self).__name__}: expected images (B, {self.encoder.in_channels}, H, W), got {tuple(x.shape)}."
            )
        padded = self.encoder.pad(x)
        logits = self.decoder(self.encoder(padded))
        if isinstance(logits, Tensor):
            return canvas.to_image(logits, x.shape[2:], padded.shape[2:])
        return [
            canvas.to_image(each, _times(x.shape[2:], scale), _times(padded.shape[2:], scale))
            for each, scale in zip(logits, SCALES, strict=False)
        ]


def _times(size: Sequence[int], scale: float) -> list[int]:
    return [round(axis * scale) for axis in size]
