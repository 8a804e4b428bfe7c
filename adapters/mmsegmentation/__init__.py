"""U-Net v2 for MMSegmentation: import this module before mmseg's, or name it in a config's `custom_imports`.

The import makes mmseg work with mmcv-lite, makes mmengine read its own checkpoints with weights_only=True, checks the
--cfg-options of configs that name this adapter, and registers the classes below with mmseg.
"""

from sdi_plugin.adapters.mmsegmentation import environment

environment.prepare()

from sdi_plugin.adapters.mmsegmentation import checkpoints, options  # noqa: E402

checkpoints.trust_mmengine()
options.watch()

from sdi_plugin.adapters.mmsegmentation.backbone import PVTv2  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.datasets import (  # noqa: E402
    ISICDataset,
    LesionDataset,
    MaskToLabels,
    PH2Dataset,
    PolypDataset,
)
from sdi_plugin.adapters.mmsegmentation.head import UNetV2Head  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.losses import StructureLoss  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.metric import LesionMetric, name_rules  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.multiscale import MultiScaleSegDataPreProcessor  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.neck import SDINeck  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.optimizer import LayerDecayConstructor  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.reseed import ReseedHook  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.timm_pyramid import TimmPyramid  # noqa: E402
from sdi_plugin.adapters.mmsegmentation.tta import MeanProbabilityTTA  # noqa: E402

name_rules()

__all__ = [
    "ISICDataset",
    "LayerDecayConstructor",
    "LesionDataset",
    "LesionMetric",
    "MaskToLabels",
    "MeanProbabilityTTA",
    "MultiScaleSegDataPreProcessor",
    "PH2Dataset",
    "PVTv2",
    "PolypDataset",
    "ReseedHook",
    "SDINeck",
    "StructureLoss",
    "TimmPyramid",
    "UNetV2Head",
]
