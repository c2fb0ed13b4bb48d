// parallel_for: one late-join thread pool.
//
// The range [0, n) is cut into pieces of `grain`, by size and never by thread count, so whatever a piece computes is
// bitwise the same for any number of threads. Each thread, the caller among them, has a share of the pieces, then helps
// with what others have not begun; the caller waits only for workers that joined. A call from inside a piece, or while
// another thread uses the pool, runs its pieces in order.
#pragma once
#include <stdint.h>

namespace gg {

using Piece = void (*)(void* context, int64_t begin, int64_t end);
void parallel_pieces(int64_t n, int64_t grain, Piece piece, void* context);

// parallel_for(n, grain, [&](int64_t begin, int64_t end) { ... });
template <class F> inline void parallel_for(int64_t n, int64_t grain, const F& f) {
  parallel_pieces(
      n, grain, [](void* context, int64_t begin, int64_t end) { (*static_cast<const F*>(context))(begin, end); },
      const_cast<F*>(&f));
}

void set_num_threads(int n);
int num_threads();

// Called around a region that is about to run for more than microseconds, and after it; Python's lock is let go here.
struct RegionHooks {
  void* (*enter)();
  void (*leave)(void*);
};
void set_region_hooks(RegionHooks hooks);

// Scratch memory for kernels, from the caching allocator.
void* scratch_allocate(int64_t bytes);
void scratch_release(void* data, int64_t bytes);

}  // namespace gg
