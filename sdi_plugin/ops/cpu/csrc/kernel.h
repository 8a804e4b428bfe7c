// The whole kernel for one instruction set, in its namespace. A source file that includes this has defined SDI_ISA (the
// namespace) and SDI_VECTOR_BYTES, and has switched the compiler to the instruction set. It includes standard headers
// before the switch, so that what they define is compiled for every processor.

namespace sdi {
namespace SDI_ISA {

#include "tile.h"

#include "maps.h"

#include "winograd.h"

#include "weights.h"

#include "taps.h"

#include "bound.h"

#include "prepared.h"

#include "terms.h"

#include "forward.h"

#include "sums.h"

#include "backward.h"

// Returns 0, or 1 if memory ran out.
template <typename T> int run(const Stage &stage, const Tensors &tensors, int64_t threads, bool is_backward) {
  try {
    if (is_backward)
      backward<T>(stage, tensors, threads);
    else
      forward<T>(stage, tensors, threads);
  } catch (const std::bad_alloc &) {
    return 1;
  }
  return 0;
}

int run_float(const Stage &stage, const Tensors &tensors, int64_t threads, bool backward) {
  return run<float>(stage, tensors, threads, backward);
}

int run_double(const Stage &stage, const Tensors &tensors, int64_t threads, bool backward) {
  return run<double>(stage, tensors, threads, backward);
}

} // namespace SDI_ISA
} // namespace sdi
