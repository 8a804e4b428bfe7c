"""MMSegmentation's checkpoints, as `sdi-plugin convert --to mmseg` writes them; see `sdi_plugin.checkpoint.Export`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sdi_plugin import checkpoint
from sdi_plugin.adapters.mmsegmentation.segmentor import config, unetv2
from sdi_plugin.checkpoint.card import KEY

SUFFIXES: tuple[str, ...] = (".pth",)
OUT: str = "to end in .pth, which mmengine reads"


def build(description: Mapping[str, Any]) -> nn.Module:
    return unetv2(**description)


def write(target: Path, converted: checkpoint.Converted) -> str:
    """What mmengine's runner and mmseg's init_model read: a file of torch.save with the names of the classes.

    Returns:
        The options for --cfg-options, for use with configs/unetv2_pvt_isic.py or another config with these classes.
    """
    count = max(2, converted.description["classes"])  # one channel: background and foreground
    classes = ["background", "foreground"] if count == 2 else [str(index) for index in range(count)]
    if KEY in converted.metadata:
        classes = list(checkpoint.Card.from_json(converted.metadata[KEY]).labels) or classes
    palette = [[0, 0, 0], *([37 * i % 256, 192 * i % 256, 64 * i % 256] for i in range(1, count))]
    meta = {**converted.metadata, "dataset_meta": {"classes": classes, "palette": palette}}
    checkpoint.save_torch(target, {"meta": meta, "state_dict": dict(converted.state)})
    options = config(**converted.description)
    listed = " ".join(
        f"model.{part}.{name}={json.dumps(value, separators=(',', ':'))}".replace('"', "").replace("null", "None")
        for part in ("backbone", "decode_head")
        for name, value in options[part].items()
        if name != "type"
    )
    return f"options of the model: {listed}"
