"""Which arguments of timm an encoder takes: the network's own, but none that makes timm read files or ask the hub."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import timm
from timm.models import build_model_with_cfg

# timm takes these out of the arguments before the network sees them; the first two are smp's to set.
_TAKEN_BY_TIMM = {"features_only", "out_indices", "feature_cls", "pruned"}
_HARMLESS = {"scriptable", "exportable", "no_jit"}
# Covers what a later timm may add. Numbers are safe: SwinV2 has pretrained_window_sizes.
_OF_FILES = re.compile(r"pretrained|checkpoint|weights_|state_dict|cache|file|url|hub|(?<!drop_)path")


def arguments_of_network(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise a ValueError for a name or an argument that would make timm read a file or ask the hub.

    timm reads files without weights_only=True: what is in them could run code. The arguments come from a call, or from
    a stranger's config.json.
    """
    if ":" in name:  # timm's hf-hub:REPOSITORY and local-dir:FOLDER
        raise ValueError(
            f"UNetV2: expected the name of an architecture of timm, got {name!r}. Pass the architecture's name, and "
            "encoder_weights=FILE for weights of your own."
        )
    builders = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    taken = (builders | _TAKEN_BY_TIMM) - _HARMLESS
    refused = sorted(
        key for key, value in arguments.items() if key in taken or (_OF_FILES.search(key) and not _is_numbers(value))
    )
    if refused:
        raise ValueError(
            f"UNetV2: expected arguments of the encoder's network, such as drop_path_rate or img_size, got {refused}, "
            "by which timm chooses, reads or downloads weights. Pass encoder_weights=FILE, which is read safely, or "
            'encoder_weights="imagenet".'
        )


def _is_numbers(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list | tuple) and all(map(_is_numbers, value)))


def check_values(arguments: Mapping[str, Any]) -> None:
    """Raise a ValueError for values of a config.json that no network needs, above all paths."""
    for key, value in arguments.items():
        if not _is_plain(value):
            raise ValueError(
                "UNetV2: expected numbers and words for the encoder's network in config.json, got "
                f"{key}={str(value)[:60]!r}. Build the network in code, and load its state dict."
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value.keys(), *value.values())))
    return value is None or _is_numbers(value) or re.fullmatch(r"[\w.+-]*", str(value)) is not None
