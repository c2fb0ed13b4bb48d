// Talk between the lanes of a warp. All 32 lanes take part unless a mask says otherwise; T has 4 or 8 bytes.
#pragma once
#include "cuda/language.h"

namespace gg::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

#if defined(GG_SIMT)
using simt::ballot;
using simt::shuffle;
using simt::shuffle_down;
using simt::shuffle_up;
using simt::shuffle_xor;
using simt::sync_warp;
#else
template <class T> __device__ inline T shuffle(T x, int lane, unsigned mask = kAllLanes) {
  return __shfl_sync(mask, x, lane);
}
template <class T> __device__ inline T shuffle_xor(T x, int lanes, unsigned mask = kAllLanes) {
  return __shfl_xor_sync(mask, x, lanes);
}
// From the lane that many above (below); lanes without one keep their own.
template <class T> __device__ inline T shuffle_down(T x, int lanes, unsigned mask = kAllLanes) {
  return __shfl_down_sync(mask, x, lanes);
}
template <class T> __device__ inline T shuffle_up(T x, int lanes, unsigned mask = kAllLanes) {
  return __shfl_up_sync(mask, x, lanes);
}
__device__ inline unsigned ballot(bool condition, unsigned mask = kAllLanes) { return __ballot_sync(mask, condition); }
__device__ inline void sync_warp(unsigned mask = kAllLanes) { __syncwarp(mask); }
#endif

__device__ inline bool any(bool condition, unsigned mask = kAllLanes) { return ballot(condition, mask) != 0; }
__device__ inline bool all(bool condition, unsigned mask = kAllLanes) { return ballot(condition, mask) == mask; }

}  // namespace gg::cuda
