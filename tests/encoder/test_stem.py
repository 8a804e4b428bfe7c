"""The convolutional stem: levels at strides 1 and 2 before an encoder that starts at stride 4."""

import pytest
import torch

from sdi_plugin import UNetV2
from sdi_plugin.adapters.nnunet import TimmUNetV2
from sdi_plugin.adapters.smp import UNetV2 as SmpUNetV2
from sdi_plugin.encoder import TimmEncoder


@pytest.fixture(scope="module")
def model() -> UNetV2:
    return UNetV2("test_convnext", channels=8, deep_supervision=6, stem=True)


@pytest.mark.parametrize("size", [(97, 130), (33, 70), (5, 31), (64, 64)], ids=str)
def test_logits_have_the_size_of_the_image(model, size):
    outputs = model.train()(torch.randn(2, 3, *size))
    assert [logits.shape for logits in outputs] == [(2, 1, *size)] * 6
    torch.stack([logits.square().mean() for logits in outputs]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_two_levels_come_before_the_encoders_own(name):
    plain, detailed = TimmEncoder(name), TimmEncoder(name, stem=True)
    assert detailed.strides == (1, 2, *plain.strides)
    assert detailed.out_channels == (16, 32, *plain.out_channels)
    sizes = [tuple(x.shape[2:]) for x in detailed.eval()(detailed.pad(torch.randn(1, 3, 96, 64)))]
    assert sizes[:3] == [(96, 64), (48, 32), (24, 16)]


def test_it_is_off_by_default_and_trains_where_the_encoder_is_frozen(model):
    assert UNetV2("test_convnext", channels=8).encoder.stem is None
    frozen = UNetV2("test_convnext", channels=8, stem=True, freeze=True).train()
    trained = {name for name, parameter in frozen.encoder.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in frozen.encoder.named_parameters() if name.startswith("stem.")}
    assert frozen.encoder.stem is not None
    assert frozen.encoder.stem.training


def test_an_encoder_from_stride_2_needs_none():
    for build in (UNetV2, lambda name, stem: SmpUNetV2(f"tu-{name}", encoder_weights=None, stem=stem)):
        with pytest.raises(ValueError, match="expected an encoder that starts at stride 4.*'(tu-)?test_resnet'"):
            build("test_resnet", stem=True)


def test_nnunets_heads_start_at_the_images_size():
    network = TimmUNetV2(1, 2, "test_convnext", 8, stem=True)
    assert [tuple(y.shape[2:]) for y in network(torch.randn(2, 1, 40, 33))] == [(40, 33), (20, 16), (10, 8), (5, 4)]
