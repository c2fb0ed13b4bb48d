// Attention on the CPU, rung 2: online softmax, by vectors. O = softmax(Q K^T / sqrt(64)) V for each head, Q and O
// (heads, L, 64), K and V (heads, S, 64), float32.
//
// A query's sums are kept as they are for the largest score so far; where a larger one turns up, what has been summed
// is multiplied by exp(old - new) (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). So a
// block of scores is all that is ever stored. The lanes of a vector are keys: a block of keys is turned first, so that
// its scores are sums of independent lanes, and exp is a polynomial of vectors.
//   Work       One more exponential a block, and 64 multiplications for the rescaling.
//   Memory     4.2 bytes for each multiply-add, of K or V and of what is broadcast; the output stays in registers, a
//              block of scores in the L1. K and V, 512 KB a head at S = 1024, pass by for every query.
//   Limit now  A vector of scores is one chain of 64 multiply-adds, each waiting four cycles for the one before. With
//              more chains, loads: a vector for every multiply-add.
#include <math.h>

#include <vector>

#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr int kD = 64, kBlock = 64, kL = kLanes<float>;

// The scores of one query and `keys` keys of a block, in `weights`; the largest.
float scores_of(const float* q, const float* turned, int keys, float* weights) {
  float largest = -HUGE_VALF;
  for (int j = 0; j < kBlock; j += kL) {
    Vec<float> sum = {};
    for (int d = 0; d < kD; ++d) sum += splat(q[d]) * load(turned + d * kBlock + j);
    store(weights + j, sum * 0.125f);  // 1 / sqrt(64)
  }
  for (int j = 0; j < keys; ++j) largest = fmaxf(largest, weights[j]);
  return largest;
}

}  // namespace

extern "C" void ladder_attention(const float* q, const float* k, const float* v, float* o, int heads, int l, int s) {
  const int blocks = (s + kBlock - 1) / kBlock;
  std::vector<float> turned(size_t(blocks) * kBlock * kD);
  alignas(64) float weights[kBlock];
  for (int h = 0; h < heads; ++h, q += l * kD, k += s * kD, v += s * kD, o += l * kD) {
    for (int j = 0; j < blocks * kBlock; ++j)
      for (int d = 0; d < kD; ++d) turned[(j / kBlock * kD + d) * kBlock + j % kBlock] = j < s ? k[j * kD + d] : 0;
    for (int i = 0; i < l; ++i) {
      float largest = -HUGE_VALF, sum = 0;
      Vec<float> out[kD / kL] = {};
      for (int j0 = 0; j0 < s; j0 += kBlock) {
        const int keys = s - j0 < kBlock ? s - j0 : kBlock;
        const float now = fmaxf(largest, scores_of(q + i * kD, turned.data() + j0 * kD, keys, weights));
        const float keep = expf(largest - now);
        largest = now;
        sum *= keep;
        for (auto& x : out) x *= splat(keep);
        for (int j = 0; j < kBlock; j += kL) store(weights + j, exp(load(weights + j) - splat(now)));
        for (int j = 0; j < keys; ++j) {
          sum += weights[j];
          for (int d = 0; d < kD / kL; ++d) out[d] += splat(weights[j]) * load(v + (j0 + j) * kD + d * kL);
        }
      }
      for (int d = 0; d < kD / kL; ++d) store(o + i * kD + d * kL, out[d] * splat(1 / sum));
    }
  }
}

}  // namespace gg::GG_ISA
