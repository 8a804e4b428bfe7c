"""The tensors of a file, checked for use: with their own data, and without hooks or attributes that the file set."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sdi_plugin.checkpoint.errors import CheckpointError

# Several names may share memory: in nnU-Net's networks four do.
EXPANSION = 8  # the most bytes of tensors per byte of the file

_DTYPES = {
    getattr(torch, name)
    for name in (
        *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"),
    )
    if hasattr(torch, name)
}


def usable(state: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """The tensors without the hooks, attributes and gradients that a file gave them.

    Args:
        size: size of the file in bytes.

    Raises:
        CheckpointError: tensors without data (meta), sparse, nested, quantized, complex or packed tensors, or tensors
            that, through strides of 0 or shared memory, expand to many times the size of the file.
    """
    found = {key: _usable(key, value) for key, value in state.items()}
    needed = {key: value.numel() * value.element_size() for key, value in found.items()}
    if sum(needed.values()) > EXPANSION * size:
        largest = max(needed, key=needed.__getitem__)
        raise CheckpointError(
            f"expected at most {EXPANSION} bytes of tensors per byte of the file, got {sum(needed.values())} for "
            f"{size}: {largest} has shape {tuple(found[largest].shape)} and strides {found[largest].stride()}. "
            "Save each tensor with .contiguous()."
        )
    return found


def _usable(name: str, value: Tensor) -> Tensor:
    # Only properties of the C type and unbound methods: an attribute that the file gave a tensor may hide its methods.
    kind = (
        "a nested tensor"
        if value.is_nested
        else f"{value.layout}"
        if value.layout != torch.strided
        else f"one on the device {value.device}, without data"
        if value.device.type != "cpu"
        else f"{value.dtype}"
        if value.dtype not in _DTYPES
        else ""
    )
    plain = None if kind else Tensor.detach(value)
    if plain is None or (plain.numel() and not plain.data_ptr()):
        raise CheckpointError(
            f"expected dense tensors of numbers with their data, got {kind or 'one without data'} for {name}. "
            "Save the state_dict() of a network on the CPU."
        )
    return plain.resolve_conj().resolve_neg()
