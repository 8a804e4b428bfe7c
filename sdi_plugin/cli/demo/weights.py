"""ImageNet weights that come as a Python package, for machines without a model hub."""

from sdi_plugin import checkpoint
from sdi_plugin.adapters.smp import UNetV2
from sdi_plugin.encoder.weights import PACKAGES, is_packaged, packaged


def load_packaged_weights(model: UNetV2, encoder_name: str) -> str:
    """Load ImageNet weights into an smp model's encoder where an installed package has them.

    Returns:
        Where the encoder starts from, in words for the report.
    """
    name = encoder_name.removeprefix("tu-")
    if not is_packaged(name):
        return "random weights"
    checkpoint.load_encoder(model.encoder.model, packaged(name), owner=encoder_name)
    return f"ImageNet weights of the package {PACKAGES[name].replace('_', '-')}"
