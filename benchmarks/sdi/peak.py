"""Measure one contender's peak memory in a separate process: `python -m benchmarks.sdi.peak 2d-stage-352-b1 ours`."""

import json
import os
import statistics
import sys

from benchmarks.environment import run_module

_REPEATS = 3


def peak_bytes(case: str, contender: str, *, device: str = "cpu") -> int | None:
    """Extra memory of a training-mode forward with its outputs held; None if the system does not report it.

    The child's allocator maps every block of 64 KiB or more separately, and unmaps it when it is freed, so that
    resident memory is the memory in use. This is the same for all contenders.
    """
    if device == "cpu" and not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    return int(run_module("benchmarks.sdi.peak", case, contender, device)["peak_bytes"])


def main(case: str, contender: str, device: str = "cpu") -> None:
    from benchmarks.memory import peak_extra_bytes
    from benchmarks.sdi.cases import Case
    from benchmarks.sdi.contenders import build

    call = build(Case.parse(case), contender, training=True, device=device).call
    peaks = [peak_extra_bytes(call, device) for _ in range(_REPEATS)]
    print(json.dumps({"peak_bytes": int(statistics.median(peaks))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
