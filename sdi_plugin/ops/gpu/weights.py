"""The Triton kernels `pack`, which lays the weights out for the products, and `reduce`, which sums their gradients.

Names as in `resize.py`. TERMS: one convolution for each target and level.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.fields import number, pick
from sdi_plugin.ops.gpu.rounding import to_tf32


@triton.jit
def pack(
    weight_ptrs,  # TERMS weights (CO, C, taps), by the strides below
    bias_ptrs,  # TERMS biases (CO,)
    kernel_ptr,  # (TERMS, TAPS, K, N): zero beyond C and CO
    packed_bias_ptr,  # (TERMS, N), in the accumulator's dtype
    TERMS: tl.constexpr,
    TAPS: tl.constexpr,
    C: tl.constexpr,
    CO: tl.constexpr,
    STRIDE_O: tl.constexpr,
    STRIDE_I: tl.constexpr,
    STRIDE_TAP: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The convolutions of all terms, as the matrices that a tap multiplies with. Grid: (TERMS, TAPS, N / BLOCK)."""
    term, tap = tl.program_id(0), tl.program_id(1)
    o = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    weight_ptr, bias_ptr = pick(weight_ptrs, term, TERMS), pick(bias_ptrs, term, TERMS)
    for first in range(0, K, BLOCK):
        i = first + tl.arange(0, BLOCK)
        at = i[:, None] * STRIDE_I + o[None, :] * STRIDE_O + tap * STRIDE_TAP
        value = tl.load(weight_ptr + at, (i < C)[:, None] & (o < CO)[None, :], other=0)
        if PRECISION == "tf32":
            value = to_tf32(value.to(tl.float32))
        out = ((term * TAPS + tap) * K + i)[:, None] * N + o[None, :]
        tl.store(kernel_ptr + out, value, (i < K)[:, None] & (o < N)[None, :])
    if tap == 0:
        tl.store(packed_bias_ptr + term * N + o, tl.load(bias_ptr + o, o < CO, other=0), o < N)


@triton.jit
def reduce(
    part_ptr,  # (parts, L, taps, K, N), what `gradients` wrote
    sum_ptr,  # (tiles, L, N), what `multiply_backward` wrote
    weight_grad_ptrs,  # TERMS results (CO, C, taps), by the strides below
    bias_grad_ptrs,  # TERMS results (CO,)
    parts,  # for each target, its first part and the one after its last
    tiles,  # for each target, its first tile and the one after its last
    L: tl.constexpr,
    TARGETS: tl.constexpr,
    TAPS: tl.constexpr,
    C: tl.constexpr,
    CO: tl.constexpr,
    STRIDE_O: tl.constexpr,
    STRIDE_I: tl.constexpr,
    STRIDE_TAP: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ROWS: tl.constexpr,
    ACC: tl.constexpr,
):
    """The sums over all parts, and over all tiles. Grid: (TARGETS * L, TAPS + 1, blocks of K and N)."""
    term, tap = tl.program_id(0), tl.program_id(1)
    target, j = term // L, term % L
    n = tl.program_id(2) % (N // BLOCK_N) * BLOCK_N + tl.arange(0, BLOCK_N)
    if tap < TAPS:
        first, last = number(parts, target, TARGETS, 2, 0), number(parts, target, TARGETS, 2, 1)
        k = tl.program_id(2) // (N // BLOCK_N) * BLOCK_K + tl.arange(0, BLOCK_K)
        total = tl.zeros([BLOCK_K, BLOCK_N], ACC)
        part_ptr += (j * TAPS + tap) * K * N
        at = part_ptr + k[:, None] * N + n[None, :]
        for start in tl.range(first, last, 8, num_stages=1):
            for i in tl.static_range(8):  # loads in flight
                part = tl.cast(start + i, tl.int64)
                total += tl.load(at + part * (L * TAPS * K * N), (k < K)[:, None] & (part < last), other=0)
        out_ptr = pick(weight_grad_ptrs, term, TARGETS * L)
        at = k[:, None] * STRIDE_I + n[None, :] * STRIDE_O + tap * STRIDE_TAP
        tl.store(out_ptr + at, total, (k < C)[:, None] & (n < CO)[None, :])
    elif tl.program_id(2) < N // BLOCK_N:
        first, last = number(tiles, target, TARGETS, 2, 0), number(tiles, target, TARGETS, 2, 1)
        total = tl.zeros([ROWS, BLOCK_N], ACC)
        for start in tl.range(first, last, ROWS, num_stages=1):
            row = start + tl.arange(0, ROWS)
            at = row.to(tl.int64)[:, None] * (L * N) + j * N + n[None, :]
            total += tl.load(sum_ptr + at, (row < last)[:, None], other=0)
        tl.store(pick(bias_grad_ptrs, term, TARGETS * L) + n, tl.sum(total, 0), n < CO)
