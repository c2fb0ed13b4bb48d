// Square blocks of n rows of n lanes in registers, transposed or reduced row by row: log2(n) rounds in which rows
// exchange halves, then quarters, and so on (Eklundh 1972).
#pragma once
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

template <int... I> struct Lanes {};

// Of each pair of groups of D lanes, a keeps its first and takes b's first, b keeps its second and takes a's second.
template <int D, class V, int... I> [[gnu::always_inline]] inline void exchange(V& a, V& b, Lanes<I...>) {
  constexpr int n = sizeof...(I);
  const V first = __builtin_shufflevector(a, b, (I & D ? n + (I ^ D) : I)...);
  b = __builtin_shufflevector(a, b, (I & D ? n + I : I ^ D)...);
  a = first;
}

template <class T, int n = kLanes<T>, int D = n / 2>
[[gnu::always_inline]] inline void transpose_square(typename Packed<T, n>::type (&x)[n]) {
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i)
    if (!(i & D)) exchange<D>(x[i], x[i + D], Lanes<__integer_pack(n)...>{});
  if constexpr (D > 1) transpose_square<T, n, D / 2>(x);
}

// Lane i of the result is what f makes of the lanes of x[i], its halves first.
template <class C, int D = kLanes<C> / 2, class F>
[[gnu::always_inline]] inline Vec<C> reduce_each(Vec<C> (&x)[kLanes<C>], const F& f) {
#pragma GCC unroll 8
  for (int i = 0; i < D; ++i) {
    exchange<D>(x[i], x[i + D], Lanes<__integer_pack(kLanes<C>)...>{});
    x[i] = f(x[i], x[i + D]);
  }
  if constexpr (D > 1) return reduce_each<C, D / 2>(x, f);
  return x[0];
}
template <class C> [[gnu::always_inline]] inline Vec<C> sum_each(Vec<C> (&x)[kLanes<C>]) {
  return reduce_each<C>(x, [](Vec<C> a, Vec<C> b) { return a + b; });
}

}  // namespace
}  // namespace gg::GG_ISA
