"""What this machine is and what its GPU can do: the ceilings that times are compared with."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch

from benchmarks import environment
from benchmarks.gpu.device import Device, median_seconds
from benchmarks.gpu.items import Item
from sdi_plugin import ops

_NODES = 1000


def items(device: Device) -> dict[str, Item]:
    return {
        "machine": lambda: _machine(device),
        "copy": lambda: _copy(device),
        "matmul-bf16": lambda: _matmul(device, torch.bfloat16),
        "matmul-tf32": lambda: _matmul(device, torch.float32),
        "launches": lambda: _launches(device),
    }


def _machine(device: Device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        **{package: _version(package) for package in ("triton", "numpy", "timm")},
        "cores": environment.cores(),
        "gcc": shutil.which("gcc") is not None,
        "backends": ops.backends(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "gpus": torch.cuda.device_count(),
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "cache_bytes": device.cache,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _copy(device: Device) -> dict[str, Any]:
    """Bytes read and written by a copy of 1 GiB."""
    source = torch.randn(1 << (10 if device.dry else 28), device=device.type)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds, _ = median_seconds(device, lambda: target.copy_(source))
    return {"gb_per_s": round(2 * source.nbytes / seconds / 1e9, 1)}


def _matmul(device: Device, dtype: torch.dtype) -> dict[str, Any]:
    torch.backends.cuda.matmul.allow_tf32 = True
    side = 64 if device.dry else 8192
    a, b = (torch.randn(side, side, device=device.type, dtype=dtype) for _ in range(2))
    for _ in range(3):
        torch.mm(a, b)
    seconds, _ = median_seconds(device, lambda: torch.mm(a, b))
    return {"tflop_per_s": round(2 * side**3 / seconds / 1e12, 1)}


def _launches(device: Device) -> dict[str, Any]:
    """Microseconds per kernel of one element: as Python launches it, and as a node of a graph."""
    nodes = 10 if device.dry else _NODES
    x = torch.zeros(1, device=device.type)
    found: dict[str, Any] = {}
    for name, launch in {"torch": lambda: x.add_(1), **_triton_launch(x)}.items():

        def many(launch: Callable[[], Any] = launch) -> None:
            for _ in range(nodes):
                launch()

        many()
        device.synchronize()
        begin = time.perf_counter()
        many()
        device.synchronize()
        found[f"{name}_launch_us"] = round(1e6 * (time.perf_counter() - begin) / nodes, 2)
        seconds, _ = median_seconds(device, device.graph(many))
        found[f"{name}_node_us"] = round(1e6 * seconds / nodes, 2)
    return found


def _triton_launch(x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    if _version("triton") is None or (x.device.type == "cpu" and not os.environ.get("TRITON_INTERPRET")):
        return {}
    from benchmarks.gpu.empty_kernel import add_one

    return {"triton": lambda: add_one[(1,)](x)}
