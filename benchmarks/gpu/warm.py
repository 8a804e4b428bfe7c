"""`python -m benchmarks.gpu.warm`: fills torch.compile's cache on disk with the graphs that `speed` measures."""

import os

from benchmarks.gpu import contenders, speed
from benchmarks.gpu.device import CudaDevice
from benchmarks.sdi.cases import Case


def main() -> None:
    os.nice(10)  # the tests come first
    device = CudaDevice()
    for name in speed.CASES:
        for precision in contenders.PRECISIONS:
            for mode in contenders.MODES:
                (call,) = contenders.calls(Case.parse(name), precision, contenders.COMPILE, mode, device, sets=1)
                call()
                device.synchronize()
                print(f"warm: {name} {precision} {mode}", flush=True)


if __name__ == "__main__":
    main()
