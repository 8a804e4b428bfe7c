"""What the GPU kernels should cost: bytes, FLOPs, launches, roofline times, and the compiled kernels' resources.

    python -m benchmarks.gpu_model [--out docs/gpu_model.md]

No GPU is needed and none is used: the op's own host code, and eager torch, run on tensors without data, and every
launch is recorded. docs/gpu_model.md says what the model leaves out.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_compile import CASES, TARGETS, compile_for
from benchmarks.gpu_record import Launch, channels_last, recorded
from sdi_plugin.ops import gpu, reference

TERA = 1e12
LAUNCH = 3e-6  # seconds: a kernel's start on a stream that is never empty


class Gpu(NamedTuple):
    """Public peak figures from the vendor's data sheets, dense: bytes/s and FLOP/s. `float32` is the vector unit's."""

    memory: float
    first_cache: float  # bytes/s of all level-1 caches: units x 128 bytes x clock
    float32: float
    convolution: float  # float32 maps with torch's defaults: TF32 on NVIDIA, float32 matrix units on AMD
    half: float


GPUS = {
    "A100 80GB": Gpu(2.04 * TERA, 19.5 * TERA, 19.5 * TERA, 156 * TERA, 312 * TERA),
    "H100 SXM": Gpu(3.35 * TERA, 33.4 * TERA, 67 * TERA, 495 * TERA, 989 * TERA),
    "B200": Gpu(8.0 * TERA, 35.0 * TERA, 75 * TERA, 1100 * TERA, 2250 * TERA),
    "MI300X": Gpu(5.3 * TERA, 81.7 * TERA, 163.4 * TERA, 163.4 * TERA, 1307 * TERA),
}
STAGES = {
    "2-D stage, 352, batch 1": ([(88, 88), (44, 44), (22, 22), (11, 11)], 1),
    "2-D stage, 352, batch 4": ([(88, 88), (44, 44), (22, 22), (11, 11)], 4),
    "3-D stage, 64^3, five levels": ([(s,) * 3 for s in (64, 32, 16, 8, 4)], 1),
}
CHANNELS = 32


def eager(sizes: Any, batch: int, dtype: torch.dtype, backward: bool) -> list[Launch]:
    """The paper's code: resize, convolve, multiply, level by level."""
    xs, weights, biases = _case(sizes, batch, dtype, gradients=backward)
    convolve = F.conv2d if len(sizes[0]) == 2 else F.conv3d
    with recorded() as record:
        outputs = []
        for target, size in enumerate(sizes):
            product = None
            for j, x in enumerate(xs):
                entry = target * len(xs) + j
                term = convolve(reference.resize(x, size), weights[entry], biases[entry], padding=1)
                product = term if product is None else product * term
            outputs.append(product)
        if backward:
            torch.autograd.backward(outputs, [torch.empty_like(o) for o in outputs])
    return record


def compiled(sizes: Any, batch: int, dtype: torch.dtype, backward: bool) -> list[Launch]:
    """torch.compile of `eager`: convolutions stay, biases and products are fused, resizing is one kernel per map.

    In backward, the gradients of all terms are one kernel and each bias sum is another. Gradients of the same level are
    added in the kernel of the last one.
    """
    launches = [launch for launch in eager(sizes, batch, dtype, backward) if launch.unit != "float32"]
    item = torch.empty((), dtype=dtype).element_size()
    maps = [batch * CHANNELS * math.prod(size) * item for size in sizes]
    if dtype == torch.float32 and not any(launch.unit == "convolution" for launch in launches):
        raise AssertionError("expected convolutions in the trace")
    levels = len(sizes)
    for i, size in enumerate(maps):
        others = [maps[j] for j in range(levels) if j != i]
        launches += [Launch("resize", other + size) for other in others]
        launches.append(Launch("product", (levels + 1) * size))
        if backward:
            launches.append(Launch("gradients", (2 * levels + 1) * size))
            launches += [Launch("bias", size) for _ in maps]
            launches += [Launch("resize", 2 * other + size) for other in others]
    return launches


def ours(sizes: Any, batch: int, dtype: torch.dtype, backward: bool) -> list[Launch]:
    xs, weights, biases = _case(sizes, batch, dtype)
    targets = list(range(len(sizes)))
    for _ in range(2):  # the first fills the tables' caches
        with recorded() as record:
            outputs = gpu.forward(xs, weights, biases, targets, dtype)
            if backward:
                gpu.backward(outputs, xs, weights, biases, targets)
    return record


def _case(sizes: Any, batch: int, dtype: torch.dtype, gradients: bool = False) -> list[list[Tensor]]:
    levels, dim = len(sizes), len(sizes[0])
    options: dict[str, Any] = {"device": "meta", "dtype": dtype, "requires_grad": gradients}
    return [
        [channels_last(torch.empty(batch, CHANNELS, *size, **options)).requires_grad_(gradients) for size in sizes],
        [torch.empty(CHANNELS, CHANNELS, *[3] * dim, **options) for _ in range(levels**2)],
        [torch.empty(CHANNELS, **options) for _ in range(levels**2)],
    ]


def seconds(launches: Sequence[Launch], device: Gpu) -> float:
    """The sum over the launches, none of which overlap: each takes the launch time plus the longest of its floors."""
    return sum(
        LAUNCH + max(k.bytes / device.memory, k.flops / getattr(device, k.unit), k.cached / device.first_cache)
        for k in launches
    )


def model_rows() -> Iterator[str]:
    yield f"| stage | maps | mode | contender | launches | MB | GFLOP | {' | '.join(GPUS)} |"
    yield "|---|---|---|---|--:|--:|--:|" + "--:|" * len(GPUS)
    for stage, (sizes, batch) in STAGES.items():
        for dtype, dtype_name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
            for backward in (False, True):
                base: list[float] = []
                for contender in (eager, compiled, ours):
                    launches = contender(sizes, batch, dtype, backward)
                    times = [seconds(launches, device) for device in GPUS.values()]
                    base = base or times
                    cells = [f"{1e6 * t:.0f} us ({b / t:.1f}x)" for t, b in zip(times, base, strict=True)]
                    mode = "forward + backward" if backward else "forward"
                    moved, flops = sum(k.bytes for k in launches) / 1e6, sum(k.flops for k in launches) / 1e9
                    yield (
                        f"| {stage} | {dtype_name} | {mode} | {contender.__name__} | {len(launches)} | {moved:.0f} "
                        f"| {flops:.2f} | {' | '.join(cells)} |"
                    )


def resource_rows() -> Iterator[str]:
    yield "| kernel | target | registers | spills | shared memory, bytes | widest load, bytes |"
    yield "|---|---|--:|--:|--:|--:|"
    for name, case in CASES.items():
        for target_name, target in TARGETS.items():
            used = compile_for(case(), target)
            yield f"| {name} | {target_name} | {used.registers} | {used.spills} | {used.shared} | {used.load_bytes} |"


INTRODUCTION = """# What the GPU kernels should cost: a model, not a measurement

**Nothing here was measured on a GPU.** `python -m benchmarks.gpu_model` writes this page on a machine without one: it
runs the op's host code and eager torch on tensors without data, records every launch with its bytes and FLOPs, and
compiles the kernels for each target. If you have a GPU, measure instead.

A launch takes 3 us plus the longest of three times: its bytes (each input read once, each output written once) at the
peak rate of the memory; its FLOPs at the peak rate of the unit that computes them; and, for the products of terms, the
bytes read from the first-level cache at its peak rate. Launches do not overlap. The peak rates are the vendors' public
figures (`GPUS` in `benchmarks/gpu_model.py`). On NVIDIA, convolutions of fp32 maps use TF32, torch's default; so do our
mixings, which are 1x1 convolutions.

The model leaves out: caches that hold a small map between two launches (all contenders gain), the start-up and tail of
a kernel (small maps do not reach the peak rates), layout changes inside cuDNN, and Python's time to launch, which CUDA
graphs remove. `compiled` is a formula for what inductor is known to fuse, not a trace of it. The eager contender is the
paper's code; its pooling and interpolation are one launch each. C = 32.

## Stages

Times are those of the model; in parentheses, eager's time over the contender's.

"""

RESOURCES = """
## Resources of the compiled kernels

For float32 maps, from the machine code. Spills are bytes of local memory (AMD: spilled registers): there are none. The
number of programs that fit a compute unit follows from the registers: 65,536 (AMD: 131,072) over 128 threads times this
number.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the page here instead of printing it")
    arguments = parser.parse_args()
    page = INTRODUCTION + "\n".join(model_rows()) + "\n" + RESOURCES + "\n".join(resource_rows()) + "\n"
    if arguments.out:
        arguments.out.write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
