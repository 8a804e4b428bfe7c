"""The Triton kernels of the pixels' gate, and the reduction: `pool_channels`, `reduce_channels`.

Names as in `levels.py`. conv7 is a sum of shifted loads: two numbers per pixel are no matrix.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.attend.levels import (
    add_product,
    at,
    channels_of,
    pixels_of,
    sigmoid,
    size_of,
    tile_of,
)
from sdi_plugin.ops.gpu.fields import pick


@triton.jit
def gated(f_ptr, gate_ptr, p, k, P, C, LAST: tl.constexpr, ACC: tl.constexpr):
    """The channels' gate times f, [pixels, channels]: wherever it is computed, the same bits."""
    mask = (p < P)[:, None] & (k < C)[None, :]
    x = tl.load(f_ptr + at(p, k, P, C, LAST), mask, other=0)
    return x.to(ACC) * tl.load(gate_ptr + k, k < C, other=0)[None, :]


@triton.jit(do_not_specialize=["images"])
def pool_channels(
    f_ptrs,  # L maps
    channel_ptrs,  # L times (B, 3, C), in ACC: mean, maximum and gate
    pixel_ptrs,  # L times (B, 3, P), in ACC: mean and maximum over the gated channels; and the gate
    images,
    starts,  # L: the first program of each level
    levels,  # L * FIELDS, see levels.py
    L: tl.constexpr,
    LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ACC: tl.constexpr,
):
    """Mean and maximum over the gated channels. Reads f once: memory bound. Grid: (tiles of all levels)."""
    level, _, image, p = tile_of(starts, tl.program_id(0), levels, L, False, BLOCK_K, PIXELS)
    P = pixels_of(levels, level, L)
    C = channels_of(levels, level, L, ALIGN)
    f_ptr = pick(f_ptrs, level, L) + image.to(tl.int64) * P * C
    gate_ptr = pick(channel_ptrs, level, L) + (image * 3 + 2) * C
    sums, maxima = tl.zeros([PIXELS], ACC), tl.full([PIXELS], float("-inf"), ACC)
    for first in tl.range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        x = gated(f_ptr, gate_ptr, p, k, P, C, LAST, ACC)
        sums += tl.sum(x, 1)
        maxima = tl.maximum(maxima, tl.max(tl.where((k < C)[None, :], x, float("-inf")), 1))
    pixel_ptr = pick(pixel_ptrs, level, L) + image.to(tl.int64) * 3 * P + p
    tl.store(pixel_ptr, sums / C, p < P)
    tl.store(pixel_ptr + P, maxima, p < P)


@triton.jit(do_not_specialize=["images", "rows"])
def reduce_channels(
    f_ptrs,
    conv7_ptrs,  # L weights (2, taps), by the strides below
    conv1_ptrs,  # L weights (CO, C)
    channel_ptrs,
    pixel_ptrs,  # of which the gate is written
    g_ptrs,  # L results, with CO channels
    images,
    rows,  # of taps: 7, or 49 in 3-D; a run-time number, or LLVM unrolls the loop and spills
    starts,
    levels,
    L: tl.constexpr,
    CO: tl.constexpr,
    STRIDE_MAP: tl.constexpr,
    STRIDE_TAP: tl.constexpr,
    LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DIM: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
    ACC: tl.constexpr,
):
    """g = sigmoid(conv7 of the pixels' mean and maximum) conv1 (c f): a product whose A is scaled on the fly.

    Reads f once, and writes g: memory bound. Grid: (tiles of all levels, blocks of N).
    """
    level, _, image, p = tile_of(starts, tl.program_id(0), levels, L, False, BLOCK_K, PIXELS)
    D, H, W, P = size_of(levels, level, L)
    C = channels_of(levels, level, L, ALIGN)
    pixel_ptr = pick(pixel_ptrs, level, L) + image.to(tl.int64) * 3 * P
    conv7_ptr = pick(conv7_ptrs, level, L)
    z, y, x = p // (H * W), p // W % H, p % W
    logit = tl.zeros([PIXELS], ACC)
    for row in tl.range(rows, num_stages=1):
        zz, yy = z + (row // 7 - 3 if DIM == 3 else 0), y + row % 7 - 3
        inside = (p < P) & (zz >= 0) & (zz < D) & (yy >= 0) & (yy < H)
        line = (zz * H + yy) * W + x
        for i in tl.static_range(7):
            mask = inside & (x + i >= 3) & (x + i < W + 3)
            weight_ptr = conv7_ptr + (row * 7 + i) * STRIDE_TAP
            logit += tl.load(weight_ptr).to(ACC) * tl.load(pixel_ptr + line + (i - 3), mask, other=0)
            weight = tl.load(weight_ptr + STRIDE_MAP).to(ACC)
            logit += weight * tl.load(pixel_ptr + P + line + (i - 3), mask, other=0)
    pixel_gate = sigmoid(logit)
    tl.store(pixel_ptr + 2 * P + p, pixel_gate, (p < P) & (tl.program_id(1) == 0))

    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    f_ptr = pick(f_ptrs, level, L) + image.to(tl.int64) * P * C
    gate_ptr = pick(channel_ptrs, level, L) + (image * 3 + 2) * C
    conv1_ptr = pick(conv1_ptrs, level, L)
    dtype: tl.constexpr = f_ptr.dtype.element_ty
    sums = tl.zeros([PIXELS, BLOCK_N], ACC)
    for first in tl.range(0, C, BLOCK_K, num_stages=STAGES):
        k = first + tl.arange(0, BLOCK_K)
        weight = tl.load(conv1_ptr + k[:, None] + n[None, :] * C, (k < C)[:, None] & (n < CO)[None, :], other=0)
        a = gated(f_ptr, gate_ptr, p, k, P, C, LAST, ACC).to(dtype)
        sums = add_product(a, weight.to(dtype), sums, PRECISION, ACC)
    g_ptr = pick(g_ptrs, level, L) + image.to(tl.int64) * P * CO
    tl.store(g_ptr + at(p, n, P, CO, LAST), sums * pixel_gate[:, None], (p < P)[:, None] & (n < CO)[None, :])
