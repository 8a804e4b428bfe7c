"""Damaged networks, their cards and graphs, and wrong arguments, for `load`, `export` and `Predictor`."""

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

import sdi_plugin
from sdi_plugin import UNetV2, deploy
from sdi_plugin.checkpoint import CheckpointError
from sdi_plugin.deploy import exporting
from tests.deploy.networks import CARD, small
from tests.reliability.target import VALUES, Generator, Target, altered, mutated

ENCODER = "test_resnet"
DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8)
IMAGE = Image.fromarray(np.arange(35 * 42 * 3, dtype=np.uint8).reshape(35, 42, 3))
KEYS = "_kw_requires_import"
_whole: dict[str, bytes] = {}  # what `prepare` has made
_weights: dict[str, Any] = {}


def _network() -> UNetV2:
    torch.manual_seed(0)
    return UNetV2(ENCODER, channels=4)


def _prepare_load(folder: Path) -> None:
    file = folder / "case.safetensors"
    _network().save(file)
    _whole["checkpoint"] = file.read_bytes()
    _load(file)


def _checkpoint(generator: Generator) -> bytes:
    """A checkpoint of safetensors whose card or tensors are others."""
    from safetensors.torch import load, save

    content = _whole["checkpoint"]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    state, card = load(content), header["__metadata__"]["card"].encode()
    if generator.random() < 0.5:
        card = altered(card, generator)
    else:
        for _ in range(generator.choice((1, 1, 2, 3))):
            _alter(state, generator)
    return save(state, {"format": "pt", "card": card.decode(errors="replace")})


def _alter(state: dict[str, torch.Tensor], generator: Generator) -> None:
    name = generator.choice(list(state))
    kind = generator.randrange(6)
    if kind == 0:
        del state[name]
    elif kind == 1:
        state[generator.choice((name + "x", name[:-1], "module." + name, name.replace("0", "7")))] = state.pop(name)
    elif kind == 2:
        state[name] = state[name].reshape(-1) if generator.random() < 0.5 else state[name][None]
    elif kind == 3:
        state[name] = state[name].to(generator.choice(DTYPES))
    elif kind == 4:
        state[name] = torch.zeros([generator.choice((0, 1, 3, 8)) for _ in range(generator.randrange(6))])
    else:
        state[name] = torch.full_like(state[name], generator.choice((0, 1, 255)))


def _load(path: Path) -> None:
    model = sdi_plugin.load(path)
    model(torch.zeros(1, model.channels, 33, 40))


def _prepare_config(folder: Path) -> None:
    from sdi_plugin.adapters import smp

    torch.manual_seed(0)
    network: Any = smp.UNetV2("tu-" + ENCODER, encoder_weights=None, decoder_channels=4)
    network.card = CARD
    network.save_pretrained(folder)
    _whole["config"] = (folder / "config.json").read_bytes()
    _load(folder)


def _prepare_plans(folder: Path) -> None:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    from sdi_plugin.adapters.nnunet.plans import with_unetv2
    from tests.adapters.nnunet.plans import DATASET, plans

    found = with_unetv2(plans("2d", normalization_schemes=["ZScoreNormalization"]))
    parts = found["configurations"]["2d"]["architecture"]
    network = get_network_from_plans(parts["network_class_name"], parts["arch_kwargs"], parts[KEYS], 1, 2)
    arguments = {"plans": found, "configuration": "2d", "fold": 0, "dataset_json": DATASET}
    _whole["arguments"], _weights["nnunet"] = json.dumps(arguments).encode(), network.state_dict()
    (folder / "case.pth").write_bytes(_with_plans(arguments))
    _load(folder / "case.pth")


def _with_plans(arguments: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({"network_weights": _weights["nnunet"], "init_args": arguments, "trainer_name": "any"}, buffer)
    return buffer.getvalue()


def _plans(generator: Generator) -> bytes:
    """A checkpoint of nnU-Net whose plans, from which its network is built, are others."""
    try:
        return _with_plans(json.loads(altered(_whole["arguments"], generator)))
    except (ValueError, RecursionError):  # damaged text, which such a checkpoint does not hold
        return _with_plans(generator.choice(VALUES))


def _arguments(generator: Generator) -> bytes:
    """Most of them right, so that the others are reached."""
    choices: dict[str, tuple[Any, ...]] = {
        "format": ("onnx", "openvino", "pt2"),
        "precision": ("fp32", "fp16", "bf16", "int8"),
        "size": (None, "dynamic", (8, 8), (64, 96), [64, 64], (0, 4), (-8, 8), (8.0, 8.0), (8,), (8, 8, 8), "8x8"),
        "raw": (False, True),
        "calibrate": (None, "calibrate", "nothing"),
    }
    found = {
        name: generator.choice(values if generator.random() < 0.8 else VALUES)
        for name, values in choices.items()
        if generator.random() < 0.5
    }
    model = generator.choice(("small", "small", "small", *VALUES))
    return repr((model, found)).encode()


class _AcceptedError(Exception):
    """In place of the export itself, which takes seconds."""


def _export(path: Path) -> None:
    model, arguments = eval(path.read_text(), {"nan": float("nan"), "inf": float("inf")})  # what _arguments has written
    if isinstance(arguments.get("calibrate"), str):
        arguments["calibrate"] = path.parent / arguments["calibrate"]
    with mock.patch.object(exporting, "_write", side_effect=_AcceptedError):
        try:
            deploy.export(small() if model == "small" else model, path.parent / "exported", **arguments)
        except _AcceptedError:
            size = arguments.get("size")
            assert size in (None, "dynamic") or min(map(int, size)) > 0


def _prepare_export(folder: Path) -> None:
    (folder / "calibrate").mkdir(exist_ok=True)
    IMAGE.save(folder / "calibrate" / "a.png")
    for arguments in ({"size": (8, 8)}, {"precision": "int8", "calibrate": "calibrate"}):
        (folder / "case").write_text(repr(("small", arguments)))
        _export(folder / "case")


def _prepare_graph(folder: Path) -> None:
    """A graph for Predictor: each pixel's logit is the mean of its channels."""
    from onnx import TensorProto, helper

    file, (images, maps) = folder / "model.onnx", (["batch", each, "height", "width"] for each in (3, 1))
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["images"], ["logits"], axes=[1]),
            helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        ],
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, images)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, maps) for name in ("probabilities", "logits")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file.write_bytes(_whole.setdefault("graph", model.SerializeToString()))
    shapes = np.zeros((1, 3, 8, 8), np.float32), np.zeros((1, 1, 8, 8), np.float32)
    sidecar = exporting._describe(file, CARD, shapes, None, True, False, "fp32")
    for slow, name in enumerate(("onnxruntime", "openvino")):
        sidecar["runtimes"] = {name: {"milliseconds": 1}}
        (folder / "model.json").write_text(json.dumps(sidecar))
        _predict(folder / "model.json")
        sidecar["runtimes"] = {"onnxruntime": {"milliseconds": 1}, "openvino": {"milliseconds": 1 + slow}}
    _whole["sidecar"] = json.dumps(sidecar).encode()
    (folder / "model.json").write_bytes(_whole["sidecar"])


def _predict(path: Path) -> None:
    deploy.Predictor(path.with_name("model.json"), threads=1)(IMAGE)


def _predict_damaged(path: Path) -> None:
    """One of four model.json has the hash of the undamaged graph; the others' graphs reach the runtime."""
    sidecar, found = json.loads(_whole["sidecar"]), sha256(path.read_bytes())
    if found.digest()[0] % 4:
        sidecar["sha256"] = {path.name: found.hexdigest()}
    path.with_name("model.json").write_text(json.dumps(sidecar))
    _predict(path)


_OF_LOAD = (CheckpointError, ImportError)
_OF_EXPORT = (ValueError, deploy.ExportError, ImportError, FileNotFoundError)
_OF_PREDICTOR = (ValueError, ImportError, FileNotFoundError)

TARGETS: dict[str, Target] = {
    "load, checkpoint": Target(_checkpoint, _load, _OF_LOAD, file="case.safetensors", prepare=_prepare_load),
    "load, config.json": Target(
        lambda g: altered(_whole["config"], g),
        lambda path: _load(path.parent),
        _OF_LOAD,
        file="config.json",
        prepare=_prepare_config,
    ),
    "load, plans of nnU-Net": Target(_plans, sdi_plugin.load, _OF_LOAD, file="case.pth", prepare=_prepare_plans),
    "export, arguments": Target(_arguments, _export, _OF_EXPORT, prepare=_prepare_export),
    "Predictor, model.json": Target(
        lambda g: altered(_whole["sidecar"], g), _predict, _OF_PREDICTOR, file="model.json", prepare=_prepare_graph
    ),
    "Predictor, graph": Target(
        lambda g: mutated(_whole["graph"], g),
        _predict_damaged,
        _OF_PREDICTOR,
        file="model.onnx",
        prepare=_prepare_graph,
    ),
}
