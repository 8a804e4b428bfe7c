"""Launches in a row, prepared once: later calls of the same plan only compute addresses."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import itemgetter, or_
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdi_plugin.ops.gpu import INTERPRETED, launch
from sdi_plugin.ops.gpu.chunk import Launch

_ALIGNED = 256  # bytes, in which the parts of a workspace begin
_VECTOR = 16  # bytes: Triton compiles a kernel for which of its pointers are multiples of this


class Part(NamedTuple):
    """Of a workspace: its first byte, and what it holds."""

    first: int
    elements: int
    dtype: torch.dtype

    def of(self, workspace: Tensor) -> Tensor:
        return workspace[self.first : self.first + self.elements * self.dtype.itemsize].view(self.dtype)


class Workspace:
    """One allocation for all intermediate results of a call."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.bytes = 0

    def add(self, elements: int, dtype: torch.dtype) -> int:
        """Append a part; return its index."""
        self.parts.append(Part(self.bytes, elements, dtype))
        self.bytes += -(-elements * dtype.itemsize // _ALIGNED) * _ALIGNED
        return len(self.parts) - 1

    def add_rest(self, index: int, first: int) -> int:
        """Append what is left of another part from an element on, in the same memory."""
        part = self.parts[index]
        self.parts.append(Part(part.first + first * part.dtype.itemsize, part.elements - first, part.dtype))
        return len(self.parts) - 1

    def allocate(self, device: torch.device) -> Tensor:
        return torch.empty(self.bytes, dtype=torch.uint8, device=device)


class Step(NamedTuple):
    """A launch, and how each of its operands is found in the list of a call's tensors or addresses."""

    launch: Launch
    operands: tuple[Callable[[Sequence[Any]], Any], ...]


def step(launch: Launch, *operands: int | Iterable[int]) -> Step:
    """operands: the index of each, or the indices of several that are passed as a tuple."""
    return Step(launch, tuple([itemgetter(o) if isinstance(o, int) else _several(tuple(o)) for o in operands]))


def _several(indices: tuple[int, ...]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if len(indices) == 1:
        (only,) = indices
        return lambda memory: (memory[only],)
    return itemgetter(*indices) if indices else lambda memory: ()


class Program:
    """Steps that read and write the tensors of a call, then the parts of its workspaces, in this order."""

    def __init__(self, steps: Sequence[Step], accumulator: torch.dtype, device: torch.device) -> None:
        self.steps = steps
        self.accumulator = accumulator
        self.device = device
        self.prepared: dict[Any, list[tuple[Callable[[list[Any], int], None], Any]]] = {}

    def run(self, tensors: Sequence[Tensor], *workspaces: tuple[Workspace, Tensor], key: Any = None) -> None:
        """Run the steps on the current stream of the device.

        All but the addresses is equal in calls with one `key`, except which of them are aligned.
        """
        with launch.on(self.device):
            memory = [t.data_ptr() for t in tensors]
            for workspace, buffer in workspaces:
                base = buffer.data_ptr()
                memory += [base + part.first for part in workspace.parts]
            found = key, _alignment(memory)
            prepared = self.prepared.get(found)
            if prepared is None:
                self._prepare(found, [*tensors, *(p.of(buffer) for w, buffer in workspaces for p in w.parts)])
                return
            stream = launch.stream(self.device)
            for start, operands in prepared:
                start([find(memory) for find in operands], stream)

    def _prepare(self, key: Any, memory: Sequence[Tensor]) -> None:
        made = []
        for step in self.steps:
            start = launch.run(step.launch, self.accumulator, *[find(memory) for find in step.operands])
            made.append((start, step.operands))
        if not INTERPRETED:
            self.prepared[key] = made


def _alignment(pointers: Sequence[int]) -> int | tuple[bool, ...]:
    """0 if all are multiples of 16, otherwise which of them are."""
    if not reduce(or_, pointers) % _VECTOR:
        return 0
    return tuple([pointer % _VECTOR == 0 for pointer in pointers])
