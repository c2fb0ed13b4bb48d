#include "ops/elementwise/elementwise.h"

#include <utility>

#include "core/make_loop.h"
#include "python/bind.h"

namespace gg {
namespace {

struct Info {
  const char* name;
  Kind kind;
};
#define GG_INFO(Name, name, kind, ...) {name, Kind::kind},
constexpr Info kUnary[] = {GG_UNARY_OPS(GG_INFO)};
constexpr Info kBinary[] = {GG_BINARY_OPS(GG_INFO)};
constexpr Info kTernary[] = {GG_TERNARY_OPS(GG_INFO)};

// The dtype an op brings operands of dtype t to, after refusing those it has no meaning for.
DType operand_dtype(const Info& op, DType t) {
  switch (op.kind) {
    case Kind::Math: return is_floating(t) ? t : default_dtype;
    case Kind::Number:
      check<DTypeError>(t != DType::Bool, op.name, ": is not defined for bool; convert with .to(gg.int64) first");
      return t;
    case Kind::Floating: check<DTypeError>(is_floating(t), op.name, ": needs a floating dtype, got ", t); return t;
    case Kind::Integral:
      check<DTypeError>(!is_floating(t), op.name, ": needs whole numbers or bool, got ", t);
      return t;
    case Kind::Whole: check<DTypeError>(is_integral(t), op.name, ": needs whole numbers, got ", t); return t;
    default: return t;
  }
}

// A new array of this shape, laid out as the first operand of the same shape that is dense under some order of its
// axes.
template <int N> Array result(const Dims& shape, DType dtype, const Array* const (&operands)[N]) {
  Device device = operands[0]->device();
  for (const Array* x : operands) {
    if (x->shape() != shape) continue;
    if (x->is_contiguous()) break;
    Dims dense = Dims::filled(shape.n, 0);
    int64_t expected = 1;
    for (int placed = 0; placed < shape.n; ++placed) {
      int next = -1;
      for (int i = 0; i < shape.n; ++i)
        if (dense[i] == 0 && (next < 0 || x->strides()[i] <= x->strides()[next])) next = i;
      dense[next] = expected;
      expected *= shape[next] > 0 ? shape[next] : 1;
    }
    return Array::empty(shape, dtype, device).view(shape, dense);
  }
  return Array::empty(shape, dtype, device);
}

// The loop over y and operands of any shape that broadcasts to y's.
template <int N> Loop<N + 1> loop_over(const Array& y, const Array* const (&operands)[N]) {
  bool simple = y.is_contiguous();
  for (const Array* x : operands)
    simple = simple && (x->ndim() == 0 || (x->shape() == y.shape() && x->is_contiguous()));
  if (simple) {
    Loop<N + 1> loop;
    loop.ndim = 1;
    loop.numel = loop.shape[0] = y.numel();
    for (int k = 0; k <= N; ++k) {
      const Array& x = k ? *operands[k - 1] : y;
      loop.data[k] = x.bytes();
      loop.dtype[k] = x.dtype();
      loop.stride[k][0] = k && x.ndim() == 0 && y.ndim() > 0 ? 0 : item_size(x.dtype());
    }
    return loop;
  }
  Array expanded[N];
  const Array* all[N + 1] = {&y};
  for (int k = 0; k < N; ++k) {
    all[k + 1] = operands[k];
    if (operands[k]->shape() == y.shape()) continue;
    expanded[k] = operands[k]->expand(y.shape());
    all[k + 1] = &expanded[k];
  }
  return make_loop(all);
}

Dims broadcast(const char* op, const Array& a, const Array& b) {
  if (a.shape() == b.shape()) return a.shape();
  Dims shape;
  check<ShapeError>(broadcast_shapes(a.shape(), b.shape(), &shape), op, ": operands ", a, " and ", b,
                    " do not broadcast; aligned from the last axis, sizes must be equal or 1");
  return shape;
}

// The device on which operands of several meet: that of one beside the CPU.
template <int N> Device meeting_place(const Array* const (&operands)[N]) {
  for (const Array* x : operands)
    if (x->device() != Device{}) return x->device();
  return {};
}

// The operands where the op runs. Numbers and 0-d tensors of the CPU may stand beside tensors of a device.
template <int N> void bring_together(const char* op, const Array* const (&operands)[N], Array (&together)[N]) {
  const Device device = meeting_place(operands);
  for (int i = 0; i < N; ++i) {
    together[i] = operands[i]->beside(device);
    check_same_device(op, together[0], together[i]);
  }
}

Array run_unary(Unary op, const Array& x, const double* params) {
  const Info& info = kUnary[int(op)];
  DType t = operand_dtype(info, x.dtype());
  const Array* operands[] = {&x};
  Array y = result(x.shape(), info.kind == Kind::Predicate ? DType::Bool : t, operands);
  elementwise_kernels(x.device()).unary(op, compute_type(t), loop_over(y, operands), params);
  return y;
}

Array run_unary_backward(Unary op, const Array& saved, const Array& dy, const double* params) {
  const char* name = kUnary[int(op)].name;
  check_floating(name, "saved", saved);
  check_same_shape(name, "saved", saved, "dy", dy);
  check_same_device(name, saved, dy);
  const Array* operands[] = {&saved, &dy};
  Array dx = result(saved.shape(), saved.dtype(), operands);
  elementwise_kernels(dy.device()).unary_backward(op, compute_type(saved.dtype()), loop_over(dx, operands), params);
  return dx;
}

bool divides(Binary op) {
  return op == Binary::DivFloor || op == Binary::DivTrunc || op == Binary::Remainder || op == Binary::Fmod;
}

// The dtype a and b are computed in, after refusing what the op cannot do with their types or values.
DType binary_dtype(Binary op, const Array& a, const Array& b) {
  const Info& info = kBinary[int(op)];
  DType t = operand_dtype(info, result_type(a, b));
  if (divides(op) && is_integral(t)) {
    const Array* divisor[] = {&b};
    if (elementwise_kernels(b.device()).has_zero(make_loop(divisor)))
      throw std::runtime_error(
          message(info.name, ": ZeroDivisionError: whole numbers ", a, " divided by ", b, " with a zero"));
  }
  if (op == Binary::Pow && b.weak() && !is_floating(t))
    check<ValueError>(b.item_int() >= 0,
                      "pow: whole numbers to a negative power are not whole; convert to a float first");
  return t;
}

Array run_binary(Binary op, const Array& a, const Array& b, const double* params) {
  const Info& info = kBinary[int(op)];
  Dims shape = broadcast(info.name, a, b);
  DType t = binary_dtype(op, a, b);
  auto run = [&](const Array* const(&operands)[2]) {
    Array y = result(shape, info.kind == Kind::Predicate ? DType::Bool : t, operands);
    elementwise_kernels(y.device()).binary(op, compute_type(t), loop_over(y, operands), params);
    return y;
  };
  if (a.device() == b.device()) return run({&a, &b});
  Array together[2];
  bring_together(info.name, {&a, &b}, together);
  return run({&together[0], &together[1]});
}

// a = op(a, b) in a's own memory; false where the result has another shape or dtype, or b lies across a.
bool run_binary_into(Binary op, const Array& a, const Array& b, const double* params) {
  Dims shape;
  if (!broadcast_shapes(a.shape(), b.shape(), &shape) || shape != a.shape() || overlaps(a, b)) return false;
  DType t = binary_dtype(op, a, b);
  if (t != a.dtype()) return false;
  if (a.device() != b.device()) {
    Array there = b.beside(a.device());
    check_same_device(kBinary[int(op)].name, a, there);
    return run_binary_into(op, a, there, params);
  }
  const Array* operands[] = {&a, &b};
  elementwise_kernels(a.device()).binary(op, compute_type(t), loop_over(a, operands), params);
  bump_version(a);
  return true;
}

Array run_ternary(Ternary op, const Array& a, const Array& b, const Array& c, const double* params) {
  const Info& info = kTernary[int(op)];
  Dims shape = broadcast(info.name, a, b);
  if (c.shape() != shape) {
    Dims all;
    check<ShapeError>(broadcast_shapes(shape, c.shape(), &all), info.name, ": operands ", a, ", ", b, " and ", c,
                      " do not broadcast; aligned from the last axis, sizes must be equal or 1");
    shape = all;
  }
  bool selects = op == Ternary::Where;
  check<DTypeError>(!selects || a.dtype() == DType::Bool, info.name, ": condition ", a, " must be bool");
  DType t = operand_dtype(info, selects ? result_type(b, c) : result_type(a, b, c));
  auto run = [&](const Array* const(&operands)[3]) {
    Array y = result(shape, t, operands);
    elementwise_kernels(y.device()).ternary(op, compute_type(t), loop_over(y, operands), params);
    return y;
  };
  if (a.device() == b.device() && b.device() == c.device()) return run({&a, &b, &c});
  Array together[3];
  bring_together(info.name, {&a, &b, &c}, together);
  return run({&together[0], &together[1], &together[2]});
}

// Python's functions of an op with as many numeric parameters as Count has entries.
template <auto op, class Count> struct Function;
template <auto op, size_t... I> struct Function<op, std::index_sequence<I...>> {
  template <size_t> using Number = double;
  static Array unary(const Array& x, Number<I>... p) {
    const double params[kMaxParams] = {p...};
    return run_unary(op, x, params);
  }
  static Array unary_backward(const Array& saved, const Array& dy, Number<I>... p) {
    const double params[kMaxParams] = {p...};
    return run_unary_backward(op, saved, dy, params);
  }
  static Array binary(const Operand& a, const Operand& b, Number<I>... p) {
    const double params[kMaxParams] = {p...};
    return run_binary(op, a.array, b.array, params);
  }
  static bool binary_into(const Array& a, const Operand& b, Number<I>... p) {
    const double params[kMaxParams] = {p...};
    return run_binary_into(op, a, b.array, params);
  }
  static Array ternary(const Operand& a, const Operand& b, const Operand& c, Number<I>... p) {
    const double params[kMaxParams] = {p...};
    return run_ternary(op, a.array, b.array, c.array, params);
  }
};
template <class... Names> constexpr auto count(Names...) { return std::make_index_sequence<sizeof...(Names)>(); }

}  // namespace

void bind_elementwise(pybind11::module_& m) {
#define GG_BIND_UNARY(Name, name, kind, has_grad, ...)                                                  \
  {                                                                                                     \
    using F = Function<Unary::Name, decltype(count(__VA_ARGS__))>;                                      \
    python::def<&F::unary>(m, name, {"input" __VA_OPT__(, ) __VA_ARGS__});                              \
    if constexpr (has_grad)                                                                             \
      python::def<&F::unary_backward>(m, name "_backward", {"saved", "dy" __VA_OPT__(, ) __VA_ARGS__}); \
  }
#define GG_BIND_BINARY(Name, name, kind, ...)                                 \
  python::def<&Function<Binary::Name, decltype(count(__VA_ARGS__))>::binary>( \
      m, name, {"input", "other" __VA_OPT__(, ) __VA_ARGS__});
#define GG_BIND_TERNARY(Name, name, kind, ...)                                  \
  python::def<&Function<Ternary::Name, decltype(count(__VA_ARGS__))>::ternary>( \
      m, name, {"input", "other", "third" __VA_OPT__(, ) __VA_ARGS__});
  GG_UNARY_OPS(GG_BIND_UNARY)
  GG_BINARY_OPS(GG_BIND_BINARY)
  GG_TERNARY_OPS(GG_BIND_TERNARY)

  python::def<&Function<Binary::Add, decltype(count())>::binary_into>(m, "add_into", {"input", "other"});
  python::def<&Function<Binary::Sub, decltype(count())>::binary_into>(m, "sub_into", {"input", "other"});
  python::def<&Function<Binary::Mul, decltype(count())>::binary_into>(m, "mul_into", {"input", "other"});
  python::def<&Function<Binary::Div, decltype(count())>::binary_into>(m, "div_into", {"input", "other"});
  python::def<&Function<Binary::AddScaled, decltype(count(""))>::binary_into>(m, "add_scaled_into",
                                                                              {"input", "other", "alpha"});
}

}  // namespace gg
