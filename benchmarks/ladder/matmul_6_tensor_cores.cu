// Matmul, rung 6: tensor cores. C (M, N) = A (M, K) B (K, N), bfloat16 with float32 sums; N and K are multiples of 8.
//
// A warp multiplies 16 by 16 times 16 by 8 in one instruction, mma.sync, whose operands are spread over its lanes;
// ldmatrix brings 8 by 8 matrices from shared memory just so. Tiles come by cp.async, past the registers, two slices
// ahead: three buffers, one barrier a slice. 8 warps own 64 by 32 each of a tile of 128 by 128. Sixteen-byte chunks of
// a row are swapped by an exclusive or with the row, so that 8 rows of a matrix lie in different banks.
//   Work       989e12 operations a second: 2048 multiply-adds a cycle of a multiprocessor, 16 times the ordinary rate,
//              while shared memory still gives 128 bytes a cycle: 1/16 byte for each multiply-add.
//   Shared     A warp reads (64 + 32) 16 elements for 64 32 16 multiply-adds: 3/32 bytes each.
//   Memory     (128 + 128) 2 bytes for 128 128 multiply-adds: 1/32 byte each, 16 TB/s at full rate, most of it from the
//              second-level cache.
//   Limit now  Shared memory, by half as much again. And mma.sync does not reach Hopper's rate: kernels of this kind
//              stay near 400 TFLOP/s on an H100.
#include "cuda/launch.h"
#include "cuda/ptx.h"

namespace gg::cuda {
namespace {

constexpr int kM = 128, kN = 128, kK = 32, kStages = 3, kThreads = 256;
constexpr int kWarpM = 64, kWarpN = 32;  // of C, a warp's share

struct Tiles {
  alignas(128) bfloat16 a[kStages][kM * kK];
  bfloat16 b[kStages][kK * kN];
};

// Where a chunk of 8 elements lies. Two rows of A's tile fill the 32 banks, a row of B's fills them twice.
__device__ inline int place_a(int row, int chunk) { return row * kK + (chunk ^ row / 2 % 4) * 8; }
__device__ inline int place_b(int row, int chunk) { return row * kN + (chunk ^ row % 8) * 8; }

__device__ inline void start_slice(Tiles& s, int stage, const bfloat16* a, const bfloat16* b, int row0, int column0,
                                   int k0, int m, int n, int k) {
#pragma unroll
  for (int i = threadIdx.x; i < kM * kK / 8; i += kThreads) {
    const int row = i / (kK / 8), chunk = i % (kK / 8), along = k0 + chunk * 8;
    const bool inside = row0 + row < m && along < k;
    copy_async<16>(s.a[stage] + place_a(row, chunk), inside ? a + int64_t(row0 + row) * k + along : a, inside ? 16 : 0);
  }
#pragma unroll
  for (int i = threadIdx.x; i < kK * kN / 8; i += kThreads) {
    const int row = i / (kN / 8), chunk = i % (kN / 8), column = column0 + chunk * 8;
    const bool inside = k0 + row < k && column < n;
    copy_async<16>(s.b[stage] + place_b(row, chunk), inside ? b + int64_t(k0 + row) * n + column : b, inside ? 16 : 0);
  }
}

__global__ void __launch_bounds__(kThreads)
    matmul_kernel(const bfloat16* __restrict__ a, const bfloat16* __restrict__ b, bfloat16* __restrict__ c, int m,
                  int n, int k) {
  Tiles& s = shared<Tiles>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  const int warp_row = warp / (kN / kWarpN) * kWarpM, warp_column = warp % (kN / kWarpN) * kWarpN;
  float sums[kWarpM / 16][kWarpN / 8][4] = {};
  const int slices = (k + kK - 1) / kK;
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < slices) start_slice(s, i, a, b, row0, column0, i * kK, m, n, k);
    copy_async_commit();
  }
  for (int slice = 0; slice < slices; ++slice) {
    copy_async_wait<kStages - 2>();
    __syncthreads();  // this slice is here, and nobody reads the one before it
    const int ahead = slice + kStages - 1, stage = slice % kStages;
    if (ahead < slices) start_slice(s, ahead % kStages, a, b, row0, column0, ahead * kK, m, n, k);
    copy_async_commit();
#pragma unroll
    for (int l = 0; l < kK / 16; ++l) {
      uint32_t as[kWarpM / 16][4], bs[kWarpN / 16][4];
#pragma unroll
      for (int i = 0; i < kWarpM / 16; ++i)
        ldmatrix(as[i], s.a[stage] + place_a(warp_row + 16 * i + lane % 16, 2 * l + lane / 16));
#pragma unroll
      for (int j = 0; j < kWarpN / 16; ++j)
        ldmatrix_trans(bs[j], s.b[stage] + place_b(16 * l + lane % 16, warp_column / 8 + 2 * j + lane / 16));
#pragma unroll
      for (int i = 0; i < kWarpM / 16; ++i)
#pragma unroll
        for (int j = 0; j < kWarpN / 8; ++j) {
          const uint32_t pair[2] = {bs[j / 2][j % 2 * 2], bs[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16<bfloat16>(sums[i][j], as[i], pair);
        }
    }
  }
#pragma unroll
  for (int i = 0; i < kWarpM / 16; ++i)
#pragma unroll
    for (int j = 0; j < kWarpN / 8; ++j)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = row0 + warp_row + 16 * i + 8 * h + lane / 4;
        const int column = column0 + warp_column + 8 * j + lane % 4 * 2;
        if (row >= m || column >= n) continue;
        *reinterpret_cast<uint32_t*>(c + int64_t(row) * n + column) =
            pack_halves<bfloat16>(sums[i][j][2 * h], sums[i][j][2 * h + 1]);
      }
}

}  // namespace

void ladder_matmul(const bfloat16* a, const bfloat16* b, bfloat16* c, int m, int n, int k) {
  const dim3 grid(unsigned(ceil_div(n, kN)), unsigned(ceil_div(m, kM)));
  launch(matmul_kernel, grid, dim3(kThreads), sizeof(Tiles), a, b, c, m, n, k);
}

}  // namespace gg::cuda
