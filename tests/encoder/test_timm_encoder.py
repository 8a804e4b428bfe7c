import sys
from typing import Any

import pytest
import timm
import torch

from sdi_plugin import UNetV2, hub
from sdi_plugin.encoder import TimmEncoder


def test_features_are_those_of_timm():
    torch.manual_seed(1)
    encoder = TimmEncoder("pvt_v2_b0", in_channels=2, drop_path=0).eval()
    torch.manual_seed(1)
    reference = timm.create_model("pvt_v2_b0", in_chans=2, features_only=True).eval()
    x = torch.randn(1, 2, 45, 70)
    with torch.no_grad():
        torch.testing.assert_close(list(encoder(x)), reference(x), rtol=0, atol=0)
    assert encoder.out_channels == (32, 64, 160, 256)


# Name, strides, what the size of images must be a multiple of, the only size.
FAMILIES: dict[str, tuple[str, tuple[float, ...], int, tuple[int, int] | None]] = {
    "any size from stride 2": ("test_resnet", (2, 4, 8, 16, 32), 1, None),
    "any size from stride 4": ("test_convnext", (4, 8, 16, 32), 1, None),
    "a map at stride 1": ("vgg11", (2, 4, 8, 16, 32), 1, None),
    "windows": ("swin_tiny_patch4_window7_224", (4, 8, 16, 32), 32, None),
    "channels last": ("mambaout_femto", (4, 8, 16, 32), 1, None),
    "one size": ("levit_128s", (16, 32, 64), 1, (224, 224)),
    "plain": ("test_vit", (4, 8, 16, 32), 16, None),
    "plain with patches of 14": ("vit_small_patch14_reg4_dinov2", (3.5, 7, 14, 28), 14, None),
}


@pytest.mark.parametrize(("name", "strides", "multiple", "only"), FAMILIES.values(), ids=FAMILIES.keys())
def test_every_kind_of_encoder_trains(name, strides, multiple, only):
    model = UNetV2(name, in_channels=2, channels=8, deep_supervision=2)
    encoder = model.encoder
    assert (encoder.strides, encoder.multiple, encoder.image_size) == (strides, multiple, only)
    x = torch.randn(2, 2, *(only or (97, 130)))
    with torch.no_grad():
        features = encoder(encoder.pad(x))
    assert [feature.shape[1] for feature in features] == list(encoder.out_channels)
    outputs = model(x)
    assert [y.shape for y in outputs] == [(2, 1, *x.shape[2:])] * 2
    torch.stack([y.square().mean() for y in outputs]).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_an_encoder_for_one_size_is_built_for_another():
    model = UNetV2("levit_128s", channels=4, image_size=(128, 192)).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 128, 192)).shape == (1, 1, 128, 192)
    with pytest.raises(ValueError, match=r"UNetV2: expected images of \(128, 192\) pixels.*got \(64, 64\)"):
        model(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "got 'resnet19'. Did you mean .*resnet18"),
        ({"name": "~"}, r"got '~'. timm.list_models\(\) lists them"),
        ({"name": "hf-hub:someone/model"}, "expected the name of a model of timm"),
        ({"name": "coat_lite_tiny"}, "no feature maps of 'coat_lite_tiny' .*Others work, such as pvt_v2_b2"),
        ({"name": "test_vit", "out_indices": (0, 1)}, "'test_vit' is a plain ViT.*Leave out out_indices"),
        ({"name": "levit_128s", "image_size": 33}, "'levit_128s' takes no images of|no feature maps of 'levit_128s'"),
    ],
    ids=["near", "far", "hub", "no-maps", "indices", "size"],
)
def test_what_cannot_be_an_encoder_says_why_and_what_can(arguments: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        TimmEncoder(**arguments)


def test_checkpointing_that_timm_lacks_is_named():
    with pytest.raises(ValueError, match="no gradient checkpointing for hrnet_w18_small"):
        UNetV2("hrnet_w18_small", channels=4, checkpointing=True)


@pytest.mark.parametrize(("name", "mean"), [("resnet18", 0.485), ("test_vit", 0.5)])
def test_the_statistics_of_the_pretraining_travel_with_the_network(name, mean):
    model = UNetV2(name, in_channels=4)
    assert model.preprocessing.keys() == {"mean", "std"}
    assert model.preprocessing["mean"][0] == model.preprocessing["mean"][3] == mean
    assert len(UNetV2(name, in_channels=1).preprocessing["std"]) == 1


def test_without_timm_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'sdi-plugin\[smp\]'"):
        UNetV2("pvt_v2_b0")


def test_an_unreachable_hub_is_an_error_that_says_how_to_give_a_file(monkeypatch):
    create = timm.create_model

    def offline(*args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("no route to host")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(hub, "unreachable", lambda url: None)
    with pytest.raises(RuntimeError, match="no route to host.*encoder_weights=FILE"):
        UNetV2("pvt_v2_b0", encoder_weights=True)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="pvt.pth"):
        UNetV2("pvt_v2_b0", encoder_weights=tmp_path / "pvt.pth")
