"""The trainers and their variants under nnU-Net's naming: nnUNetTrainerUNetV2_50epochs_NoMirroring,
nnUNetTrainerUNetV2Timm_convnext_tiny_frozen and so on.

A variant is made when this module is asked for its name, which is what nnU-Net's search and pickle do.
"""

import re
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)

from sdi_plugin.adapters.nnunet.trainer import nnUNetTrainerUNetV2
from sdi_plugin.adapters.nnunet.trainer_nnssl import nnUNetTrainerUNetV2_nnssl
from sdi_plugin.adapters.nnunet.trainer_pvt import nnUNetTrainerUNetV2PVT, nnUNetTrainerUNetV2PVT_noPretrain
from sdi_plugin.adapters.nnunet.trainer_timm import nnUNetTrainerUNetV2Timm
from sdi_plugin.encoder.build import check_name

__all__ = [
    "nnUNetTrainerUNetV2",
    "nnUNetTrainerUNetV2PVT",
    "nnUNetTrainerUNetV2PVT_noPretrain",
    "nnUNetTrainerUNetV2Timm",
    "nnUNetTrainerUNetV2_nnssl",
]

# Longer names first.
_BASES = (
    nnUNetTrainerUNetV2PVT_noPretrain,
    nnUNetTrainerUNetV2Timm,
    nnUNetTrainerUNetV2PVT,
    nnUNetTrainerUNetV2_nnssl,
    nnUNetTrainerUNetV2,
)
# In the order of inheritance: DA5's method calls none of those after it, so it comes last.
_VARIANTS: dict[str, type[nnUNetTrainer]] = {
    "NoDeepSupervision": nnUNetTrainerNoDeepSupervision,
    "NoMirroring": nnUNetTrainerNoMirroring,
    "DA5": nnUNetTrainerDA5,
}
_OF_TIMM: dict[str, dict[str, Any]] = {
    "noPretrain": {"pretrained": False, "encoder_factor": 1.0},
    "frozen": {"frozen": True},
    "stem": {"stem": True},
}
_EPOCHS = re.compile(r"1epoch|([2-9]|[1-9]\d+)epochs")


def __getattr__(name: str) -> type[nnUNetTrainerUNetV2]:
    """The variant of that name: a trainer's, then any of `_Nepochs` and nnU-Net's own variants, each once."""
    for base in _BASES:
        rest = name.removeprefix(base.__name__)
        if rest != name and rest.startswith("_"):
            encoder, suffixes = _split(rest[1:]) if base is nnUNetTrainerUNetV2Timm else (None, rest[1:].split("_"))
            made = _variant(name, base, suffixes, encoder)
            globals()[name] = made  # the same class on every call
            return made
    raise AttributeError(f"{__name__} has no {name}")


def trainer_name(encoder: str) -> str:
    """The name of the trainer for a model of timm: a class has no dot, so `_tag_` stands for that before timm's tag.

    Examples:
        >>> from sdi_plugin.adapters.nnunet.variants import trainer_name
        >>> trainer_name("vit_small_patch14_dinov2.lvd142m")
        'nnUNetTrainerUNetV2Timm_vit_small_patch14_dinov2_tag_lvd142m'
    """
    return f"{nnUNetTrainerUNetV2Timm.__name__}_{encoder.replace('.', '_tag_')}"


def _split(rest: str) -> tuple[str, list[str]]:
    """timm's name, and the suffixes after it."""
    words, suffixes = rest.split("_"), []
    while len(words) > 1 and (words[-1] in {*_VARIANTS, *_OF_TIMM} or _EPOCHS.fullmatch(words[-1])):
        suffixes.append(words.pop())
    encoder = "_".join(words).replace("_tag_", ".")
    try:
        check_name(encoder, nnUNetTrainerUNetV2Timm.__name__)
    except ValueError as error:
        raise AttributeError(str(error)) from error
    return encoder, suffixes


def _variant(name: str, base: type[nnUNetTrainerUNetV2], suffixes: list[str], encoder: str | None) -> Any:
    epochs = [int(suffix.rstrip("epochs")) for suffix in suffixes if _EPOCHS.fullmatch(suffix)]
    starts = {suffix for suffix in suffixes if encoder is not None and suffix in _OF_TIMM}
    others = {suffix for suffix in suffixes if suffix in _VARIANTS}
    if len(epochs) > 1 or len(starts - {"stem"}) > 1 or len(epochs) + len(others) + len(starts) < len(suffixes):
        known = ["1epoch", "Nepochs", *_VARIANTS, *(_OF_TIMM if encoder is not None else ())]
        raise AttributeError(f"{name}: expected {base.__name__}, then any of _{', _'.join(known)}, each once.")
    content: dict[str, Any] = {"__module__": __name__, "__doc__": f"{base.__name__} with {', '.join(suffixes)}."}
    if encoder is not None:
        content["encoder"] = encoder
    for start in starts:
        content |= _OF_TIMM[start]
    if epochs:
        content["epochs"] = epochs[0]
    bases: tuple[Any, ...] = (*(kind for suffix, kind in _VARIANTS.items() if suffix in others), base)
    return type(name, bases, content)
