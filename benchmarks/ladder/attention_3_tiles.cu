// Attention, rung 3: FlashAttention's tiles. O = softmax(Q K^T / sqrt(64)) V for each head, Q and O (heads, L, 64), K
// and V (heads, S, 64), float32.
//
// A block owns 64 queries and goes through the keys 64 at a time (Dao and others 2022). A tile of K and one of V come
// to shared memory once for all 64 queries; scores are a product of two tiles, as in matmul, of which a thread holds 4
// by 4; the online softmax moves on once for 64 keys, not for each; the weights go through shared memory to be
// multiplied with V, whose sums a thread holds as 4 by 4 as well. A row's scores lie with 16 neighbouring lanes: four
// shuffles add them up.
//   Memory     Rows of K and V are read for 64 queries: 1/16 byte for each multiply-add in place of 4.
//   Shared     8 reads of 16 bytes for 64 multiply-adds, in both products: 2 bytes each, and a multiprocessor gets one.
//   Limit now  Shared memory, and behind it ordinary arithmetic.
#include "cuda/block.h"
#include "cuda/launch.h"
#include "cuda/number.h"

namespace gg::cuda {
namespace {

constexpr int kD = 64, kQueries = 64, kKeys = 64, kSide = 16, kThreads = kSide * kSide;
constexpr int kPitch = 68;  // 16 bytes more than a row, so that lanes that read down a column meet different banks
using Four = Pack<float, 4>;
using Tile = float[64 * kPitch];

struct Tiles { alignas(16) Tile q, k, v, weights; };

// 64 rows of 64; rows that x does not have are 0.
__device__ inline void place(const float* x, int rows, Tile& to, float scale) {
#pragma unroll
  for (int i = threadIdx.x; i < 64 * 16; i += kThreads) {
    const int row = i / 16, column = i % 16 * 4;
    Four part = row < rows ? load_pack<4>(x + row * kD + column) : Four{};
    for (int j = 0; j < 4; ++j) part[j] *= scale;
    store_pack(to + row * kPitch + column, part);
  }
}

__global__ void __launch_bounds__(kThreads)
    attention_kernel(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                     float* __restrict__ o, int l, int s, float scale) {
  Tiles& tiles = shared<Tiles>();
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  const int64_t query0 = int64_t(blockIdx.y) * l + blockIdx.x * kQueries, key0 = int64_t(blockIdx.y) * s;
  const int queries = l - int(blockIdx.x) * kQueries;
  place(q + query0 * kD, queries, tiles.q, scale);
  float sums[4][4] = {}, largest[4], total[4] = {};  // rows y + 16 i; columns of the sums 4 x + j
  for (float& m : largest) m = -HUGE_VALF;

  for (int first = 0; first < s; first += kKeys) {
    __syncthreads();  // nobody reads the tiles before
    place(k + (key0 + first) * kD, s - first, tiles.k, 1);
    place(v + (key0 + first) * kD, s - first, tiles.v, 1);
    __syncthreads();
    float scores[4][4] = {};  // keys x + 16 j
#pragma unroll 4
    for (int d = 0; d < kD; d += 4) {
      Four qs[4], ks[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) qs[i] = load_pack<4>(tiles.q + (y + kSide * i) * kPitch + d);
#pragma unroll
      for (int j = 0; j < 4; ++j) ks[j] = load_pack<4>(tiles.k + (x + kSide * j) * kPitch + d);
#pragma unroll
      for (int u = 0; u < 4; ++u)
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) scores[i][j] += qs[i][u] * ks[j][u];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float now = largest[i], sum = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (first + x + kSide * j >= s) scores[i][j] = -HUGE_VALF;
        now = fmaxf(now, scores[i][j]);
      }
      now = warp_reduce<Max>(now, kSide);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float weight = expf(scores[i][j] - now);
        tiles.weights[(y + kSide * i) * kPitch + x + kSide * j] = weight;
        sum += weight;
      }
      const float shrink = expf(largest[i] - now);
      total[i] = total[i] * shrink + warp_reduce<Sum>(sum, kSide);
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] *= shrink;
      largest[i] = now;
    }
    sync_warp();  // the weights of a row stay within half a warp
#pragma unroll 4
    for (int key = 0; key < kKeys; key += 4) {
      Four weights[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[i] = load_pack<4>(tiles.weights + (y + kSide * i) * kPitch + key);
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        const Four values = load_pack<4>(tiles.v + (key + u) * kPitch + 4 * x);
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[i][j] += weights[i][u] * values[j];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = y + kSide * i;
    if (row >= queries) continue;
    Four part;
    for (int j = 0; j < 4; ++j) part[j] = sums[i][j] / total[i];
    store_pack(o + (query0 + row) * kD + 4 * x, part);
  }
}

}  // namespace

void ladder_attention(const float* q, const float* k, const float* v, float* o, int heads, int l, int s) {
  launch(attention_kernel, dim3(unsigned(ceil_div(l, kQueries)), unsigned(heads)), dim3(kThreads), sizeof(Tiles), q, k,
         v, o, l, s, 1 / sqrtf(kD));
}

}  // namespace gg::cuda
