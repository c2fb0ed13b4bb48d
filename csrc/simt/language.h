// The words of CUDA C++ for a kernel file that g++ compiles: qualifiers, vector types, built-in variables, barriers,
// atomics and arithmetic intrinsics. What they do is in runtime.h.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simt/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__

#define GG_VECTOR_TYPES(T, name, align)                      \
  struct alignas(sizeof(T)) name##1 { T x; };                \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };         \
  struct name##3 { T x, y, z; };                             \
  struct alignas(align) name##4 { T x, y, z, w; };           \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
GG_VECTOR_TYPES(float, float, 16)
GG_VECTOR_TYPES(int, int, 16)
GG_VECTOR_TYPES(unsigned, uint, 16)
GG_VECTOR_TYPES(double, double, 16)
#undef GG_VECTOR_TYPES

using dim3 = gg::simt::Dim3;

#define threadIdx (::gg::simt::thread_index())
#define blockIdx (::gg::simt::block_index())
#define blockDim (::gg::simt::block_size())
#define gridDim (::gg::simt::grid_size())

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  gg::simt::block_barrier(file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  gg::simt::sync_warp(mask, file, line);
}
#define __shfl_sync(mask, x, lane) gg::simt::shuffle(x, lane, mask)
#define __shfl_xor_sync(mask, x, lanes) gg::simt::shuffle_xor(x, lanes, mask)
#define __shfl_down_sync(mask, x, lanes) gg::simt::shuffle_down(x, lanes, mask)
#define __shfl_up_sync(mask, x, lanes) gg::simt::shuffle_up(x, lanes, mask)
#define __ballot_sync(mask, condition) gg::simt::ballot(condition, mask)
#define __any_sync(mask, condition) (gg::simt::ballot(condition, mask) != 0)
#define __all_sync(mask, condition) (gg::simt::ballot(condition, mask) == (mask))

// Blocks are never ordered within a launch here: a fence orders nothing that the checks would accept.
inline void __threadfence() {}
inline void __threadfence_block() {}

// Atomics: each returns the old value.
template <class T> inline T atomicAdd(T* p, T x) {
  return gg::simt::atomic(p, [x](T old) { return T(old + x); });
}
template <class T> inline T atomicSub(T* p, T x) {
  return gg::simt::atomic(p, [x](T old) { return T(old - x); });
}
template <class T> inline T atomicMax(T* p, T x) {
  return gg::simt::atomic(p, [x](T old) { return old > x ? old : x; });
}
template <class T> inline T atomicMin(T* p, T x) {
  return gg::simt::atomic(p, [x](T old) { return old < x ? old : x; });
}
template <class T> inline T atomicOr(T* p, T x) {
  return gg::simt::atomic(p, [x](T old) { return old | x; });
}
template <class T> inline T atomicAnd(T* p, T x) {
  return gg::simt::atomic(p, [x](T old) { return old & x; });
}
template <class T> inline T atomicExch(T* p, T x) {
  return gg::simt::atomic(p, [x](T) { return x; });
}
template <class T> inline T atomicCAS(T* p, T expected, T x) {
  return gg::simt::atomic(p, [=](T old) { return old == expected ? x : old; });
}

template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline void __stcs(T* p, T x) { *p = x; }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(uint64_t(x)) : 64; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline int __float_as_int(float x) { return int(__float_as_uint(x)); }
inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
inline float __int_as_float(int bits) { return __uint_as_float(unsigned(bits)); }
inline long long __double_as_longlong(double x) {
  long long bits;
  memcpy(&bits, &x, 8);
  return bits;
}
inline double __longlong_as_double(long long bits) {
  double x;
  memcpy(&x, &bits, 8);
  return x;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
// Halley's iteration on erf(y) = x from Winitzki's closed form; the complement beyond 1/2, where 1 - |x| is exact.
inline double erfinv(double x) {
  double a = fabs(x), l = log1p(-a * a), b = l * 0.5 + 4.3307467508;  // 2 / (0.147 pi)
  double y = sqrt(-l * (1 / 0.147) / (b + sqrt(b * b - l * (1 / 0.147))));
  for (int i = 0; i < 3; ++i) {
    double error = a < 0.5 ? erf(y) - a : (1 - a) - erfc(y), u = error * 0x1.c5bf891b4ef6bp-1 * exp(y * y);
    y -= u / (1 + y * u);
  }
  if (!(a < 1)) return a == 1 ? x * INFINITY : NAN;
  return a < 1e-9 ? x * 0x1.c5bf891b4ef6bp-1 : copysign(y, x);
}
inline float erfinv(float x) { return float(erfinv(double(x))); }

using std::max;
using std::min;
