"""The Triton kernels of the pixels' gate backwards: `pixel_logits`, `smooth_backward`.

Names as in `levels.py`. conv7's adjoint is a sum of shifted loads, as conv7 in `pixels.py`.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.attend.levels import (
    CHANNELS,
    PIXELS_BEFORE,
    at,
    before,
    channels_of,
    field,
    pixels_of,
    size_of,
    tile_of,
)
from sdi_plugin.ops.gpu.attend.pixels import gated
from sdi_plugin.ops.gpu.fields import pick, search


@triton.jit(do_not_specialize=["images"])
def pixel_logits(
    f_ptrs,
    g_ptrs,
    g_grad_ptrs,  # L maps with CO channels, channels last if GRAD_LAST
    channel_ptrs,
    pixel_ptrs,
    logit_ptr,  # for each level, (B, 3, P), in ACC: the gradient of the gate's logit, how many channels equal the
    # maximum; the third row is `smooth_backward`'s
    images,
    starts,
    levels,
    L: tl.constexpr,
    CO: tl.constexpr,
    LAST: tl.constexpr,
    GRAD_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ACC: tl.constexpr,
):
    """(1 - gate) <g, its gradient>, and how many channels equal the maximum. Reads f: memory bound.

    Grid: (tiles of all levels).
    """
    level, _, image, p = tile_of(starts, tl.program_id(0), levels, L, False, BLOCK_K, PIXELS)
    P = pixels_of(levels, level, L)
    C = channels_of(levels, level, L, ALIGN)
    image = image.to(tl.int64)
    pixel_ptr = pick(pixel_ptrs, level, L) + image * 3 * P + p
    g_ptr, g_grad_ptr = pick(g_ptrs, level, L) + image * P * CO, pick(g_grad_ptrs, level, L) + image * P * CO
    sums = tl.zeros([PIXELS], ACC)
    for first in tl.range(0, CO, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        mask = (p < P)[:, None] & (n < CO)[None, :]
        g = tl.load(g_ptr + at(p, n, P, CO, LAST), mask, other=0).to(ACC)
        sums += tl.sum(g * tl.load(g_grad_ptr + at(p, n, P, CO, GRAD_LAST), mask, other=0).to(ACC), 1)
    f_ptr = pick(f_ptrs, level, L) + image * P * C
    gate_ptr = pick(channel_ptrs, level, L) + (image * 3 + 2) * C
    maximum = tl.load(pixel_ptr + P, p < P, other=0)
    count = tl.zeros([PIXELS], ACC)
    for first in tl.range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        is_maximum = (gated(f_ptr, gate_ptr, p, k, P, C, LAST, ACC) == maximum[:, None]) & (k < C)[None, :]
        count += tl.sum(is_maximum.to(ACC), 1)
    logit_ptr += before(levels, level, L, PIXELS_BEFORE, images * 3) + image * 3 * P + p
    tl.store(logit_ptr, (1 - tl.load(pixel_ptr + 2 * P, p < P, other=0)) * sums, p < P)
    tl.store(logit_ptr + P, count, p < P)


@triton.jit
def _map_gradients(
    program,
    conv7_ptrs,
    logit_ptr,
    images,
    rows,
    starts,
    levels,
    L: tl.constexpr,
    STRIDE_MAP: tl.constexpr,
    STRIDE_TAP: tl.constexpr,
    PIXELS: tl.constexpr,
    DIM: tl.constexpr,
    ACC: tl.constexpr,
):
    """What each channel gets from the mean, and each of the equal maxima from the maximum: the adjoint of conv7."""
    level, _, image, p = tile_of(starts, program, levels, L, False, 1, PIXELS)
    D, H, W, P = size_of(levels, level, L)
    logit_ptr += before(levels, level, L, PIXELS_BEFORE, images * 3) + image.to(tl.int64) * 3 * P
    conv7_ptr = pick(conv7_ptrs, level, L)
    z, y, x = p // (H * W), p // W % H, p % W
    mean, maximum = tl.zeros([PIXELS], ACC), tl.zeros([PIXELS], ACC)
    for row in tl.range(rows, num_stages=1):
        zz, yy = z - (row // 7 - 3 if DIM == 3 else 0), y - row % 7 + 3
        inside = (p < P) & (zz >= 0) & (zz < D) & (yy >= 0) & (yy < H)
        line = (zz * H + yy) * W + x
        for i in tl.static_range(7):
            mask = inside & (x - i >= -3) & (x - i < W - 3)
            value = tl.load(logit_ptr + line + (3 - i), mask, other=0)
            weight_ptr = conv7_ptr + (row * 7 + i) * STRIDE_TAP
            mean += tl.load(weight_ptr).to(ACC) * value
            maximum += tl.load(weight_ptr + STRIDE_MAP).to(ACC) * value
    logit_ptr += p
    count = tl.load(logit_ptr + P, p < P, other=1)
    tl.store(logit_ptr + P, maximum / tl.maximum(count, 1.0), p < P)  # none equals a NaN
    tl.store(logit_ptr + 2 * P, mean / field(levels, level, L, CHANNELS), p < P)


@triton.jit
def _conv7_gradient(
    program,
    pixel_ptrs,
    logit_ptr,
    part_ptr,
    images,
    rows,
    part,
    starts,
    levels,
    L: tl.constexpr,
    TAPS: tl.constexpr,
    PIXELS: tl.constexpr,
    DIM: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradient of TAPS taps of conv7 for one of its two maps, summed over one part of an image's pixels."""
    level, local = search(starts, program, L)
    D, H, W, P = size_of(levels, level, L)
    taps = rows * 7
    blocks = tl.cdiv(taps, TAPS)
    block, which, parts = local % blocks, local // blocks % 2, tl.cdiv(P, part)
    index = local // (2 * blocks)
    image, first = (index // parts).to(tl.int64), index % parts * part
    map_ptr = pick(pixel_ptrs, level, L) + (image * 3 + which) * P
    logit_ptr += before(levels, level, L, PIXELS_BEFORE, images * 3) + image * 3 * P
    tap = block * TAPS + tl.arange(0, TAPS)
    dz, dy, dx = (tap // 49 - 3 if DIM == 3 else tap * 0)[:, None], (tap // 7 % 7 - 3)[:, None], (tap % 7 - 3)[:, None]
    sums = tl.zeros([TAPS, PIXELS], ACC)
    for start in tl.range(first, tl.minimum(first + part, P), PIXELS):
        p = start + tl.arange(0, PIXELS)
        zz, yy, xx = (p // (H * W))[None, :] + dz, (p // W % H)[None, :] + dy, (p % W)[None, :] + dx
        inside = (zz >= 0) & (zz < D) & (yy >= 0) & (yy < H) & (xx >= 0) & (xx < W) & (p < P)[None, :]
        value = tl.load(map_ptr + (zz * H + yy) * W + xx, inside, other=0)
        sums += value * tl.load(logit_ptr + p, p < P, other=0)[None, :]
    # The programs of a level's part write one row of it: (parts of all levels and images, 2, taps).
    row = (program - block - which * blocks) // (2 * blocks)
    part_ptr += (row * 2 + which).to(tl.int64) * taps + tap
    tl.store(part_ptr, tl.sum(sums, 1), tap < taps)


@triton.jit(do_not_specialize=["images", "rows", "split", "part"])
def smooth_backward(
    conv7_ptrs,
    pixel_ptrs,
    logit_ptr,  # what `pixel_logits` wrote; the number becomes the gradient of each of the equal maxima, and the third
    # row is that of each channel from the mean
    part_ptr,  # (parts of all levels and images, 2, taps), in ACC: the gradients of conv7
    images,
    rows,
    split,  # programs for the maps; the others are for conv7
    part,  # pixels of a part
    map_starts,  # L: the first program of each level
    weight_starts,
    levels,
    L: tl.constexpr,
    STRIDE_MAP: tl.constexpr,
    STRIDE_TAP: tl.constexpr,
    TAPS: tl.constexpr,
    PIXELS: tl.constexpr,
    STEP: tl.constexpr,
    DIM: tl.constexpr,
    ACC: tl.constexpr,
):
    """conv7 backwards, from the logits to mean and maximum, and to its weights: in one launch, as both read the logits.

    Grid: (programs of both).
    """
    program = tl.program_id(0)
    if program < split:
        _map_gradients(
            program,
            conv7_ptrs,
            logit_ptr,
            images,
            rows,
            map_starts,
            levels,
            L,
            STRIDE_MAP,
            STRIDE_TAP,
            PIXELS,
            DIM,
            ACC,
        )
    else:
        _conv7_gradient(
            program - split, pixel_ptrs, logit_ptr, part_ptr, images, rows, part, weight_starts, levels, L, TAPS, STEP,
            DIM, ACC,
        )  # fmt: skip
