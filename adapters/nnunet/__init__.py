"""U-Net v2 for nnU-Net v2: trainers, networks and planners. The trainers are found without an import."""

from importlib import metadata

from sdi_plugin import frameworks

try:
    import nnunetv2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "nnunetv2":
        raise  # nnU-Net is installed, but something that it needs is not: its own error says what
    raise ImportError(f"sdi_plugin.adapters.nnunet needs nnU-Net v2. {frameworks.cure('nnunet')}") from error

frameworks.check("nnunetv2", metadata.version("nnunetv2"))

from sdi_plugin.adapters.nnunet.network import PlainConvUNetV2, ResidualEncoderUNetV2  # noqa: E402
from sdi_plugin.adapters.nnunet.planner import (  # noqa: E402
    nnUNetPlannerUNetV2,
    nnUNetPlannerUNetV2ResEncL,
    nnUNetPlannerUNetV2ResEncM,
    nnUNetPlannerUNetV2ResEncXL,
)
from sdi_plugin.adapters.nnunet.pvt import PVTUNetV2  # noqa: E402
from sdi_plugin.adapters.nnunet.timm_network import TimmUNetV2  # noqa: E402
from sdi_plugin.adapters.nnunet.trainer import nnUNetTrainerUNetV2  # noqa: E402
from sdi_plugin.adapters.nnunet.trainer_nnssl import nnUNetTrainerUNetV2_nnssl  # noqa: E402
from sdi_plugin.adapters.nnunet.trainer_pvt import (  # noqa: E402
    nnUNetTrainerUNetV2PVT,
    nnUNetTrainerUNetV2PVT_noPretrain,
)
from sdi_plugin.adapters.nnunet.trainer_timm import nnUNetTrainerUNetV2Timm  # noqa: E402

__all__ = [
    "PVTUNetV2",
    "PlainConvUNetV2",
    "ResidualEncoderUNetV2",
    "TimmUNetV2",
    "nnUNetPlannerUNetV2",
    "nnUNetPlannerUNetV2ResEncL",
    "nnUNetPlannerUNetV2ResEncM",
    "nnUNetPlannerUNetV2ResEncXL",
    "nnUNetTrainerUNetV2",
    "nnUNetTrainerUNetV2PVT",
    "nnUNetTrainerUNetV2PVT_noPretrain",
    "nnUNetTrainerUNetV2Timm",
    "nnUNetTrainerUNetV2_nnssl",
]
