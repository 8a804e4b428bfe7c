"""`nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerUNetV2PVT`: the paper's network, with its ISIC recipe."""

from collections.abc import Sequence
from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from sdi_plugin.adapters.nnunet.pvt import PVTUNetV2
from sdi_plugin.adapters.nnunet.signature import network_builder
from sdi_plugin.adapters.nnunet.trainer import nnUNetTrainerUNetV2
from sdi_plugin.adapters.nnunet.trainer_timm import nnUNetTrainerUNetV2Timm


def _build(
    architecture: str, arguments: dict[str, Any], to_import: Sequence[str], inputs: int, outputs: int, deep: bool
) -> nn.Module:
    if str(arguments.get("conv_op", "")).endswith("3d"):
        raise ValueError(
            "nnUNetTrainerUNetV2PVT: expected a 2-D configuration, got a 3-D one: timm's encoders take images only. "
            "Train configuration 2d, or volumes with -tr nnUNetTrainerUNetV2."
        )
    own = architecture.endswith(f".{PVTUNetV2.__name__}")  # otherwise plans that no trainer of ours has seen
    return PVTUNetV2(inputs, outputs, **(arguments if own else {}), deep_supervision=deep)


class nnUNetTrainerUNetV2PVT(nnUNetTrainerUNetV2Timm):  # noqa: N801
    """U-Net v2 as published (PVTv2-B2, 2-D), trained as on ISIC: 300 epochs, SGD 1e-3, CE + 1.5 Dice on four heads.

    Patch and batch size are the plan's (published: 256 x 256 and 49). The encoder starts from ImageNet weights: the
    file that the environment variable SDI_PLUGIN_PVT_WEIGHTS names, else timm's from its hub. With `--c`, `--val` and
    `-pretrained_weights` it starts from those.

    Attributes:
        encoder: class attribute, timm's name.
        pretrained: class attribute, whether the encoder starts from ImageNet weights.

    Raises:
        ValueError: a 3-D configuration.
        FileNotFoundError, RuntimeError, sdi_plugin.checkpoint.CheckpointError: there are no ImageNet weights; raised
            before training.

    Examples:
        `nnUNetv2_train 4 2d 0 -tr nnUNetTrainerUNetV2PVT` trains it; a subclass changes the recipe:

        >>> from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2PVT
        >>> class nnUNetTrainerMine(nnUNetTrainerUNetV2PVT):
        ...     epochs = 200
        ...     learning_rate = 5e-3
    """

    learning_rate = 1e-3
    encoder = "pvt_v2_b2"
    weights_variable = "SDI_PLUGIN_PVT_WEIGHTS"
    network_class = PVTUNetV2

    build_network_architecture = network_builder(_build)

    def _build_loss(self) -> nn.Module:
        loss: Any = super()._build_loss()
        (loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss).weight_dice = 1.5
        return loss

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, LRScheduler]:
        return nnUNetTrainerUNetV2.configure_optimizers(self)


class nnUNetTrainerUNetV2PVT_noPretrain(nnUNetTrainerUNetV2PVT):  # noqa: N801
    """nnUNetTrainerUNetV2PVT from a random start.

    Examples:
        `nnUNetv2_train 4 2d 0 -tr nnUNetTrainerUNetV2PVT_noPretrain` trains it.

        >>> from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2PVT_noPretrain
        >>> nnUNetTrainerUNetV2PVT_noPretrain.epochs, nnUNetTrainerUNetV2PVT_noPretrain.pretrained
        (300, False)
    """

    pretrained = False
