// attend_and_reduce for one instruction set, in its namespace; included as kernel.h is.

namespace sdi {
namespace SDI_ISA {

#include "tile.h"

#include "maps.h"

#include "attend_tiles.h"

#include "attend_smooth.h"

#include "attend_forward.h"

#include "attend_sums.h"

#include "attend_backward.h"

// Returns 0, or 1 if memory ran out.
template <typename T> int attend(const Attention &attention, int64_t threads, bool is_backward) {
  try {
    if (is_backward)
      attend_backward<T>(attention, threads);
    else
      attend_forward<T>(attention, threads);
  } catch (const std::bad_alloc &) {
    return 1;
  }
  return 0;
}

int attend_float(const Attention &attention, int64_t threads, bool backward) {
  return attend<float>(attention, threads, backward);
}

int attend_double(const Attention &attention, int64_t threads, bool backward) {
  return attend<double>(attention, threads, backward);
}

} // namespace SDI_ISA
} // namespace sdi
