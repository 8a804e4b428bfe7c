"""The functional API: one documented function per op, and `backends()`.

Every op follows the plain-torch equations of `sdi_plugin.ops.reference`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sdi_plugin.ops import library, reference

__all__ = ["arrange", "backends", "resize", "resize_smooth_multiply"]


def backends() -> dict[str, dict[str, bool | str]]:
    """Tell which implementation serves the ops.

    Returns:
        For "reference", "cpu" and "triton": `available`, and the `reason` when it is not (else an empty string).
    """
    reasons = {"reference": "", "cpu": library.cpu_reason(), "triton": "not part of this release"}
    return {name: {"available": not reason, "reason": reason} for name, reason in reasons.items()}


def arrange(xs: Sequence[Tensor]) -> list[Tensor]:
    """Lay maps out in memory as the op's kernel reads them, once instead of for every target level.

    Shape:
        xs: (B, C, *S_j). Returns the same values: channels last where a kernel serves that wants it so, else unchanged.
    """
    return library.arrange(xs)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bring a feature map to another level's size, each axis on its own.

    Shape:
        x: (B, C, *S). Returns (B, C, *size).

    Convention:
        Finer than the target -> adaptive average pooling; coarser -> linear, align_corners=True; equal -> unchanged.
        Peng et al. 2023, arXiv 2311.17791, eq. 3.
    """
    return reference.resize(x, size)


def resize_smooth_multiply(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    level: int,
    *,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Resize every level to one level's size, smooth each by a convolution, multiply them together.

    y = prod_j ( b_j + W_j * resize(x_j) )        Peng et al. 2023, arXiv 2311.17791, eq. 3-5

    Args:
        xs: the feature maps, fine to coarse.
        weights, biases: one 3x3 (3x3x3) convolution for every level, zero padding 1.
        level: index of the target level, 0 the finest.
        out_dtype: of the result; that of xs[level] by default.

    Shape:
        xs: L tensors (B, C, *S_j); weights: (C_out, C, 3, 3[, 3]); biases: (C_out,). Returns (B, C_out, *S_level).

    Convention:
        `resize` as above. The product is accumulated in float32 (float64 for float64), whatever the inputs.

    The C++ kernel serves float32 on CPUs, outside autocast and torch.export; its backward saves the inputs alone and
    recomputes the terms, and has no derivative of its own: a second one raises a RuntimeError. Everything else, and
    everything where the environment variable SDI_PLUGIN_REFERENCE is 1, is served by the plain-torch reference.
    """
    return library.resize_smooth_multiply(xs, weights, biases, level, out_dtype=out_dtype)
