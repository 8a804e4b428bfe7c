"""State dicts from files of torch.save and safetensors, told apart by content. Code in a file is never run."""

import errno
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdi_plugin.checkpoint.admitted import admitting, plain
from sdi_plugin.checkpoint.errors import CheckpointError
from sdi_plugin.checkpoint.tensors import EXPANSION, usable

_NESTINGS = ("state_dict", "model", "network_weights", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # from DataParallel and DDP, and from torch.compile
_EXPECTED = "expected a file of torch.save or safetensors"


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU.

    The file may be one of torch.save (a state dict, or one under "state_dict", "model", "network_weights" or
    "model_state_dict") or of safetensors; its suffix does not matter. The prefixes "module." and "_orig_mod." are
    removed; entries that are not tensors (an epoch, an optimiser's state, nnU-Net's and mmengine's logs) are left out.
    torch.load runs with weights_only=True.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: not a file (a folder, a FIFO), an empty, truncated or damaged file, not a checkpoint, classes
            that weights_only refuses, no tensors, or tensors without data, see `tensors.usable`.
        ImportError: it is a safetensors file, and safetensors is not installed.

    Examples:
        >>> from sdi_plugin import checkpoint
        >>> state = checkpoint.read("UNet_v2_official.pth")
        >>> state["seg_outs.0.weight"].shape
        torch.Size([2, 32, 1, 1])
    """
    return _tensors(Path(path), contents(Path(path)))


def read_with_extras(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint as `read` gives them, and what else is in it by name: for safetensors, its texts."""
    found = contents(path)
    state = _tensors(path, found)
    if texts := _safetensors_texts(path):
        return state, texts
    extras = plain(found) if isinstance(found, dict) else {}
    return state, {key: value for key, value in extras.items() if isinstance(key, str) and key not in state}


def _tensors(path: Path, found: Any) -> dict[str, Tensor]:
    state = _unwrap(found)
    if not state:
        raise CheckpointError(f"{path}: expected tensors by name, got none: {_summary(found)}.")
    try:
        return usable(state, path.stat().st_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def contents(path: Path, map_location: Any = "cpu", stand_ins: Sequence[Any] | None = None) -> Any:
    """Everything in a checkpoint: for torch.save, whatever was saved; for safetensors, its tensors.

    Args:
        map_location: for torch.load; safetensors stay on the CPU.
        stand_ins: what torch.load admits besides tensors, see `admitted`.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not path.is_file():  # opening a FIFO would wait for a writer
        what = "a folder" if path.is_dir() else "a FIFO, a device or a socket. Copy its content into a file"
        raise CheckpointError(f"{path}: {_EXPECTED}, got {what}.")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: {_EXPECTED}, but it cannot be read: {error.strerror}.") from error
    if not start:
        raise CheckpointError(f"{path}: {_EXPECTED}, got an empty file.")
    if start.startswith(b"PK\x03\x04"):
        _check_zip(path)
    elif start[8:9] == b"{":
        return _read_safetensors(path, int.from_bytes(start[:8], "little"))
    elif start[0] != 0x80 or start[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):  # no pickle of torch before 1.6
        raise CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}, but it starts with {start!r}.")
    return _read_torch(path, map_location, stand_ins)


def _truncated(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: truncated: {what}. Download or copy it again.")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return CheckpointError(f"{path}: damaged, or not a checkpoint: {reason}")


def _check_zip(path: Path) -> None:
    try:
        if not zipfile.is_zipfile(path):
            raise _truncated(path, "the zip archive of torch.save has no end")
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            expanded = sum(entry.file_size for entry in archive.infolist())
    except CheckpointError:
        raise
    except Exception as error:  # BadZipFile, or an error from decoding names and numbers
        raise _damaged(path, error) from error
    if "constants.pkl" in names:
        raise CheckpointError(f"{path}: expected a state dict, got TorchScript. Save its state_dict() with torch.save.")
    if "data.pkl" not in names:
        raise CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}, got another zip archive (without data.pkl).")
    if expanded > EXPANSION * path.stat().st_size:
        raise CheckpointError(
            f"{path}: not a checkpoint: torch.save compresses nothing, and this zip archive of {path.stat().st_size} "
            f"bytes expands to {expanded}."
        )


def _read_torch(path: Path, map_location: Any, stand_ins: Sequence[Any] | None) -> Any:
    try:
        # Pass a file, not its path: torch would read one with the suffix .safetensors as safetensors.
        with warnings.catch_warnings(), admitting(stand_ins), path.open("rb") as file:
            warnings.simplefilter("ignore")  # torch warns about its older formats
            return torch.load(file, map_location=map_location, weights_only=True)
    except EOFError as error:
        raise _truncated(path, "the file ends too early") from error
    except pickle.UnpicklingError as error:
        raise refused(path, error) from error
    except RuntimeError as error:
        if "unexpected EOF" in str(error):
            raise _truncated(path, "the file ends too early") from error
        raise _damaged(path, error) from error
    except Exception as error:  # a damaged pickle can raise any type of error
        raise _damaged(path, error) from error


def refused(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that torch.load refused to unpickle with weights_only=True."""
    message = str(error)
    name = re.search(r"GLOBAL ([\w.]*\w)", message)
    if name is None and "allowlisted" not in message:
        cause = message.rpartition("WeightsUnpickler error: ")[2].strip().split("\n")[0]
        return CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}, got a pickle of another kind: {cause}")
    what = f"the class {name.group(1)}" if name else "other classes"
    return CheckpointError(
        f"{path}: expected tensors only, got a pickle with {what}, which could run code; it was not run. "
        "If you trust the file, load it yourself and save only the network's state_dict()."
    )


def _read_safetensors(path: Path, header_size: int) -> dict[str, Tensor]:
    size = path.stat().st_size
    # A text that happens to have "{" there would mean a header of more than 2**53 bytes; the format's limit is 100 MB.
    if header_size > 100_000_000:
        raise CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}.")
    if size < 8 + header_size:
        raise _truncated(path, f"the header of safetensors has {header_size} bytes, the file {size}")
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(header_size), object_pairs_hook=_one_of_each)
        end = max((e["data_offsets"][1] for name, e in header.items() if name != "__metadata__"), default=0)
        needed = 8 + header_size + end
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise _damaged(path, error) from error
    if size < needed:
        raise _truncated(path, f"its tensors need {needed} bytes, the file has {size}")
    safetensors = import_safetensors()
    try:
        return safetensors.load_file(path)
    except Exception as error:  # safetensors_rust.SafetensorError, which derives directly from Exception
        raise _damaged(path, error) from error


def _safetensors_texts(path: Path) -> dict[str, Any]:
    """The metadata of a file that `_read_safetensors` has checked; empty for other formats."""
    with path.open("rb") as file:
        start = file.read(9)
        if start[8:9] != b"{":
            return {}
        header = json.loads(b"{" + file.read(int.from_bytes(start[:8], "little") - 1))
    texts = header.get("__metadata__")
    return dict(texts) if isinstance(texts, dict) else {}


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("two entries with the same name in the header")
    return found


def import_safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("The format needs safetensors. Install it: pip install 'sdi-plugin[smp]'") from error
    return safetensors.torch


def _unwrap(found: Any) -> dict[str, Tensor]:
    seen: set[int] = set()  # a state dict may contain itself
    while isinstance(found, Mapping) and id(found) not in seen:
        seen.add(id(found))
        found = next((found[key] for key in _NESTINGS if isinstance(found.get(key), Mapping)), found)
    if not isinstance(found, Mapping):
        return {}
    state = {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, Tensor)}
    while prefix := next((p for p in _PREFIXES if state and all(key.startswith(p) for key in state)), None):
        state = {key[len(prefix) :]: value for key, value in state.items()}
    return state


def _summary(found: Any) -> str:
    if not isinstance(found, Mapping):
        return f"it contains a {type(found).__name__}"
    return "its entries are " + (", ".join(repr(key) for key in list(found)[:10]) or "none at all")
