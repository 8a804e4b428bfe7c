"""The Triton kernels `resize_adjoint_depth` and `resize_adjoint`: the gradients of what `resize` reads.

Names as in `resize.py`. Gathered, not scattered: every element is summed by one program, in one order.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.fields import ALIGNED, BASE_D, DEPTH, FIELDS, HEIGHT, PLANES, WIDTH, Z, number, pick, search
from sdi_plugin.ops.gpu.resize import positions
from sdi_plugin.ops.gpu.window import is_nested, linear_window, scale_of, weight_of, width_of, window_sum


@triton.jit(do_not_specialize=["images"])
def resize_adjoint_depth(
    grad_ptr,  # as in `resize_adjoint`
    out_ptr,  # for each entry, and each level, (B, the level's planes, H, W, C), in ACC
    images,
    starts,  # E * L: the first block of each job, entry by entry; only entries finer than the level have any
    levels,  # as in `resize_adjoint`
    offsets,  # E * L: where a job's result begins
    entries,
    L: tl.constexpr,
    E: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    NARROW: tl.constexpr,
    ACC: tl.constexpr,
):
    """In 3-D, the first step of the adjoint of an interpolation: along the depth. Grid: (blocks of all jobs, channels).

    Windows of a coarse level are large: three axes at once would be thousands of positions, one after the other.
    """
    job, block = search(starts, tl.program_id(0), E * L)
    entry, level = job // L, job % L
    TZ, TY = number(entries, entry, E, FIELDS, DEPTH), number(entries, entry, E, FIELDS, HEIGHT)
    area = TY * number(entries, entry, E, FIELDS, WIDTH)
    SZ = number(levels, level, L, 3, 0)
    planes = number(entries, entry, E, FIELDS, PLANES) + 2
    first = number(entries, entry, E, FIELDS, Z) - 1
    blocks = tl.cdiv(area, NARROW)
    z, image = block // blocks % SZ, (block // (blocks * SZ)).to(tl.int64)
    pixel = block % blocks * NARROW + tl.arange(0, NARROW)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    at = pixel[:, None] * C + c[None, :]
    mask = (pixel < area)[:, None] & (c < C)[None, :]
    base = number(entries, entry, E, FIELDS, BASE_D).to(tl.int64) * ALIGNED
    grad_ptr += base + (level * images + image) * planes * area * C
    scale = scale_of(SZ, TZ, ACC)
    window = linear_window(z, SZ, TZ, scale, True, ACC)
    begin = tl.maximum(window[0], tl.maximum(first, 0))
    end = tl.minimum(window[0] + width_of(SZ, TZ, True), tl.minimum(first + planes, TZ))
    sums = tl.zeros([NARROW, CHANNELS], ACC)
    for read in range(begin, end):
        weight = weight_of(window, read - window[0], z, SZ, TZ, scale, True, "linear", ACC)
        line_ptr = grad_ptr + tl.cast(read - first, tl.int64) * area * C
        used = (pixel < tl.where(weight != 0, area, 0))[:, None] & (c < C)[None, :]
        sums += weight * tl.load(line_ptr + at, used, other=0).to(ACC)
    out_ptr += number(offsets, job, E * L).to(tl.int64) * ALIGNED + (image * SZ + z) * area * C
    tl.store(out_ptr + at, sums, mask)


@triton.jit
def _adjoint(
    grad_ptr,
    depth_ptr,
    previous_ptr,
    out_ptr,
    block,
    images,
    entries,
    offsets,
    count,
    level,
    SZ,
    SY,
    SX,
    L: tl.constexpr,
    E: tl.constexpr,
    HALO: tl.constexpr,
    C: tl.constexpr,
    ADD: tl.constexpr,
    CHANNELS: tl.constexpr,
    KIND: tl.constexpr,
    PIXELS: tl.constexpr,
    ROWS: tl.constexpr,
    ACC: tl.constexpr,
):
    """KIND: "nested" if no entry is finer, and the level is a multiple of each; "pyramid" if that holds of the coarser
    entries, and the others are finer on no axis less than on another; or "any"."""
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    image, z, y, x, row, inside, out = positions(block, images, SZ, SY * SX, SX, PIXELS, ROWS)
    sums = tl.zeros([PIXELS * ROWS, CHANNELS], ACC)
    for entry in range(count):
        TZ, TY = number(entries, entry, E, FIELDS, DEPTH), number(entries, entry, E, FIELDS, HEIGHT)
        TX = number(entries, entry, E, FIELDS, WIDTH)
        planes = number(entries, entry, E, FIELDS, PLANES) + 2 * HALO
        first = number(entries, entry, E, FIELDS, Z) - HALO
        base = number(entries, entry, E, FIELDS, BASE_D).to(tl.int64) * ALIGNED
        source = grad_ptr + base + (level * images + image) * (planes * TY * TX) * C
        begin, end = tl.maximum(first, 0), tl.minimum(first + planes, TZ)
        if KIND == "pyramid":
            if is_nested(SZ, SY, SX, TZ, TY, TX):
                sums += window_sum(
                    source, z, y, x, row, c, inside & (row == 0), SZ, SY, SX, TZ, TY, TX, first, begin, end, C, True,
                    HALO, True, "nested", True, ROWS, ACC,
                )  # fmt: skip
            elif HALO:
                base = number(offsets, entry * L + level, E * L).to(tl.int64) * ALIGNED
                collapsed = depth_ptr + base + (image * SZ + z) * (TY * TX * C)
                sums += window_sum(
                    collapsed, 0, y, x, row, c, inside, 1, SY, SX, 1, TY, TX, 0, 0, 1, C, True, 0, True, "linear",
                    False, ROWS, ACC,
                )  # fmt: skip
            else:
                sums += window_sum(
                    source, z, y, x, row, c, inside, SZ, SY, SX, TZ, TY, TX, first, begin, end, C, True, HALO, True,
                    "linear", False, ROWS, ACC,
                )  # fmt: skip
        else:
            sums += window_sum(
                source, z, y, x, row, c, inside, SZ, SY, SX, TZ, TY, TX, first, begin, end, C, True, HALO, True, KIND,
                KIND == "nested", ROWS, ACC,
            )  # fmt: skip
    if ROWS > 1:
        sums = tl.sum(tl.reshape(sums, [PIXELS, ROWS, CHANNELS]), 1)
    mask = (out < SY * SX)[:, None] & (c < C)[None, :]
    at = (image * SZ + z) * (SY * SX * C) + out[:, None] * C + c[None, :]
    if ADD:
        sums += tl.load(previous_ptr + at, mask, other=0).to(ACC)
    tl.store(out_ptr + at, sums, mask)


@triton.jit(do_not_specialize=["images", "count"])
def resize_adjoint(
    grad_ptr,  # for each entry, the gradients of its L terms' maps: each (B, planes + 2 HALO, H, W, C)
    depth_ptr,  # what `resize_adjoint_depth` wrote
    previous_ptrs,  # L sums so far (B, D, H, W, C), with ADD
    out_ptrs,  # L results (B, D, H, W, C)
    images,
    count,  # E, at run time: the loop over the entries is not unrolled
    starts,  # L: the first block of each level
    levels,  # L * 3: their sizes
    kinds,  # L: 0 for "nested", 1 and 2 for "pyramid" with windows of few and many rows, or 3 for "any"
    offsets,  # as in `resize_adjoint_depth`
    entries,  # E * FIELDS
    L: tl.constexpr,
    E: tl.constexpr,
    HALO: tl.constexpr,
    C: tl.constexpr,
    ADD: tl.constexpr,
    CHANNELS: tl.constexpr,
    NARROW: tl.constexpr,
    FEW: tl.constexpr,
    PIXELS: tl.constexpr,
    ROWS: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradient of every level: the sum over all entries, gathered. Grid: as for `resize`, by level."""
    level, block = search(starts, tl.program_id(0), L)
    SZ, SY, SX = number(levels, level, L, 3, 0), number(levels, level, L, 3, 1), number(levels, level, L, 3, 2)
    out_ptr = pick(out_ptrs, level, L)
    if ADD:
        previous_ptr = pick(previous_ptrs, level, L)
    else:
        previous_ptr = out_ptr
    kind = number(kinds, level, L)
    if kind == 0:
        _adjoint(
            grad_ptr, depth_ptr, previous_ptr, out_ptr, block, images, entries, offsets, count, level, SZ, SY, SX, L, E,
            HALO, C, ADD, CHANNELS, "nested", NARROW, 1, ACC,
        )  # fmt: skip
    elif kind == 1:
        _adjoint(
            grad_ptr, depth_ptr, previous_ptr, out_ptr, block, images, entries, offsets, count, level, SZ, SY, SX, L, E,
            HALO, C, ADD, CHANNELS, "pyramid", FEW, 2, ACC,
        )  # fmt: skip
    elif kind == 2:
        _adjoint(
            grad_ptr, depth_ptr, previous_ptr, out_ptr, block, images, entries, offsets, count, level, SZ, SY, SX, L, E,
            HALO, C, ADD, CHANNELS, "pyramid", PIXELS, ROWS, ACC,
        )  # fmt: skip
    else:
        _adjoint(
            grad_ptr, depth_ptr, previous_ptr, out_ptr, block, images, entries, offsets, count, level, SZ, SY, SX, L, E,
            HALO, C, ADD, CHANNELS, "any", PIXELS, ROWS, ACC,
        )  # fmt: skip
