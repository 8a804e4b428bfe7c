"""The machine's peak rates, measured in the same run: no kernel is faster than its products and its memory traffic."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.sdi.cases import Case

_PRODUCT = 1024  # rows and columns of the matrices
_STREAMED = 2**27  # bytes of each of the three arrays, larger than any cache
_CACHED = 2**20  # bytes, like the finest map of a 2-D stage


def measure(device: str = "cpu") -> dict[str, float]:
    """Rates at the current number of threads.

    Returns:
        sgemm_gflops: torch.mm in float32; stream_gbs: reading two arrays and writing one, in main memory; cache_gbs:
        the same with arrays of 1 MiB.
    """
    a, b = torch.randn(2, _PRODUCT, _PRODUCT, device=device)
    out = torch.empty_like(a)
    product = _seconds(lambda: torch.mm(a, b, out=out), device)
    return {
        "sgemm_gflops": 2 * _PRODUCT**3 / product / 1e9,
        "stream_gbs": _triad(_STREAMED, device),
        "cache_gbs": _triad(_CACHED, device),
    }


def compute_ms(case: Case, mode: str, sgemm_gflops: float) -> float | None:
    """The time of the unavoidable channel mixings at the sgemm rate; backward adds two each. See `product_flops`."""
    flops = case.product_flops()
    if flops is None:
        return None
    return flops * (1 if mode == "forward" else 3) / sgemm_gflops / 1e6


def _triad(size: int, device: str) -> float:
    a, b, out = torch.ones(3, size // 4, device=device)
    return 3 * size / _seconds(lambda: torch.add(a, b, out=out), device) / 1e9


def _seconds(function: Callable[[], Any], device: str) -> float:
    """The median time of calls over 0.3 seconds."""
    taken, start = [], time.perf_counter()
    function()
    while time.perf_counter() - start < 0.3 or len(taken) < 3:
        begin = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
