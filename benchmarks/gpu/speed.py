"""The times of every contender, for SDI and the attention before it: most important first, torch.compile last."""

from typing import Any

from benchmarks.gpu import contenders
from benchmarks.gpu.contenders import COMPILE, MODES, PRECISIONS
from benchmarks.gpu.device import Device
from benchmarks.gpu.items import Item
from benchmarks.gpu.timing import times
from benchmarks.sdi.cases import Case

CASES = (
    *("2d-stage-352-b16", "3d-stage-64-l5", "2d-attention-352-b16", "3d-attention-64-l5"),
    *("2d-stage-352-b1", "2d-stage-352-b4", "2d-attention-352-b1"),
)
DRY_CASES = ("2d-stage-16-l2-b1", "3d-stage-2-l2", "2d-attention-16-l2-b1")


def items(device: Device) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for is_compiled in (False, True):
        for name in DRY_CASES if device.dry else CASES:
            for precision in PRECISIONS:
                for mode in MODES:
                    for contender in contenders.of(Case.parse(name)):
                        if (contender == COMPILE) == is_compiled:
                            key = f"{name}/{precision}/{mode}/{contender}"
                            found[key] = lambda a=(name, precision, contender, mode): _item(device, *a)
    return found


def _item(device: Device, name: str, precision: str, contender: str, mode: str) -> dict[str, Any]:
    case = Case.parse(name)
    sets = 2 if device.dry else None
    calls = contenders.calls(case, precision, contender, mode, device, sets)
    found = times(device, calls)
    if "graph_error" in found:
        found |= {"status": "failed", "error": found["graph_error"]}
    return {
        **found,
        "flops": contenders.flops(case, mode),
        "least_bytes": contenders.least_bytes(case, precision, mode),
    }
