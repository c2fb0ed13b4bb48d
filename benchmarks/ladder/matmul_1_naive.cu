// Matmul, rung 1: one thread for each element of C. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// The definition, as one would write it down: the thread of (i, j) walks along row i of A and down column j of B.
//   Work       2 MNK floating-point operations. An H200 does 67e12 a second: 128 multiply-adds a cycle on each of its
//              132 multiprocessors.
//   Memory     A multiply-add asks for 8 bytes, so 67 TFLOP/s would take 268 TB/s. Memory gives 4.8, and each
//              multiprocessor gets 128 bytes a cycle from its first-level cache: one byte for each multiply-add.
//   Limit now  The lanes of a warp stand in a column of C, so at each step they read 32 rows of A, 4 bytes out of 32
//              sectors of 32 bytes. With one sector of B that is 33 bytes moved for each multiply-add: the cache needs
//              8 cycles for what 32 lanes could do in a quarter of one.
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

__global__ void matmul_kernel(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m,
                              int n, int k) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x, column = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= m || column >= n) return;
  float sum = 0;
  for (int i = 0; i < k; ++i) sum += a[int64_t(row) * k + i] * b[int64_t(i) * n + column];
  c[int64_t(row) * n + column] = sum;
}

}  // namespace

void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  const dim3 grid(unsigned(ceil_div(m, 32)), unsigned(ceil_div(n, 32)));
  launch(matmul_kernel, grid, dim3(32, 32), 0, a, b, c, m, n, k);
}

}  // namespace gg::cuda
