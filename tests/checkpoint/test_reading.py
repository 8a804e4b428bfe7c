"""Files: read by content, refused with the reason, written completely or not at all."""

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sdi_plugin import checkpoint
from sdi_plugin.checkpoint import CheckpointError

STATE = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "steps": torch.tensor(7),
}


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


def _write(path: Path, kind: str, state: dict[str, Tensor] = STATE) -> bytes:
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


def _refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ""], ids=lambda suffix: suffix or "no suffix")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_read_goes_by_content_not_by_suffix(tmp_path: Path, kind: str, suffix: str):
    path = tmp_path / f"weights{suffix}"
    _write(path, kind)
    found = checkpoint.read(path)
    _assert_same({key: found[key] for key in STATE}, STATE)
    assert found.keys() == STATE.keys()


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda s: s, id="bare"),
        pytest.param(lambda s: OrderedDict(s), id="OrderedDict"),
        pytest.param(lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"lr": 0.1}}, id="state_dict"),
        pytest.param(lambda s: {"model": s}, id="model"),
        pytest.param(lambda s: {"network_weights": s, "logging": {"ema": [0.5]}, "trainer_name": "T"}, id="nnU-Net"),
        pytest.param(lambda s: {"model_state_dict": s}, id="model_state_dict"),
        pytest.param(lambda s: {"model": {"state_dict": s}}, id="nested twice"),
        pytest.param(lambda s: {f"module.{k}": v for k, v in s.items()}, id="module."),
        pytest.param(lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()}, id="module._orig_mod."),
        pytest.param(
            lambda s: {"model": {f"_orig_mod.module.{k}": v for k, v in s.items()}}, id="model, both prefixes"
        ),
        pytest.param(lambda s: {**s, "epoch": 3, "name": "x"}, id="beside other entries"),
        pytest.param(lambda s: {k: nn.Parameter(v, v.is_floating_point()) for k, v in s.items()}, id="Parameters"),
    ],
)
def test_read_unwraps(tmp_path: Path, wrap: Any):
    torch.save(wrap(STATE), tmp_path / "x.pth")
    _assert_same(checkpoint.read(tmp_path / "x.pth"), STATE)


def test_read_keeps_a_prefix_that_not_all_have(tmp_path: Path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "x.pth")
    _assert_same(checkpoint.read(tmp_path / "x.pth"), state)


@pytest.mark.parametrize(
    "number", [np.float64(0.9), np.float32(0.9), np.int64(3), np.bool_(True)], ids=lambda n: type(n).__name__
)
def test_read_takes_the_numpy_numbers_of_nnunet(tmp_path: Path, number: Any):
    torch.save({"network_weights": STATE, "_best_ema": number}, tmp_path / "x.pth")
    _assert_same(checkpoint.read(tmp_path / "x.pth"), STATE)


def test_what_others_admit_to_torch_load_stays_as_it_is(tmp_path: Path):
    torch.save({"network_weights": STATE, "_best_ema": np.float64(1)}, tmp_path / "x.pth")
    before = set(torch.serialization.get_safe_globals())
    torch.serialization.add_safe_globals([np.dtype])
    try:
        checkpoint.read(tmp_path / "x.pth")
        assert set(torch.serialization.get_safe_globals()) == before | {np.dtype}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(list(before))


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        checkpoint.read(tmp_path / "x.pth")
    assert caught.value.filename == str(tmp_path / "x.pth")


def _png() -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64)


def _zip_of_text() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no weights here")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "empty file", id="empty"),
        pytest.param(b"x", "not a checkpoint", id="one byte"),
        pytest.param(_png(), "not a checkpoint", id="PNG"),
        pytest.param(b"epoch,loss\n1,0.5\n" * 9, "not a checkpoint", id="text"),
        pytest.param(b"{'value': {'weight': 1}}" * 9, "not a checkpoint", id="text with a brace at byte 8"),
        pytest.param(_zip_of_text(), "another zip archive", id="zip"),
        pytest.param(pickle.dumps({"weight": [1.0, 2.0]}, protocol=2), "not a checkpoint", id="pickle, protocol 2"),
        pytest.param(pickle.dumps({"weight": [1.0, 2.0]}, protocol=4), "not a checkpoint", id="pickle, protocol 4"),
        pytest.param((10).to_bytes(8, "little") + b"{not json!}" + bytes(99), "damaged", id="safetensors header"),
        pytest.param((2).to_bytes(8, "little") + b"{}", "expected tensors by name", id="safetensors without tensors"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, expected: str):
    (tmp_path / "x.pth").write_bytes(content)
    assert expected in _refusal(tmp_path / "x.pth")


def test_a_folder_is_refused(tmp_path: Path):
    assert "got a folder" in _refusal(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the file's mode does not bind this user")
def test_a_file_without_permission_is_refused(tmp_path: Path):
    torch.save(STATE, tmp_path / "x.pth")
    (tmp_path / "x.pth").chmod(0)
    assert "cannot be read" in _refusal(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_torchscript_is_refused(tmp_path: Path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    assert "TorchScript" in _refusal(tmp_path / "x.pt")


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({"epoch": 3}, id="numbers"),
        pytest.param({}, id="nothing"),
        pytest.param([torch.ones(2)], id="a list"),
        pytest.param(torch.ones(2), id="a tensor without name"),
        pytest.param({0: torch.ones(2)}, id="numbers as names"),
        pytest.param({"state_dict": {}, "epoch": 3}, id="an empty state_dict"),
    ],
)
def test_no_tensors(tmp_path: Path, found: Any):
    torch.save(found, tmp_path / "x.pth")
    assert "expected tensors by name, got none" in _refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_reported(tmp_path: Path, kind: str, part: float):
    path = tmp_path / "x.pth"
    content = _write(path, kind, {f"layer.{i}.weight": torch.randn(40, 10) for i in range(20)})
    path.write_bytes(content[: int(len(content) * part)])
    assert "truncated" in _refusal(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_any_shortened_file_is_a_checkpoint_error(tmp_path: Path, kind: str):
    path = tmp_path / "x.pth"
    content = _write(path, kind)
    for length in range(0, len(content), max(1, len(content) // 150)):
        path.write_bytes(content[:length])
        _refusal(path)


class _MakesFile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "nested", "pickle"])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path: Path, kind: str):
    marker, path = tmp_path / "marker", tmp_path / "x.pth"
    evil = (
        {"weight": torch.ones(1), "state_dict": {"a": _MakesFile(marker)}} if kind == "nested" else _MakesFile(marker)
    )
    if kind == "pickle":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=kind != "legacy")
    message = _refusal(path)
    assert "mkdir" in message
    assert "was not run" in message
    assert not marker.exists()
    if kind == "pickle":  # the danger is real: an unguarded load runs it
        pickle.loads(path.read_bytes())
        assert marker.exists()


def test_a_pickled_network_is_refused_by_name(tmp_path: Path):
    torch.save(nn.Linear(2, 2), tmp_path / "x.pth")
    assert "torch.nn.modules.linear.Linear" in _refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_changed_byte_causes_no_crash(tmp_path: Path, kind: str):
    content = _write(tmp_path / "x.pth", kind)
    generator = random.Random(0)
    refused = 0
    for _ in range(200):
        changed = bytearray(content)
        changed[generator.randrange(len(content))] = generator.randrange(256)
        (tmp_path / "x.pth").write_bytes(changed)
        try:
            checkpoint.read(tmp_path / "x.pth")
        except CheckpointError:
            refused += 1
    assert 0 < refused < 200
