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


def _mmengine(meta: Mapping[str, Any]) -> Card:
    names = _at(meta, "dataset_meta", "classes")
    config = _config(meta.get("cfg"))
    preprocessor = _at(config, "model", "data_preprocessor") or config.get("data_preprocessor")
    mean, std = _at(preprocessor, "mean"), _at(preprocessor, "std")
    head = _at(config, "model", "decode_head")
    return Card(
        mean=_numbers(mean) if _numbers(std) else None,
        std=_numbers(std) if _numbers(mean) else None,
        size=_resized(_at(config, "test_pipeline")),
        labels=tuple(map(str, names)) if isinstance(names, Sequence) else (),
        threshold=_number(_at(head, "threshold"), 0.5),
        summed_heads=int(_number(_at(head, "summed_heads"), 1)),
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
