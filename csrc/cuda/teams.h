// Rows and columns of dense matrices, shared out among threads.
//
// A team of threads walks a row in packs of 16 bytes: pack p holds elements p * kPack<T> - shift on, where `shift`
// elements before the row is a 16-byte boundary. So every pack but a row's first and last is one access, whatever the
// rows' length, and neighbouring threads take neighbouring packs.
#pragma once
#include <stdint.h>

#include "cuda/block.h"
#include "cuda/launch.h"
#include "cuda/number.h"

namespace gg::cuda {

constexpr int kMaxBlock = 1024;

// Packs of T that a thread keeps in 16 registers once they are computed with, in 8 where that is double: its functions
// want many.
template <class T> constexpr int kHeldPacks = sizeof(T) == 8 ? 2 : 16 / kPack<T>;

// `width` threads that share a row: a power of two up to a warp's 32, or the whole block.
struct Team {
  int width, rank, index, count;  // rank in the team, index of the team in the block, teams of the block

  __device__ explicit Team(int width_)
      : width(width_), rank(threadIdx.x % width_), index(threadIdx.x / width_), count(blockDim.x / width_) {}

  // parts: as block_reduce's; a team within a warp needs none.
  template <class Op, class T> __device__ T reduce(T x, T* parts) const {
    return width <= 32 ? warp_reduce<Op>(x, width) : block_reduce<Op>(x, parts);
  }
};

__device__ inline bool on_boundary(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T> struct Packs {
  int shift;
  bool even;  // every pack is whole
  int64_t n, count;

  __device__ Packs(const T* row, int64_t n_)
      : shift(int(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T))),
        even(shift == 0 && n_ % kPack<T> == 0),
        n(n_),
        count((n_ + shift + kPack<T> - 1) / kPack<T>) {}
  __device__ int64_t first(int64_t pack) const { return pack * kPack<T> - shift; }
  // Whether the packs are whole in another row of as many elements too.
  __device__ bool even_in(const void* row) const { return even && on_boundary(row); }
};

// The pack of a row of n from element `first` on; fill where the row has none. even: as Packs'.
template <class I, class T>
__device__ inline Pack<T, kPack<T>> load_one(const T* __restrict__ row, I first, I n, bool even, T fill) {
  constexpr int V = kPack<T>;
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) pack[i] = fill;
  if (even ? first < n : first >= 0 && first + V <= n && on_boundary(row + first)) {
    pack = load_pack<V>(row + first);
  } else if (!even) {
#pragma unroll
    for (int i = 0; i < V; ++i)
      if (first + i >= 0 && first + i < n) pack[i] = row[first + i];
  }
  return pack;
}

// K packs, `step` elements apart from `first` on. Where the packs are even no branch keeps a load from starting before
// the one ahead of it has come.
template <int K, class I, class T>
__device__ inline void load_tile(const T* __restrict__ row, I first, I step, I n, bool even, T fill,
                                 Pack<T, kPack<T>> (&tile)[K]) {
  if (even) {
#pragma unroll
    for (int k = 0; k < K; ++k) tile[k] = load_one(row, first + k * step, n, true, fill);
  } else {
#pragma unroll
    for (int k = 0; k < K; ++k) tile[k] = load_one(row, first + k * step, n, false, fill);
  }
}

template <class I, class T, class C>
__device__ inline void store_one(T* __restrict__ row, I first, I n, bool even, const C (&v)[kPack<T>]) {
  constexpr int V = kPack<T>;
  if (even ? first < n : first >= 0 && first + V <= n && on_boundary(row + first)) {
    Pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; ++i) pack[i] = to_element<T>(v[i]);
    store_pack(row + first, pack);
  } else if (!even) {
#pragma unroll
    for (int i = 0; i < V; ++i)
      if (first + i >= 0 && first + i < n) store(row + first + i, v[i]);
  }
}
template <int K, class I, class T, class C>
__device__ inline void store_tile(T* __restrict__ row, I first, I step, I n, bool even, const C (&v)[K][kPack<T>]) {
#pragma unroll
  for (int k = 0; k < K; ++k) store_one(row, first + k * step, n, even, v[k]);
}

// The elements of a tile as numbers to compute with.
template <class T, int K, int V, class C> __device__ inline void widen(const Pack<T, V> (&tile)[K], C (&v)[K][V]) {
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int i = 0; i < V; ++i) v[k][i] = from_element<C>(tile[k][i]);
}

// Elements first .. first + N - 1 of a line of n; fill where it has none.
template <int N, class I, class C>
__device__ inline void load_line(const C* __restrict__ line, I first, I n, C fill, C (&v)[N]) {
  const C* from = line + first;
  if (first >= 0 && first + N <= n && on_boundary(from)) {
#pragma unroll
    for (int k = 0; k < N; k += kPack<C>) {
      const auto pack = load_pack<kPack<C>>(from + k);
#pragma unroll
      for (int i = 0; i < kPack<C>; ++i) v[k + i] = pack[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = first + i >= 0 && first + i < n ? from[i] : fill;
  }
}

// Threads a row and a block, and blocks, for rows of n elements of T of which a thread can hold `held` packs.
struct TeamPlan {
  int width, block;
  bool fits;  // a team holds a row
  dim3 grid;

  template <class T> static TeamPlan of(const T* rows, int64_t count, int64_t n, int held, int most = kMaxBlock) {
    const bool even = aligned(rows, 16) && n % kPack<T> == 0;
    return TeamPlan(count, ceil_div(n + (even ? 0 : kPack<T> - 1), kPack<T>), held, most);
  }
  // For rows of so many packs.
  TeamPlan(int64_t count, int64_t packs, int held, int most) {
    if (packs <= 32 * held) {
      width = 1;
      while (width < 32 && 2 * width < packs) width *= 2;
      block = 128;
    } else {
      const int64_t wanted = ceil_div(packs, 32 * held) * 32;
      width = block = int(wanted < most ? wanted : most);
    }
    fits = packs <= int64_t(width) * held;
    grid = grid_for(count, block / width, 16);
  }
};

// A block over columns: `width` neighbouring ones, each shared by `height` threads.
struct ColumnTeam {
  int width, height, x, y;

  __device__ explicit ColumnTeam(int width_)
      : width(width_), height(blockDim.x / width_), x(threadIdx.x % width_), y(threadIdx.x / width_) {}

  // Every thread of a column gets the result. parts: one T a thread. Two barriers.
  template <class Op, class T> __device__ T reduce(T value, T* parts) const {
    if (height == 1) return value;
    parts[threadIdx.x] = value;
    __syncthreads();
    T total = parts[x];
    for (int h = 1; h < height; ++h) total = Op::of(total, parts[h * width + x]);
    __syncthreads();
    return total;
  }
};

// For `columns` columns of n elements: few columns of many elements are shared by many threads each.
struct ColumnPlan {
  int width, block;
  dim3 grid;

  ColumnPlan(int64_t columns, int64_t n) {
    int height = 1, most = columns < 16384 ? 32 : 8;
    while (height < most && 16 * height < n) height *= 2;
    block = height > 8 ? 32 * height : 256;
    width = block / height;
    grid = grid_for(columns, width, 16);
  }
};

}  // namespace gg::cuda
