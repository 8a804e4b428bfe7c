"""The Triton kernel `resample`: applies small banded matrices to the axes of a map.

Used for pooling, interpolation, the taps of a depth axis, and the adjoints of all of these. Names as in `multiply.py`.
"""

# pyright: reportGeneralTypeIssues=false
# Triton unrolls tl.static_range, which is not an iterator.

import triton
import triton.language as tl


@triton.jit
def _resample(
    x_ptr,  # (N, *source, [TAPS,] C), with TAPS if they are summed
    out_ptr,  # (N, *target, [TAPS,] C), with TAPS if they are produced
    start_ptr,  # tables.Resampling.starts
    weight_ptr,  # tables.Resampling.weights
    C: tl.constexpr,
    TAPS: tl.constexpr,
    SUM_TAPS: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    ACC: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    count = tl.load(start_ptr)
    source_z, source_y, source_x = tl.load(start_ptr + 1), tl.load(start_ptr + 2), tl.load(start_ptr + 3)
    Z, Y, X = tl.load(start_ptr + 4), tl.load(start_ptr + 5), tl.load(start_ptr + 6)
    width_z, width_y, width_x = tl.load(start_ptr + 7), tl.load(start_ptr + 8), tl.load(start_ptr + 9)
    start_z_ptr = start_ptr + 10
    start_y_ptr = start_z_ptr + TAPS * Z
    start_x_ptr = start_y_ptr + TAPS * Y
    weight_y_ptr = weight_ptr + TAPS * Z * width_z
    weight_x_ptr = weight_y_ptr + TAPS * Y * width_y

    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)  # fewer than 2^31, so that divisions are cheap
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = pixel < count
    x, y, z = pixel % X, pixel // X % Y, pixel // X // Y % Z
    image = (pixel // X // Y // Z).to(tl.int64)
    pixel = pixel.to(tl.int64)
    sums = tl.zeros([PIXELS, CHANNELS], ACC)
    for tap in range(TAPS):
        if not SUM_TAPS:
            sums = tl.zeros([PIXELS, CHANNELS], ACC)
        at_z, at_y, at_x = tap * Z + z, tap * Y + y, tap * X + x
        first_z = tl.load(start_z_ptr + at_z, inside, other=0)
        first_y = tl.load(start_y_ptr + at_y, inside, other=0)
        first_x = tl.load(start_x_ptr + at_x, inside, other=0)
        for kz in range(width_z):
            weight_z = tl.load(weight_ptr + at_z * width_z + kz, inside, other=0)
            for ky in range(width_y):
                weight_zy = weight_z * tl.load(weight_y_ptr + at_y * width_y + ky, inside, other=0)
                row = ((image * source_z + first_z + kz) * source_y + first_y + ky) * source_x + first_x
                for kx in range(width_x):
                    weight = weight_zy * tl.load(weight_x_ptr + at_x * width_x + kx, inside, other=0)
                    source = row + kx
                    if SUM_TAPS:
                        source = source * TAPS + tap
                    mask = (weight != 0)[:, None] & (c < C)[None, :]
                    value = tl.load(x_ptr + source[:, None] * C + c[None, :], mask, other=0)
                    sums += weight[:, None] * value.to(ACC)
        if not SUM_TAPS:
            at = (pixel * TAPS + tap)[:, None] * C + c[None, :]
            tl.store(out_ptr + at, sums, inside[:, None] & (c < C)[None, :])
    if SUM_TAPS:
        at = out_ptr + pixel[:, None] * C + c[None, :]
        mask = inside[:, None] & (c < C)[None, :]
        if ACCUMULATE:
            sums += tl.load(at, mask, other=0)
        tl.store(at, sums, mask)


@triton.jit
def resample(
    x_ptrs,  # the map of each job
    out_ptrs,  # the result of each job
    start_ptrs,  # tables.Resampling.starts of each job
    weight_ptrs,  # tables.Resampling.weights of each job
    C: tl.constexpr,
    JOBS: tl.constexpr,
    TAPS: tl.constexpr,
    SUM_TAPS: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    ACC: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """out[n, z, y, x(, t), c] = sum of Z_t[z, k] Y_t[y, l] X_t[x, m] x[n, k, l, m(, t), c] over k, l, m (and t).

    Grid: (blocks of PIXELS of the largest job's result, blocks of CHANNELS, JOBS). Several jobs share a
    launch, because a small map costs little more than its launch.
    """
    job = tl.program_id(2)
    for j in tl.static_range(JOBS):
        if job == j:  # noqa: SIM102  Triton does not short-circuit
            if tl.program_id(0) * PIXELS < tl.load(start_ptrs[j]):
                _resample(
                    x_ptrs[j],
                    out_ptrs[j],
                    start_ptrs[j],
                    weight_ptrs[j],
                    C,
                    TAPS,
                    SUM_TAPS,
                    ACCUMULATE,
                    ACC,
                    PIXELS,
                    CHANNELS,
                )
