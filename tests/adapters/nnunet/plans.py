"""Plans of nnU-Net as its planners write them, at any size."""

import copy
from collections.abc import Sequence
from typing import Any

import torch

PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"


def architecture(
    strides: Sequence[Sequence[int]],
    *,
    features: Sequence[int] | None = None,
    kernels: Sequence[Sequence[int]] | None = None,
    residual: bool = False,
) -> dict[str, Any]:
    """The entry `architecture` of a configuration with len(strides) stages."""
    stages, dim = len(strides), len(strides[0])
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    return {
        "network_class_name": RESIDUAL if residual else PLAIN,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features or [min(320, 4 * 2**stage) for stage in range(stages)]),
            "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
            "kernel_sizes": [list(k) for k in kernels or [[3] * dim] * stages],
            "strides": [list(s) for s in strides],
            blocks: [1, 3, 4, 6, 6, 6, 6, 6][:stages] if residual else [2] * stages,
            "n_conv_per_stage_decoder": [1 if residual else 2] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def strides(stages: int, dim: int = 3) -> list[list[int]]:
    return [[1] * dim, *([[2] * dim] * (stages - 1))]


# One of each kind that nnU-Net's planners make: name -> (architecture, patch)
CASES = {
    "2d": (architecture(strides(4, 2)), (24, 16)),
    "3d": (architecture(strides(3)), (8, 12, 8)),
    "3d-anisotropic": (
        architecture([[1, 1, 1], [1, 2, 2], [2, 2, 2]], kernels=[[1, 3, 3], [1, 3, 3], [3, 3, 3]]),
        (4, 16, 12),
    ),
    "3d-residual": (architecture(strides(3), residual=True), (8, 8, 8)),
    "2d-residual-6-stages": (architecture(strides(6, 2), residual=True, features=[4] * 6), (64, 64)),
}


def plans(case: str, **configuration: Any) -> dict[str, Any]:
    """Plans of one configuration, "2d" or "3d_fullres"; they say nothing about preprocessing."""
    return plans_of(*CASES[case], **configuration)


def plans_of(architecture: dict[str, Any], patch: Sequence[int], **configuration: Any) -> dict[str, Any]:
    """Plans of one configuration with that architecture and patch size."""
    found = copy.deepcopy(architecture)
    name = "2d" if len(patch) == 2 else "3d_fullres"
    entry = {"patch_size": list(patch), "batch_size": 2, "batch_dice": False, "architecture": found, **configuration}
    return {"dataset_name": "Dataset001_Test", "plans_name": "nnUNetPlans", "configurations": {name: entry}}


DATASET = {"channel_names": {"0": "R"}, "labels": {"background": 0, "a": 1}, "file_ending": ".png"}


def trainer(kind: Any, case: str = "2d", *, dataset: dict[str, Any] = DATASET, **configuration: Any) -> Any:
    """A trainer of that class on the CPU, in the folders of the fixture `folders`."""
    return trainer_of(kind, plans(case, data_identifier="none", **configuration), dataset)


def trainer_of(kind: Any, plans: dict[str, Any], dataset: dict[str, Any]) -> Any:
    plans = plans | {"continue_training": False}
    return kind(plans, *plans["configurations"], 0, dataset, torch.device("cpu"))
