// Fronts of softmax, log-softmax and cross-entropy: checks, shapes, device switch.
#include "ops/softmax/softmax.h"

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/check.h"
#include "python/bind.h"

namespace gg {
namespace {

struct Axis { int64_t outer = 1, n = 1, inner = 1; };

// x seen as (outer, n, inner) around one axis; a 0-d array is one row of one element.
Axis around(const Dims& shape, int dim) {
  Axis a;
  for (int i = 0; i < shape.n; ++i) (i < dim ? a.outer : i == dim ? a.n : a.inner) *= shape[i];
  return a;
}

Array softmax(const char* op, const Array& x, int64_t dim, bool log) {
  check_floating(op, "x", x);
  Axis a = around(x.shape(), check_dim(op, dim, x.ndim()));
  Array dense = x.contiguous();
  Array y = Array::empty(x.shape(), x.dtype(), x.device());
  if (y.numel())
    softmax_kernels(x.device()).softmax_forward(x.dtype(), dense.bytes(), y.bytes(), a.outer, a.n, a.inner, log);
  return y;
}

Array softmax_gradient(const char* op, const Array& dy, const Array& y, int64_t dim, bool log) {
  check_same_shape(op, "dy", dy, "y", y);
  check_same_dtype(op, "dy", dy, "y", y);
  check_same_device(op, dy, y);
  Axis a = around(y.shape(), check_dim(op, dim, y.ndim()));
  Array dy_dense = dy.contiguous(), y_dense = y.contiguous();
  Array dx = Array::empty(y.shape(), y.dtype(), y.device());
  if (dx.numel())
    softmax_kernels(y.device())
        .softmax_backward(y.dtype(), dy_dense.bytes(), y_dense.bytes(), dx.bytes(), a.outer, a.n, a.inner, log);
  return dx;
}

}  // namespace

Array softmax_forward(const Array& x, int64_t dim) { return softmax("softmax", x, dim, false); }
Array softmax_backward(const Array& dy, const Array& y, int64_t dim) {
  return softmax_gradient("softmax_backward", dy, y, dim, false);
}
Array log_softmax_forward(const Array& x, int64_t dim) { return softmax("log_softmax", x, dim, true); }
Array log_softmax_backward(const Array& dy, const Array& y, int64_t dim) {
  return softmax_gradient("log_softmax_backward", dy, y, dim, true);
}

namespace {

// Dense operands of a cross-entropy and the kernel's view of them; classes lie on axis 1, or 0 where x has one axis.
struct CrossEntropyOperands {
  Array x, target, weight, stats;
  CrossEntropyArgs args{};

  CrossEntropyOperands(const Array& x_, const Array& target_, const std::optional<Array>& weight_, int64_t ignore_index,
                       double smoothing)
      : x(x_.contiguous()) {
    Axis a = around(x.shape(), x.ndim() == 1 ? 0 : 1);
    bool indices = !is_floating(target_.dtype());
    target = target_.to(indices ? DType::Int64 : x.dtype()).contiguous();
    if (weight_) weight = weight_->to(compute_type(x.dtype())).contiguous();
    args.x = x.bytes();
    args.target = indices ? target.data<int64_t>() : nullptr;
    args.probabilities = indices ? nullptr : target.bytes();
    args.weight = weight_ ? weight.bytes() : nullptr;
    args.outer = a.outer;
    args.n = a.n;
    args.inner = a.inner;
    args.ignore_index = ignore_index;
    args.smoothing = smoothing;
  }
};

Dims rows_shape(const Array& x) {
  Dims shape = x.shape();
  shape.erase(shape.n == 1 ? 0 : 1);
  return shape;
}

void check_cross_entropy(const char* op, const Array& x, const Array& target, const std::optional<Array>& weight) {
  check_floating(op, "input", x);
  check_same_device(op, x, target);
  check<ShapeError>(x.ndim() >= 1, op, ": input ", x, ": a class axis is needed, (C), (N, C) or (N, C, d1, ...)");
  check<DTypeError>(target.dtype() != DType::Bool, op, ": target ", target,
                    ": class indices (int64) or probabilities (floating) are needed");
  if (is_floating(target.dtype())) {
    check<ShapeError>(target.shape() == x.shape(), op, ": input ", x, " and target ", target,
                      ": class probabilities must have the input's shape ", x.shape());
  } else {
    Dims rows = rows_shape(x);
    check<ShapeError>(target.shape() == rows, op, ": input ", x, " and target ", target,
                      ": class indices must have shape ", rows);
  }
  int64_t n = x.size(x.ndim() == 1 ? 0 : 1);
  if (weight) {
    check_same_device(op, x, *weight);
    check_floating(op, "weight", *weight);
    check<ShapeError>(weight->ndim() == 1 && weight->size(0) == n, op, ": input ", x, " and weight ", *weight,
                      ": a weight for each class, (", n, "), is needed");
  }
}

}  // namespace

void check_classes(const char* op, const Array& target, int64_t classes, int64_t ignore_index) {
  int64_t bad =
      softmax_kernels(target.device()).find_bad_class(target.data<int64_t>(), target.numel(), classes, ignore_index);
  if (bad >= 0)
    throw IndexError(message(op, ": target ", target, " holds class ", target.item_int(bad), ": classes are 0 to ",
                             classes - 1, ", or ignore_index ", ignore_index));
}

// The loss (0-d, or one a row where reduction is "none"), stats for backward, and what a mean divides by.
std::tuple<Array, Array, Array> cross_entropy_forward(const Array& x, const Array& target,
                                                      const std::optional<Array>& weight, const std::string& reduction,
                                                      int64_t ignore_index, double smoothing) {
  check_cross_entropy("cross_entropy", x, target, weight);
  check<ValueError>(smoothing >= 0 && smoothing <= 1, "cross_entropy: label_smoothing must be in [0, 1], got ",
                    smoothing);
  CrossEntropyOperands o(x, target, weight, ignore_index, smoothing);
  if (o.args.target) check_classes("cross_entropy", o.target, o.args.n, ignore_index);
  DType c = compute_type(x.dtype());
  Dims rows = rows_shape(x);
  Array stats = Array::empty({2, product(rows)}, c, x.device());
  Array losses = Array::empty(rows, c, x.device());
  Array total = Array::scalar(double(product(rows)), c, x.device());
  o.args.stats = stats.bytes();
  const SoftmaxKernels& kernels = softmax_kernels(x.device());
  if (losses.numel()) kernels.cross_entropy_forward(x.dtype(), o.args, losses.bytes());
  if (reduction == "none") return {losses.to(x.dtype()), stats, total};
  Array loss = Array::empty({}, x.dtype(), x.device());
  kernels.cross_entropy_reduce(x.dtype(), o.args, losses.bytes(), reduction == "mean", total.bytes(), loss.bytes());
  return {loss, stats, total};
}

// dx, then the gradient of the class probabilities where it is wanted.
std::vector<Array> cross_entropy_backward(const Array& dy, const Array& x, const Array& target,
                                          const std::optional<Array>& weight, const Array& stats, const Array& total,
                                          const std::string& reduction, int64_t ignore_index, double smoothing,
                                          bool need_dq) {
  check_same_device("cross_entropy_backward", dy, x);
  CrossEntropyOperands o(x, target, weight, ignore_index, smoothing);
  o.args.stats = stats.bytes();
  Array dy_dense = dy.to(compute_type(x.dtype())).contiguous();
  Array dx = Array::empty(x.shape(), x.dtype(), x.device());
  Array dq;
  if (need_dq) dq = Array::empty(x.shape(), x.dtype(), x.device());
  if (dx.numel())
    softmax_kernels(x.device())
        .cross_entropy_backward(x.dtype(), o.args, dy_dense.bytes(), reduction == "none",
                                reduction == "mean" ? total.bytes() : nullptr, dx.bytes(),
                                need_dq ? dq.bytes() : nullptr);
  if (!need_dq) return {dx};
  return {dx, dq.to(target.dtype())};
}

// The loss as above, and what a mean divides by. x holds log-probabilities.
std::pair<Array, Array> nll_loss_forward(const Array& x, const Array& target, const std::optional<Array>& weight,
                                         const std::string& reduction, int64_t ignore_index) {
  check<DTypeError>(is_integral(target.dtype()), "nll_loss: target ", target, ": class indices (int64) are needed");
  check_cross_entropy("nll_loss", x, target, weight);
  CrossEntropyOperands o(x, target, weight, ignore_index, 0);
  check_classes("nll_loss", o.target, o.args.n, ignore_index);
  DType c = compute_type(x.dtype());
  Array losses = Array::empty(rows_shape(x), c, x.device());
  Array total = Array::scalar(double(losses.numel()), c, x.device());
  const SoftmaxKernels& kernels = softmax_kernels(x.device());
  if (losses.numel()) kernels.nll_forward(x.dtype(), o.args, losses.bytes());
  if (reduction == "none") return {losses.to(x.dtype()), total};
  Array loss = Array::empty({}, x.dtype(), x.device());
  kernels.cross_entropy_reduce(x.dtype(), o.args, losses.bytes(), reduction == "mean", total.bytes(), loss.bytes());
  return {loss, total};
}

Array nll_loss_backward(const Array& dy, const Array& x, const Array& target, const std::optional<Array>& weight,
                        const Array& total, const std::string& reduction, int64_t ignore_index) {
  check_same_device("nll_loss_backward", dy, x);
  CrossEntropyOperands o(x, target, weight, ignore_index, 0);
  Array dy_dense = dy.to(compute_type(x.dtype())).contiguous();
  Array dx = Array::zeros(x.shape(), x.dtype(), x.device());
  if (dx.numel())
    softmax_kernels(x.device())
        .nll_backward(x.dtype(), o.args, dy_dense.bytes(), reduction == "none",
                      reduction == "mean" ? total.bytes() : nullptr, dx.bytes());
  return dx;
}

void bind_softmax(pybind11::module_& m) {
  python::def<&softmax_forward>(m, "softmax_forward", {"x", "dim"});
  python::def<&softmax_backward>(m, "softmax_backward", {"dy", "y", "dim"});
  python::def<&log_softmax_forward>(m, "log_softmax_forward", {"x", "dim"});
  python::def<&log_softmax_backward>(m, "log_softmax_backward", {"dy", "y", "dim"});
  python::def<&cross_entropy_forward>(m, "cross_entropy_forward",
                                      {"x", "target", "weight", "reduction", "ignore_index", "smoothing"});
  python::def<&nll_loss_forward>(m, "nll_loss_forward", {"x", "target", "weight", "reduction", "ignore_index"});
  python::def<&nll_loss_backward>(m, "nll_loss_backward",
                                  {"dy", "x", "target", "weight", "total", "reduction", "ignore_index"});
  python::def<&cross_entropy_backward>(
      m, "cross_entropy_backward",
      {"dy", "x", "target", "weight", "stats", "total", "reduction", "ignore_index", "smoothing", "need_dq"});
}

}  // namespace gg
