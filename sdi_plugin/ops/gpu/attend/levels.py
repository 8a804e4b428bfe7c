"""Where the integers of a level are in a tuple, and the addresses that follow from them.

Names: L levels, B images, C channels of a level, P its pixels, CO channels of the results. A map is (B, P, C) in
memory, or (B, C, P) unless LAST. Sums are in ACC (float32, or float64 for float64); none is atomic, and each has one
order.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl
from triton.language import constexpr

from sdi_plugin.ops.gpu.fields import number, search
from sdi_plugin.ops.gpu.rounding import to_tf32

DEPTH, HEIGHT, WIDTH = constexpr(0), constexpr(1), constexpr(2)
CHANNELS, HIDDEN_CHANNELS = constexpr(3), constexpr(4)
PARTS = constexpr(5)  # into which an image's pixels are divided for the sums over them
PIXELS_BEFORE, CHANNELS_BEFORE, PARTS_BEFORE = constexpr(6), constexpr(7), constexpr(8)  # of the levels before: sums of
# P, of C, and of PARTS times C
FIELDS = constexpr(9)


@triton.jit
def field(levels, level, L: tl.constexpr, FIELD: tl.constexpr):
    return number(levels, level, L, FIELDS, FIELD)


@triton.jit
def size_of(levels, level, L: tl.constexpr):
    """Planes, rows, columns, and their product."""
    D, H, W = field(levels, level, L, DEPTH), field(levels, level, L, HEIGHT), field(levels, level, L, WIDTH)
    return D, H, W, D * H * W


@triton.jit
def pixels_of(levels, level, L: tl.constexpr):
    return field(levels, level, L, DEPTH) * field(levels, level, L, HEIGHT) * field(levels, level, L, WIDTH)


@triton.jit
def channels_of(levels, level, L: tl.constexpr, ALIGN: tl.constexpr):
    """A multiple of ALIGN, which widens the loads. tl.multiple_of is lost where a function is inlined."""
    return field(levels, level, L, CHANNELS) // ALIGN * ALIGN


@triton.jit
def before(levels, level, L: tl.constexpr, FIELD: tl.constexpr, factor, ALIGN: tl.constexpr = 1):
    """Where a level begins in a workspace that has `factor` elements for each of what FIELD counts."""
    return (field(levels, level, L, FIELD) // ALIGN * ALIGN).to(tl.int64) * factor


@triton.jit
def at(p, c, P, C, LAST: tl.constexpr):
    """The elements of one image's map, [pixels, channels]."""
    if LAST:
        return p[:, None] * C + c[None, :]
    else:
        return p[:, None] + c[None, :] * P


@triton.jit
def tile_of(
    starts, program, levels, L: tl.constexpr, BLOCKS: tl.constexpr, BLOCK_K: tl.constexpr, PIXELS: tl.constexpr
):
    """The level of a program, its block of channels (with BLOCKS), its image and its pixels."""
    level, local = search(starts, program, L)
    block = local * 0
    if BLOCKS:
        blocks = tl.cdiv(field(levels, level, L, CHANNELS), BLOCK_K)
        block, local = local % blocks, local // blocks
    P = pixels_of(levels, level, L)
    tiles = tl.cdiv(P, PIXELS)
    return level, block, local // tiles, local % tiles * PIXELS + tl.arange(0, PIXELS)


@triton.jit
def relu(x):
    return tl.where(x < 0, 0.0, x)  # a NaN stays one, unlike in tl.maximum


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def add_product(a, b, sums, PRECISION: tl.constexpr, ACC: tl.constexpr):
    """sums + a b, for a and b of one dtype. Tensor cores would truncate to TF32: rounded here."""
    if PRECISION == "tf32":
        a, b = to_tf32(a), to_tf32(b)
    return tl.dot(a, b, sums, input_precision=PRECISION, out_dtype=ACC)
