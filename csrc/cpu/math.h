// Elementary functions of Vec<float> and Vec<double>, beside exp in vec.h, under the names of <math.h>.
//
// Most have code of their own for float; asinh, acosh, hypot, digamma, trigamma and parts of pow and lgamma of floats
// compute in double and round once: 0.5 ulp, lgamma 1.1. Polynomials are minimax fits of the reduced function (Remez
// exchange, or Lawson's weights). Largest errors found over random arguments of all magnitudes, with and without FMA,
// in ulps (float / double): log, log1p 0.9; log2, log10 2.4; log1p_exp 1.6; exp2 1.1; expm1 1.5 / 1.9; sin, cos 1.5
// / 2.3; tan 3.4 / 3.7; atan 1.5 / 2.3; atan2 2.3; asin, acos 2.3 / 2.8; sinh, cosh 2.9; atanh 1.8 / 1.7; tanh 5.4
// / 2.4; sigmoid 2.4; erf 5.9 / 1.7; erfc 5.6; erfinv 4.6 / 3.4; rsqrt 1.5; double only: asinh 1.7, acosh 2.6.
// tests/test_math_error.py measures them. Infinities, NaNs and signed zeros behave as C's, but float tanh and erf give
// +0 for -0.
#pragma once
#include <math.h>

#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

template <class V> struct lane_of;
template <> struct lane_of<Vec<float>> { using type = float; };
template <> struct lane_of<Vec<double>> { using type = double; };
template <> struct lane_of<Vec<int64_t>> { using type = int64_t; };
template <class V> using lane_t = typename lane_of<V>::type;
template <class V> using mask_t = Mask<lane_t<V>>;

// How a float or a double is laid out.
template <class C> struct Ieee;
template <> struct Ieee<float> {
  static constexpr int bits = 23, bias = 127;
  static constexpr float magic = 0x1.8p23f, least_normal = 0x1p-126f, infinity = __builtin_inff(),
                         nan = __builtin_nanf("");
};
template <> struct Ieee<double> {
  static constexpr int bits = 52, bias = 1023;
  static constexpr double magic = 0x1.8p52, least_normal = 0x1p-1022, infinity = __builtin_inf(),
                          nan = __builtin_nan("");
};

template <class V> inline V constant(double c) { return splat<lane_t<V>>(lane_t<V>(c)); }

// c0 + c1 x + c2 x^2 + ...
template <class V> inline V horner(V, double c0) { return constant<V>(c0); }
template <class V, class... Rest> inline V horner(V x, double c0, double c1, Rest... rest) {
  return horner(x, c1, rest...) * x + lane_t<V>(c0);
}

// f lane by lane, where it becomes one vector instruction; called out of line where libm does the work.
template <class V, class F> inline V each(V x, F f) {
  lane_t<V> a[sizeof(V) / sizeof(lane_t<V>)];
  memcpy(a, &x, sizeof x);
  for (auto& lane : a) lane = f(lane);
  memcpy(&x, a, sizeof x);
  return x;
}
template <class V, class F> inline V each(V x, V y, F f) {
  constexpr int n = sizeof(V) / sizeof(lane_t<V>);
  lane_t<V> a[n], b[n];
  memcpy(a, &x, sizeof x);
  memcpy(b, &y, sizeof y);
  for (int i = 0; i < n; ++i) a[i] = f(a[i], b[i]);
  memcpy(&x, a, sizeof x);
  return x;
}
template <class V, class F> __attribute__((noinline)) V call_each(V x, F f) { return each(x, f); }
template <class V, class F> __attribute__((noinline)) V call_each(V x, V y, F f) { return each(x, y, f); }

// Two halves as one vector. (By way of memory a load would span two stores and wait for both.)
template <class V, class H> inline V join(H low, H high) {
  constexpr int n = sizeof(V) / 4;
  static_assert(sizeof(H) * 2 == sizeof(V));
  if constexpr (n == 16)
    return bit_cast<V>(__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  else if constexpr (n == 8)
    return bit_cast<V>(__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7));
  else
    return bit_cast<V>(__builtin_shufflevector(low, high, 0, 1, 2, 3));
}

// f of the double vectors that hold the lower and the upper half of the float lanes.
template <class F, class... Floats> inline Vec<float> through_double(F f, Floats... x) {
  using Half = typename Packed<float, kLanes<double>>::type;
  struct Halves { Half part[2]; };
  auto of = [&](int i) {
    return __builtin_convertvector(f(__builtin_convertvector(bit_cast<Halves>(x).part[i], Vec<double>)...), Half);
  };
  return join<Vec<float>>(of(0), of(1));
}

template <class V> inline V abs(V x) {
  using M = mask_t<V>;
  if constexpr (requires { Ieee<lane_t<V>>::bits; })
    return bit_cast<V>(bit_cast<M>(x) & bit_cast<M>(~bit_cast<M>(constant<V>(-0.0))));
  else
    return x < 0 ? -x : x;
}
template <class V> inline V copysign(V x, V sign) {
  using M = mask_t<V>;
  M minus = bit_cast<M>(constant<V>(-0.0));
  return bit_cast<V>((bit_cast<M>(x) & ~minus) | (bit_cast<M>(sign) & minus));
}
template <class V> inline mask_t<V> signbit(V x) { return bit_cast<mask_t<V>>(x) < 0; }
template <class V> inline mask_t<V> isnan(V x) { return x != x; }
template <class V> inline mask_t<V> isinf(V x) { return abs(x) == Ieee<lane_t<V>>::infinity; }
template <class V> inline mask_t<V> isfinite(V x) { return abs(x) < Ieee<lane_t<V>>::infinity; }

// One instruction each on most machines; exact, or correctly rounded for sqrt.
inline Vec<double> sqrt(Vec<double> x) {
  return each(x, [](double a) { return __builtin_sqrt(a); });
}
inline Vec<float> floor(Vec<float> x) {
  return each(x, [](float a) { return __builtin_floorf(a); });
}
inline Vec<double> floor(Vec<double> x) {
  return each(x, [](double a) { return __builtin_floor(a); });
}
inline Vec<float> ceil(Vec<float> x) {
  return each(x, [](float a) { return __builtin_ceilf(a); });
}
inline Vec<double> ceil(Vec<double> x) {
  return each(x, [](double a) { return __builtin_ceil(a); });
}
inline Vec<float> trunc(Vec<float> x) {
  return each(x, [](float a) { return __builtin_truncf(a); });
}
inline Vec<double> trunc(Vec<double> x) {
  return each(x, [](double a) { return __builtin_trunc(a); });
}
inline Vec<float> rint(Vec<float> x) {
  return each(x, [](float a) { return __builtin_rintf(a); });
}  // halves to even
inline Vec<double> rint(Vec<double> x) {
  return each(x, [](double a) { return __builtin_rint(a); });
}
inline Vec<double> rsqrt(Vec<double> x) { return 1 / sqrt(x); }
inline Vec<double> fmod(Vec<double> x, Vec<double> y) {
  return call_each(x, y, [](double a, double b) { return __builtin_fmod(a, b); });
}

// x - y trunc(x / y) is exact in double, and so is its quotient's whole part, while that stays below 2^28.
inline Vec<float> fmod(Vec<float> x, Vec<float> y) {
  Vec<int64_t> beyond = {};
  Vec<float> r = through_double(
      [&](Vec<double> a, Vec<double> b) {
        Vec<double> q = trunc(a / b);
        beyond |= ~(abs(q) < 0x1p28) | isinf(b);
        return a - q * b;
      },
      x, y);
  if (any(beyond)) return call_each(x, y, [](float a, float b) { return __builtin_fmodf(a, b); });
  return copysign(r, x);
}

// x = k ln 2 + r with whole k and |r| <= ln 2 / 2; returns exp(r) - 1 = r + r^2 Q(r).
template <class V> inline V expm1_of_reduced(V r) {
  V q;
  if constexpr (sizeof(lane_t<V>) == 4)
    q = horner(r, 0x1p-1, 0x1.555556p-3, 0x1.5554aep-5, 0x1.11108ep-7, 0x1.6d74ecp-10, 0x1.a1a25ap-13);
  else
    q = horner(r, 0x1p-1, 0x1.5555555555555p-3, 0x1.5555555555559p-5, 0x1.1111111111114p-7, 0x1.6c16c16c14d67p-10,
               0x1.a01a01a017e6dp-13, 0x1.a01a01adcbd4fp-16, 0x1.71de3a6137043p-19, 0x1.27e4cbfcca27cp-22,
               0x1.ae6412e9cea52p-26, 0x1.1f8b7824c3d22p-29, 0x1.61e4a19591e49p-33);
  return q * (r * r) + r;
}

// e^x - 1 = 2 (2^(k-1) expm1(r) + (2^(k-1) - 1/2)), whose parts neither cancel nor overflow early.
template <class C> inline Vec<C> expm1_vec(Vec<C> x) {
  using V = Vec<C>;
  constexpr bool single = sizeof(C) == 4;
  const C high = single ? 89 : 710, low = single ? -20 : -40, magic = Ieee<C>::magic;
  V clamped = max(splat(low), min(splat(high), x));
  V k = (clamped * C(0x1.71547652b82fep+0) + magic) - magic;
  V r = clamped - k * C(single ? 0x1.62e4p-1 : 0x1.62e42fee00000p-1);
  r = r - k * C(single ? 0x1.7f7d1cp-20 : 0x1.a39ef35793c76p-33);
  V power = scale(splat(C(0.5)), k);
  return copysign(2 * (power * expm1_of_reduced(r) + (power - C(0.5))), x);
}
inline Vec<float> expm1(Vec<float> x) { return expm1_vec<float>(x); }
inline Vec<double> expm1(Vec<double> x) { return expm1_vec<double>(x); }

inline Vec<double> exp2(Vec<double> x) {
  Vec<double> clamped = max(splat(-1076.0), min(splat(1025.0), x));
  Vec<double> k = (clamped + Ieee<double>::magic) - Ieee<double>::magic;
  return scale(expm1_of_reduced((clamped - k) * 0x1.62e42fefa39efp-1) + 1.0, k);
}
inline Vec<float> exp2(Vec<float> x) {
  Vec<float> clamped = max(splat(-151.0f), min(splat(129.0f), x));
  Vec<float> k = (clamped + Ieee<float>::magic) - Ieee<float>::magic;
  return scale(expm1_of_reduced((clamped - k) * 0x1.62e43p-1f) + 1.0f, k);
}

// log(1 + f) + tail = f - (f^2/2 - rest - tail), whose rest is f^3 P(f) for float and s (f^2/2 + R) for double, s = f /
// (2 + f), R = 2 atanh(s)/s - 2.
inline Vec<float> log_of_fraction(Vec<float> f, Vec<float> tail) {
  Vec<float> square = f * f;
  tail = square * f *
             horner(f, 0x1.5555a4p-2, -0x1.00004ap-2, 0x1.99699ep-3, -0x1.54ed96p-3, 0x1.28807ap-3, -0x1.0d98f0p-3,
                    0x1.acf4a8p-4, -0x1.71e32cp-5) +
         tail;
  return f - (0.5f * square - tail);
}
inline Vec<double> log_of_fraction(Vec<double> f, Vec<double> tail) {
  Vec<double> s = quotient(f, f + 2), z = s * s, half_square = 0.5 * f * f;
  Vec<double> r = z * horner(z, 0x1.5555555555555p-1, 0x1.9999999999f17p-2, 0x1.24924923de6e1p-2, 0x1.c71c72df58fbfp-3,
                             0x1.745cac43836bap-3, 0x1.3b29d050874f1p-3, 0x1.0e8c54d4618dbp-3, 0x1.169c3f871dcbbp-3);
  return f - (half_square - (s * (half_square + r) + tail));
}
// ln 2 in two parts, of which k times the first is exact.
template <class C> constexpr double kLn2Head = sizeof(C) == 4 ? 0x1.62e4p-1 : 0x1.62e42fee00000p-1;
template <class C> constexpr double kLn2Tail = sizeof(C) == 4 ? 0x1.7f7d1cp-20 : 0x1.a39ef35793c76p-33;

template <class C> inline Vec<C> log_vec(Vec<C> x) {
  Vec<C> k, m;
  split_exponent(x, k, m);
  return k * C(kLn2Head<C>) + log_of_fraction(m - 1, k * C(kLn2Tail<C>));
}
inline Vec<float> log(Vec<float> x) { return log_vec<float>(x); }
inline Vec<double> log(Vec<double> x) { return log_vec<double>(x); }

// log1p(x) = log(u) + c/u, where u = 1 + x rounded and c what the rounding lost.
template <class C> inline Vec<C> log1p_vec(Vec<C> x) {
  using V = Vec<C>;
  V u = x + 1, k, m;
  V lost = abs(x) < 1 ? x - (u - 1) : 1 - (u - x);
  split_exponent(u, k, m);
  V tail = k * C(kLn2Tail<C>) + quotient(lost, max(splat(C(1e-30)), u));
  V y = k * C(kLn2Head<C>) + log_of_fraction(m - 1, tail);
  return (x < Ieee<C>::infinity) & (x != 0) ? y : x;
}
inline Vec<float> log1p(Vec<float> x) { return log1p_vec<float>(x); }
inline Vec<double> log1p(Vec<double> x) { return log1p_vec<double>(x); }

// k apart, so that powers of two are exact.
template <class C> inline Vec<C> log2_vec(Vec<C> x) {
  Vec<C> k, m;
  split_exponent(x, k, m);
  return k + log_of_fraction(m - 1, Vec<C>{}) * C(0x1.71547652b82fep+0);
}
inline Vec<float> log2(Vec<float> x) { return log2_vec<float>(x); }
inline Vec<double> log2(Vec<double> x) { return log2_vec<double>(x); }
// log10 2 in two parts, of which k times the first is exact.
template <class C> inline Vec<C> log10_vec(Vec<C> x) {
  constexpr bool single = sizeof(C) == 4;
  Vec<C> k, m;
  split_exponent(x, k, m);
  Vec<C> tail = k * C(single ? 0x1.3509f79ff0000p-18 : 0x1.f79fef311f12bp-34);
  tail = log_of_fraction(m - 1, Vec<C>{}) * C(0x1.bcb7b1526e50ep-2) + tail;
  return k * C(single ? 0x1.344p-2 : 0x1.34413508p-2) + tail;
}
inline Vec<float> log10(Vec<float> x) { return log10_vec<float>(x); }
inline Vec<double> log10(Vec<double> x) { return log10_vec<double>(x); }

// tanh a = t / (t + 2), t = e^(2a) - 1
inline Vec<double> tanh(Vec<double> x) {
  Vec<double> a = min(splat(22.0), abs(x)), t = expm1(a + a);
  return copysign(t / (t + 2), x);
}
// x P(x^2) / Q(x^2), which exceeds one by several ulps where tanh rounds to one.
inline Vec<float> tanh(Vec<float> x) {
  Vec<float> c = min(splat(9.2f), max(splat(-9.2f), x)), z = c * c;
  Vec<float> p = horner(z, 1, 0x1.120502p-3, 0x1.c9fdcep-9, 0x1.595f88p-16, 0x1.c9bbbep-27);
  Vec<float> q = horner(z, 1, 0x1.de57cap-2, 0x1.a7e1d4p-6, 0x1.5848a0p-12, 0x1.a0c948p-21);
  return min(splat(1.0f), max(splat(-1.0f), quotient(c * p, q)));
}

// 1 / (1 + e^-x), by e^-|x| so that small results keep their precision.
template <class V> inline V sigmoid(V x) {
  V e = exp(-abs(x));
  return quotient(x < 0 ? e : constant<V>(1), e + 1);
}
// log(1 + e^x) = max(x, 0) + log1p(e^-|x|)
template <class V> inline V log1p_exp(V x) { return (x < 0 ? V{} : x) + log1p(exp(-abs(x))); }

// erfc(a) for 0 <= a = exp(-a^2) S(t) / (1 + 2a), t = (a - 3.5) / (a + 3.5) (after Shepherd and Laframboise, Math.
// Comp. 36, 1981). a^2 is split, since its rounding error alone would cost hundreds of ulps.
inline Vec<double> erfc_positive(Vec<double> a) {
  using I = Vec<int64_t>;
  a = min(splat(28.0), a);
  Vec<double> t = (a - 3.5) / (a + 3.5);
  Vec<double> s = horner(t, 0x1.3e0a99a0ee914p+0, -0x1.1ebd220ea5949p-3, -0x1.59e2c284b1796p-7, 0x1.8f702ec6b3dfbp-4,
                         -0x1.d76830c350f26p-4, 0x1.686106045b09fp-4, -0x1.8ff5ef77244a3p-5, 0x1.38ec66753b882p-6,
                         -0x1.143c4c8e44604p-8, -0x1.3cf370ee48491p-12, 0x1.27e66086a9f9ep-11, -0x1.fda88ec89d34bp-14,
                         -0x1.66e13b9c974bfp-15, 0x1.97043ccddbdf3p-16, 0x1.3862f838c1090p-19, -0x1.ffdad557b01c7p-19,
                         -0x1.738aea566afdep-25, 0x1.42ac391e49189p-21, -0x1.23abfaf3825b4p-27, -0x1.9c9e3eed998e0p-24,
                         0x1.509ffd31317eep-31, 0x1.cf793ae47473ap-27, 0x1.34d16e6479da4p-34, -0x1.39c70361d079bp-30);
  Vec<double> h = bit_cast<Vec<double>>(bit_cast<I>(a) & ~int64_t(0x7ffffff));
  Vec<double> d = (a - h) * (a + h);  // at most 2.4e-5
  return exp(-(h * h)) * (1 - d * (1 - d * (0.5 - d * (1.0 / 6)))) * s / (1 + 2 * a);
}
inline Vec<double> erfc(Vec<double> x) {
  Vec<double> y = erfc_positive(abs(x));
  return x < 0 ? 2 - y : y;
}
// float: exp(-a^2) S(t), t = (a - 3) / (a + 3).
inline Vec<float> erfc(Vec<float> x) {
  Vec<float> a = min(splat(10.2f), abs(x)), t = quotient(a - 3, a + 3);
  Vec<float> s = horner(t, 0x1.6e9828p-3, -0x1.4e102cp-2, 0x1.f6ff14p-3, -0x1.336fd6p-3, 0x1.258c3ap-4, -0x1.8fb0acp-6,
                        0x1.17761cp-8, 0x1.77d874p-11, -0x1.33dc42p-11, 0x1.0031d8p-15, 0x1.c696d2p-15);
  Vec<float> high, low;  // of a^2
  if constexpr (kFusesMultiplyAdd) {
    high = a * a;
    low = each(a, high, [](float c, float square) { return __builtin_fmaf(c, c, -square); });
  } else {
    Vec<float> h = bit_cast<Vec<float>>(bit_cast<Vec<int32_t>>(a) & ~0xfff);
    high = h * h;
    low = (a - h) * (a + h);  // at most 0.05
  }
  auto [p, k] = exp_parts(-high);
  p = p * (kFusesMultiplyAdd ? 1 - low : horner(-low, 1, 1, 0.5, 1.0 / 6, 1.0 / 24));
  Vec<float> y = scale(p * s, k);
  return x != x ? x : x < 0 ? 2 - y : y;
}
inline Vec<double> erf(Vec<double> x) {
  Vec<double> z = x * x;
  Vec<double> small =
      x * horner(z, 0x1.20dd750429b6dp+0, -0x1.812746b0379e7p-2, 0x1.ce2f21a042bdep-4, -0x1.b82ce312889c2p-6,
                 0x1.565bcd0e65195p-8, -0x1.c02db3fef01d6p-11, 0x1.f9a326c2d9822p-14, -0x1.f4d2562a1b010p-17,
                 0x1.b9e6518e61290p-20, -0x1.5f6d9cc1c31e4p-23, 0x1.fc43f063b4a42p-27, -0x1.4e635b40a397fp-30,
                 0x1.7f171f011fd79p-34, -0x1.29e14842f8767p-38);
  return abs(x) < 1.0 ? small : copysign(1 - erfc_positive(abs(x)), x);
}
// x P(x^2) / Q(x^2), as tanh.
inline Vec<float> erf(Vec<float> x) {
  Vec<float> c = min(splat(4.1f), max(splat(-4.1f), x)), z = c * c;
  Vec<float> p = horner(z, 0x1.20dd74p+0, 0x1.87e4eap-3, 0x1.b0f032p-5, 0x1.f20496p-9, 0x1.2a482cp-12, 0x1.100fcep-19);
  Vec<float> q = horner(z, 1, 0x1.017e4p-1, 0x1.d4e702p-4, 0x1.ecc366p-7, 0x1.325668p-10, 0x1.3d5aacp-15);
  return min(splat(1.0f), max(splat(-1.0f), quotient(c * p, q)));
}

// Halley's iteration on erf(y) = x from Winitzki's closed form (2e-3 relative); the complement beyond 1/2, where 1 -
// |x| is exact.
inline Vec<double> erfinv(Vec<double> x) {
  Vec<double> a = abs(x), l = log1p(-a * a), b = l * 0.5 + 4.3307467508;  // 2 / (0.147 pi)
  Vec<double> y = sqrt(-l * (1 / 0.147) / (b + sqrt(b * b - l * (1 / 0.147))));
  for (int i = 0; i < 3; ++i) {
    Vec<double> error = a < 0.5 ? erf(y) - a : (1 - a) - erfc_positive(y);
    Vec<double> u = error * 0x1.c5bf891b4ef6bp-1 * exp(y * y);
    y = y - u / (1 + y * u);
  }
  y = a == 1.0 ? splat(Ieee<double>::infinity) : y;
  y = a <= 1.0 ? y : splat(Ieee<double>::nan);
  return a < 1e-9 ? x * 0x1.c5bf891b4ef6bp-1 : copysign(y, x);
}
// x times a polynomial in w = -ln(1 - x^2), or in its root near the ends (the form is Giles's, "Approximating the
// erfinv function", GPU Computing Gems, 2011).
inline Vec<float> erfinv(Vec<float> x) {
  Vec<float> a = abs(x), w = -log((1 - a) * (1 + a));
  Vec<float> y = horner(w - 2.5f, 0x1.805c5ep+0, 0x1.f91ec6p-3, -0x1.11ca4ep-8, -0x1.48a6e4p-10, 0x1.ca7128p-13,
                        -0x1.271020p-18, -0x1.d9a2b0p-19, 0x1.7112fap-22, 0x1.ea3956p-26);
  if (Vec<int32_t> near = w >= 5; any(near)) {
    Vec<float> ends = horner(sqrt(w) - 3, 0x1.6a9f00p+1, 0x1.006decp+0, 0x1.34ac52p-7, -0x1.f6a65cp-8, 0x1.800c6cp-8,
                             -0x1.cc3c98p-9, 0x1.1ba000p-10, -0x1.b41b7ep-15);
    y = near ? ends : y;
  }
  y = y * x;
  y = a == 1.0f ? copysign(splat(Ieee<float>::infinity), x) : y;
  return a <= 1.0f ? y : splat(Ieee<float>::nan);
}

// x = q pi/2 + r: pi/2 in four parts whose products with q < 2^20 are exact.
inline void reduce_angle(Vec<double> x, Vec<int64_t>& q, Vec<double>& r) {
  const Vec<double> magic = splat(Ieee<double>::magic);
  Vec<double> shifted = x * 0x1.45f306dc9c883p-1 + magic, k = shifted - magic;
  q = bit_cast<Vec<int64_t>>(shifted) - bit_cast<Vec<int64_t>>(magic);
  r = x - k * 0x1.921fb544p+0;
  r = r - k * 0x1.0b4611a6p-34;
  r = r - k * 0x1.3198a2ep-69;
  r = r - k * 0x1.b839a252049c1p-104;
}
inline Vec<double> sin_of_reduced(Vec<double> r) {
  Vec<double> z = r * r;
  return z * r *
             horner(z, -0x1.5555555555555p-3, 0x1.1111111111110p-7, -0x1.a01a01a019937p-13, 0x1.71de3a5460767p-19,
                    -0x1.ae6454128b0e0p-26, 0x1.61217edaa064dp-33, -0x1.ab17b5e83a0dep-41) +
         r;
}
inline Vec<double> cos_of_reduced(Vec<double> r) {
  Vec<double> z = r * r;
  Vec<double> tail =
      z * z *
      horner(z, 0x1.5555555555555p-5, -0x1.6c16c16c16c16p-10, 0x1.a01a01a019d0ap-16, -0x1.27e4fb7712c76p-22,
             0x1.1eed8deb7c148p-29, -0x1.9394b9deffc70p-37, 0x1.ab783ef05c1e7p-45);
  return 1 - (z * 0.5 - tail);
}
inline bool angle_is_large(Vec<double> x) { return any(!(abs(x) < 1.5e6)); }
// float: pi/2 in three parts where products are not rounded, so that the first difference is exact; in double
// elsewhere.
inline void reduce_angle(Vec<float> x, Vec<int32_t>& q, Vec<float>& r) {
  if constexpr (kFusesMultiplyAdd) {
    const Vec<float> magic = splat(Ieee<float>::magic);
    Vec<float> shifted = x * 0x1.45f306p-1f + magic, k = shifted - magic;
    q = bit_cast<Vec<int32_t>>(shifted) - bit_cast<Vec<int32_t>>(magic);
    r = x - k * 0x1.921fb6p+0f;
    r = r + k * 0x1.777a5cp-25f;
    r = r + k * 0x1.ee59dap-50f;
    return;
  }
  using Half = typename Packed<float, kLanes<double>>::type;
  using HalfInt = typename Packed<int32_t, kLanes<double>>::type;
  Half a[2];
  HalfInt b[2];
  memcpy(a, &x, sizeof x);
  for (int i = 0; i < 2; ++i) {
    const Vec<double> magic = splat(Ieee<double>::magic);
    Vec<double> d = __builtin_convertvector(a[i], Vec<double>);
    Vec<double> shifted = d * 0x1.45f306dc9c883p-1 + magic, k = shifted - magic;
    b[i] = __builtin_convertvector(bit_cast<Vec<int64_t>>(shifted), HalfInt);  // its low half holds k
    a[i] = __builtin_convertvector((d - k * 0x1.921fb544p+0) - k * 0x1.0b4611a626331p-34, Half);
  }
  q = join<Vec<int32_t>>(b[0], b[1]);
  r = join<Vec<float>>(a[0], a[1]);
}
inline Vec<float> sin_of_reduced(Vec<float> r) {
  Vec<float> z = r * r;
  return z * r * horner(z, -0x1.555552p-3, 0x1.110c26p-7, -0x1.9ac79ep-13) + r;
}
inline Vec<float> cos_of_reduced(Vec<float> r) {
  Vec<float> z = r * r;
  return 1 - (z * 0.5f - z * z * horner(z, 0x1.555554p-5, -0x1.6c12d0p-10, 0x1.9bd6dep-16));
}
inline bool angle_is_large(Vec<float> x) { return any(!(abs(x) < 1e5f)); }

template <class C> inline Vec<C> sin_vec(Vec<C> x) {
  Mask<C> q;
  Vec<C> r;
  reduce_angle(x, q, r);
  Vec<C> y = (q & 1) != 0 ? cos_of_reduced(r) : sin_of_reduced(r);
  y = (q & 2) != 0 ? -y : y;
  return x == 0 ? x : y;
}
template <class C> inline Vec<C> cos_vec(Vec<C> x) {
  Mask<C> q;
  Vec<C> r;
  reduce_angle(x, q, r);
  Vec<C> y = (q & 1) != 0 ? sin_of_reduced(r) : cos_of_reduced(r);
  return ((q + 1) & 2) != 0 ? -y : y;
}
template <class C> inline Vec<C> tan_vec(Vec<C> x) {
  Mask<C> q;
  Vec<C> r;
  reduce_angle(x, q, r);
  Vec<C> s = sin_of_reduced(r), c = cos_of_reduced(r);
  Vec<C> y = ((q & 1) != 0 ? -c : s) / ((q & 1) != 0 ? s : c);
  return x == 0 ? x : y;
}
inline Vec<float> sin(Vec<float> x) {
  return angle_is_large(x) ? call_each(x, [](float a) { return __builtin_sinf(a); }) : sin_vec<float>(x);
}
inline Vec<double> sin(Vec<double> x) {
  return angle_is_large(x) ? call_each(x, [](double a) { return __builtin_sin(a); }) : sin_vec<double>(x);
}
inline Vec<float> cos(Vec<float> x) {
  return angle_is_large(x) ? call_each(x, [](float a) { return __builtin_cosf(a); }) : cos_vec<float>(x);
}
inline Vec<double> cos(Vec<double> x) {
  return angle_is_large(x) ? call_each(x, [](double a) { return __builtin_cos(a); }) : cos_vec<double>(x);
}
inline Vec<float> tan(Vec<float> x) {
  return angle_is_large(x) ? call_each(x, [](float a) { return __builtin_tanf(a); }) : tan_vec<float>(x);
}
inline Vec<double> tan(Vec<double> x) {
  return angle_is_large(x) ? call_each(x, [](double a) { return __builtin_tan(a); }) : tan_vec<double>(x);
}

// pi as the nearest float or double and what that leaves.
template <class C> constexpr double kPiHead = sizeof(C) == 4 ? 0x1.921fb6p+1 : 0x1.921fb54442d18p+1;
template <class C> constexpr double kPiTail = sizeof(C) == 4 ? -0x1.777a5cp-24 : 0x1.1a62633145c07p-53;
// pi / divisor - a
template <class C> inline Vec<C> pi_minus(int divisor, Vec<C> a) {
  return C(kPiHead<C> / divisor) - (a - C(kPiTail<C> / divisor));
}

// atan(y / x) for x, y >= 0: the smaller over the larger, turned by pi/4 where that is nearer to zero, one division in
// all.
template <class C> inline Vec<C> atan_positive(Vec<C> y, Vec<C> x) {
  using V = Vec<C>;
  constexpr bool single = sizeof(C) == 4;
  constexpr C high = single ? 0x1p120 : 0x1p1000, lower = single ? 0x1p-60 : 0x1p-600;
  Mask<C> steep = y > x;
  V num = steep ? x : y, den = steep ? y : x;
  Mask<C> both_infinite = num == Ieee<C>::infinity, huge = den > high;
  num = both_infinite ? splat(C(1)) : huge ? num * lower : num;
  den = both_infinite ? splat(C(1)) : huge ? den * lower : den;
  den = den == 0 ? splat(C(1)) : den;
  Mask<C> turn = num > den * C(0.41421356237309503);
  V t = (turn ? num - den : num) / (turn ? num + den : den), z = t * t, p;
  if constexpr (single)
    p = horner(z, -0x1.55554ap-2, 0x1.9991aep-3, -0x1.23b6c4p-3, 0x1.b202b8p-4, -0x1.f2591ap-5);
  else
    p = horner(z, -0x1.5555555555555p-2, 0x1.9999999999957p-3, -0x1.249249248dba5p-3, 0x1.c71c71c32eb35p-4,
               -0x1.745d16658efa3p-4, 0x1.3b1393a7bdf90p-4, -0x1.110e959cbdf73p-4, 0x1.e19b3a07c1bffp-5,
               -0x1.ac8295f475034p-5, 0x1.75007c1c2b97bp-5, -0x1.1b887b53d6270p-5, 0x1.0b8678bba015ap-6);
  V a = z * t * p + t;
  a = turn ? (a + C(kPiTail<C> / 4)) + C(kPiHead<C> / 4) : a;
  return steep ? pi_minus<C>(2, a) : a;
}
template <class C> inline Vec<C> atan2_vec(Vec<C> y, Vec<C> x) {
  Vec<C> a = atan_positive<C>(abs(y), abs(x));
  a = copysign(signbit(x) ? pi_minus<C>(1, a) : a, y);
  return x != x ? x : y != y ? y : a;
}
inline Vec<float> atan(Vec<float> x) {
  Vec<float> a = abs(x), t = a > 1 ? quotient(splat(-1.0f), min(splat(1e30f), a)) : a, z = t * t;
  Vec<float> y = t * z *
                     horner(z, -0x1.55553ep-2, 0x1.9991e4p-3, -0x1.242086p-3, 0x1.c08c4ep-4, -0x1.58091cp-4,
                            0x1.da2a14p-5, -0x1.fd7e48p-6, 0x1.642558p-7, -0x1.d35bd4p-10) +
                 t;
  y = a > 1 ? (y + float(kPiTail<float> / 2)) + float(kPiHead<float> / 2) : y;
  return copysign(y, x);
}
inline Vec<double> atan(Vec<double> x) {
  Vec<double> y = copysign(atan_positive<double>(abs(x), splat(1.0)), x);
  return x == x ? y : x;
}
inline Vec<float> atan2(Vec<float> y, Vec<float> x) { return atan2_vec<float>(y, x); }
inline Vec<double> atan2(Vec<double> y, Vec<double> x) { return atan2_vec<double>(y, x); }
inline Vec<double> asin(Vec<double> x) {
  Vec<double> a = abs(x);
  Vec<double> y = copysign(atan_positive<double>(a, sqrt((1 - a) * (1 + a))), x);
  return a <= 1.0 ? y : splat(Ieee<double>::nan);
}
inline Vec<double> acos(Vec<double> x) {
  Vec<double> a = abs(x);
  Vec<double> y = atan_positive<double>(sqrt((1 - a) * (1 + a)), a);
  y = x < 0 ? pi_minus<double>(1, y) : y;
  return a <= 1.0 ? y : splat(Ieee<double>::nan);
}
// float, a <= 1/2: asin a = a + a z P(z), z = a^2; beyond: asin a = pi/2 - 2 asin sqrt((1 - a) / 2). Gives the first,
// or that last arcsine.
inline Vec<float> asin_of_reduced(Vec<float> a) {
  Vec<float> z = a > 0.5f ? (1 - a) * 0.5f : a * a, s = a > 0.5f ? sqrt(z) : a;
  return s * z * horner(z, 0x1.55554cp-3, 0x1.33388ep-4, 0x1.6cac3cp-5, 0x1.04a65cp-5, 0x1.d7f1e4p-7, 0x1.33bbe8p-5) +
         s;
}
inline Vec<float> asin(Vec<float> x) {
  Vec<float> a = abs(x), y = asin_of_reduced(a);
  y = copysign(a > 0.5f ? pi_minus<float>(2, y + y) : y, x);
  return a <= 1.0f ? y : splat(Ieee<float>::nan);
}
inline Vec<float> acos(Vec<float> x) {
  Vec<float> a = abs(x), y = asin_of_reduced(a), near = pi_minus<float>(2, copysign(y, x));
  y = a > 0.5f ? (x < 0 ? pi_minus<float>(1, y + y) : y + y) : near;
  return a <= 1.0f ? y : splat(Ieee<float>::nan);
}

// sinh a = (t + t / (t + 1)) / 2, t = e^a - 1; where e^a would overflow, e^(a/2) e^(a/2) / 2.
template <class C> inline Vec<C> sinh_vec(Vec<C> x) {
  Vec<C> a = abs(x), t = expm1(a), root = exp(a * C(0.5));
  Vec<C> y = a > C(40) ? root * C(0.5) * root : C(0.5) * (t + quotient(t, t + 1));
  return copysign(x == x ? y : x, x);
}
template <class C> inline Vec<C> cosh_vec(Vec<C> x) {
  Vec<C> a = abs(x), e = exp(a), root = exp(a * C(0.5));
  return a > C(40) ? root * C(0.5) * root : C(0.5) * (e + 1 / e);
}
template <class C> inline Vec<C> atanh_vec(Vec<C> x) {
  Vec<C> a = abs(x);
  return copysign(C(0.5) * log1p(2 * a / (1 - a)), x);
}
inline Vec<float> sinh(Vec<float> x) { return sinh_vec<float>(x); }
inline Vec<double> sinh(Vec<double> x) { return sinh_vec<double>(x); }
inline Vec<float> cosh(Vec<float> x) { return cosh_vec<float>(x); }
inline Vec<double> cosh(Vec<double> x) { return cosh_vec<double>(x); }
inline Vec<float> atanh(Vec<float> x) { return atanh_vec<float>(x); }
inline Vec<double> atanh(Vec<double> x) { return atanh_vec<double>(x); }
inline Vec<double> asinh(Vec<double> x) {
  Vec<double> a = abs(x);
  Vec<double> small = log1p(a + a * a / (1 + sqrt(a * a + 1)));
  return copysign(a > 0x1p28 ? log(a) + 0x1.62e42fefa39efp-1 : small, x);
}
inline Vec<double> acosh(Vec<double> x) {
  Vec<double> t = x - 1, small = log1p(t + sqrt(t * (t + 2)));
  Vec<double> y = x > 0x1p28 ? log(x) + 0x1.62e42fefa39efp-1 : small;
  return x < 1.0 ? splat(Ieee<double>::nan) : y;
}
inline Vec<float> asinh(Vec<float> x) {
  return through_double([](Vec<double> a) { return asinh(a); }, x);
}
inline Vec<float> acosh(Vec<float> x) {
  return through_double([](Vec<double> a) { return acosh(a); }, x);
}

// A power needs its logarithm in more than working precision: libm has it for double, and double is that for float.
inline Vec<double> pow(Vec<double> x, Vec<double> y) {
  return call_each(x, y, [](double a, double b) { return __builtin_pow(a, b); });
}
// |x| = 2^k m, t = y (k + log2 m), 2^t: each double step to 2^-34.
inline Vec<float> pow(Vec<float> x, Vec<float> y) {
  const Vec<float> one = splat(1.0f), a = abs(x);
  Vec<float> k, m;
  split_exponent(a, k, m);
  Vec<float> r = through_double(
      [](Vec<double> k, Vec<double> m, Vec<double> y) {
        using V = Vec<double>;
        V s = quotient(m - 1, m + 1), z = s * s;  // log2 m = 2 atanh(s) / ln 2
        V log2 = s * horner(z, 0x1.71547652b82fep+1, 0x1.ec709dc91a8e2p-1, 0x1.2776bd8ae6ed6p-1, 0x1.a61e125da45b2p-2,
                            0x1.47002209f92d9p-2, 0x1.29571b1545688p-2);
        V t = max(splat(-200.0), min(splat(200.0), y * (k + log2)));
        V whole = (t + Ieee<double>::magic) - Ieee<double>::magic;
        return scale(horner(t - whole, 1, 0x1.62e42ff0e1920p-1, 0x1.ebfbe077872b2p-3, 0x1.c6b08ac06bbe6p-5,
                            0x1.3b29f39d49993p-7, 0x1.5d8a85fede722p-10, 0x1.445c84066af0ap-13, 0x1.fde5fdcaa9765p-17),
                     whole);
      },
      k, m, y);
  const Vec<int32_t> whole = trunc(y) == y, odd = whole & (trunc(y * 0.5f) != y * 0.5f);
  r = (x < 0) & ~whole & ~isinf(x) ? splat(Ieee<float>::nan) : r;
  r = odd ? copysign(r, x) : r;
  return (y == 0) | (x == 1) | ((a == 1) & isinf(y)) ? one : r;
}
inline Vec<double> hypot(Vec<double> x, Vec<double> y) {
  return call_each(x, y, [](double a, double b) { return __builtin_hypot(a, b); });
}
inline Vec<float> hypot(Vec<float> x, Vec<float> y) {
  Vec<float> r = through_double([](Vec<double> a, Vec<double> b) { return root(a * a + b * b + 0x1p-400); }, x, y);
  return (isinf(x) | isinf(y)) != 0 ? splat(Ieee<float>::infinity) : r;
}

inline Vec<double> lgamma(Vec<double> x) {
  return call_each(x, [](double a) {
    int sign;
    return lgamma_r(a, &sign);  // lgamma itself writes a global
  });
}

// The n-th derivative of digamma, n >= 1: psi_n(x) = (-1)^(n+1) n! sum_k 1 / (x + k)^(n+1), summed up to x + k >= 10 +
// n and from there by Euler and Maclaurin's formula.
inline double polygamma(int n, double x) {
  if (x <= 0 && x == __builtin_floor(x)) return n % 2 ? Ieee<double>::infinity : -Ieee<double>::infinity;
  // B_2j / (2j)!
  static constexpr double b[] = {1.0 / 12,
                                 -1.0 / 720,
                                 1.0 / 30240,
                                 -1.0 / 1209600,
                                 1.0 / 47900160,
                                 -691.0 / 1307674368e3,
                                 1.0 / 74724249600.0,
                                 -3617.0 / 10670622842880e3};
  int s = n + 1;
  double sum = 0;
  const auto inverse_power = [s](double a) {
    double p = a;
    for (int k = 1; k < s; ++k) p *= a;
    return 1 / p;
  };
  for (; x < 10 + n; x += 1) sum += inverse_power(x);
  double power = inverse_power(x);  // the tail is x^(1-s) / (s-1) + x^-s / 2 + sum_j b_j s (s+1) ... x^(1-s-2j)
  sum += power * x / (s - 1) + power * 0.5;
  double term = power * s / x;
  for (int j = 0; j < 8; ++j) {
    sum += b[j] * term;
    term *= (s + 2 * j + 1) * double(s + 2 * j + 2) / (x * x);
  }
  for (int k = 2; k <= n; ++k) sum *= k;
  return n % 2 ? sum : -sum;
}
// The functions of gamma are raised to x >= 8 at once: with u = x (x + 7) the factors x ... x + 7 pair up to u, u + 6,
// u + 10 and u + 12. From there Stirling's series of 1 / x^2; below zero a reflection, by way of the distance to the
// nearest whole number, which is exact.

// psi(x) = ln x - 1/2x - sum_j B_2j / (2j x^2j);   psi(1 - x) - psi(x) = pi / tan(pi x)
__attribute__((noinline)) inline Vec<double> digamma(Vec<double> x) {
  using V = Vec<double>;
  const Vec<int64_t> reflected = x < 0;
  const V apart = x - rint(x), given = x;
  V y = {};
  if (any(reflected)) y = reflected ? -M_PI / tan(apart * M_PI) : y;
  x = reflected ? 1 - x : x;
  const V u = x * x + 7 * x, p = u * (u + 6), q = (u + 10) * (u + 12);
  const V sum = (2 * x + 7) * ((u + 3) * q + (u + 11) * p) * 2 / (p * q);
  y = x < 8 ? y - sum : y;
  x = x < 8 ? x + 8 : x;
  const V r = 1 / x, z = r * r;
  y = y + log(x) - 0.5 * r -
      z * horner(z, 1.0 / 12, -1.0 / 120, 1.0 / 252, -1.0 / 240, 1.0 / 132, -691.0 / 32760, 1.0 / 12, -3617.0 / 8160);
  y = (reflected & (apart == 0)) | (given == -Ieee<double>::infinity) ? splat(Ieee<double>::nan) : y;
  return given == 0 ? copysign(splat(Ieee<double>::infinity), -given) : y;
}
// Its derivative 1/x + 1/2x^2 + sum_j B_2j / x^(2j+1);   psi'(x) + psi'(1 - x) = pi^2 / sin(pi x)^2
__attribute__((noinline)) inline Vec<double> trigamma(Vec<double> x) {
  using V = Vec<double>;
  const Vec<int64_t> reflected = x < 0;
  const V apart = x - rint(x);
  x = reflected ? 1 - x : x;
  const V u = x * x + 7 * x, a = u * u, b = (u + 6) * (u + 6), c = (u + 10) * (u + 10), d = (u + 12) * (u + 12);
  const V first = (2 * u + 49) * b + (2 * u + 37) * a, second = (2 * u + 29) * d + (2 * u + 25) * c;
  const V sum = (first * (c * d) + second * (a * b)) / (a * b * (c * d));
  V y = x < 8 ? sum : V{};
  x = x < 8 ? x + 8 : x;
  const V r = 1 / x, z = r * r;
  y = y + r + 0.5 * z +
      z * r *
          horner(z, 1.0 / 6, -1.0 / 30, 1.0 / 42, -1.0 / 30, 5.0 / 66, -691.0 / 2730, 7.0 / 6, -3617.0 / 510,
                 43867.0 / 798, -174611.0 / 330);
  if (any(reflected)) {
    const V ratio = M_PI / sin(apart * M_PI);
    y = reflected ? ratio * ratio - y : y;
  }
  return y;
}
// ln |gamma(x)| = (x - 1/2) ln x - x + ln(2 pi)/2 + sum_j B_2j / (2j (2j - 1) x^(2j-1)) to 1e-14, which is enough for
// floats even beside its zeros;   gamma(x) gamma(1 - x) = pi / sin(pi x)
__attribute__((noinline)) inline Vec<double> lgamma_for_float(Vec<double> x) {
  using V = Vec<double>;
  const Vec<int64_t> reflected = x < 0;
  const V apart = abs(x - rint(x)), given = x;
  x = reflected ? 1 - x : x;
  const V u = x * x + 7 * x, product = u * (u + 6) * ((u + 10) * (u + 12));
  V y = x < 8 ? -log(product) : V{};
  x = x < 8 ? x + 8 : x;
  const V r = 1 / x;
  y = y + ((x - 0.5) * log(x) - x + 0.91893853320467274178) +
      r * horner(r * r, 1.0 / 12, -1.0 / 360, 1.0 / 1260, -1.0 / 1680, 1.0 / 1188, -691.0 / 360360, 1.0 / 156);
  if (any(reflected)) y = reflected ? log(M_PI / sin(apart * M_PI)) - y : y;
  y = (given == 1) | (given == 2) ? V{} : y;
  return ((given <= 0) & (apart == 0)) | isinf(given) ? splat(Ieee<double>::infinity) : y;
}
inline Vec<float> lgamma(Vec<float> x) {
  return through_double([](Vec<double> a) { return lgamma_for_float(a); }, x);
}
inline Vec<float> digamma(Vec<float> x) {
  return through_double([](Vec<double> a) { return digamma(a); }, x);
}
inline Vec<float> trigamma(Vec<float> x) {
  return through_double([](Vec<double> a) { return trigamma(a); }, x);
}

// Whole numbers: a lane must not be divided by zero, nor the most negative one by -1.
inline int64_t divided(int64_t a, int64_t b) { return b == -1 ? int64_t(0 - uint64_t(a)) : b == 0 ? 0 : a / b; }
inline int64_t rest(int64_t a, int64_t b) { return b == -1 || b == 0 ? 0 : a % b; }
// Up to 2^52 the quotient in double, truncated, is the whole one, and an eighth of the price.
inline Vec<int64_t> divided(Vec<int64_t> a, Vec<int64_t> b) {
  using V = Vec<int64_t>;
  if (any(((abs(a) | abs(b)) >> 52) != 0)) return call_each(a, b, [](int64_t x, int64_t y) { return divided(x, y); });
  V safe = b == 0 ? constant<V>(1) : b;
  return __builtin_convertvector(__builtin_convertvector(a, Vec<double>) / __builtin_convertvector(safe, Vec<double>),
                                 V);
}
inline Vec<int64_t> rest(Vec<int64_t> a, Vec<int64_t> b) { return a - divided(a, b) * b; }

}  // namespace
}  // namespace gg::GG_ISA
