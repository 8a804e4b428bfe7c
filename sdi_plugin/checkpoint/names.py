"""The namings of parameters, and the conversion from each of them to the core's.

official  the authors' U-Net v2, in both variants: encoder.backbone.* with sdi_1.*, backbone.* with attention_1.*
core      sdi_plugin.UNetV2
smp       sdi_plugin.adapters.smp.UNetV2
mmseg     mmseg's EncoderDecoder with PVTv2 and UNetV2Head of sdi_plugin.adapters.mmsegmentation
nnunet    sdi_plugin.adapters.nnunet.PVTUNetV2
pvt_v2    only the encoder, as PVTv2's authors publish it, with its classifier
timm      only the encoder, as timm publishes it
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from sdi_plugin.checkpoint.errors import CheckpointError

ENCODER = "encoder.model."  # the prefix of timm's names in the core and smp
STEM = "encoder.stem."  # the prefix of the convolutional stem in the core
_LEVELS = 4  # levels of the official network


def identify(state: Mapping[str, Tensor]) -> str:
    """The naming: "official", "core", "smp", "mmseg" or "nnunet"; for only an encoder, "pvt_v2" or "timm".

    Raises:
        CheckpointError: another architecture.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> state = checkpoint.read("UNet_v2_official.pth")
        >>> checkpoint.identify(state)
        'official'
    """
    naming = _naming(state)
    if naming is None:
        raise CheckpointError(
            "Expected the weights of U-Net v2 (official, core, smp, mmseg or nnunet) or of a PVTv2 encoder, got those "
            f"of another architecture, with {shorten(list(state), 5)}."
        )
    return naming


def convert(state: Mapping[str, Tensor], to: str = "core") -> tuple[dict[str, Tensor], list[str]]:
    """Rename the weights of a whole network; the tensors stay as they are.

    Args:
        state: official, core, smp, mmseg or nnunet.
        to: "core", "smp", "mmseg" or "nnunet".

    Returns:
        The renamed state dict, and the names in `state` that have no counterpart and were dropped: the official
        network's unused deconv5 and its encoder's classifier, smp's classification head, mmseg's auxiliary head.
        Unknown names are kept unchanged, so that `check` finds them.

    Raises:
        CheckpointError: another architecture, only an encoder, or two names for the same parameter.
        ValueError: an unknown `to`.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> state = checkpoint.read("UNet_v2_official.pth")
        >>> converted, dropped = checkpoint.convert(state, to="smp")
        >>> checkpoint.identify(converted)
        'smp'
    """
    if to not in _FROM_CORE:
        raise ValueError(f"convert: expected to={', '.join(map(repr, _FROM_CORE))}, got {to!r}.")
    _, core, dropped = to_core(state)
    return from_core(core, to), dropped


def to_core(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor], list[str]]:
    """The naming of a whole network, its weights under the core's names, and the names that were dropped."""
    naming = identify(state)
    if naming in ("pvt_v2", "timm"):
        raise CheckpointError(
            "Expected the weights of a whole network, got only those of an encoder. "
            "Load them with UNetV2(encoder_weights=FILE)."
        )
    return naming, *_TO_CORE[naming](state)


def from_core(core: Mapping[str, Tensor], to: str) -> dict[str, Tensor]:
    """The core's weights under the names of `to`."""
    return rename(core, _FROM_CORE[to])


def encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights under timm's names; if the naming is unknown, the whole state dict."""
    naming = _naming(state)
    if naming in _TO_CORE:
        whole, _ = convert(state)
        return {key[len(ENCODER) :]: value for key, value in whole.items() if key.startswith(ENCODER)}
    if naming == "pvt_v2":
        return rename(state, _pvt_v2_name)
    return dict(state)


def rename(state: Mapping[str, Tensor], name_of: Callable[[str], str]) -> dict[str, Tensor]:
    """The tensors under their new names.

    Raises:
        CheckpointError: two names become one.
    """
    came_from: dict[str, str] = {}
    for key in state:
        other = came_from.setdefault(name_of(key), key)
        if other != key:
            raise CheckpointError(
                f"Expected one name for each parameter, got {other} and {key} for one. Leave one of them out."
            )
    return {name: state[key] for name, key in came_from.items()}


def shorten(names: list[str], limit: int = 10) -> str:
    """The first `limit` names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _naming(state: Mapping[str, Tensor]) -> str | None:
    def has(*prefixes: str) -> bool:
        return any(key.startswith(prefixes) for key in state)

    if has("Translayer_", "seg_outs.") and has("backbone.", "encoder.backbone."):
        return "official"
    if has("decoder.skip.sdi.") and has("encoder."):
        return "smp" if has("segmentation_head.") else "nnunet" if has("decoder.seg_layers.") else "core"
    if has("decode_head.decoder.skip.sdi.") and has("backbone.model."):
        return "mmseg"
    if has("patch_embed1.") and has("block1."):
        return "pvt_v2"
    if has("patch_embed.") and any(re.match(r"stages[._]0\.blocks\.0\.mlp\.dwconv\.", key) for key in state):
        return "timm"
    return None


def _without(state: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    left_out = set(names)
    return {key: value for key, value in state.items() if key not in left_out}


def _from_core(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    return dict(state), []


def _from_smp(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    dropped = [key for key in state if key.startswith("classification_head.")]
    return rename(_without(state, dropped), _core_name), dropped


def _core_name(key: str) -> str:
    """smp -> core."""
    if key.startswith("segmentation_head.0."):
        return key.replace("segmentation_head.0.", "decoder.heads.0.", 1)
    if key.startswith("stem."):
        return f"encoder.{key}"
    return re.sub(r"^auxiliary_heads\.(\d+)\.", lambda m: f"decoder.heads.{int(m[1]) + 1}.", key)


def _smp_name(key: str) -> str:
    """Core -> smp."""
    if key.startswith("decoder.heads.0."):
        return key.replace("decoder.heads.0.", "segmentation_head.0.", 1)
    if key.startswith(STEM):
        return key.removeprefix("encoder.")
    return re.sub(r"^decoder\.heads\.(\d+)\.", lambda m: f"auxiliary_heads.{int(m[1]) - 1}.", key)


def _from_mmseg(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    dropped = [key for key in state if key.startswith("auxiliary_head.")]
    return rename(_without(state, dropped), _core_name_of_mmseg), dropped


def _core_name_of_mmseg(key: str) -> str:
    """Mmseg -> core."""
    key = re.sub(r"^backbone\.(model|stem)\.", r"encoder.\1.", key)
    key = re.sub(r"^decode_head\.conv_seg\.", "decoder.heads.0.", key)
    key = re.sub(r"^decode_head\.auxiliary_convs\.(\d+)\.", lambda m: f"decoder.heads.{int(m[1]) + 1}.", key)
    return re.sub(r"^decode_head\.decoder\.", "decoder.", key)


def _mmseg_name(key: str) -> str:
    """Core -> mmseg."""
    key = re.sub(r"^encoder\.(model|stem)\.", r"backbone.\1.", key)
    key = re.sub(r"^decoder\.heads\.0\.", "decode_head.conv_seg.", key)
    key = re.sub(r"^decoder\.heads\.(\d+)\.", lambda m: f"decode_head.auxiliary_convs.{int(m[1]) - 1}.", key)
    return re.sub(r"^decoder\.", "decode_head.decoder.", key)


def _from_nnunet(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    if any(key.startswith("encoder.stages.") for key in state):
        raise CheckpointError(
            "Expected the weights of nnU-Net's nnUNetTrainerUNetV2PVT, got those of nnUNetTrainerUNetV2, whose encoder "
            "comes from an nnU-Net plan: it has no counterpart outside nnU-Net. Use the model in nnU-Net."
        )
    return rename(state, lambda key: re.sub(r"^decoder\.seg_layers\.", "decoder.heads.", key)), []


def _nnunet_name(key: str) -> str:
    """Core -> nnunet: nnU-Net expects heads under this name."""
    return re.sub(r"^decoder\.heads\.", "decoder.seg_layers.", key)


def _from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    dropped = [key for key in state if re.match(r"deconv5\.weight$|(encoder\.)?backbone\.head\.", key)]
    return rename(_without(state, dropped), _core_name_of_official), dropped


def _core_name_of_official(key: str) -> str:
    encoder = re.match(r"(?:encoder\.)?backbone\.(.*)", key)
    return ENCODER + _pvt_v2_name(encoder[1]) if encoder else _official_name(key)


def _official_name(key: str) -> str:
    """Official -> core for everything but the encoder. Its levels count from 1; its heads go from coarse to fine."""
    part = re.match(r"(ca|sa|Translayer|sdi|attention|seg_outs|deconv)[_.]?(\d)\.(.+)", key)
    if part is None:
        return key
    number, rest = int(part[2]), part[3]
    reduction = f"decoder.skip.reductions.{number - 1}."
    return {
        "ca": f"{reduction}channel_attention.{rest}",
        "sa": f"{reduction}spatial_attention.{re.sub('^conv1', 'conv', rest)}",
        "Translayer": f"{reduction}{rest}",
        "sdi": f"decoder.skip.sdi.{number - 1}.{rest}",
        "attention": f"decoder.skip.sdi.{number - 1}.{rest}",
        "seg_outs": f"decoder.heads.{_LEVELS - 1 - number}.{rest}",
        "deconv": f"decoder.ups.{_LEVELS - number}.{rest}",
    }[part[1]]


def _pvt_v2_name(key: str) -> str:
    """Official PVTv2 -> timm's feature pyramid, which counts stages from 0."""
    part = re.match(r"(patch_embed|block|norm)(\d)\.(.+)", key)
    if part is None:
        return key
    stage, rest = int(part[2]) - 1, part[3].replace("dwconv.dwconv.", "dwconv.")
    return {
        "patch_embed": f"stages_{stage}.downsample.{rest}" if stage else f"patch_embed.{rest}",
        "block": f"stages_{stage}.blocks.{rest}",
        "norm": f"stages_{stage}.norm.{rest}",
    }[part[1]]


_TO_CORE = {
    "official": _from_official,
    "core": _from_core,
    "smp": _from_smp,
    "mmseg": _from_mmseg,
    "nnunet": _from_nnunet,
}
_FROM_CORE = {"core": str, "smp": _smp_name, "mmseg": _mmseg_name, "nnunet": _nnunet_name}
