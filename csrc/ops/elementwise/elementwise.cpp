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
template <int N> Array result(const Dims& shape, DType dtype, Device device, const Array* const (&operands)[N]) {
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

// The loop over dense arrays of one shape.
template <int N> Loop<N + 1> flat_loop(const Array& y, const Array* const (&operands)[N]) {
  Loop<N + 1> loop;
  loop.ndim = 1;
  loop.numel = loop.shape[0] = y.numel();
  for (int k = 0; k <= N; ++k) {
    const Array& x = k ? *operands[k - 1] : y;
    loop.data[k] = x.bytes();
    loop.dtype[k] = x.dtype();
    loop.stride[k][0] = item_size(x.dtype());
  }
  return loop;
}

// The loop over y and operands of any shape that broadcasts to y's.
template <int N> Loop<N + 1> loop_over(const Array& y, const Array* const (&operands)[N]) {
  bool simple = y.is_contiguous();
  for (const Array* x : operands)
    simple = simple && (x->ndim() == 0 || (x->shape() == y.shape() && x->is_contiguous()));
  if (simple) {
    Loop<N + 1> loop = flat_loop(y, operands);
    for (int k = 1; k <= N; ++k)
      if (operands[k - 1]->ndim() == 0 && y.ndim() > 0) loop.stride[k][0] = 0;
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

// The operands of an op as its kernel takes them: numbers and 0-d tensors of the CPU may stand beside tensors of a
// device.
template <int N> struct Together {
  Array numbers[N];
  const Array* operands[N];
  unsigned on_host = 0;  // as in ElementwiseKernels

  Together(const char* op, DType t, const Array* const (&given)[N]) {
    const Array* there = given[0];
    for (const Array* x : given)
      if (x->device() != Device{}) there = x;
    for (int i = 0; i < N; ++i) {
      operands[i] = given[i];
      if (given[i]->device() == there->device()) continue;
      if (given[i]->device() != Device{} || given[i]->ndim() > 0) check_same_device(op, *there, *given[i]);
      numbers[i] = given[i]->to(compute_type(t));
      operands[i] = &numbers[i];
      on_host |= 2u << i;
    }
  }
  // Of a device where one has an operand; a result goes there.
  Device device() const {
    for (int i = 0; i < N; ++i)
      if (!(on_host & 2u << i)) return operands[i]->device();
    return {};
  }
};

// Dense operands of one shape and dtype on the CPU, as most small ones are: nothing to promote, broadcast or order.
template <int N> bool alike(const Array* const (&x)[N]) {
  bool same = true;
  for (const Array* o : x)
    same = same && o->dtype() == x[0]->dtype() && o->device() == Device{} && !o->weak() && o->is_contiguous() &&
           o->shape() == x[0]->shape();
  return same;
}

Array run_unary(Unary op, const Array& x, const double* params) {
  const Info& info = kUnary[int(op)];
  DType t = operand_dtype(info, x.dtype());
  const Array* operands[] = {&x};
  Array y = result(x.shape(), info.kind == Kind::Predicate ? DType::Bool : t, x.device(), operands);
  elementwise_kernels(x.device()).unary(op, compute_type(t), loop_over(y, operands), params);
  return y;
}

// x = op(x) in x's own memory; false where the result has another dtype.
bool run_unary_into(Unary op, const Array& x) {
  const Info& info = kUnary[int(op)];
  DType t = operand_dtype(info, x.dtype());
  if ((info.kind == Kind::Predicate ? DType::Bool : t) != x.dtype()) return false;
  const double params[kMaxParams] = {};
  const Array* operands[] = {&x};
  elementwise_kernels(x.device()).unary(op, compute_type(t), loop_over(x, operands), params);
  bump_version(x);
  return true;
}

Array run_unary_backward(Unary op, const Array& saved, const Array& dy, const double* params) {
  const char* name = kUnary[int(op)].name;
  check_floating(name, "saved", saved);
  check_same_shape(name, "saved", saved, "dy", dy);
  check_same_device(name, saved, dy);
  const Array* operands[] = {&saved, &dy};
  Array dx = result(saved.shape(), saved.dtype(), dy.device(), operands);
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
  if (const Array* operands[] = {&a, &b}; alike(operands)) {
    DType t = binary_dtype(op, a, b);
    Array y = Array::empty(a.shape(), info.kind == Kind::Predicate ? DType::Bool : t);
    elementwise_kernels({}).binary(op, compute_type(t), flat_loop(y, operands), 0, params);
    return y;
  }
  Dims shape = broadcast(info.name, a, b);
  DType t = binary_dtype(op, a, b);
  const Together<2> x(info.name, t, {&a, &b});
  Array y = result(shape, info.kind == Kind::Predicate ? DType::Bool : t, x.device(), x.operands);
  elementwise_kernels(y.device()).binary(op, compute_type(t), loop_over(y, x.operands), x.on_host, params);
  return y;
}

// a = op(a, b) in a's own memory; false where the result has another shape or dtype, or b lies across a.
bool run_binary_into(Binary op, const Array& a, const Array& b, const double* params) {
  Dims shape;
  if (!broadcast_shapes(a.shape(), b.shape(), &shape) || shape != a.shape() || overlaps(a, b)) return false;
  DType t = binary_dtype(op, a, b);
  if ((kBinary[int(op)].kind == Kind::Predicate ? DType::Bool : t) != a.dtype()) return false;
  if (a.device() == Device{}) check_same_device(kBinary[int(op)].name, a, b);
  const Together<2> x(kBinary[int(op)].name, t, {&a, &b});
  elementwise_kernels(a.device()).binary(op, compute_type(t), loop_over(a, x.operands), x.on_host, params);
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
  const Together<3> x(info.name, t, {&a, &b, &c});
  Array y = result(shape, t, x.device(), x.operands);
  elementwise_kernels(y.device()).ternary(op, compute_type(t), loop_over(y, x.operands), x.on_host, params);
  return y;
}

// Python's functions of an op with as many numeric parameters as Count has entries.
template <auto op, class Count> struct Function;
template <auto op, size_t... I> struct Function<op, std::index_sequence<I...>> {
  static constexpr size_t kParams = sizeof...(I);
  template <size_t> using Number = double;
  static Array unary(const Array& x, Number<I>... p) {
    const double params[kMaxParams] = {p...};
    return run_unary(op, x, params);
  }
  static bool unary_into(const Array& x) { return run_unary_into(op, x); }
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
    if constexpr (F::kParams == 0) python::def<&F::unary_into>(m, name "_into", {"input"});             \
    if constexpr (has_grad)                                                                             \
      python::def<&F::unary_backward>(m, name "_backward", {"saved", "dy" __VA_OPT__(, ) __VA_ARGS__}); \
  }
#define GG_BIND_BINARY(Name, name, kind, ...)                                                     \
  {                                                                                               \
    using F = Function<Binary::Name, decltype(count(__VA_ARGS__))>;                               \
    python::def<&F::binary>(m, name, {"input", "other" __VA_OPT__(, ) __VA_ARGS__});              \
    python::def<&F::binary_into>(m, name "_into", {"input", "other" __VA_OPT__(, ) __VA_ARGS__}); \
  }
#define GG_BIND_TERNARY(Name, name, kind, ...)                                  \
  python::def<&Function<Ternary::Name, decltype(count(__VA_ARGS__))>::ternary>( \
      m, name, {"input", "other", "third" __VA_OPT__(, ) __VA_ARGS__});
  GG_UNARY_OPS(GG_BIND_UNARY)
  GG_BINARY_OPS(GG_BIND_BINARY)
  GG_TERNARY_OPS(GG_BIND_TERNARY)
}

}  // namespace gg
