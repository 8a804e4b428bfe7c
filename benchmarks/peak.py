"""Measure one contender's peak memory in a process of its own: `python -m benchmarks.peak 2d-stage-352-b1 ours`."""

import json
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.environment import ALLOCATOR, ROOT

_REPEATS = 3


def peak_bytes(case: str, contender: str, *, device: str = "cpu") -> int | None:
    """Extra memory of a training-mode forward with its outputs held; None where the system does not tell.

    The child's allocator maps every block of 64 KiB or more on its own and unmaps it when freed: resident memory is
    then what is in use. Alike for all contenders.
    """
    if device == "cpu" and not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    return int(run("benchmarks.peak", case, contender, device)["peak_bytes"])


def run(module: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """What `python -m MODULE ARGUMENTS` prints in JSON, in a process whose allocator gives memory back at once."""
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    environment |= {"MALLOC_MMAP_THRESHOLD_": str(2**16), **variables}
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


def main(case: str, contender: str, device: str = "cpu") -> None:
    from benchmarks.cases import Case
    from benchmarks.contenders import build
    from benchmarks.memory import peak_extra_bytes

    call = build(Case.parse(case), contender, training=True, device=device).call
    peaks = [peak_extra_bytes(call, device) for _ in range(_REPEATS)]
    print(json.dumps({"peak_bytes": int(statistics.median(peaks))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
