"""Plans that name U-Net v2, so that any trainer that reads them builds it, nnU-Net's own too."""

import copy
from typing import Any

from sdi_plugin.adapters.nnunet.network import PlainConvUNetV2, ResidualEncoderUNetV2

# At the top of plans.json, which nnU-Net's export of a model carries along.
REQUIRES = {
    "requires": "sdi-plugin, whose network (U-Net v2) and trainer these plans and models name: "
    "pip install 'sdi-plugin[nnunet]'"
}


def class_path(network: type) -> str:
    return f"{network.__module__}.{network.__name__}"


_COUNTERPART = {
    "PlainConvUNet": class_path(PlainConvUNetV2),
    "ResidualEncoderUNet": class_path(ResidualEncoderUNetV2),
    "PlainConvUNetV2": class_path(PlainConvUNetV2),
    "ResidualEncoderUNetV2": class_path(ResidualEncoderUNetV2),
}


# Keeps SDI's product within float16 for a whole training.
BOUNDED = {"fusion": "asinh", "norm": "layer"}


def counterpart(network_class_name: str) -> str:
    """The network of this package for the class that a plan names.

    Raises:
        ValueError: a plan for another architecture.
    """
    name = _short(network_class_name)
    if name not in _COUNTERPART:
        raise ValueError(
            f"nnUNetTrainerUNetV2: expected plans for {' or '.join(list(_COUNTERPART)[:2])}, got {network_class_name}. "
            "Pass plans of nnU-Net's default or ResEnc planners with -p."
        )
    return _COUNTERPART[name]


def _short(network_class_name: str) -> str:
    return network_class_name.rpartition(".")[2]


def with_unetv2(plans: dict[str, Any]) -> dict[str, Any]:
    """A copy of the plans in which every configuration names the counterpart of its network, where there is one.

    Where they say nothing about SDI's product, its fusion is "asinh", followed by a layer norm: in a training with
    nnU-Net's recipe the paper's own product outgrows float16 (docs/nnunet.md).
    """
    plans = REQUIRES | copy.deepcopy(plans)
    for configuration in plans["configurations"].values():
        architecture = configuration.get("architecture")
        if architecture and _short(architecture["network_class_name"]) in _COUNTERPART:
            architecture["network_class_name"] = counterpart(architecture["network_class_name"])
            if not {"fusion", "norm"} & set(architecture["arch_kwargs"]):
                architecture["arch_kwargs"].update(BOUNDED)
    return plans


def with_timm(
    plans: dict[str, Any], network: type, encoder: str, *, fixed: bool = False, **options: Any
) -> dict[str, Any]:
    """A copy of the plans in which every 2-D configuration that has an architecture names a network on timm's encoder.

    Args:
        network: TimmUNetV2 or PVTUNetV2.
        fixed: whether the encoder is built for one size of images: that of the patch.
        options: of the network.
    """
    plans = REQUIRES | copy.deepcopy(plans)
    for configuration in plans["configurations"].values():
        architecture = configuration.get("architecture")
        if architecture and str(architecture["arch_kwargs"].get("conv_op")).endswith("Conv2d"):
            size = {"image_size": list(configuration["patch_size"])} if fixed else {}
            architecture["network_class_name"] = class_path(network)
            architecture["arch_kwargs"] = {"encoder": encoder} | options | size
            architecture["_kw_requires_import"] = []
    return plans
