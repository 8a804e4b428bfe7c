"""The peak memory of every contender, and the kernels that a call launches."""

from collections import Counter, defaultdict
from typing import Any

from benchmarks.gpu import contenders, speed
from benchmarks.gpu.contenders import COMPILE, MODES, PRECISIONS
from benchmarks.gpu.device import Device
from benchmarks.gpu.items import Item
from benchmarks.sdi.cases import Case

_CASES = ("2d-stage-352-b16", "3d-stage-64-l5", "2d-attention-352-b16")
_LISTED = 12  # kernels by time


def items(device: Device) -> dict[str, Item]:
    names = speed.DRY_CASES if device.dry else _CASES
    found: dict[str, Item] = {}
    for name in names:
        for precision in PRECISIONS:
            for contender in _eager(name):
                key = f"peak/{name}/{precision}/{contender}"
                found[key] = lambda a=(name, precision, contender): _peaks(device, *a)
    profiled = [(name, precision) for name in names for precision in PRECISIONS]
    for name, precision in profiled:
        for contender in _eager(name):
            key = f"kernels/{name}/{precision}/{contender}"
            found[key] = lambda a=(name, precision, contender): _kernels(device, *a)
    for name, precision in profiled:
        key = f"kernels/{name}/{precision}/{COMPILE}"
        found[key] = lambda a=(name, precision, COMPILE): _kernels(device, *a)
    return found


def _eager(name: str) -> list[str]:
    """The contenders that need no compilation."""
    return [contender for contender in contenders.of(Case.parse(name)) if contender != COMPILE]


def _peaks(device: Device, name: str, precision: str, contender: str) -> dict[str, Any]:
    """Bytes beyond the inputs, with the results held."""
    found = {}
    for mode in MODES:
        (call,) = contenders.calls(Case.parse(name), precision, contender, mode, device, sets=1)
        found[f"{mode}_bytes"] = device.peak_bytes(call)
    return found


def _kernels(device: Device, name: str, precision: str, contender: str) -> dict[str, Any]:
    """For each mode: how many kernels, copies and fills, their time without gaps, and those that take most of it."""
    found: dict[str, Any] = {}
    for mode in MODES:
        (call,) = contenders.calls(Case.parse(name), precision, contender, mode, device, sets=1)
        call()
        device.synchronize()
        kernels = device.kernels(call)
        times: defaultdict[str, float] = defaultdict(float)
        for kernel, microseconds in kernels:
            times[kernel[:100]] += microseconds
        counts = Counter(kernel[:100] for kernel, _ in kernels)
        longest = sorted(times, key=lambda kernel: -times[kernel])
        found[mode] = {
            "launches": len(kernels),
            "us": round(sum(times.values()), 1),
            "top": [[kernel, counts[kernel], round(times[kernel], 1)] for kernel in longest[:_LISTED]],
        }
    return found
