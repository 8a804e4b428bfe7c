"""Compile the kernels, as the launcher does, without the GPUs, and read their resources from the machine code."""

import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sdi_plugin.ops.gpu import launch, tables


class Target(NamedTuple):
    backend: str
    architecture: int | str
    warp_size: int
    shared: int  # the most shared memory of one program, in bytes


TARGETS = {
    "sm_80": Target("cuda", 80, 32, 163 * 1024),
    "sm_90": Target("cuda", 90, 32, 227 * 1024),
    "sm_100": Target("cuda", 100, 32, 227 * 1024),
    "gfx942": Target("hip", "gfx942", 64, 64 * 1024),
}


class Case(NamedTuple):
    """A kernel of `sdi_plugin.ops.gpu`, with Triton's types for its pointers (a tuple of types for a tuple)."""

    kernel: str
    types: dict[str, str | Sequence[str]]
    constants: dict[str, Any]


def multiply(
    dense: int, taps: int, dtype: str = "fp32", *, backward: bool = False, channels: int = 32, bound: float = 0.0
) -> Case:
    """The product of this many terms of each kind, or its asinh."""
    rows, columns, block = launch.tile(channels, 88, torch.device("cuda"))
    pointer = f"*{dtype}"
    types: dict[str, str | Sequence[str]] = dict.fromkeys(("D", "H", "W", "z", "planes"), "i32")
    types |= dict.fromkeys(("out_ptr", "grad_ptr"), pointer) | dict.fromkeys(("bias_ptr", "bias_grad_ptr"), "*fp32")
    types |= {"dense_ptrs": (pointer,) * dense, "dense_grad_ptrs": (pointer,) * dense}
    types |= {"taps_ptrs": (pointer,) * taps, "term_grad_ptrs": (pointer,) * taps}
    types |= {"low_ptrs": ("*i32",) * taps, "weight_ptrs": ("*fp32",) * taps}
    constants = {"C": channels, "DENSE": dense, "TAPS": taps, "PADDING": tables.PADDING, "BOUND": bound}
    tile = {"ROWS": rows, "COLUMNS": columns, "CHANNELS": block}
    return Case("multiply_backward" if backward else "multiply", types, constants | tile)


def resample(jobs: int, dtype: str = "fp32", *, taps: int = 1, sum_taps: bool = False, channels: int = 32) -> Case:
    """This many maps per launch; sum_taps: the adjoints, which add to sums in float32."""
    block = launch.channel_block(channels)
    types: dict[str, str | Sequence[str]] = {"x_ptrs": (f"*{dtype}",) * jobs}
    types |= {"out_ptrs": ("*fp32" if sum_taps else f"*{dtype}",) * jobs}
    types |= {"start_ptrs": ("*i32",) * jobs, "weight_ptrs": ("*fp32",) * jobs}
    constants = {"C": channels, "JOBS": jobs, "TAPS": taps, "SUM_TAPS": sum_taps, "ACCUMULATE": sum_taps}
    tile = {"PIXELS": launch.pixels(block, torch.device("cuda")), "CHANNELS": block}
    return Case("resample", types, constants | tile)


# The stages of the paper (2-D, 352: four levels of 88 to 11) and of a 3-D network (64^3, five levels), C = 32.
CASES: dict[str, Callable[[], Case]] = {
    "multiply, 2-D, finest level": lambda: multiply(1, 3),
    "multiply, 2-D, coarsest level": lambda: multiply(4, 0),
    "multiply, 3-D, finest level": lambda: multiply(1, 4),
    "multiply, 2-D, finest level, asinh": lambda: multiply(1, 3, bound=2.0),
    "multiply_backward, 2-D, finest level, asinh": lambda: multiply(1, 3, backward=True, bound=2.0),
    "multiply_backward, 2-D, finest level": lambda: multiply(1, 3, backward=True),
    "multiply_backward, 2-D, coarsest level": lambda: multiply(4, 0, backward=True),
    "multiply_backward, 3-D, finest level": lambda: multiply(1, 4, backward=True),
    "resample, pooling": lambda: resample(3),
    "resample, pooling's adjoint": lambda: resample(3, sum_taps=True),
    "resample, depth taps": lambda: resample(1, taps=3),
    "resample, depth taps' adjoint": lambda: resample(4, taps=3, sum_taps=True),
    "resample, taps' adjoint, columns": lambda: resample(3, taps=3),
    "resample, taps' adjoint, rows": lambda: resample(3, taps=3, channels=96),
}
HALF_CASES: dict[str, Callable[[], Case]] = {
    "multiply, 2-D, finest level, fp16": lambda: multiply(1, 3, "fp16"),
    "multiply_backward, 3-D, finest level, asinh": lambda: multiply(1, 4, backward=True, bound=2.0),
    "multiply, 2-D, second level": lambda: multiply(2, 2),
    "multiply_backward, 2-D, second level": lambda: multiply(2, 2, backward=True),
    "multiply, 3-D, finest level, bf16": lambda: multiply(1, 4, "bf16"),
    "multiply_backward, 2-D, finest level, fp16": lambda: multiply(1, 3, "fp16", backward=True),
    "multiply_backward, 3-D, finest level, bf16": lambda: multiply(1, 4, "bf16", backward=True),
    "resample, pooling, fp16": lambda: resample(3, "fp16"),
    "resample, depth taps' adjoint, fp16": lambda: resample(4, "fp16", taps=3, sum_taps=True),
}


class Resources(NamedTuple):
    registers: int  # per thread
    spills: int  # per thread: bytes of local memory on NVIDIA, registers on AMD
    shared: int  # bytes per program
    load_bytes: int  # width of the widest load from global memory


def compile_for(case: Case, target: Target) -> Resources:
    import triton
    from triton import language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(launch.kernels(), case.kernel)
    constants = case.constants | {"ACC": tl.float32}
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        kind = "constexpr" if name in constants else case.types[name]
        signature[name] = kind
        # torch's tensors are aligned to 16 bytes; the launcher passes this on to the compiler.
        paths = [(i,)] if isinstance(kind, str) else [(i, j) for j in range(len(kind))]
        if name.endswith(("_ptr", "_ptrs")):
            attributes |= {path: [["tt.divisibility", 16]] for path in paths}
    gpu = GPUTarget(target.backend, target.architecture, target.warp_size)
    options = launch.options(case.kernel, amd=target.backend == "hip")
    compiled = triton.compile(ASTSource(kernel, signature, constants, attributes), target=gpu, options=options)
    return (_amd if target.backend == "hip" else _nvidia)(compiled)


def _nvidia(compiled: Any) -> Resources:
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(binary)]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fields = dict(re.findall(r"(\w+):(\d+)", usage))
    spills = int(fields["LOCAL"]) + int(fields["STACK"])
    widths = re.findall(r"ld\.global\S*?(?:\.v(\d))?\.b(\d+)", compiled.asm["ptx"])
    widest = max(int(lanes or 1) * int(bits) // 8 for lanes, bits in widths)
    return Resources(int(fields["REG"]), spills, compiled.metadata.shared, widest)


def _amd(compiled: Any) -> Resources:
    text = compiled.asm["amdgcn"]
    registers, *spills = (
        max(int(count) for count in re.findall(rf"\.{name}:\s*(\d+)", text))
        for name in ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count")
    )
    widths = re.findall(r"(?:global|buffer)_load_dword(?:x(\d))?\b", text)
    return Resources(registers, sum(spills), compiled.metadata.shared, max(4 * int(width or 1) for width in widths))
