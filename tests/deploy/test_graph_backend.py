"""Exported graphs of others: what their model.json must say, and what is said of a graph that does not fit it."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest

from sdi_plugin.deploy import Predictor
from sdi_plugin.deploy.graph_backend import GraphBackend


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "torch"}, "got one for openvino or onnxruntime"),
        ({"runtime": "tvm"}, "a runtime of auto, torch"),
        ({"device": "cuda"}, "the CPU for an exported graph"),
        ({"precision": "int8"}, "Export it in int8"),
        ({"precision": "bf16", "runtime": "onnxruntime"}, "Export it with that precision, or use openvino"),
    ],
    ids=str,
)
def test_what_a_graph_cannot_do_is_refused(dynamic, options, said):
    with pytest.raises(ValueError, match=said):
        Predictor(dynamic / "model.json", **options)


def test_another_json_and_a_changed_graph_are_refused(dynamic, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"expected a model.json"):
        GraphBackend(tmp_path / "other.json")
    (tmp_path / "model.json").write_text((dynamic / "model.json").read_text())
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match="not the graph that model.json describes"):
        GraphBackend(tmp_path / "model.json")
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError):
        GraphBackend(tmp_path / "model.json")
    with pytest.raises(ValueError, match="Export it first"):
        Predictor("x.safetensors", runtime="onnxruntime")


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": {}},
        {"file": "../model.onnx"},
        {"outputs": [{"shape": [1, 1 << 40]}]},
        {"size": [float("inf"), 1]},
        {"precision": {}},
    ],
    ids=["no hash", "another folder", "classes", "size", "precision"],
)
def test_a_model_json_that_cannot_be_is_refused(dynamic, tmp_path, change):
    said = json.loads((dynamic / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(said | change))
    with pytest.raises(ValueError, match=r"expected a model.json"):
        GraphBackend(tmp_path / "model.json")


def test_a_graph_that_the_runtime_refuses_is_named(dynamic, tmp_path):
    """Of a stranger, who wrote its hash as well."""
    said = json.loads((dynamic / "model.json").read_text())
    (tmp_path / "model.onnx").write_bytes(b"x")
    hashes = {"sha256": {"model.onnx": sha256(b"x").hexdigest()}}
    (tmp_path / "model.json").write_text(json.dumps(said | hashes))
    with pytest.raises(ValueError, match="onnxruntime cannot read: .*Export it again"):
        GraphBackend(tmp_path / "model.json", "onnxruntime")
    shutil.copy(dynamic / "model.onnx", tmp_path)
    three = {"outputs": [{"shape": ["batch", 3, "height", "width"]}]}
    (tmp_path / "model.json").write_text(json.dumps(said | three))
    with pytest.raises(ValueError, match="onnxruntime cannot run: logits of shape"):
        GraphBackend(tmp_path / "model.json", "onnxruntime")(np.zeros((1, 3, 64, 64), np.float32))
