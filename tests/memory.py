"""What autograd keeps for backward."""

from collections.abc import Callable
from typing import Any

import torch


def saved_bytes(function: Callable[[], Any]) -> tuple[Any, int]:
    """function's result, and the bytes of the storages that its graph saves, each counted once."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    return result, sum(sizes.values())
