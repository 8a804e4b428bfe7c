"""Python's time of a call of the GPU kernels, with every launch replaced by nothing.

    python -m benchmarks.gpu_host

No GPU is needed: tensors are on the CPU, and only their addresses are taken. Processor time of one thread; the least of
many calls, in turn with those of the floor: an autograd.Function with as many inputs and results, that saves its inputs
and returns new gradients without data. What is above the floor is ours.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu import contenders
from benchmarks.gpu.device import DryDevice
from benchmarks.sdi.cases import Case
from sdi_plugin.ops import dispatch, gpu, library
from sdi_plugin.ops.gpu import launch

CASES = ("2d-stage-352-b1", "3d-stage-64-l5", "2d-attention-352-b1")
_CALLS = 3000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def microseconds(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """The least time of each."""
    least = [float("inf")] * len(calls)
    for _ in range(_CALLS):
        for i, call in enumerate(calls):
            begin = time.process_time_ns()
            call()
            least[i] = min(least[i], (time.process_time_ns() - begin) / 1e3)
    return least


def keep_freed_memory() -> None:
    """As torch does on a GPU. malloc would return large tensors to the system, and get them anew, for every call."""
    malloc = ctypes.CDLL(None)
    for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        malloc.mallopt(option, (1 << 31) - 1 if option == _M_TRIM_THRESHOLD else 1 << 30)


def _zero(device: torch.device) -> int:
    return 0


def _gpu(*tensors: Any) -> Any:
    return gpu


def _run(*launched: Any) -> Callable[[Any, int], None]:
    return lambda pointers, stream: None


def _floor(results: Sequence[Tensor]) -> type[torch.autograd.Function]:
    class Floor(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Tensor) -> Any:
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(*tensors)
            return tuple([torch.empty_like(result) for result in results])

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return tuple([torch.empty_like(t) for t in ctx.saved_tensors])

    return Floor


def measure(name: str) -> list[float]:
    """Microseconds without gradients; of a forward, then of forward and backward, each of the floor and ours."""
    case, device = Case.parse(name), DryDevice()
    inputs = contenders.inputs_of(case, "bf16", contenders.OURS, device)
    stage = contenders.stage_of(case, contenders.OURS, device)
    leaves, results = [*inputs.xs, *(t for group in inputs.parameters for t in group)], inputs.grads
    floor: Any = _floor(results)

    def forward() -> Any:
        return stage(inputs.xs, *inputs.parameters)

    def alone() -> Any:
        with torch.no_grad():
            return forward()

    def backward(outs: Any) -> Any:
        return torch.autograd.grad(outs, leaves, results)

    with (
        mock.patch.object(launch, "run", new=_run),
        mock.patch.object(launch, "stream", new=_zero),
        mock.patch.object(library, "_serving", new=_gpu),
        mock.patch.object(dispatch, "backend_of", new=_gpu),
        mock.patch.object(gpu, "serves", return_value=True),
    ):
        return microseconds(
            [
                alone,
                lambda: floor.apply(*leaves),
                forward,
                lambda: backward(floor.apply(*leaves)),
                lambda: backward(forward()),
            ]
        )


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print("| stage | without gradients, us | forward: floor | ours | forward + backward: floor | ours |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in CASES:
        print("| {} | {:.0f} | {:.0f} | {:.0f} | {:.0f} | {:.0f} |".format(name, *measure(name)))


if __name__ == "__main__":
    main()
