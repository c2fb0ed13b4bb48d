// Talk between the lanes of a warp. All 32 lanes take part unless a mask says otherwise. T is a number of 4 or 8
// bytes, or a struct of whole words, which travels word by word.
#pragma once
#include <string.h>

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
// x with each of its words sent through f.
template <class T, class F> __device__ inline T by_words(T x, F f) {
  static_assert(sizeof(T) % 4 == 0);
  unsigned words[sizeof(T) / 4];
  memcpy(words, &x, sizeof(T));
#pragma unroll
  for (unsigned& word : words) word = f(word);
  memcpy(&x, words, sizeof(T));
  return x;
}
template <class T> __device__ inline T shuffle(T x, int lane, unsigned mask = kAllLanes) {
  return by_words(x, [=](unsigned word) { return __shfl_sync(mask, word, lane); });
}
template <class T> __device__ inline T shuffle_xor(T x, int lanes, unsigned mask = kAllLanes) {
  return by_words(x, [=](unsigned word) { return __shfl_xor_sync(mask, word, lanes); });
}
// From the lane that many above (below); lanes without one keep their own.
template <class T> __device__ inline T shuffle_down(T x, int lanes, unsigned mask = kAllLanes) {
  return by_words(x, [=](unsigned word) { return __shfl_down_sync(mask, word, lanes); });
}
template <class T> __device__ inline T shuffle_up(T x, int lanes, unsigned mask = kAllLanes) {
  return by_words(x, [=](unsigned word) { return __shfl_up_sync(mask, word, lanes); });
}
__device__ inline unsigned ballot(bool condition, unsigned mask = kAllLanes) { return __ballot_sync(mask, condition); }
__device__ inline void sync_warp(unsigned mask = kAllLanes) { __syncwarp(mask); }
#endif

__device__ inline bool any(bool condition, unsigned mask = kAllLanes) { return ballot(condition, mask) != 0; }
__device__ inline bool all(bool condition, unsigned mask = kAllLanes) { return ballot(condition, mask) == mask; }

}  // namespace gg::cuda
