"""Record every launch of eager torch, on tensors without data: no GPU is needed."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# Operators that move no data, beside views.
_FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view", "view_as")


class Launch(NamedTuple):
    name: str
    bytes: int  # each input read once, each output written once
    flops: int  # of convolutions and matrix products; elsewhere one per element of the result


class _Recorder(TorchDispatchMode):
    def __init__(self, launches: list[Launch]) -> None:
        super().__init__()
        self.launches = launches

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__.startswith("convolution"):
            # cuDNN's results have the layout of its arguments; without data they do not.
            out = tree_map_only(Tensor, channels_last, out)
        self.launches += of_operator(func, args, out)
        return out


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """The list to which the launches of torch are added."""
    launches: list[Launch] = []
    with _Recorder(launches):
        yield launches


def of_operator(func: Any, args: Any, out: Any) -> list[Launch]:
    """The launches of one call of an operator."""
    name = func.overloadpacket.__name__
    inputs, outputs = _tensors(args), _tensors(out)
    is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
    if is_view or name in _FREE or not (inputs or outputs):
        return []
    moved = _size(inputs) + (0 if name.endswith("_") else _size(outputs))
    if name == "_foreach_copy_":  # a single launch only if layouts and dtypes agree: count all of them
        return [Launch("copy_", _size([x, y]), x.numel()) for x, y in zip(*args, strict=True)]
    if name == "convolution":
        x, weight, bias = args[:3]
        flops = 2 * out.numel() * math.prod(weight.shape[1:])
        # Torch adds the bias to cuDNN's result.
        added = [Launch("bias", 2 * _size([out]), out.numel())] if bias is not None else []
        return [Launch(name, _size([x, weight, out]), flops), *added]
    if name == "convolution_backward":
        grad, x, weight = args[:3]
        product = _size([grad, weight, x]), 2 * grad.numel() * math.prod(weight.shape[1:])
        parts = Launch("dgrad", *product), Launch("wgrad", *product), Launch("bias", _size([grad]), grad.numel())
        return [part for part, is_needed in zip(parts, args[-1], strict=True) if is_needed]
    if name in ("mm", "addmm"):
        left, right = args[-2:]
        return [Launch(name, moved, 2 * left.shape[0] * left.shape[1] * right.shape[1])]
    return [Launch(name, moved, sum(t.numel() for t in outputs))]


def channels_last(x: Tensor) -> Tensor:
    if x.ndim < 4:
        return x
    return torch.empty_like(x, memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[x.ndim])


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
