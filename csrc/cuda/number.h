// Numbers in kernels: what an element is computed in, and how it gets there and back.
//
// 16-bit floats are storage: load<C>(p) widens them, store(p, x) rounds once, to nearest even. Conversions are C's
// casts: floats to whole numbers truncate, wide ones wrap, and anything but zero is true.
#pragma once
#include <type_traits>

#include "core/dispatch.h"
#include "core/dtype.h"
#include "cuda/language.h"

namespace gg::cuda {

template <class T> struct Compute { using type = T; };
template <> struct Compute<float16> { using type = float; };
template <> struct Compute<bfloat16> { using type = float; };
template <class T> using compute_t = typename Compute<T>::type;

// Sixteen-bit conversions, in one instruction each where the hardware has it.
__device__ inline float to_float(bfloat16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}
#if defined(GG_SIMT)
__device__ inline float to_float(float16 x) { return simt::half_to_float(x.bits); }
__device__ inline float16 to_float16(float x) { return {simt::float_to_half(x)}; }
__device__ inline bfloat16 to_bfloat16(float x) { return {simt::float_to_bfloat(x)}; }
#else
__device__ inline float to_float(float16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float16 to_float16(float x) { return {__half_as_ushort(__float2half_rn(x))}; }
__device__ inline bfloat16 to_bfloat16(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }
#endif

template <class T> constexpr bool kHalf = sizeof(compute_t<T>) != sizeof(T);
template <class T> constexpr bool kWhole = T(0.5f) == T(0);

// x as a C, x a number of any kind that an element can be computed in.
template <class C, class T> __device__ inline C convert(T x) {
  if constexpr (dtype_of<C>::value == DType::Bool)
    return x != T(0);
  else if constexpr (sizeof(C) < 8 && kWhole<C> && !kWhole<T>)
    return C(int64_t(x));  // what lies outside wraps
  else
    return C(x);
}

template <class C, class T> __device__ inline C from_element(T x) {
  if constexpr (kHalf<T>)
    return convert<C>(to_float(x));
  else
    return convert<C>(x);
}
template <class T, class C> __device__ inline T to_element(C x) {
  if constexpr (dtype_of<T>::value == DType::Float16)
    return to_float16(float(x));
  else if constexpr (dtype_of<T>::value == DType::BFloat16)
    return to_bfloat16(float(x));
  else
    return convert<T>(x);
}

template <class C, class T> requires(!std::is_same_v<C, T>) __device__ inline C load(const T* p) {
  return from_element<C>(*p);
}
template <class T> __device__ inline compute_t<T> load(const T* p) { return from_element<compute_t<T>>(*p); }
template <class T, class C> __device__ inline void store(T* p, C x) { *p = to_element<T>(x); }

// N elements moved as one access; p must be aligned to N * sizeof(T), which is 4, 8 or 16 bytes.
template <class T, int N> struct alignas(N * sizeof(T)) Pack {
  T v[N];
  __device__ T& operator[](int i) { return v[i]; }
  __device__ const T& operator[](int i) const { return v[i]; }
};
template <int N, class T> __device__ inline Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
#if defined(GG_SIMT)
template <int N, class T> __device__ inline void store_pack(T* p, const Pack<T, N>& x) {
  *reinterpret_cast<Pack<T, N>*>(p) = x;
}
template <class T> __device__ inline T* global_pointer(T* p) { return p; }
#else
template <int bytes> struct Word { using type = uint32_t; };
template <> struct Word<8> { using type = uint2; };
template <> struct Word<16> { using type = uint4; };
// In loops that it unrolls, the compiler stores a struct member by member; an instruction of CUDA's stays one. Which
// memory p leads to is known where it compiles, as a rule.
template <int N, class T> __device__ inline void store_pack(T* p, const Pack<T, N>& x) {
  if constexpr (sizeof x >= 4) {
    if (__isGlobal(p)) {
      typename Word<sizeof x>::type word;
      memcpy(&word, &x, sizeof x);
      return __stwb(reinterpret_cast<decltype(word)*>(p), word);
    }
  }
  *reinterpret_cast<Pack<T, N>*>(p) = x;
}
// A pointer that was itself read from memory, known to lead to device memory.
template <class T> __device__ inline T* global_pointer(T* p) {
  __builtin_assume(__isGlobal(p));
  return p;
}
#endif
// Elements of T in 16 bytes.
template <class T> constexpr int kPack = 16 / int(sizeof(T));
inline bool aligned(const void* p, size_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

}  // namespace gg::cuda
