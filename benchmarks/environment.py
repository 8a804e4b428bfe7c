"""The process and the machine: settings that are the same for every contender, and what a result must record."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# By default glibc returns large tensors to the system and faults them in again; with these settings it keeps them.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}
_RECORDED = (*ALLOCATOR, "OMP_NUM_THREADS", "OMP_DYNAMIC", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "SDI_PLUGIN_REFERENCE")
_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "sve")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def restart_with_settings() -> None:
    """Unless they are set, set what is read only when a process starts, and run this command again."""
    settings = {**ALLOCATOR, "OMP_NUM_THREADS": str(cores()), "OMP_DYNAMIC": "false"}
    missing = {name: value for name, value in settings.items() if name not in os.environ}
    if missing:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})


def run_module(module: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """The JSON that `python -m MODULE ARGUMENTS` prints, in a process whose allocator returns memory immediately."""
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    environment |= {"MALLOC_MMAP_THRESHOLD_": str(2**16), **variables}
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


def settings() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in _RECORDED}


def machine() -> dict[str, Any]:
    """The processor, and how busy it was with other work before the measurement."""
    import torch

    cpu = _cpu()
    known = set(cpu.get("flags", cpu.get("Features", "")).split())
    model = cpu.get("model name") or platform.processor() or platform.machine()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "name": machine_name(gpus[0] if gpus else model, cores()),
        "cpu": model,
        "cores": cores(),
        "flags": [flag for flag in _FLAGS if flag in known],
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "gpus": gpus,
    }


def machine_name(processor: str, cores: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{processor} {cores} cores".lower())


def _cpu() -> dict[str, str]:
    """The first processor in /proc/cpuinfo, if the system has that file."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().partition("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def command() -> str:
    """The command as a reader would type it to repeat the run, without the places of this machine."""
    words = (os.path.relpath(word, ROOT) if word.startswith(str(ROOT)) else word for word in sys.orig_argv[1:])
    return shlex.join(["python", *(Path(word).name if Path(word).is_absolute() else word for word in words)])


def commit() -> str | None:
    """The measured commit, with -dirty if files differ from it; None outside a git checkout."""
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
