// Attention on the CPU, rung 3: tiles in registers, lanes are queries. O = softmax(Q K^T / sqrt(64)) V for each head, Q
// and O (heads, L, 64), K and V (heads, S, 64), float32.
//
// A block of queries, one a lane, meets a block of keys (Dao et al., "FlashAttention", 2022). Both steps are products
// of matrices with a tile of sums in registers, as in rung 3 of matmul:
//   scores (keys, queries) = K Q^T        Q turned once for the block, a lane's number read in place from K
//   O^T (64, queries) += V^T weights      V read in place as well
// Largest scores and sums are vectors over the queries: nothing is added up across lanes.
//   Work       4 loads and 4 broadcasts for 16 vector multiply-adds.
//   Memory     1.2 bytes for each multiply-add, from the L1 and L2: 1.06 in the tiles, the rest for scores and O, 16 KB
//              each. An element of K or V that is fetched is multiplied by all 64 queries of the block.
//   Limit now  Multiply-adds, and the exponentials beside them: some 20 vector instructions for 16 scores, which take
//              128 of multiply-adds; and the output is rescaled for every block of keys.
#include <math.h>

#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr int kD = 64, kKeys = 64, kRows = 4, kVectors = 4, kL = kLanes<float>, kQueries = kVectors * kL;
static_assert(kD % kRows == 0 && kKeys % kRows == 0);

// c (rows, queries) = or += a (rows, depth) b (depth, queries); a by strides, rows a multiple of kRows.
void multiply(int rows, int depth, const float* a, int row, int column, const float* b, float* c, bool add) {
  for (int i = 0; i < rows; i += kRows, a += kRows * row, c += kRows * kQueries) {
    Vec<float> sums[kRows][kVectors] = {};
    for (int p = 0; p < depth; ++p)
      for (int r = 0; r < kRows; ++r)
        for (int x = 0; x < kVectors; ++x)
          sums[r][x] += splat(a[r * row + p * column]) * load(b + p * kQueries + x * kL);
    for (int r = 0; r < kRows; ++r)
      for (int x = 0; x < kVectors; ++x) {
        float* to = c + r * kQueries + x * kL;
        store(to, add ? sums[r][x] + load(to) : sums[r][x]);
      }
  }
}

struct Block {
  alignas(64) float q[kD * kQueries], scores[kKeys * kQueries], o[kD * kQueries], largest[kQueries], sum[kQueries];
};

// scores become weights; largest, sum and o follow.
void soften(Block& s, int keys) {
  for (int x = 0; x < kQueries; x += kL) {
    Vec<float> largest = load(s.largest + x);
    for (int j = 0; j < keys; ++j) {
      const Vec<float> score = load(s.scores + j * kQueries + x);
      largest = score > largest ? score : largest;
    }
    const Vec<float> keep = exp(load(s.largest + x) - largest);
    Vec<float> sum = load(s.sum + x) * keep;
    for (int j = 0; j < keys; ++j) {
      const Vec<float> weight = exp(load(s.scores + j * kQueries + x) - largest);
      store(s.scores + j * kQueries + x, weight);
      sum += weight;
    }
    store(s.largest + x, largest);
    store(s.sum + x, sum);
    for (int d = 0; d < kD; ++d) store(s.o + d * kQueries + x, load(s.o + d * kQueries + x) * keep);
  }
}

}  // namespace

extern "C" void ladder_attention(const float* q, const float* k, const float* v, float* o, int heads, int l, int s) {
  Block block;
  for (int h = 0; h < heads; ++h, q += l * kD, k += s * kD, v += s * kD, o += l * kD)
    for (int i0 = 0; i0 < l; i0 += kQueries) {
      const int queries = l - i0 < kQueries ? l - i0 : kQueries;
      for (int i = 0; i < kQueries; ++i) {
        block.largest[i] = -HUGE_VALF;
        block.sum[i] = 0;
        for (int d = 0; d < kD; ++d) {
          block.q[d * kQueries + i] = i < queries ? q[(i0 + i) * kD + d] / 8 : 0;  // sqrt(64)
          block.o[d * kQueries + i] = 0;
        }
      }
      for (int j0 = 0; j0 < s; j0 += kKeys) {
        const int keys = s - j0 < kKeys ? s - j0 : kKeys, even = keys / kRows * kRows;
        multiply(even, kD, k + j0 * kD, kD, 1, block.q, block.scores, false);
        for (int j = even; j < keys; ++j) {  // the last keys, fewer than a tile
          float last[kRows * kD] = {};
          for (int d = 0; d < kD; ++d) last[d] = k[(j0 + j) * kD + d];
          float rows[kRows * kQueries];
          multiply(kRows, kD, last, kD, 1, block.q, rows, false);
          for (int i = 0; i < kQueries; ++i) block.scores[j * kQueries + i] = rows[i];
        }
        soften(block, keys);
        multiply(kD, keys, v + j0 * kD, 1, kD, block.scores, block.o, true);
      }
      for (int i = 0; i < queries; ++i)
        for (int d = 0; d < kD; ++d) o[(i0 + i) * kD + d] = block.o[d * kQueries + i] / block.sum[i];
    }
}

}  // namespace gg::GG_ISA
