"""U-Net v2 for segmentation_models_pytorch: import this module, then call `smp.create_model("unetv2", ...)`."""

from sdi_plugin import frameworks

try:
    import segmentation_models_pytorch as smp
except ModuleNotFoundError as error:
    if error.name != "segmentation_models_pytorch":
        raise  # smp is installed, but something that it needs is not: its own error says what
    raise ImportError(f"sdi_plugin.adapters.smp needs segmentation_models_pytorch. {frameworks.cure('smp')}") from error

frameworks.check("segmentation_models_pytorch", smp.__version__)

from sdi_plugin.adapters.smp.model import UNetV2  # noqa: E402
from sdi_plugin.adapters.smp.with_sdi import with_sdi  # noqa: E402

__all__ = ["UNetV2", "with_sdi"]

# create_model looks the architecture up in the mapping, smp.from_pretrained the class in the package.
smp.MODEL_ARCHITECTURES_MAPPING["unetv2"] = UNetV2
smp.UNetV2 = UNetV2  # pyright: ignore[reportAttributeAccessIssue]
