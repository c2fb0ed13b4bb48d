// Tiles of matrix products on Hopper, for matmul and convolution: D (M, N) from A (M, K) and B (K, N) of 16-bit
// elements.
//
// A persistent block owns tiles of 128 rows and kN columns. One producer thread brings k-slices of 64 by TMA into a
// ring of stages; two consumer warpgroups multiply 64 rows each by wgmma into registers; "full" and "empty" barriers of
// each stage are all that passes between them. While a tile's sums are written, the slices of the next are on their
// way. The structure is CUTLASS's "cooperative" one (efficient_gemm.md).
//
// A problem, the kernel's only parameter, says what is multiplied and what becomes of the sums:
//     T, kN, kTransposeA, kTransposeB    transposed: a slice lies in boxes of 64 k by 64 rows (columns), else row by
//     row tiles(), tile(i)                   how many tiles there are; tile i with its first slice and the one past its
//     last load(a, b, full, tile, slice)      starts the copies of a slice, kSliceBytes in all finish(d, tile, writer)
//     what to do with the sums end(writer)                        after the last tile
#pragma once
#include "cuda/hopper.h"
#include "cuda/launch.h"
#include "cuda/number.h"

namespace gg::cuda::sm90 {

constexpr int kM = 128, kK = 64, kConsumers = 2, kThreads = 128 * (1 + kConsumers);
constexpr int kBlock = 64 * 64 * 2;  // bytes of 64 rows of the 128-byte swizzle
template <int kN> constexpr int kSliceBytes = (kM + kN) * kK * 2;

template <int kStages> struct Barriers {
  PhaseBarrier full[kStages], empty[kStages];

  __device__ void start() {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        barrier_init(&full[i], 1);
        barrier_init(&empty[i], 4 * kConsumers);
      }
      barrier_init_done();
    }
    __syncthreads();
  }
};

template <int kN> constexpr int kStages = kN == 256 ? 3 : 4;
template <int kN> struct Tiles {
  alignas(1024) char a[kStages<kN>][kM * kK * 2];
  char b[kStages<kN>][kN * kK * 2];
  char c[kM * kN * 2 + 4096];  // room for a writer's rows
  Barriers<kStages<kN>> barriers;
};

// A consumer thread where sums are written: register d[i] of thread t is the sum at row() + i % 4 / 2 * 8 of its
// consumer's 64 rows and column() + i / 4 * 8 + i % 2.
struct Writer {
  int consumer, thread;
  char* room;  // of this consumer: 64 kN elements of 16 bits, and 2048 bytes
  __device__ int row() const { return thread / 32 * 16 + thread % 32 / 4; }
  __device__ int column() const { return thread % 4 * 2; }
  __device__ void meet() const { meet_threads(1 + consumer, 128); }
};

// hot: no spills
template <class Problem>
__global__ void __launch_bounds__(kThreads, 1) product_sm90_kernel(const __grid_constant__ Problem p) {
  constexpr int kN = Problem::kN;
  Tiles<kN>& s = shared<Tiles<kN>>();
  s.barriers.start();
  Ring<kStages<kN>> ring;
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    registers_give<40>();
    if (threadIdx.x != 0) return;
    for (int index = blockIdx.x; index < p.tiles(); index += gridDim.x) {
      const auto t = p.tile(index);
      for (int slice = t.first; slice < t.last; ++slice, ring.next()) {
        barrier_wait(&s.barriers.empty[ring.stage], ring.parity ^ 1);
        barrier_expect(&s.barriers.full[ring.stage], kSliceBytes<kN>);
        p.load(s.a[ring.stage], s.b[ring.stage], &s.barriers.full[ring.stage], t, slice);
      }
    }
    return;
  }
  registers_take<232>();
  const int consumer = warpgroup - 1, thread = threadIdx.x % 128, lane = thread % 32;
  const Writer writer{consumer, thread, s.c + consumer * (64 * kN * 2 + 2048)};
  for (int index = blockIdx.x; index < p.tiles(); index += gridDim.x) {
    const auto t = p.tile(index);
    float d[kN / 2];
    int before = 0;
    for (int slice = t.first; slice < t.last; ++slice, ring.next()) {
      barrier_wait(&s.barriers.full[ring.stage], ring.parity);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kK / 16; ++k) {
        const char *a = s.a[ring.stage] + consumer * kBlock, *b = s.b[ring.stage];
        wgmma<typename Problem::T, Problem::kTransposeA, Problem::kTransposeB>(
            d, tile_descriptor(a + k * (Problem::kTransposeA ? 2048 : 32), 1024),
            tile_descriptor(b + k * (Problem::kTransposeB ? 2048 : 32), 1024, kBlock), slice > t.first || k > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();  // the slice before is done: its stage may be filled again
      if (slice > t.first && lane == 0) barrier_arrive(&s.barriers.empty[before]);
      before = ring.stage;
    }
    wgmma_wait<0>();
    if (t.last > t.first && lane == 0) barrier_arrive(&s.barriers.empty[before]);
    if (t.last == t.first) {
#pragma unroll
      for (float& sum : d) sum = 0;
    }
    p.finish(d, t, writer);
  }
  p.end(writer);
}

template <class Problem> void start_product(const Problem& p, int tiles) {
  const int most = multiprocessors();
  launch(product_sm90_kernel<Problem>, dim3(unsigned(tiles < most ? tiles : most)), dim3(kThreads),
         sizeof(Tiles<Problem::kN>), p);
}

// How often to cut k so that `tiles` fill the device, leaving each part eight slices to fill the ring for.
inline int splits_for(int64_t tiles, int slices) {
  int splits = 1;
  while (tiles * splits * 2 <= multiprocessors() && slices / (splits * 2) >= 8) splits *= 2;
  return splits;
}

}  // namespace gg::cuda::sm90
