// What the scheduler and the checks share.
#pragma once
#include <string>
#include <vector>

#include "simt/fiber.h"
#include "simt/runtime.h"

namespace gg::simt {

enum class State : uint8_t { Fresh, Running, Waiting, Done };

// A copy_async that its thread has not waited for yet; the group counts the thread's commits.
struct AsyncCopy {
  void* to;
  const void* from;
  int bytes, source_bytes;
  uint32_t group;
  const void* code;
};

struct Thread {
  Context context;
  char* stack = nullptr;
  Dim3 index;
  int lane = 0, warp = 0;  // warp in the cluster
  uint16_t number = 0;     // in the cluster
  unsigned block = 0;      // block in the cluster
  State state = State::Fresh;
  bool (*ready)(void*) = nullptr;
  void* argument = nullptr;
  const char* what = nullptr;
  Place place;
  std::vector<AsyncCopy> copies;
  uint32_t copy_groups = 0;
};

struct Machine {
  const Launch* launch = nullptr;
  Thread* self = nullptr;  // the running thread; null between them
  Context scheduler;
  unsigned blocks = 1;            // of the cluster that runs
  Dim3 block_index[kMaxCluster];  // and their places in the grid
  int warps = 0, warps_per_block = 0;
  uint8_t warp_of[kMaxThreads * kMaxCluster];  // by a thread's number
  uint32_t epoch[kMaxWarps];                   // a warp's own time
  Clock clock[kMaxWarps];                      // clock[w].of[v]: up to which epoch of v warp w has seen
  uint32_t fenced[kMaxWarps];                  // the epoch of a warp's last fence_shared_for_async
  uint64_t cluster_number = 0;
  std::string failure;
};
extern Machine machine;

// Hopper's part: forget the barriers and copies of the cluster before; a fault where the thread that ends has started
// something that was never waited for.
void start_hopper_cluster();
void end_hopper_thread();

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kAllStackBytes = kStackBytes * kMaxThreads * kMaxCluster;
extern char* stacks;
inline bool on_a_stack(uintptr_t address) { return address - reinterpret_cast<uintptr_t>(stacks) < kAllStackBytes; }
std::string describe_thread(const Thread& thread);
// file:line of a code address in this module, of the .cu file where it was inlined into one.
std::string describe_code(const void* address);
std::string here(Place place);  // file:line
std::string kernel_name(const void* kernel);

}  // namespace gg::simt
