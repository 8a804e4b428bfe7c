// Loops over independent tasks, on the OpenMP threads that torch has already started, or on std::thread if a sanitizer
// has to see every synchronisation (SDI_STD_THREADS).

#pragma once

#include <atomic>
#include <cstdint>
#include <new>

#ifdef SDI_STD_THREADS
#include <thread>
#include <vector>
#endif

namespace sdi {

// Calls task(i) for every i below count. Throws std::bad_alloc if a task did.
template <typename F> void parallel(int64_t count, int64_t threads, const F &task) {
  std::atomic<bool> failed{false};
  const auto guarded = [&](int64_t i) { // an exception must not leave a thread
    try {
      task(i);
    } catch (const std::bad_alloc &) {
      failed = true;
    }
  };
#ifdef SDI_STD_THREADS
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t i; (i = next.fetch_add(1)) < count;)
      guarded(i);
  };
  std::vector<std::thread> others;
  for (int64_t t = 1; t < threads; t++)
    others.emplace_back(work);
  work();
  for (auto &other : others)
    other.join();
#else
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1 && count > 1)
  for (int64_t i = 0; i < count; i++)
    guarded(i);
#endif
  if (failed)
    throw std::bad_alloc();
}

} // namespace sdi
