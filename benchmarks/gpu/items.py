"""`python -m benchmarks.gpu.items MODULE`: one process of a phase. It runs the module's items and reports each."""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.runner import BROKEN, PIPE

Item = Callable[[], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--deadline", type=float, required=True)
    parser.add_argument("--done", nargs="*", default=[])
    arguments = parser.parse_args()

    from benchmarks.gpu.device import CudaDevice, DryDevice

    # timm 1.0 warns when it is imported.
    warnings.filterwarnings("ignore", "`torch.jit.interface` is deprecated", FutureWarning)
    device = DryDevice() if arguments.dry else CudaDevice()
    items: dict[str, Item] = importlib.import_module(f"benchmarks.gpu.{arguments.module}").items(device)
    for name, item in items.items():
        if name in arguments.done:
            continue
        if time.monotonic() > arguments.deadline - 2:
            report(item=name, status="skipped", reason="no time was left")
            continue
        report(begin=name)
        begin = time.monotonic()
        record = _run(item)
        report(item=name, seconds=round(time.monotonic() - begin, 2), **record)
        if record["status"] == "failed":
            try:
                device.synchronize()
            except RuntimeError:  # an illegal access, say: nothing more can run in this process
                os._exit(BROKEN)


def _run(item: Item) -> dict[str, Any]:
    try:
        return {"status": "ok", **item()}
    except Exception as error:
        traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        return {"status": "failed", "error": f"{type(error).__name__}: {error} ({where})"[:1000]}


def report(**message: Any) -> None:
    """Send a message to the runner; without one, print it."""
    line = json.dumps(message) + "\n"
    if PIPE in os.environ:
        os.write(int(os.environ[PIPE]), line.encode())
    else:
        sys.stdout.write(line)


if __name__ == "__main__":
    main()
