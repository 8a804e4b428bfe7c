"""What a state dict says about the network to which it belongs."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdi_plugin.checkpoint.card import Card
from sdi_plugin.checkpoint.errors import CheckpointError
from sdi_plugin.checkpoint.names import ENCODER, STEM, convert
from sdi_plugin.checkpoint.origin import encoder_of

_Module = TypeVar("_Module", bound=nn.Module)

# Channels of the first stage and blocks per stage. Wang et al. 2022, PVT v2, arXiv 2106.13797, table 1.
_PVT_V2: dict[tuple[int, tuple[int, ...]], str] = {
    (32, (2, 2, 2, 2)): "pvt_v2_b0",
    (64, (2, 2, 2, 2)): "pvt_v2_b1",
    (64, (3, 4, 6, 3)): "pvt_v2_b2",
    (64, (3, 4, 18, 3)): "pvt_v2_b3",
    (64, (3, 8, 27, 3)): "pvt_v2_b4",
    (64, (3, 6, 40, 3)): "pvt_v2_b5",
}


def describe(state: Mapping[str, Tensor], card: Card | None = None) -> dict[str, Any]:
    """The arguments of `UNetV2` that build the network for these weights, derived from their names and shapes.

    Args:
        state: official, core, smp, mmseg or nnunet.
        card: names the encoder where it is not a PVTv2.

    Returns:
        encoder, in_channels, classes, channels, deep_supervision (the number of heads, or 0 for one), norm, fusion;
        image_size where the card says one; stem where there is one.

    Raises:
        CheckpointError: another architecture; only an encoder, or one other than pvt_v2_b0 to b5 (and b2_li) that the
            card does not name; or the parameters that identify the network are missing.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> state = checkpoint.read("UNet_v2_official.pth")
        >>> arguments = checkpoint.describe(state)
        >>> arguments["encoder"], arguments["classes"], arguments["channels"]
        ('pvt_v2_b0', 2, 32)
    """
    core, _ = convert(state)
    return describe_core(core, card)


def describe_core(core: Mapping[str, Tensor], card: Card | None = None) -> dict[str, Any]:
    """`describe` for weights under the core's names."""
    try:
        stem = _shape(core, f"{ENCODER}patch_embed.proj.weight")
        encoder = {"encoder": _encoder(core, stem[0]), "in_channels": stem[1]}
        size = {}
    except CheckpointError:
        named = encoder_of(card or Card())
        if named is None:
            raise
        encoder, size = {key: named[key] for key in ("encoder", "in_channels")}, {"image_size": named["image_size"]}
    classes, channels, *_ = _shape(core, "decoder.heads.0.weight")
    heads = sum(re.fullmatch(r"decoder\.heads\.\d+\.weight", key) is not None for key in core)
    return {
        **encoder,
        "classes": classes,
        "channels": channels,
        "deep_supervision": heads if heads > 1 else 0,
        "norm": _norm(core),
        "fusion": "asinh" if "decoder.skip.sdi.0.bound" in core else "product",
        **{name: value for name, value in size.items() if value is not None},
        **({"stem": True} if any(name.startswith(STEM) for name in core) else {}),
    }


def without_weights(build: Callable[[], _Module]) -> _Module:
    """build() on the meta device: gives only the names and shapes of the parameters.

    Examples:
        >>> from sdi_plugin import UNetV2, checkpoint
        >>> network = checkpoint.without_weights(lambda: UNetV2("pvt_v2_b5"))
        >>> next(network.parameters()).device
        device(type='meta')
    """
    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):  # older timm reads values of tensors while it builds
        with torch.random.fork_rng(devices=[]):
            return build()


def _shape(core: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in core:
        raise CheckpointError(f"Expected the weights of U-Net v2 with a PVTv2 encoder, got none for {name}.")
    if core[name].ndim != 4 or not core[name].numel():
        raise CheckpointError(f"{name}: expected 4 axes of 1 or more, got shape {tuple(core[name].shape)}.")
    return tuple(core[name].shape)


def _encoder(core: Mapping[str, Tensor], width: int) -> str:
    blocks = {m.groups() for key in core if (m := re.match(rf"{re.escape(ENCODER)}stages_(\d)\.blocks\.(\d+)\.", key))}
    stages = sorted({stage for stage, _ in blocks})
    depths = tuple(sum(stage == other for other, _ in blocks) for stage in stages)
    if (width, depths) not in _PVT_V2:
        raise CheckpointError(
            f"Expected an encoder pvt_v2_b0 to pvt_v2_b5, got one with {width} channels and {depths} blocks per stage."
        )
    linear = f"{ENCODER}stages_3.blocks.0.attn.sr.weight" in core  # only b2_li has it in the last stage
    return _PVT_V2[width, depths] + ("_li" if linear else "")


def _norm(core: Mapping[str, Tensor]) -> str | None:
    if "decoder.skip.sdi.0.norm.weight" not in core:
        return None
    return "batch" if "decoder.skip.sdi.0.norm.running_mean" in core else "layer"
