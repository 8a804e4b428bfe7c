"""The Triton kernel `gradients`: those of the resized maps and of the weights, two kinds of grouped implicit GEMMs.

Names as in `convolve.py`.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl

from sdi_plugin.ops.gpu.convolve import convolve, map_of, tile_of
from sdi_plugin.ops.gpu.fields import (
    ALIGNED,
    BASE_D,
    BASE_E,
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
    image, z, y, x = tile_of(tile, planes + 2 * HALO, H, W, TZ, TY, TX)
    k = program % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    pair = (j * images + image).to(tl.int64)
    base = number(entries, entry, E, FIELDS, BASE_E).to(tl.int64) * ALIGNED
    sums = convolve(
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
    map_ptr, origin, map_planes = map_of(x_ptr, own_ptr, entries, entry, j, own, images, H * W, C, E, HALO)
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
