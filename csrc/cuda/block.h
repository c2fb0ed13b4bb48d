// Reductions within a warp and within a block, always in the same order.
#pragma once
#include "cuda/language.h"
#include "cuda/warp.h"

namespace gg::cuda {

struct Sum {
  template <class T> static __device__ T of(T a, T b) { return a + b; }
};
struct Max {  // NaN wins
  template <class T> static __device__ T of(T a, T b) { return a > b || a != a ? a : b; }
};
struct Min {
  template <class T> static __device__ T of(T a, T b) { return a < b || a != a ? a : b; }
};

// Every lane gets the result; width lanes (a power of two) form a group.
template <class Op, class T> __device__ inline T warp_reduce(T x, int width = 32) {
  for (int step = width / 2; step > 0; step /= 2) x = Op::of(x, shuffle_xor(x, step));
  return x;
}

// Every thread gets the result. parts: shared memory for one T a warp; all threads of the block take part, in one
// dimension of whole warps. Two barriers; parts may be used again right after it.
template <class Op, class T> __device__ inline T block_reduce(T x, T* parts) {
  const int warps = blockDim.x / 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  x = warp_reduce<Op>(x);
  if (warps == 1) return x;
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  T total = parts[0];
  for (int w = 1; w < warps; ++w) total = Op::of(total, parts[w]);
  __syncthreads();
  return total;
}

// The sum over the threads before this one; total: over all. As block_reduce otherwise.
template <class T> __device__ inline T block_prefix_sum(T x, T* parts, T* total) {
  const int warps = blockDim.x / 32, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  T sum = x;
  for (int step = 1; step < 32; step *= 2) {
    const T below = shuffle_up(sum, step);
    if (lane >= step) sum += below;
  }
  if (lane == 31) parts[warp] = sum;
  __syncthreads();
  T all = lane < warps ? parts[lane] : T(0);
  for (int step = 1; step < 32; step *= 2) {
    const T below = shuffle_up(all, step);
    if (lane >= step) all += below;
  }
  const T before = shuffle(all, warp > 0 ? warp - 1 : 0);
  __syncthreads();
  *total = shuffle(all, 31);
  return (warp > 0 ? before : T(0)) + sum - x;
}

}  // namespace gg::cuda
