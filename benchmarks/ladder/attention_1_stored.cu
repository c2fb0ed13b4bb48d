// Attention, rung 1: three kernels, the scores stored. O = softmax(Q K^T / sqrt(64)) V for each head, Q and O (heads,
// L, 64), K and V (heads, S, 64), float32.
//
// As the formula reads: scores (heads, L, S) go to memory, softmax makes weights of them there, a third kernel
// multiplies with V. A warp owns a query. For a score each lane multiplies two of the 64 elements, and five shuffles
// add them up; with V each lane sums up two columns. Neighbouring lanes read neighbouring elements throughout.
//   Work       4 64 L S floating-point operations a head: 128 multiply-adds for each score.
//   Memory     For each score a warp reads a row of K and one of V, 512 bytes: 4 bytes for each multiply-add, which at
//              the ordinary rate of 67 TFLOP/s would be 134 TB/s. And the score itself is written; read, read and
//              written, read and written by softmax; and read: 28 bytes, which no cache holds for long. At L = S = 4096
//              and 32 heads the scores take 2 GB.
//   Limit now  Both: rows that are read again for every query, and memory that grows with L S.
#include "cuda/block.h"
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

constexpr int kD = 64, kWarps = 8;

__global__ void scores_kernel(const float* __restrict__ q, const float* __restrict__ k, float* __restrict__ scores,
                              int queries, int l, int s, float scale) {
  const int query = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (query >= queries) return;
  const float q0 = q[int64_t(query) * kD + lane] * scale, q1 = q[int64_t(query) * kD + 32 + lane] * scale;
  const float* key = k + int64_t(query / l) * s * kD;
  for (int first = 0; first < s; first += 32) {
    float mine = 0;
    for (int i = 0; i < 32 && first + i < s; ++i, key += kD) {
      const float score = warp_reduce<Sum>(q0 * key[lane] + q1 * key[32 + lane]);
      if (i == lane) mine = score;
    }
    if (first + lane < s) scores[int64_t(query) * s + first + lane] = mine;
  }
}

__global__ void softmax_kernel(float* __restrict__ scores, int queries, int s) {
  const int query = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (query >= queries) return;
  float* row = scores + int64_t(query) * s;
  float largest = -HUGE_VALF, sum = 0;
  for (int i = lane; i < s; i += 32) largest = fmaxf(largest, row[i]);
  largest = warp_reduce<Max>(largest);
  for (int i = lane; i < s; i += 32) {
    const float weight = expf(row[i] - largest);
    row[i] = weight;
    sum += weight;
  }
  sum = warp_reduce<Sum>(sum);
  for (int i = lane; i < s; i += 32) row[i] /= sum;
}

__global__ void weighted_kernel(const float* __restrict__ weights, const float* __restrict__ v, float* __restrict__ o,
                                int queries, int l, int s) {
  const int query = blockIdx.x * kWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (query >= queries) return;
  const float* value = v + int64_t(query / l) * s * kD;
  float sum0 = 0, sum1 = 0;
  for (int first = 0; first < s; first += 32) {
    const float mine = first + lane < s ? weights[int64_t(query) * s + first + lane] : 0.0f;
    for (int i = 0; i < 32 && first + i < s; ++i, value += kD) {
      const float weight = shuffle(mine, i);
      sum0 += weight * value[lane];
      sum1 += weight * value[32 + lane];
    }
  }
  o[int64_t(query) * kD + lane] = sum0;
  o[int64_t(query) * kD + 32 + lane] = sum1;
}

}  // namespace

void ladder_attention(const float* q, const float* k, const float* v, float* o, int heads, int l, int s) {
  const int queries = heads * l;
  const dim3 grid(unsigned(ceil_div(queries, kWarps))), block(32 * kWarps);
  Scratch<float> scores(int64_t(queries) * s);
  launch(scores_kernel, grid, block, 0, q, k, scores.get(), queries, l, s, 1 / sqrtf(kD));
  launch(softmax_kernel, grid, block, 0, scores.get(), queries, s);
  launch(weighted_kernel, grid, block, 0, scores.get(), v, o, queries, l, s);
}

}  // namespace gg::cuda
