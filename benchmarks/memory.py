"""The bytes that autograd keeps for backward, and the peak memory of a call."""

import ctypes
import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch


def saved_bytes(function: Callable[[], Any], without: Iterable[torch.Tensor] = ()) -> tuple[Any, int]:
    """The function's result, and the bytes of the storages that its graph saves, each counted once.

    The tensors in `without` are not counted: parameters, which are allocated in any case.
    """
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    for tensor in without:
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    return result, sum(sizes.values())


def peak_extra_bytes(function: Callable[[], Any], device: str = "cpu") -> int:
    """The peak memory of a call beyond what was allocated before it: by torch, its libraries and our kernel.

    On CPUs this is the process's resident memory, whose high-water mark can be reset on Linux. The allocator must
    return freed memory immediately (`benchmarks.environment.run_module` sets it up). Raises OSError if the system is
    not Linux.
    """
    function()  # warm up: what libraries allocate only once is not counted
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = function()
    peak = _status("VmHWM")
    del result
    return peak - before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
