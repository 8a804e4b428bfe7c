"""`sdi_plugin.load`: every kind of checkpoint gives its network, and what is known besides."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

import sdi_plugin
import sdi_plugin.adapters.smp  # registers "unetv2"
from sdi_plugin import UNetV2, checkpoint, deploy
from sdi_plugin.checkpoint import Card, CheckpointError
from sdi_plugin.cli import main
from tests import official

CARD = Card(
    mean=(123.7, 116.3, 103.5),
    std=(58.4, 57.1, 57.4),
    size=(64, 96),
    labels=("background", "polyp"),
    threshold=0.4,
    metrics={"mean_dice": 0.9},
    data={"name": "Kvasir-SEG", "licence": "research and education"},
)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return official.state("pvt_v2_b0", classes=2, channels=16)


@pytest.fixture
def source(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, tmp_path / "official.pth")
    return tmp_path / "official.pth"


@pytest.mark.parametrize("to", ["core", "smp", "mmseg", "nnunet"])
def test_every_conversion_loads_to_the_same_logits(source: Path, tmp_path: Path, to: str):
    target = tmp_path / {"core": "x.safetensors", "smp": "x", "mmseg": "x.pth", "nnunet": "x.pth"}[to]
    assert main(["convert", str(source), str(target), "--to", to]) == 0
    images = torch.randn(1, 3, 64, 50)
    first, model = sdi_plugin.load(source), sdi_plugin.load(target)
    assert not model.network.training
    assert len(model.network.decoder.heads) == 4  # pyright: ignore
    assert torch.equal(model(images), first(images))
    assert model.card.versions["sdi-plugin"] == sdi_plugin.__version__


def test_from_checkpoint_builds_the_network_that_fits(source: Path):
    model = UNetV2.from_checkpoint(source)
    assert (len(model.decoder.heads), model.deep_supervision, model.training) == (4, 4, False)


def test_weights_with_more_heads_than_the_network_are_refused_with_a_cure(weights: dict[str, Tensor]):
    core, _ = checkpoint.convert(weights)
    with pytest.raises(RuntimeError, match="4 heads, the network 1. Use UNetV2.from_checkpoint"):
        UNetV2("pvt_v2_b0", classes=2, channels=16).load_state_dict(core)
    with pytest.raises(RuntimeError, match="size mismatch") as caught:
        UNetV2("pvt_v2_b0", classes=2, channels=8, deep_supervision=4).load_state_dict(core)
    assert "heads, the network" not in str(caught.value)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-pvt_v2_b0"])
def test_a_card_travels_with_smps_own_saving(tmp_path: Path, encoder: str):
    arguments = {"encoder_weights": None, "activation": "sigmoid", "aux_params": {"classes": 3}, "deep_supervision": 2}
    model = smp.create_model("unetv2", encoder, **arguments).eval()
    assert model.card is None  # pyright: ignore
    model.card = CARD  # pyright: ignore
    model.save_pretrained(tmp_path / "first")  # pyright: ignore
    again = smp.from_pretrained(str(tmp_path / "first"))
    again.save_pretrained(tmp_path / "second")
    loaded = sdi_plugin.load(tmp_path / "second")
    expected = {**json.loads((tmp_path / "first" / "config.json").read_text())}
    assert loaded.card.architecture["framework"] == "smp"
    assert loaded.card.architecture["arguments"].items() <= expected.items()
    assert (loaded.card.mean, loaded.card.size, loaded.card.labels) == (CARD.mean, CARD.size, CARD.labels)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        masks = model(images)[0]
    assert torch.equal(loaded(images).sigmoid(), masks)


def test_a_conversion_keeps_what_is_known(tmp_path: Path):
    model = smp.create_model("unetv2", "tu-pvt_v2_b0", encoder_weights=None)
    model.card = CARD  # pyright: ignore
    model.save_pretrained(tmp_path / "smp")  # pyright: ignore
    steps = [
        ("core", "a.safetensors"),
        ("mmseg", "b.pth"),
        ("nnunet", "c.pth"),
        ("smp", "d"),
        ("core", "e.safetensors"),
    ]
    here = tmp_path / "smp"
    for to, name in steps:
        assert main(["convert", str(here), str(tmp_path / name), "--to", to]) == 0
        here = tmp_path / name
        card = sdi_plugin.load(here).card
        for known in ("mean", "std", "size", "labels", "threshold", "metrics", "data"):
            assert getattr(card, known) == getattr(CARD, known), (name, known)


def test_what_mmengine_saves_says_how_images_are_prepared(tmp_path: Path, weights: dict[str, Tensor]):
    config = (
        "image_size = (256, 192)\n"
        "model = dict(data_preprocessor=dict(mean=[1.0, 2, 3], std=[4, 5.5, 6], bgr_to_rgb=True, type=print),\n"
        "    decode_head=dict(threshold=0.3, summed_heads=2, num_classes=2))\n"
        "test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(192, 256), keep_ratio=False)]\n"
        "print('this would run')\n"
    )
    meta = {"cfg": config, "mmengine_version": "0.10.7", "dataset_meta": {"classes": ("background", "lesion")}}
    file = tmp_path / "work" / "iter_10.pth"
    file.parent.mkdir()
    torch.save({"meta": meta, "state_dict": checkpoint.convert(weights, "mmseg")[0]}, file)
    (file.parent / "last_checkpoint").write_text("/elsewhere/work/iter_10.pth")
    model = sdi_plugin.load(file.parent)
    assert model.card == Card(
        (1, 2, 3), (4, 5.5, 6), False, (256, 192), ("background", "lesion"), 0.3, 2, versions={"mmengine": "0.10.7"}
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = sum(UNetV2.from_checkpoint(file).forward_heads(images)[:2])
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json", "expected smp's config.json"),
        ('{"_model_class": "UNetV2", "_card": "[]"}', "expected a card as sdi_plugin writes it"),
        ('{"_model_class": "UNetV2", "_card": "{\\"mean\\": [1]}"}', "expected a card with a mean and a deviation"),
        ('{"_model_class": "UNetV2", "_card": "{\\"size\\": [0, 4]}"}', "a size of"),
        ('{"_model_class": "UNetV2", "_card": "{\\"size\\": [1000000, 1000000]}"}', "a size of"),
        ('{"_model_class": "UNetV2", "_card": true}', "expected a card as sdi_plugin writes it, got 'True'"),
        ('{"_model_class": {}, "_card": "[]"}', "expected a card as sdi_plugin writes it"),
    ],
    ids=["config", "card", "deviation", "size", "large size", "no text", "class"],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, content: str, said: str):
    checkpoint.save(tmp_path / "model.safetensors", UNetV2("pvt_v2_b0", channels=4).state_dict())
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        sdi_plugin.load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_strangers_config_builds_no_other_network(tmp_path: Path):
    model = smp.create_model("unetv2", "resnet18", encoder_weights=None)
    model.save_pretrained(tmp_path)  # pyright: ignore
    config = json.loads((tmp_path / "config.json").read_text())
    for change, said in (
        ({"decoder_channels": 10**7}, "does not match"),  # found without its memory
        ({"encoder_name": "tu-resnet18", "checkpoint_path": "/etc/passwd"}, "checkpoint_path"),
        ({"encoder_name": ["resnet18"]}, "expected the weights of U-Net v2"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=said):
            sdi_plugin.load(tmp_path)


def test_a_folder_without_weights_says_what_was_expected(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"expected a checkpoint, or a folder with model\.safetensors"):
        sdi_plugin.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        sdi_plugin.load(tmp_path / "nothing")


def test_the_package_gives_what_it_lists():
    assert set(sdi_plugin.__all__) <= set(dir(sdi_plugin))
    assert sdi_plugin.checkpoint is checkpoint
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sdi_plugin.nothing  # noqa: B018


def test_images_are_resized_for_an_encoder_of_one_size(tmp_path: Path):
    UNetV2("levit_128s", channels=8, image_size=(64, 96)).save(tmp_path / "levit.safetensors")
    model = sdi_plugin.load(tmp_path / "levit.safetensors")
    assert model.only_size == model.card.size == (64, 96)
    assert deploy.Predictor(model)(np.zeros((50, 41, 3), np.uint8)).mask.shape == (50, 41)
    refused: list[dict[str, Any]] = [{"size": (96, 96)}, {"tile": 64}]
    for options in refused:
        with pytest.raises(ValueError, match=r"no size but \(64, 96\), the network's only one, got .*Leave them out"):
            deploy.Predictor(model, **options)


def test_nnunets_images_are_not_resized():
    model = deploy.Loaded(UNetV2("levit_128s", channels=8), Card(per_image=True), Path("x.pth"))
    assert model.only_size == (224, 224)
    assert model.card.size is None
