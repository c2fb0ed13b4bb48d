#include "cuda/pinned.h"

#include <bit>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "core/check.h"
#include "cuda/allocator.h"
#include "cuda/runtime.h"

namespace gg::cuda {
namespace {

struct Use {
  int device;
  cudaStream_t stream;
  auto operator<=>(const Use&) const = default;
};
struct Mark {
  int device;
  cudaEvent_t event;
};
struct Block {
  size_t bytes;
  bool in_use;
  std::set<Use> uses;
  std::vector<Mark> marks;
};

// Never destroyed: tensors may outlive static destruction at interpreter exit.
struct Blocks {
  std::mutex mutex;
  std::map<char*, Block> all;
  std::multimap<size_t, char*> kept;
  std::vector<char*> waiting;
};
Blocks& blocks() {
  static Blocks* b = new Blocks;
  return *b;
}

// Host memory of no device: the number of one to ask the driver through.
constexpr int kFirst = 0;

void collect_passed(Blocks& b) {
  OutsideCapture outside;
  std::erase_if(b.waiting, [&](char* data) {
    Block& block = b.all[data];
    std::erase_if(block.marks, [](const Mark& m) {
      if (cudaEventQuery(m.event) == cudaErrorNotReady) return cudaGetLastError(), false;
      return_event(m.device, m.event);
      return true;
    });
    if (!block.marks.empty()) return false;
    b.kept.emplace(block.bytes, data);
    return true;
  });
}

void give_back_kept(Blocks& b) {
  OutsideCapture outside;
  for (auto& [bytes, data] : b.kept) {
    cudaFreeHost(data);
    b.all.erase(data);
  }
  b.kept.clear();
}

std::map<char*, Block>::iterator holder(Blocks& b, const void* data) {
  auto after = b.all.upper_bound(static_cast<char*>(const_cast<void*>(data)));
  if (after == b.all.begin()) return b.all.end();
  auto found = std::prev(after);
  return static_cast<const char*>(data) < found->first + found->second.bytes ? found : b.all.end();
}

}  // namespace

void* pinned_allocate(size_t bytes) {
  check<OutOfMemory>(bytes <= size_t(1) << 62, "out of memory: more than 2^62 bytes of pinned memory were asked for");
  const size_t size = std::bit_ceil(bytes < 512 ? size_t(512) : bytes);
  Blocks& b = blocks();
  std::lock_guard<std::mutex> lock(b.mutex);
  collect_passed(b);
  char* data = nullptr;
  if (auto found = b.kept.find(size); found != b.kept.end()) {
    data = found->second;
    b.kept.erase(found);
  } else {
    OnDevice on(kFirst);
    OutsideCapture outside;
    auto allocate = [&] { return cudaHostAlloc(reinterpret_cast<void**>(&data), size, cudaHostAllocPortable); };
    cudaError_t error = allocate();
    if (error == cudaErrorMemoryAllocation && !b.kept.empty()) {
      give_back_kept(b);
      error = allocate();
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw OutOfMemory("out of memory: the system gives no " + format_bytes(size) + " of pinned memory");
    }
    check_cuda(error, "allocating pinned memory");
  }
  b.all[data] = {size, true, {}, {}};
  return data;
}

void pinned_release(void* data) {
  if (device_count() == 0) return;  // in a fork, which cannot give back its parent's memory
  Blocks& b = blocks();
  std::lock_guard<std::mutex> lock(b.mutex);
  auto found = b.all.find(static_cast<char*>(data));
  if (found == b.all.end() || !found->second.in_use) return;
  Block& block = found->second;
  block.in_use = false;
  for (const Use& use : std::exchange(block.uses, {})) {
    OnDevice on(use.device);
    Mark mark{use.device, take_event(use.device)};
    if (cudaEventRecord(mark.event, use.stream) == cudaSuccess)
      block.marks.push_back(mark);
    else
      return_event(mark.device, mark.event);  // the device is lost: nothing is left to wait for
  }
  if (block.marks.empty())
    b.kept.emplace(block.bytes, found->first);
  else
    b.waiting.push_back(found->first);
}

bool is_pinned(const void* data) {
  if (device_count() == 0) return false;
  {
    Blocks& b = blocks();
    std::lock_guard<std::mutex> lock(b.mutex);
    if (holder(b, data) != b.all.end()) return true;
  }
  cudaPointerAttributes attributes = {};
  bool known = cudaPointerGetAttributes(&attributes, data) == cudaSuccess;
  cudaGetLastError();
  return known && attributes.type == cudaMemoryTypeHost;
}

void pinned_in_use(const void* data, int device, cudaStream_t stream) {
  Blocks& b = blocks();
  std::lock_guard<std::mutex> lock(b.mutex);
  auto found = holder(b, data);
  if (found != b.all.end()) found->second.uses.insert({device, stream});
}

void pinned_empty_cache() {
  Blocks& b = blocks();
  std::lock_guard<std::mutex> lock(b.mutex);
  collect_passed(b);
  give_back_kept(b);
}

}  // namespace gg::cuda
