// Matmul, rung 5: vectors and a double buffer. C (M, N) = A (M, K) B (K, N), float32; rows of 16 bytes: N and K are
// multiples of 4.
//
// Every access moves 16 bytes. For that A's tile lies in shared memory by columns, and a thread owns four 4 by 4 pieces
// of C, 64 rows and columns apart. The next tiles are on their way into registers while these are multiplied, and go to
// a second pair of buffers: one barrier a step, and no wait for memory while there is enough to multiply.
//   Shared     4 loads for 64 multiply-adds in place of 16; the bytes are the same.
//   Limit now  Ordinary arithmetic. On an A6000 this structure reaches 78 % of cuBLAS, and 94 % with tiles for warps
//              and tuned sizes (siboehm's SGEMM_CUDA). Tensor cores do sixteen times as many products a cycle.
#include "cuda/launch.h"
#include "cuda/number.h"

namespace gg::cuda {
namespace {

constexpr int kM = 128, kN = 128, kK = 8, kSide = 16, kThreads = kSide * kSide, kEach = 8, kHalf = 64;
using Four = Pack<float, 4>;

// Rows of A's tile are 4 words longer than needed: the halves of a warp write rows 4 apart, into different banks.
struct Tiles {
  alignas(16) float a[2][kK][kM + 4];
  alignas(16) float b[2][kK][kN];
};

// A thread's share of a tile: of A four neighbours along k, of B four along n.
struct Share { Four a, b; };

__device__ inline Share fetch(const float* a, const float* b, int row0, int column0, int k0, int m, int n, int k) {
  const int row = row0 + int(threadIdx.x) / (kK / 4), along = k0 + int(threadIdx.x) % (kK / 4) * 4;
  const int down = k0 + int(threadIdx.x) / (kN / 4), column = column0 + int(threadIdx.x) % (kN / 4) * 4;
  return {row < m && along < k ? load_pack<4>(a + int64_t(row) * k + along) : Four{},
          down < k && column < n ? load_pack<4>(b + int64_t(down) * n + column) : Four{}};
}

__device__ inline void put(Tiles& s, int buffer, const Share& share) {
  const int row = threadIdx.x / (kK / 4), along = threadIdx.x % (kK / 4) * 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) s.a[buffer][along + i][row] = share.a[i];
  store_pack(&s.b[buffer][threadIdx.x / (kN / 4)][threadIdx.x % (kN / 4) * 4], share.b);
}

__global__ void __launch_bounds__(kThreads) matmul_kernel(const float* __restrict__ a, const float* __restrict__ b,
                                                          float* __restrict__ c, int m, int n, int k) {
  Tiles& s = shared<Tiles>();
  const int x = threadIdx.x % kSide * 4, y = threadIdx.x / kSide * 4;
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  float sums[kEach][kEach] = {};
  put(s, 0, fetch(a, b, row0, column0, 0, m, n, k));
  __syncthreads();
  for (int k0 = 0; k0 < k; k0 += kK) {
    const int buffer = k0 / kK % 2;
    const Share next = fetch(a, b, row0, column0, k0 + kK, m, n, k);
#pragma unroll
    for (int l = 0; l < kK; ++l) {
      Four as[2], bs[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        as[h] = load_pack<4>(&s.a[buffer][l][y + kHalf * h]);
        bs[h] = load_pack<4>(&s.b[buffer][l][x + kHalf * h]);
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] += as[i / 4][i % 4] * bs[j / 4][j % 4];
    }
    put(s, buffer ^ 1, next);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = row0 + y + i / 4 * kHalf + i % 4, column = column0 + x + kHalf * h;
      if (row >= m || column >= n) continue;
      store_pack(c + int64_t(row) * n + column,
                 Four{sums[i][4 * h], sums[i][4 * h + 1], sums[i][4 * h + 2], sums[i][4 * h + 3]});
    }
}

}  // namespace

void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  const dim3 grid(unsigned(ceil_div(n, kN)), unsigned(ceil_div(m, kM)));
  launch(matmul_kernel, grid, dim3(kThreads), sizeof(Tiles), a, b, c, m, n, k);
}

}  // namespace gg::cuda
