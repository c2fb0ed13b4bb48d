// Matmul on the CPU, rung 4: panels of B packed. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// Before a tile uses a strip of B, the strip is copied into a panel, its rows one behind the other, filled up with
// zeros to the tile's width; the panel then serves all rows of C. The tile is rung 3's, without a special case for B's
// edge. Panels and tiles are Goto and van de Geijn's ("Anatomy of High-Performance Matrix Multiplication", 2008).
//   Work       N K copies for M N K multiply-adds.
//   Memory     0.73 bytes for each multiply-add as before, but a panel of K rows by 64 columns, 256 KB at K = 1024, is
//              read from the L2 and in memory order. B itself is read once, A once for every panel.
//   Limit now  Vectors of the panel that come late from the L2; and with a larger K the panel outgrows it.
#include <vector>

#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr int kRows = 6, kVectors = GG_VECTOR_BYTES == 64 ? 4 : 2, kL = kLanes<float>, kColumns = kVectors * kL;

void pack(const float* b, float* panel, int n, int k, int columns) {
  for (int p = 0; p < k; ++p)
    for (int j = 0; j < kColumns; ++j) panel[p * kColumns + j] = j < columns ? b[p * n + j] : 0;
}

template <int R> void tile(const float* a, const float* panel, float* c, int n, int k, int columns) {
  Vec<float> sums[R][kVectors] = {};
  for (int p = 0; p < k; ++p) {
    Vec<float> row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = load(panel + p * kColumns + v * kL);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v) sums[r][v] += splat(a[r * k + p]) * row[v];
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kVectors; ++v)
      if (const int left = columns - v * kL; left >= kL)
        store(c + r * n + v * kL, sums[r][v]);
      else if (left > 0)
        store_n(c + r * n + v * kL, sums[r][v], left);
}

}  // namespace

extern "C" void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  std::vector<float> panel(size_t(k) * kColumns);
  for (int j = 0; j < n; j += kColumns) {
    const int columns = n - j < kColumns ? n - j : kColumns;
    pack(b + j, panel.data(), n, k, columns);
    int i = 0;
    for (; i + kRows <= m; i += kRows) tile<kRows>(a + i * k, panel.data(), c + i * n + j, n, k, columns);
    for (; i < m; ++i) tile<1>(a + i * k, panel.data(), c + i * n + j, n, k, columns);
  }
}

}  // namespace gg::GG_ISA
