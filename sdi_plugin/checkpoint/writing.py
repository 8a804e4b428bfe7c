"""Weights to files of safetensors or torch.save, completely or not at all."""

import errno
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdi_plugin import files
from sdi_plugin.checkpoint.reading import import_safetensors


def save(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, and metadata, to a safetensors file.

    The file appears complete or not at all, and an existing one is replaced in one step. Equal arguments give equal
    files. Tensors that share memory are written separately.

    Raises:
        FileNotFoundError: the folder does not exist.
        ImportError: safetensors is not installed.

    Examples:
        >>> from sdi_plugin import UNetV2, checkpoint
        >>> checkpoint.save("unetv2.safetensors", UNetV2("pvt_v2_b0").state_dict())
        >>> checkpoint.identify(checkpoint.read("unetv2.safetensors"))
        'core'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    # safetensors refuses shared memory, so each tensor gets its own.
    own = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    files.write(path, _in_order(import_safetensors().save(own, dict(metadata or {}))))


def save_torch(path: Path, content: Any) -> None:
    """torch.save to a file that appears complete or not at all, and replaces an existing one in one step.

    Examples:
        >>> from pathlib import Path
        >>> from sdi_plugin import UNetV2, checkpoint
        >>> checkpoint.save_torch(Path("unetv2.pth"), UNetV2("pvt_v2_b0").state_dict())
        >>> checkpoint.identify(checkpoint.read("unetv2.pth"))
        'core'
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    files.write(path, buffer.getvalue())


def _in_order(data: bytes) -> bytes:
    """Sort the metadata, whose order is random in safetensors, so that equal weights give equal files."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
