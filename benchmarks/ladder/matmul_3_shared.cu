// Matmul, rung 3: tiles in shared memory. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// A block of 32 by 32 threads owns a tile of C. It brings a 32 by 32 tile of A and one of B into shared memory, each
// thread one element of both, multiplies them there, and goes on to the next pair along K. An element fetched is used
// 32 times. Two barriers a step: the tiles are there; nobody reads them any more.
//   Memory     A tile of T by T reads (T + T) 4 bytes for T T multiply-adds at each k: 8 / T, here 0.25 bytes for each
//              multiply-add in place of 5.
//   Limit now  Shared memory. Each multiply-add still reads two numbers, 8 bytes, and a multiprocessor gets 128 bytes a
//              cycle from there: 16 multiply-adds of 128, as before. What is won is the traffic behind it.
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

constexpr int kTile = 32;

struct Tiles { float a[kTile][kTile], b[kTile][kTile]; };

__global__ void matmul_kernel(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m,
                              int n, int k) {
  Tiles& s = shared<Tiles>();
  const int x = threadIdx.x, y = threadIdx.y;
  const int row = blockIdx.y * kTile + y, column = blockIdx.x * kTile + x;
  float sum = 0;
  for (int k0 = 0; k0 < k; k0 += kTile) {
    s.a[y][x] = row < m && k0 + x < k ? a[int64_t(row) * k + k0 + x] : 0.0f;
    s.b[y][x] = k0 + y < k && column < n ? b[int64_t(k0 + y) * n + column] : 0.0f;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kTile; ++i) sum += s.a[y][i] * s.b[i][x];
    __syncthreads();
  }
  if (row < m && column < n) c[int64_t(row) * n + column] = sum;
}

}  // namespace

void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  const dim3 grid(unsigned(ceil_div(n, kTile)), unsigned(ceil_div(m, kTile)));
  launch(matmul_kernel, grid, dim3(kTile, kTile), sizeof(Tiles), a, b, c, m, n, k);
}

}  // namespace gg::cuda
