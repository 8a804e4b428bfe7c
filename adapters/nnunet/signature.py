"""The two signatures with which nnU-Net asks a trainer for its network: with managers since 2.7, without them
before."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

TAKES_MANAGERS = "plans_manager" in inspect.signature(nnUNetTrainer.build_network_architecture).parameters

# network class name, its arguments, which of them are names to import; input and output channels; deep supervision
Build = Callable[[str, dict[str, Any], Sequence[str], int, int, bool], nn.Module]


def network_builder(build: Build) -> Any:
    """`build` as the static method build_network_architecture of the nnU-Net that is installed."""

    def since_2_7(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        return build(
            configuration_manager.network_arch_class_name,
            configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            enable_deep_supervision,
        )

    def before(
        architecture_class_name: str,
        arch_init_kwargs: dict[str, Any],
        arch_init_kwargs_req_import: Sequence[str],
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        return build(
            architecture_class_name,
            arch_init_kwargs,
            arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            enable_deep_supervision,
        )

    function: Any = since_2_7 if TAKES_MANAGERS else before
    return staticmethod(function)
