#include "ops/reduce/reduce.h"

#include <math.h>

#include "ops/layout/layout.h"
#include "python/bind.h"

namespace gg {
namespace {

using MaybeDims = std::optional<Dims>;

// Appends the listed axes of x: outermost (largest stride) first, axes that follow each other in memory merged.
Axes make_axes(const Array& x, const Dims& list, Dims* order) {
  for (int64_t d : list)
    if (x.size(int(d)) != 1) order->push(d);
  // A repeated element (stride 0) is outermost too: whatever lies inside it stays in cache.
  auto rank = [&x](int64_t d) { return x.strides()[int(d)] == 0 ? INT64_MAX : x.strides()[int(d)]; };
  for (int i = 1; i < order->n; ++i)
    for (int j = i; j > 0 && rank((*order)[j]) > rank((*order)[j - 1]); --j) std::swap((*order)[j], (*order)[j - 1]);
  Axes axes;
  for (int64_t d : *order) {
    int64_t size = x.size(int(d)), stride = x.strides()[int(d)];
    axes.numel *= size;
    int last = axes.ndim - 1;
    if (last >= 0 && axes.stride[last] == size * stride) {
      axes.shape[last] *= size;
      axes.stride[last] = stride;
    } else {
      axes.shape[axes.ndim] = size;
      axes.stride[axes.ndim++] = stride;
    }
  }
  return axes;
}

// A reduction of x over dims: what the kernel walks, and the outputs' shape and strides, dense in the order of the
// walk.
struct Plan {
  Array x;
  ReduceView view;
  Dims shape, strides;
  Dims reduced;

  Plan(const char* op, const Array& input, const MaybeDims& dims, bool keepdim) : x(input) {
    reduced = check_dims(op, dims ? *dims : Dims(), x.ndim());
    // Without an axis of stride 1 every element would cost a cache line: a dense copy is cheaper.
    bool dense = false;
    for (int d = 0; d < x.ndim(); ++d) dense |= x.strides()[d] == 1 && x.size(d) > 1;
    if (!dense) x = x.contiguous();
    Dims kept;
    int at = 0;
    for (int d = 0; d < x.ndim(); ++d) {
      if (at < reduced.n && reduced[at] == d)
        ++at;
      else
        kept.push(d);
    }
    Dims order, reduced_order;
    view.kept = make_axes(x, kept, &order);
    view.reduced = make_axes(x, reduced, &reduced_order);
    Dims by_axis = Dims::filled(x.ndim(), 1);
    int64_t stride = 1;
    for (int i = order.n - 1; i >= 0; --i) {
      by_axis[int(order[i])] = stride;
      stride *= x.size(int(order[i]));
    }
    at = 0;
    for (int d = 0; d < x.ndim(); ++d) {
      bool gone = at < reduced.n && reduced[at] == d;
      if (gone) ++at;
      if (gone && !keepdim) continue;
      shape.push(gone ? 1 : x.size(d));
      strides.push(gone ? 1 : by_axis[d]);
    }
  }

  int64_t n() const { return view.reduced.numel; }
  Array output(DType dtype) const { return Array::empty(shape, dtype, x.device()).view(shape, strides); }
};

Array filled(const Plan& plan, double value, DType dtype) {
  Array y = plan.output(dtype);
  fill(y, Array::scalar(value, dtype));
  return y;
}

// x with one of each element that an expanded axis repeats among the reduced ones (the gradient of a sum is such an
// array).
Array without_repeats(const Array& x, const Dims& reduced, int64_t* repeats) {
  Dims shape = x.shape();
  for (int64_t d : reduced)
    if (x.strides()[int(d)] == 0 && shape[int(d)] > 1) {
      *repeats *= shape[int(d)];
      shape[int(d)] = 1;
    }
  return *repeats == 1 ? x : x.view(shape, x.strides());
}

Array reduce(const char* op, Reducer reducer, const Array& x, const MaybeDims& dims, bool keepdim, double parameter,
             double of_nothing) {
  if (is_floating(x.dtype()) && reducer == Reducer::Sum) {
    int64_t repeats = 1;
    Array once = without_repeats(x, check_dims(op, dims ? *dims : Dims(), x.ndim()), &repeats);
    if (repeats > 1) return reduce(op, reducer, once, dims, keepdim, parameter / double(repeats), of_nothing);
  }
  Plan plan(op, x, dims, keepdim);
  bool widens = reducer == Reducer::Sum || reducer == Reducer::Prod;
  DType dtype = widens && !is_floating(x.dtype()) ? DType::Int64 : x.dtype();
  if (plan.n() == 0) return filled(plan, of_nothing, dtype);
  Array y = plan.output(dtype);
  if (y.numel() == 0) return y;
  reduce_kernels(x.device()).reduce(reducer, x.dtype(), plan.x.bytes(), y.bytes(), plan.view, parameter);
  return y;
}

Array count(const char* op, Counter counter, const Array& x, const MaybeDims& dims, bool keepdim) {
  Plan plan(op, x, dims, keepdim);
  DType dtype = counter == Counter::Count ? DType::Int64 : x.dtype() == DType::UInt8 ? DType::UInt8 : DType::Bool;
  if (plan.n() == 0) return filled(plan, counter == Counter::All, dtype);
  Array y = plan.output(dtype);
  if (y.numel() == 0) return y;
  reduce_kernels(x.device()).count(counter, x.dtype(), plan.x.bytes(), y.bytes(), plan.view);
  return y;
}

Array sum(const Array& x, const MaybeDims& dims, std::optional<bool> keepdim) {
  if (x.dtype() == DType::Bool) return count("sum", Counter::Count, x, dims, keepdim.value_or(false));
  return reduce("sum", Reducer::Sum, x, dims, keepdim.value_or(false), 1, 0);
}

Array nansum(const Array& x, const MaybeDims& dims, bool keepdim) {
  return reduce("nansum", is_floating(x.dtype()) ? Reducer::NanSum : Reducer::Sum, x, dims, keepdim, 1, 0);
}

Array mean(const Array& x, const MaybeDims& dims, bool keepdim) {
  check_floating("mean", "input", x);
  Dims axes = check_dims("mean", dims ? *dims : Dims(), x.ndim());
  int64_t n = 1;
  for (int64_t d : axes) n *= x.size(int(d));
  return reduce("mean", Reducer::Sum, x, dims, keepdim, double(n), NAN);
}

Array prod(const Array& x, const MaybeDims& dims, bool keepdim) {
  return reduce("prod", Reducer::Prod, x, dims, keepdim, 0, 1);
}

void check_not_empty(const char* op, const Array& x, const MaybeDims& dims) {
  if (x.numel() > 0) return;
  if (!dims || dims->n == 0)
    throw ShapeError(message(op, ": input ", x, " has no elements to choose from; give a dim whose size is not 0"));
  for (int64_t d : check_dims(op, *dims, x.ndim()))
    check<IndexError>(x.size(int(d)) > 0, op, ": input ", x, " has no elements along dim ", d,
                      "; reduce over a dim whose size is not 0");
}

Array extreme(const char* op, Reducer reducer, const Array& x, const MaybeDims& dims, bool keepdim) {
  check_not_empty(op, x, dims);
  return reduce(op, reducer, x, dims, keepdim, 0, 0);
}
Array amax(const Array& x, const MaybeDims& dims, bool keepdim, const std::string& op) {
  return extreme(op.c_str(), Reducer::Max, x, dims, keepdim);
}
Array amin(const Array& x, const MaybeDims& dims, bool keepdim, const std::string& op) {
  return extreme(op.c_str(), Reducer::Min, x, dims, keepdim);
}

Array norm(const Array& x, double p, const MaybeDims& dims, bool keepdim) {
  check_floating("norm", "input", x);
  Reducer reducer = p == 1 ? Reducer::Norm1 : p == 2 ? Reducer::Norm2 : Reducer::NormP;
  return reduce("norm", reducer, x, dims, keepdim, p, p < 0 ? INFINITY : 0);
}

Array logsumexp(const Array& x, const MaybeDims& dims, bool keepdim) {
  check_floating("logsumexp", "input", x);
  return reduce("logsumexp", Reducer::LogSumExp, x, dims, keepdim, 0, -INFINITY);
}

Array any(const Array& x, const MaybeDims& dims, bool keepdim) { return count("any", Counter::Any, x, dims, keepdim); }
Array all(const Array& x, const MaybeDims& dims, bool keepdim) { return count("all", Counter::All, x, dims, keepdim); }
Array count_nonzero(const Array& x, const MaybeDims& dims) {
  return count("count_nonzero", Counter::Count, x, dims, false);
}

// (var or std, mean)
std::pair<Array, Array> var(const Array& x, const MaybeDims& dims, double correction, bool keepdim, bool root,
                            const std::string& op) {
  check_floating(op.c_str(), "input", x);
  Plan plan(op.c_str(), x, dims, keepdim);
  if (plan.n() == 0) return {filled(plan, NAN, x.dtype()), filled(plan, NAN, x.dtype())};
  Array v = plan.output(x.dtype()), mean = plan.output(x.dtype());
  if (v.numel() > 0)
    reduce_kernels(x.device()).var(x.dtype(), plan.x.bytes(), v.bytes(), mean.bytes(), plan.view, correction, root);
  return {v, mean};
}

std::pair<Array, Array> extremum(const char* op, const Array& x, int64_t dim, bool keepdim, bool largest) {
  int d = check_dim(op, dim, x.ndim());
  check_not_empty(op, x, Dims{d});
  Plan plan(op, x, Dims{d}, keepdim);
  Array values = plan.output(x.dtype()), indices = plan.output(DType::Int64);
  if (values.numel() > 0)
    reduce_kernels(x.device())
        .extremum(x.dtype(), largest, plan.x.bytes(), values.bytes(), indices.data<int64_t>(), plan.view);
  return {values, indices};
}
std::pair<Array, Array> max_dim(const Array& x, int64_t dim, bool keepdim) {
  return extremum("max", x, dim, keepdim, true);
}
std::pair<Array, Array> min_dim(const Array& x, int64_t dim, bool keepdim) {
  return extremum("min", x, dim, keepdim, false);
}

Array arg_extremum(const char* op, const Array& x, std::optional<int64_t> dim, bool keepdim, bool largest) {
  if (dim) return extremum(op, x, *dim, keepdim, largest).second;
  check<IndexError>(x.numel() > 0, op, ": input ", x,
                    " has no elements to choose from; give a dim whose size is not 0");
  Array y = extremum(op, x.reshaped({x.numel()}), 0, false, largest).second;
  return keepdim ? y.reshaped(Dims::filled(x.ndim(), 1)) : y;
}
Array argmax(const Array& x, std::optional<int64_t> dim, std::optional<bool> keepdim) {
  return arg_extremum("argmax", x, dim, keepdim.value_or(false), true);
}
Array argmin(const Array& x, std::optional<int64_t> dim, std::optional<bool> keepdim) {
  return arg_extremum("argmin", x, dim, keepdim.value_or(false), false);
}

// dx for y = prod of x over dim, or over everything: dy has y's shape, dim kept or not.
Array prod_backward(const Array& dy, const Array& x, std::optional<int64_t> dim) {
  check_same_device("prod_backward", dy, x);
  int64_t outer = 1, n = x.numel(), inner = 1;
  if (dim && x.ndim() > 0) {
    int d = check_dim("prod", *dim, x.ndim());
    n = x.size(d);
    for (int i = 0; i < d; ++i) outer *= x.size(i);
    for (int i = d + 1; i < x.ndim(); ++i) inner *= x.size(i);
  }
  Array xc = x.contiguous(), dyc = dy.contiguous(), dx = Array::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() > 0)
    reduce_kernels(x.device()).prod_backward(x.dtype(), dyc.bytes(), xc.bytes(), dx.bytes(), outer, n, inner);
  return dx;
}

}  // namespace

void bind_reduce(pybind11::module_& m) {
  python::def<&sum>(m, "sum", {"input", "dim", "keepdim"});
  python::def<&nansum>(m, "nansum", {"input", "dim", "keepdim"});
  python::def<&mean>(m, "mean", {"input", "dim", "keepdim"});
  python::def<&prod>(m, "prod", {"input", "dim", "keepdim"});
  python::def<&prod_backward>(m, "prod_backward", {"dy", "input", "dim"});
  python::def<&amax>(m, "amax", {"input", "dim", "keepdim", "op"});
  python::def<&amin>(m, "amin", {"input", "dim", "keepdim", "op"});
  python::def<&norm>(m, "norm", {"input", "p", "dim", "keepdim"});
  python::def<&logsumexp>(m, "logsumexp", {"input", "dim", "keepdim"});
  python::def<&any>(m, "any", {"input", "dim", "keepdim"});
  python::def<&all>(m, "all", {"input", "dim", "keepdim"});
  python::def<&count_nonzero>(m, "count_nonzero", {"input", "dim"});
  python::def<&var>(m, "var", {"input", "dim", "correction", "keepdim", "root", "op"});
  python::def<&max_dim>(m, "max_dim", {"input", "dim", "keepdim"});
  python::def<&min_dim>(m, "min_dim", {"input", "dim", "keepdim"});
  python::def<&argmax>(m, "argmax", {"input", "dim", "keepdim"});
  python::def<&argmin>(m, "argmin", {"input", "dim", "keepdim"});
}

}  // namespace gg
