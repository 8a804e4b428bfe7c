"""Files that a stranger could send: pickles that torch.save would not write, and what unpickling them would do."""

import io
import json
import os
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._tensor import _rebuild_from_type_v2
from torch._utils import _rebuild_tensor_v2, _rebuild_wrapper_subclass

_POINTER = struct.pack("<Q", 0x4141414141414141)  # where numpy would look for an object
CORE: Any = np._core if hasattr(np, "_core") else np.core  # pyright: ignore


class Reduced:
    """Is pickled as a call, and a state for BUILD: what __reduce__ returns."""

    def __init__(self, *reduced: Any):
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def makes_folder(path: Path) -> Reduced:
    return Reduced(os.mkdir, (str(path),))


def dtype(kind: Any, state: Any = None) -> Reduced:
    return Reduced(np.dtype, (kind, False, True), *([] if state is None else [state]))


def _state(order: str = "<", subarray: Any = None, names: Any = None, fields: Any = None, flags: int = 0) -> Any:
    return (3, order, subarray, names, fields, -1, -1, flags)


def scalar(of: Any, raw: Any = _POINTER) -> Reduced:
    return Reduced(CORE.multiarray.scalar, (of, raw))


def array(of: Any, raw: Any = _POINTER, shape: Any = (1,), kind: Any = np.ndarray) -> Reduced:
    return Reduced(CORE.multiarray._reconstruct, (kind, (0,), b"b"), (1, shape, of, False, raw))


_FLAGGED = dtype("f8", _state(flags=63))
_OBJECTS = dtype([("a", "O")], (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))  # said to hold no objects

NUMPY_TRICKS: dict[str, Any] = {
    "flags of a number": scalar(_FLAGGED),
    "flags of an array": array(_FLAGGED),
    "flag of objects": array(dtype("f8", _state(flags=1))),
    "fields that are no dict": scalar(dtype("b1", (3, ">", None, ("a",), 5, 1 << 20, -1, 0)), b"A"),
    "fields of a short state": Reduced(np.dtype, ("b1", True, True), (3, ">", None, ("a",), 5, 1 << 20)),
    "subarray": scalar(dtype("i4", _state(subarray=(dtype("f8"), (1 << 20,))))),
    "object number from bytes": scalar(dtype("O8")),
    "object array from bytes": array(dtype("O8")),
    "object array from a list": array(dtype("O8"), [1]),
    "structure of objects without their flag": scalar(_OBJECTS),
    "array of such structures": array(_OBJECTS),
    "dtype of objects": np.dtype("O"),
    "text": scalar(dtype("U2")),
    "dates": scalar(dtype("M8[ns]")),
    "wrong byte order": scalar(dtype("f8", _state(order="?"))),
    "short state": scalar(dtype("f8", (3, "<"))),
    "array of another type": array(dtype("f8"), kind=np.dtype),
    "array of a number's type": array(dtype("f8"), kind=np.float64),
    "too few bytes": array(dtype("f8"), shape=(1 << 40,)),
    "negative shape": array(dtype("f8"), shape=(-1, -1)),
    "shape that is no tuple": array(dtype("f8"), shape=[1]),
    "number of too many bytes": scalar(dtype("f8"), _POINTER * 2),
    "number of a list": scalar(dtype("f8"), [1]),
    "uninitialised memory": Reduced(np.ndarray, ((1000,),)),
    "memory by strides": Reduced(np.ndarray, ((2,), "f8", bytearray(16), 0, (1 << 40,))),
}


def _rebuilt(tensor: torch.Tensor, hooks: Any) -> tuple[Any, ...]:
    return tensor.contiguous().storage(), 0, tuple(tensor.shape), tensor.stride(), True, hooks


def hooked(tensor: torch.Tensor, hooks: Any) -> Reduced:
    """A tensor with backward hooks of the file's choice."""
    return Reduced(_rebuild_tensor_v2, _rebuilt(tensor, hooks))


def with_attributes(tensor: torch.Tensor, **attributes: Any) -> Reduced:
    """A tensor whose attributes hide its methods."""
    call = (_rebuild_tensor_v2, torch.Tensor, _rebuilt(tensor, OrderedDict()), attributes)
    return Reduced(_rebuild_from_type_v2, call)


def wrapper() -> Reduced:
    """A tensor without any storage."""
    size = (torch.Tensor, torch.float32, (2, 3), (3, 1), 0, torch.strided, torch.device("cpu"), False)
    return Reduced(_rebuild_wrapper_subclass, size)


TENSOR_TRICKS: dict[str, Any] = {
    "meta": lambda: torch.empty(2, 3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8),
    "complex": lambda: torch.ones(2, 3, dtype=torch.complex64),
    "without storage": wrapper,
    "strides of 0": lambda: torch.ones(1).expand(1 << 12, 1 << 16),
}
HARMLESS_TENSORS: dict[str, Any] = {
    "hooks": lambda tensor: hooked(tensor, OrderedDict({0: "hook"})),
    "hooks that are words": lambda tensor: hooked(tensor, "hook"),
    "attributes for methods": lambda tensor: with_attributes(tensor, detach=5, clone="x", cpu=None, numel=3, size=7),
}


def deep_header(depth: int = 100_000) -> bytes:
    """safetensors with a header of lists in lists."""
    header = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    return struct.pack("<Q", len(header)) + header


def two_entries() -> bytes:
    """safetensors with two tensors of one name."""
    entry = json.dumps({"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})
    header = f'{{"a":{entry},"a":{entry}}}'.encode()
    return struct.pack("<Q", len(header)) + header + b"x"


def saved(found: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()
