"""The windows of the resizing kernels: which positions one position is made from, or contributes to, and their weights.

They follow from the sizes alone: there are no tables. From sizes S to sizes T; ADJOINT: the adjoint of that.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl


@triton.jit
def scale_of(source, target, ACC: tl.constexpr):
    """(source - 1) / (target - 1), rounded as torch's division does: Triton's is less exact."""
    top, bottom = (source - 1).to(ACC), tl.maximum(target - 1, 1).to(ACC)
    scale = top / bottom
    return tl.fma(tl.fma(-scale, bottom, top), 1 / bottom, scale)


@triton.jit
def width_of(source, target, ADJOINT: tl.constexpr):
    """The most positions that one position is made from, or with ADJOINT contributes to, along an axis."""
    if ADJOINT:
        linear = tl.where(source == 1, target, tl.cdiv(2 * (target - 1), tl.maximum(source - 1, 1)))
        pooled = tl.where(source % target == 0, 1, 2)
    else:
        linear = tl.minimum(source, 2)
        pooled = tl.cdiv(source, target) + tl.where(source % target == 0, 0, 1)
    return tl.where(source == target, 1, tl.where(source < target, linear, pooled))


@triton.jit
def linear_window(at, source, target, scale, ADJOINT: tl.constexpr, ACC: tl.constexpr):
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
        window = linear_window(at, source, target, scale, ADJOINT, ACC)
    elif KIND == "nested":
        window = _nested(at, source, target, ADJOINT, ACC)
    else:
        linear = linear_window(at, source, target, scale, ADJOINT, ACC)
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
def weight_of(window, k, at, source, target, scale, ADJOINT: tl.constexpr, KIND: tl.constexpr, ACC: tl.constexpr):
    """The weight of the k-th position of a window; none beyond its end."""
    weight = tl.where(k < window[3], tl.where(k == 0, window[1], window[2]), 0.0).to(ACC)
    if ADJOINT and KIND != "nested":
        hat = tl.maximum(1 - tl.abs((window[0] + k).to(ACC) * scale - at.to(ACC)), 0.0)
        hat = tl.where(k < window[3], tl.where(window[0] + k < target, hat, 0.0), 0.0)
        weight = hat.to(ACC) if KIND == "linear" else tl.where(source < target, hat, weight).to(ACC)
    return weight


@triton.jit
def window_sum(
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
    scale_y, scale_x = scale_of(SY, TY, ACC), scale_of(SX, TX, ACC)
    window_y = _window(y, SY, TY, scale_y, ADJOINT, KIND, ACC)
    window_x = _window(x, SX, TX, scale_x, ADJOINT, KIND, ACC)
    if HALO:
        scale_z = scale_of(SZ, TZ, ACC)
        window_z = _window(z, SZ, TZ, scale_z, ADJOINT, KIND, ACC)
        first_z = window_z[0]
        from_z, to_z = tl.maximum(begin - first_z, 0), tl.minimum(width_of(SZ, TZ, ADJOINT), end - first_z)
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
                weight_z = weight_of(window_z, kz, z, SZ, TZ, scale_z, ADJOINT, KIND, ACC)
            for ky in tl.static_range(widest):
                weight_y = weight_z * weight_of(window_y, ky, y, SY, TY, scale_y, ADJOINT, KIND, ACC)
                for kx in tl.static_range(widest):
                    weight = weight_y * weight_of(window_x, kx, x, SX, TX, scale_x, ADJOINT, KIND, ACC)
                    pixel = (window_y[0] + ky) * RX + window_x[0] + kx
                    sums += _part(line_ptr, pixel, weight, inside, c, step, C, LAST, ACC)
    else:
        height = width_of(SY, TY, ADJOINT)
        for start in range(0, (to_z - from_z) * height, ROWS):
            # The rows of all planes of the window, in one list.
            ky, weight_y = start + row, 1.0
            line = (first_z + from_z - origin) * RY
            there = inside
            if HALO:
                kz = from_z + ky // height
                weight_y = weight_of(window_z, kz, z, SZ, TZ, scale_z, ADJOINT, KIND, ACC)
                line = (first_z + kz - origin) * RY
                there = inside & (kz < to_z)
                ky = ky % height
            weight_y = weight_y * weight_of(window_y, ky, y, SY, TY, scale_y, ADJOINT, KIND, ACC)
            line = (line + window_y[0] + ky) * RX + window_x[0]
            for kx in range(0, width_of(SX, TX, ADJOINT), 2):
                for i in tl.static_range(2):
                    weight = weight_y * weight_of(window_x, kx + i, x, SX, TX, scale_x, ADJOINT, KIND, ACC)
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
