"""The Triton kernels `multiply` and `multiply_backward`: grouped implicit GEMMs.

The convolutions of all terms of all entries share a launch. A program's tile is TZ x TY x TX pixels; for each tap of
the convolution, the pixels shifted by it are one matrix of a `tl.dot`. Names as in `resize.py`. K and N are the
channels that a product sums over and those of its result, in blocks.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.fields import (
    ALIGNED,
    BASE_E,
    BASE_X,
    DEPTH,
    FIELDS,
    HEIGHT,
    OWN,
    PLANES,
    ROW,
    WIDTH,
    Z,
    number,
    pick,
    search,
)
from sdi_plugin.ops.gpu.rounding import to_tf32


@triton.jit
def tile_of(tile, planes, H, W, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr):
    """The image of a tile, and the plane, row and column of its pixels."""
    across, down, deep = tl.cdiv(W, TX), tl.cdiv(H, TY), tl.cdiv(planes, TZ)
    m = tl.arange(0, TZ * TY * TX)
    x = tile % across * TX + m % TX
    y = tile // across % down * TY + m // TX % TY
    z = tile // (across * down) % deep * TZ + m // (TX * TY)
    return tile // (across * down * deep), z, y, x


@triton.jit
def convolve(
    x_ptr,  # one image, (planes, H, W, C); the first plane is `origin`
    kernel_ptr,  # (taps, K, N); with FLIP (taps, N, K)
    z,
    y,
    x,
    n,
    origin,
    begin,  # planes [begin, end), others are zero
    end,
    H,
    W,
    steps,  # taps * blocks of K: a run-time number, or LLVM unrolls the loop and spills
    C: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DIM: tl.constexpr,
    FLIP: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The convolution with zero padding, or with FLIP its adjoint, on a tile: [pixels, block of N]."""
    sums = tl.zeros([z.shape[0], n.shape[0]], ACC)
    for step in tl.range(steps, num_stages=STAGES):
        tap = step // (K // BLOCK_K)
        k = step % (K // BLOCK_K) * BLOCK_K + tl.arange(0, BLOCK_K)
        dz, dy, dx = tap // 9 - (1 if DIM == 3 else 0), tap // 3 % 3 - 1, tap % 3 - 1
        if FLIP:
            dz, dy, dx = -dz, -dy, -dx
        zz, yy, xx = z + dz, y + dy, x + dx
        inside = (zz >= begin) & (zz < end) & (yy >= 0) & (yy < H) & (xx >= 0) & (xx < W)
        at = (((zz - origin) * H + yy) * W + xx)[:, None] * C + k[None, :]
        if C % BLOCK_K == 0:
            a = tl.load(x_ptr + at, inside[:, None], other=0)
        else:
            a = tl.load(x_ptr + at, inside[:, None] & (k < C)[None, :], other=0)
        if FLIP:
            b = tl.load(kernel_ptr + tap * K * N + n[:, None] * K + k[None, :]).T
        else:
            b = tl.load(kernel_ptr + tap * K * N + k[:, None] * N + n[None, :])
        sums = tl.dot(a, b, sums, input_precision=PRECISION, out_dtype=ACC)
    return sums


@triton.jit
def map_of(x_ptr, own_ptr, entries, entry, j, own, images, area, C, E: tl.constexpr, HALO: tl.constexpr):
    """Term j's map at the entry's size: the level itself, or a resized one. Its planes, and the first one's index."""
    planes = number(entries, entry, E, FIELDS, PLANES) + 2 * HALO
    base = number(entries, entry, E, FIELDS, BASE_X).to(tl.int64) * ALIGNED
    slot = (j - ((own >= 0) & (j > own)).to(tl.int32)).to(tl.int64)
    pointer = tl.where(j == own, own_ptr, x_ptr + base + slot * images * (planes * area * C))
    first = tl.where(j == own, 0, number(entries, entry, E, FIELDS, Z) - HALO)
    return pointer, first, tl.where(j == own, number(entries, entry, E, FIELDS, DEPTH), planes)


@triton.jit
def asinh(z):
    """log(1 + u), with what rounding takes from 1 + u for small u added back to first order. Inf and NaN are kept."""
    size = tl.abs(z)
    huge = size > 1e18  # its square would overflow: asinh(z) = log(2 z)
    within = tl.where(huge, 0.0, size)
    u = within + within * within / (1 + tl.sqrt(1 + within * within))
    t = tl.where(huge, size, 1 + u)
    value = tl.log(t) + tl.where(huge, 0.6931471805599453, (u - (1 + u - 1)) / (1 + u))
    return tl.where(z < 0, -value, value)


@triton.jit(do_not_specialize=["images", "taps"])
def multiply(
    x_ptr,  # what `resize` wrote
    own_ptrs,  # for each entry, the level that is read in place (B, D, H, W, C)
    kernel_ptr,  # what `pack` wrote
    bias_ptr,
    out_ptrs,  # for each entry, its target's result (B, D, H, W, CO)
    images,
    taps,
    starts,  # E: the first tile of each entry
    entries,
    L: tl.constexpr,
    E: tl.constexpr,
    DIM: tl.constexpr,
    HALO: tl.constexpr,
    C: tl.constexpr,
    CO: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
    BOUND: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """out = product over j of (bias_j + W_j * map_j), or with BOUND, BOUND asinh(out / BOUND).

    Grid: (tiles of all entries, blocks of N).
    """
    entry, tile = search(starts, tl.program_id(0), E)
    D, H = number(entries, entry, E, FIELDS, DEPTH), number(entries, entry, E, FIELDS, HEIGHT)
    W, planes = number(entries, entry, E, FIELDS, WIDTH), number(entries, entry, E, FIELDS, PLANES)
    own, term = number(entries, entry, E, FIELDS, OWN), number(entries, entry, E, FIELDS, ROW)
    image, z, y, x = tile_of(tile, planes, H, W, TZ, TY, TX)
    inside = (z < planes) & (y < H) & (x < W)
    z += number(entries, entry, E, FIELDS, Z)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    own_ptr = pick(own_ptrs, entry, E)
    product = tl.full([TZ * TY * TX, BLOCK_N], 1, ACC)
    for j in range(L):
        map_ptr, origin, map_planes = map_of(x_ptr, own_ptr, entries, entry, j, own, images, H * W, C, E, HALO)
        map_ptr += image.to(tl.int64) * (map_planes * H * W * C)
        end = tl.minimum(D, origin + map_planes)  # a tile may reach beyond the slab
        sums = convolve(
            map_ptr, kernel_ptr + (term + j) * taps * K * N, z, y, x, n, origin, 0, end, H, W, taps * (K // BLOCK_K), C,
            K, N, BLOCK_K, DIM, False, ACC, PRECISION, STAGES,
        )  # fmt: skip
        product *= sums + tl.load(bias_ptr + (term + j) * N + n)[None, :]
    if BOUND > 0:
        product = BOUND * asinh(product / BOUND)
    at = ((z * H + y) * W + x)[:, None] * CO + n[None, :]
    out_ptr = pick(out_ptrs, entry, E) + image.to(tl.int64) * (D * H * W * CO)
    tl.store(out_ptr + at, product, inside[:, None] & (n < CO)[None, :])


@triton.jit(do_not_specialize=["images", "taps"])
def multiply_backward(
    x_ptr,  # as in `multiply`
    own_ptrs,
    kernel_ptr,
    bias_ptr,
    grad_ptrs,  # for each entry, the gradient of its target's result (B, D, H, W, CO)
    e_ptr,  # for each entry, the gradients of its L terms: each (B, planes, H, W, CO)
    sum_ptr,  # (tiles, L, N), in ACC: each tile's sums of them
    images,
    taps,
    starts,
    entries,
    L: tl.constexpr,
    E: tl.constexpr,
    DIM: tl.constexpr,
    HALO: tl.constexpr,
    C: tl.constexpr,
    CO: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    TZ: tl.constexpr,
    TY: tl.constexpr,
    TX: tl.constexpr,
    BOUND: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The gradient of every term: that of the product, times the other terms, which are computed again.

    Terms, and the products of those before them, wait in the maps' dtype. Grid: as for `multiply`.
    """
    entry, tile = search(starts, tl.program_id(0), E)
    D, H = number(entries, entry, E, FIELDS, DEPTH), number(entries, entry, E, FIELDS, HEIGHT)
    W, planes = number(entries, entry, E, FIELDS, WIDTH), number(entries, entry, E, FIELDS, PLANES)
    own, term = number(entries, entry, E, FIELDS, OWN), number(entries, entry, E, FIELDS, ROW)
    image, local, y, x = tile_of(tile, planes, H, W, TZ, TY, TX)
    inside = (local < planes) & (y < H) & (x < W)
    z = local + number(entries, entry, E, FIELDS, Z)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = inside[:, None] & (n < CO)[None, :]
    own_ptr = pick(own_ptrs, entry, E)
    dtype: tl.constexpr = e_ptr.dtype.element_ty
    at = ((z * H + y) * W + x)[:, None] * CO + n[None, :]
    grad_ptr = pick(grad_ptrs, entry, E) + image.to(tl.int64) * (D * H * W * CO)
    before = tl.load(grad_ptr + at, mask, other=0).to(ACC)
    product = tl.full([TZ * TY * TX, BLOCK_N], 1, ACC)
    terms, befores = (), ()
    for j in tl.static_range(L):
        map_ptr, origin, map_planes = map_of(x_ptr, own_ptr, entries, entry, j, own, images, H * W, C, E, HALO)
        map_ptr += image.to(tl.int64) * (map_planes * H * W * C)
        end = tl.minimum(D, origin + map_planes)  # a tile may reach beyond the slab
        sums = convolve(
            map_ptr, kernel_ptr + (term + j) * taps * K * N, z, y, x, n, origin, 0, end, H, W, taps * (K // BLOCK_K), C,
            K, N, BLOCK_K, DIM, False, ACC, PRECISION, STAGES,
        )  # fmt: skip
        sums += tl.load(bias_ptr + (term + j) * N + n)[None, :]
        terms += (sums.to(dtype),)
        befores += (before.to(dtype),)
        before *= sums
        if BOUND > 0:
            product *= sums
    after = tl.full([TZ * TY * TX, BLOCK_N], 1, ACC)
    if BOUND > 0:  # the derivative of the asinh is a factor of every term's gradient
        product /= BOUND
        after /= tl.sqrt(1 + product * product)
    base = number(entries, entry, E, FIELDS, BASE_E).to(tl.int64) * ALIGNED
    size = planes * H * W * CO
    e_ptr += base + image.to(tl.int64) * size
    at = ((local * H + y) * W + x)[:, None] * CO + n[None, :]
    sum_ptr += tl.program_id(0).to(tl.int64) * (L * N) + n
    for j in tl.static_range(L - 1, -1, -1):
        # Outside the map a term may be infinite.
        gradient = tl.where(mask, befores[j].to(ACC) * after, 0.0)
        after *= terms[j].to(ACC)
        if PRECISION == "tf32":
            gradient = to_tf32(gradient)
        tl.store(e_ptr + tl.cast(j * images, tl.int64) * size + at, gradient, mask)
        tl.store(sum_ptr + j * N, tl.sum(gradient, 0))
