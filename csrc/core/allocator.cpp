#include "core/allocator.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <atomic>
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

// GLASSGRAD_POISON=1: memory that nobody has written, or that was given back, holds NaNs, so that tests show who reads
// it.
const bool poison = [] {
  const char* text = getenv("GLASSGRAD_POISON");
  return text && *text == '1';
}();
void spoil(void* block, size_t size) {
  if (poison) memset(block, 0xff, size);
}

// Sizes round up to 1, 1.25, 1.5 or 1.75 times a power of two, at least 64: at most a fifth is wasted.
size_t size_of_class(int index) {
  if (index == 0) return kAlign;
  size_t power = size_t(1) << index / 4;
  return power + size_t(index % 4 + 1) * (power / 4);
}

size_t class_size(size_t bytes, int* index) {
  if (bytes <= kAlign) {
    *index = 0;
    return kAlign;
  }
  int log = 63 - __builtin_clzll(bytes - 1);  // 2^log <= bytes - 1
  size_t quarter = (size_t(1) << log) / 4;
  size_t steps = (bytes - 1 - (size_t(1) << log)) / quarter + 1;  // 1..4
  *index = log * 4 + int(steps) - 1;
  return size_of_class(*index);
}

// Held for a few instructions, in which nothing waits and no block is asked of the system; a mutex would cost as much
// again as the rest of an allocation.
class Lock {
 public:
  void lock() {
    while (taken_.exchange(true, std::memory_order_acquire))
      while (taken_.load(std::memory_order_relaxed)) sched_yield();
  }
  void unlock() { taken_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> taken_{false};
};
using Guard = std::lock_guard<Lock>;

struct Cache {
  Lock lock;
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
    pthread_atfork([] { cache().lock.lock(); }, [] { cache().lock.unlock(); }, [] { cache().lock.unlock(); });

void* fresh_block(size_t size) {
  size_t align = size >= kHugePage ? kHugePage : kAlign;
  void* block = nullptr;
  if (posix_memalign(&block, align, size) != 0) return nullptr;
  if (size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);  // fewer faults on first touch; advice only
  spoil(block, size);
  return block;
}

void count_locked(Cache& c, size_t size) {
  ++c.stats.allocations;
  c.stats.allocated += int64_t(size);
  if (c.stats.allocated > c.stats.peak_allocated) c.stats.peak_allocated = c.stats.allocated;
}

}  // namespace

void* cpu_allocate(size_t bytes) {
  if (bytes > size_t(1) << 62) throw OutOfMemory("out of memory: an array of more than 2^62 bytes was asked for");
  int index;
  size_t size = class_size(bytes, &index);
  Cache& c = cache();
  {
    Guard lock(c.lock);
    auto& list = c.free_blocks[index];
    if (!list.empty()) {
      void* block = list.back();
      list.pop_back();
      c.stats.cached -= int64_t(size);
      ++c.stats.cache_hits;
      count_locked(c, size);
      return block;
    }
  }
  void* block = fresh_block(size);
  if (!block) {
    cpu_empty_cache();
    block = fresh_block(size);
  }
  Guard lock(c.lock);
  if (!block)
    throw OutOfMemory("out of memory: asked for " + std::to_string(bytes) + " bytes on the CPU while " +
                      std::to_string(c.stats.allocated) + " bytes are held by arrays and the cache is empty");
  count_locked(c, size);
  return block;
}

void cpu_release(void* data, size_t bytes) {
  int index;
  size_t size = class_size(bytes, &index);
  spoil(data, size);
  Cache& c = cache();
  {
    Guard lock(c.lock);
    c.stats.allocated -= int64_t(size);
    if (c.stats.cached + int64_t(size) <= c.stats.peak_allocated + kCacheSlack) {
      c.free_blocks[index].push_back(data);
      c.stats.cached += int64_t(size);
      return;
    }
  }
  free(data);
}

MemoryStats cpu_memory_stats() {
  Cache& c = cache();
  Guard lock(c.lock);
  return c.stats;
}

void cpu_reset_peak() {
  Cache& c = cache();
  Guard lock(c.lock);
  c.stats.peak_allocated = c.stats.allocated;
}

void cpu_empty_cache() {
  Cache& c = cache();
  for (auto& list : c.free_blocks) {
    std::vector<void*> blocks;
    {
      Guard lock(c.lock);
      blocks.swap(list);
      if (!blocks.empty()) c.stats.cached -= int64_t(blocks.size() * size_of_class(int(&list - c.free_blocks)));
    }
    for (void* block : blocks) free(block);
  }
}

}  // namespace gg
