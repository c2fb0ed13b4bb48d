// Matmul, rung 2: coalesced access. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// The same kernel with the axes of a block exchanged: the lanes of a warp stand in a row of C. At each step all 32 read
// the same element of A, one sector, and 32 neighbours of B, four whole sectors: the hardware serves a warp's request
// by sectors, so what neighbours read should be neighbours.
//   Memory     5 sectors a step in place of 33: 5 bytes moved for each multiply-add. They come in two requests, and a
//              multiprocessor serves one a cycle: 16 multiply-adds a cycle of 128.
//   Limit now  Still 8 bytes asked for each multiply-add. Every element of A is read by N threads, every element of B
//              by M; caches catch most of it, but each read is an instruction and a request.
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

__global__ void matmul_kernel(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m,
                              int n, int k) {
  const int row = blockIdx.y * blockDim.y + threadIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= m || column >= n) return;
  float sum = 0;
  for (int i = 0; i < k; ++i) sum += a[int64_t(row) * k + i] * b[int64_t(i) * n + column];
  c[int64_t(row) * n + column] = sum;
}

}  // namespace

void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  const dim3 grid(unsigned(ceil_div(n, 32)), unsigned(ceil_div(m, 32)));
  launch(matmul_kernel, grid, dim3(32, 32), 0, a, b, c, m, n, k);
}

}  // namespace gg::cuda
