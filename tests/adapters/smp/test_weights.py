"""Where weights come from and go to: the hub, files, save_pretrained and from_pretrained."""

import copy
import json
import pickle
import warnings
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

import sdi_plugin.adapters.smp
from sdi_plugin import hub
from sdi_plugin.adapters.smp import encoder as encoders
from sdi_plugin.checkpoint import CheckpointError

UNetV2 = sdi_plugin.adapters.smp.UNetV2


def create(encoder: str, weights: Any = None, **arguments) -> Any:
    return smp.create_model("unetv2", encoder_name=encoder, encoder_weights=weights, **arguments)


@pytest.fixture
def asked(monkeypatch) -> list:
    """What smp's get_encoder is asked for, in place of downloads."""
    weights_asked = []
    get_encoder = encoders.get_encoder

    def record(*args, weights, **kwargs):
        weights_asked.append(weights)
        return get_encoder(*args, weights=None, **kwargs)

    monkeypatch.setattr(encoders, "get_encoder", record)
    monkeypatch.setattr(hub, "unreachable", lambda url: None)
    return weights_asked


@pytest.mark.parametrize(
    ("encoder", "weights", "expected"),
    [
        ("tu-test_resnet", None, None),
        ("tu-test_resnet", False, None),
        ("tu-test_resnet", True, True),
        ("tu-test_resnet", "imagenet", True),
        ("resnet18", False, None),
        ("resnet18", "imagenet", "imagenet"),
        ("resnet18", "ssl", "ssl"),
    ],
)
def test_names_that_smp_knows_go_to_smp(asked, encoder, weights, expected):
    create(encoder, weights)
    assert asked == [expected]


@pytest.mark.parametrize("name", ["tu-test_resnet", "resnet18"])
def test_pretrained_is_the_default(asked, name):
    smp.create_model("unetv2", name)
    assert asked == [True if name.startswith("tu-") else "imagenet"]


def test_an_unreachable_hub_is_an_error_that_says_how_to_give_a_file(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(encoders, "get_encoder", offline)
    monkeypatch.setattr(hub, "unreachable", lambda url: None)
    with pytest.raises(RuntimeError, match="no route to host.*encoder_weights=FILE"):
        create("tu-test_resnet", "imagenet")
    with pytest.raises(OSError, match="no route"):  # not the weights' fault
        create("tu-test_resnet", None)


@pytest.mark.parametrize("name", ["tu-test_resnet", "resnet18"])
def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub, "unreachable", lambda url: "no answer within 5 s")
    monkeypatch.setattr(encoders, "get_encoder", lambda *_, **__: pytest.fail("asked smp's client"))
    with pytest.raises(RuntimeError, match=f"^UNetV2: could not get '{name}' .*no answer within 5 s.*FILE"):
        create(name, "imagenet")


@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("kind", [str, None], ids=["str", "Path"])
def test_file_of_encoder_weights(tmp_path, depth, kind):
    reference = timm.create_model("pvt_v2_b0")
    file = tmp_path / "pvt_v2_b0.pth"
    torch.save(reference.state_dict(), file)
    model = create("tu-pvt_v2_b0", kind(file) if kind else file, encoder_depth=depth)
    loaded = model.encoder.state_dict()
    assert len(loaded) > 50
    expected = reference.state_dict()
    assert all(
        torch.equal(value, expected[name.removeprefix("model.").replace("stages_", "stages.")])
        for name, value in loaded.items()
    )


def test_file_that_does_not_match_is_an_error(tmp_path):
    file = tmp_path / "resnet.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    with pytest.raises(CheckpointError, match="resnet.pth"):
        create("tu-pvt_v2_b0", str(file))


def test_files_are_for_timm_encoders(tmp_path):
    file = tmp_path / "resnet.pth"
    file.touch()
    with pytest.raises(ValueError, match=r"Only tu- encoders load files"):
        create("resnet18", file)


@pytest.mark.parametrize("restore", [UNetV2.from_pretrained, smp.from_pretrained], ids=["UNetV2", "smp"])
@pytest.mark.parametrize("encoder", ["resnet34", "tu-pvt_v2_b0", "mit_b0", "tu-convnext_atto"])
def test_save_and_load(tmp_path, encoder, restore):
    arguments = {"classes": 2, "in_channels": 1, "decoder_channels": 8, "decoder_norm": "layer", "encoder_depth": 4}
    model = create(encoder, deep_supervision=2, activation="sigmoid", aux_params={"classes": 3}, **arguments).eval()
    model.save_pretrained(tmp_path, dataset="test_dataset", metrics={"my_awesome_metric": 0.99})
    restored = restore(tmp_path)
    assert isinstance(restored, UNetV2)
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for got, expected in zip(restored(x), model(x), strict=True):
            assert torch.equal(got, expected)
    assert restored.config == {**model.config, "_model_class": "UNetV2"}
    card = (tmp_path / "README.md").read_text()
    assert "test_dataset" in card
    assert "my_awesome_metric" in card
    assert '"encoder_name": "' + encoder in card
    assert "import sdi_plugin.adapters.smp" in card


def test_timm_arguments_are_saved(tmp_path):
    create("tu-swin_tiny_patch4_window7_224", img_size=64, encoder_depth=3).save_pretrained(tmp_path)
    assert smp.from_pretrained(tmp_path).predict(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("weights", ["imagenet", "file"])
def test_restoring_needs_neither_the_hub_nor_the_file(tmp_path, asked, weights):
    if weights == "file":
        weights = str(tmp_path / "x.pth")
        torch.save(timm.create_model("test_resnet").state_dict(), weights)
    model = create("tu-test_resnet", weights).eval()
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "x.pth").unlink(missing_ok=True)
    asked.clear()
    restored = smp.from_pretrained(tmp_path / "saved")
    assert asked == [None]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in restored.state_dict().items())
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()
    assert str(tmp_path) not in (tmp_path / "saved" / "README.md").read_text()
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["_model_class"] == "UNetV2"


@pytest.mark.parametrize("restore", [UNetV2.from_pretrained, smp.from_pretrained], ids=["UNetV2", "smp"])
def test_restoring_incomplete_weights_is_an_error(tmp_path, restore):
    model = create("tu-test_resnet")
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    del state["decoder.ups.0.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match="decoder.ups.0.weight"):
        restore(tmp_path)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_deepcopy_and_pickle(copied):
    model = create("tu-test_resnet").eval()
    other = copied(model)
    x = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(other(x), model(x))
    assert other.config == model.config


def test_building_warns_of_nothing(asked):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create("tu-test_resnet", "imagenet")
