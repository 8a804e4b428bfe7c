"""mmseg's EncoderDecoder with PVTv2 or TimmPyramid and UNetV2Head, from the core's description of a network."""

from typing import Any

from torch import nn

from sdi_plugin.checkpoint import without_weights
from sdi_plugin.encoder import TimmEncoder

from mmseg.registry import MODELS


def config(
    encoder: str,
    in_channels: int,
    classes: int,
    channels: int,
    deep_supervision: int,
    norm: str | None,
    fusion: str = "product",
    image_size: Any = None,
    stem: bool = False,
) -> dict[str, Any]:
    """The `model` of a config for the network that `sdi_plugin.checkpoint.describe` describes."""
    features = without_weights(lambda: TimmEncoder(encoder, image_size=image_size, stem=stem)).out_channels
    options: dict[str, Any] = {} if image_size is None else {"image_size": image_size}
    options |= {"stem": True} if stem else {}
    return {
        "type": "EncoderDecoder",
        "backbone": {
            "type": "PVTv2" if encoder.startswith("pvt_v2_") and not stem else "TimmPyramid",
            "name": encoder,
            "in_channels": in_channels,
            **options,
        },
        "decode_head": {
            "type": "UNetV2Head",
            "in_channels": list(features),
            "channels": channels,
            "num_classes": max(2, classes),
            "out_channels": classes,
            "deep_supervision": deep_supervision,
            "head_weights": None,
            "summed_heads": 1,  # the core and smp predict from the finest level alone
            "norm": norm,
            "fusion": fusion,
        },
        "test_cfg": {"mode": "whole"},
    }


def unetv2(**description: Any) -> nn.Module:
    """The segmentor of that configuration."""
    return MODELS.build(config(**description))
