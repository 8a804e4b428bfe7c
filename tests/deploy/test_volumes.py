"""Networks for volumes: exported alone, and predicted by nnU-Net's own reader and predictor."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sdi_plugin.adapters.nnunet import PlainConvUNetV2
from sdi_plugin.checkpoint import Card
from sdi_plugin.deploy import Loaded, Predictor, export
from sdi_plugin.deploy.graph_backend import GraphBackend


def volumes() -> Loaded:
    """Three levels with strides that differ by axis, of which sizes are multiples of (2, 4, 4)."""
    torch.manual_seed(0)
    plan = {"conv_op": nn.Conv3d, "kernel_sizes": 3, "strides": [1, (1, 2, 2), 2], "n_conv_per_stage": 1}
    norm = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"affine": True}, "nonlin": nn.LeakyReLU}
    network = PlainConvUNetV2(
        1, 3, n_stages=3, features_per_stage=[4, 6, 8], channels=4, norm="layer", fusion="asinh", **plan, **norm
    )
    return Loaded(network.eval(), Card(labels=("background", "a", "b")), Path(__file__))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    result = export(volumes(), tmp_path_factory.mktemp("volumes"))
    assert result.error < 1e-5
    return result


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_for_volumes_takes_any_size(exported, runtime):
    backend = GraphBackend(exported.file, runtime)
    for size in ((4, 8, 8), (6, 12, 20), (16, 16, 8)):
        inputs = torch.randn(2, 1, *size)
        expected = volumes()(inputs)
        error = np.abs(backend(inputs.numpy()) - expected.numpy()).max()
        assert error < 1e-4 * expected.abs().max()


def test_the_sidecar_says_that_the_network_is_alone(exported):
    said = json.loads(exported.file.read_text())
    assert said["inputs"][0]["shape"] == ["batch", 1, "depth", "height", "width"]
    assert [each["name"] for each in said["outputs"]] == ["logits"]
    assert (said["raw"], said["normalised_inside"], said["tiles"]) == (True, False, None)
    assert said["multiple"] == [2, 4, 4]


def test_what_volumes_have_no_place_for_is_refused(exported, tmp_path):
    with pytest.raises(ValueError, match="got one for volumes"):
        Predictor(exported.file)
    with pytest.raises(ValueError, match="got one for volumes"):
        Predictor(volumes())
    with pytest.raises(ValueError, match="which is exported alone"):
        export(volumes(), tmp_path, size=(64, 64))
