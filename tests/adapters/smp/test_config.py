"""A stranger's config.json, and arguments that make timm read files without weights_only=True."""

import json
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

import sdi_plugin.adapters.smp
from tests import hostile

UNetV2 = sdi_plugin.adapters.smp.UNetV2
RESTORE = pytest.mark.parametrize("restore", [UNetV2.from_pretrained, smp.from_pretrained], ids=["UNetV2", "smp"])


def create(encoder: str = "tu-test_resnet", **arguments: Any) -> Any:
    return smp.create_model("unetv2", encoder, None, **arguments)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    create().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The files of a model, to be changed."""
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((saved / file).read_bytes())
    return tmp_path


def change(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))


@pytest.fixture
def pickle_and_mark(tmp_path: Path) -> tuple[str, Path]:
    """A checkpoint that makes a folder when it is unpickled without weights_only."""
    mark, file = tmp_path / "made", tmp_path / "evil.pth"
    file.write_bytes(hostile.saved({"state_dict": {"a": hostile.makes_folder(mark)}}))
    return str(file), mark


@RESTORE
def test_a_config_makes_timm_read_no_file(folder, pickle_and_mark, restore):
    file, mark = pickle_and_mark
    change(folder, checkpoint_path=file)
    with pytest.raises(ValueError, match=r"UNetV2: expected .*checkpoint_path"):
        restore(folder)
    assert not mark.exists()
    with pytest.raises(Exception, match="."):  # the danger is real: timm runs it
        timm.create_model("test_resnet", checkpoint_path=file)
    assert mark.exists()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"pretrained": True}, "pretrained"),
        ({"pretrained_cfg": {"file": "evil.pth"}}, "pretrained_cfg"),
        ({"pretrained_cfg_overlay": {"file": "evil.pth"}}, "pretrained_cfg_overlay"),
        ({"pretrained_strict": False}, "pretrained_strict"),
        ({"cache_folder": "evil"}, "cache_folder"),
        ({"features_only": False}, "features_only"),
        ({"out_indices": [0]}, "out_indices"),
        ({"feature_cls": "fx"}, "feature_cls"),
        ({"stem_type": "../evil"}, "numbers and words .*stem_type=.../evil"),
        ({"stem_type": [{"a": "/evil"}]}, "numbers and words"),
        ({"encoder_name": "tu-local-dir:/evil"}, "name of an architecture .*local-dir"),
        ({"encoder_name": "tu-hf-hub:evil/model"}, "name of an architecture .*hf-hub"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_reaches_files_or_the_hub_is_refused_in_a_config(folder, entries, message):
    change(folder, **entries)
    with pytest.raises(ValueError, match=f"UNetV2: expected .*{message}"):
        smp.from_pretrained(folder)


def test_a_config_does_not_make_loading_lenient(folder):
    change(folder, strict=False, map_location="meta", deep_supervision=2)
    with pytest.raises(RuntimeError, match="auxiliary_heads"):
        UNetV2.from_pretrained(folder)


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained_cfg_overlay", "cache_dir"])
def test_from_code_the_error_names_the_cure(pickle_and_mark, argument):
    file, mark = pickle_and_mark
    arguments: dict[str, Any] = {argument: {"file": file} if "cfg" in argument else file}
    with pytest.raises(ValueError, match="encoder_weights=FILE"):
        create(**arguments)
    assert not mark.exists()


def test_arguments_of_networks_are_saved_and_restored(tmp_path):
    arguments = {"drop_path_rate": 0.2, "block_args": {"attn_layer": "se"}, "stem_type": "deep", "scriptable": None}
    create(**arguments).save_pretrained(tmp_path)
    restored = smp.from_pretrained(tmp_path)
    x = torch.rand(1, 3, 64, 64)
    assert restored(x).shape == (1, 1, 64, 64)
    assert restored.config["block_args"] == {"attn_layer": "se"}
