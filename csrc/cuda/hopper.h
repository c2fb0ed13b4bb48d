// Hopper's own instructions, for kernels in *_sm90.cu: barriers in shared memory, the tensor memory accelerator (TMA),
// warpgroup matrix products (wgmma).
//
// A tile lies in shared memory in rows of 128 bytes, eight to an atom of 1024 bytes, where the 16-byte chunk c of row r
// is at place c xor (r mod 8): both TMA and wgmma apply this 128-byte swizzle, and column reads meet no bank twice.
// wgmma multiplies A (64, 16) and B (16, N) of 16-bit elements into D (64, N) float32, held by 128 threads: thread t
// has rows r = 16 (t / 32) + t % 32 / 4 and r + 8,
//     d[4 j + 0, 1] = D[r, 8 j + 2 (t % 4) + 0, 1]      d[4 j + 2, 3] = D[r + 8, the same columns]
// Sources: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions", "cp.async.bulk.tensor", "mbarrier".
#pragma once
#include "core/dtype.h"
#include "cuda/language.h"
#include "cuda/launch.h"
#include "cuda/ptx.h"
#include "cuda/tensor_map.h"

namespace gg::cuda {

// A barrier in shared memory: a phase ends when `count` arrivals and the announced bytes of TMA loads have come.
struct alignas(8) PhaseBarrier { uint64_t state; };

// A place in a ring of stages and the parity of the barriers' phase there.
template <int kStages> struct Ring {
  int stage = 0, parity = 0;
  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

#if defined(GG_SIMT)
using simt::barrier_arrive;
using simt::barrier_expect;
using simt::barrier_init;
using simt::barrier_init_done;
using simt::barrier_wait;
using simt::fence_shared_for_async;
using simt::meet_threads;
using simt::registers_give;
using simt::registers_take;
using simt::tma_load;
using simt::tma_prefetch;
using simt::tma_store;
using simt::tma_store_commit;
using simt::tma_store_wait;
using simt::tma_store_wait_read;
using simt::wgmma;
using simt::wgmma_commit;
using simt::wgmma_fence;
using simt::wgmma_wait;
#else

__device__ inline void barrier_init(PhaseBarrier* b, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count) : "memory");
}
// After the barriers are initialised, before a __syncthreads: makes them known to TMA.
__device__ inline void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void barrier_arrive(PhaseBarrier* b) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
// Arrives, and announces bytes that TMA will bring in this phase.
__device__ inline void barrier_expect(PhaseBarrier* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}
// Waits for the end of the phase of this parity: 0 for the first, 1 for the second, and so on. A barrier that is fresh
// counts as past a phase of parity 1.
__device__ inline void barrier_wait(PhaseBarrier* b, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 over, [%0], %1;\n"
      "@over bra.uni done;\n"
      "bra.uni again;\n"
      "done:\n"
      "}\n" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
// Some threads of the block (whole warps, `threads` of them) meet at barrier id, 1 to 15.
__device__ inline void meet_threads(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// What threads wrote to shared memory becomes visible to TMA and wgmma.
__device__ inline void fence_shared_for_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A warpgroup's registers a thread, from now on: a producer gives, consumers take. Multiples of 8, 24 to 240.
template <int kRegisters> __device__ inline void registers_give() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters> __device__ inline void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ inline void tma_prefetch(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// One thread starts the copy of the box at (x, y, ...) of the array to shared memory (1024-byte aligned with swizzle);
// the bytes count towards the barrier's phase.
__device__ inline void tma_load(void* to, const TensorMap* map, PhaseBarrier* b, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          shared_address(to)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y)
      : "memory");
}
__device__ inline void tma_load(void* to, const TensorMap* map, PhaseBarrier* b, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(shared_address(to)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ inline void tma_load(void* to, const TensorMap* map, PhaseBarrier* b, int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}
// One thread starts the copy of a box from shared memory to the array; commit makes a group of its stores, wait waits
// for all but the latest groups to be done, wait_read only until their shared memory may be written again.
__device__ inline void tma_store(const TensorMap* map, const void* from, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
               "r"(shared_address(from)), "r"(x), "r"(y)
               : "memory");
}
__device__ inline void tma_store(const TensorMap* map, const void* from, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
               "r"(shared_address(from)), "r"(x), "r"(y), "r"(z)
               : "memory");
}
__device__ inline void tma_store(const TensorMap* map, const void* from, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
               "r"(shared_address(from)), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
}
__device__ inline void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kPending> __device__ inline void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}
template <int kPending> __device__ inline void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

// Before the first wgmma, and whenever threads have touched its registers since the last.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kPending of the latest groups are under way; only then may their registers and tiles be touched.
template <int kPending> __device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
#endif

// How wgmma finds a tile in shared memory (128-byte swizzle). k-major: rows of 64 elements along k, groups of 8 rows
// stride_bytes apart. mn-major: rows of 64 elements along m or n, 8 k to a group; groups along k are stride_bytes
// apart, blocks of 64 along m or n leading_bytes.
__device__ inline uint64_t tile_descriptor(const void* tile, int stride_bytes, int leading_bytes = 16) {
#if defined(GG_SIMT)
  uint64_t address = simt::shared_offset(tile);
#else
  uint64_t address = shared_address(tile);
#endif
  return ((address & 0x3ffff) >> 4) | uint64_t((leading_bytes & 0x3ffff) >> 4) << 16 |
         uint64_t((stride_bytes & 0x3ffff) >> 4) << 32 | uint64_t(1) << 62;
}

#if !defined(GG_SIMT)
// Registers %0 ... of the accumulators, as text and as operands.
#define GG_R8(a, b, c, d, e, f, g, h) "%" #a ", %" #b ", %" #c ", %" #d ", %" #e ", %" #f ", %" #g ", %" #h
#define GG_R32                                                                                                       \
  GG_R8(0, 1, 2, 3, 4, 5, 6, 7)                                                                                      \
  ", " GG_R8(8, 9, 10, 11, 12, 13, 14, 15) ", " GG_R8(16, 17, 18, 19, 20, 21, 22, 23) ", " GG_R8(24, 25, 26, 27, 28, \
                                                                                                 29, 30, 31)
#define GG_R64                                                                                             \
  GG_R32 ", " GG_R8(32, 33, 34, 35, 36, 37, 38, 39) ", " GG_R8(40, 41, 42, 43, 44, 45, 46, 47) ", " GG_R8( \
      48, 49, 50, 51, 52, 53, 54, 55) ", " GG_R8(56, 57, 58, 59, 60, 61, 62, 63)
#define GG_R128                                                                                                        \
  GG_R64 ", " GG_R8(64, 65, 66, 67, 68, 69, 70, 71) ", " GG_R8(72, 73, 74, 75, 76, 77, 78, 79) ", " GG_R8(             \
      80, 81, 82, 83, 84, 85, 86,                                                                                      \
      87) ", " GG_R8(88, 89, 90, 91, 92, 93, 94,                                                                       \
                     95) ", " GG_R8(96, 97, 98, 99, 100, 101, 102,                                                     \
                                    103) ", " GG_R8(104, 105, 106, 107, 108, 109, 110,                                 \
                                                    111) ", " GG_R8(112, 113, 114, 115, 116, 117, 118,                 \
                                                                    119) ", " GG_R8(120, 121, 122, 123, 124, 125, 126, \
                                                                                    127)
#define GG_F8(i)                                                                                              \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define GG_F32 GG_F8(0), GG_F8(8), GG_F8(16), GG_F8(24)
#define GG_F64 GG_F32, GG_F8(32), GG_F8(40), GG_F8(48), GG_F8(56)
#define GG_F128 GG_F64, GG_F8(64), GG_F8(72), GG_F8(80), GG_F8(88), GG_F8(96), GG_F8(104), GG_F8(112), GG_F8(120)

// Both operands from shared memory; n places the operands after the n accumulators.
#define GG_WGMMA_SS(N, type, list, operands, p0, p1, p2, p3, p4)                                              \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #p2                                     \
               ", 0;\n"                                                                                       \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" list "}, %" #p0 ", %" #p1 \
               ", accumulate, 1, 1, %" #p3 ", %" #p4 ";\n}\n"                                                 \
               : operands                                                                                     \
               : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeA)), "n"(int(kTransposeB)))
// A from registers: fragments as of mma.m16n8k16, 16 rows a warp.
#define GG_WGMMA_RS(N, type, list, operands, p0, p1, p2, p3, p4, p5, p6)                                       \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #p5                                      \
               ", 0;\n"                                                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" list "}, {%" #p0 ", %" #p1 \
               ", %" #p2 ", %" #p3 "}, %" #p4 ", accumulate, 1, 1, %" #p6 ";\n}\n"                             \
               : operands                                                                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(accumulate)), "n"(int(kTransposeB)))

// D = A B, plus D where accumulate; a and b are tile_descriptors. Not transposed, an operand is k-major.
template <class T, bool kTransposeA = false, bool kTransposeB = false, int kRegisters>
__device__ inline void wgmma(float (&d)[kRegisters], uint64_t a, uint64_t b, bool accumulate) {
  constexpr bool bf16 = dtype_of<T>::value == DType::BFloat16;
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128, "N is 64, 128 or 256");
  if constexpr (kRegisters == 32 && bf16) GG_WGMMA_SS(64, "bf16", GG_R32, GG_F32, 32, 33, 34, 35, 36);
  if constexpr (kRegisters == 32 && !bf16) GG_WGMMA_SS(64, "f16", GG_R32, GG_F32, 32, 33, 34, 35, 36);
  if constexpr (kRegisters == 64 && bf16) GG_WGMMA_SS(128, "bf16", GG_R64, GG_F64, 64, 65, 66, 67, 68);
  if constexpr (kRegisters == 64 && !bf16) GG_WGMMA_SS(128, "f16", GG_R64, GG_F64, 64, 65, 66, 67, 68);
  if constexpr (kRegisters == 128 && bf16) GG_WGMMA_SS(256, "bf16", GG_R128, GG_F128, 128, 129, 130, 131, 132);
  if constexpr (kRegisters == 128 && !bf16) GG_WGMMA_SS(256, "f16", GG_R128, GG_F128, 128, 129, 130, 131, 132);
}
template <class T, bool kTransposeB = false, int kRegisters>
__device__ inline void wgmma(float (&d)[kRegisters], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  constexpr bool bf16 = dtype_of<T>::value == DType::BFloat16;
  static_assert(kRegisters == 32 || kRegisters == 64 || kRegisters == 128, "N is 64, 128 or 256");
  if constexpr (kRegisters == 32 && bf16) GG_WGMMA_RS(64, "bf16", GG_R32, GG_F32, 32, 33, 34, 35, 36, 37, 38);
  if constexpr (kRegisters == 32 && !bf16) GG_WGMMA_RS(64, "f16", GG_R32, GG_F32, 32, 33, 34, 35, 36, 37, 38);
  if constexpr (kRegisters == 64 && bf16) GG_WGMMA_RS(128, "bf16", GG_R64, GG_F64, 64, 65, 66, 67, 68, 69, 70);
  if constexpr (kRegisters == 64 && !bf16) GG_WGMMA_RS(128, "f16", GG_R64, GG_F64, 64, 65, 66, 67, 68, 69, 70);
  if constexpr (kRegisters == 128 && bf16)
    GG_WGMMA_RS(256, "bf16", GG_R128, GG_F128, 128, 129, 130, 131, 132, 133, 134);
  if constexpr (kRegisters == 128 && !bf16)
    GG_WGMMA_RS(256, "f16", GG_R128, GG_F128, 128, 129, 130, 131, 132, 133, 134);
}
#endif

}  // namespace gg::cuda
