// The function of attend_and_reduce that the host calls. dispatch.cpp chooses the instruction set.

#include <cstring>

#include "attention.h"
#include "stage.h"

namespace sdi {

using Attend = int(const Attention &, int64_t threads, bool backward);

namespace baseline {
Attend attend_float, attend_double;
}
#if defined(__x86_64__)
namespace avx2 {
Attend attend_float, attend_double;
}
namespace avx512 {
Attend attend_float, attend_double;
}
#endif

} // namespace sdi

extern "C" {

SDI_EXPORT const char *sdi_isa();

// Returns 0, or 1 if memory ran out. is_double: whether the scalars of all tensors are double.
SDI_EXPORT int sdi_attend(const sdi::Attention *attention, int64_t threads, int is_double, int backward) {
#if defined(__x86_64__)
  if (!std::strcmp(sdi_isa(), "avx512"))
    return (is_double ? sdi::avx512::attend_double : sdi::avx512::attend_float)(*attention, threads, backward != 0);
  if (!std::strcmp(sdi_isa(), "avx2"))
    return (is_double ? sdi::avx2::attend_double : sdi::avx2::attend_float)(*attention, threads, backward != 0);
#endif
  return (is_double ? sdi::baseline::attend_double : sdi::baseline::attend_float)(*attention, threads, backward != 0);
}
}
