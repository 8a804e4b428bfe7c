"""The three times of a call: on the device without Python, as called, and Python's own."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.gpu.device import Device, median_seconds


def times(device: Device, calls: Sequence[Callable[[], Any]]) -> dict[str, Any]:
    """Microseconds per call, where `calls` are the same work on different inputs.

    wall_us: called one after the other, until the device is done. host_us: of one call on an idle device, until it
    returns. graph_us: all calls in one CUDA graph, the median of its replays divided by their number; left out, with a
    graph_error, where they cannot be captured.
    """
    calls[0]()  # compiles
    device.synchronize()
    rounds = 1 if device.dry else 15
    found: dict[str, Any] = {"sets": len(calls), "wall_us": _us(statistics.median(_walls(device, calls, rounds)))}
    found["host_us"] = _us(statistics.median(_host(device, calls[i % len(calls)]) for i in range(2 * rounds)))

    def all_calls() -> None:
        for call in calls:
            call()

    try:
        replay = device.graph(all_calls)
    except RuntimeError as error:
        return {**found, "graph_error": str(error)[:500]}
    seconds, found["replays"] = median_seconds(device, replay)
    return {**found, "graph_us": _us(seconds / len(calls))}


def _walls(device: Device, calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    found = []
    for _ in range(3):
        device.synchronize()
        begin = time.perf_counter()
        for i in range(rounds):
            calls[i % len(calls)]()
        device.synchronize()
        found.append((time.perf_counter() - begin) / rounds)
    return found


def _host(device: Device, call: Callable[[], Any]) -> float:
    device.synchronize()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _us(seconds: float) -> float:
    return round(1e6 * seconds, 2)
