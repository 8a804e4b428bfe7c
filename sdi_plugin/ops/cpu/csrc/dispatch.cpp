// The functions that the host calls, and the choice of the instruction set.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "parallel.h"
#include "stage.h"

namespace sdi {

using Run = int(const Stage &, const Tensors &, int64_t threads, bool backward);

namespace baseline {
Run run_float, run_double;
}
#if defined(__x86_64__)
namespace avx2 {
Run run_float, run_double;
}
namespace avx512 {
Run run_float, run_double;
}
#endif

namespace {

struct Kernel {
  const char *name;
  Run *run_float, *run_double;
};

// The widest instruction set of this processor, or the one that SDI_PLUGIN_ISA names if the processor has it.
Kernel choose() {
#if defined(__x86_64__)
  const char *wanted = std::getenv("SDI_PLUGIN_ISA");
  const auto allowed = [&](const char *name) { return !wanted || !*wanted || !std::strcmp(wanted, name); };
  __builtin_cpu_init();
  if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    return {"avx512", avx512::run_float, avx512::run_double};
  if (allowed("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {"avx2", avx2::run_float, avx2::run_double};
#endif
  return {"baseline", baseline::run_float, baseline::run_double};
}

const Kernel &kernel() {
  static const Kernel chosen = choose();
  return chosen;
}

} // namespace
} // namespace sdi

extern "C" {

SDI_EXPORT int64_t sdi_abi() { return sdi::kAbi; }

// Before the first sdi_run.
SDI_EXPORT void sdi_use_team(sdi::Team *team) { sdi::team = team; }

SDI_EXPORT const char *sdi_isa() { return sdi::kernel().name; }

// Returns 0, or 1 if memory ran out. is_double: whether the scalars of all tensors and tables are double.
SDI_EXPORT int sdi_run(const sdi::Stage *stage, const sdi::Tensors *tensors, int64_t threads, int is_double,
                       int backward) {
  const sdi::Kernel &kernel = sdi::kernel();
  return (is_double ? kernel.run_double : kernel.run_float)(*stage, *tensors, threads, backward != 0);
}
}
