"""`nnUNetv2_train DATASET 2d FOLD -tr nnUNetTrainerUNetV2Timm_NAME`: U-Net v2 on any encoder of timm, pretrained."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from sdi_plugin import checkpoint
from sdi_plugin.adapters.nnunet.plans import with_timm
from sdi_plugin.adapters.nnunet.schedule import WarmUpPoly
from sdi_plugin.adapters.nnunet.signature import network_builder
from sdi_plugin.adapters.nnunet.timm_network import SCALES, TimmUNetV2
from sdi_plugin.adapters.nnunet.trainer import nnUNetTrainerUNetV2
from sdi_plugin.encoder import TimmEncoder
from sdi_plugin.encoder.weights import is_packaged
from sdi_plugin.hub import HubError


def _build(
    architecture: str, arguments: dict[str, Any], to_import: Sequence[str], inputs: int, outputs: int, deep: bool
) -> nn.Module:
    if not architecture.endswith(f".{TimmUNetV2.__name__}"):
        raise ValueError(
            f"nnUNetTrainerUNetV2Timm: expected plans for {TimmUNetV2.__name__}, which a 2-D configuration gets when "
            f"this trainer starts, got {architecture}."
        )
    return TimmUNetV2(inputs, outputs, **arguments, deep_supervision=deep)


class nnUNetTrainerUNetV2Timm(nnUNetTrainerUNetV2):  # noqa: N801
    """U-Net v2 on an encoder of timm, 2-D, from pretrained weights: `-tr nnUNetTrainerUNetV2Timm_NAME` for any name.

    Loss, augmentation, patch and batch size are nnU-Net's, with all heads supervised. A pretrained encoder needs
    smaller steps than nnU-Net's SGD 0.01: the optimiser and its settings are SegFormer's (Xie et al. 2021, arXiv
    2105.15203; MMSegmentation's configs): AdamW, the encoder at a tenth of the decoder's rate, no decay of norms and
    biases, a linear warm-up, then polynomial decay.

    Weights: the file that the environment variable SDI_PLUGIN_WEIGHTS names, else an installed package's, else those of
    timm's hub. With `--c`, `--val` and `-pretrained_weights` the network starts from those.

    Attributes:
        encoder: class attribute, timm's name.
        stem: class attribute, whether a light convolutional stem gives levels at strides 1 and 2.
        pretrained, frozen: class attributes, whether the encoder starts from pretrained weights, and keeps them.
        learning_rate, encoder_factor: class attributes, of the decoder, and the encoder's relative to it.
        decay, warmup_epochs: class attributes.

    Raises:
        ValueError: a 3-D configuration, or an encoder that timm does not have.
        FileNotFoundError, RuntimeError, sdi_plugin.checkpoint.CheckpointError: there are no pretrained weights; raised
            before training.

    Examples:
        `nnUNetv2_train 4 2d 0 -tr nnUNetTrainerUNetV2Timm_convnext_tiny` trains it; a subclass changes the recipe:

        >>> from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2Timm
        >>> class nnUNetTrainerMine(nnUNetTrainerUNetV2Timm):
        ...     encoder = "convnext_tiny"
        ...     epochs = 100
        ...     encoder_factor = 1.0
    """

    epochs = 300
    learning_rate = 6e-4
    encoder = "tf_efficientnet_lite0"
    encoder_factor = 0.1
    decay = 0.01
    warmup_epochs = 3
    pretrained = True
    frozen = False
    stem = False

    weights_variable = "SDI_PLUGIN_WEIGHTS"
    network_class: type[TimmUNetV2] = TimmUNetV2

    def _adapt_plans(self, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
        patch = PlansManager(plans).get_configuration(configuration).patch_size
        if len(patch) != 2:
            raise ValueError(
                f"{type(self).__name__}: expected a 2-D configuration, got {configuration!r}: timm's encoders take "
                "images only. Train configuration 2d, or volumes with -tr nnUNetTrainerUNetV2."
            )
        options = {name: True for name, on in (("freeze", self.frozen), ("stem", self.stem)) if on}
        return with_timm(plans, self.network_class, self.encoder, fixed=_takes_one_size(self.encoder), **options)

    build_network_architecture = network_builder(_build)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        return [[scale, scale] for scale in self._scales()] if self.enable_deep_supervision else None

    def _scales(self) -> tuple[float, ...]:
        return SCALES if self.network is None else self.bare_network.scales

    def _build_loss(self) -> nn.Module:
        loss: Any = super()._build_loss()
        if isinstance(loss, DeepSupervisionWrapper):
            # nnU-Net leaves the coarsest output out; here all are supervised.
            scales = self._scales()
            loss.weight_factors = tuple(scale / sum(scales) for scale in scales)
        return loss

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, LRScheduler]:
        pretrained = set(self.bare_network.encoder.network.parameters())
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.bare_network.parameters():
            if parameter.requires_grad:
                rate = self.initial_lr * (self.encoder_factor if parameter in pretrained else 1.0)
                groups.setdefault((rate, self.decay if parameter.ndim > 1 else 0.0), []).append(parameter)
        # nnU-Net logs the first group's rate: the decoder's.
        optimizer = torch.optim.AdamW(
            [
                {"params": parameters, "lr": rate, "weight_decay": decay}
                for (rate, decay), parameters in sorted(groups.items(), key=lambda group: group[0], reverse=True)
            ]
        )
        return optimizer, WarmUpPoly(optimizer, self.warmup_epochs, self.num_epochs)

    def on_train_start(self) -> None:
        if self.was_initialized:
            self.print_to_log_file("U-Net v2: the network starts from the weights that were loaded.")
        else:
            self.initialize()
            self._load_pretrained_weights()
        super().on_train_start()

    def _load_pretrained_weights(self) -> None:
        if not self.pretrained:
            self.print_to_log_file("U-Net v2: the encoder starts at random.")
            return
        encoder, file = self.bare_network.encoder, os.environ.get(self.weights_variable)
        try:
            if file:
                encoder.load_weights(Path(file).expanduser())
            else:
                encoder.load_weights("package" if is_packaged(encoder.name) else True)
        except HubError as error:
            raise error.with_cure(self._cure()) from error
        except (FileNotFoundError, checkpoint.CheckpointError) as error:
            raise type(error)(f"{error} {self._cure()}") from error
        package = "the ImageNet weights of a package" if is_packaged(encoder.name) else "the weights on the hub of timm"
        self.print_to_log_file(f"U-Net v2: the encoder starts from {file or package}.")

    def _cure(self) -> str:
        return (
            "Name a file (timm's, safetensors, for PVTv2 the official pvt_v2_b2.pth) in the environment variable "
            f"{self.weights_variable}, or train from a random start with -tr {type(self).__name__}_noPretrain."
        )


@functools.lru_cache
def _takes_one_size(encoder: str) -> bool:
    return TimmEncoder(encoder, owner="nnUNetTrainerUNetV2Timm").image_size is not None
