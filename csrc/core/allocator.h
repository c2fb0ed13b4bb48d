// The CPU's caching allocator: 64-byte aligned blocks in size classes (four per power of two), kept and handed out
// again, because first touching fresh pages costs ten times what copying the same bytes does.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace gg {

void* cpu_allocate(size_t bytes);  // never null for bytes > 0; throws OutOfMemory
void cpu_release(void* data, size_t bytes);

struct MemoryStats {
  int64_t allocated;       // bytes in use now
  int64_t peak_allocated;  // the most bytes in use since the last reset
  int64_t cached;          // bytes kept for reuse
  int64_t allocations;     // requests served
  int64_t cache_hits;      // of these, from the cache
};
MemoryStats cpu_memory_stats();
void cpu_reset_peak();
void cpu_empty_cache();

}  // namespace gg
