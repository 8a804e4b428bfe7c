"""resize_smooth_multiply on GPUs: grouped Triton kernels on tensor cores, three launches forward, five backward.

All maps of a stage are resized in one launch; all convolutions of all its targets, with their biases and the product
as the epilogue, are one implicit GEMM (docs/derivation.md). In 3-D, slabs of planes bound the memory. Maps inside are
(B, *S, C), in the lowest precision of the inputs; sums are in float32 or wider.
"""

import importlib.util
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from sdi_plugin.ops import plan

_OLDEST_TORCH = (2, 7)  # comes with Triton 3.3, the first that takes tuples of pointers
# Whether Triton's interpreter runs the kernels, on CPU tensors.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")
_IS_INSTALLED = importlib.util.find_spec("triton") is not None
_IS_NEW = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= _OLDEST_TORCH
# A tensor core convolves at the target's size in less time than the vector units interpolate products (docs/gpu.md).
COSTS = plan.Costs(math.inf, lambda target, channels: 3 ** len(target) * channels)


def reason() -> str:
    """Why the kernels are not available, or the empty string."""
    if not _IS_INSTALLED:
        return "Triton is not installed: it comes with torch's builds for GPUs"
    if not _IS_NEW:
        return f"expected torch 2.7 or newer for its Triton 3.3, got torch {torch.__version__}. Install a newer torch."
    if not torch.cuda.is_available() and not INTERPRETED:
        return "no GPU: torch.cuda.is_available() is False"
    return ""


def serves(device: torch.device) -> bool:
    """Whether the kernels accept tensors on this device: GPUs, and CPUs if TRITON_INTERPRET=1.

    Cheap, and simple enough for torch.compile to trace.
    """
    if not _IS_INSTALLED or not _IS_NEW:
        return False
    if device.type == "cuda":
        # Inductor requires the same capability.
        return torch.compiler.is_compiling() or torch.cuda.get_device_capability(device) >= (7, 0)
    return device.type == "cpu" and INTERPRETED


def forward(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    out_dtype: torch.dtype,
    fusion: str = "product",
) -> list[Tensor]:
    """resize_smooth_multiply for several target levels.

    Shape:
        xs: L maps (B, C, *S_j), fine to coarse. weights: (C_out, C, 3, 3[, 3]), all of one shape, and biases (C_out,):
        those of targets[t] at [t * L, (t + 1) * L). Returns T maps (B, C_out, *S_target), channels last in memory.
    """
    # Imported on the first call: it takes a quarter of the package's time, and CPUs never need it.
    from sdi_plugin.ops.gpu import call

    tensors = [*xs, *weights, *biases]
    return call.plan(call.given(tensors, len(xs), targets, fusion, out_dtype)).forward(tensors)[0]


def backward(
    grads: Sequence[Tensor],
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    fusion: str = "product",
    *,
    needs_maps: bool = True,
    needs_weights: bool = True,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The gradients of xs (channels last in memory), weights and biases, each in its tensor's dtype.

    Those of xs are an empty list without needs_maps, the others without needs_weights. Recomputes the terms: forward
    keeps only its inputs. Bitwise equal on every run: no sum is atomic.
    """
    from sdi_plugin.ops.gpu import call

    tensors = [*xs, *weights, *biases]
    plan = call.plan(call.given(tensors, len(xs), targets, fusion, grads[0].dtype))
    found = plan.backward(grads, tensors, plan.pack(tensors), needs_maps=needs_maps, needs_weights=needs_weights)
    return list(found[0]), list(found[1]), list(found[2])
