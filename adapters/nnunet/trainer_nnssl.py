"""`nnUNetv2_train DATASET 3d_fullres FOLD -tr nnUNetTrainerUNetV2_nnssl`: from a self-supervised checkpoint."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from sdi_plugin import checkpoint
from sdi_plugin.adapters.nnunet.schedule import WarmUpPoly
from sdi_plugin.adapters.nnunet.trainer import nnUNetTrainerUNetV2
from sdi_plugin.checkpoint.names import shorten
from sdi_plugin.checkpoint.reading import read_with_extras

_CURE = (
    "Name a checkpoint of nnssl, such as OpenMind's ResEncL-OpenMind-MAE, in the environment variable "
    "SDI_PLUGIN_NNSSL, and train on plans of the same encoder: -pl nnUNetPlannerUNetV2ResEncL, and for volumes of 1 mm "
    "the kernels and strides are the checkpoint's."
)


class nnUNetTrainerUNetV2_nnssl(nnUNetTrainerUNetV2):  # noqa: N801
    """nnUNetTrainerUNetV2 whose encoder starts from a checkpoint of nnssl, such as OpenMind's (Wald et al. 2024, arXiv
    2412.17041).

    The file that the environment variable SDI_PLUGIN_NNSSL names holds the weights of a residual encoder, pretrained
    without labels. All tensors of the plan's encoder load, or none and an error names what differs; the log counts
    what starts at random and what the file has besides. If the images have more channels than the pretraining's, the
    first convolution is repeated and divided by their number. The schedule is that of nnU-Net's own fine-tuning: SGD at
    1e-3 after a linear warm-up of 50 epochs. With `--c`, `--val` and `-pretrained_weights` the network starts from
    those.

    Attributes:
        warmup_epochs: class attribute.

    Raises:
        FileNotFoundError, sdi_plugin.checkpoint.CheckpointError: there is no such checkpoint, or it does not fit;
            raised before training.

    Examples:
        `SDI_PLUGIN_NNSSL=openmind.pth nnUNetv2_train 4 3d_fullres 0 -p nnUNetUNetV2ResEncUNetLPlans -tr
        nnUNetTrainerUNetV2_nnssl` trains it.

        >>> from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2_nnssl
        >>> nnUNetTrainerUNetV2_nnssl.learning_rate, nnUNetTrainerUNetV2_nnssl.warmup_epochs
        (0.001, 50)
    """

    learning_rate = 1e-3
    warmup_epochs = 50

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, LRScheduler]:
        optimizer, _ = super().configure_optimizers()
        return optimizer, WarmUpPoly(optimizer, min(self.warmup_epochs, self.num_epochs // 2), self.num_epochs)

    def on_train_start(self) -> None:
        if self.was_initialized:
            self.print_to_log_file("U-Net v2: the network starts from the weights that were loaded.")
        else:
            self.initialize()
            self._load_nnssl()
        super().on_train_start()

    def _load_nnssl(self) -> None:
        file = os.environ.get("SDI_PLUGIN_NNSSL")
        if not file:
            raise FileNotFoundError(f"{type(self).__name__}: expected a checkpoint to start from, got none. {_CURE}")
        try:
            state, extras = read_with_extras(Path(file).expanduser())
            told = load_encoder(self.bare_network, state, extras.get("nnssl_adaptation_plan") or {})
        except (FileNotFoundError, checkpoint.CheckpointError) as error:
            raise type(error)(f"{error} {_CURE}") from error
        self.print_to_log_file(f"U-Net v2: the encoder starts from {file}. {told}")


def load_encoder(network: nn.Module, state: Mapping[str, Tensor], plan: Mapping[str, Any]) -> str:
    """Load the encoder of a checkpoint of nnssl, completely or not at all.

    Args:
        network: `PlainConvUNetV2` or `ResidualEncoderUNetV2`.
        plan: the checkpoint's nnssl_adaptation_plan, which says where its encoder and stem are.

    Returns:
        How many tensors were loaded, which start at random, and what the file has besides, in words.

    Raises:
        sdi_plugin.checkpoint.CheckpointError: the encoders differ; the network is unchanged.
    """
    prefixes = {
        str(plan.get("key_to_encoder", "encoder.stages")): "encoder.stages",
        str(plan.get("key_to_stem", "encoder.stem")): "encoder.stem",
    }
    own = network.state_dict()
    expected = {key: value for key, value in own.items() if key.startswith("encoder.")}
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        for theirs, ours in prefixes.items():
            name = ours + key[len(theirs) :]
            if key.startswith(f"{theirs}."):
                found[name] = _repeated(value, expected[name]) if name in expected else value
                break
    checkpoint.check(found, expected, "The encoder of nnssl")
    network.load_state_dict(own | found)
    fresh = [key for key in own if key not in expected]
    spare = len(state) - len(found)
    return (
        f"{len(found)} tensors were loaded, {len(fresh)} start as U-Net v2 starts them ({shorten(fresh, 3)}), and "
        f"{spare} of the file's were left out."
    )


def _repeated(value: Tensor, expected: Tensor) -> Tensor:
    """The first convolution for more channels than the pretraining's one, with the same response to equal channels."""
    if value.ndim == expected.ndim > 2 and value.shape[1] == 1 < expected.shape[1]:
        return value.expand_as(expected) / expected.shape[1]
    return value
