"""Plan, preprocess, train, validate and predict with nnU-Net itself, in each of the shapes that its plans take."""

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.adapters.nnunet import (
    PlainConvUNetV2,
    PVTUNetV2,
    TimmUNetV2,
    nnUNetTrainerUNetV2,
    nnUNetTrainerUNetV2PVT,
)
from sdi_plugin.adapters.nnunet.plans import class_path
from sdi_plugin.cli import main
from tests.adapters.nnunet import life as nnunet_life


@pytest.fixture
def life(monkeypatch, tmp_path):
    return nnunet_life.prepare(monkeypatch, tmp_path)


def check_model(life, model, labels, *, network: type = PlainConvUNetV2, fold: int | str = 0, previous=None):
    """What a trained model's folder must hold, and that it predicts every case in its labels."""
    plans = json.loads((model / "plans.json").read_text())
    architectures = [c["architecture"] for c in plans["configurations"].values() if "architecture" in c]
    assert {a["network_class_name"] for a in architectures} == {class_path(network)}
    summary = json.loads((model / f"fold_{fold}" / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1
    checkpoint = torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
    assert model.name.startswith(checkpoint["trainer_name"] + "__")
    predictions = life.predict(model, fold, previous)
    assert len(predictions) == 5
    for case, predicted in predictions.items():
        assert set(np.unique(predicted)) <= labels, case


def test_2d(life):
    life.write_images((48, 40))
    plans = life.plan("2d")
    assert plans["experiment_planner_used"] == "Planner"
    model = life.train("2d", export_validation_probabilities=True)
    check_model(life, model, {0, 1})
    assert list((model / "fold_0" / "validation").glob("*.npz"))


def test_3d_with_two_channels(life):
    life.write_volumes((16, 20, 16), channels=2)
    life.plan("3d_fullres")
    model = life.train("3d_fullres")
    check_model(life, model, {0, 1, 2})
    out, expected = model / "ours", life.predict(model)
    (life.folder("imagesTr") / "case9_0000.nii.gz").write_bytes(b"x")  # whose second channel is missing
    assert main(["predict", str(model), str(life.folder("imagesTr")), "--out", str(out)]) == 1
    for case, labels in expected.items():
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "masks" / f"{case}.nii.gz")))
        np.testing.assert_array_equal(found, labels)


def test_anisotropic_3d(life):
    life.write_volumes((8, 32, 32), spacing=(5, 1, 1))
    plans = life.plan("3d_fullres")
    strides = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"]
    assert [1, 2, 2] in strides
    check_model(life, life.train("3d_fullres"), {0, 1, 2})


def test_regions_and_ignore_label(life):
    labels = {"background": 0, "whole": [1, 2], "back": 2, "ignore": 3}
    life.write_volumes((16, 16, 16), labels=labels, regions_class_order=[1, 2])
    life.plan("3d_fullres")
    check_model(life, life.train("3d_fullres"), {0, 1, 2})


def test_cascade(life):
    life.write_volumes((16, 16, 16))
    plans = life.plan()
    plans["configurations"] |= {
        "3d_lowres": {
            "inherits_from": "3d_fullres",
            "data_identifier": "lowres",
            "spacing": [2, 2, 2],
            "next_stage": "3d_cascade_fullres",
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    life.plans_file.write_text(json.dumps(plans))
    life.preprocess("3d_lowres", "3d_fullres")
    first = life.train("3d_lowres", fold="all")
    assert len(list((first / "predicted_next_stage" / "3d_cascade_fullres").glob("case*"))) == 5
    check_model(life, first, {0, 1, 2}, fold="all")
    second = life.train("3d_cascade_fullres")
    check_model(life, second, {0, 1, 2}, previous=first / "predicted")


def test_the_papers_network(life, monkeypatch):
    monkeypatch.setattr(nnUNetTrainerUNetV2PVT, "encoder", "pvt_v2_b0")
    life.write_images((48, 40))
    life.plan("2d")
    model = life.train("2d", "nnUNetTrainerUNetV2PVT_noPretrain_1epoch")
    check_model(life, model, {0, 1}, network=PVTUNetV2)

    trained = model / "fold_0" / "checkpoint_final.pth"
    assert main(["convert", str(trained), str(model / "core.safetensors"), "--to", "core"]) == 0
    core, network = UNetV2("pvt_v2_b0", classes=2, deep_supervision=4), PVTUNetV2(3, 2, "pvt_v2_b0")
    checkpoint.load(core, model / "core.safetensors")
    network.load_state_dict(torch.load(trained, weights_only=False)["network_weights"])
    network.decoder.deep_supervision = False
    x = torch.randn(1, 3, 48, 40)
    with torch.no_grad():
        assert torch.equal(core.eval()(x), network.eval()(x))


def test_an_encoder_of_timm(life):
    life.write_images((48, 40))
    life.plan("2d")
    model = life.train("2d", "nnUNetTrainerUNetV2Timm_test_resnet_noPretrain_1epoch")
    check_model(life, model, {0, 1}, network=TimmUNetV2)


class Killed(BaseException):
    """In place of SIGKILL, in one process."""


def test_continued_training_ends_as_an_uninterrupted_one(life, monkeypatch):
    """With equal random numbers in each epoch; nnU-Net does not keep their state across an interruption."""
    monkeypatch.setattr(nnUNetTrainerUNetV2, "epochs", 2)
    original = nnUNetTrainerUNetV2.on_epoch_start
    killed_in = None

    def on_epoch_start(trainer):
        np.random.seed(trainer.current_epoch)
        torch.manual_seed(trainer.current_epoch)
        if trainer.current_epoch == killed_in:
            raise Killed
        original(trainer)

    monkeypatch.setattr(nnUNetTrainerUNetV2, "on_epoch_start", on_epoch_start)
    life.write_images((32, 32))
    life.plan("2d")

    def final(**named):
        torch.manual_seed(0)
        model = life.train("2d", "nnUNetTrainerUNetV2", **named)
        return torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)

    at_once = final()
    killed_in = 1
    with pytest.raises(Killed):
        final()
    for file in life.results.rglob("checkpoint_final.pth"):
        file.unlink()
    killed_in = None
    continued = final(continue_training=True)
    assert len(continued["logging"]["train_losses"]) == 2
    for key, value in at_once["network_weights"].items():
        assert torch.equal(continued["network_weights"][key], value), key
