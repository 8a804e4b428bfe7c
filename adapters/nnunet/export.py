"""nnU-Net's checkpoints, as `sdi-plugin convert --to nnunet` writes them; see `sdi_plugin.checkpoint.Export`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from sdi_plugin import checkpoint
from sdi_plugin.adapters.nnunet.plans import counterpart
from sdi_plugin.adapters.nnunet.pvt import PVTUNetV2
from sdi_plugin.adapters.nnunet.timm_network import TimmUNetV2
from sdi_plugin.adapters.nnunet.trainer_pvt import nnUNetTrainerUNetV2PVT
from sdi_plugin.adapters.nnunet.variants import trainer_name
from sdi_plugin.checkpoint.card import KEY
from sdi_plugin.checkpoint.export import build_without_weights

SUFFIXES: tuple[str, ...] = (".pth",)
OUT: str = "to end in .pth for nnU-Net"


def build(description: Mapping[str, Any]) -> TimmUNetV2:
    kind = PVTUNetV2 if description["encoder"].startswith("pvt_v2_") else TimmUNetV2
    return kind(
        description["in_channels"],
        description["classes"],
        description["encoder"],
        description["channels"],
        heads=max(1, description["deep_supervision"]),
        norm=description["norm"],
        fusion=description["fusion"],
        image_size=description.get("image_size"),
        stem=description.get("stem", False),
    )


def write(target: Path, converted: checkpoint.Converted) -> str:
    """What nnU-Net's -pretrained_weights reads: its own checkpoints, of which it takes the weights alone."""
    said = {name: text for name, text in converted.metadata.items() if name == KEY}
    trainer = nnUNetTrainerUNetV2PVT.__name__
    if not isinstance(converted.network, PVTUNetV2):
        trainer = trainer_name(converted.description["encoder"])
    checkpoint.save_torch(target, {"network_weights": dict(converted.state), "trainer_name": trainer, **said})
    return f"train it further: nnUNetv2_train DATASET 2d FOLD -tr {trainer} -pretrained_weights {target}"


def restore(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """The network of a plan, 2-D or 3-D, for inference: it gives the finest logits.

    Args:
        arguments: those of the trainer, which nnU-Net's checkpoints hold: plans, configuration, dataset_json.

    Raises:
        sdi_plugin.checkpoint.CheckpointError: another plan's network, or the weights do not fit it.
    """

    def network(arguments: Mapping[str, Any]) -> nn.Module:
        plans, dataset = PlansManager(arguments["plans"]), arguments["dataset_json"]
        configuration = plans.get_configuration(arguments["configuration"])
        named = {name: configuration.network_arch_init_kwargs[name] for name in _imported(configuration)}
        strange = [value for value in named.values() if not (value is None or _is_layer(str(value)))]
        if strange:  # nnU-Net imports and calls whatever a plan names
            raise ValueError(f"expected layers of torch.nn in the plan, got {strange}")
        return get_network_from_plans(
            counterpart(configuration.network_arch_class_name),
            configuration.network_arch_init_kwargs,
            _imported(configuration),
            determine_num_input_channels(plans, configuration, dataset),
            plans.get_label_manager(dataset).num_segmentation_heads,
            deep_supervision=False,
        )

    whole = {name: arguments[name] for name in ("plans", "configuration", "dataset_json")}
    checkpoint.check(state, build_without_weights(network, whole).state_dict(), "nnUNetTrainerUNetV2")
    restored = network(whole)
    restored.load_state_dict(state)
    return restored


def _is_layer(name: str) -> bool:
    """Whether it is a module of torch.nn, and not what its files import: torch.nn.parallel.distributed.os.system."""
    layer = getattr(nn, name.rpartition(".")[2], None)
    named = re.fullmatch(r"torch\.nn\.(modules\.\w+\.)?\w+", name) is not None
    return named and isinstance(layer, type) and issubclass(layer, nn.Module)


def volumes(network: nn.Module, arguments: Mapping[str, Any], device: str, flips: bool) -> Any:
    """See `VolumePredictor`."""
    from sdi_plugin.adapters.nnunet.volumes import VolumePredictor

    return VolumePredictor(network, arguments, device, flips)


def _imported(configuration: Any) -> list[str]:
    return list(configuration.network_arch_init_kwargs_req_import)
