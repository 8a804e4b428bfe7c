"""The Triton kernels `sum_pixels`, backward's sums over the pixels, and `attend_gradients`, the gradients themselves.

Names as in `levels.py`.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.attend.channels import part_of
from sdi_plugin.ops.gpu.attend.levels import (
    CHANNELS_BEFORE,
    HIDDEN_CHANNELS,
    PARTS,
    PARTS_BEFORE,
    PIXELS_BEFORE,
    add_product,
    at,
    before,
    channels_of,
    field,
    pixels_of,
    tile_of,
)
from sdi_plugin.ops.gpu.fields import number, pick, search


@triton.jit(do_not_specialize=["images", "part"])
def sum_pixels(
    f_ptrs,  # L maps
    g_grad_ptrs,  # L maps with CO channels, channels last if GRAD_LAST
    channel_ptrs,  # L times (B, 3, C), in ACC: mean, maximum and gate
    pixel_ptrs,  # L times (B, 3, P), in ACC: the same of the pixels
    logit_ptr,  # what `smooth_backward` wrote
    product_ptr,  # for each level, (B, PARTS, CO, C), in ACC: each part's sums of gate g_grad f^T
    gate_sum_ptr,  # for each level, (B, PARTS, 2, C), in ACC: those of q f, and how many pixels equal the maximum
    images,
    part,  # pixels of a part
    starts,  # L: the first program of each level
    levels,  # L * FIELDS, see levels.py
    L: tl.constexpr,
    CO: tl.constexpr,
    LAST: tl.constexpr,
    GRAD_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
    ACC: tl.constexpr,
):
    """The sums over parts of the pixels from which the gradients of conv1 and of the channels' gate follow.

    q: what mean and maximum over the channels give to each. Reads f once: memory bound. Grid: (parts x blocks of all
    levels, blocks of N).
    """
    level, k, image, index = part_of(starts, tl.program_id(0), levels, L, BLOCK_K)
    P = pixels_of(levels, level, L)
    C = channels_of(levels, level, L, ALIGN)
    image = image.to(tl.int64)
    f_ptr, g_grad_ptr = pick(f_ptrs, level, L) + image * P * C, pick(g_grad_ptrs, level, L) + image * P * CO
    pixel_ptr = pick(pixel_ptrs, level, L) + image * 3 * P
    logit_ptr += before(levels, level, L, PIXELS_BEFORE, images * 3) + image * 3 * P
    channel_ptr = pick(channel_ptrs, level, L) + image * 3 * C + k
    maximum, gate = tl.load(channel_ptr + C, k < C, other=0), tl.load(channel_ptr + 2 * C, k < C, other=0)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    dtype: tl.constexpr = f_ptr.dtype.element_ty
    products = tl.zeros([BLOCK_K, BLOCK_N], ACC)
    sums, counts = tl.zeros([PIXELS, BLOCK_K], ACC), tl.zeros([PIXELS, BLOCK_K], ACC)
    for start in tl.range(index * part, tl.minimum((index + 1) * part, P), PIXELS, num_stages=STAGES):
        p = start + tl.arange(0, PIXELS)
        mask = (p < P)[:, None] & (k < C)[None, :]
        f = tl.load(f_ptr + at(p, k, P, C, LAST), mask, other=0)
        g_grad = tl.load(g_grad_ptr + at(p, n, P, CO, GRAD_LAST), (p < P)[:, None] & (n < CO)[None, :], other=0).to(ACC)
        pixel_gate = tl.load(pixel_ptr + 2 * P + p, p < P, other=0)
        products = add_product(f.T, (g_grad * pixel_gate[:, None]).to(dtype), products, PRECISION, ACC)
        x = f.to(ACC)
        is_maximum = x * gate[None, :] == tl.load(pixel_ptr + P + p, p < P, other=0)[:, None]
        q = tl.where(is_maximum, tl.load(logit_ptr + P + p, p < P, other=0)[:, None], 0.0)
        sums += (q + tl.load(logit_ptr + 2 * P + p, p < P, other=0)[:, None]) * x
        counts += ((x == maximum[None, :]) & mask).to(ACC)
    row = image * field(levels, level, L, PARTS) + index
    product_ptr += before(levels, level, L, PARTS_BEFORE, images * CO, ALIGN) + row * CO * C
    tl.store(product_ptr + k[:, None] + n[None, :] * C, products, (k < C)[:, None] & (n < CO)[None, :])
    gate_sum_ptr += before(levels, level, L, PARTS_BEFORE, images * 2, ALIGN) + row * 2 * C + k
    is_first = (k < C) & (tl.program_id(1) == 0)
    tl.store(gate_sum_ptr, tl.sum(sums, 0), is_first)
    tl.store(gate_sum_ptr + C, tl.sum(counts, 0), is_first)


@triton.jit
def _map_gradient(
    program,
    f_ptrs,
    g_grad_ptrs,
    conv1_ptrs,
    channel_ptrs,
    pixel_ptrs,
    logit_ptr,
    vector_ptr,
    f_grad_ptrs,
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
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradient of f on a tile: c (s conv1^T g_grad + q), and those of its mean and of its maximum."""
    level, block, image, p = tile_of(starts, program, levels, L, True, BLOCK_K, PIXELS)
    P = pixels_of(levels, level, L)
    C = channels_of(levels, level, L, ALIGN)
    image = image.to(tl.int64)
    k = block * BLOCK_K + tl.arange(0, BLOCK_K)
    f_ptr, g_grad_ptr = pick(f_ptrs, level, L) + image * P * C, pick(g_grad_ptrs, level, L) + image * P * CO
    conv1_ptr = pick(conv1_ptrs, level, L)
    dtype: tl.constexpr = f_ptr.dtype.element_ty
    gradient = tl.zeros([PIXELS, BLOCK_K], ACC)
    for first in tl.range(0, CO, BLOCK_N, num_stages=STAGES):
        n = first + tl.arange(0, BLOCK_N)
        g_grad = tl.load(g_grad_ptr + at(p, n, P, CO, GRAD_LAST), (p < P)[:, None] & (n < CO)[None, :], other=0)
        weight = tl.load(conv1_ptr + n[:, None] * C + k[None, :], (n < CO)[:, None] & (k < C)[None, :], other=0)
        gradient = add_product(g_grad.to(dtype), weight.to(dtype), gradient, PRECISION, ACC)
    pixel_ptr = pick(pixel_ptrs, level, L) + image * 3 * P + p
    logit_ptr += before(levels, level, L, PIXELS_BEFORE, images * 3) + image * 3 * P + p
    channel_ptr = pick(channel_ptrs, level, L) + image * 3 * C + k
    vector_ptr += before(levels, level, L, CHANNELS_BEFORE, images * 3, ALIGN) + image * 3 * C + k
    mask = (p < P)[:, None] & (k < C)[None, :]
    f = tl.load(f_ptr + at(p, k, P, C, LAST), mask, other=0).to(ACC)
    gate = tl.load(channel_ptr + 2 * C, k < C, other=0)[None, :]
    gradient *= tl.load(pixel_ptr + 2 * P, p < P, other=0)[:, None]
    gradient += tl.load(logit_ptr + 2 * P, p < P, other=0)[:, None]
    is_maximum = f * gate == tl.load(pixel_ptr + P, p < P, other=0)[:, None]
    gradient += tl.where(is_maximum, tl.load(logit_ptr + P, p < P, other=0)[:, None], 0.0)
    gradient = gradient * gate + tl.load(vector_ptr + 2 * C, k < C, other=0)[None, :]
    is_maximum = f == tl.load(channel_ptr + C, k < C, other=0)[None, :]
    gradient += tl.where(is_maximum, tl.load(vector_ptr + C, k < C, other=0)[None, :], 0.0)
    tl.store(pick(f_grad_ptrs, level, L) + image * P * C + at(p, k, P, C, LAST), gradient, mask)


@triton.jit
def _weight_gradients(
    program,
    channel_ptrs,
    vector_ptr,
    hidden_ptr,
    conv1_sum_ptr,
    fc1_grad_ptrs,
    fc2_grad_ptrs,
    conv1_grad_ptrs,
    images,
    starts,
    levels,
    L: tl.constexpr,
    CO: tl.constexpr,
    ALIGN: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradients of fc1, fc2 and conv1, summed over the images, for a block of channels."""
    level, block = search(starts, program, L)
    C, hidden = channels_of(levels, level, L, ALIGN), field(levels, level, L, HIDDEN_CHANNELS)
    k, h = block * BLOCK_K + tl.arange(0, BLOCK_K), tl.arange(0, HIDDEN)
    channel_ptr = pick(channel_ptrs, level, L) + k
    vector_ptr += before(levels, level, L, CHANNELS_BEFORE, images * 3, ALIGN) + k
    hidden_ptr += level * 3 * HIDDEN + h
    fc1, fc2 = tl.zeros([HIDDEN, BLOCK_K], ACC), tl.zeros([HIDDEN, BLOCK_K], ACC)
    for image in tl.range(images, num_stages=1):
        step = tl.cast(image, tl.int64) * 3 * C
        inner_ptr = hidden_ptr + tl.cast(image, tl.int64) * (L * 3 * HIDDEN)
        mean, maximum = tl.load(channel_ptr + step, k < C, other=0), tl.load(channel_ptr + step + C, k < C, other=0)
        fc1 += tl.load(inner_ptr)[:, None] * mean[None, :] + tl.load(inner_ptr + HIDDEN)[:, None] * maximum[None, :]
        logit = tl.load(vector_ptr + step, k < C, other=0)
        fc2 += tl.load(inner_ptr + 2 * HIDDEN)[:, None] * logit[None, :]
    mask = (h < hidden)[:, None] & (k < C)[None, :]
    tl.store(pick(fc1_grad_ptrs, level, L) + h[:, None] * C + k[None, :], fc1, mask)
    tl.store(pick(fc2_grad_ptrs, level, L) + k[None, :] * hidden + h[:, None], fc2, mask)
    conv1_sum_ptr += before(levels, level, L, CHANNELS_BEFORE, images * CO, ALIGN)
    for first in tl.range(0, CO, BLOCK_N, num_stages=1):
        n = first + tl.arange(0, BLOCK_N)
        where = n[:, None] * C + k[None, :]
        mask = (n < CO)[:, None] & (k < C)[None, :]
        total = tl.zeros([BLOCK_N, BLOCK_K], ACC)
        for image in tl.range(images, num_stages=1):
            total += tl.load(conv1_sum_ptr + tl.cast(image, tl.int64) * CO * C + where, mask, other=0)
        tl.store(pick(conv1_grad_ptrs, level, L) + where, total, mask)


@triton.jit
def _conv7_gradient(
    program,
    part_ptr,
    conv7_grad_ptrs,
    rows,
    parts,
    L: tl.constexpr,
    STRIDE_MAP: tl.constexpr,
    STRIDE_TAP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradient of BLOCK weights of conv7, summed over all parts of all images."""
    taps = rows * 7
    blocks = tl.cdiv(2 * taps, BLOCK)
    level, column = program // blocks, program % blocks * BLOCK + tl.arange(0, BLOCK)
    first, last = number(parts, level, L, 2, 0), number(parts, level, L, 2, 1)
    total = tl.zeros([ROWS, BLOCK], ACC)
    for start in tl.range(first, last, ROWS, num_stages=1):
        row = start + tl.arange(0, ROWS)
        mask = (row < last)[:, None] & (column < 2 * taps)[None, :]
        total += tl.load(part_ptr + row.to(tl.int64)[:, None] * (2 * taps) + column[None, :], mask, other=0)
    where = column // taps * STRIDE_MAP + column % taps * STRIDE_TAP
    tl.store(pick(conv7_grad_ptrs, level, L) + where, tl.sum(total, 0), column < 2 * taps)


@triton.jit(do_not_specialize=["images", "rows", "split", "second_split"])
def attend_gradients(
    f_ptrs,  # as in `sum_pixels`
    g_grad_ptrs,
    conv1_ptrs,  # L weights (CO, C)
    channel_ptrs,
    pixel_ptrs,
    logit_ptr,
    vector_ptr,  # what `mlp_backward` wrote
    hidden_ptr,
    conv1_sum_ptr,  # what `gate_gradients` wrote
    part_ptr,  # what `smooth_backward` wrote
    f_grad_ptrs,  # L results, as f
    fc1_grad_ptrs,  # L results (hidden, C)
    fc2_grad_ptrs,  # L results (C, hidden)
    conv7_grad_ptrs,  # L results (2, taps), by the strides below
    conv1_grad_ptrs,  # L results (CO, C)
    images,
    rows,
    split,  # programs for the maps, and
    second_split,  # with those for fc1, fc2 and conv1; the others are for conv7
    map_starts,  # L: the first program of each level
    weight_starts,
    parts,  # for each level, the first part of conv7's gradient, and the one after its last
    levels,
    L: tl.constexpr,
    CO: tl.constexpr,
    STRIDE_MAP: tl.constexpr,
    STRIDE_TAP: tl.constexpr,
    LAST: tl.constexpr,
    GRAD_LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    HIDDEN: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradients of all inputs. That of f reads f once, and is written once: memory bound.

    Independent of each other, in one launch. Grid: (programs of all).
    """
    program = tl.program_id(0)
    if program < split:
        _map_gradient(
            program, f_ptrs, g_grad_ptrs, conv1_ptrs, channel_ptrs, pixel_ptrs, logit_ptr, vector_ptr, f_grad_ptrs,
            images, map_starts, levels, L, CO, LAST, GRAD_LAST, ALIGN, PIXELS, BLOCK_K, BLOCK_N, PRECISION, STAGES, ACC,
        )  # fmt: skip
    elif program < second_split:
        _weight_gradients(
            program - split, channel_ptrs, vector_ptr, hidden_ptr, conv1_sum_ptr, fc1_grad_ptrs, fc2_grad_ptrs,
            conv1_grad_ptrs, images, weight_starts, levels, L, CO, ALIGN, HIDDEN, BLOCK_K, BLOCK_N, ACC,
        )  # fmt: skip
    else:
        _conv7_gradient(
            program - second_split, part_ptr, conv7_grad_ptrs, rows, parts, L, STRIDE_MAP, STRIDE_TAP, ROWS, BLOCK, ACC
        )
