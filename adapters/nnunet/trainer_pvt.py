"""`nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerUNetV2PVT`: the paper's network, with its ISIC recipe."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from sdi_plugin import checkpoint
from sdi_plugin.adapters.nnunet.plans import with_pvt
from sdi_plugin.adapters.nnunet.pvt import SCALES, PVTUNetV2
from sdi_plugin.adapters.nnunet.signature import network_builder
from sdi_plugin.adapters.nnunet.trainer import nnUNetTrainerUNetV2
from sdi_plugin.encoder import TimmEncoder
from sdi_plugin.hub import HubError

WEIGHTS_VARIABLE = "SDI_PLUGIN_PVT_WEIGHTS"
_CURE = (
    "Name a file (official pvt_v2_b2.pth, timm's or safetensors) in the environment variable "
    f"{WEIGHTS_VARIABLE}, or train from a random start with -tr nnUNetTrainerUNetV2PVT_noPretrain."
)


def _build(
    architecture: str, arguments: dict[str, Any], to_import: Sequence[str], inputs: int, outputs: int, deep: bool
) -> nn.Module:
    if str(arguments.get("conv_op", "")).endswith("3d"):
        raise ValueError(_only_2d("a 3-D one"))
    own = architecture.endswith(f".{PVTUNetV2.__name__}")  # otherwise plans that no trainer of ours has seen
    return PVTUNetV2(inputs, outputs, **(arguments if own else {}), deep_supervision=deep)


class nnUNetTrainerUNetV2PVT(nnUNetTrainerUNetV2):  # noqa: N801
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

    epochs = 300
    learning_rate = 1e-3
    encoder = "pvt_v2_b2"
    pretrained = True

    def _adapt_plans(self, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
        patch = PlansManager(plans).get_configuration(configuration).patch_size
        if len(patch) != 2:
            raise ValueError(_only_2d(repr(configuration)))
        return with_pvt(plans, self.encoder)

    build_network_architecture = network_builder(_build)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        return [[scale, scale] for scale in SCALES] if self.enable_deep_supervision else None

    def _build_loss(self) -> nn.Module:
        loss: Any = super()._build_loss()
        supervised = isinstance(loss, DeepSupervisionWrapper)
        (loss.loss if supervised else loss).weight_dice = 1.5
        if supervised:
            # nnU-Net leaves the coarsest output out; here all four are supervised.
            loss.weight_factors = tuple(scale / sum(SCALES) for scale in SCALES)
        return loss

    def on_train_start(self) -> None:
        if self.was_initialized:
            self.print_to_log_file("U-Net v2: the network starts from the weights that were loaded.")
        else:
            self.initialize()
            self._load_imagenet_weights()
        super().on_train_start()

    def _load_imagenet_weights(self) -> None:
        if not self.pretrained:
            self.print_to_log_file("U-Net v2: the encoder starts at random.")
            return
        file = os.environ.get(WEIGHTS_VARIABLE)
        encoder = self.bare_network.encoder
        try:
            if file:
                checkpoint.load_encoder(encoder.model, Path(file).expanduser(), owner=encoder.name)
            else:
                hub = TimmEncoder(encoder.name, encoder.in_channels, weights=True)
                encoder.load_state_dict(hub.state_dict())
        except HubError as error:
            raise error.with_cure(_CURE) from error
        except (FileNotFoundError, checkpoint.CheckpointError) as error:
            raise type(error)(f"{error} {_CURE}") from error
        self.print_to_log_file(
            f"U-Net v2: the encoder starts from {file or 'the ImageNet weights on the hub of timm'}."
        )


class nnUNetTrainerUNetV2PVT_noPretrain(nnUNetTrainerUNetV2PVT):  # noqa: N801
    """nnUNetTrainerUNetV2PVT from a random start.

    Examples:
        `nnUNetv2_train 4 2d 0 -tr nnUNetTrainerUNetV2PVT_noPretrain` trains it.

        >>> from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2PVT_noPretrain
        >>> nnUNetTrainerUNetV2PVT_noPretrain.epochs, nnUNetTrainerUNetV2PVT_noPretrain.pretrained
        (300, False)
    """

    pretrained = False


def _only_2d(configuration: str) -> str:
    return (
        f"nnUNetTrainerUNetV2PVT: expected a 2-D configuration, got {configuration}: PVTv2 takes images only. Train "
        "configuration 2d, or volumes with -tr nnUNetTrainerUNetV2."
    )
