"""What the measurements need of a device: the GPU's, and a stand-in of the same form without a GPU.

Everything that needs CUDA is in `CudaDevice`; the phases know only this interface, so that `--dry` runs their code.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from benchmarks.memory import peak_extra_bytes

Call = Callable[[], Any]


class Device(Protocol):
    """A device to measure on.

    Attributes:
        type: that of torch.device.
        dry: sizes are tiny, and figures mean nothing.
        cache: bytes of the last cache.
    """

    type: str
    dry: bool
    cache: int

    def synchronize(self) -> None: ...

    def graph(self, function: Call) -> Call:
        """The function's kernels, captured after a warm-up on the capturing stream; a call replays them."""
        ...

    def seconds(self, function: Call) -> float:
        """The time of one call on the device."""
        ...

    def peak_bytes(self, function: Call) -> int:
        """The most memory of one call, beyond what is allocated before it."""
        ...

    def kernels(self, function: Call) -> list[tuple[str, float]]:
        """The name and the microseconds of every kernel, copy and fill of one call."""
        ...

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """torch.compile in its default mode, for static shapes."""
        ...


class CudaDevice:
    type, dry = "cuda", False

    def __init__(self) -> None:
        self.cache: int = torch.cuda.get_device_properties(0).L2_cache_size

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def graph(self, function: Call) -> Call:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()
            function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            function()
        return graph.replay

    def seconds(self, function: Call) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def peak_bytes(self, function: Call) -> int:
        return peak_extra_bytes(function, "cuda")

    def kernels(self, function: Call) -> list[tuple[str, float]]:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            function()
            torch.cuda.synchronize()
        return [
            (event.name, event.time_range.elapsed_us())
            for event in profiler.events() or ()
            if event.device_type.name == "CUDA" and not event.is_user_annotation
        ]

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        torch.compiler.reset()  # torch keeps only a few compiled forms of one function
        return torch.compile(function, dynamic=False)


class DryDevice:
    type, dry, cache = "cpu", True, 1 << 14

    def synchronize(self) -> None:
        pass

    def graph(self, function: Call) -> Call:
        function()
        return function

    def seconds(self, function: Call) -> float:
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    def peak_bytes(self, function: Call) -> int:
        function()
        return 1

    def kernels(self, function: Call) -> list[tuple[str, float]]:
        return [("dry", 1e6 * self.seconds(function))]

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        torch.compiler.reset()
        return torch.compile(function, dynamic=False, backend="eager")


def median_seconds(device: Device, function: Call, budget: float = 0.15) -> tuple[float, int]:
    """The median time of a call on the device, and of how many calls: 5 to 200, about `budget` seconds of them."""
    if device.dry:
        return device.seconds(function), 1
    once = device.seconds(function)
    calls = min(200, max(5, int(budget / max(once, 1e-6))))
    return statistics.median(device.seconds(function) for _ in range(calls)), calls
