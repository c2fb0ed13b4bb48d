// Matmul, rung 4: tiles in registers. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// What shared memory did for memory, registers do for shared memory: a thread owns 8 by 8 elements of C. At each k it
// reads 8 numbers of A and 8 of B and does 64 multiply-adds with them. Its rows and columns lie 16 apart, so that
// neighbouring lanes read neighbouring words and no two banks clash. 256 threads make a tile of 128 by 128.
//   Shared     16 reads of 4 bytes for 64 multiply-adds: 1 byte each in place of 8, just what a multiprocessor gets.
//   Memory     8 / 128 = 0.0625 bytes for each multiply-add: 2 TB/s at full rate, within what memory gives.
//   Limit now  Instructions: 16 loads beside 64 multiply-adds. And waiting: a block fetches its tiles, meets,
//              multiplies, meets, and fetches again; while it waits for memory it does not multiply.
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

constexpr int kM = 128, kN = 128, kK = 8, kSide = 16, kThreads = kSide * kSide, kEach = 8;

struct Tiles { float a[kM][kK], b[kK][kN]; };

__global__ void __launch_bounds__(kThreads) matmul_kernel(const float* __restrict__ a, const float* __restrict__ b,
                                                          float* __restrict__ c, int m, int n, int k) {
  Tiles& s = shared<Tiles>();
  const int thread = threadIdx.x, x = thread % kSide, y = thread / kSide;
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  float sums[kEach][kEach] = {};
  for (int k0 = 0; k0 < k; k0 += kK) {
#pragma unroll
    for (int i = thread; i < kM * kK; i += kThreads) {
      const int row = row0 + i / kK, column = k0 + i % kK;
      s.a[i / kK][i % kK] = row < m && column < k ? a[int64_t(row) * k + column] : 0.0f;
    }
#pragma unroll
    for (int i = thread; i < kK * kN; i += kThreads) {
      const int row = k0 + i / kN, column = column0 + i % kN;
      s.b[i / kN][i % kN] = row < k && column < n ? b[int64_t(row) * n + column] : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int l = 0; l < kK; ++l) {
      float as[kEach], bs[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) as[i] = s.a[y + kSide * i][l];
#pragma unroll
      for (int j = 0; j < kEach; ++j) bs[j] = s.b[l][x + kSide * j];
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] += as[i] * bs[j];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int row = row0 + y + kSide * i, column = column0 + x + kSide * j;
      if (row < m && column < n) c[int64_t(row) * n + column] = sums[i][j];
    }
}

}  // namespace

void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  const dim3 grid(unsigned(ceil_div(n, kN)), unsigned(ceil_div(m, kM)));
  launch(matmul_kernel, grid, dim3(kThreads), sizeof(Tiles), a, b, c, m, n, k);
}

}  // namespace gg::cuda
