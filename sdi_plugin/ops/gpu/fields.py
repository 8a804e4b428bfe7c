"""Where the integers of an entry (a target level, or a slab of its planes) are in a tuple, and how kernels read it."""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportAttributeAccessIssue=false
# Triton's own types: constants are numbers, tl.static_range is no iterator, and a tuple grows while it is unrolled.

import triton
import triton.language as tl
from triton.language import constexpr

DEPTH, HEIGHT, WIDTH = constexpr(0), constexpr(1), constexpr(2)  # the target's size
Z, PLANES = constexpr(3), constexpr(4)  # the slab: its first plane, and how many
OWN = constexpr(5)  # the level that is read in place, because it has the target's size; or -1
ROW = constexpr(6)  # the target's first term in the packed weights
BASE_X, BASE_E, BASE_D = constexpr(7), constexpr(8), constexpr(9)  # where its maps begin in each workspace
FIELDS = constexpr(10)
ALIGNED = constexpr(64)  # elements, in which these are counted; schedule.ALIGNED


@triton.jit
def pick(values, index, COUNT: tl.constexpr, STEP: tl.constexpr = 1, FIELD: tl.constexpr = 0):
    """values[index * STEP + FIELD] of a tuple, for an index known at run time."""
    picked = values[FIELD]
    for i in tl.static_range(1, COUNT):
        picked = tl.where(index == i, values[i * STEP + FIELD], picked)
    return picked


@triton.jit
def number(values, index, COUNT: tl.constexpr, STEP: tl.constexpr = 1, FIELD: tl.constexpr = 0):
    """The same of a tuple of integers, as fields.py writes them."""
    return pick(values, index, COUNT, STEP, FIELD) >> 4


@triton.jit
def search(starts, at, COUNT: tl.constexpr):
    """The last index whose start is at most `at`, and how far `at` is beyond that start."""
    index, start = at * 0, at * 0
    for i in tl.static_range(1, COUNT):
        index = tl.where(at >= starts[i] >> 4, i, index)
        start = tl.where(at >= starts[i] >> 4, starts[i] >> 4, start)
    return index, at - start
