"""smp's checkpoints, as `sdi-plugin convert --to smp` writes them; see `sdi_plugin.checkpoint.Export`."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sdi_plugin import checkpoint, files
from sdi_plugin.adapters.smp.arguments import check_values
from sdi_plugin.adapters.smp.model import UNetV2
from sdi_plugin.checkpoint.card import KEY
from sdi_plugin.checkpoint.export import WEIGHTS, build_without_weights
from sdi_plugin.encoder import import_timm

SUFFIXES: tuple[str, ...] = ("", ".safetensors")
OUT: str = "to end in .safetensors, or a folder without a suffix"


def build(description: Mapping[str, Any]) -> UNetV2:
    arguments: dict[str, Any] = {"img_size": size} if (size := description.get("image_size")) else {}
    if _takes_drop_path(description["encoder"]):
        arguments["drop_path_rate"] = 0.1  # as in the core, for training further
    arguments |= {"stem": True} if description.get("stem") else {}
    return UNetV2(
        encoder_name="tu-" + description["encoder"],
        encoder_weights=None,
        decoder_channels=description["channels"],
        decoder_norm=description["norm"],
        decoder_fusion=description["fusion"],
        in_channels=description["in_channels"],
        classes=description["classes"],
        deep_supervision=description["deep_supervision"],
        **arguments,
    )


def _takes_drop_path(encoder: str) -> bool:
    try:
        import_timm().create_model(encoder, drop_path_rate=0.1)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        return False
    return True


def write(target: Path, converted: checkpoint.Converted) -> str:
    """A file, or a folder that smp.from_pretrained reads: all of its files are complete before any appears."""
    if target.suffix:
        checkpoint.save(target, converted.state, converted.metadata)
        return ""
    network: Any = converted.network
    own = {"_model_class": "UNetV2"} | {f"_{name}": text for name, text in converted.metadata.items() if name == KEY}
    config = json.dumps(network.config | own, indent=2, sort_keys=True)
    if KEY in converted.metadata:
        network.card = checkpoint.Card.from_json(converted.metadata[KEY])
    with files.folder(target, into=True) as partial:
        checkpoint.save(partial / WEIGHTS, converted.state, converted.metadata)
        network.generate_model_card().save(partial / "README.md")
        (partial / "config.json").write_text(config, encoding="utf-8")
    return ""


def restore(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> UNetV2:
    """The network that save_pretrained saved, without its activation and classification head: it gives logits.

    Args:
        arguments: those of config.json, perhaps a stranger's.

    Raises:
        sdi_plugin.checkpoint.CheckpointError: there is no such network, or the weights do not fit it.
    """
    own = {**arguments, "encoder_weights": None, "activation": None, "aux_params": None}
    weights = {name: value for name, value in state.items() if not name.startswith("classification_head.")}

    def network(arguments: Mapping[str, Any]) -> UNetV2:
        check_values({name: value for name, value in arguments.items() if name not in _OWN})
        return UNetV2(**arguments)

    checkpoint.check(weights, build_without_weights(network, own).state_dict(), str(own.get("encoder_name")))
    restored = network(own)
    restored.load_state_dict(weights)
    return restored


_OWN = {*inspect.signature(UNetV2.__init__).parameters} - {"kwargs"}
