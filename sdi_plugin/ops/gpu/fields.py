"""Where the kernels find the integers of an entry (a target level, or a slab of its planes) in a tuple."""

from triton.language import constexpr

DEPTH, HEIGHT, WIDTH = constexpr(0), constexpr(1), constexpr(2)  # the target's size
Z, PLANES = constexpr(3), constexpr(4)  # the slab: its first plane, and how many
OWN = constexpr(5)  # the level that is read in place, because it has the target's size; or -1
ROW = constexpr(6)  # the target's first term in the packed weights
BASE_X, BASE_E, BASE_D = constexpr(7), constexpr(8), constexpr(9)  # where its maps begin in each workspace
FIELDS = constexpr(10)
ALIGNED = constexpr(64)  # elements, in which these are counted; schedule.ALIGNED
