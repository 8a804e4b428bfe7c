"""Compile the kernels of a stage, as the launcher does, without the GPUs, and read their resources.

python -m benchmarks.gpu_compile        # a table: registers, spills, shared memory, matrix instructions
"""

import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.sdi.cases import PLAN_WIDTHS, WIDTHS
from sdi_plugin.ops.gpu import launch, schedule
from sdi_plugin.ops.gpu.attend import schedule as attend_schedule
from sdi_plugin.ops.gpu.chunk import Launch
from sdi_plugin.ops.gpu.entries import Request


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
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
KERNELS = (
    "pack",
    "resize",
    "multiply",
    "multiply_backward",
    "gradients",
    "resize_adjoint_depth",
    "resize_adjoint",
    "reduce",
)
ATTENTION_KERNELS = (
    "pool_pixels",
    "gate_channels",
    "pool_channels",
    "reduce_channels",
    "pixel_logits",
    "smooth_backward",
    "sum_pixels",
    "gate_gradients",
    "mlp_backward",
    "attend_gradients",
)
# Convolutions and reductions are products of matrices; the others only move data.
PRODUCTS = ("multiply", "multiply_backward", "gradients", "reduce_channels", "sum_pixels", "attend_gradients")


class Stage(NamedTuple):
    """Levels from `size` on, each half the last; every level is a target."""

    size: tuple[int, ...]
    levels: int
    channels: int = 32
    dtype: torch.dtype = torch.bfloat16
    images: int = 1
    precision: str = "ieee"
    bound: float = 2.0

    def schedule(self) -> schedule.Schedule:
        taps = 3 ** len(self.size)
        sizes = tuple(tuple(max(1, s >> level) for s in self.size) for level in range(self.levels))
        return schedule.make(
            Request(
                sizes=sizes,
                targets=tuple(range(self.levels)),
                images=self.images,
                channels=self.channels,
                out_channels=self.channels,
                dtype=self.dtype,
                last=True,
                in_place=self.precision == "ieee",
                bound=self.bound,
                precision=self.precision,
                strides=(self.channels * taps, taps, 1),
                interpreted=False,
            )
        )


class Attention(NamedTuple):
    """The attention and reduction before a stage, for features of these channels."""

    size: tuple[int, ...]
    widths: tuple[int, ...]
    dtype: torch.dtype = torch.bfloat16
    images: int = 1
    precision: str = "ieee"
    last: bool = True

    @property
    def levels(self) -> int:
        return len(self.widths)

    def schedule(self) -> attend_schedule.Schedule:
        taps = 7 ** len(self.size)
        return attend_schedule.make(
            attend_schedule.Request(
                sizes=tuple(tuple(max(1, s >> level) for s in self.size) for level in range(self.levels)),
                channels=self.widths,
                hidden=tuple(width // 16 for width in self.widths),
                out_channels=32,
                images=self.images,
                dtype=self.dtype,
                last=self.last,
                grad_last=self.last,
                out_item=self.dtype.itemsize,
                precision=self.precision,
                conv7_strides=(taps, 1),
                interpreted=False,
            )
        )


# The stages of the paper (2-D, 352: levels of 88 to 11) and of a 3-D network (64^3).
STAGES = {
    f"{name}, {dtype_name}": Stage(size, levels, channels, dtype, precision=precision)
    for name, size, levels, channels in (
        ("2-D, L = 4, C = 32", (88, 88), 4, 32),
        ("2-D, L = 6, C = 64", (128, 128), 6, 64),
        ("3-D, L = 5, C = 32", (64, 64, 64), 5, 32),
        ("3-D, L = 6, C = 64", (64, 64, 64), 6, 64),
    )
    for dtype_name, dtype, precision in (("bf16", torch.bfloat16, "ieee"), ("TF32", torch.float32, "tf32"))
}


# Of the paper's encoder, and of nnU-Net's plans.
ATTENTIONS = {
    f"{name}, {dtype_name}{'' if last else ', contiguous'}": Attention(
        size, widths, dtype, precision=precision, last=last
    )
    for name, size, widths in (("2-D", (88, 88), WIDTHS), ("3-D", (64, 64, 64), PLAN_WIDTHS[:5]))
    for dtype_name, dtype, precision in (("bf16", torch.bfloat16, "ieee"), ("TF32", torch.float32, "tf32"))
    for last in (True, False)
}


class Resources(NamedTuple):
    registers: int  # per thread
    spills: int  # per thread: bytes of local memory on NVIDIA, registers on AMD
    shared: int  # bytes per program
    load_bytes: int  # width of the widest load from global memory
    matrix: str  # the kind of matrix instruction, or the empty string


# Pointers to the accumulator's dtype.
_WIDE = {
    *("packed_bias_ptr", "sum_ptr", "part_ptr", "depth_ptr", "pooled_ptr", "channel_ptrs", "pixel_ptrs", "logit_ptr"),
    *("product_ptr", "gate_sum_ptr", "conv1_sum_ptr", "vector_ptr", "hidden_ptr"),
}


def launches(stage: Stage | Attention) -> Iterator[Launch]:
    """Each kernel of the stage once, as the first chunk launches it."""
    if isinstance(stage, Attention):
        attention = stage.schedule()
        yield from (*attention.forward, *attention.backward)
        return
    made = stage.schedule()
    chunk = made.chunks[0]
    yield made.pack
    yield from chunk.forward
    yield from chunk.backward[1:]
    yield made.reduce


def compile_for(stage: Stage | Attention, made: Launch, target: Target) -> Resources:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(launch.kernels(), made.kernel)
    accumulator = torch.promote_types(stage.dtype, torch.float32)
    arguments = launch.arguments(made, accumulator, amd=target.backend == "hip")
    options = {key: arguments.pop(key) for key in launch.OPTIONS if key in arguments}
    inner, sums = f"*{TYPES[stage.dtype]}", f"*{TYPES[accumulator]}"
    levels: int = stage.levels
    several: defaultdict[str, int] = defaultdict(lambda: levels)
    if "E" in arguments:
        several |= {"own_ptrs": arguments["E"], "grad_ptrs": arguments["E"]}
        if made.kernel == "multiply":
            several["out_ptrs"] = arguments["E"]
    terms = dict.fromkeys(("weight_ptrs", "bias_ptrs", "weight_grad_ptrs", "bias_grad_ptrs"), levels**2)
    several |= terms
    signature, attributes, constants = {}, {}, {}
    for i, name in enumerate(kernel.arg_names):
        if name.endswith(("_ptr", "_ptrs")):
            is_sum = name in _WIDE or (name == "bias_ptr" and made.kernel != "pack")
            is_sum |= name == "out_ptr" and made.kernel == "resize_adjoint_depth"
            kind = sums if is_sum else inner
            if name.endswith("s"):
                signature[name] = (kind,) * several[name]
                attributes |= {(i, j): [["tt.divisibility", 16]] for j in range(several[name])}
            else:
                signature[name] = kind
                attributes[(i,)] = [["tt.divisibility", 16]]
        elif name.isupper():
            signature[name] = "constexpr"
            constants[name] = arguments[name]
        else:
            value = arguments[name]
            signature[name] = ("i32",) * len(value) if isinstance(value, tuple) else "i32"
    gpu = GPUTarget(target.backend, target.architecture, target.warp_size)
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
    ptx = compiled.asm["ptx"]
    widths = re.findall(r"ld\.global\S*?(?:\.v(\d))?\.b(\d+)", ptx)
    copies = re.findall(r"cp\.async\.\w+\.shared\.global\s[^;]*?\],\s*(0x[0-9a-f]+|\d+)", ptx)
    widest = max([*(int(lanes or 1) * int(bits) // 8 for lanes, bits in widths), *(int(size, 0) for size in copies)])
    kinds = re.findall(r"\b(tcgen05\.mma|wgmma\.mma_async|mma\.sync)", ptx)
    return Resources(int(fields["REG"]), spills, compiled.metadata.shared, widest, ", ".join(sorted(set(kinds))))


def _amd(compiled: Any) -> Resources:
    # What scalar registers spill goes to lanes of vector registers; only what these spill goes to memory.
    text = compiled.asm["amdgcn"]
    registers, spills = (
        max(int(count) for count in re.findall(rf"\.{name}:\s*(\d+)", text))
        for name in ("vgpr_count", "vgpr_spill_count")
    )
    widths = re.findall(r"(?:global|buffer)_load_dword(?:x(\d))?\b", text)
    kinds = re.findall(r"v_mfma", text)
    widest = max([4 * int(width or 1) for width in widths], default=0)
    return Resources(registers, spills, compiled.metadata.shared, widest, ", ".join(sorted(set(kinds))))


def main() -> None:
    print("| stage | kernel | target | registers | spills | shared memory, bytes | widest load, bytes | matrix |")
    print("|---|---|---|--:|--:|--:|--:|---|")
    stages: dict[str, Stage | Attention] = {**STAGES, **{f"attention, {name}": a for name, a in ATTENTIONS.items()}}
    for name, stage in stages.items():
        for made in launches(stage):
            for target_name, target in TARGETS.items():
                used = compile_for(stage, made, target)
                print(f"| {name} | {made.kernel} | {target_name} | {' | '.join(map(str, used))} |", flush=True)


if __name__ == "__main__":
    main()
