// Matmul, rung 7: wgmma and TMA. C (M, N) = A (M, K) B (K, N), bfloat16 with float32 sums; N and K are multiples of 8.
//
// Hopper's own instructions. One thread asks the tensor memory accelerator for boxes of A and B, by coordinates; it
// computes the addresses, swizzles, fills with zeros what lies outside, and counts the bytes into a barrier. A
// warpgroup, 128 threads, then multiplies 64 by 16 times 16 by 128 straight from shared memory: no ldmatrix, and no
// registers for operands. Two warpgroups make a tile of 128 by 128, 64 of K at a time.
//   Shared     A warpgroup reads (64 + 128) 16 elements for 64 128 16 multiply-adds: 3/64 bytes each, within the 1/16
//              that shared memory gives. The full rate of the tensor cores is possible.
//   Memory     1/32 byte for each multiply-add, as before.
//   Limit now  Waiting: TMA brings a slice, everybody waits; everybody multiplies, TMA waits. At full rate a slice is
//              multiplied in 512 cycles, and memory takes longer than that to answer.
#include "cuda/hopper.h"
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

constexpr int kM = 128, kN = 128, kK = 64, kThreads = 256;
constexpr int kBox = 64 * 64 * 2;  // bytes of 64 rows of 64 elements

struct Tiles {
  alignas(1024) char a[kM / 64][kBox];
  char b[kN / 64][kBox];
  PhaseBarrier full;
};

// hot: no spills
__global__ void __launch_bounds__(kThreads)
    matmul_kernel(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
                  bfloat16* __restrict__ c, int m, int n, int k) {
  Tiles& s = shared<Tiles>();
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  const int warpgroup = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    barrier_init(&s.full, 1);
    barrier_init_done();
  }
  __syncthreads();
  float sums[kN / 2];
  const int slices = (k + kK - 1) / kK;
  for (int slice = 0; slice < slices; ++slice) {
    if (threadIdx.x == 0) {
      barrier_expect(&s.full, sizeof(s.a) + sizeof(s.b));
      tma_load(s.a, &a_map, &s.full, slice * kK, row0);
#pragma unroll
      for (int j = 0; j < kN / 64; ++j) tma_load(s.b[j], &b_map, &s.full, column0 + 64 * j, slice * kK);
    }
    barrier_wait(&s.full, slice % 2);
    wgmma_fence();
#pragma unroll
    for (int l = 0; l < kK / 16; ++l)  // 16 of k are 32 bytes of A's rows, and 16 rows of B
      wgmma<bfloat16, false, true>(sums, tile_descriptor(s.a[warpgroup] + l * 32, 1024),
                                   tile_descriptor(s.b[0] + l * 16 * 128, 1024, kBox), slice > 0 || l > 0);
    wgmma_commit();
    wgmma_wait<0>();
    __syncthreads();  // nobody reads the slice any more
  }
#pragma unroll
  for (int i = 0; i < kN / 2; i += 2) {
    const int row = row0 + warpgroup * 64 + warp * 16 + lane / 4 + i % 4 / 2 * 8;
    const int column = column0 + i / 4 * 8 + lane % 4 * 2;
    if (row >= m || column >= n) continue;
    *reinterpret_cast<uint32_t*>(c + int64_t(row) * n + column) = pack_halves<bfloat16>(sums[i], sums[i + 1]);
  }
}

// x (rows, columns), of which boxes of box_rows by 64 are moved.
TensorMap map_of(const bfloat16* x, int64_t rows, int64_t columns, int box_rows) {
  const int64_t size[] = {columns, rows}, step[] = {columns * 2};
  const int box[] = {64, box_rows};
  return make_tensor_map(DType::BFloat16, x, 2, size, step, box);
}

}  // namespace

void ladder_matmul(const bfloat16* a, const bfloat16* b, bfloat16* c, int m, int n, int k) {
  const dim3 grid(unsigned(ceil_div(n, kN)), unsigned(ceil_div(m, kM)));
  launch(matmul_kernel, grid, dim3(kThreads), sizeof(Tiles), map_of(a, m, k, kM), map_of(b, k, n, kK), c, m, n, k);
}

}  // namespace gg::cuda
