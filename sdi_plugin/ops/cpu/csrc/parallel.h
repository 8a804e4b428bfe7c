// Loops over independent tasks, on the OpenMP threads that torch has already started. The kernel is linked with no
// OpenMP: the host passes the GOMP_parallel that torch calls, so there is never a second pool. If a sanitizer has to see
// every synchronisation (SDI_STD_THREADS), on std::thread.

#pragma once

#include <atomic>
#include <cstdint>
#include <new>

#ifdef SDI_STD_THREADS
#include <functional>
#include <thread>
#include <vector>
#endif

namespace sdi {

// GOMP_parallel: calls work(data) on each thread of a team, the caller among them, and waits for all.
using Team = void(void (*work)(void *), void *data, unsigned threads, unsigned flags);
inline Team *team = nullptr; // see sdi_use_team

template <typename F> void on_threads(int64_t threads, F &work) {
#ifdef SDI_STD_THREADS
  std::vector<std::thread> others;
  for (int64_t t = 1; t < threads; t++)
    others.emplace_back(std::ref(work));
  work();
  for (auto &other : others)
    other.join();
#else
  team([](void *data) { (*static_cast<F *>(data))(); }, &work, static_cast<unsigned>(threads), 0);
#endif
}

// Calls task(i) for every i below count. Throws std::bad_alloc if a task did.
template <typename F> void parallel(int64_t count, int64_t threads, const F &task) {
  std::atomic<bool> failed{false};
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t i; (i = next.fetch_add(1)) < count;) {
      try { // an exception must not leave a thread
        task(i);
      } catch (const std::bad_alloc &) {
        failed = true;
      }
    }
  };
  if (threads > 1 && count > 1)
    on_threads(threads, work);
  else
    work();
  if (failed)
    throw std::bad_alloc();
}

} // namespace sdi
