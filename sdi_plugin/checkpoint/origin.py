"""What the checkpoints of mmengine and nnU-Net say besides weights, read whether the framework is installed or not."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from sdi_plugin.checkpoint.card import KEY, Card


def card_of(extras: Mapping[str, Any]) -> Card:
    """The card of a checkpoint, from everything in it but the tensors.

    Raises:
        CheckpointError: a card that cannot be read.
    """
    meta = extras.get("meta")
    if isinstance(text := extras.get(KEY), str):
        return Card.from_json(text)
    if isinstance(meta, Mapping) and isinstance(text := meta.get(KEY), str):
        return Card.from_json(text)
    if isinstance(meta, Mapping):
        return _mmengine(meta)
    if isinstance(arguments := extras.get("init_args"), Mapping):
        try:
            return _nnunet(arguments)
        except (AttributeError, KeyError, TypeError, ValueError):  # of another version, or changed by hand
            return Card()
    return Card()


def encoder_of(card: Card) -> dict[str, Any] | None:
    """timm's name of the encoder, `in_channels` and `image_size` (None for timm's own), where the card names them."""
    read, arguments = _ENCODERS.get(str(card.architecture.get("framework"))), card.architecture.get("arguments")
    if read is None or not isinstance(arguments, Mapping):
        return None
    try:
        found = read(arguments)
    except TypeError:  # of another version, or changed by hand
        return None
    return found if found and isinstance(found["encoder"], str) else None


def _of_core(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return _encoder(arguments.get("encoder"), arguments.get("in_channels"), arguments.get("image_size"))


def _of_smp(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    name = str(arguments.get("encoder_name"))
    if not name.startswith("tu-") or arguments.get("encoder_depth", 5) != 5:
        return None  # smp's own encoders, or fewer levels than the core takes
    return _encoder(name.removeprefix("tu-"), arguments.get("in_channels"), arguments.get("img_size"))


def _of_mmseg(backbone: Mapping[str, Any]) -> dict[str, Any]:
    return _encoder(backbone.get("name"), backbone.get("in_channels"), backbone.get("image_size"))


def _of_nnunet(arguments: Mapping[str, Any]) -> dict[str, Any]:
    configurations, name = _at(arguments, "plans", "configurations"), _at(arguments, "configuration")
    architecture = None
    for _ in configurations:  # at most, or they inherit from each other in a circle
        architecture = architecture or _at(configurations, name, "architecture")
        name = _at(configurations, name, "inherits_from")
    channels = _at(arguments, "dataset_json", "channel_names")
    return _encoder(
        _at(architecture, "arch_kwargs", "encoder"),
        len(channels) if isinstance(channels, Mapping) else None,
        _at(architecture, "arch_kwargs", "image_size"),
    )


def _encoder(name: Any, in_channels: Any, image_size: Any) -> dict[str, Any]:
    size = image_size if image_size is None or isinstance(image_size, int) else tuple(image_size)
    return {"encoder": name, "in_channels": 3 if in_channels is None else in_channels, "image_size": size}


_ENCODERS = {"core": _of_core, "smp": _of_smp, "mmseg": _of_mmseg, "nnunet": _of_nnunet}


def _mmengine(meta: Mapping[str, Any]) -> Card:
    names = _at(meta, "dataset_meta", "classes")
    config = _config(meta.get("cfg"))
    preprocessor = _at(config, "model", "data_preprocessor") or config.get("data_preprocessor")
    mean, std = _at(preprocessor, "mean"), _at(preprocessor, "std")
    head, backbone = _at(config, "model", "decode_head"), _at(config, "model", "backbone")
    return Card(
        mean=_numbers(mean) if _numbers(std) else None,
        std=_numbers(std) if _numbers(mean) else None,
        size=_resized(_at(config, "test_pipeline")),
        labels=tuple(map(str, names)) if isinstance(names, Sequence) else (),
        threshold=_number(_at(head, "threshold"), 0.5),
        summed_heads=int(_number(_at(head, "summed_heads"), 1)),
        architecture={"framework": "mmseg", "arguments": backbone} if backbone else {},
        versions={"mmengine": str(_at(meta, "mmengine_version"))} if "mmengine_version" in meta else {},
    )


def _config(text: Any) -> dict[str, Any]:
    """The assignments of a config that are plain values or dict(...) of them; none of its code is run."""
    try:
        statements = ast.parse(text).body
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    found = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            found[statement.targets[0].id] = _value(statement.value)
    return found


def _value(node: ast.expr) -> Any:
    """A value of literals, lists, tuples and dict(...); None in place of anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {word.arg: _value(word.value) for word in node.keywords if word.arg}
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _resized(pipeline: Any) -> tuple[int, int] | None:
    """The size (height, width) to which a pipeline of mmseg resizes every image."""
    for step in pipeline if isinstance(pipeline, list) else ():
        scale = _at(step, "scale")
        if _at(step, "type") == "Resize" and not _at(step, "keep_ratio") and _numbers(scale) and len(scale) == 2:
            return int(scale[1]), int(scale[0])  # mmcv's order is width, height
    return None


def _nnunet(arguments: Mapping[str, Any]) -> Card:
    plans, dataset = arguments["plans"], arguments["dataset_json"]
    configuration = plans["configurations"][arguments["configuration"]]
    schemes = set(configuration["normalization_schemes"])
    masked = any(configuration.get("use_mask_for_norm") or ())
    channels = len(configuration["normalization_schemes"])
    fixed = (
        {"RGBTo01Normalization": 255.0, "NoNormalization": 1.0}.get(next(iter(schemes))) if len(schemes) == 1 else None
    )
    labels = dataset["labels"]
    numbered = all(isinstance(value, int) for value in labels.values())  # others are regions of several labels
    said = {"name": plans.get("dataset_name"), "licence": dataset.get("licence") or dataset.get("license")}
    return Card(
        mean=(0.0,) * channels if fixed else None,
        std=(fixed,) * channels if fixed else None,
        per_image=schemes == {"ZScoreNormalization"} and not masked,
        labels=tuple(sorted(labels, key=labels.__getitem__)) if numbered else (),
        architecture={"framework": "nnunet", "arguments": dict(arguments)},
        data={name: str(value) for name, value in said.items() if value},
    )


def _at(found: Any, *names: str) -> Any:
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _number(value: Any, default: float) -> float:
    return value if isinstance(value, int | float) else default


def _numbers(values: Any) -> tuple[float, ...] | None:
    if isinstance(values, list) and values and all(isinstance(value, int | float) for value in values):
        return tuple(map(float, values))
    return None
