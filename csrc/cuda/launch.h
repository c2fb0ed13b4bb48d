// launch(kernel, grid, block, shared bytes, arguments...): the only way a kernel starts.
//
// A kernel keeps its shared memory in one dynamic arena, overlaid by a struct: shared<Tiles>() inside, sizeof(Tiles) at
// the launch. Launches go to the current stream of the device in use; one that fails throws and names the kernel.
#pragma once
#include "cuda/language.h"
#include "cuda/memory.h"

#if defined(GG_SIMT)
#include "simt/launch.h"
#else
#include "cuda/runtime.h"
#endif

namespace gg::cuda {

#if !defined(GG_SIMT)
template <class T> __device__ inline T& shared() {
  extern __shared__ __align__(1024) unsigned char gg_arena[];
  return *reinterpret_cast<T*>(gg_arena);
}

// cluster: blocks of a cluster along x (Hopper), 1 for none.
template <class... Params, class... Args>
void launch_cluster(void (*kernel)(Params...), unsigned cluster, dim3 grid, dim3 block, size_t shared_bytes,
                    Args... args) {
  auto start = [&](Params... converted) {
    void* pointers[] = {&converted...};
    start_kernel(reinterpret_cast<const void*>(kernel), cluster, grid, block, shared_bytes, pointers);
  };
  start(args...);
}
#endif

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Args... args) {
  launch_cluster(kernel, 1, grid, block, shared_bytes, args...);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for n independent items at `block` a block, each walking on by the whole grid: enough to fill the device.
inline dim3 grid_for(int64_t n, int block, int blocks_per_multiprocessor = 8) {
  int64_t wanted = ceil_div(n, block), most = int64_t(multiprocessors()) * blocks_per_multiprocessor;
  return dim3(unsigned(wanted < 1 ? 1 : wanted < most ? wanted : most));
}

// The items of a one-dimensional grid's thread: for (int64_t i = first_item(); i < n; i += item_step()).
__device__ inline int64_t first_item() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t item_step() { return int64_t(gridDim.x) * blockDim.x; }

}  // namespace gg::cuda
