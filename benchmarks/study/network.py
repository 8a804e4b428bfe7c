"""The networks that compete, by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from benchmarks.study.encoders import ENCODERS, load_imagenet
from benchmarks.study.initial import start_at_unit_scale
from benchmarks.study.settings import Run, Setting
from benchmarks.study.variants import Variant
from sdi_plugin.adapters.smp import UNetV2, with_sdi

CONTENDERS = {
    "unet": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "fpn": "FPN",
    "manet": "MAnet",
    "segformer": "Segformer",
    "upernet": "UPerNet",
    "unet-sdi": "Unet, with_sdi",
}
# What sdi_plugin.adapters.smp.UNetV2 has an argument for.
_PUBLIC = {"init", "norm", "fusion", "channels", "heads"}


def build(run: Run, weights: Path | None = None) -> tuple[nn.Module, str]:
    """The network at its start, and where its encoder starts from.

    The seed decides the start: equal runs start equal.

    Raises:
        ValueError: no such network or encoder.
        FileNotFoundError: see `load_imagenet`.
    """
    if run.protocol.encoder not in ENCODERS:
        raise ValueError(f"study: expected an encoder of {', '.join(ENCODERS)}, got {run.protocol.encoder!r}.")
    encoder = ENCODERS[run.protocol.encoder]
    torch.manual_seed(run.seed)
    model = _unetv2(encoder.name, run.setting) if run.network == "unetv2" else _contender(run, encoder.name)
    if run.protocol.start == "random":
        return model, "random weights"
    return model, load_imagenet(model, encoder, weights)


def title(network: str, setting: Setting) -> str:
    """For tables."""
    return f"U-Net v2, {setting.title()}" if network == "unetv2" else f"smp {CONTENDERS[network]}"


def is_public(setting: Setting) -> bool:
    """Whether sdi_plugin.adapters.smp.UNetV2 builds it; the rest is `Variant`'s."""
    return setting.changes().keys() <= _PUBLIC


def _contender(run: Run, encoder: str) -> nn.Module:
    if run.network not in CONTENDERS:
        raise ValueError(f"study: expected a network of unetv2, {', '.join(CONTENDERS)}, got {run.network!r}.")
    architecture = CONTENDERS[run.network].partition(",")[0]
    model: Any = smp.create_model(architecture, encoder, encoder_weights=None, in_channels=3, classes=1)
    if run.network == "unet-sdi":
        setting = run.setting
        model = with_sdi(model, setting.channels, norm=_norm(setting), fusion=setting.fusion, init=setting.init)
    return model


def _unetv2(encoder: str, setting: Setting) -> nn.Module:
    options: dict[str, Any] = {
        "decoder_channels": setting.channels,
        "decoder_norm": _norm(setting),
        "decoder_fusion": setting.fusion,
    }
    if not is_public(setting):
        variant = Variant(UNetV2(encoder, encoder_weights=None, **options), setting)
        if setting.init == "unit":
            start_at_unit_scale(variant)
        return variant
    if setting.heads == "all":
        levels = len(UNetV2(encoder, encoder_weights=None).levels)
        return _unetv2(encoder, replace(setting, heads=levels))
    return UNetV2(
        encoder, encoder_weights=None, decoder_init=setting.init, deep_supervision=int(setting.heads), **options
    )


def _norm(setting: Setting) -> str | None:
    return None if setting.norm == "none" else setting.norm
