"""The Triton kernels `multiply`, `multiply_backward` and `gradients`: grouped implicit GEMMs.

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
    BASE_D,
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
from sdi_plugin.ops.gpu.resize import to_tf32


@triton.jit
def _tile(tile, planes, H, W, TZ: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr):
    """The image of a tile, and the plane, row and column of its pixels."""
    across, down, deep = tl.cdiv(W, TX), tl.cdiv(H, TY), tl.cdiv(planes, TZ)
    m = tl.arange(0, TZ * TY * TX)
    x = tile % across * TX + m % TX
    y = tile // across % down * TY + m // TX % TY
    z = tile // (across * down) % deep * TZ + m // (TX * TY)
    return tile // (across * down * deep), z, y, x


@triton.jit
def _convolve(
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
def _map(x_ptr, own_ptr, entries, entry, j, own, images, area, C, E: tl.constexpr, HALO: tl.constexpr):
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
    image, z, y, x = _tile(tile, planes, H, W, TZ, TY, TX)
    inside = (z < planes) & (y < H) & (x < W)
    z += number(entries, entry, E, FIELDS, Z)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    own_ptr = pick(own_ptrs, entry, E)
    product = tl.full([TZ * TY * TX, BLOCK_N], 1, ACC)
    for j in range(L):
        map_ptr, origin, map_planes = _map(x_ptr, own_ptr, entries, entry, j, own, images, H * W, C, E, HALO)
        map_ptr += image.to(tl.int64) * (map_planes * H * W * C)
        end = tl.minimum(D, origin + map_planes)  # a tile may reach beyond the slab
        sums = _convolve(
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
    image, local, y, x = _tile(tile, planes, H, W, TZ, TY, TX)
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
        map_ptr, origin, map_planes = _map(x_ptr, own_ptr, entries, entry, j, own, images, H * W, C, E, HALO)
        map_ptr += image.to(tl.int64) * (map_planes * H * W * C)
        end = tl.minimum(D, origin + map_planes)  # a tile may reach beyond the slab
        sums = _convolve(
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


@triton.jit
def _map_gradient(
    program,
    e_ptr,
    kernel_ptr,
    grad_ptr,
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
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The gradient of one term's map at the entry's size, on a tile of the slab and its halo."""
    blocks: tl.constexpr = K // BLOCK_K
    entry, local = search(starts, program // blocks, E)
    tile, j = local // L, local % L
    H, W = number(entries, entry, E, FIELDS, HEIGHT), number(entries, entry, E, FIELDS, WIDTH)
    planes, term = number(entries, entry, E, FIELDS, PLANES), number(entries, entry, E, FIELDS, ROW)
    image, z, y, x = _tile(tile, planes + 2 * HALO, H, W, TZ, TY, TX)
    k = program % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    pair = (j * images + image).to(tl.int64)
    base = number(entries, entry, E, FIELDS, BASE_E).to(tl.int64) * ALIGNED
    sums = _convolve(
        e_ptr + base + pair * (planes * H * W * CO), kernel_ptr + (term + j) * taps * K * N, z, y, x, k, HALO, HALO,
        planes + HALO, H, W, taps * (N // BLOCK_N), CO, N, K, BLOCK_N, DIM, True, ACC, PRECISION, STAGES,
    )  # fmt: skip
    base = number(entries, entry, E, FIELDS, BASE_D).to(tl.int64) * ALIGNED
    at = ((z * H + y) * W + x)[:, None] * C + k[None, :]
    inside = (z < planes + 2 * HALO) & (y < H) & (x < W)
    grad_ptr += base + pair * ((planes + 2 * HALO) * H * W * C)
    tl.store(grad_ptr + at, sums, inside[:, None] & (k < C)[None, :])


@triton.jit
def _weight_gradient(
    program,
    x_ptr,
    own_ptrs,
    e_ptr,
    part_ptr,
    images,
    taps,
    starts,
    parts,
    chunk,
    entries,
    L: tl.constexpr,
    E: tl.constexpr,
    DIM: tl.constexpr,
    HALO: tl.constexpr,
    C: tl.constexpr,
    CO: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
    PIXELS: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The gradient of TAPS taps of one term's convolution, summed over one chunk of the pixels."""
    blocks: tl.constexpr = (K // BLOCK) * (N // BLOCK)
    entry, local = search(starts, program // blocks, E)
    groups = taps // TAPS
    first_tap, j, part = local % groups * TAPS, local // groups % L, local // (groups * L)
    k = program % (K // BLOCK) * BLOCK + tl.arange(0, BLOCK)
    n = program // (K // BLOCK) % (N // BLOCK) * BLOCK + tl.arange(0, BLOCK)
    D, H = number(entries, entry, E, FIELDS, DEPTH), number(entries, entry, E, FIELDS, HEIGHT)
    W, planes = number(entries, entry, E, FIELDS, WIDTH), number(entries, entry, E, FIELDS, PLANES)
    own, first = number(entries, entry, E, FIELDS, OWN), number(entries, entry, E, FIELDS, Z)
    own_ptr = pick(own_ptrs, entry, E)
    map_ptr, origin, map_planes = _map(x_ptr, own_ptr, entries, entry, j, own, images, H * W, C, E, HALO)
    count = images * planes * H * W
    base = number(entries, entry, E, FIELDS, BASE_E).to(tl.int64) * ALIGNED
    e_ptr += base + j.to(tl.int64) * count * CO
    sums = ()
    for _ in tl.static_range(TAPS):
        sums += (tl.zeros([BLOCK, BLOCK], ACC),)
    for start in tl.range(part * chunk, tl.minimum((part + 1) * chunk, count), PIXELS, num_stages=STAGES):
        p = start + tl.arange(0, PIXELS)
        x, y, line = p % W, p // W % H, p // (W * H)
        z = line % planes + first
        plane = (line // planes).to(tl.int64) * map_planes + z - origin
        at = map_ptr + ((plane * H + y) * W + x)[None, :] * C + k[:, None]
        e_mask = (p < count)[:, None] & (n < CO)[None, :]
        e = tl.load(e_ptr + p.to(tl.int64)[:, None] * CO + n[None, :], e_mask, other=0)
        added = ()
        for i in tl.static_range(TAPS):
            tap = first_tap + i
            dz, dy, dx = tap // 9 - HALO, tap // 3 % 3 - 1, tap % 3 - 1
            zz, yy, xx = z + dz, y + dy, x + dx
            inside = (p < count) & (zz >= 0) & (zz < D) & (yy >= 0) & (yy < H) & (xx >= 0) & (xx < W)
            a = tl.load(at + ((dz * H + dy) * W + dx) * C, inside[None, :] & (k < C)[:, None], other=0)
            added += (tl.dot(a, e, sums[i], input_precision=PRECISION, out_dtype=ACC),)
        sums = added
    part_ptr += (number(parts, entry, E) + part).to(tl.int64) * (L * taps * K * N) + (j * taps + first_tap) * K * N
    for i in tl.static_range(TAPS):
        tl.store(part_ptr + i * K * N + k[:, None] * N + n[None, :], sums[i])


@triton.jit(do_not_specialize=["images", "taps", "split", "chunk"])
def gradients(
    x_ptr,  # as in `multiply_backward`
    own_ptrs,
    kernel_ptr,
    e_ptr,
    grad_ptr,  # for each entry, the gradients of its L terms' maps: each (B, planes + 2 HALO, H, W, C)
    part_ptr,  # (parts of all entries, L, taps, K, N), in ACC: the weights' gradients, by chunks of pixels
    images,
    taps,
    split,  # programs for the maps; the others are for the weights
    map_starts,  # E: the first program of each entry, in units of all blocks of channels
    weight_starts,
    parts,  # E: the first part of each entry
    chunk,  # pixels of a part
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
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
    PIXELS: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
    WEIGHT_STAGES: tl.constexpr,
):
    """The gradients of the maps of all terms at their entries' sizes, and of their convolutions' weights.

    Independent of each other, in one launch, because both read e_ptr. Grid: (programs of both).
    """
    program = tl.program_id(0)
    if program < split:
        _map_gradient(
            program, e_ptr, kernel_ptr, grad_ptr, images, taps, map_starts, entries, L, E, DIM, HALO, C, CO, K, N,
            BLOCK_K, BLOCK_N, TZ, TY, TX, ACC, PRECISION, STAGES,
        )  # fmt: skip
    else:
        _weight_gradient(
            program - split, x_ptr, own_ptrs, e_ptr, part_ptr, images, taps, weight_starts, parts, chunk, entries, L, E,
            DIM, HALO, C, CO, K, N, BLOCK, TAPS, PIXELS, ACC, PRECISION,
            WEIGHT_STAGES,
        )  # fmt: skip
