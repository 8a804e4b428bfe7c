"""Time contenders in turn, round by round, in one process."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

_SAMPLE_MS = 20.0  # a sample is the mean over as many calls as fill this time


STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_Milliseconds = Annotated[float, Field(gt=0)]
_Key = TypeVar("_Key")


@dataclass(frozen=True, config=STRICT)
class Timing:
    """The quartiles of the samples of one contender, in milliseconds per call."""

    median: _Milliseconds
    q25: _Milliseconds
    q75: _Milliseconds

    @model_validator(mode="after")
    def _in_order(self) -> "Timing":
        if not self.q25 <= self.median <= self.q75:
            raise ValueError(f"Timing: expected q25 <= median <= q75, got {self}.")
        return self

    @classmethod
    def of(cls, samples: list[float]) -> "Timing":
        q25, median, q75 = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, q25, q75)


def interleave(
    functions: Mapping[_Key, Callable[[], Any]], *, rounds: int, seconds: float, device: str = "cpu"
) -> tuple[dict[_Key, Timing], int]:
    """Time every function once per round, in turn; the order is reversed in every other round.

    Args:
        rounds: at least this many; further rounds follow until `seconds` have passed.

    Returns:
        The timings by key, and the number of rounds.
    """
    take = _cuda_sample if device == "cuda" else _cpu_sample
    calls = {name: _calls(function, device) for name, function in functions.items()}
    samples: dict[_Key, list[float]] = {name: [] for name in functions}
    order, done, start = list(functions), 0, time.perf_counter()
    # Otherwise the garbage collector would run during a random contender.
    gc.collect()
    gc.disable()
    try:
        while done < rounds or time.perf_counter() - start < seconds:
            for name in order:
                samples[name].append(take(functions[name], calls[name]))
            order.reverse()
            done += 1
    finally:
        gc.enable()
    return {name: Timing.of(taken) for name, taken in samples.items()}, done


def _calls(function: Callable[[], Any], device: str) -> int:
    """How many calls make up a sample. The first call warms up, and compiles."""
    function()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return max(1, math.ceil(_SAMPLE_MS / 1e3 / (time.perf_counter() - start)))


def _cpu_sample(function: Callable[[], Any], calls: int) -> float:
    if calls > 1:
        function()  # warm the caches again after the previous contender
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls * 1e3


def _cuda_sample(function: Callable[[], Any], calls: int) -> float:
    from triton.testing import do_bench  # events on the GPU, its L2 cache flushed before each call

    milliseconds: Any = do_bench(function, warmup=5, rep=int(_SAMPLE_MS), return_mode="median")
    return float(milliseconds)


def cuda_graph(function: Callable[[], Any]) -> Callable[[], None]:
    """Record the function's kernels once; a replay needs no launches from Python."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # capturing needs warm libraries and its own stream
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = function()

    def replay() -> None:
        graph.replay()

    replay.outputs = kept  # pyright: ignore[reportFunctionMemberAccess]  the graph writes to their memory
    return replay
