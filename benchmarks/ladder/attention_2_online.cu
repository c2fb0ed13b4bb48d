// Attention, rung 2: online softmax. O = softmax(Q K^T / sqrt(64)) V for each head, Q and O (heads, L, 64), K and V
// (heads, S, 64), float32.
//
// A score is used up as soon as it is there, so none is stored (Milakov and Gimelshein 2018). With m the largest score
// so far, l the sum of exp(score - m) and o that of exp(score - m) v, the next score x makes m' = max(m, x) and
//     l' = l exp(m - m') + exp(x - m'),    o' = o exp(m - m') + exp(x - m') v
// and at the end the row is o / l. One kernel, a warp for each query as before.
//   Memory     28 bytes a score less, and nothing that grows with L S. The rows of K and V remain: 4 bytes for each
//              multiply-add.
//   Limit now  Every query reads all of K and V for itself. And the chain from a score to the next: five shuffles and
//              two exponentials before the sums may go on.
#include "cuda/block.h"
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

constexpr int kD = 64, kWarps = 8;

__global__ void attention_kernel(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                                 float* __restrict__ o, int queries, int l, int s, float scale) {
  const int query = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (query >= queries) return;
  const float q0 = q[int64_t(query) * kD + lane] * scale, q1 = q[int64_t(query) * kD + 32 + lane] * scale;
  const float *key = k + int64_t(query / l) * s * kD, *value = v + int64_t(query / l) * s * kD;
  float largest = -HUGE_VALF, total = 0, sum0 = 0, sum1 = 0;
  for (int i = 0; i < s; ++i, key += kD, value += kD) {
    const float score = warp_reduce<Sum>(q0 * key[lane] + q1 * key[32 + lane]);
    const float now = fmaxf(largest, score), shrink = expf(largest - now), weight = expf(score - now);
    total = total * shrink + weight;
    sum0 = sum0 * shrink + weight * value[lane];
    sum1 = sum1 * shrink + weight * value[32 + lane];
    largest = now;
  }
  o[int64_t(query) * kD + lane] = sum0 / total;
  o[int64_t(query) * kD + 32 + lane] = sum1 / total;
}

}  // namespace

void ladder_attention(const float* q, const float* k, const float* v, float* o, int heads, int l, int s) {
  const int queries = heads * l;
  launch(attention_kernel, dim3(unsigned(ceil_div(queries, kWarps))), dim3(32 * kWarps), 0, q, k, v, o, queries, l, s,
         1 / sqrtf(kD));
}

}  // namespace gg::cuda
