// The elementwise ops, one struct each: forward gives a vector of results; grad, where there is one, the gradient dx =
// dy f'(.) in one pass, from y where the Python class saves the output and from x where it saves the input.
//
// A struct serves any V that its kind in elementwise.h allows: vectors of float, double or int64 on the CPU, the
// numbers themselves in a CUDA kernel. Whoever includes this file first includes cpu/math.h or cuda/math.h, which have
// the same functions of either. p holds the parameters in the order of their names in elementwise.h.
#pragma once
#include "core/device_code.h"

namespace gg::GG_ISA {
namespace {

using Params = const double*;

template <class V> constexpr bool kReal = requires { Ieee<lane_t<V>>::bits; };
template <class V> GG_DEVICE inline V number(mask_t<V> mask) { return mask ? constant<V>(1) : V{}; }
constexpr double kPi = 3.14159265358979323846, kLn2 = 0.69314718055994530942, kLn10 = 2.30258509299404568402;
constexpr double kTwoOverRootPi = 1.12837916709551257390, kRootHalf = 0.70710678118654752440;

// Unary: signs and rounding
// --------------------------------------------------------------------------------------------

struct Neg {
  template <class V> GG_DEVICE static V forward(V x, Params) { return -x; }
};
struct Abs {
  template <class V> GG_DEVICE static V forward(V x, Params) { return abs(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return x > 0 ? dy : x < 0 ? -dy : dy * V{}; }
};
struct Sign {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    return x > 0 ? constant<V>(1) : x < 0 ? constant<V>(-1) : V{};
  }
};
struct Square {
  template <class V> GG_DEVICE static V forward(V x, Params) { return x * x; }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * (x + x); }
};
struct Cube {
  template <class V> GG_DEVICE static V forward(V x, Params) { return x * x * x; }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * (x * x * 3); }
};
struct Floor {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return floor(x);
    return x;
  }
};
struct Ceil {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return ceil(x);
    return x;
  }
};
struct Round {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return rint(x);
    return x;
  }
};
struct RoundDecimals {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    const V scale = constant<V>(p[0]);
    return p[1] != 0 ? rint(x / scale) * scale : rint(x * scale) / scale;
  }
};
struct Trunc {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return trunc(x);
    return x;
  }
};
struct Frac {
  template <class V> GG_DEVICE static V forward(V x, Params) { return x - trunc(x); }
};

// Unary: questions
// -----------------------------------------------------------------------------------------------------

struct IsNan {
  template <class V> GG_DEVICE static V forward(V x, Params) { return number<V>(x != x); }
};
struct IsInf {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return number<V>(isinf(x));
    return V{};
  }
};
struct IsFinite {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return number<V>(isfinite(x));
    return constant<V>(1);
  }
};
struct IsPosInf {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return number<V>(x == Ieee<lane_t<V>>::infinity);
    return V{};
  }
};
struct IsNegInf {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    if constexpr (kReal<V>) return number<V>(x == -Ieee<lane_t<V>>::infinity);
    return V{};
  }
};
struct Signbit {
  template <class V> GG_DEVICE static V forward(V x, Params) { return number<V>(signbit(x)); }
};
struct LogicalNot {
  template <class V> GG_DEVICE static V forward(V x, Params) { return number<V>(x == 0); }
};
struct BitwiseNot {
  template <class V> GG_DEVICE static V forward(V x, Params) { return ~x; }
};
struct NanToNum {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    if constexpr (kReal<V>) {
      constexpr lane_t<V> inf = Ieee<lane_t<V>>::infinity;
      x = x == inf ? constant<V>(p[1]) : x == -inf ? constant<V>(p[2]) : x;
      return x == x ? x : constant<V>(p[0]);
    }
    return x;
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return isfinite(x) ? dy : V{}; }
};

// Unary: exponentials, logarithms, roots
// -------------------------------------------------------------------------------

struct Exp {
  template <class V> GG_DEVICE static V forward(V x, Params) { return exp(x); }
};
struct Exp2 {
  template <class V> GG_DEVICE static V forward(V x, Params) { return exp2(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy * (y * lane_t<V>(kLn2)); }
};
struct Expm1 {
  template <class V> GG_DEVICE static V forward(V x, Params) { return expm1(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy * (y + 1); }
};
struct Log {
  template <class V> GG_DEVICE static V forward(V x, Params) { return log(x); }
};
struct Log2 {
  template <class V> GG_DEVICE static V forward(V x, Params) { return log2(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / (x * lane_t<V>(kLn2)); }
};
struct Log10 {
  template <class V> GG_DEVICE static V forward(V x, Params) { return log10(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / (x * lane_t<V>(kLn10)); }
};
struct Log1p {
  template <class V> GG_DEVICE static V forward(V x, Params) { return log1p(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / (x + 1); }
};
struct Sqrt {
  template <class V> GG_DEVICE static V forward(V x, Params) { return sqrt(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy / (y + y); }
};
struct Rsqrt {
  template <class V> GG_DEVICE static V forward(V x, Params) { return rsqrt(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy * (y * y * y * lane_t<V>(-0.5)); }
};
struct Reciprocal {
  template <class V> GG_DEVICE static V forward(V x, Params) { return 1 / x; }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return -dy * y * y; }
};

// Unary: trigonometric and hyperbolic functions
// ------------------------------------------------------------------------

struct Sin {
  template <class V> GG_DEVICE static V forward(V x, Params) { return sin(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * cos(x); }
};
struct Cos {
  template <class V> GG_DEVICE static V forward(V x, Params) { return cos(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return -dy * sin(x); }
};
struct Tan {
  template <class V> GG_DEVICE static V forward(V x, Params) { return tan(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy * (y * y + 1); }
};
struct Asin {
  template <class V> GG_DEVICE static V forward(V x, Params) { return asin(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / sqrt(1 - x * x); }
};
struct Acos {
  template <class V> GG_DEVICE static V forward(V x, Params) { return acos(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return -dy / sqrt(1 - x * x); }
};
struct Atan {
  template <class V> GG_DEVICE static V forward(V x, Params) { return atan(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / (x * x + 1); }
};
struct Sinh {
  template <class V> GG_DEVICE static V forward(V x, Params) { return sinh(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * cosh(x); }
};
struct Cosh {
  template <class V> GG_DEVICE static V forward(V x, Params) { return cosh(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * sinh(x); }
};
struct Tanh {
  template <class V> GG_DEVICE static V forward(V x, Params) { return tanh(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy * (1 - y * y); }
};
struct Asinh {
  template <class V> GG_DEVICE static V forward(V x, Params) { return asinh(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / sqrt(x * x + 1); }
};
struct Acosh {
  template <class V> GG_DEVICE static V forward(V x, Params) { return acosh(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / sqrt(x * x - 1); }
};
struct Atanh {
  template <class V> GG_DEVICE static V forward(V x, Params) { return atanh(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy / (1 - x * x); }
};

// Unary: special functions
// ---------------------------------------------------------------------------------------------

struct Erf {
  template <class V> GG_DEVICE static V forward(V x, Params) { return erf(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    return dy * (exp(-x * x) * lane_t<V>(kTwoOverRootPi));
  }
};
struct Erfc {
  template <class V> GG_DEVICE static V forward(V x, Params) { return erfc(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    return -dy * (exp(-x * x) * lane_t<V>(kTwoOverRootPi));
  }
};
struct Erfinv {
  template <class V> GG_DEVICE static V forward(V x, Params) { return erfinv(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy * exp(y * y) / lane_t<V>(kTwoOverRootPi); }
};
struct Lgamma {
  template <class V> GG_DEVICE static V forward(V x, Params) { return lgamma(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * digamma(x); }
};
struct Digamma {
  template <class V> GG_DEVICE static V forward(V x, Params) { return digamma(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * trigamma(x); }
};
struct Polygamma {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    const int n = int(p[0]);
    if (n == 0) return digamma(x);
    if (n == 1) return trigamma(x);
    return call_each(x, [n](lane_t<V> a) { return lane_t<V>(polygamma(n, a)); });
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) {
    const int n = int(p[0]);
    if (n == 0) return dy * trigamma(x);
    return dy * call_each(x, [n](lane_t<V> a) { return lane_t<V>(polygamma(n + 1, a)); });
  }
};
// sin(t) / t, t = pi x; the derivative near zero, where its closed form cancels, by its series
struct Sinc {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    V t = x * lane_t<V>(kPi);
    return x == 0 ? constant<V>(1) : sin(t) / t;
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    V t = x * lane_t<V>(kPi);
    V series = t * lane_t<V>(kPi) *
               horner(t * t, -1.0 / 3, 1.0 / 30, -1.0 / 840, 1.0 / 45360, -1.0 / 3991680, 1.0 / 518918400);
    return dy * (abs(t) < lane_t<V>(0.5) ? series : (cos(t) - sin(t) / t) / x);
  }
};

// Unary: activations
// ---------------------------------------------------------------------------------------------------

struct Sigmoid {
  template <class V> GG_DEVICE static V forward(V x, Params) { return sigmoid(x); }
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return dy * ((1 - y) * y); }
};
// log(x / (1 - x)); eps >= 0 first clamps x into [eps, 1 - eps]
struct Logit {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    if (p[0] >= 0) {
      const V low = constant<V>(p[0]), high = 1 - low;
      x = x < low ? low : x > high ? high : x;
    }
    return log(x / (1 - x));
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) {
    V dx = dy / (x * (1 - x));
    if (p[0] < 0) return ((x < 0) | (x > 1)) ? constant<V>(Ieee<lane_t<V>>::nan) : dx;
    const V low = constant<V>(p[0]);
    return ((x < low) | (x > 1 - low)) ? V{} : dx;
  }
};
struct Relu {
  template <class V> GG_DEVICE static V forward(V x, Params) { return max(V{}, x); }  // NaN stays
  template <class V> GG_DEVICE static V grad(V y, V dy, Params) { return y <= 0 ? V{} : dy; }
};
struct LeakyRelu {
  template <class V> GG_DEVICE static V forward(V x, Params p) { return x > 0 ? x : x * lane_t<V>(p[0]); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) { return x > 0 ? dy : dy * lane_t<V>(p[0]); }
};
// x > 0: scale x; else scale alpha (e^(input_scale x) - 1). elu, selu and celu are its cases.
struct Elu {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    using C = lane_t<V>;
    return x > 0 ? x * C(p[1]) : expm1(x * C(p[2])) * C(p[0] * p[1]);
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) {
    using C = lane_t<V>;
    return dy * (x > 0 ? constant<V>(p[1]) : exp(x * C(p[2])) * C(p[0] * p[1] * p[2]));
  }
};
// x Phi(x), Phi the normal distribution function; Phi' = e^(-x^2/2) / sqrt(2 pi)
struct Gelu {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    V half = x * lane_t<V>(0.5);
    return half + half * erf(x * lane_t<V>(kRootHalf));
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    using C = lane_t<V>;
    V cdf = erf(x * C(kRootHalf)) * C(0.5) + C(0.5), z = x * x, e = exp(z * C(-0.5));
    // Subnormal gradients would cost the products behind them a hundred times what they are worth.
    e = z > C(sizeof(C) == 4 ? 170 : 1400) ? V{} : e;
    return dy * (cdf + x * (e * C(0.5 * kTwoOverRootPi * kRootHalf)));
  }
};
// x (1 + tanh u) / 2 = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3)
struct GeluTanh {
  static constexpr double a = 2 * kTwoOverRootPi * kRootHalf, b = a * 0.044715;
  template <class V> GG_DEVICE static V forward(V x, Params) {
    return x * sigmoid(x * (x * x * lane_t<V>(b) + lane_t<V>(a)));
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    using C = lane_t<V>;
    V z = x * x, s = sigmoid(x * (z * C(b) + C(a)));
    return dy * (s + s * (1 - s) * x * (z * C(3 * b) + C(a)));
  }
};
struct Silu {
  template <class V> GG_DEVICE static V forward(V x, Params) { return x * sigmoid(x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    V s = sigmoid(x);
    return dy * (s * (x * (1 - s) + 1));
  }
};
// x tanh(log(1 + e^x)) = x n / (n + 2), n = e^x (e^x + 2); beyond 20 the factor is one
struct Mish {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    V e = exp(min(constant<V>(20), x)), n = e * (e + 2);
    return x * quotient(n, n + 2);
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    V e = exp(min(constant<V>(20), x)), n = e * (e + 2), d = quotient(constant<V>(1), n + 2);
    return dy * (n * d + x * (e * (e + 1) * 4 * d * d));
  }
};
struct LogSigmoid {
  template <class V> GG_DEVICE static V forward(V x, Params) { return -log1p_exp(-x); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) { return dy * sigmoid(-x); }
};
struct Softplus {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    V t = x * lane_t<V>(p[0]);
    return t > lane_t<V>(p[1]) ? x : log1p_exp(t) / lane_t<V>(p[0]);
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) {
    V t = x * lane_t<V>(p[0]);
    return t > lane_t<V>(p[1]) ? dy : dy * sigmoid(t);
  }
};
struct Softsign {
  template <class V> GG_DEVICE static V forward(V x, Params) { return x / (abs(x) + 1); }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    V d = abs(x) + 1;
    return dy / (d * d);
  }
};
struct Hardtanh {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    const V low = constant<V>(p[0]), high = constant<V>(p[1]);
    return x < low ? low : x > high ? high : x;
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) {
    return ((x > lane_t<V>(p[0])) & (x < lane_t<V>(p[1]))) ? dy : V{};
  }
};
struct Hardsigmoid {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    V t = x + 3;
    t = t < 0 ? V{} : t > 6 ? constant<V>(6) : t;
    return t * lane_t<V>(1.0 / 6);
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    return ((x > -3) & (x < 3)) ? dy * lane_t<V>(1.0 / 6) : V{};
  }
};
struct Hardswish {
  template <class V> GG_DEVICE static V forward(V x, Params) {
    V t = x + 3;
    t = t < 0 ? V{} : t > 6 ? constant<V>(6) : t;
    return x * t * lane_t<V>(1.0 / 6);
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params) {
    return x <= -3 ? V{} : x >= 3 ? dy : dy * (x * lane_t<V>(1.0 / 3) + lane_t<V>(0.5));
  }
};
struct Softshrink {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    const lane_t<V> l = lane_t<V>(p[0]);
    return x > l ? x - l : x < -l ? x + l : x * 0;
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) {
    const lane_t<V> l = lane_t<V>(p[0]);
    return ((x < -l) | (x > l)) ? dy : V{};
  }
};
struct Hardshrink {
  template <class V> GG_DEVICE static V forward(V x, Params p) {
    const lane_t<V> l = lane_t<V>(p[0]);
    return ((x >= -l) & (x <= l)) ? V{} : x;
  }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) {
    const lane_t<V> l = lane_t<V>(p[0]);
    return ((x < -l) | (x > l)) ? dy : V{};
  }
};
struct Threshold {
  template <class V> GG_DEVICE static V forward(V x, Params p) { return x <= lane_t<V>(p[0]) ? constant<V>(p[1]) : x; }
  template <class V> GG_DEVICE static V grad(V x, V dy, Params p) { return x <= lane_t<V>(p[0]) ? V{} : dy; }
};

// Binary: arithmetic
// ---------------------------------------------------------------------------------------------------

struct Add {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return a + b; }
};
struct AddScaled {
  template <class V> GG_DEVICE static V forward(V a, V b, Params p) { return a + b * lane_t<V>(p[0]); }
};
struct Sub {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return a - b; }
};
struct Mul {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return a * b; }
};
struct Div {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return a / b; }
};

template <class V> GG_DEVICE inline mask_t<V> signs_differ(V r, V b) { return (r != 0) & ((r < 0) != (b < 0)); }
// fmod with the divisor's sign.
template <class V> GG_DEVICE inline V floored_fmod(V a, V b) {
  V r = fmod(a, b);
  return signs_differ(r, b) ? r + b : r;
}

struct DivTrunc {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    if constexpr (kReal<V>)
      return trunc(a / b);
    else
      return divided(a, b);
  }
};
// a / b rounded after division can exceed the true quotient; a - mod(a, b) divides evenly.
struct DivFloor {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    if constexpr (kReal<V>) {
      V q = (a - floored_fmod(a, b)) / b, whole = rint(q);
      whole = whole == 0 ? copysign(V{}, a / b) : whole;
      return b == 0 ? a / b : whole;
    } else {
      V q = divided(a, b);
      return signs_differ(a - q * b, b) ? q - 1 : q;
    }
  }
};
struct Remainder {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    if constexpr (kReal<V>) {
      return floored_fmod(a, b);
    } else {
      V r = rest(a, b);
      return signs_differ(r, b) ? r + b : r;
    }
  }
};
struct Fmod {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    if constexpr (kReal<V>)
      return fmod(a, b);
    else
      return rest(a, b);
  }
};
struct Pow {
  // By squaring, modulo 2^64; a negative exponent leaves only the powers of 1 and -1.
  GG_DEVICE static int64_t whole(int64_t base, int64_t exponent) {
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    uint64_t result = 1, square = uint64_t(base);
    for (; exponent; exponent >>= 1, square *= square)
      if (exponent & 1) result *= square;
    return int64_t(result);
  }
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    if constexpr (kReal<V>)
      return pow(a, b);
    else
      return call_each(a, b, whole);
  }
};

// Binary: choices
// ------------------------------------------------------------------------------------------------------

struct Maximum {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return ((a > b) | (a != a)) ? a : b; }
};
struct Minimum {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return ((a < b) | (a != a)) ? a : b; }
};
struct Fmax {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return ((a > b) | (b != b)) ? a : b; }
};
struct Fmin {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return ((a < b) | (b != b)) ? a : b; }
};
struct Heaviside {
  template <class V> GG_DEVICE static V forward(V x, V values, Params) {
    return x == 0 ? values : x < 0 ? V{} : constant<V>(1);
  }
};
// dy where min <= x <= max
struct ClampBackward {
  template <class V> GG_DEVICE static V forward(V x, V dy, Params p) {
    return ((x >= lane_t<V>(p[0])) & (x <= lane_t<V>(p[1]))) ? dy : V{};
  }
};

// Binary: functions
// ----------------------------------------------------------------------------------------------------

struct Atan2 {
  template <class V> GG_DEVICE static V forward(V y, V x, Params) { return atan2(y, x); }
};
struct Hypot {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return hypot(a, b); }
};
struct Xlogy {
  template <class V> GG_DEVICE static V forward(V x, V y, Params) { return y != y ? y : x == 0 ? V{} : x * log(y); }
};
struct Copysign {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return copysign(a, b); }
};
// log(e^a + e^b), by the larger one
struct Logaddexp {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    V m = a > b ? a : b, d = abs(a - b);
    return (a == b) & isinf(a) ? a : m + log1p(exp(-d));
  }
};
struct Logaddexp2 {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    V m = a > b ? a : b, d = abs(a - b);
    return (a == b) & isinf(a) ? a : m + log1p(exp2(-d)) / lane_t<V>(kLn2);
  }
};

// Binary: whole numbers
// ------------------------------------------------------------------------------------------------

struct Gcd {
  GG_DEVICE static int64_t of(int64_t a, int64_t b) {
    while (b) {
      int64_t r = rest(a, b);
      a = b;
      b = r;
    }
    return a < 0 ? -a : a;
  }
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return call_each(a, b, of); }
};
struct Lcm {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    return call_each(a, b, [](int64_t x, int64_t y) {
      int64_t g = Gcd::of(x, y), m = g ? int64_t(uint64_t(x / g) * uint64_t(y)) : 0;
      return m < 0 ? -m : m;
    });
  }
};
struct BitwiseAnd {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return a & b; }
};
struct BitwiseOr {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return a | b; }
};
struct BitwiseXor {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return a ^ b; }
};
// Shifts by more than there is, or by a negative count, shift everything out.
struct ShiftLeft {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return ((b < 0) | (b > 63)) ? V{} : a << (b & 63); }
};
struct ShiftRight {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) {
    return a >> (((b < 0) | (b > 63)) ? constant<V>(63) : b);
  }
};

// Binary: questions
// ----------------------------------------------------------------------------------------------------

struct Eq {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>(a == b); }
};
struct Ne {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>(a != b); }
};
struct Lt {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>(a < b); }
};
struct Le {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>(a <= b); }
};
struct Gt {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>(a > b); }
};
struct Ge {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>(a >= b); }
};
struct LogicalAnd {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>((a != 0) & (b != 0)); }
};
struct LogicalOr {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>((a != 0) | (b != 0)); }
};
struct LogicalXor {
  template <class V> GG_DEVICE static V forward(V a, V b, Params) { return number<V>((a != 0) ^ (b != 0)); }
};

// Ternary
// --------------------------------------------------------------------------------------------------------------

struct Where {
  template <class V> GG_DEVICE static V forward(V condition, V a, V b, Params) { return condition != 0 ? a : b; }
};
// min(max(x, low), high), NaN where any is
struct Clamp {
  template <class V> GG_DEVICE static V forward(V x, V low, V high, Params p) {
    return Minimum::forward(Maximum::forward(x, low, p), high, p);
  }
};
struct Addcmul {
  template <class V> GG_DEVICE static V forward(V x, V a, V b, Params p) { return x + a * b * lane_t<V>(p[0]); }
};
struct Addcdiv {
  template <class V> GG_DEVICE static V forward(V x, V a, V b, Params p) { return x + a / b * lane_t<V>(p[0]); }
};
// From the nearer end, so that weights 0 and 1 give the ends exactly.
struct Lerp {
  template <class V> GG_DEVICE static V forward(V a, V b, V weight, Params) {
    V d = b - a;
    return abs(weight) < lane_t<V>(0.5) ? a + weight * d : b - d * (1 - weight);
  }
};
// What b in a / b receives.
struct DivBackward {
  template <class V> GG_DEVICE static V forward(V a, V b, V dy, Params) { return -dy * (a / b / b); }
};
// What a in max(a, b) receives of dy; ties share it.
struct MaximumBackward {
  template <class V> GG_DEVICE static V forward(V a, V b, V dy, Params) {
    return a < b ? V{} : a == b ? dy * lane_t<V>(0.5) : dy;
  }
};

}  // namespace
}  // namespace gg::GG_ISA
