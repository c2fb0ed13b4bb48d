#include "core/allocator.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <mutex>
#include <string>
#include <vector>

#include "core/check.h"

namespace gg {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHugePage = size_t(2) << 20;
constexpr int kClasses = 64 * 4;
constexpr int64_t kCacheSlack = int64_t(256) << 20;  // the cache may hold this much more than was ever in use at once

// Sizes round up to 1, 1.25, 1.5 or 1.75 times a power of two, at least 64: at most a fifth is wasted.
size_t class_size(size_t bytes, int* index) {
  if (bytes <= kAlign) {
    *index = 0;
    return kAlign;
  }
  int log = 63 - __builtin_clzll(bytes - 1);  // 2^log <= bytes - 1
  size_t quarter = (size_t(1) << log) / 4;
  size_t steps = (bytes - 1 - (size_t(1) << log)) / quarter + 1;  // 1..4
  *index = log * 4 + int(steps) - 1;
  return (size_t(1) << log) + steps * quarter;
}

struct Cache {
  std::mutex mutex;
  std::vector<void*> free_blocks[kClasses];
  MemoryStats stats{};
};
// Never destroyed: arrays may outlive static destruction at interpreter exit.
Cache& cache() {
  static Cache* c = new Cache;
  return *c;
}

// A kernel's thread may be inside the allocator while another forks: the fork waits for it, so a child finds the lock
// free.
[[maybe_unused]] const int registered =
    pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); }, [] { cache().mutex.unlock(); });

void empty_locked(Cache& c) {
  for (auto& list : c.free_blocks) {
    for (void* block : list) free(block);
    list.clear();
    list.shrink_to_fit();
  }
  c.stats.cached = 0;
}

void* fresh_block(size_t size) {
  size_t align = size >= kHugePage ? kHugePage : kAlign;
  void* block = nullptr;
  if (posix_memalign(&block, align, size) != 0) return nullptr;
  if (size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);  // fewer faults on first touch; advice only
  return block;
}

}  // namespace

void* cpu_allocate(size_t bytes) {
  if (bytes > size_t(1) << 62) throw OutOfMemory("out of memory: an array of more than 2^62 bytes was asked for");
  int index;
  size_t size = class_size(bytes, &index);
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  auto& list = c.free_blocks[index];
  void* block;
  if (!list.empty()) {
    block = list.back();
    list.pop_back();
    c.stats.cached -= int64_t(size);
    ++c.stats.cache_hits;
  } else {
    block = fresh_block(size);
    if (!block && c.stats.cached) {
      empty_locked(c);
      block = fresh_block(size);
    }
    if (!block)
      throw OutOfMemory("out of memory: asked for " + std::to_string(bytes) + " bytes on the CPU while " +
                        std::to_string(c.stats.allocated) + " bytes are held by arrays and the cache is empty");
  }
  ++c.stats.allocations;
  c.stats.allocated += int64_t(size);
  if (c.stats.allocated > c.stats.peak_allocated) c.stats.peak_allocated = c.stats.allocated;
  return block;
}

void cpu_release(void* data, size_t bytes) {
  int index;
  size_t size = class_size(bytes, &index);
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  c.stats.allocated -= int64_t(size);
  if (c.stats.cached + int64_t(size) > c.stats.peak_allocated + kCacheSlack) {
    free(data);
    return;
  }
  c.free_blocks[index].push_back(data);
  c.stats.cached += int64_t(size);
}

MemoryStats cpu_memory_stats() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  return c.stats;
}

void cpu_reset_peak() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  c.stats.peak_allocated = c.stats.allocated;
}

void cpu_empty_cache() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  empty_locked(c);
}

}  // namespace gg
