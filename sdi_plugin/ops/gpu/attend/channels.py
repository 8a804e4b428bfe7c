"""The Triton kernels of the channels' gate: `pool_pixels`, `gate_channels`; backward `gate_gradients`, `mlp_backward`.

Names as in `levels.py`. HIDDEN: the MLP's hidden channels, at most, as a power of two.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.attend.levels import (
    CHANNELS,
    CHANNELS_BEFORE,
    HIDDEN_CHANNELS,
    PARTS,
    PARTS_BEFORE,
    at,
    before,
    channels_of,
    field,
    pixels_of,
    relu,
    sigmoid,
)
from sdi_plugin.ops.gpu.fields import pick, search


@triton.jit
def part_of(starts, program, levels, L: tl.constexpr, BLOCK_K: tl.constexpr):
    """The level of a program, its block of channels, its image, and its part of the pixels."""
    level, local = search(starts, program, L)
    blocks = tl.cdiv(field(levels, level, L, CHANNELS), BLOCK_K)
    parts = field(levels, level, L, PARTS)
    return level, local % blocks * BLOCK_K + tl.arange(0, BLOCK_K), local // blocks // parts, local // blocks % parts


@triton.jit(do_not_specialize=["images", "part"])
def pool_pixels(
    f_ptrs,  # L maps
    pooled_ptr,  # for each level, (B, PARTS, 2, C), in ACC: each part's sums and maxima
    images,
    part,  # pixels of a part
    starts,  # L: the first program of each level
    levels,  # L * FIELDS, see levels.py
    L: tl.constexpr,
    LAST: tl.constexpr,
    ALIGN: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ACC: tl.constexpr,
):
    """Sums and maxima over parts of the pixels. Reads f once: memory bound. Grid: (parts x blocks of all levels)."""
    level, k, image, index = part_of(starts, tl.program_id(0), levels, L, BLOCK_K)
    P = pixels_of(levels, level, L)
    C = channels_of(levels, level, L, ALIGN)
    f_ptr = pick(f_ptrs, level, L) + image.to(tl.int64) * P * C
    sums = tl.zeros([PIXELS, BLOCK_K], ACC)
    maxima = tl.full([PIXELS, BLOCK_K], float("-inf"), ACC)
    for start in tl.range(index * part, tl.minimum((index + 1) * part, P), PIXELS):
        p = start + tl.arange(0, PIXELS)
        mask = (p < P)[:, None] & (k < C)[None, :]
        x = tl.load(f_ptr + at(p, k, P, C, LAST), mask, other=0).to(ACC)
        sums += x
        maxima = tl.maximum(maxima, tl.where(mask, x, float("-inf")))
    pooled_ptr += before(levels, level, L, PARTS_BEFORE, images * 2, ALIGN)
    pooled_ptr += (image * field(levels, level, L, PARTS) + index).to(tl.int64) * (2 * C) + k
    tl.store(pooled_ptr, tl.sum(sums, 0), k < C)
    tl.store(pooled_ptr + C, tl.max(maxima, 0), k < C)


@triton.jit(do_not_specialize=["images"])
def gate_channels(
    pooled_ptr,  # what `pool_pixels` wrote
    fc1_ptrs,  # L weights (hidden, C)
    fc2_ptrs,  # L weights (C, hidden)
    channel_ptrs,  # L times (B, 3, C), in ACC: mean, maximum and gate
    images,
    levels,
    L: tl.constexpr,
    ALIGN: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ROWS: tl.constexpr,
    ACC: tl.constexpr,
):
    """gate = sigmoid(fc2 (relu(fc1 mean) + relu(fc1 maximum))). One program per level and image; latency bound."""
    level, image = tl.program_id(0) % L, tl.program_id(0) // L
    P = pixels_of(levels, level, L)
    C, hidden = channels_of(levels, level, L, ALIGN), field(levels, level, L, HIDDEN_CHANNELS)
    parts = field(levels, level, L, PARTS)
    fc1_ptr, fc2_ptr = pick(fc1_ptrs, level, L), pick(fc2_ptrs, level, L)
    channel_ptr = pick(channel_ptrs, level, L) + image.to(tl.int64) * 3 * C
    pooled_ptr += before(levels, level, L, PARTS_BEFORE, images * 2, ALIGN) + image.to(tl.int64) * parts * 2 * C
    h = tl.arange(0, HIDDEN)
    of_mean, of_maximum = tl.zeros([HIDDEN], ACC), tl.zeros([HIDDEN], ACC)
    for first in tl.range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        sums = tl.zeros([ROWS, BLOCK_K], ACC)
        maxima = tl.full([ROWS, BLOCK_K], float("-inf"), ACC)
        for start in tl.range(0, parts, ROWS):
            row = start + tl.arange(0, ROWS)
            mask = (row < parts)[:, None] & (k < C)[None, :]
            from_ptr = pooled_ptr + row[:, None] * (2 * C) + k[None, :]
            sums += tl.load(from_ptr, mask, other=0)
            maxima = tl.maximum(maxima, tl.load(from_ptr + C, mask, other=float("-inf")))
        mean, maximum = tl.sum(sums, 0) / P, tl.where(k < C, tl.max(maxima, 0), 0.0)
        tl.store(channel_ptr + k, mean, k < C)
        tl.store(channel_ptr + C + k, maximum, k < C)
        weight = tl.load(fc1_ptr + h[:, None] * C + k[None, :], (h < hidden)[:, None] & (k < C)[None, :], other=0)
        of_mean += tl.sum(weight.to(ACC) * mean[None, :], 1)
        of_maximum += tl.sum(weight.to(ACC) * maximum[None, :], 1)
    inner = relu(of_mean) + relu(of_maximum)
    for first in tl.range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        mask = (k < C)[:, None] & (h < hidden)[None, :]
        weight = tl.load(fc2_ptr + k[:, None] * hidden + h[None, :], mask, other=0)
        tl.store(channel_ptr + 2 * C + k, sigmoid(tl.sum(weight.to(ACC) * inner[None, :], 1)), k < C)


@triton.jit(do_not_specialize=["images"])
def gate_gradients(
    product_ptr,  # what `sum_pixels` wrote
    gate_sum_ptr,
    conv1_ptrs,  # L weights (CO, C)
    channel_ptrs,
    conv1_sum_ptr,  # for each level, (B, CO, C), in ACC: the gradient of conv1 for each image
    vector_ptr,  # for each level, (B, 3, C), in ACC: the gradient of the gate's logit, how many pixels equal the
    # maximum; the third row is `mlp_backward`'s
    images,
    starts,
    levels,
    L: tl.constexpr,
    ALIGN: tl.constexpr,
    CO: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ACC: tl.constexpr,
):
    """The sums over all parts, and what follows for conv1 and the gates. Grid: (images x blocks of all levels)."""
    level, local = search(starts, tl.program_id(0), L)
    C, parts = channels_of(levels, level, L, ALIGN), field(levels, level, L, PARTS)
    blocks = tl.cdiv(C, BLOCK_K)
    image = (local // blocks).to(tl.int64)
    k = local % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    product_ptr += before(levels, level, L, PARTS_BEFORE, images * CO, ALIGN) + image * parts * CO * C
    gate_sum_ptr += before(levels, level, L, PARTS_BEFORE, images * 2, ALIGN) + image * parts * 2 * C + k
    conv1_sum_ptr += before(levels, level, L, CHANNELS_BEFORE, images * CO, ALIGN) + image * CO * C
    vector_ptr += before(levels, level, L, CHANNELS_BEFORE, images * 3, ALIGN) + image * 3 * C + k
    conv1_ptr = pick(conv1_ptrs, level, L)
    gate = tl.load(pick(channel_ptrs, level, L) + (image * 3 + 2) * C + k, k < C, other=0)
    gradient, count = tl.zeros([BLOCK_K], ACC), tl.zeros([BLOCK_K], ACC)
    for part in tl.range(0, parts):
        gradient += tl.load(gate_sum_ptr + part * 2 * C, k < C, other=0)
        count += tl.load(gate_sum_ptr + (part * 2 + 1) * C, k < C, other=0)
    for first in tl.range(0, CO, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        where = n[:, None] * C + k[None, :]
        mask = (n < CO)[:, None] & (k < C)[None, :]
        total = tl.zeros([BLOCK_N, BLOCK_K], ACC)
        for start in tl.range(0, parts, 4, num_stages=1):
            for i in tl.static_range(4):  # loads in flight
                from_ptr = product_ptr + tl.cast(start + i, tl.int64) * CO * C + where
                total += tl.load(from_ptr, mask & (start + i < parts), other=0)
        gradient += tl.sum(total * tl.load(conv1_ptr + where, mask, other=0).to(ACC), 0)
        tl.store(conv1_sum_ptr + where, total * gate[None, :], mask)
    tl.store(vector_ptr, gradient * gate * (1 - gate), k < C)
    tl.store(vector_ptr + C, count, k < C)


@triton.jit(do_not_specialize=["images"])
def mlp_backward(
    vector_ptr,  # what `gate_gradients` wrote; the number becomes the gradient of each of the equal maxima, and the
    # third row is that of each pixel from the mean
    hidden_ptr,  # (B, L, 3, HIDDEN), in ACC: the gradients of fc1 mean and fc1 maximum, and what fc2 multiplies
    fc1_ptrs,
    fc2_ptrs,
    channel_ptrs,
    images,
    levels,
    L: tl.constexpr,
    ALIGN: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ACC: tl.constexpr,
):
    """The MLP backwards, from its logits to mean and maximum. Grid: as for `gate_channels`."""
    level, image = tl.program_id(0) % L, tl.program_id(0) // L
    P = pixels_of(levels, level, L)
    C, hidden = channels_of(levels, level, L, ALIGN), field(levels, level, L, HIDDEN_CHANNELS)
    fc1_ptr, fc2_ptr = pick(fc1_ptrs, level, L), pick(fc2_ptrs, level, L)
    channel_ptr = pick(channel_ptrs, level, L) + image.to(tl.int64) * 3 * C
    vector_ptr += before(levels, level, L, CHANNELS_BEFORE, images * 3, ALIGN) + image.to(tl.int64) * 3 * C
    h = tl.arange(0, HIDDEN)
    of_mean, of_maximum, gradient = tl.zeros([HIDDEN], ACC), tl.zeros([HIDDEN], ACC), tl.zeros([HIDDEN], ACC)
    for first in tl.range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        mask = (h < hidden)[:, None] & (k < C)[None, :]
        weight = tl.load(fc1_ptr + h[:, None] * C + k[None, :], mask, other=0).to(ACC)
        of_mean += tl.sum(weight * tl.load(channel_ptr + k, k < C, other=0)[None, :], 1)
        of_maximum += tl.sum(weight * tl.load(channel_ptr + C + k, k < C, other=0)[None, :], 1)
        weight = tl.load(fc2_ptr + k[None, :] * hidden + h[:, None], mask, other=0).to(ACC)
        gradient += tl.sum(weight * tl.load(vector_ptr + k, k < C, other=0)[None, :], 1)
    mean_gradient = tl.where(of_mean <= 0, 0.0, gradient)  # as torch's relu: a NaN is not hidden
    maximum_gradient = tl.where(of_maximum <= 0, 0.0, gradient)
    hidden_ptr += tl.program_id(0).to(tl.int64) * 3 * HIDDEN + h
    tl.store(hidden_ptr, mean_gradient)
    tl.store(hidden_ptr + HIDDEN, maximum_gradient)
    tl.store(hidden_ptr + 2 * HIDDEN, relu(of_mean) + relu(of_maximum))
    for first in tl.range(0, C, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        mask = (h < hidden)[:, None] & (k < C)[None, :]
        weight = tl.load(fc1_ptr + h[:, None] * C + k[None, :], mask, other=0).to(ACC)
        count = tl.load(vector_ptr + C + k, k < C, other=1)
        maximum = tl.sum(weight * maximum_gradient[:, None], 0) / tl.maximum(count, 1.0)  # none equals a NaN
        tl.store(vector_ptr + C + k, maximum, k < C)
        tl.store(vector_ptr + 2 * C + k, tl.sum(weight * mean_gradient[:, None], 0) / P, k < C)
