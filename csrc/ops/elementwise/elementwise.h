// Elementwise ops: every op has one line in a list here, one struct {forward, grad} in elementwise_ops.h and one class
// in Python.
//
// An op computes in float, double or int64 only; a kernel brings any of the ten dtypes, with any strides, into blocks
// of that type and the results back, so an op is three functions at most. Operand 0 of a loop is the output.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"
#include "core/loop.h"

namespace gg {

// What an op takes and gives.
enum class Kind : uint8_t {
  Any,        // every dtype, and the result has the operands'
  Number,     // the same without bool
  Math,       // whole numbers become float32
  Floating,   // floating dtypes only
  Integral,   // whole numbers and bool
  Whole,      // whole numbers only
  Predicate,  // every dtype; the result is bool
};

// X(struct, name in Python, kind, has a fused gradient, names of its numeric parameters...)
#define GG_UNARY_OPS(X)                                                   \
  X(Neg, "neg", Number, false)                                            \
  X(Abs, "abs", Number, true)                                             \
  X(Sign, "sign", Any, false)                                             \
  X(Square, "square", Any, true)                                          \
  X(Cube, "cube", Any, true)                                              \
  X(Floor, "floor", Number, false)                                        \
  X(Ceil, "ceil", Number, false)                                          \
  X(Round, "round", Number, false)                                        \
  X(RoundDecimals, "round_decimals", Floating, false, "scale", "divides") \
  X(Trunc, "trunc", Number, false)                                        \
  X(Frac, "frac", Floating, false)                                        \
  X(IsNan, "isnan", Predicate, false)                                     \
  X(IsInf, "isinf", Predicate, false)                                     \
  X(IsFinite, "isfinite", Predicate, false)                               \
  X(IsPosInf, "isposinf", Predicate, false)                               \
  X(IsNegInf, "isneginf", Predicate, false)                               \
  X(Signbit, "signbit", Predicate, false)                                 \
  X(LogicalNot, "logical_not", Predicate, false)                          \
  X(BitwiseNot, "bitwise_not", Integral, false)                           \
  X(NanToNum, "nan_to_num", Any, true, "nan", "posinf", "neginf")         \
  X(Exp, "exp", Math, false)                                              \
  X(Exp2, "exp2", Math, true)                                             \
  X(Expm1, "expm1", Math, true)                                           \
  X(Log, "log", Math, false)                                              \
  X(Log2, "log2", Math, true)                                             \
  X(Log10, "log10", Math, true)                                           \
  X(Log1p, "log1p", Math, true)                                           \
  X(Sqrt, "sqrt", Math, true)                                             \
  X(Rsqrt, "rsqrt", Math, true)                                           \
  X(Reciprocal, "reciprocal", Math, true)                                 \
  X(Sin, "sin", Math, true)                                               \
  X(Cos, "cos", Math, true)                                               \
  X(Tan, "tan", Math, true)                                               \
  X(Asin, "asin", Math, true)                                             \
  X(Acos, "acos", Math, true)                                             \
  X(Atan, "atan", Math, true)                                             \
  X(Sinh, "sinh", Math, true)                                             \
  X(Cosh, "cosh", Math, true)                                             \
  X(Tanh, "tanh", Math, true)                                             \
  X(Asinh, "asinh", Math, true)                                           \
  X(Acosh, "acosh", Math, true)                                           \
  X(Atanh, "atanh", Math, true)                                           \
  X(Erf, "erf", Math, true)                                               \
  X(Erfc, "erfc", Math, true)                                             \
  X(Erfinv, "erfinv", Math, true)                                         \
  X(Lgamma, "lgamma", Math, true)                                         \
  X(Digamma, "digamma", Math, true)                                       \
  X(Polygamma, "polygamma", Math, true, "n")                              \
  X(Sinc, "sinc", Math, true)                                             \
  X(Sigmoid, "sigmoid", Math, true)                                       \
  X(Logit, "logit", Math, true, "eps")                                    \
  X(Relu, "relu", Number, true)                                           \
  X(LeakyRelu, "leaky_relu", Floating, true, "negative_slope")            \
  X(Elu, "elu", Floating, true, "alpha", "scale", "input_scale")          \
  X(Gelu, "gelu", Floating, true)                                         \
  X(GeluTanh, "gelu_tanh", Floating, true)                                \
  X(Silu, "silu", Floating, true)                                         \
  X(Mish, "mish", Floating, true)                                         \
  X(LogSigmoid, "logsigmoid", Floating, true)                             \
  X(Softplus, "softplus", Floating, true, "beta", "threshold")            \
  X(Softsign, "softsign", Math, true)                                     \
  X(Hardtanh, "hardtanh", Number, true, "min_val", "max_val")             \
  X(Hardsigmoid, "hardsigmoid", Floating, true)                           \
  X(Hardswish, "hardswish", Floating, true)                               \
  X(Softshrink, "softshrink", Floating, true, "lambd")                    \
  X(Hardshrink, "hardshrink", Floating, true, "lambd")                    \
  X(Threshold, "threshold", Number, true, "threshold", "value")

#define GG_BINARY_OPS(X)                      \
  X(Add, "add", Any)                          \
  X(AddScaled, "add_scaled", Any, "alpha")    \
  X(Sub, "sub", Number)                       \
  X(Mul, "mul", Any)                          \
  X(Div, "div", Math)                         \
  X(DivFloor, "floor_divide", Number)         \
  X(DivTrunc, "div_trunc", Number)            \
  X(Remainder, "remainder", Number)           \
  X(Fmod, "fmod", Number)                     \
  X(Pow, "pow", Number)                       \
  X(Maximum, "maximum", Any)                  \
  X(Minimum, "minimum", Any)                  \
  X(Fmax, "fmax", Any)                        \
  X(Fmin, "fmin", Any)                        \
  X(Atan2, "atan2", Math)                     \
  X(Hypot, "hypot", Floating)                 \
  X(Xlogy, "xlogy", Math)                     \
  X(Copysign, "copysign", Math)               \
  X(Heaviside, "heaviside", Any)              \
  X(Logaddexp, "logaddexp", Floating)         \
  X(Logaddexp2, "logaddexp2", Floating)       \
  X(Gcd, "gcd", Whole)                        \
  X(Lcm, "lcm", Whole)                        \
  X(BitwiseAnd, "bitwise_and", Integral)      \
  X(BitwiseOr, "bitwise_or", Integral)        \
  X(BitwiseXor, "bitwise_xor", Integral)      \
  X(ShiftLeft, "bitwise_left_shift", Whole)   \
  X(ShiftRight, "bitwise_right_shift", Whole) \
  X(Eq, "eq", Predicate)                      \
  X(Ne, "ne", Predicate)                      \
  X(Lt, "lt", Predicate)                      \
  X(Le, "le", Predicate)                      \
  X(Gt, "gt", Predicate)                      \
  X(Ge, "ge", Predicate)                      \
  X(LogicalAnd, "logical_and", Predicate)     \
  X(LogicalOr, "logical_or", Predicate)       \
  X(LogicalXor, "logical_xor", Predicate)     \
  X(ClampBackward, "clamp_backward", Floating, "min", "max")

// Where's first operand is a bool condition, which takes no part in promotion.
#define GG_TERNARY_OPS(X)                  \
  X(Where, "where", Any)                   \
  X(Clamp, "clamp", Any)                   \
  X(Addcmul, "addcmul", Number, "value")   \
  X(Addcdiv, "addcdiv", Floating, "value") \
  X(Lerp, "lerp", Floating)                \
  X(DivBackward, "div_backward", Floating) \
  X(MaximumBackward, "maximum_backward", Floating)

#define GG_ENUMERATOR(Name, ...) Name,
enum class Unary : uint8_t { GG_UNARY_OPS(GG_ENUMERATOR) };
enum class Binary : uint8_t { GG_BINARY_OPS(GG_ENUMERATOR) };
enum class Ternary : uint8_t { GG_TERNARY_OPS(GG_ENUMERATOR) };
#undef GG_ENUMERATOR

constexpr int kMaxParams = 3;

struct ElementwiseKernels {
  // y = f(x; params), computed in `compute` (Float32, Float64 or Int64). Loop operands: y, x.
  void (*unary)(Unary op, DType compute, const Loop<2>& loop, const double* params);
  // dx = dy f'(.), from what the op's gradient is a function of (x or y). Loop operands: dx, saved, dy.
  void (*unary_backward)(Unary op, DType compute, const Loop<3>& loop, const double* params);
  // Bit k of on_host says that operand k is one element of the compute type in host memory.
  void (*binary)(Binary op, DType compute, const Loop<3>& loop, unsigned on_host, const double* params);
  void (*ternary)(Ternary op, DType compute, const Loop<4>& loop, unsigned on_host, const double* params);
  // Whether any element is zero: a whole number must not be divided by it. Operand 0 is read.
  bool (*has_zero)(const Loop<1>& loop);
};
GG_KERNELS(ElementwiseKernels, elementwise_kernels)

}  // namespace gg
