"""Record every launch of torch and of our Triton kernels on tensors without data: no GPU is needed."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from sdi_plugin.ops import gpu
from sdi_plugin.ops.gpu import launch as host


class Launch(NamedTuple):
    name: str
    bytes: float  # each input read once, each output written once
    flops: float = 0
    unit: str = "float32"  # a field of `gpu_model.Gpu`
    cached: float = 0  # bytes that the first cache delivers


class Recorder(TorchDispatchMode):
    """Records every torch operation that moves data as a launch."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.startswith("convolution"):  # cuDNN's results have the layout of its arguments; without data they do not
            out = tree_map_only(Tensor, channels_last, out)
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if is_view or name in (
            "empty",
            "empty_like",
            "new_empty",
            "new_empty_strided",
            "detach",
            "_unsafe_view",
            "view_as",
        ):
            return out
        inputs, outputs = _tensors(args), _tensors(out)
        if not inputs and not outputs:
            return out
        moved = _size(inputs) + (0 if name.endswith("_") else _size(outputs))
        if name == "_foreach_copy_":  # a single launch only if layouts and dtypes agree: count all of them
            self.launches += [Launch("copy_", _size([x, y])) for x, y in zip(*args, strict=True)]
        elif name == "convolution":
            flops = 2 * out.numel() * math.prod(args[1].shape[1:])
            self.launches.append(Launch(name, moved, flops, _unit(out, "convolution")))
            if args[2] is not None:  # torch adds the bias to cuDNN's result
                self.launches.append(Launch("bias", 2 * _size([out])))
        elif name == "convolution_backward":
            grad, x, weight = args[:3]
            flops = 2 * grad.numel() * math.prod(weight.shape[1:])
            unit = _unit(grad, "convolution")
            self.launches.append(Launch("dgrad", _size([grad, weight, x]), flops, unit))
            self.launches.append(Launch("wgrad", _size([grad, weight, x]), flops, unit))
            if args[-1][2]:
                self.launches.append(Launch("bias", _size([grad])))
        elif name in ("mm", "addmm"):
            left, right = args[-2:]
            flops = 2 * left.shape[0] * left.shape[1] * right.shape[1]
            self.launches.append(Launch(name, moved, flops, _unit(left, "float32")))
        else:
            self.launches.append(Launch(name, moved, out.numel() if isinstance(out, Tensor) else 0))
        return out


def channels_last(x: Tensor) -> Tensor:
    if x.ndim < 4:
        return x
    return torch.empty_like(x, memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[x.ndim])


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _unit(x: Tensor, single: str) -> str:
    return "half" if x.element_size() == 2 else single


def _multiply(record: list[Launch]) -> Callable[..., Any]:
    def launch(
        out: Tensor, dense: Sequence[Tensor], taps: Any, biases: Tensor, slab: Any, bound: float, grads: int = 0
    ) -> Any:
        part = (slab.end - slab.begin) / slab.depth
        outputs = part * out.numel()
        rows, _, _ = host.tile(out.shape[-1], out.shape[-2], torch.device("cuda"))
        flops, cached = outputs * len(dense), 0.0
        for t in taps:
            # Each row tap of a tile reads the rows between its first and its last source: six loads per element.
            lines = 3 * (rows * t.products.shape[1] / t.size[0] + 1.5) / rows
            flops += outputs * 2 * lines * (6 + rows)
            cached += outputs * lines * 6 * t.products.element_size()
        maps = part * (_size(dense) * (1 + grads) + _size([out])) + _size([t.products for t in taps])
        maps += grads * len(taps) * outputs * out.element_size()
        record.append(Launch("multiply", maps, flops, cached=cached))
        return None

    return launch


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Record the launches of torch and of our kernels."""
    recorder = Recorder()
    record = recorder.launches
    multiply = _multiply(record)

    def backward(grad: Tensor, dense: Any, taps: Any, biases: Tensor, dense_grads: Any, slab: Any, bound: float) -> Any:
        multiply(grad, dense, taps, biases, slab, bound, grads=1)
        images = grad.shape[0] * (slab.end - slab.begin)
        return [grad.new_empty(images, *grad.shape[-3:]) for _ in taps], torch.zeros_like(biases)

    def resample(jobs: Any, channels: int, *, taps: int = 1, sum_taps: bool = False, accumulate: bool = False) -> None:
        for first in range(0, len(jobs), host.JOBS):
            part = jobs[first : first + host.JOBS]
            moved = sum(_size([x, out]) + (_size([out]) if accumulate else 0) for x, out, _ in part)
            record.append(Launch("resample", moved, sum(out.numel() for _, out, _ in part)))

    replaced = {"multiply": multiply, "multiply_backward": backward, "resample": resample}
    quiet = mock.patch.object(gpu, "_quiet", nullcontext)
    with mock.patch.multiple(host, **replaced), quiet, recorder:
        yield record
