"""`nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainerUNetV2`: U-Net v2 on any plan, 2-D and 3-D."""

from collections.abc import Sequence
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from sdi_plugin import ops
from sdi_plugin.adapters.nnunet.plans import counterpart, with_unetv2
from sdi_plugin.adapters.nnunet.signature import network_builder


def _build(
    architecture: str, arguments: dict[str, Any], to_import: Sequence[str], inputs: int, outputs: int, deep: bool
) -> nn.Module:
    return get_network_from_plans(
        counterpart(architecture), arguments, to_import, inputs, outputs, allow_init=True, deep_supervision=deep
    )


class nnUNetTrainerUNetV2(nnUNetTrainer):  # noqa: N801  nnU-Net finds trainers by names of its own style
    """nnU-Net's training of U-Net v2 (Peng, Sonka, Chen 2023, arXiv 2311.17791) on the plan's own encoder.

    Everything but the network is nnU-Net's: loss, augmentation, optimiser, schedule, deep supervision scales. The plans
    that are saved with the model name the network's class, see `plans.with_unetv2`.

    Attributes:
        epochs, learning_rate: class attributes; None keeps nnU-Net's own.

    Examples:
        `nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerUNetV2` trains it; a subclass changes the recipe:

        >>> from sdi_plugin.adapters.nnunet import nnUNetTrainerUNetV2
        >>> class nnUNetTrainerMine(nnUNetTrainerUNetV2):
        ...     epochs = 200
        ...     learning_rate = 5e-3
    """

    epochs: int | None = None
    learning_rate: float | None = None

    # nnU-Net reads these names from this signature, and the values from its own local variables.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        plans = self._adapt_plans(plans, configuration)
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.epochs is not None:
            self.num_epochs = self.epochs
        if self.learning_rate is not None:
            self.initial_lr = self.learning_rate

    def _adapt_plans(self, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
        return with_unetv2(plans)

    build_network_architecture = network_builder(_build)

    def initialize(self) -> None:
        super().initialize()
        if reason := _missing_kernel(self.device):
            self.bare_network.decoder.set_grad_checkpointing(True)
            self.print_to_log_file(
                f"U-Net v2: no fused kernel is available for SDI on {self.device.type} ({reason}). To save memory, "
                "SDI is recomputed in backward."
            )

    @property
    def bare_network(self) -> Any:
        """The network without the wrappers of DistributedDataParallel and torch.compile."""
        network = self.network
        if isinstance(network, DistributedDataParallel):
            network = network.module
        return network._orig_mod if isinstance(network, OptimizedModule) else network


def _missing_kernel(device: torch.device) -> str:
    """Why SDI has no fused kernel on the device, or an empty string."""
    name = {"cpu": "cpu", "cuda": "triton"}.get(device.type)
    if name is None:
        return f"there is none for {device.type}"
    return str(ops.backends()[name]["reason"])
