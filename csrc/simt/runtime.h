// simt: CUDA threads as fibers on the CPU.
//
// Clusters of blocks (one block, unless a launch says more) run one after the other. Within one, every thread is a
// fiber: it runs until it must wait for others, at a barrier or a shuffle, and the scheduler then goes on with the next
// one, in an order that can be chosen: a program whose result depends on it has a race. When nobody can go on, the
// waits are listed. Memory checks are in check.h.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>

namespace gg::simt {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  Dim3() = default;
  Dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

constexpr int kWarp = 32, kMaxThreads = 1024, kMaxCluster = 8, kMaxWarps = kMaxThreads / kWarp * kMaxCluster;
constexpr size_t kMaxShared = 227 * 1024;  // of a block, as on sm_90

enum class Schedule { Forward, Reverse, Random };

// Of this process; the seed is for Random.
struct Settings {
  bool checks = true;
  bool lock = false;  // device memory can be touched by kernels and copies only
  Schedule schedule = Schedule::Forward;
  uint64_t seed = 0;
  int architecture = 90;  // the GPU that simt stands for: which kernels are chosen
};
Settings& settings();

struct Launch {
  void* kernel;
  void (*call)(void*);
  void* params;
  size_t params_bytes;
  Dim3 grid, block;
  unsigned cluster;
  size_t shared_bytes;
};
// Runs the whole grid; throws KernelFault at the first fault, and ValueError for a launch no GPU would take.
void run(const Launch& launch);
// Shared memory outside the arena, of the launches that follow: static arrays of a module.
void set_static_shared(char* begin, size_t bytes);

// Of the running thread.
Dim3 thread_index();
Dim3 block_index();
Dim3 block_size();
Dim3 grid_size();
int lane();             // in its warp
int warp_in_cluster();  // 0 for the first warp of the cluster's first block
unsigned block_in_cluster();
unsigned cluster_size();
void* arena(size_t align, size_t bytes);  // the block's shared memory, which must hold a struct of this size
char* arena_of(unsigned block_in_cluster);

// Waits until ready(argument) holds; what, file and line are for the list of waits when nobody can go on.
struct Place {
  const char* file = nullptr;
  int line = 0;
};
void wait(bool (*ready)(void*), void* argument, const char* what, Place place);

// Ends the launch with a fault of the running thread.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

void block_barrier(const char* file, int line);
// Named barrier: `threads` of the block (whole warps) meet; arrive leaves without waiting.
void named_barrier(int id, int threads, bool waits, const char* file, int line);
void sync_warp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(), int line = __builtin_LINE());
void cluster_barrier(const char* file, int line);

// Happens-before between warps, for anything that synchronises beyond the functions above: a clock is what one side
// releases and the other acquires.
struct Clock { uint32_t of[kMaxWarps] = {}; };
void release(Clock& clock);  // what the running warp did so far is seen by whoever acquires
void acquire(const Clock& clock);

// The lanes in mask meet; each brings `bytes` bytes. The last to come calls combine(lanes in mask, in, out), where in
// and out hold 32 slots of `bytes` bytes; then every lane takes its slot of out home.
using Combine = void (*)(unsigned mask, const char* in, char* out, size_t bytes, void* context);
constexpr size_t kMaxSlot = 256;
void meet(unsigned mask, const void* in, void* out, size_t bytes, Combine combine, void* context, const char* what,
          Place place);

// Every lane receives the value of the lane source[lane] of the mask; -1 is itself.
void exchange(unsigned mask, const void* in, void* out, size_t bytes, int source, const char* what, Place place);

template <class T> T exchanged(T x, int source, unsigned mask, const char* what, Place place) {
  T y;
  exchange(mask, &x, &y, sizeof(T), source, what, place);
  return y;
}
#define GG_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
template <class T> T shuffle(T x, int source, unsigned mask = 0xffffffffu, GG_PLACE) {
  return exchanged(x, source & 31, mask, "shuffle", {file, line});
}
template <class T> T shuffle_xor(T x, int lanes, unsigned mask = 0xffffffffu, GG_PLACE) {
  return exchanged(x, lane() ^ lanes, mask, "shuffle_xor", {file, line});
}
template <class T> T shuffle_down(T x, int lanes, unsigned mask = 0xffffffffu, GG_PLACE) {
  return exchanged(x, lane() + lanes < kWarp ? lane() + lanes : -1, mask, "shuffle_down", {file, line});
}
template <class T> T shuffle_up(T x, int lanes, unsigned mask = 0xffffffffu, GG_PLACE) {
  return exchanged(x, lane() - lanes >= 0 ? lane() - lanes : -1, mask, "shuffle_up", {file, line});
}
unsigned ballot(bool condition, unsigned mask = 0xffffffffu, GG_PLACE);

// The checks of a read-modify-write, then f(old) in its place.
void check_atomic(const void* p, size_t bytes, const void* caller);
template <class T, class F> __attribute__((noinline, no_sanitize_thread)) T atomic(T* p, F f) {
  check_atomic(p, sizeof(T), __builtin_return_address(0));
  T old;
  memcpy(&old, p, sizeof(T));
  T now = f(old);
  memcpy(p, &now, sizeof(T));
  return old;
}

// IEEE half precision and bfloat16, rounded to nearest even.
float half_to_float(uint16_t bits);
uint16_t float_to_half(float x);
uint16_t float_to_bfloat(float x);

}  // namespace gg::simt
