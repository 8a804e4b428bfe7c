"""Exported graphs in OpenVINO and in fewer bits: how far they are from torch, and which runtime is taken."""

import json
import shutil
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sdi_plugin.cli.demo.images import lesion_image
from sdi_plugin.deploy import ExportError, Predictor, export, exporting, quantizing, runtimes
from sdi_plugin.deploy.graph_backend import GraphBackend
from tests.deploy.networks import small

IMAGE = lesion_image((4,), 96)[0].crop((0, 0, 96, 70))
_STORED = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(3):
        lesion_image((seed,), 96)[0].save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def exported(dynamic, photos, tmp_path, monkeypatch):
    """`export`, without tracing again."""

    def run(precision, format="onnx"):
        calibrate = photos if precision == "int8" else None
        return export(small(), tmp_path / "out", format=format, precision=precision, calibrate=calibrate)

    monkeypatch.setattr(
        exporting, "_trace", lambda graph, channels, multiple, file: shutil.copy(dynamic / "model.onnx", file)
    )
    return run


@pytest.mark.parametrize(
    ("format", "precision"),
    [("onnx", "fp16"), ("onnx", "bf16"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "int8")],
    ids=str,
)
def test_each_precision_stays_within_its_bound_in_every_runtime(exported, format, precision):
    result = exported(precision, format)
    assert sorted(result.runtimes) == ["onnxruntime", "openvino"][format == "openvino" :]
    assert 0 < result.error <= exporting.BOUNDS[precision]
    said = json.loads(result.file.read_text())
    assert (said["precision"], said["format"]) == (precision, format)
    assert set(said["sha256"]) == {file.name for file in result.file.parent.iterdir()} - {"model.json"}
    expected = Predictor(small(), device="cpu")(IMAGE).probabilities
    if precision in _STORED:
        weights = onnx.load(result.file.with_name("model.onnx")).graph.initializer
        assert {tensor.data_type for tensor in weights if len(tensor.dims) > 1} == {_STORED[precision]}
    for runtime in result.runtimes:
        predicted = Predictor(result.file, runtime=runtime)(IMAGE).probabilities
        np.testing.assert_allclose(predicted, expected, atol=exporting.BOUNDS[precision])


def test_int8_leaves_the_layers_in_float_whose_integers_cost_most(dynamic, photos, tmp_path):
    file = tmp_path / "model.onnx"
    shutil.copy(dynamic / "model.onnx", file)
    inputs = quantizing.pixels(photos, Predictor(small(), device="cpu"), True, (96, 96))
    floats = set(quantizing.quantize(file, inputs, 4e-3))
    quantized = onnx.load(file)
    producers = {name: node.op_type for node in quantized.graph.node for name in node.output}
    layers = {node.name: producers.get(node.input[1]) for node in quantized.graph.node if node.op_type == "Conv"}
    assert 0 < len(floats) < len(layers)
    assert {name for name, producer in layers.items() if producer != "DequantizeLinear"} == floats & layers.keys()


def test_integers_that_cost_too_much_are_not_written(exported, monkeypatch, tmp_path):
    monkeypatch.setitem(exporting.BOUNDS, "int8", 1e-9)
    monkeypatch.setattr(quantizing, "quantize", lambda file, images, bound: [])
    with pytest.raises(ExportError, match="Calibrate on images like those of training"):
        exported("int8")
    assert not (tmp_path / "out").exists()


def test_images_of_calibration_are_normalised_where_the_graph_does_not(photos):
    predictor = Predictor(small(), device="cpu")
    (first, *_), (own, *_) = (quantizing.pixels(photos, predictor, inside, None) for inside in (True, False))
    assert (first.shape, first.dtype) == ((1, 3, 96, 96), np.float32)
    mean, std = (np.array(each)[:, None, None] for each in (predictor.card.mean, predictor.card.std))
    np.testing.assert_allclose(own, (first - mean) / std, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fastest", ["onnxruntime", "openvino"])
def test_auto_takes_the_runtime_that_was_fastest(dynamic, tmp_path, fastest):
    said = json.loads((dynamic / "model.json").read_text())
    for name, each in said["runtimes"].items():
        each["milliseconds"] = 1 if name == fastest else 2
    shutil.copy(dynamic / "model.onnx", tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(said))
    assert Predictor(tmp_path).backend.runtime == fastest
    del said["runtimes"][fastest]  # it was not verified
    (tmp_path / "model.json").write_text(json.dumps(said))
    assert Predictor(tmp_path).backend.runtime != fastest


def test_runtimes_that_are_missing_are_named(dynamic, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    assert GraphBackend(dynamic / "model.json").runtime == "onnxruntime"
    with pytest.raises(ImportError, match="pip install openvino"):
        GraphBackend(dynamic / "model.json", "openvino")
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="verified in openvino and onnxruntime"):
        GraphBackend(dynamic / "model.json")


def test_a_precision_of_the_processor_is_used_or_refused(dynamic):
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ValueError, match="a processor that computes in bf16"):
            Predictor(dynamic, precision="bf16")
        return
    predicted = Predictor(dynamic, precision="bf16")(IMAGE).probabilities
    np.testing.assert_allclose(predicted, Predictor(dynamic)(IMAGE).probabilities, atol=exporting.BOUNDS["bf16"])
