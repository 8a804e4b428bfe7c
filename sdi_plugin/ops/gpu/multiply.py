"""The Triton kernels `multiply` and `multiply_backward`, which combine the terms of the product.

`launch.py` is their host code; docs/derivation.md explains them.

Names: N images, (Z, Y, X) and (H, W) the sizes of a map, (h, w) those of a coarser one, C channels, which are adjacent
in memory. Sums are in ACC (float32, or float64 for float64); addresses are 64 bits wide. No kernel adds atomically:
every element is summed by one program, in one order.
"""

# pyright: reportGeneralTypeIssues=false
# Triton unrolls tl.static_range, which is not an iterator.

import triton
import triton.language as tl


@triton.jit
def _axis(low_ptr, first_ptr, second_ptr, at):
    """The first of each target position's two sources, and both weights: zero outside, for the zero padding."""
    return tl.load(low_ptr + at), tl.load(first_ptr + at), tl.load(second_ptr + at)


@triton.jit
def _column(line_ptr, axis, w, c, C: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr):
    """One column tap of a row of G, interpolated to the target's columns: [1, COLUMNS, CHANNELS].

    Three axes from the start, so that loads have the register layout of the tile, and nothing goes through shared
    memory. A source of weight zero is read too, from a pixel that the position itself or the edge next to it reads: a
    mask would cost registers, and an infinite pixel makes no further results NaN.
    """
    low, first, second = axis
    left_ptr = line_ptr + low[None, :, None] * (9 * C) + c[None, None, :]
    right_ptr = line_ptr + tl.minimum(low + 1, w - 1)[None, :, None] * (9 * C) + c[None, None, :]
    if C % CHANNELS == 0:
        left, right = tl.load(left_ptr), tl.load(right_ptr)
    else:
        inside = (c < C)[None, None, :]
        left, right = tl.load(left_ptr, inside, other=0), tl.load(right_ptr, inside, other=0)
    return first[None, :, None] * left.to(ACC) + second[None, :, None] * right.to(ACC)


@triton.jit
def _term(
    taps_ptr,  # G, (images, h, w, 3, 3, C)
    low_ptr,  # tables.Upsampling.lows
    weight_ptr,  # tables.Upsampling.weights
    image,
    y,
    x,
    c,
    H,
    W,
    C: tl.constexpr,
    PADDING: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """sum_t shift_t(U G_t) on a tile of the target: [ROWS, COLUMNS, CHANNELS].

    Loops over the rows of G that the tile reads; each is interpolated along the columns once for all rows of the tile.
    """
    h, w = tl.load(low_ptr), tl.load(low_ptr + 1)
    row_ptr = low_ptr + 3  # the tables have one position before the axis, and PADDING outside it in total
    column_ptr = row_ptr + H + PADDING
    row_first_ptr = weight_ptr + 1
    row_second_ptr = row_first_ptr + H + PADDING
    first_ptr = row_second_ptr + H + PADDING
    second_ptr = first_ptr + W + PADDING
    left = _axis(column_ptr, first_ptr, second_ptr, x - 1)
    middle = _axis(column_ptr, first_ptr, second_ptr, x)
    right = _axis(column_ptr, first_ptr, second_ptr, x + 1)
    top = tl.program_id(0) // tl.cdiv(W, COLUMNS) * ROWS
    term = tl.zeros([ROWS, COLUMNS, CHANNELS], ACC)
    for tap in range(3):
        low, first, second = _axis(row_ptr, row_first_ptr, row_second_ptr, y + tap - 1)
        begin = tl.load(row_ptr + tl.maximum(top + tap - 1, 0))
        end = tl.minimum(tl.load(row_ptr + tl.minimum(top + ROWS + tap - 2, H - 1)) + 2, h)
        for row in range(begin, end):
            line_ptr = taps_ptr + ((image * h + row) * w * 9 + tap * 3) * C
            line = _column(line_ptr, left, w, c, C, CHANNELS, ACC)
            line += _column(line_ptr + C, middle, w, c, C, CHANNELS, ACC)
            line += _column(line_ptr + 2 * C, right, w, c, C, CHANNELS, ACC)
            weight = tl.where(low == row, first, 0.0) + tl.where(low == row - 1, second, 0.0)
            # Rows of the tile that do not read this row of G get 0: 0 * Inf would be NaN.
            term += tl.where((weight != 0)[:, None, None], weight[:, None, None] * line, 0.0)
    return term


@triton.jit
def _tile(D, H, W, z, planes, C, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):
    """A program's tile: its image in the slab, rows, columns and channels; its offsets in maps (B, D, H, W, C) and in
    the slab's (B, planes, H, W, C); and the mask for both."""
    across = tl.cdiv(W, COLUMNS)
    y = tl.program_id(0) // across * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    c = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    image = tl.program_id(1).to(tl.int64)
    inner = (y[:, None, None] * W + x[None, :, None]).to(tl.int64) * C + c[None, None, :]
    plane = image // planes * D + z + image % planes
    mask = (y < H)[:, None, None] & (x < W)[None, :, None] & (c < C)[None, None, :]
    return image, y, x, c, plane * H * W * C + inner, image * H * W * C + inner, mask


@triton.jit
def _asinh(z):
    """log(1 + u), with what rounding takes from 1 + u for small u added back to first order. Inf and NaN are kept."""
    size = tl.abs(z)
    huge = size > 1e18  # its square would overflow: asinh(z) = log(2 z)
    within = tl.where(huge, 0.0, size)
    u = within + within * within / (1 + tl.sqrt(1 + within * within))
    t = tl.where(huge, size, 1 + u)
    value = tl.log(t) + tl.where(huge, 0.6931471805599453, (u - (1 + u - 1)) / (1 + u))
    return tl.where(z < 0, -value, value)


@triton.jit(do_not_specialize=["D", "H", "W", "z", "planes"])
def multiply(
    out_ptr,  # (B, D, H, W, C)
    dense_ptrs,  # DENSE terms without their biases, each (B, D, H, W, C)
    taps_ptrs,  # TAPS terms' G, each (B * planes, h, w, 3, 3, C)
    low_ptrs,  # tables.Upsampling.lows of each
    weight_ptrs,  # tables.Upsampling.weights of each
    bias_ptr,  # (DENSE + TAPS, C), in ACC
    D,
    H,
    W,
    z,
    planes,
    C: tl.constexpr,
    DENSE: tl.constexpr,
    TAPS: tl.constexpr,
    PADDING: tl.constexpr,
    BOUND: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """out = prod of (bias + dense) * prod of (bias + sum_t shift_t(U G_t)), on the planes from z of every image.

    With BOUND that product p becomes BOUND * asinh(p / BOUND).

    Grid: (tiles of ROWS x COLUMNS, B * planes, blocks of CHANNELS).
    """
    image, y, x, c, at, _, mask = _tile(D, H, W, z, planes, C, ROWS, COLUMNS, CHANNELS)
    product = tl.full([ROWS, COLUMNS, CHANNELS], 1, ACC)
    for i in tl.static_range(TAPS):
        bias = tl.load(bias_ptr + (DENSE + i) * C + c, c < C, other=0)[None, None, :]
        term = _term(
            taps_ptrs[i], low_ptrs[i], weight_ptrs[i], image, y, x, c, H, W, C, PADDING, ROWS, COLUMNS, CHANNELS, ACC
        )
        product *= bias + term
    for i in tl.static_range(DENSE):
        bias = tl.load(bias_ptr + i * C + c, c < C, other=0)[None, None, :]
        product *= bias + tl.load(dense_ptrs[i] + at, mask, other=0).to(ACC)
    if BOUND > 0:
        product = BOUND * _asinh(product / BOUND)
    tl.store(out_ptr + at, product, mask)


@triton.jit(do_not_specialize=["D", "H", "W", "z", "planes"])
def multiply_backward(
    grad_ptr,  # (B, D, H, W, C)
    dense_ptrs,  # as in multiply
    taps_ptrs,
    low_ptrs,
    weight_ptrs,
    bias_ptr,
    dense_grad_ptrs,  # DENSE results, each (B, D, H, W, C)
    term_grad_ptrs,  # TAPS results at the target's size, each (B, planes, H, W, C)
    bias_grad_ptr,  # (tiles, B * planes, DENSE + TAPS, C), in ACC: each program's sum of each term's gradient
    D,
    H,
    W,
    z,
    planes,
    C: tl.constexpr,
    DENSE: tl.constexpr,
    TAPS: tl.constexpr,
    PADDING: tl.constexpr,
    BOUND: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The gradient of every term: grad times the product of the terms before it and of those after it.

    Grid: as for `multiply`.
    """
    image, y, x, c, at, slab_at, mask = _tile(D, H, W, z, planes, C, ROWS, COLUMNS, CHANNELS)
    before = tl.load(grad_ptr + at, mask, other=0).to(ACC)
    terms, befores = (), ()
    for i in tl.static_range(DENSE + TAPS):
        term = tl.load(bias_ptr + i * C + c, c < C, other=0)[None, None, :]
        if i < DENSE:
            term += tl.load(dense_ptrs[i] + at, mask, other=0).to(ACC)
        else:
            term += _term(
                taps_ptrs[i - DENSE],
                low_ptrs[i - DENSE],
                weight_ptrs[i - DENSE],
                image,
                y,
                x,
                c,
                H,
                W,
                C,
                PADDING,
                ROWS,
                COLUMNS,
                CHANNELS,
                ACC,
            )
        terms += (term,)
        befores += (before,)
        before *= term
    after = tl.full([ROWS, COLUMNS, CHANNELS], 1, ACC)
    if BOUND > 0:  # the derivative of the asinh is a factor of every term's gradient
        z = terms[0] / BOUND
        for i in tl.static_range(1, DENSE + TAPS):
            z *= terms[i]
        after /= tl.sqrt(1 + z * z)
    program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    sum_ptr = bias_grad_ptr + program.to(tl.int64) * ((DENSE + TAPS) * C) + c
    for i in tl.static_range(DENSE + TAPS - 1, -1, -1):
        gradient = befores[i] * after
        after *= terms[i]
        if i < DENSE:
            tl.store(dense_grad_ptrs[i] + at, gradient, mask)
        else:
            tl.store(term_grad_ptrs[i - DENSE] + slab_at, gradient, mask)
        inside = tl.where(mask, gradient, 0.0)  # outside the map a term may be infinite
        tl.store(sum_ptr + i * C, tl.sum(tl.sum(inside, 1), 0), c < C)
