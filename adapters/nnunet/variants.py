"""The trainers and their variants under nnU-Net's naming: nnUNetTrainerUNetV2_50epochs_NoMirroring and so on.

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
from sdi_plugin.adapters.nnunet.trainer_pvt import nnUNetTrainerUNetV2PVT, nnUNetTrainerUNetV2PVT_noPretrain

__all__ = ["nnUNetTrainerUNetV2", "nnUNetTrainerUNetV2PVT", "nnUNetTrainerUNetV2PVT_noPretrain"]

_BASES = (nnUNetTrainerUNetV2PVT_noPretrain, nnUNetTrainerUNetV2PVT, nnUNetTrainerUNetV2)  # longer names first
# In the order of inheritance: DA5's method calls none of those after it, so it comes last.
_VARIANTS: dict[str, type[nnUNetTrainer]] = {
    "NoDeepSupervision": nnUNetTrainerNoDeepSupervision,
    "NoMirroring": nnUNetTrainerNoMirroring,
    "DA5": nnUNetTrainerDA5,
}
_EPOCHS = re.compile(r"1epoch|([2-9]|[1-9]\d+)epochs")


def __getattr__(name: str) -> type[nnUNetTrainerUNetV2]:
    """The variant of that name: a trainer's, then any of `_Nepochs` and nnU-Net's own variants, each once."""
    for base in _BASES:
        rest = name.removeprefix(base.__name__)
        if rest != name and rest.startswith("_"):
            made = _variant(name, base, rest[1:].split("_"))
            globals()[name] = made  # the same class on every call
            return made
    raise AttributeError(f"{__name__} has no {name}")


def _variant(name: str, base: type[nnUNetTrainerUNetV2], suffixes: list[str]) -> Any:
    epochs = [int(suffix.rstrip("epochs")) for suffix in suffixes if _EPOCHS.fullmatch(suffix)]
    others = {suffix for suffix in suffixes if suffix in _VARIANTS}
    if len(epochs) > 1 or len(epochs) + len(others) < len(suffixes):
        raise AttributeError(
            f"{name}: expected {base.__name__}, then any of _1epoch, _Nepochs, _{', _'.join(_VARIANTS)}, each once."
        )
    content: dict[str, Any] = {"__module__": __name__, "__doc__": f"{base.__name__} with {', '.join(suffixes)}."}
    if epochs:
        content["epochs"] = epochs[0]
    bases: tuple[Any, ...] = (*(kind for suffix, kind in _VARIANTS.items() if suffix in others), base)
    return type(name, bases, content)
