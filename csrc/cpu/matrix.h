// A matrix in memory, and what is done to blocks of its elements in registers.
#pragma once
#include "cpu/integers.h"
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Element (i, j) lies at data[i * row + j * col].
template <class T> struct Matrix {
  T* data = nullptr;
  int64_t row = 0, col = 0;
  T* at(int64_t i, int64_t j) const { return data + i * row + j * col; }
  Matrix block(int64_t i, int64_t j) const { return {at(i, j), row, col}; }
  Matrix transposed() const { return {data, col, row}; }
};

template <int... I> struct Lanes {};
template <class C> using EveryLane = Lanes<__integer_pack(kLanes<C>)...>;

// Of each pair of groups of D lanes, a keeps its first and takes b's first, b keeps its second and takes a's second.
template <int D, class C, int... I> inline void exchange(Vec<C>& a, Vec<C>& b, Lanes<I...>) {
  constexpr int L = kLanes<C>;
  const Vec<C> first = __builtin_shufflevector(a, b, (I & D ? L + (I ^ D) : I)...);
  b = __builtin_shufflevector(a, b, (I & D ? L + I : I ^ D)...);
  a = first;
}

// The transpose of an L x L block of vectors, by log2 L rounds of exchanging halves.
template <class C, int D = kLanes<C> / 2> [[gnu::always_inline]] inline void transpose_lanes(Vec<C> (&x)[kLanes<C>]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<C>; ++i)
    if (!(i & D)) exchange<D, C>(x[i], x[i + D], EveryLane<C>{});
  if constexpr (D > 1) transpose_lanes<C, D / 2>(x);
}

// Lane l of the result is the sum of the lanes of x[l].
template <class C, int D = kLanes<C> / 2> [[gnu::always_inline]] inline Vec<C> sums_of(Vec<C> (&x)[kLanes<C>]) {
#pragma GCC unroll 8
  for (int i = 0; i < D; ++i) {
    exchange<D, C>(x[i], x[i + D], EveryLane<C>{});
    x[i] += x[i + D];
  }
  if constexpr (D > 1) return sums_of<C, D / 2>(x);
  return x[0];
}

}  // namespace
}  // namespace gg::GG_ISA
