// The caching allocator of a device's memory.
//
// cudaMalloc and cudaFree make everything wait, so memory once had is kept: segments are cut into blocks, and blocks
// that come back grow together with free neighbours. Sizes are PyTorch's (its CUDACachingAllocator): requests round up
// to 512 bytes; those of up to 1 MB share segments of 2 MB, those under 10 MB segments of 20 MB, larger ones have a
// segment of their own, rounded up to 2 MB. A block belongs to the stream that asked for it, in whose order it can be
// handed out again at once; one that other streams used as well waits for them. What a graph's capture asks for comes
// from a pool of its own: a replay writes to the same addresses.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace gg::cuda {

// Memory as the driver gives it, and marks in streams. The runtime provides one a device, a test a mock.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* allocate(size_t bytes) = 0;  // null where the device has no such piece
  virtual void release(void* data) = 0;
  virtual void info(size_t* free, size_t* total) = 0;
  virtual void* record(void* stream) = 0;  // an event behind all that the stream was given so far
  virtual bool passed(void* event) = 0;
  virtual void wait(void* event) = 0;
  virtual void drop(void* event) = 0;
};

enum class Counter : uint8_t {
  Allocation,
  Segment,
  Active,  // in use, or waiting for other streams
  InactiveSplit,
  AllocatedBytes,
  ReservedBytes,
  ActiveBytes,
  InactiveSplitBytes,
  RequestedBytes,
};
constexpr int kCounters = 9;
enum class Share : uint8_t { All, Small, Large };
constexpr int kShares = 3;

struct Tally {
  int64_t current = 0, peak = 0, allocated = 0, freed = 0;
  void add(int64_t n);
};

struct AllocatorStats {
  Tally tallies[kCounters][kShares];
  int64_t hits = 0;     // requests served from memory kept
  int64_t retries = 0;  // requests served after everything kept was given back
  int64_t failures = 0;
  int64_t device_allocations = 0, device_releases = 0;
  const Tally& of(Counter c, Share s = Share::All) const { return tallies[int(c)][int(s)]; }
};

struct BlockView {
  void* data;
  size_t bytes, requested;
  bool in_use, waiting;
};
struct SegmentView {
  void* data;
  size_t bytes;
  void* stream;
  bool large;
  uint64_t pool;
  std::vector<BlockView> blocks;
};

class CachingAllocator {
 public:
  // device names it in errors.
  CachingAllocator(DeviceMemory& memory, std::string device);
  ~CachingAllocator();

  void* allocate(size_t bytes, void* stream);  // null for 0 bytes only; throws OutOfMemory
  void release(void* data);
  // Work already given to the stream uses the block too: it is not handed out again before that is done. False where
  // data is no block of this allocator.
  bool record_stream(void* data, void* stream);
  void empty_cache();
  void set_limit(size_t bytes);  // of device memory held at once

  AllocatorStats stats();
  void reset_peak();
  void reset_accumulated();
  std::vector<SegmentView> segments();

  // Pools of graphs, numbered from 1; pool 0 is everybody's. A pool lives while it is held or has blocks in use.
  uint64_t make_pool();  // held once
  void hold_pool(uint64_t pool);
  void drop_pool(uint64_t pool);
  // Until the end of the capture, streams for which `captured` holds allocate from the pool.
  void begin_capture(uint64_t pool, std::function<bool(void*)> captured);
  void end_capture(uint64_t pool);

 private:
  struct Pool;
  struct Block;
  struct InOrder { bool operator()(const Block* a, const Block* b) const; };
  using Bin = std::set<Block*, InOrder>;

  Pool& pool_for(void* stream);
  Block* take_kept(Pool& pool, bool large, size_t size, void* stream);
  Block* take_fresh(Pool& pool, bool large, size_t size, void* stream);
  void* hand_out(Block* block, size_t size, size_t requested);
  void keep(Block* block);
  void put_in_bin(Block* block);
  void take_from_bin(Block* block);
  void merge(Block* block, Block* neighbour);
  void mark_streams(Block* block);
  void collect_passed();
  void wait_for_all();
  void give_back_kept();
  void give_back(Bin& bin);
  void count(Counter c, bool large, int64_t n);
  [[noreturn]] void throw_out_of_memory(size_t bytes);

  struct Event {
    void* event;
    Block* block;
  };
  struct Capture {
    uint64_t pool;
    std::function<bool(void*)> captured;
  };

  DeviceMemory& memory_;
  const std::string device_;
  std::mutex mutex_;
  size_t limit_ = SIZE_MAX;
  AllocatorStats stats_;
  uint64_t next_pool_ = 1;
  std::map<uint64_t, std::unique_ptr<Pool>> pools_;
  std::unordered_map<void*, Block*> in_use_;
  std::map<void*, Block*> segments_;                    // first block of each
  std::unordered_map<void*, std::deque<Event>> marks_;  // by stream, in its order
  std::vector<Capture> captures_;
  std::vector<Block*> unmarked_;  // released while a capture forbade to record events
};

std::string format_bytes(size_t bytes);  // 1.50 GiB

}  // namespace gg::cuda
