// What kernels ask of the memory system, counted as a GPU would serve it.
//
// The n-th time that the lanes of a warp come to an access is one request. Of global memory it moves sectors of 32
// bytes, each once; shared memory serves it in wavefronts of up to 128 bytes, one word of each of 32 banks: a quarter
// of a warp at a time where lanes take 16 bytes, half where they take 8. Caches and what the compiler of a GPU would
// merge are not looked at. Bulk copies and wgmma move whole rows, without conflicts.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace gg::simt {

#define GG_COUNTERS(X)  \
  X(launches)           \
  X(global_read_bytes)  \
  X(global_write_bytes) \
  X(global_requests)    \
  X(global_sectors)     \
  X(shared_read_bytes)  \
  X(shared_write_bytes) \
  X(shared_requests)    \
  X(shared_wavefronts)  \
  X(barriers)           \
  X(phases)             \
  X(shuffles)           \
  X(tensor_multiply_adds)

struct Counters {
#define GG_COUNTER(name) uint64_t name = 0;
  GG_COUNTERS(GG_COUNTER)
#undef GG_COUNTER
};
extern Counters counters;
extern bool counting;

// Begins at zero; while it counts, the checks are on.
void count(bool on);

// An access of the running thread at `address`, or at that offset of shared memory; code tells instructions apart.
void count_access(uint64_t address, size_t bytes, bool writes, bool shared, const void* code);
void end_counted_cluster();

// Until the end of its scope, accesses are parts of one bulk access.
class Bulk {
 public:
  Bulk();
  ~Bulk();
  Bulk(const Bulk&) = delete;
  Bulk& operator=(const Bulk&) = delete;
};

}  // namespace gg::simt
