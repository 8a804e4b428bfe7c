"""Python's time of a call of the GPU kernels, with every launch replaced by nothing.

    python -m benchmarks.gpu_host

No GPU is needed: tensors are on the CPU, and only their addresses are taken. Processor time of one thread; the median
of rounds.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch

from benchmarks.sdi.cases import Case
from sdi_plugin import ops
from sdi_plugin.ops import gpu, library
from sdi_plugin.ops.gpu import launch

CASES = ("2d-stage-352-b1", "3d-stage-64-l5")
_ROUNDS, _CALLS = 11, 50


def microseconds(call: Callable[[], Any]) -> float:
    for _ in range(_CALLS):
        call()
    rounds = []
    for _ in range(_ROUNDS):
        begin = time.process_time()
        for _ in range(_CALLS):
            call()
        rounds.append(1e6 * (time.process_time() - begin) / _CALLS)
    return statistics.median(rounds)


def _zero() -> int:
    return 0


def _gpu(*tensors: Any) -> Any:
    return gpu


def measure(name: str) -> tuple[float, float]:
    """Microseconds of a forward, and of forward and backward."""
    case = Case.parse(name)
    layout = torch.channels_last if case.dim == 2 else torch.channels_last_3d
    xs, weights, biases = case.inputs(torch.bfloat16, "cpu")
    xs = [x.detach().to(memory_format=layout).requires_grad_() for x in xs]
    leaves = [*xs, *weights, *biases]
    grads = [torch.empty_like(xs[target]) for target in case.targets]

    def forward() -> Any:
        return ops.resize_smooth_multiply_stage(xs, weights, biases, case.targets)

    with (
        mock.patch.object(launch, "_prepare", return_value=lambda pointers: None),
        mock.patch.object(torch.cuda, "current_device", new=_zero),
        mock.patch.object(library, "_serving", new=_gpu),
        mock.patch.object(library, "backend_of", new=_gpu),
    ):
        with torch.no_grad():
            alone = microseconds(forward)
        return alone, microseconds(lambda: torch.autograd.grad(forward(), leaves, grads))


def main() -> None:
    torch.set_num_threads(1)
    print("| stage | forward, us | forward + backward, us |\n|---|--:|--:|")
    for name in CASES:
        print("| {} | {:.0f} | {:.0f} |".format(name, *measure(name)))


if __name__ == "__main__":
    main()
