// Matmul, rung 8: producer and consumers. C (M, N) = A (M, K) B (K, N), bfloat16 with float32 sums; N and K are
// multiples of 8.
//
// Warps take roles. One thread of the first warpgroup does nothing but ask TMA for slices, as far ahead as a ring of
// three stages lets it; two warpgroups do nothing but multiply. All that passes between them are two barriers a stage,
// "full" and "empty". A consumer hands a stage back when the products after it have been started, so the tensor cores
// always have work queued. The producer gives its registers away, and with 232 each consumers can hold 64 by 256.
//   Shared     (64 + 256) 16 elements for 64 256 16 multiply-adds: 5/128 bytes each, in place of 6/128.
//   Memory     (128 + 256) 2 bytes for 128 256 multiply-adds: 3/128 bytes each, in place of 4/128.
//   Limit now  The ends of a tile: first the ring fills, and at last nobody multiplies while sums go out. And the order
//              of tiles: a wave of 132 blocks covers whole rows of tiles of C, which share A, but of B it needs
//              everything.
#include "cuda/hopper.h"
#include "cuda/launch.h"

namespace gg::cuda {
namespace {

constexpr int kM = 128, kN = 256, kK = 64, kStages = 3, kConsumers = 2, kThreads = 128 * (1 + kConsumers);
constexpr int kBox = 64 * 64 * 2;  // bytes of 64 rows of 64 elements

struct Stage { char a[kM / 64][kBox], b[kN / 64][kBox]; };
struct Tiles {
  alignas(1024) Stage stage[kStages];
  PhaseBarrier full[kStages], empty[kStages];
};

// A place in the ring, and how many times it has been round.
struct Ring {
  int stage = 0, parity = 0;
  __device__ void next() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// hot: no spills
__global__ void __launch_bounds__(kThreads)
    matmul_kernel(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
                  bfloat16* __restrict__ c, int m, int n, int k) {
  Tiles& s = shared<Tiles>();
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  const int warpgroup = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(&s.full[i], 1);
      barrier_init(&s.empty[i], 4 * kConsumers);  // one lane of each warp arrives
    }
    barrier_init_done();
  }
  __syncthreads();
  const int slices = (k + kK - 1) / kK;
  Ring ring;
  if (warpgroup == 0) {
    registers_give<40>();
    if (threadIdx.x != 0) return;
    for (int slice = 0; slice < slices; ++slice, ring.next()) {
      Stage& to = s.stage[ring.stage];
      PhaseBarrier* full = &s.full[ring.stage];
      barrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
      barrier_expect(full, sizeof(Stage));
      tma_load(to.a, &a_map, full, slice * kK, row0);
#pragma unroll
      for (int j = 0; j < kN / 64; ++j) tma_load(to.b[j], &b_map, full, column0 + 64 * j, slice * kK);
    }
    return;
  }
  registers_take<232>();
  const int consumer = warpgroup - 1;
  float sums[kN / 2];
  int before = 0;
  for (int slice = 0; slice < slices; ++slice, ring.next()) {
    const Stage& from = s.stage[ring.stage];
    barrier_wait(&s.full[ring.stage], ring.parity);
    wgmma_fence();
#pragma unroll
    for (int l = 0; l < kK / 16; ++l)
      wgmma<bfloat16, false, true>(sums, tile_descriptor(from.a[consumer] + l * 32, 1024),
                                   tile_descriptor(from.b[0] + l * 16 * 128, 1024, kBox), slice > 0 || l > 0);
    wgmma_commit();
    wgmma_wait<1>();  // the slice before is done
    if (slice > 0 && lane == 0) barrier_arrive(&s.empty[before]);
    before = ring.stage;
  }
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < kN / 2; i += 2) {
    const int row = row0 + consumer * 64 + warp * 16 + lane / 4 + i % 4 / 2 * 8;
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
