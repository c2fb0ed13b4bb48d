// Vec<C>: one native vector of the compute type C (float, double, int32_t, int64_t), width-generic, with loads and
// stores that convert 16-bit floats, and exp. The only file with ISA #ifs; the rest of the vector mathematics is
// cpu/math.h.
//
// A Vec is GCC's own vector type: + - * / & | ^ << >> and comparisons work lane by lane, and mask ? a : b selects.
// Included by kernel files only: everything is in an anonymous namespace, so that no symbol is shared between ISAs.
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/dtype.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if !defined(GG_VECTOR_BYTES)
#error "compile kernel files with GG_ISA and GG_VECTOR_BYTES defined"
#endif

// Kernels of this ISA may find a matrix unit (cpu/tiles.h).
#if defined(__AVX512BW__) && GG_VECTOR_BYTES == 64
#define GG_TILES
#endif

namespace gg::GG_ISA {
namespace {

// A dense vector of N lanes of T; the typedef must stand in a struct for GCC to accept a dependent size.
template <class T, int N> struct Packed { typedef T type __attribute__((vector_size(N * sizeof(T)))); };
template <class C> constexpr int kLanes = GG_VECTOR_BYTES / int(sizeof(C));
template <class C> using Vec = typename Packed<C, kLanes<C>>::type;

// The signed integer as wide as C: the lane type of a comparison's mask.
template <class C> struct int_of;
template <> struct int_of<float> { using type = int32_t; };
template <> struct int_of<double> { using type = int64_t; };
template <> struct int_of<int32_t> { using type = int32_t; };
template <> struct int_of<int64_t> { using type = int64_t; };
template <class C> using Mask = Vec<typename int_of<C>::type>;

// The type in which elements stored as T are computed with.
template <class T> struct compute_of { using type = T; };
template <> struct compute_of<float16> { using type = float; };
template <> struct compute_of<bfloat16> { using type = float; };
template <class T> using compute_t = typename compute_of<T>::type;

template <class C> inline Vec<C> splat(C x) { return x - Vec<C>{}; }  // x - 0 keeps the sign of zero
template <class C> inline Vec<C> iota() {
  Vec<C> v;
  for (int i = 0; i < kLanes<C>; ++i) v[i] = C(i);
  return v;
}

template <class To, class From> inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// 16-bit floats to float and back, N lanes at a time. bfloat16 is float's upper half; rounding is to nearest even.
template <int N> inline typename Packed<float, N>::type widen(typename Packed<uint16_t, N>::type h, bfloat16) {
  using U = typename Packed<uint32_t, N>::type;
  return bit_cast<typename Packed<float, N>::type>(__builtin_convertvector(h, U) << 16);
}
template <int N> inline typename Packed<uint16_t, N>::type narrow(typename Packed<float, N>::type x, bfloat16) {
  using U = typename Packed<uint32_t, N>::type;
  U u = bit_cast<U>(x);
  U rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  U quiet = (u >> 16) | 0x40;  // a NaN stays one even if rounding would carry out of its payload
  return __builtin_convertvector((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded, typename Packed<uint16_t, N>::type);
}
// float16 by exponent arithmetic: scaling by 2^112 turns a half's exponent, subnormals included, into a float's.
template <int N> inline typename Packed<float, N>::type widen(typename Packed<uint16_t, N>::type h, float16) {
  // The zero-masked intrinsics: g++ 12 warns about its own undefined operand in the plain ones.
#if defined(__AVX512F__)
  if constexpr (N == 16)
    return bit_cast<typename Packed<float, N>::type>(_mm512_maskz_cvtph_ps(0xffff, bit_cast<__m256i>(h)));
#endif
#if defined(__F16C__)
  if constexpr (N == 8) return bit_cast<typename Packed<float, N>::type>(_mm256_cvtph_ps(bit_cast<__m128i>(h)));
#endif
  using U = typename Packed<uint32_t, N>::type;
  using F = typename Packed<float, N>::type;
  U u = __builtin_convertvector(h, U);
  U magnitude = (u & 0x7fff) << 13, sign = (u & 0x8000) << 16;
  F scaled = bit_cast<F>(magnitude) * 0x1p112f;
  U special = magnitude | 0x7f800000;  // infinities and NaNs keep their payload
  return bit_cast<F>(((u & 0x7c00) == 0x7c00 ? special : bit_cast<U>(scaled)) | sign);
}
template <int N> inline typename Packed<uint16_t, N>::type narrow(typename Packed<float, N>::type x, float16) {
#if defined(__AVX512F__)
  if constexpr (N == 16)
    return bit_cast<typename Packed<uint16_t, N>::type>(_mm512_maskz_cvtps_ph(0xffff, bit_cast<__m512>(x), 0));
#endif
#if defined(__F16C__)
  if constexpr (N == 8) return bit_cast<typename Packed<uint16_t, N>::type>(_mm256_cvtps_ph(bit_cast<__m256>(x), 0));
#endif
  using U = typename Packed<uint32_t, N>::type;
  using F = typename Packed<float, N>::type;
  U u = bit_cast<U>(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
  // Subnormal halves: adding 0.5 aligns the float's last bit with the half's; normal ones: rebias and round by hand.
  U small = bit_cast<U>(bit_cast<F>(a) + 0.5f) - 0x3f000000;
  U normal = (a - (112u << 23) + 0xfff + ((a >> 13) & 1)) >> 13;
  U r = a < (113u << 23) ? small : normal;
  r = a >= 0x477ff000 ? U{} + 0x7c00 : r;
  r = a > 0x7f800000 ? U{} + 0x7e00 : r;
  return __builtin_convertvector(r | sign, typename Packed<uint16_t, N>::type);
}

// Loads and stores need no alignment. The _n forms touch only the first n lanes; the rest load as zero.
template <class C> requires(sizeof(C) >= 4) inline Vec<C> load(const C* p) {
  Vec<C> v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class C> inline void store(C* p, Vec<C> v) { memcpy(p, &v, sizeof v); }

template <class H> inline Vec<float> load_half(const H* p) {
  typename Packed<uint16_t, kLanes<float>>::type h;
  memcpy(&h, p, sizeof h);
  return widen<kLanes<float>>(h, H{});
}
template <class H> inline void store_half(H* p, Vec<float> v) {
  auto h = narrow<kLanes<float>>(v, H{});
  memcpy(p, &h, sizeof h);
}
inline Vec<float> load(const float16* p) { return load_half(p); }
inline Vec<float> load(const bfloat16* p) { return load_half(p); }
inline void store(float16* p, Vec<float> v) { store_half(p, v); }
inline void store(bfloat16* p, Vec<float> v) { store_half(p, v); }

template <class T> inline Vec<compute_t<T>> load_n(const T* p, int64_t n) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const uint32_t mask = (1u << n) - 1;
  if constexpr (sizeof(T) == 8) return bit_cast<Vec<T>>(_mm512_maskz_loadu_epi64(__mmask8(mask), p));
  if constexpr (sizeof(T) == 4) return bit_cast<Vec<T>>(_mm512_maskz_loadu_epi32(__mmask16(mask), p));
  if constexpr (sizeof(compute_t<T>) != sizeof(T)) {
    __m256i h = _mm256_maskz_loadu_epi16(__mmask16(mask), p);
    return widen<kLanes<float>>(bit_cast<typename Packed<uint16_t, kLanes<float>>::type>(h), T{});
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 8)
    return bit_cast<Vec<T>>(_mm256_maskload_epi64((const long long*)p, bit_cast<__m256i>(iota<int64_t>() < n)));
  if constexpr (sizeof(T) == 4)
    return bit_cast<Vec<T>>(_mm256_maskload_epi32((const int*)p, bit_cast<__m256i>(iota<int32_t>() < int32_t(n))));
#endif
  T lanes[kLanes<compute_t<T>>] = {};
  memcpy(lanes, p, size_t(n) * sizeof(T));
  return load(lanes);
}
template <class T> inline void store_n(T* p, Vec<compute_t<T>> v, int64_t n) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const uint32_t mask = (1u << n) - 1;
  if constexpr (sizeof(T) == 8) return _mm512_mask_storeu_epi64(p, __mmask8(mask), bit_cast<__m512i>(v));
  if constexpr (sizeof(T) == 4) return _mm512_mask_storeu_epi32(p, __mmask16(mask), bit_cast<__m512i>(v));
  if constexpr (sizeof(compute_t<T>) != sizeof(T))
    return _mm256_mask_storeu_epi16(p, __mmask16(mask), bit_cast<__m256i>(narrow<kLanes<float>>(v, T{})));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 8)
    return _mm256_maskstore_epi64((long long*)p, bit_cast<__m256i>(iota<int64_t>() < n), bit_cast<__m256i>(v));
  if constexpr (sizeof(T) == 4)
    return _mm256_maskstore_epi32((int*)p, bit_cast<__m256i>(iota<int32_t>() < int32_t(n)), bit_cast<__m256i>(v));
#endif
  T lanes[kLanes<compute_t<T>>];
  store(lanes, v);
  memcpy(p, lanes, size_t(n) * sizeof(T));
}

// One element, converted.
template <class T> inline compute_t<T> load1(const T* p) {
  if constexpr (sizeof(compute_t<T>) == sizeof(T)) {
    return *p;
  } else {
    return widen<4>(typename Packed<uint16_t, 4>::type{p->bits, 0, 0, 0}, T{})[0];
  }
}
template <class T> inline void store1(T* p, compute_t<T> x) {
  if constexpr (sizeof(compute_t<T>) == sizeof(T)) {
    *p = x;
  } else {
    p->bits = narrow<4>(typename Packed<float, 4>::type{x, 0, 0, 0}, T{})[0];
  }
}

#if defined(__FMA__)
constexpr bool kFusesMultiplyAdd = true;  // a * b + c is one instruction and rounds once
#else
constexpr bool kFusesMultiplyAdd = false;
#endif

template <class V> inline V max(V a, V b) { return a > b ? a : b; }  // b where either is NaN
template <class V> inline V min(V a, V b) { return a < b ? a : b; }

// quotient(a, b) = a / b for b and 1 / b normal, within 1 ulp; root(x) = sqrt x for positive normal x, within 1 ulp;
// scale(x, k) = x 2^k for whole k, over- and underflowing gradually; split_exponent: x = 2^k m with 3/4 <= m < 3/2, and
// k is x's logarithm for 0, infinity, NaN and below zero. All have quicker instructions than the general ones on
// AVX-512, as max, min, sqrt and rsqrt have. (The maskz forms: the plain ones warn in g++ 12.)
#if defined(__AVX512F__) && GG_VECTOR_BYTES == 64
inline Vec<float> max(Vec<float> a, Vec<float> b) {
  return bit_cast<Vec<float>>(_mm512_maskz_max_ps(-1, bit_cast<__m512>(a), bit_cast<__m512>(b)));
}
inline Vec<float> min(Vec<float> a, Vec<float> b) {
  return bit_cast<Vec<float>>(_mm512_maskz_min_ps(-1, bit_cast<__m512>(a), bit_cast<__m512>(b)));
}
inline Vec<double> max(Vec<double> a, Vec<double> b) {
  return bit_cast<Vec<double>>(_mm512_maskz_max_pd(-1, bit_cast<__m512d>(a), bit_cast<__m512d>(b)));
}
inline Vec<double> min(Vec<double> a, Vec<double> b) {
  return bit_cast<Vec<double>>(_mm512_maskz_min_pd(-1, bit_cast<__m512d>(a), bit_cast<__m512d>(b)));
}
inline Vec<float> scale(Vec<float> x, Vec<float> k) {
  return bit_cast<Vec<float>>(_mm512_maskz_scalef_ps(-1, bit_cast<__m512>(x), bit_cast<__m512>(k)));
}
// The same, and 0 where y < least.
inline Vec<float> scale_from(Vec<float> y, float least, Vec<float> x, Vec<float> k) {
  const __mmask16 kept = _mm512_cmp_ps_mask(bit_cast<__m512>(y), _mm512_set1_ps(least), _CMP_NLT_UQ);
  return bit_cast<Vec<float>>(_mm512_maskz_scalef_ps(kept, bit_cast<__m512>(x), bit_cast<__m512>(k)));
}
inline Vec<double> scale(Vec<double> x, Vec<double> k) {
  return bit_cast<Vec<double>>(_mm512_maskz_scalef_pd(-1, bit_cast<__m512d>(x), bit_cast<__m512d>(k)));
}
inline Vec<float> quotient(Vec<float> a, Vec<float> b) {
  Vec<float> r = bit_cast<Vec<float>>(_mm512_maskz_rcp14_ps(-1, bit_cast<__m512>(b)));
  r = r + r * (1 - b * r);
  Vec<float> q = a * r;
  return q + r * (a - b * q);
}
inline Vec<double> quotient(Vec<double> a, Vec<double> b) {
  Vec<double> r = bit_cast<Vec<double>>(_mm512_maskz_rcp14_pd(-1, bit_cast<__m512d>(b)));
  r = r + r * (1 - b * r);
  Vec<double> q = a * r;
  return q + r * (a - b * q);
}
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return bit_cast<Vec<float>>(_mm512_maskz_fmadd_ps(-1, bit_cast<__m512>(a), bit_cast<__m512>(b), bit_cast<__m512>(c)));
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return bit_cast<Vec<double>>(
      _mm512_maskz_fmadd_pd(-1, bit_cast<__m512d>(a), bit_cast<__m512d>(b), bit_cast<__m512d>(c)));
}
// From r near 1 / sqrt x: s = x r and h = r / 2 improve together, and the rest x - s^2 rounds s correctly (Markstein,
// IBM J. Res. Dev. 34, 1990; all mantissas were tried for float).
template <class V> inline V root_by(V x, V r) {
  V s = x * r, h = r * 0.5f, e = fma(-s, h, V{} + 0.5f);
  s = fma(s, e, s);
  h = fma(h, e, h);
  return fma(fma(-s, s, x), h, s);
}
inline Vec<float> rsqrt_estimate(Vec<float> x) {
  return bit_cast<Vec<float>>(_mm512_maskz_rsqrt14_ps(-1, bit_cast<__m512>(x)));
}
inline Vec<double> root(Vec<double> x) {
  return root_by(x, bit_cast<Vec<double>>(_mm512_maskz_rsqrt14_pd(-1, bit_cast<__m512d>(x))));
}
inline Vec<float> sqrt(Vec<float> x) {
  const __m512i low = _mm512_set1_epi32(0x0d800000), range = _mm512_set1_epi32(0x7f800000 - 0x0d800000);
  // Below 2^-100 the rest underflows; zeros, infinities, NaNs and negative numbers have no such r.
  if (_mm512_cmpge_epu32_mask(_mm512_sub_epi32(bit_cast<__m512i>(x), low), range))
    return bit_cast<Vec<float>>(_mm512_maskz_sqrt_ps(-1, bit_cast<__m512>(x)));
  return root_by(x, rsqrt_estimate(x));
}
inline Vec<float> rsqrt(Vec<float> x) {
  const Vec<float> r = rsqrt_estimate(x), y = r + r * (0.5f - 0.5f * (x * r * r));
  return y == y ? y : r;  // 0 and infinity
}
constexpr auto kSignOfMantissa = _MM_MANTISSA_SIGN_ENUM(_MM_MANT_SIGN_nan | _MM_MANT_SIGN_zero);  // NaN for x < 0
inline void split_exponent(Vec<float> x, Vec<float>& k, Vec<float>& m) {
  const __m512 part = _mm512_maskz_getmant_ps(-1, bit_cast<__m512>(x), _MM_MANT_NORM_p75_1p5, kSignOfMantissa);
  m = bit_cast<Vec<float>>(part);
  k = bit_cast<Vec<float>>(_mm512_maskz_getexp_ps(-1, bit_cast<__m512>(x))) -
      bit_cast<Vec<float>>(_mm512_maskz_getexp_ps(-1, part));
}
inline void split_exponent(Vec<double> x, Vec<double>& k, Vec<double>& m) {
  const __m512d part = _mm512_maskz_getmant_pd(-1, bit_cast<__m512d>(x), _MM_MANT_NORM_p75_1p5, kSignOfMantissa);
  m = bit_cast<Vec<double>>(part);
  k = bit_cast<Vec<double>>(_mm512_maskz_getexp_pd(-1, bit_cast<__m512d>(x))) -
      bit_cast<Vec<double>>(_mm512_maskz_getexp_pd(-1, part));
}
#else
inline Vec<float> scale(Vec<float> x, Vec<float> k) {
  using I = Vec<int32_t>;
  I ki = __builtin_convertvector(k, I), half = ki >> 1;  // in two steps, so that neither leaves the exponents
  return x * bit_cast<Vec<float>>((half + 127) << 23) * bit_cast<Vec<float>>((ki - half + 127) << 23);
}
inline Vec<float> scale_from(Vec<float> y, float least, Vec<float> x, Vec<float> k) {
  return y < least ? Vec<float>{} : scale(x, k);
}
inline Vec<double> scale(Vec<double> x, Vec<double> k) {
  using I = Vec<int64_t>;
  const Vec<double> magic = splat(0x1.8p52);  // an integer conversion has no instruction before AVX-512
  I ki = bit_cast<I>(k + magic) - bit_cast<I>(magic), half = ki >> 1;
  return x * bit_cast<Vec<double>>((half + 1023) << 52) * bit_cast<Vec<double>>((ki - half + 1023) << 52);
}
inline Vec<float> quotient(Vec<float> a, Vec<float> b) { return a / b; }
inline Vec<double> quotient(Vec<double> a, Vec<double> b) { return a / b; }
inline Vec<double> root(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
}
inline Vec<float> sqrt(Vec<float> x) {
  for (int i = 0; i < kLanes<float>; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}
inline Vec<float> rsqrt(Vec<float> x) { return 1 / sqrt(x); }
template <class C> inline void split_exponent_by_bits(Vec<C> x, Vec<C>& k, Vec<C>& m) {
  using I = Mask<C>;
  constexpr bool single = sizeof(C) == 4;
  constexpr int bits = single ? 23 : 52;
  constexpr typename int_of<C>::type one = 1;
  const C infinity = C(__builtin_inf());
  const I subnormal = x < C(single ? 0x1p-126 : 0x1p-1022), least = bit_cast<I>(splat(C(0.75)));
  const I i = bit_cast<I>(subnormal ? x * C(one << bits) : x) - least;
  m = bit_cast<Vec<C>>((i & ((one << bits) - 1)) + least);
  // Whole numbers to floating point by the exponent's trick: the conversion has no instruction before AVX-512.
  const Vec<C> magic = splat(C(single ? 0x1.8p23 : 0x1.8p52));
  k = bit_cast<Vec<C>>((i >> bits) + bit_cast<I>(magic)) - magic;
  k = subnormal ? k - C(bits) : k;
  k = x < infinity ? k : x;  // infinity and NaN
  k = x == 0 ? splat(-infinity) : k;
  k = x < 0 ? splat(C(__builtin_nan(""))) : k;
}
inline void split_exponent(Vec<float> x, Vec<float>& k, Vec<float>& m) { split_exponent_by_bits<float>(x, k, m); }
inline void split_exponent(Vec<double> x, Vec<double>& k, Vec<double>& m) { split_exponent_by_bits<double>(x, k, m); }
#endif

// Streaming: n bytes, a multiple of the vector size, to aligned memory past the caches, for results that will not fit
// them.
#if defined(__SSE2__)
inline void stream(void* to, const void* from, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    __m128i v;
    memcpy(&v, static_cast<const char*>(from) + i, 16);
    _mm_stream_si128(reinterpret_cast<__m128i*>(static_cast<char*>(to) + i), v);
  }
}
inline void stream_done() { _mm_sfence(); }
#else
inline void stream(void* to, const void* from, int64_t n) { memcpy(to, from, size_t(n)); }
inline void stream_done() {}
#endif

// Whether any lane of a mask is set.
template <class M> inline bool any(M mask) {
#if defined(__AVX512F__) && GG_VECTOR_BYTES == 64
  __m512i bits = bit_cast<__m512i>(mask);
  return _mm512_test_epi64_mask(bits, bits) != 0;
#else
  int64_t words[sizeof(M) / sizeof(int64_t)], all = 0;
  memcpy(words, &mask, sizeof mask);
  for (int64_t w : words) all |= w;
  return all != 0;
#endif
}

// Across the lanes, halving: a fixed order, so the same lanes always give the same sum.
template <class C, class F> inline C reduce_lanes(Vec<C> v, F combine) {
  C lanes[kLanes<C>];
  memcpy(lanes, &v, sizeof v);
  for (int half = kLanes<C> / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  return lanes[0];
}
template <class C> inline C sum_lanes(Vec<C> v) {
  return reduce_lanes<C>(v, [](C a, C b) { return a + b; });
}
template <class C> inline C max_lanes(Vec<C> v) {
  return reduce_lanes<C>(v, [](C a, C b) { return a > b ? a : b; });
}

// exp by Cody and Waite: x = k ln 2 + r with |r| <= ln 2 / 2, so exp(x) = p 2^k with a polynomial p for exp(r). NaN
// stays in p; k is then arbitrary.
template <class C> struct ExpParts { Vec<C> p, k; };
inline ExpParts<float> exp_parts(Vec<float> x) {
  using V = Vec<float>;
  const V magic = splat(0x1.8p23f);  // adding it rounds to a whole number
  V k = (x * 1.44269504f + magic) - magic;
  V r = x - k * 0x1.62e4p-1f;
  r = r - k * 0x1.7f7d1cp-20f;
  V p = splat(0x1.6850e4p-10f);
  p = p * r + 0x1.123bccp-7f;
  p = p * r + 0x1.555b98p-5f;
  p = p * r + 0x1.55548ep-3f;
  p = p * r + 0x1.fffff8p-2f;
  p = p * r * r + r + 1.0f;
  return {p, k};
}
inline ExpParts<double> exp_parts(Vec<double> x) {
  using V = Vec<double>;
  const V magic = splat(0x1.8p52);
  V k = (x * 1.4426950408889634 + magic) - magic;
  V r = x - k * 0x1.62e42fee00000p-1;
  r = r - k * 0x1.a39ef35793c76p-33;
  V p = splat(1.0 / 6227020800.0);
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r * r + r + 1.0;
  return {p, k};
}

// Error below 1 ulp (float) and 1.5 ulp (double), subnormal results included; a NaN passes through max and min.
inline Vec<float> exp(Vec<float> x) {
  auto [p, k] = exp_parts(max(splat(-104.0f), min(splat(89.0f), x)));
  return scale(p, k);
}
inline Vec<double> exp(Vec<double> x) {
  auto [p, k] = exp_parts(max(splat(-746.0), min(splat(710.0), x)));
  return scale(p, k);
}

// exp for x that is at most a little above 0, or NaN; 0 below the normal numbers: for weights of a softmax, where a
// subnormal result would cost a hundred times its worth. exp(x) = 2^k 2^f with |f| <= 1 / 2, relative error 8e-8.
inline Vec<float> exp_of_negative(Vec<float> x) {
  using V = Vec<float>;
  const V magic = splat(0x1.8p23f);  // adding it rounds to a whole number
  const V k = (x * 1.44269504f + magic) - magic, f = x * 1.44269504f - k;
  V p = splat(0x1.41fbbcp-13f);
  p = p * f + 0x1.5f3e52p-10f;
  p = p * f + 0x1.3b2d4cp-7f;
  p = p * f + 0x1.c6aee8p-5f;
  p = p * f + 0x1.ebfbdcp-3f;
  p = p * f + 0x1.62e43p-1f;
  p = p * f + 1.0f;
  return scale_from(x, -87.0f, p, k);
}
inline Vec<double> exp_of_negative(Vec<double> x) {
  auto [p, k] = exp_parts(max(splat(-708.0), x));
  return x < -708.0 ? Vec<double>{} : scale(p, k);
}

}  // namespace
}  // namespace gg::GG_ISA
