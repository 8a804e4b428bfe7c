"""The functional API: one documented function per op, and `backends()`.

Every op follows the plain-torch equations of `sdi_plugin.ops.reference`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sdi_plugin.ops import attend, checks, cpu, dispatch, library, reference
from sdi_plugin.ops.reference import FUSIONS

__all__ = [
    "FUSIONS",
    "attend_and_reduce",
    "attend_and_reduce_stage",
    "backends",
    "resize",
    "resize_smooth_multiply",
    "resize_smooth_multiply_stage",
]


def attend_and_reduce(
    f: Tensor, fc1: Tensor, fc2: Tensor, conv7: Tensor, conv1: Tensor, *, out_dtype: torch.dtype | None = None
) -> Tensor:
    """Gate a level's channels, then its pixels, as CBAM does, and reduce the channels by a 1x1 convolution.

    x = ca(f) * f;  x = sa(x) * x;  g = conv1 * x        Peng et al. 2023, arXiv 2311.17791, eq. 1-2
    ca(f) = sigmoid( MLP(mean over pixels) + MLP(maximum over pixels) ),  MLP(v) = fc2 * relu(fc1 * v)
    sa(x) = sigmoid( conv7 * [mean over channels, maximum over channels] )        arXiv 1807.06521, eq. 2-3

    Args:
        f: the level's features.
        fc1, fc2: the two layers of the MLP, as 1x1 convolutions without bias.
        conv7: the 7x7 (7x7x7) convolution of the pixels' gate, zero padding, no bias.
        conv1: the 1x1 convolution that reduces the channels, no bias.
        out_dtype: dtype of the result; that of f by default.

    Shape:
        f: (B, C, *S); fc1: (H, C, 1, 1[, 1]); fc2: (C, H, 1, 1[, 1]); conv7: (1, 2, 7, 7[, 7]); conv1:
        (C_out, C, 1, 1[, 1]). Returns (B, C_out, *S).

    Convention:
        The gradient of a maximum is shared between equal values, as that of torch's amax. The result is channels last
        in memory if f is, otherwise contiguous.

    This is `attend_and_reduce_stage` for one level; see there which kernels compute it, and what backward keeps.

    Examples:
        >>> import torch
        >>> from sdi_plugin import ops
        >>> f, fc1, fc2 = torch.randn(1, 64, 20, 30), torch.randn(4, 64, 1, 1), torch.randn(64, 4, 1, 1)
        >>> ops.attend_and_reduce(f, fc1, fc2, torch.randn(1, 2, 7, 7), torch.randn(32, 64, 1, 1)).shape
        torch.Size([1, 32, 20, 30])
    """
    return attend.attend_and_reduce_stage([f], [fc1], [fc2], [conv7], [conv1], out_dtype=out_dtype)[0]


def attend_and_reduce_stage(
    fs: Sequence[Tensor],
    fc1: Sequence[Tensor],
    fc2: Sequence[Tensor],
    conv7: Sequence[Tensor],
    conv1: Sequence[Tensor],
    *,
    out_dtype: torch.dtype | None = None,
    channels_last: bool | None = None,
) -> list[Tensor]:
    """`attend_and_reduce` of several levels in one call.

    Args:
        fs: the features, one map per level.
        fc1, fc2, conv7, conv1: the weights, one of each per level.
        out_dtype: dtype of the results; that of the level's features by default.
        channels_last: whether the results are channels last in memory, or contiguous; by default as the level's
            features. The fused ops are fastest from one to the other in channels last. The reference and the Triton
            kernels ignore it.

    Shape:
        As for `attend_and_reduce`, level by level; the levels have one batch size. Returns one tensor (B, C_out, *S)
        per level.

    Raises:
        ValueError: the numbers of weights are not one of each per level; a map without pixels. A batch of 0 has an
            empty result.

    Backward keeps the inputs, the results, the gates, and the channels' means and maxima: per pixel one number (three
    in the Triton kernels) beside the C_out of the result, which the norm that follows keeps anyway. It recomputes
    everything else. Gradient checkpointing has nothing more to save here.

    A C++ kernel on CPUs and Triton kernels on GPUs handle float32, float64, bfloat16 and float16, with bitwise equal
    results on every run and for any number of threads; `backends` says what the latter do not take. Torch's own ops
    handle the same elsewhere, in the order that keeps so little. Under autocast all take the tensors as they are. The
    plain reference handles everything else, as for `resize_smooth_multiply_stage`; and torch.compile where there is no
    kernel.

    Examples:
        >>> import torch
        >>> from sdi_plugin import ops
        >>> fs = [torch.randn(1, 16, 8, 8), torch.randn(1, 32, 4, 4)]
        >>> fc1, fc2 = [torch.randn(2, f.shape[1], 1, 1) for f in fs], [torch.randn(f.shape[1], 2, 1, 1) for f in fs]
        >>> conv7, conv1 = torch.randn(2, 1, 2, 7, 7).unbind(), [torch.randn(8, f.shape[1], 1, 1) for f in fs]
        >>> [g.shape for g in ops.attend_and_reduce_stage(fs, fc1, fc2, conv7, conv1)]
        [torch.Size([1, 8, 8, 8]), torch.Size([1, 8, 4, 4])]
    """
    return attend.attend_and_reduce_stage(fs, fc1, fc2, conv7, conv1, out_dtype=out_dtype, channels_last=channels_last)


def backends() -> dict[str, dict[str, bool | str]]:
    """Which implementations of the ops are available here.

    Returns:
        For "reference", "cpu" and "triton": `available`, and the `reason` if it is not (otherwise the empty string).
        If "cpu" is available, also `isa`, the instruction set in use: "avx512", "avx2" or "baseline". If "triton" is,
        also `limits`: what its kernels do not take, and what serves it.

    Examples:
        >>> from sdi_plugin import ops
        >>> ops.backends()["reference"]
        {'available': True, 'reason': ''}
    """
    reasons = {"reference": "", **dispatch.reasons()}
    found: dict[str, dict[str, bool | str]] = {
        name: {"available": not reason, "reason": reason} for name, reason in reasons.items()
    }
    if found["cpu"]["available"]:
        found["cpu"]["isa"] = cpu.isa()
    if found["triton"]["available"]:
        found["triton"]["limits"] = attend.gpu_kernels.LIMITS
    return found


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bring a feature map to another level's size, each axis independently.

    Shape:
        x: (B, C, *S). Returns (B, C, *size).

    Convention:
        Finer than the target -> adaptive average pooling; coarser -> linear, align_corners=True; equal -> unchanged.
        Peng et al. 2023, arXiv 2311.17791, eq. 3.

    Raises:
        ValueError: x or size has no pixels.

    Examples:
        >>> import torch
        >>> from sdi_plugin import ops
        >>> ops.resize(torch.randn(1, 32, 8, 64, 64), (16, 32, 32)).shape  # interpolated, pooled, pooled
        torch.Size([1, 32, 16, 32, 32])
    """
    checks.pixels("resize", [x.shape[2:], size])
    return reference.resize(x, size)


def resize_smooth_multiply(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    level: int,
    *,
    fusion: str = "product",
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Resize every level to one level's size, smooth each with a convolution, multiply them together.

    y = fusion( prod_j ( b_j + W_j * resize(x_j) ) )        Peng et al. 2023, arXiv 2311.17791, eq. 3-5

    Args:
        xs: the feature maps, fine to coarse.
        weights, biases: one 3x3 (3x3x3) convolution per level, zero padding 1.
        level: index of the target level; 0 is the finest.
        fusion: "product", the paper's; or "asinh", 2 asinh(p / 2) of the product p, which stays below 180.
        out_dtype: dtype of the result; that of xs[level] by default.

    Shape:
        xs: L tensors (B, C, *S_j); weights: (C_out, C, 3, 3[, 3]); biases: (C_out,). Returns (B, C_out, *S_level).

    Convention:
        Resizing as in `resize`. The product is accumulated, and its asinh taken, in float32 (float64 for float64) for
        inputs of any dtype.

    This is `resize_smooth_multiply_stage` for one target; see there which kernels compute it.

    Examples:
        >>> import torch
        >>> from sdi_plugin import ops
        >>> xs = [torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8)]
        >>> weights, biases = torch.randn(2, 8, 8, 3, 3).unbind(), torch.ones(2, 8).unbind()
        >>> ops.resize_smooth_multiply(xs, weights, biases, level=1).shape
        torch.Size([1, 8, 8, 8])
    """
    return library.resize_smooth_multiply_stage(xs, weights, biases, [level], fusion=fusion, out_dtype=out_dtype)[0]


def resize_smooth_multiply_stage(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    targets: Sequence[int],
    *,
    fusion: str = "product",
    out_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """`resize_smooth_multiply` for several target levels at once: each map is read and pooled once.

    Args:
        xs: the feature maps, fine to coarse.
        weights, biases: those of targets[0] for every level, then those of targets[1], ...
        targets: indices of the target levels; 0 is the finest.
        fusion: as for `resize_smooth_multiply`.
        out_dtype: dtype of the results; that of xs[target] by default.

    Shape:
        xs: L tensors (B, C, *S_j); weights: T * L tensors (C_out, C, 3, 3[, 3]); biases: T * L tensors (C_out,).
        Returns T tensors (B, C_out, *S_target).

    Raises:
        ValueError: the numbers of weights and biases are not one per target and level; a target is out of range; an
            unknown fusion; a map without pixels. A batch of 0 has an empty result.

    A C++ kernel handles float32, float64, bfloat16 and float16 on CPUs; Triton kernels handle the same on GPUs.
    Under autocast they take the tensors as they are. The C++ kernel gives bitwise equal results on every run and for
    any number of threads. So do the Triton kernels, but torch's convolutions, which they are combined with, do only if
    torch.backends.cudnn.deterministic is set. Only the inputs are saved for backward, which recomputes the terms.

    Inf and NaN: where the reference's result, or its gradient with respect to a map, is finite, the kernels' is too.
    Where it is infinite, theirs may be NaN, because a Winograd convolution subtracts (Inf - Inf). Theirs may also be
    NaN where sums come near the largest number of the accumulator. Torch's convolutions, which the Triton kernels are
    combined with, give no such guarantee.

    The plain-torch reference handles everything else: torch.export, torch.jit.trace and torch.onnx.export; forward-mode
    AD; torch.func's transforms except vmap; gradients with create_graph or is_grads_batched, and so derivatives of
    every order; and everything if the environment variable SDI_PLUGIN_REFERENCE is 1.

    Examples:
        >>> import torch
        >>> from sdi_plugin import ops
        >>> xs = [torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8)]
        >>> weights, biases = torch.randn(4, 8, 8, 3, 3).unbind(), torch.ones(4, 8).unbind()  # 2 targets x 2 levels
        >>> [h.shape for h in ops.resize_smooth_multiply_stage(xs, weights, biases, targets=[0, 1])]
        [torch.Size([1, 8, 16, 16]), torch.Size([1, 8, 8, 8])]
    """
    return library.resize_smooth_multiply_stage(xs, weights, biases, targets, fusion=fusion, out_dtype=out_dtype)
