"""What smp's own tests ask of an architecture (its tests/models/base.py), and sizes, channels, deep supervision."""

import importlib
import sys
from typing import Any

import hypothesis.strategies as st
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings

import sdi_plugin
import sdi_plugin.adapters.smp as adapter
from tests import start

ENCODERS = ["resnet34", "tu-pvt_v2_b0", "mit_b0", "tu-convnext_atto"]


def create(encoder: str, **arguments) -> Any:
    return smp.create_model("unetv2", encoder_name=encoder, encoder_weights=None, **arguments)


# timm's depthwise convolutions, in backward
@pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_forward_and_backward_in_training_reach_every_parameter(encoder):
    model = create(encoder)
    masks = model(torch.rand(1, 3, 64, 64))
    assert masks.shape == (1, 1, 64, 64)
    masks.mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_in_channels_depth_and_classes(encoder, depth):
    model = create(encoder, encoder_depth=depth, in_channels=1, classes=7)
    with torch.no_grad():
        assert model(torch.rand(1, 1, 64, 64)).shape == (1, 7, 64, 64)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_classification_head(encoder):
    aux = {"pooling": "avg", "classes": 10, "dropout": 0.5, "activation": "sigmoid"}
    model = create(encoder, aux_params=aux)
    with torch.no_grad():
        masks, labels = model(torch.rand(2, 3, 64, 64))
    assert masks.shape == (2, 1, 64, 64)
    assert labels.shape == (2, 10)
    assert 0 <= labels.min() <= labels.max() <= 1


@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_resolution(encoder):
    model = create(encoder, classes=2).eval()
    with torch.no_grad():
        for size in [(1, 1), (5, 70), (33, 65), (100, 64)]:
            assert model(torch.rand(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize(
    ("encoder", "arguments"),
    [("vgg11", {}), ("efficientnet-b0", {}), ("tu-swin_tiny_patch4_window7_224", {"img_size": 64})],
    ids=["vgg", "efficientnet", "swin"],
)
def test_other_encoders(encoder, arguments):
    model = create(encoder, classes=2, **arguments)
    masks = model(torch.rand(1, 3, 64, 64))
    assert masks.shape == (1, 2, 64, 64)
    masks.mean().backward()


def test_dilated_encoder_has_levels_of_one_size():
    model = create("resnet18", output_stride=8).eval()
    assert [up.stride for up in model.decoder.ups] == [(2, 2), (2, 2), (1, 1), (1, 1)]
    with torch.no_grad():
        assert model(torch.rand(1, 3, 50, 64)).shape == (1, 1, 50, 64)


def test_parameter_count_is_that_of_the_paper_less_the_unused_layer():
    count = sum(parameter.numel() for parameter in create("tu-pvt_v2_b2", classes=1).parameters())
    assert count == pytest.approx(25.15e6 - 32 * 32 * 4 * 4, rel=1e-3)


def test_the_decoders_start_is_an_argument_that_the_configuration_keeps():
    model = create("resnet18", decoder_init="unit")
    start.assert_unit(conv for sdi in model.decoder.skip.sdi for conv in sdi.convs)
    assert model.config["decoder_init"] == "unit"
    with pytest.raises(ValueError, match='expected init "paper" or "unit", got \'he\''):
        create("resnet18", decoder_init="he")


@pytest.fixture(scope="module")
def twins() -> tuple[Any, Any]:
    core: Any = sdi_plugin.UNetV2("pvt_v2_b0", classes=3, deep_supervision=2)
    for convolutions in (sdi.convs for sdi in core.decoder.skip.sdi):
        for convolution in convolutions:
            torch.nn.init.kaiming_normal_(convolution.weight)  # for logits that vary over the image
    model = create("tu-pvt_v2_b0", classes=3, deep_supervision=True)
    names = {"decoder.heads.0": "segmentation_head.0", "decoder.heads.1": "auxiliary_heads.0"}
    state = {}
    for name, value in core.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        state[f"{names.get(stem, stem)}.{leaf}"] = value
    model.load_state_dict(state)
    return core.eval(), model.eval()


@settings(deadline=None, max_examples=12)
@given(batch=st.integers(1, 2), height=st.integers(1, 90), width=st.integers(1, 90))
def test_equals_the_core_with_its_weights_renamed(twins, batch, height, width):
    core, model = twins
    x = torch.rand(batch, 3, height, width)
    with torch.no_grad():
        expected = core(x)
        torch.testing.assert_close(model(x), expected, rtol=1e-6, atol=0)
    assert height * width == 1 or expected.std() > 0


def test_supervised_masks_come_finest_first(twins):
    _, model = twins
    x = torch.rand(1, 3, 61, 83)
    with torch.no_grad():
        expected = model(x)
        ys = model.decoder([f for f in model.encoder(x)[1:] if f.shape[1]])
        model.training = True  # its children stay in evaluation: same batch norm, same stochastic depth
        masks = model(x)
        model.training = False
    assert isinstance(masks, list)
    assert len(masks) == 2
    assert torch.equal(masks[0], expected)
    coarse = torch.nn.functional.interpolate(model.auxiliary_heads[0](ys[1]), (61, 83), mode="bilinear")
    assert torch.equal(masks[1], coarse)
    assert ys[0].shape[2] == 2 * ys[1].shape[2]


@pytest.mark.parametrize(("heads", "length"), [(1, 1), (2, 2), (True, 2), (4, 4)])
def test_deep_supervision_is_a_list_in_training_only(heads, length):
    model = create("tu-pvt_v2_b0", deep_supervision=heads, classes=2, activation="sigmoid", aux_params={"classes": 3})
    x = torch.rand(2, 3, 64, 64)
    masks, labels = model(x)
    assert [tuple(mask.shape) for mask in masks] == [(2, 2, 64, 64)] * length
    assert all(0 <= mask.min() <= mask.max() <= 1 for mask in masks)
    assert labels.shape == (2, 3)
    assert model.eval()(x)[0].shape == (2, 2, 64, 64)


def test_activation_comes_after_resizing(twins):
    _, model = twins
    activated = create("tu-pvt_v2_b0", classes=3, deep_supervision=True, activation="softmax2d").eval()
    activated.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 40, 50)
    assert torch.equal(activated.predict(x), model.predict(x).softmax(1))


def test_predict_switches_to_evaluation():
    model = create("resnet18", deep_supervision=True)
    masks = model.predict(torch.rand(1, 3, 32, 32))
    assert masks.shape == (1, 1, 32, 32)
    assert not model.training
    assert not masks.requires_grad


@pytest.mark.skipif(not hasattr(smp.Unet, "freeze_encoder"), reason="freeze_encoder came with smp 0.6")
def test_freeze_and_unfreeze_encoder():
    model = create("resnet18")
    model.freeze_encoder()
    model.train()
    mean = model.encoder.bn1.running_mean.clone()
    model(torch.rand(2, 3, 64, 64)).mean().backward()
    assert torch.equal(model.encoder.bn1.running_mean, mean)
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())
    model.unfreeze_encoder()
    model(torch.rand(2, 3, 64, 64)).mean().backward()
    assert not torch.equal(model.encoder.bn1.running_mean, mean)
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_importing_twice_is_harmless():
    before = smp.MODEL_ARCHITECTURES_MAPPING["unetv2"]
    importlib.reload(adapter)
    assert smp.MODEL_ARCHITECTURES_MAPPING["unetv2"] is before is smp.UNetV2  # pyright: ignore
    assert adapter.__all__ == sorted(adapter.__all__)


@pytest.mark.parametrize("version", ["0.4.0", "0.7.0", "1.0.0.dev0", "unknown"])
def test_another_version_of_smp_is_an_error_with_the_range(monkeypatch, version):
    monkeypatch.setattr(smp, "__version__", version)
    with pytest.raises(ImportError, match=f">=0.5,<0.7, got {version}"):
        importlib.reload(adapter)


def test_without_smp_the_error_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "sdi_plugin.adapters.smp")
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ImportError, match=r"pip install 'sdi-plugin\[smp\]'"):
        importlib.import_module("sdi_plugin.adapters.smp")
