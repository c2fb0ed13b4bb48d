// Twins of cuda/hopper.h: phase barriers, TMA, wgmma. What is asynchronous there happens here as late as the waits
// allow, so that a missing wait shows; descriptors, tensor maps and swizzles are decoded as the hardware does.
#pragma once
#include "core/dtype.h"
#include "simt/runtime.h"

namespace gg::cuda {
struct PhaseBarrier;
}

namespace gg::simt {

struct TensorMap {
  DType dtype;
  const char* data;
  int rank;
  int64_t size[4], stride[4];  // bytes
  int box[4], step[4];
  bool swizzle;
};

using Barrier = cuda::PhaseBarrier;

void barrier_init(Barrier* b, int count);
void barrier_init_done();
void barrier_arrive(Barrier* b, GG_PLACE);
void barrier_expect(Barrier* b, int bytes, GG_PLACE);
void barrier_wait(Barrier* b, int parity, GG_PLACE);
inline void meet_threads(int id, int threads, GG_PLACE) { named_barrier(id, threads, true, file, line); }
void fence_shared_for_async();
void set_registers(int registers, bool gives);
template <int kRegisters> void registers_give() { set_registers(kRegisters, true); }
template <int kRegisters> void registers_take() { set_registers(kRegisters, false); }

inline void tma_prefetch(const TensorMap*) {}
void tma_load_at(void* to, const TensorMap* map, Barrier* b, const int* at, int rank, Place place);
void tma_store_at(const TensorMap* map, const void* from, const int* at, int rank, Place place);
inline void tma_load(void* to, const TensorMap* map, Barrier* b, int x, int y, GG_PLACE) {
  const int at[] = {x, y};
  tma_load_at(to, map, b, at, 2, {file, line});
}
inline void tma_load(void* to, const TensorMap* map, Barrier* b, int x, int y, int z, GG_PLACE) {
  const int at[] = {x, y, z};
  tma_load_at(to, map, b, at, 3, {file, line});
}
inline void tma_load(void* to, const TensorMap* map, Barrier* b, int x, int y, int z, int w, GG_PLACE) {
  const int at[] = {x, y, z, w};
  tma_load_at(to, map, b, at, 4, {file, line});
}
inline void tma_store(const TensorMap* map, const void* from, int x, int y, GG_PLACE) {
  const int at[] = {x, y};
  tma_store_at(map, from, at, 2, {file, line});
}
inline void tma_store(const TensorMap* map, const void* from, int x, int y, int z, GG_PLACE) {
  const int at[] = {x, y, z};
  tma_store_at(map, from, at, 3, {file, line});
}
inline void tma_store(const TensorMap* map, const void* from, int x, int y, int z, int w, GG_PLACE) {
  const int at[] = {x, y, z, w};
  tma_store_at(map, from, at, 4, {file, line});
}
void tma_store_commit();
void finish_stores(int pending);
template <int kPending> void tma_store_wait() { finish_stores(kPending); }
template <int kPending> void tma_store_wait_read() { finish_stores(kPending); }

// Where shared memory lies as descriptors count: from the beginning of the block's arena.
uint64_t shared_offset(const void* p);

struct WgmmaOperands {
  const uint32_t* a_registers;  // null: a is a descriptor
  uint64_t a, b;
  bool transpose_a, transpose_b, accumulate, bf16;
};
void wgmma_start(float* d, int registers, const WgmmaOperands& operands, Place place);
void wgmma_fence();
void wgmma_commit();
void finish_wgmma(int pending, Place place);
template <int kPending> void wgmma_wait(GG_PLACE) { finish_wgmma(kPending, {file, line}); }

template <class T, bool kTransposeA = false, bool kTransposeB = false, int kRegisters>
void wgmma(float (&d)[kRegisters], uint64_t a, uint64_t b, bool accumulate, GG_PLACE) {
  constexpr bool bf16 = dtype_of<T>::value == DType::BFloat16;
  wgmma_start(d, kRegisters, {nullptr, a, b, kTransposeA, kTransposeB, accumulate, bf16}, {file, line});
}
template <class T, bool kTransposeB = false, int kRegisters>
void wgmma(float (&d)[kRegisters], const uint32_t (&a)[4], uint64_t b, bool accumulate, GG_PLACE) {
  constexpr bool bf16 = dtype_of<T>::value == DType::BFloat16;
  wgmma_start(d, kRegisters, {a, 0, b, false, kTransposeB, accumulate, bf16}, {file, line});
}

}  // namespace gg::simt
