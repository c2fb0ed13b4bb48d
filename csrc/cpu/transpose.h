// Square blocks transposed in registers by log2(n) perfect shuffles of their rows (Eklundh 1972).
#pragma once
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

template <int bytes> struct lane_index;
template <> struct lane_index<1> { using type = int8_t; };
template <> struct lane_index<2> { using type = int16_t; };
template <> struct lane_index<4> { using type = int32_t; };
template <> struct lane_index<8> { using type = int64_t; };

// Rows n/2 apart are interleaved log2(n) times, which is a transpose.
template <class T, int n> inline void transpose_square(typename Packed<T, n>::type (&a)[n]) {
  using V = typename Packed<T, n>::type;
  using I = typename Packed<typename lane_index<sizeof(T)>::type, n>::type;
  I low, high;  // the shuffles' lane numbers: 0, n, 1, n + 1, ... and the upper half alike
  for (int i = 0; i < n; ++i) {
    low[i] = i / 2 + i % 2 * n;
    high[i] = i / 2 + n / 2 + i % 2 * n;
  }
  V b[n];
  for (int step = 1; step < n; step *= 2) {
    for (int i = 0; i < n / 2; ++i) {
      b[2 * i] = __builtin_shuffle(a[i], a[i + n / 2], low);
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + n / 2], high);
    }
    for (int i = 0; i < n; ++i) a[i] = b[i];
  }
}

}  // namespace
}  // namespace gg::GG_ISA
