// Matmul on the CPU, rung 3: a tile of C in registers. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// kRows rows and kVectors vectors of C stay in registers while K runs: at each k the vectors of a row of B are loaded
// once and multiplied by kRows elements of A, each broadcast to all lanes. With AVX-512 24 sums are under way, where
// two units of four cycles need eight.
//   Work       4 loads and 6 broadcasts for 24 vector multiply-adds: 5 cycles of two load units beside 12 of
//              multiply-adds.
//   Memory     0.73 bytes for each multiply-add: 4 / 6 of B, 4 / 64 of A. C is stored once.
//   Limit now  Where B lies. A tile walks down a strip of B, 256 bytes from each row, a row every 4 N bytes: from
//              N = 1024 on each row is another page; and all of B passes by for every 6 rows of C, from the L3 where it
//              is too much for the L2.
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr int kRows = 6, kVectors = GG_VECTOR_BYTES == 64 ? 4 : 2, kL = kLanes<float>;

template <int R, bool kWhole> void tile(const float* a, const float* b, float* c, int n, int k, int columns) {
  Vec<float> sums[R][kVectors] = {};
  for (int p = 0; p < k; ++p) {
    Vec<float> row[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const int left = columns - v * kL;
      row[v] = kWhole || left >= kL ? load(b + p * n + v * kL) : load_n(b + p * n + v * kL, left < 0 ? 0 : left);
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v) sums[r][v] += splat(a[r * k + p]) * row[v];
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kVectors; ++v)
      if (const int left = columns - v * kL; kWhole || left >= kL)
        store(c + r * n + v * kL, sums[r][v]);
      else if (left > 0)
        store_n(c + r * n + v * kL, sums[r][v], left);
}

template <int R> void rows(const float* a, const float* b, float* c, int n, int k) {
  constexpr int kColumns = kVectors * kL;
  int j = 0;
  for (; j + kColumns <= n; j += kColumns) tile<R, true>(a, b + j, c + j, n, k, kColumns);
  if (j < n) tile<R, false>(a, b + j, c + j, n, k, n - j);
}

}  // namespace

extern "C" void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  int i = 0;
  for (; i + kRows <= m; i += kRows) rows<kRows>(a + i * k, b, c + i * n, n, k);
  for (; i < m; ++i) rows<1>(a + i * k, b, c + i * n, n, k);
}

}  // namespace gg::GG_ISA
