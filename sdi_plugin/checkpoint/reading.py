"""State dicts from files of torch.save and safetensors, told apart by content; nothing in them is ever run."""

import errno
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sdi_plugin.checkpoint.errors import CheckpointError

_NESTINGS = ("state_dict", "model", "network_weights", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and DDP, and of torch.compile
_EXPECTED = "expected a file of torch.save or safetensors"


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU.

    Whatever its suffix, the file may be one of torch.save (a state dict, or one under "state_dict", "model",
    "network_weights" or "model_state_dict") or of safetensors. The prefixes "module." and "_orig_mod." are taken off;
    entries that are not tensors (an epoch, an optimiser's state) are left out. torch.load runs with weights_only=True.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: a folder, an empty file, not a checkpoint, truncated, damaged, classes that weights_only
            refuses, or no tensors.
        ImportError: a safetensors file, and safetensors is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if path.is_dir():
        raise CheckpointError(f"{path}: {_EXPECTED}, got a folder.")
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: {_EXPECTED}, but it cannot be read: {error.strerror}.") from error
    if not start:
        raise CheckpointError(f"{path}: {_EXPECTED}, got an empty file.")
    if start.startswith(b"PK\x03\x04"):
        _check_zip(path)
        found = _read_torch(path)
    elif start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):  # a pickle: torch before 1.6
        found = _read_torch(path)
    elif start[8:9] == b"{":
        found = _read_safetensors(path, int.from_bytes(start[:8], "little"))
    else:
        raise CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}, but it starts with {start!r}.")
    state = _unwrap(found)
    if not state:
        raise CheckpointError(f"{path}: expected tensors by name, got none: {_summary(found)}.")
    return state


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
    except CheckpointError:
        raise
    except Exception as error:  # besides BadZipFile what the decoding of names and numbers raises
        raise _damaged(path, error) from error
    if "constants.pkl" in names:
        raise CheckpointError(f"{path}: expected a state dict, got TorchScript. Save its state_dict() with torch.save.")
    if "data.pkl" not in names:
        raise CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}, got another zip archive (without data.pkl).")


def _read_torch(path: Path) -> Any:
    try:
        # A file, not its path: by the path's suffix torch would take it for safetensors.
        with warnings.catch_warnings(), _numpy_scalars(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # torch's own, about its formats of old
            return torch.load(file, map_location="cpu", weights_only=True)
    except EOFError as error:
        raise _truncated(path, "the file ends too early") from error
    except pickle.UnpicklingError as error:
        raise refused(path, error) from error
    except RuntimeError as error:
        if "unexpected EOF" in str(error):
            raise _truncated(path, "the file ends too early") from error
        raise _damaged(path, error) from error
    except Exception as error:  # a pickle gone wrong fails in as many ways as there are opcodes
        raise _damaged(path, error) from error


def refused(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that torch.load refused to unpickle with weights_only=True."""
    message = str(error)
    name = re.search(r"GLOBAL ([\w.]*\w)", message)
    if name is None and "allowlisted" not in message:
        cause = message.strip().rpartition("WeightsUnpickler error: ")[2].split("\n")[0]
        return CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}, got a pickle of another kind: {cause}")
    what = f"the class {name.group(1)}" if name else "other classes"
    return CheckpointError(
        f"{path}: expected tensors only, got a pickle with {what}, which could run code; it was not run. "
        "Save the network's state_dict() alone, where you trust the file."
    )


def _numpy_scalars() -> AbstractContextManager[Any]:
    """Admit numpy's numbers, which nnU-Net writes beside the weights (its moving average and its log)."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        # torch cannot yet admit a function under its former path: such files are refused.
        return nullcontext()
    try:
        import numpy as np

        scalar = cast(Any, np)._core.multiarray.scalar
        dtypes = [getattr(np.dtypes, f"{kind}DType") for kind in ("Bool", "Float32", "Float64", "Int32", "Int64")]
        paths = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
        wanted = [*((scalar, name) for name in paths), np.dtype, *dtypes]
    except (ImportError, AttributeError):  # no numpy, or before its version 2
        return nullcontext()
    # On leaving, torch takes away all that were named here: not what others have admitted for good.
    return torch.serialization.safe_globals([g for g in wanted if g not in torch.serialization.get_safe_globals()])


def _read_safetensors(path: Path, header_size: int) -> dict[str, Tensor]:
    size = path.stat().st_size
    # A text that happens to have "{" there announces a header of more than 2**53 bytes; the format's limit is 100 MB.
    if header_size > 100_000_000:
        raise CheckpointError(f"{path}: not a checkpoint: {_EXPECTED}.")
    if size < 8 + header_size:
        raise _truncated(path, f"the header of safetensors has {header_size} bytes, the file {size}")
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(header_size))
        end = max((e["data_offsets"][1] for name, e in header.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from error
    if size < 8 + header_size + end:
        raise _truncated(path, f"its tensors need {8 + header_size + end} bytes, the file has {size}")
    safetensors = import_safetensors()
    try:
        return safetensors.load_file(path)
    except Exception as error:  # safetensors_rust.SafetensorError, which derives from Exception alone
        raise _damaged(path, error) from error


def import_safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("The format needs safetensors. Install it: pip install 'sdi-plugin[smp]'") from error
    return safetensors.torch


def _unwrap(found: Any) -> dict[str, Tensor]:
    while isinstance(found, Mapping):
        inner = next((found[key] for key in _NESTINGS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping):
        return {}
    state = {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, Tensor)}
    while prefix := next((p for p in _PREFIXES if state and all(key.startswith(p) for key in state)), None):
        state = {key[len(prefix) :]: value for key, value in state.items()}
    return state


def _summary(found: Any) -> str:
    if not isinstance(found, Mapping):
        return f"it holds a {type(found).__name__}"
    return "its entries are " + (", ".join(repr(key) for key in list(found)[:10]) or "none at all")
