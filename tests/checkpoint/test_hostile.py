"""Files from strangers: numbers of numpy that would read memory, tensors without data or with the file's own hooks."""

import copy
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdi_plugin import checkpoint
from sdi_plugin.checkpoint import CheckpointError
from sdi_plugin.checkpoint.admitted import admitting
from tests import hostile

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch's, about old kinds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.pth"


@pytest.mark.parametrize("trick", hostile.NUMPY_TRICKS)
def test_numpy_data_other_than_numbers_are_refused(path: Path, trick: str):
    path.write_bytes(hostile.saved({"a": torch.ones(1), "x": hostile.NUMPY_TRICKS[trick]}))
    with pytest.raises(CheckpointError, match=r"x\.pth: .*(numpy data other than numbers|takes no arg|numpy\.float64)"):
        checkpoint.read(path)


def test_an_array_is_built_once(path: Path):
    path.write_bytes(hostile.saved([np.arange(2.0), (1, (1,), hostile.dtype("f8"), False, bytes(8))]))
    with admitting():
        array, state = torch.load(path, weights_only=True)
    with pytest.raises(pickle.UnpicklingError, match="built twice"):
        array.__setstate__(state)


@pytest.mark.parametrize(
    "array",
    [
        *(np.arange(-2, 4).reshape(2, 3).astype(kind) for kind in "?bBhHiIqQefdFD"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3).astype(">i4"),
        np.array(2.5),
        np.zeros((0, 3)),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_numbers_of_numpy_are_copied_as_they_are(path: Path, array: Any):
    scalar = array.reshape(-1)[:1].sum()
    torch.save([array, scalar], path)
    with admitting():
        found, number = torch.load(path, weights_only=True)
    for got in (found.array, np.asarray(found)):
        assert np.array_equal(got, array)
        assert (got.dtype, got.flags.writeable) == (array.dtype, True)
    assert (number, number.dtype) == (scalar, scalar.dtype)
    assert type(copy.deepcopy(found)) is type(pickle.loads(pickle.dumps(found, 2))) is np.ndarray


def test_what_others_admit_under_these_names_is_not_used(path: Path):
    before = torch.serialization.get_safe_globals()
    others = [np.dtype, np.ndarray, (hostile.CORE.multiarray.scalar, "numpy._core.multiarray.scalar")]
    torch.serialization.add_safe_globals(others)
    try:
        path.write_bytes(hostile.saved({"a": torch.ones(1), "x": hostile.NUMPY_TRICKS["fields that are no dict"]}))
        with pytest.raises(CheckpointError, match="fields or flags"):
            checkpoint.read(path)
        assert set(others) <= set(torch.serialization.get_safe_globals())
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@pytest.mark.parametrize("trick", hostile.TENSOR_TRICKS)
def test_tensors_without_data_of_their_own_are_refused(path: Path, trick: str):
    path.write_bytes(hostile.saved({"weight": hostile.TENSOR_TRICKS[trick]()}))
    with pytest.raises(CheckpointError, match=r"x\.pth: (expected .* weight|damaged)"):
        checkpoint.read(path)


@pytest.mark.parametrize("trick", hostile.HARMLESS_TENSORS)
def test_tensors_lose_what_a_file_hangs_on_them(path: Path, trick: str):
    path.write_bytes(hostile.saved({"weight": hostile.HARMLESS_TENSORS[trick](torch.ones(2, 3))}))
    weight = checkpoint.read(path)["weight"]
    assert type(weight) is torch.Tensor
    assert not weight.requires_grad
    assert not vars(weight)
    assert torch.equal(weight.detach().clone(), torch.ones(2, 3))


def test_names_that_share_memory_are_not_an_expansion(path: Path):
    weight = torch.randn(400, 10)
    torch.save({f"copy{i}": weight for i in range(4)} | {"row": torch.ones(1).expand(50, 2)}, path)
    assert len(checkpoint.read(path)) == 5


def test_a_zip_archive_that_expands_is_refused(path: Path):
    torch.save({"weight": torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as stored:
        entries = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="expands to"):
        checkpoint.read(path)


@pytest.mark.timeout(20)
def test_a_state_dict_that_holds_itself(path: Path):
    state: dict[str, Any] = {"weight": torch.ones(1)}
    state["state_dict"] = {"model": state}
    torch.save(state, path)
    assert list(checkpoint.read(path)) == ["weight"]


@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_not_opened(path: Path):
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="got a FIFO"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(hostile.deep_header(), "recursion", id="lists in lists"),
        pytest.param(hostile.two_entries(), "two entries with the same name", id="two tensors of one name"),
        pytest.param(struct.pack("<Q", 31) + b'{"a":{"data_offsets":[0,"end"]}}', "damaged", id="a word for a number"),
    ],
)
def test_headers_of_safetensors(path: Path, content: bytes, message: str):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read(path)
