"""The Triton kernel `resize`.

Names: L levels, E entries (a target level, or a slab of its planes), B images, C channels, which are adjacent in memory
but in the caller's contiguous maps. What a position is made from follows from the sizes alone: there are no tables.
Sums are in ACC (float32, or float64 for float64). Every element is summed by one program, in one order.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.fields import (
    ALIGNED,
    BASE_X,
    DEPTH,
    FIELDS,
    HEIGHT,
    OWN,
    PLANES,
    WIDTH,
    Z,
    number,
    pick,
    search,
)
from sdi_plugin.ops.gpu.rounding import to_tf32
from sdi_plugin.ops.gpu.window import is_linear, is_nested, window_sum


@triton.jit
def positions(block, images, planes, area, W, PIXELS: tl.constexpr, ROWS: tl.constexpr):
    """A block's image and plane, and its pixels in the plane, each with ROWS rows of its window."""
    blocks = tl.cdiv(area, PIXELS)
    image = block // (blocks * planes)
    plane = block // blocks % planes
    m = tl.arange(0, PIXELS * ROWS)
    pixel = block % blocks * PIXELS + m // ROWS
    out = block % blocks * PIXELS + tl.arange(0, PIXELS)
    return image.to(tl.int64), plane, pixel // W, pixel % W, m % ROWS, pixel < area, out


@triton.jit
def _resize(
    x_ptr,
    out_ptr,
    block,
    images,
    first,
    planes,
    SZ,
    SY,
    SX,
    TZ,
    TY,
    TX,
    C: tl.constexpr,
    LAST: tl.constexpr,
    HALO: tl.constexpr,
    CHANNELS: tl.constexpr,
    KIND: tl.constexpr,
    IS_NARROW: tl.constexpr,
    PIXELS: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    image, plane, y, x, row, inside, out = positions(block, images, planes, TY * TX, TX, PIXELS, ROWS)
    z = plane + first
    if (z >= 0) & (z < TZ):
        c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
        sums = window_sum(
            x_ptr + image * (SZ * SY * SX) * C, z, y, x, row, c, inside, SZ, SY, SX, TZ, TY, TX, 0, 0, SZ, C, LAST,
            HALO, False, KIND, IS_NARROW, ROWS, ACC,
        )  # fmt: skip
        if ROWS > 1:
            sums = tl.sum(tl.reshape(sums, [PIXELS, ROWS, CHANNELS]), 1)
        if PRECISION == "tf32":
            sums = to_tf32(sums)
        out_ptr += (image * planes + plane) * (TY * TX * C)
        tl.store(out_ptr + out[:, None] * C + c[None, :], sums, (out < TY * TX)[:, None] & (c < C)[None, :])


@triton.jit(do_not_specialize=["images"])
def resize(
    x_ptrs,  # L maps (B, D, H, W, C), or (B, C, D, H, W) unless LAST
    out_ptr,  # for each entry, its terms' maps but the one that is read in place: each (B, planes + 2 HALO, H, W, C)
    images,
    starts,  # E * L: the first block of each job, entry by entry
    levels,  # L * 3: their sizes
    entries,  # E * FIELDS, see fields.py
    L: tl.constexpr,
    E: tl.constexpr,
    HALO: tl.constexpr,
    C: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    NARROW: tl.constexpr,
    PIXELS: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    """Every level at the size of every entry, rounded to what a product of PRECISION takes.

    Grid: (blocks of all jobs, blocks of CHANNELS). A block has NARROW pixels where no window is wider than two,
    otherwise PIXELS, of whose windows ROWS rows are summed in parallel.
    """
    job, block = search(starts, tl.program_id(0), E * L)
    entry, level = job // L, job % L
    own, planes = number(entries, entry, E, FIELDS, OWN), number(entries, entry, E, FIELDS, PLANES) + 2 * HALO
    TZ, TY = number(entries, entry, E, FIELDS, DEPTH), number(entries, entry, E, FIELDS, HEIGHT)
    TX = number(entries, entry, E, FIELDS, WIDTH)
    SZ, SY, SX = number(levels, level, L, 3, 0), number(levels, level, L, 3, 1), number(levels, level, L, 3, 2)
    first = number(entries, entry, E, FIELDS, Z) - HALO
    slot = level - ((own >= 0) & (level > own)).to(tl.int32)
    base = number(entries, entry, E, FIELDS, BASE_X).to(tl.int64) * ALIGNED
    out_ptr += base + slot.to(tl.int64) * images * (planes * TY * TX * C)
    x_ptr = pick(x_ptrs, level, L)
    if is_linear(SZ, SY, SX, TZ, TY, TX):
        _resize(
            x_ptr, out_ptr, block, images, first, planes, SZ, SY, SX, TZ, TY, TX, C, LAST, HALO, CHANNELS, "linear",
            True, NARROW, 1, PRECISION, ACC,
        )  # fmt: skip
    elif is_nested(SZ, SY, SX, TZ, TY, TX) & (SZ <= 2 * TZ) & (SY <= 2 * TY) & (SX <= 2 * TX):
        _resize(
            x_ptr, out_ptr, block, images, first, planes, SZ, SY, SX, TZ, TY, TX, C, LAST, HALO, CHANNELS, "nested",
            True, NARROW, 1, PRECISION, ACC,
        )  # fmt: skip
    elif is_nested(SZ, SY, SX, TZ, TY, TX):
        _resize(
            x_ptr, out_ptr, block, images, first, planes, SZ, SY, SX, TZ, TY, TX, C, LAST, HALO, CHANNELS, "nested",
            False, PIXELS, ROWS, PRECISION, ACC,
        )  # fmt: skip
    else:
        _resize(
            x_ptr, out_ptr, block, images, first, planes, SZ, SY, SX, TZ, TY, TX, C, LAST, HALO, CHANNELS, "any",
            False, PIXELS, ROWS, PRECISION, ACC,
        )  # fmt: skip
