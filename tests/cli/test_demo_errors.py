"""The demo refuses what it cannot train or resume before it begins, with exit code 2, and loses nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdi_plugin import memory
from sdi_plugin.cli import main

ENCODER = "tu-lcnet_035"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for i in range(5):
        mask = np.zeros((40, 40), np.uint8)
        mask[8 : 20 + i, 8:30] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
        Image.fromarray(np.stack([mask // 2 + 20 * i] * 3, 2)).save(folder / "images" / f"{i}.png")
    return folder


def demo(data: Path, out: Path, *more: str, encoder: str = ENCODER, size: str = "32") -> int:
    return main(
        ["demo", "--data", str(data), "--out", str(out), "--encoder", encoder, "--size", size, "--epochs", "1", *more]
    )


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "run"
    assert demo(data, out) == 0
    return out / "checkpoint.pt"


def without(*path):
    def spoil(state):
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return spoil


def set_to(value, *path):
    def spoil(state):
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return spoil


def first_moment(state):
    state["optimizer"]["state"][next(iter(state["optimizer"]["state"]))]["exp_avg"] = torch.zeros(7)


def first_weight(state):
    state["model"][next(iter(state["model"]))] = torch.zeros(7)


def first_key(state):
    del state["model"][next(iter(state["model"]))]


SPOILED = {
    "no-model": (without("model"), "weights or optimizer that do not fit"),
    "missing-key": (first_key, "Missing key"),
    "other-shape": (first_weight, "size mismatch"),
    "no-optimizer": (without("optimizer"), "weights or optimizer that do not fit"),
    "empty-optimizer": (set_to({}, "optimizer", "state"), "the optimizer has no state of"),
    "moment-of-other-shape": (first_moment, "the optimizer's exp_avg of .* is .7,."),
    "no-history": (without("history"), "no history"),
    "empty-history": (set_to([], "history"), "no history"),
    "longer-history": (set_to([{}] * 2, "history"), "no history"),
    "history-without-loss": (without("history", 0, "loss"), "no losses and scores of epoch 1"),
    "history-of-other-kind": (set_to(["x"], "history"), "no losses and scores of epoch 1"),
    "no-seconds": (without("seconds"), "neither its time"),
    "no-start": (without("pretrained"), "neither its time"),
    "no-recipe": (without("recipe"), "not a checkpoint of the demo"),
    "recipe-of-other-kind": (set_to("3", "recipe"), "not a checkpoint of the demo"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED.keys())
def test_a_checkpoint_that_does_not_fit_is_an_error_and_is_kept(spoil, message, data, finished, tmp_path, capsys):
    state = torch.load(finished, weights_only=True)
    spoil(state)
    torch.save(state, tmp_path / "checkpoint.pt")
    before = (tmp_path / "checkpoint.pt").read_bytes()
    assert demo(data, tmp_path, "--resume") == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert re.search(message, captured.err)
    assert "epoch 1" not in captured.out
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    ("encoder", "size", "message"),
    [
        ("nonesuch", "32", "expected an encoder of segmentation_models_pytorch, got 'nonesuch'"),
        ("tu-nonesuch", "32", "expected an encoder of segmentation_models_pytorch, got 'tu-nonesuch'"),
        ("tu-convmixer_768_32", "32", "got 'tu-convmixer_768_32' .features_only not implemented"),
        ("", "32", "expected an encoder of segmentation_models_pytorch, got ''"),
        ("tu-efficientformer_l1", "64", r"cannot take images of 64 x 64 .* Pass --size 224"),
    ],
)
def test_an_encoder_that_cannot_be_trained_is_an_error(encoder, size, message, data, tmp_path, capsys):
    assert demo(data, tmp_path / "out", encoder=encoder, size=size) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_an_encoder_of_one_size_is_built_for_the_size_that_is_asked_for(data, tmp_path):
    assert demo(data, tmp_path / "out", encoder="tu-gcvit_xxtiny", size="64") == 0
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["img_size"] == [64, 64]


@pytest.mark.parametrize("size", ["0", "-1", "1.5", "x", "", "²", "nan"])
def test_a_size_that_is_not_a_positive_whole_number_is_an_error(size, data, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        demo(data, tmp_path / "out", size=size)
    assert caught.value.code == 2
    assert "--size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["100000", "9" * 30])
def test_a_size_larger_than_the_memory_is_an_error(size, data, tmp_path, capsys):
    for source in (["--data", str(data)], []):
        assert main(["demo", *source, "--out", str(tmp_path / "out"), "--encoder", ENCODER, "--size", size]) == 2
        assert "of memory, but there are" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    arguments = ["data", "prepare", "etis", "--source", str(data), "--out", str(tmp_path / "out"), "--size", "9" * 30]
    assert main(arguments) == 2
    assert "of memory, but there are" in capsys.readouterr().err


def test_a_batch_larger_than_the_memory_is_an_error(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "total", lambda: 6 * 2**20)  # for the images, and less than for their feature maps
    assert demo(data, tmp_path / "out", size="256") == 2
    assert "GiB of memory, but there are 0.00586 GiB" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
