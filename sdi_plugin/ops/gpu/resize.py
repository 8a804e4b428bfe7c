"""The Triton kernels `resize` and its adjoint.

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
    BASE_D,
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


@triton.jit
def to_tf32(x):
    """Rounded to nearest even, as cuDNN rounds: tensor cores truncate."""
    bits = x.to(tl.int32, bitcast=True)
    rounded = (bits + 0x0FFF + ((bits >> 13) & 1)) & -0x2000
    return tl.where(x == x, rounded.to(tl.float32, bitcast=True), x)


@triton.jit
def _scale(source, target, ACC: tl.constexpr):
    """(source - 1) / (target - 1), rounded as torch's division does: Triton's is less exact."""
    top, bottom = (source - 1).to(ACC), tl.maximum(target - 1, 1).to(ACC)
    scale = top / bottom
    return tl.fma(tl.fma(-scale, bottom, top), 1 / bottom, scale)


@triton.jit
def _width(source, target, ADJOINT: tl.constexpr):
    """The most positions that one position is made from, or with ADJOINT contributes to, along an axis."""
    if ADJOINT:
        linear = tl.where(source == 1, target, tl.cdiv(2 * (target - 1), tl.maximum(source - 1, 1)))
        pooled = tl.where(source % target == 0, 1, 2)
    else:
        linear = tl.minimum(source, 2)
        pooled = tl.cdiv(source, target) + tl.where(source % target == 0, 0, 1)
    return tl.where(source == target, 1, tl.where(source < target, linear, pooled))


@triton.jit
def _linear(at, source, target, scale, ADJOINT: tl.constexpr, ACC: tl.constexpr):
    """The window of a position on an axis that is interpolated: see `_window`."""
    if ADJOINT:
        beyond = (at - 1) * (target - 1) // tl.maximum(source - 1, 1) + 1
        first = tl.where((at == 0) | (source == 1), 0, beyond)
        one = at.to(ACC) * 0  # `_weight` has the weights
        return first, one, one, target + first * 0
    else:
        position = at.to(ACC) * scale
        # torch computes the lower index in float32 also for float64.
        first = tl.minimum(position.to(tl.float32).to(tl.int32), source - 1)
        other = tl.minimum(tl.maximum(position - first.to(ACC), 0.0), 1.0)
        other = tl.where(first < source - 1, other, 0.0).to(ACC)
        return first, (1 - other).to(ACC), other, 2 + first * 0


@triton.jit
def _pooled(at, source, target, ADJOINT: tl.constexpr, ACC: tl.constexpr):
    """The window of a position on an axis that is pooled, or kept."""
    if ADJOINT:
        first, last = at * target // source, ((at + 1) * target - 1) // source
        one = ((first + 1) * source + target - 1) // target - first * source // target
        other = ((last + 1) * source + target - 1) // target - last * source // target
        return first, 1 / one.to(ACC), 1 / other.to(ACC), last - first + 1
    else:
        first = at * source // target
        count = ((at + 1) * source + target - 1) // target - first
        return first, 1 / count.to(ACC), 1 / count.to(ACC), count


@triton.jit
def _nested(at, source, target, ADJOINT: tl.constexpr, ACC: tl.constexpr):
    """The same where the source's size is a multiple of the target's."""
    ratio = source // target
    mean = (1 / ratio.to(ACC)).to(ACC) + at.to(ACC) * 0
    if ADJOINT:
        return at // ratio, mean, mean, 1 + at * 0
    else:
        return at * ratio, mean, mean, ratio + at * 0


@triton.jit
def _window(at, source, target, scale, ADJOINT: tl.constexpr, KIND: tl.constexpr, ACC: tl.constexpr):
    """The first of these positions, its weight, that of the others, and how many they are."""
    if KIND == "linear":
        window = _linear(at, source, target, scale, ADJOINT, ACC)
    elif KIND == "nested":
        window = _nested(at, source, target, ADJOINT, ACC)
    else:
        linear = _linear(at, source, target, scale, ADJOINT, ACC)
        pooled = _pooled(at, source, target, ADJOINT, ACC)
        window = (
            tl.where(source < target, linear[0], pooled[0]),
            tl.where(source < target, linear[1], pooled[1]),
            tl.where(source < target, linear[2], pooled[2]),
            tl.where(source < target, linear[3], pooled[3]),
        )
    return window


@triton.jit
def is_linear(SZ, SY, SX, TZ, TY, TX):
    """Whether no axis is pooled from S to T."""
    return (SZ <= TZ) & (SY <= TY) & (SX <= TX)


@triton.jit
def is_nested(SZ, SY, SX, TZ, TY, TX):
    """Whether S is a multiple of T on every axis."""
    return (SZ % TZ == 0) & (SY % TY == 0) & (SX % TX == 0)


@triton.jit
def _weight(window, k, at, source, target, scale, ADJOINT: tl.constexpr, KIND: tl.constexpr, ACC: tl.constexpr):
    """The weight of the k-th position of a window; none beyond its end."""
    weight = tl.where(k < window[3], tl.where(k == 0, window[1], window[2]), 0.0).to(ACC)
    if ADJOINT and KIND != "nested":
        hat = tl.maximum(1 - tl.abs((window[0] + k).to(ACC) * scale - at.to(ACC)), 0.0)
        hat = tl.where(k < window[3], tl.where(window[0] + k < target, hat, 0.0), 0.0)
        weight = hat.to(ACC) if KIND == "linear" else tl.where(source < target, hat, weight).to(ACC)
    return weight


@triton.jit
def _window_sum(
    x_ptr,  # one image (planes, RY, RX, C), or (C, planes, RY, RX) unless LAST; the first plane is `origin`
    z,
    y,
    x,
    row,  # which row of its window an element sums first; it goes on in steps of ROWS
    c,
    inside,
    SZ,
    SY,
    SX,
    TZ,
    TY,
    TX,
    origin,
    begin,  # planes [begin, end) are there
    end,
    C: tl.constexpr,
    LAST: tl.constexpr,
    HALO: tl.constexpr,
    ADJOINT: tl.constexpr,
    KIND: tl.constexpr,
    IS_NARROW: tl.constexpr,
    ROWS: tl.constexpr,
    ACC: tl.constexpr,
):
    """The resize of sizes S to sizes T at positions (z, y, x) of T; with ADJOINT its adjoint at positions of S.

    KIND: "linear" (no axis is pooled), "nested" (S is a multiple of T) or "any". IS_NARROW: no window is wider than
    two. z is one plane; y and x are lists.
    """
    if ADJOINT:
        RY, RX = TY, TX
    else:
        RY, RX = SY, SX
    scale_y, scale_x = _scale(SY, TY, ACC), _scale(SX, TX, ACC)
    window_y = _window(y, SY, TY, scale_y, ADJOINT, KIND, ACC)
    window_x = _window(x, SX, TX, scale_x, ADJOINT, KIND, ACC)
    if HALO:
        scale_z = _scale(SZ, TZ, ACC)
        window_z = _window(z, SZ, TZ, scale_z, ADJOINT, KIND, ACC)
        first_z = window_z[0]
        from_z, to_z = tl.maximum(begin - first_z, 0), tl.minimum(_width(SZ, TZ, ADJOINT), end - first_z)
    else:
        first_z, from_z, to_z = z, 0, 1
    sums = tl.zeros([y.shape[0], c.shape[0]], ACC)
    step = RY * RX * (end - begin)  # of a channel, unless LAST
    plane: tl.constexpr = C if LAST else 1
    if IS_NARROW:
        widest: tl.constexpr = 1 if ADJOINT and KIND == "nested" else 2
        for kz in range(from_z, to_z):
            line_ptr = x_ptr + tl.cast(first_z + kz - origin, tl.int64) * (RY * RX * plane)
            weight_z = 1.0
            if HALO:
                weight_z = _weight(window_z, kz, z, SZ, TZ, scale_z, ADJOINT, KIND, ACC)
            for ky in tl.static_range(widest):
                weight_y = weight_z * _weight(window_y, ky, y, SY, TY, scale_y, ADJOINT, KIND, ACC)
                for kx in tl.static_range(widest):
                    weight = weight_y * _weight(window_x, kx, x, SX, TX, scale_x, ADJOINT, KIND, ACC)
                    pixel = (window_y[0] + ky) * RX + window_x[0] + kx
                    sums += _part(line_ptr, pixel, weight, inside, c, step, C, LAST, ACC)
    else:
        height = _width(SY, TY, ADJOINT)
        for start in range(0, (to_z - from_z) * height, ROWS):
            # The rows of all planes of the window, in one list.
            ky, weight_y = start + row, 1.0
            line = (first_z + from_z - origin) * RY
            there = inside
            if HALO:
                kz = from_z + ky // height
                weight_y = _weight(window_z, kz, z, SZ, TZ, scale_z, ADJOINT, KIND, ACC)
                line = (first_z + kz - origin) * RY
                there = inside & (kz < to_z)
                ky = ky % height
            weight_y = weight_y * _weight(window_y, ky, y, SY, TY, scale_y, ADJOINT, KIND, ACC)
            line = (line + window_y[0] + ky) * RX + window_x[0]
            for kx in range(0, _width(SX, TX, ADJOINT), 2):
                for i in tl.static_range(2):
                    weight = weight_y * _weight(window_x, kx + i, x, SX, TX, scale_x, ADJOINT, KIND, ACC)
                    sums += _part(x_ptr, line + kx + i, weight, there, c, step, C, LAST, ACC)
    return sums


@triton.jit
def _part(x_ptr, pixel, weight, inside, c, step, C: tl.constexpr, LAST: tl.constexpr, ACC: tl.constexpr):
    # What has no weight is not read: 0 * Inf would be NaN.
    used = (inside & (weight != 0))[:, None] & (c < C)[None, :]
    if LAST:
        at = pixel[:, None] * C + c[None, :]
    else:
        at = pixel[:, None] + c[None, :].to(tl.int64) * step
    return weight[:, None] * tl.load(x_ptr + at, used, other=0).to(ACC)


@triton.jit
def _positions(block, images, planes, area, W, PIXELS: tl.constexpr, ROWS: tl.constexpr):
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
    image, plane, y, x, row, inside, out = _positions(block, images, planes, TY * TX, TX, PIXELS, ROWS)
    z = plane + first
    if (z >= 0) & (z < TZ):
        c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
        sums = _window_sum(
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
    scale = _scale(SZ, TZ, ACC)
    window = _linear(z, SZ, TZ, scale, True, ACC)
    begin = tl.maximum(window[0], tl.maximum(first, 0))
    end = tl.minimum(window[0] + _width(SZ, TZ, True), tl.minimum(first + planes, TZ))
    sums = tl.zeros([NARROW, CHANNELS], ACC)
    for read in range(begin, end):
        weight = _weight(window, read - window[0], z, SZ, TZ, scale, True, "linear", ACC)
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
    image, z, y, x, row, inside, out = _positions(block, images, SZ, SY * SX, SX, PIXELS, ROWS)
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
                sums += _window_sum(
                    source, z, y, x, row, c, inside & (row == 0), SZ, SY, SX, TZ, TY, TX, first, begin, end, C, True,
                    HALO, True, "nested", True, ROWS, ACC,
                )  # fmt: skip
            elif HALO:
                base = number(offsets, entry * L + level, E * L).to(tl.int64) * ALIGNED
                collapsed = depth_ptr + base + (image * SZ + z) * (TY * TX * C)
                sums += _window_sum(
                    collapsed, 0, y, x, row, c, inside, 1, SY, SX, 1, TY, TX, 0, 0, 1, C, True, 0, True, "linear",
                    False, ROWS, ACC,
                )  # fmt: skip
            else:
                sums += _window_sum(
                    source, z, y, x, row, c, inside, SZ, SY, SX, TZ, TY, TX, first, begin, end, C, True, HALO, True,
                    "linear", False, ROWS, ACC,
                )  # fmt: skip
        else:
            sums += _window_sum(
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
