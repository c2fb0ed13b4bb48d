// Instructions beyond CUDA C++, for sm_80 and later: asynchronous copies into shared memory, matrix loads, tensor
// cores.
//
// A warp holds a matrix in fragments (PTX ISA, "Matrix fragments for mma.m16n8k16"): with g = lane / 4 and t = lane %
// 4, registers are pairs of 16-bit elements, the lower column (of A) or row (of B) in the lower half:
//   A (16, 16)  a[0] (g, 2t)   a[1] (g + 8, 2t)   a[2] (g, 2t + 8)   a[3] (g + 8, 2t + 8)
//   B (16, 8)   b[0] (2t, g)   b[1] (2t + 8, g)
//   D (16, 8)   d[0] (g, 2t)   d[1] (g, 2t + 1)   d[2] (g + 8, 2t)   d[3] (g + 8, 2t + 1)
// For tf32, with 8 in place of 16 along k, a register is one element: columns (rows of B) t and t + 4.
#pragma once
#include "core/dtype.h"
#include "cuda/language.h"
#include "cuda/number.h"

#if defined(GG_SIMT)
#include "simt/tensor_core.h"
#endif

namespace gg::cuda {

#if defined(GG_SIMT)
using simt::copy_async;
using simt::copy_async_commit;
using simt::copy_async_wait;
using simt::keep_in_register;
using simt::ldmatrix;
using simt::ldmatrix_trans;
using simt::mma_m16n8k16;
using simt::mma_m16n8k8_tf32;
using simt::to_tf32;
#else

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define GG_PTX(...) asm volatile(__VA_ARGS__)
#else
#define GG_PTX(...) __trap()  // the host starts no such kernel on an older device
#endif

__device__ inline uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// Starts a copy of kBytes (4, 8 or 16, both sides aligned to it) from global to shared memory.
template <int kBytes> __device__ inline void copy_async(void* to, const void* from) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16)  // not by way of the L1 cache
    GG_PTX("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
  else
    GG_PTX("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)), "l"(from), "n"(kBytes) : "memory");
}
// The same, but what lies beyond source_bytes is not read and becomes zero.
template <int kBytes> __device__ inline void copy_async(void* to, const void* from, int source_bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  if constexpr (kBytes == 16)
    GG_PTX("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
           "r"(source_bytes) : "memory");
  else
    GG_PTX("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(kBytes),
           "r"(source_bytes) : "memory");
}
// The copies that this thread started since the last commit become a group.
__device__ inline void copy_async_commit() { GG_PTX("cp.async.commit_group;" :: : "memory"); }
// Waits until at most kPending of this thread's latest groups are under way; other threads see them after a barrier.
template <int kPending> __device__ inline void copy_async_wait() {
  GG_PTX("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// 1, 2 or 4 matrices of 8 rows of 16 bytes from shared memory: lane 8 i + r names row r of matrix i. Of 16-bit elements
// register i of each lane gets (g, 2t) and (g, 2t + 1) of matrix i; transposed, (2t, g) and (2t + 1, g).
__device__ inline void ldmatrix(uint32_t (&r)[1], const void* row) {
  GG_PTX("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(shared_address(row)));
}
__device__ inline void ldmatrix(uint32_t (&r)[2], const void* row) {
  GG_PTX("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]),
         "=r"(r[1]) : "r"(shared_address(row)));
}
__device__ inline void ldmatrix(uint32_t (&r)[4], const void* row) {
  GG_PTX("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]),
         "=r"(r[3]) : "r"(shared_address(row)));
}
__device__ inline void ldmatrix_trans(uint32_t (&r)[1], const void* row) {
  GG_PTX("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(shared_address(row)));
}
__device__ inline void ldmatrix_trans(uint32_t (&r)[2], const void* row) {
  GG_PTX("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]),
         "=r"(r[1]) : "r"(shared_address(row)));
}
__device__ inline void ldmatrix_trans(uint32_t (&r)[4], const void* row) {
  GG_PTX("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]),
         "=r"(r[3]) : "r"(shared_address(row)));
}

// d += A B in float32 for A and B of T: float16 or bfloat16.
template <class T> __device__ inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (dtype_of<T>::value == DType::BFloat16)
    GG_PTX(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : "+f"(d[0]),
        "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    GG_PTX(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : "+f"(d[0]),
        "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += A B for A (16, 8) and B (8, 8) of tf32: float32 whose lowest 13 bits are not looked at.
__device__ inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  GG_PTX(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : "+f"(d[0]),
      "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// x rounded to tf32, ties away from zero.
__device__ inline uint32_t to_tf32(float x) {
  uint32_t y = 0;
  GG_PTX("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
}
#undef GG_PTX

// p, which the compiler would otherwise compute again in every round of a loop.
template <class T> __device__ inline const T* keep_in_register(const T* p) {
  asm volatile("" : "+l"(p));
  return p;
}
#endif

// 2 to the x in one instruction, to 2 ulp; results below the normal numbers are 0.
__device__ inline float exp2_fast(float x) {
#if defined(GG_SIMT)
  const float y = exp2f(x);
  return y < 0x1p-126f ? 0.f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// Two floats as a register of 16-bit elements, x in the lower half.
template <class T> __device__ inline uint32_t pack_halves(float x, float y) {
#if !defined(GG_SIMT)
  if constexpr (dtype_of<T>::value == DType::BFloat16) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&both);
  } else {
    const __half2 both = __floats2half2_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&both);
  }
#else
  return uint32_t(to_element<T>(x).bits) | uint32_t(to_element<T>(y).bits) << 16;
#endif
}

}  // namespace gg::cuda
