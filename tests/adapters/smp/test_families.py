"""One small member of each family of smp's own encoders builds, trains a step, and takes an odd size."""

import re

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders

import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"

pytestmark = [
    pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning"),  # depthwise convolutions, in backward
    pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated:DeprecationWarning"),  # smp's own advice
]

FAST = ("mobilenet_v2", "resnet18", "mit_b0")
SLOW = (
    "densenet121",
    "dpn68",
    "efficientnet-b0",
    "inceptionresnetv2",
    "inceptionv4",
    "mobileone_s0",
    "resnext50_32x4d",
    "se_resnet50",
    "se_resnext50_32x4d",
    "senet154",
    "timm-efficientnet-b0",
    "timm-skresnet18",
    "timm-skresnext50_32x4d",
    "timm-tf_efficientnet_lite0",
    "vgg11",
    "vgg11_bn",
    "xception",
)


def family(name: str) -> str:
    """The name before its size: resnet34 -> resnet, efficientnet-b7 -> efficientnet."""
    return re.split(r"\d", name)[0].rstrip("-_bl")


def test_no_family_is_left_out():
    assert {family(name) for name in (*FAST, *SLOW)} == {family(name) for name in encoders}


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_every_family_trains_a_step_and_takes_an_odd_size(name):
    model = smp.create_model("unetv2", name, None, decoder_channels=8, deep_supervision=2)
    masks = model.train()(torch.randn(2, 3, 64, 64))
    torch.stack([each.square().mean() for each in masks]).sum().backward()
    assert not [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    with torch.no_grad():
        found = model.eval()(torch.randn(1, 3, 97, 130))
    assert found.shape == (1, 1, 97, 130)
    assert found.isfinite().all()
