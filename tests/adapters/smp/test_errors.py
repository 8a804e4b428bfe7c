"""Bad arguments and bad images: clear errors, before anything is changed."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"


def create(encoder: str = "resnet18", **arguments) -> Any:
    arguments.setdefault("encoder_weights", None)
    return smp.create_model("unetv2", encoder_name=encoder, **arguments)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"encoder_depth": 2}, ValueError, "encoder_depth from 3 to 5, got 2"),
        ({"encoder_depth": 6}, ValueError, "encoder_depth from 3 to 5, got 6"),
        ({"classes": 0}, ValueError, "classes=0"),
        ({"in_channels": 0}, ValueError, "in_channels=0"),
        ({"decoder_channels": 0}, ValueError, "one int >= 1 for all levels, got 0"),
        ({"decoder_channels": (256, 128)}, ValueError, "one int >= 1 for all levels, got .256, 128."),
        ({"decoder_norm": "instance"}, ValueError, '"batch" or "layer"'),
        ({"deep_supervision": 6}, ValueError, "deep_supervision from 0 to 5 .*'resnet18'.*, got 6"),
        ({"deep_supervision": -1}, ValueError, "got -1"),
        ({"encoder": "tu-pvt_v2_b0", "encoder_depth": 3, "deep_supervision": 3}, ValueError, "from 0 to 2"),
        ({"decoder_chanels": 16}, TypeError, "unexpected arguments .'decoder_chanels'"),
        ({"img_size": 64}, TypeError, "Only tu- encoders"),
        ({"encoder": "nonesuch"}, KeyError, "Wrong encoder name `nonesuch`"),
        ({"encoder_weights": "nonesuch"}, FileNotFoundError, "'resnet18' .imagenet.*'nonesuch': no such name, and no"),
        ({"encoder": "tu-pvt_v2_b0", "encoder_weights": "no.pth"}, FileNotFoundError, "imagenet.*'no.pth': no such"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_bad_arguments(arguments, kind, message):
    with pytest.raises(kind, match=message):
        create(**arguments)


def test_arguments_that_are_none_count_as_not_given():
    create(img_size=None)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 64, 64, 64)], ids=str)
def test_images_of_other_channels_or_axes(shape):
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got .*in_channels="):
        create()(torch.rand(*shape))


def test_swin_takes_the_size_that_it_was_built_for():
    model = create("tu-swin_tiny_patch4_window7_224", img_size=(64, 96)).eval()
    for size in [(96, 64), (65, 97), (1, 1)]:
        with pytest.raises(ValueError, match=r"expected images of \(64, 96\) pixels.*img_size="):
            model(torch.rand(1, 3, *size))


def test_encoder_that_needs_divisible_sizes_says_so():
    model = create("tu-dla34").eval()
    with pytest.raises(ValueError, match=r"cannot take images of \(33, 65\).*multiples of 32"):
        model(torch.rand(1, 3, 33, 65))


@pytest.mark.parametrize(
    ("encoder", "size"), [("resnet18", 32), ("resnet18", 1), ("tu-pvt_v2_b0", 32), ("densenet121", 33)]
)
def test_a_single_pixel_in_training_is_an_error(encoder, size):
    model = create(encoder)
    with pytest.raises(ValueError, match="UNetV2: expected more than one value per channel.*batch of 2 or more"):
        model(torch.rand(1, 3, size, size))
    model(torch.rand(2, 3, size, size))
    model.eval()(torch.rand(1, 3, size, size))


def test_the_error_of_a_single_pixel_leaves_the_running_statistics_alone():
    model = create()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="batch norm"):
        model(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_running_out_of_memory_keeps_its_type(monkeypatch):
    model = create().eval()

    def fail(x):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.encoder, "forward", fail)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        model(torch.rand(1, 3, 33, 33))
