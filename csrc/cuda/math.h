// The functions of cpu/math.h for single numbers V = float, double or int64_t: a vector of one lane.
//
// exp, log, sin and their like are CUDA's own (on simt, C's), found by their overloads for float and double; here
// stands what has no overload there, or another meaning. Their errors, 1 to 6 ulps, are listed in CUDA's programming
// guide.
#pragma once
#include "cuda/language.h"

namespace gg::cuda {

template <class V> using lane_t = V;
template <class V> using mask_t = bool;

// How a float or a double is laid out.
template <class C> struct Ieee;
template <> struct Ieee<float> {
  static constexpr int bits = 23, bias = 127;
  static constexpr float infinity = __builtin_inff(), nan = __builtin_nanf("");
};
template <> struct Ieee<double> {
  static constexpr int bits = 52, bias = 1023;
  static constexpr double infinity = __builtin_inf(), nan = __builtin_nan("");
};

template <class V> __device__ inline V constant(double c) { return V(c); }

// c0 + c1 x + c2 x^2 + ...
template <class V> __device__ inline V horner(V, double c0) { return V(c0); }
template <class V, class... Rest> __device__ inline V horner(V x, double c0, double c1, Rest... rest) {
  return horner(x, c1, rest...) * x + V(c0);
}

template <class V, class F> __device__ inline V call_each(V x, F f) { return f(x); }
template <class V, class F> __device__ inline V call_each(V x, V y, F f) { return f(x, y); }

template <class V> __device__ inline V max(V a, V b) { return a > b ? a : b; }  // b where either is NaN
template <class V> __device__ inline V min(V a, V b) { return a < b ? a : b; }

__device__ inline float abs(float x) { return fabsf(x); }
__device__ inline double abs(double x) { return fabs(x); }
__device__ inline int64_t abs(int64_t x) { return x < 0 ? -x : x; }
__device__ inline bool signbit(float x) { return __float_as_int(x) < 0; }
__device__ inline bool signbit(double x) { return __double_as_longlong(x) < 0; }
__device__ inline bool signbit(int64_t x) { return x < 0; }
template <class V> __device__ inline bool isnan(V x) { return x != x; }
template <class V> __device__ inline bool isinf(V x) { return abs(x) == Ieee<V>::infinity; }
template <class V> __device__ inline bool isfinite(V x) { return abs(x) < Ieee<V>::infinity; }

// a / b for b and 1 / b normal, within 2 ulp.
__device__ inline float quotient(float a, float b) { return __fdividef(a, b); }
__device__ inline double quotient(double a, double b) { return a / b; }

// 1 / (1 + e^-x), by e^-|x| so that small results keep their precision.
template <class V> __device__ inline V sigmoid(V x) {
  V e = exp(-abs(x));
  return quotient(x < 0 ? e : V(1), e + 1);
}
// log(1 + e^x) = max(x, 0) + log1p(e^-|x|)
template <class V> __device__ inline V log1p_exp(V x) { return (x < 0 ? V(0) : x) + log1p(exp(-abs(x))); }

// The n-th derivative of digamma, n >= 1: psi_n(x) = (-1)^(n+1) n! sum_k 1 / (x + k)^(n+1), summed up to x + k >= 10 +
// n and from there by Euler and Maclaurin's formula.
__device__ __noinline__ inline double polygamma(int n, double x) {
  if (x <= 0 && x == floor(x)) return n % 2 ? Ieee<double>::infinity : -Ieee<double>::infinity;
  // B_2j / (2j)!
  constexpr double b[] = {1.0 / 12,
                          -1.0 / 720,
                          1.0 / 30240,
                          -1.0 / 1209600,
                          1.0 / 47900160,
                          -691.0 / 1307674368e3,
                          1.0 / 74724249600.0,
                          -3617.0 / 10670622842880e3};
  const int s = n + 1;
  double sum = 0;
  for (; x < 10 + n; x += 1) sum += pow(x, double(-s));
  const double power = pow(x, double(-s));
  // x^-s; the tail is x^(1-s) / (s-1) + x^-s / 2 + sum_j b_j s (s+1) ... x^(1-s-2j)
  sum += power * x / (s - 1) + power * 0.5;
  double term = power * s / x;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    sum += b[j] * term;
    term *= (s + 2 * j + 1) * double(s + 2 * j + 2) / (x * x);
  }
  for (int k = 2; k <= n; ++k) sum *= k;
  return n % 2 ? sum : -sum;
}
// psi(x): reflected below 0, raised to x >= 10, then ln x - 1/2x - sum_j B_2j / (2j x^2j).
__device__ __noinline__ inline double digamma(double x) {
  constexpr double pi = 3.14159265358979323846;
  if (x == 0) return copysign(Ieee<double>::infinity, -x);
  double y = 0;
  if (x < 0) {
    const double whole = floor(x);
    if (x == whole) return Ieee<double>::nan;
    y = -pi / tan(pi * (x - whole));
    x = 1 - x;
  }
  for (; x < 10; x += 1) y -= 1 / x;
  if (x == 10) return y + 2.25175258906672110764;
  const double z = 1 / (x * x);
  const double series =
      z * (1.0 / 12 - z * (1.0 / 120 -
                           z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z * (1.0 / 12)))))));
  return y + log(x) - 0.5 / x - (x < 1e17 ? series : 0);
}
__device__ inline float digamma(float x) { return float(digamma(double(x))); }
template <class V> __device__ inline V trigamma(V x) { return V(polygamma(1, x)); }

// Whole numbers: none may be divided by zero, nor the most negative one by -1.
__device__ inline int64_t divided(int64_t a, int64_t b) {
  return b == -1 ? int64_t(0 - uint64_t(a)) : b == 0 ? 0 : a / b;
}
__device__ inline int64_t rest(int64_t a, int64_t b) { return b == -1 || b == 0 ? 0 : a % b; }

}  // namespace gg::cuda
