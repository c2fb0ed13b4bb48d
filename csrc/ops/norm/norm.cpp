// Fronts of layer, RMS, group and batch norm: checks, shapes, device switch.
#include "ops/norm/norm.h"

#include <optional>
#include <tuple>
#include <vector>

#include "core/check.h"
#include "ops/layout/layout.h"
#include "python/bind.h"

namespace gg {
namespace {

// A weight or bias as the kernels read it, dense and in the compute type; null where there is none.
struct Line {
  Array dense;
  Line(const std::optional<Array>& x, DType t) {
    if (x) dense = x->to(compute_type(t)).contiguous();
  }
  const void* data() const { return dense.defined() ? dense.bytes() : nullptr; }
};

// The gradients that a backward was asked for, in order, each written to only where it is wanted.
struct Gradients {
  Array dx, dweight, dbias;
  Gradients(const Array& x, const Dims& line, bool need_dx, bool need_dweight, bool need_dbias) {
    DType c = compute_type(x.dtype());
    if (need_dx) dx = Array::empty(x.shape(), x.dtype(), x.device());
    if (need_dweight) dweight = Array::zeros(line, c, x.device());
    if (need_dbias) dbias = Array::zeros(line, c, x.device());
  }
  static void* data(const Array& a) { return a.defined() ? a.bytes() : nullptr; }
  // The kernels' sums are in the compute type; they round to the parameter's type here.
  std::vector<Array> wanted(DType parameter) const {
    std::vector<Array> list;
    if (dx.defined()) list.push_back(dx);
    if (dweight.defined()) list.push_back(dweight.to(parameter));
    if (dbias.defined()) list.push_back(dbias.to(parameter));
    return list;
  }
};

DType parameter_type(const std::optional<Array>& weight, const Array& x) {
  return weight ? weight->dtype() : x.dtype();
}

void check_line(const char* op, const char* operand, const std::optional<Array>& line, const Array& x,
                const Dims& shape) {
  if (!line) return;
  check_floating(op, operand, *line);
  check_same_device(op, x, *line);
  check<ShapeError>(line->shape() == shape, op, ": x ", x, " and ", operand, " ", *line, ": ", operand,
                    " must have shape ", shape);
}

// The last `axes` sizes of x, over which a row is normalised, and x seen as (rows, n).
Dims row_shape(const char* op, const Array& x, const Dims& normalized_shape) {
  check_floating(op, "x", x);
  int first = x.ndim() - normalized_shape.n;
  bool fits = normalized_shape.n >= 1 && first >= 0;
  for (int i = 0; fits && i < normalized_shape.n; ++i) fits = x.size(first + i) == normalized_shape[i];
  check<ShapeError>(fits, op, ": x ", x, " and normalized_shape ", normalized_shape,
                    ": normalized_shape must be the last sizes of x, at least one");
  return normalized_shape;
}
LayerShape rows_of(const Array& x, const Dims& normalized_shape) {
  int64_t rows = 1;
  for (int i = 0; i < x.ndim() - normalized_shape.n; ++i) rows *= x.size(i);
  return {rows, product(normalized_shape), 1};
}
Dims lead_shape(const Array& x, const Dims& normalized_shape) {
  Dims lead = x.shape();
  lead.n -= normalized_shape.n;
  return lead;
}

}  // namespace

// y, mean, rstd.
std::tuple<Array, Array, Array> layer_norm_forward(const Array& x, const Dims& normalized_shape,
                                                   const std::optional<Array>& weight, const std::optional<Array>& bias,
                                                   double eps) {
  Dims line = row_shape("layer_norm", x, normalized_shape);
  check_line("layer_norm", "weight", weight, x, line);
  check_line("layer_norm", "bias", bias, x, line);
  LayerShape shape = rows_of(x, line);
  Array dense = x.contiguous();
  Line w(weight, x.dtype()), b(bias, x.dtype());
  DType c = compute_type(x.dtype());
  Array y = Array::empty(x.shape(), x.dtype(), x.device());
  Array mean = Array::empty(lead_shape(x, line), c, x.device());
  Array rstd = Array::empty(lead_shape(x, line), c, x.device());
  if (x.numel())
    norm_kernels(x.device())
        .layer_norm_forward(x.dtype(), dense.bytes(), w.data(), b.data(), y.bytes(), mean.bytes(), rstd.bytes(), shape,
                            eps);
  return {y, mean, rstd};
}

std::vector<Array> layer_norm_backward(const Array& dy, const Array& x, const Dims& normalized_shape,
                                       const std::optional<Array>& weight, const Array& mean, const Array& rstd,
                                       bool need_dx, bool need_dweight, bool need_dbias) {
  check_same_shape("layer_norm_backward", "dy", dy, "x", x);
  check_same_device("layer_norm_backward", dy, x);
  Array dense = x.contiguous(), dy_dense = dy.to(x.dtype()).contiguous();
  Line w(weight, x.dtype());
  Gradients g(x, normalized_shape, need_dx, need_dweight, need_dbias);
  if (x.numel())
    norm_kernels(x.device())
        .layer_norm_backward(x.dtype(), dy_dense.bytes(), dense.bytes(), w.data(), mean.bytes(), rstd.bytes(),
                             g.data(g.dx), g.data(g.dweight), g.data(g.dbias), rows_of(x, normalized_shape));
  return g.wanted(parameter_type(weight, x));
}

// y, rstd.
std::pair<Array, Array> rms_norm_forward(const Array& x, const Dims& normalized_shape,
                                         const std::optional<Array>& weight, double eps) {
  Dims line = row_shape("rms_norm", x, normalized_shape);
  check_line("rms_norm", "weight", weight, x, line);
  Array dense = x.contiguous();
  Line w(weight, x.dtype());
  Array y = Array::empty(x.shape(), x.dtype(), x.device());
  Array rstd = Array::empty(lead_shape(x, line), compute_type(x.dtype()), x.device());
  if (x.numel())
    norm_kernels(x.device())
        .layer_norm_forward(x.dtype(), dense.bytes(), w.data(), nullptr, y.bytes(), nullptr, rstd.bytes(),
                            rows_of(x, line), eps);
  return {y, rstd};
}

std::vector<Array> rms_norm_backward(const Array& dy, const Array& x, const Dims& normalized_shape,
                                     const std::optional<Array>& weight, const Array& rstd, bool need_dx,
                                     bool need_dweight) {
  check_same_shape("rms_norm_backward", "dy", dy, "x", x);
  check_same_device("rms_norm_backward", dy, x);
  Array dense = x.contiguous(), dy_dense = dy.to(x.dtype()).contiguous();
  Line w(weight, x.dtype());
  Gradients g(x, normalized_shape, need_dx, need_dweight, false);
  if (x.numel())
    norm_kernels(x.device())
        .layer_norm_backward(x.dtype(), dy_dense.bytes(), dense.bytes(), w.data(), nullptr, rstd.bytes(), g.data(g.dx),
                             g.data(g.dweight), nullptr, rows_of(x, normalized_shape));
  return g.wanted(parameter_type(weight, x));
}

namespace {

GroupShape groups_of(const Array& x, int64_t groups) {
  int64_t spatial = 1;
  for (int i = 2; i < x.ndim(); ++i) spatial *= x.size(i);
  return {x.size(0), groups, x.size(1) / groups, spatial};
}

}  // namespace

// y, mean (N, groups), rstd (N, groups). With one element a channel a group is a row of layer norm.
std::tuple<Array, Array, Array> group_norm_forward(const Array& x, int64_t groups, const std::optional<Array>& weight,
                                                   const std::optional<Array>& bias, double eps) {
  const char* op = "group_norm";
  check_floating(op, "x", x);
  check<ShapeError>(x.ndim() >= 2, op, ": x ", x, ": an (N, C, ...) array is needed");
  check<ValueError>(groups >= 1 && x.size(1) % groups == 0, op, ": x ", x, " and num_groups ", groups,
                    ": num_groups must divide the ", x.size(1), " channels");
  check_line(op, "weight", weight, x, {x.size(1)});
  check_line(op, "bias", bias, x, {x.size(1)});
  GroupShape s = groups_of(x, groups);
  Array dense = x.contiguous();
  Line w(weight, x.dtype()), b(bias, x.dtype());
  DType c = compute_type(x.dtype());
  Array y = Array::empty(x.shape(), x.dtype(), x.device());
  Array mean = Array::empty({s.N, groups}, c, x.device());
  Array rstd = Array::empty({s.N, groups}, c, x.device());
  const NormKernels& kernels = norm_kernels(x.device());
  if (x.numel() && s.S == 1)
    kernels.layer_norm_forward(x.dtype(), dense.bytes(), w.data(), b.data(), y.bytes(), mean.bytes(), rstd.bytes(),
                               {s.N * s.G, s.K, s.G}, eps);
  else if (x.numel())
    kernels.group_norm_forward(x.dtype(), dense.bytes(), w.data(), b.data(), y.bytes(), mean.bytes(), rstd.bytes(), s,
                               eps);
  return {y, mean, rstd};
}

std::vector<Array> group_norm_backward(const Array& dy, const Array& x, int64_t groups,
                                       const std::optional<Array>& weight, const Array& mean, const Array& rstd,
                                       bool need_dx, bool need_dweight, bool need_dbias) {
  check_same_shape("group_norm_backward", "dy", dy, "x", x);
  check_same_device("group_norm_backward", dy, x);
  GroupShape s = groups_of(x, groups);
  Array dense = x.contiguous(), dy_dense = dy.to(x.dtype()).contiguous();
  Line w(weight, x.dtype());
  Gradients g(x, {x.size(1)}, need_dx, need_dweight, need_dbias);
  const NormKernels& kernels = norm_kernels(x.device());
  if (x.numel() && s.S == 1)
    kernels.layer_norm_backward(x.dtype(), dy_dense.bytes(), dense.bytes(), w.data(), mean.bytes(), rstd.bytes(),
                                g.data(g.dx), g.data(g.dweight), g.data(g.dbias), {s.N * s.G, s.K, s.G});
  else if (x.numel())
    kernels.group_norm_backward(x.dtype(), dy_dense.bytes(), dense.bytes(), w.data(), mean.bytes(), rstd.bytes(),
                                g.data(g.dx), g.data(g.dweight), g.data(g.dbias), s);
  return g.wanted(parameter_type(weight, x));
}

namespace {

BatchShape batch_of(const Array& x) {
  int64_t spatial = 1;
  for (int i = 2; i < x.ndim(); ++i) spatial *= x.size(i);
  return {x.size(0), x.size(1), spatial};
}

void check_batch_norm(const Array& x, const std::optional<Array>& weight, const std::optional<Array>& bias,
                      const std::optional<Array>& running_mean, const std::optional<Array>& running_var) {
  const char* op = "batch_norm";
  check_floating(op, "x", x);
  check<ShapeError>(x.ndim() >= 2, op, ": x ", x, ": an (N, C, ...) array is needed");
  Dims channels{x.size(1)};
  check_line(op, "weight", weight, x, channels);
  check_line(op, "bias", bias, x, channels);
  check_line(op, "running_mean", running_mean, x, channels);
  check_line(op, "running_var", running_var, x, channels);
}

void update(const Array& running, const Array& batch, double momentum, double factor) {
  // Running statistics are a model's buffers, dense; a strided view of one is updated through a copy.
  Array dense = running.contiguous();
  Array stat = batch.to(compute_type(running.dtype()));
  norm_kernels(running.device())
      .update_running(running.dtype(), dense.bytes(), stat.bytes(), running.numel(), momentum, factor);
  if (dense.bytes() != running.bytes()) copy(running, dense);
  bump_version(running);
}

}  // namespace

// Statistics from the batch: y, mean, rstd. Running ones, where given, become (1 - momentum) old + momentum new, the
// variance unbiased.
std::tuple<Array, Array, Array> batch_norm_forward(const Array& x, const std::optional<Array>& weight,
                                                   const std::optional<Array>& bias,
                                                   const std::optional<Array>& running_mean,
                                                   const std::optional<Array>& running_var, double momentum,
                                                   double eps) {
  check_batch_norm(x, weight, bias, running_mean, running_var);
  BatchShape s = batch_of(x);
  check<ValueError>(s.N * s.S != 1, "batch_norm: x ", x,
                    ": more than one value per channel is needed to take statistics from the batch");
  Array dense = x.contiguous();
  Line w(weight, x.dtype()), b(bias, x.dtype());
  DType c = compute_type(x.dtype());
  Array y = Array::empty(x.shape(), x.dtype(), x.device());
  Array mean = Array::zeros({s.C}, c, x.device());
  Array var = Array::zeros({s.C}, c, x.device());
  Array rstd = Array::zeros({s.C}, c, x.device());
  if (!x.numel()) return {y, mean, rstd};
  norm_kernels(x.device())
      .batch_norm_forward(x.dtype(), dense.bytes(), w.data(), b.data(), y.bytes(), mean.bytes(), var.bytes(),
                          rstd.bytes(), s, eps, true);
  double count = double(s.N) * double(s.S);
  if (running_mean) update(*running_mean, mean, momentum, 1);
  if (running_var) update(*running_var, var, momentum, count / (count - 1));
  return {y, mean, rstd};
}

// Fixed statistics: y, and mean and rstd as the kernels read them, for backward.
std::tuple<Array, Array, Array> batch_norm_eval(const Array& x, const std::optional<Array>& weight,
                                                const std::optional<Array>& bias, const Array& running_mean,
                                                const Array& running_var, double eps) {
  check_batch_norm(x, weight, bias, running_mean, running_var);
  Array dense = x.contiguous();
  Line w(weight, x.dtype()), b(bias, x.dtype());
  DType c = compute_type(x.dtype());
  Array y = Array::empty(x.shape(), x.dtype(), x.device());
  Array mean = running_mean.to(c).contiguous(), var = running_var.to(c).contiguous();
  Array rstd = Array::empty(var.shape(), c, x.device());
  norm_kernels(x.device()).reciprocal_root(c, var.bytes(), rstd.bytes(), var.numel(), eps);
  if (x.numel())
    norm_kernels(x.device())
        .batch_norm_forward(x.dtype(), dense.bytes(), w.data(), b.data(), y.bytes(), mean.bytes(), nullptr,
                            rstd.bytes(), batch_of(x), eps, false);
  return {y, mean, rstd};
}

std::vector<Array> batch_norm_backward(const Array& dy, const Array& x, const std::optional<Array>& weight,
                                       const Array& mean, const Array& rstd, bool training, bool need_dx,
                                       bool need_dweight, bool need_dbias) {
  check_same_shape("batch_norm_backward", "dy", dy, "x", x);
  check_same_device("batch_norm_backward", dy, x);
  Array dense = x.contiguous(), dy_dense = dy.to(x.dtype()).contiguous();
  Line w(weight, x.dtype());
  Gradients g(x, {x.size(1)}, need_dx, need_dweight, need_dbias);
  if (x.numel())
    norm_kernels(x.device())
        .batch_norm_backward(x.dtype(), dy_dense.bytes(), dense.bytes(), w.data(), mean.bytes(), rstd.bytes(),
                             g.data(g.dx), g.data(g.dweight), g.data(g.dbias), batch_of(x), training);
  return g.wanted(parameter_type(weight, x));
}

void bind_norm(pybind11::module_& m) {
  python::def<&layer_norm_forward>(m, "layer_norm_forward", {"x", "normalized_shape", "weight", "bias", "eps"});
  python::def<&layer_norm_backward>(
      m, "layer_norm_backward",
      {"dy", "x", "normalized_shape", "weight", "mean", "rstd", "need_dx", "need_dweight", "need_dbias"});
  python::def<&rms_norm_forward>(m, "rms_norm_forward", {"x", "normalized_shape", "weight", "eps"});
  python::def<&rms_norm_backward>(m, "rms_norm_backward",
                                  {"dy", "x", "normalized_shape", "weight", "rstd", "need_dx", "need_dweight"});
  python::def<&group_norm_forward>(m, "group_norm_forward", {"x", "groups", "weight", "bias", "eps"});
  python::def<&group_norm_backward>(
      m, "group_norm_backward",
      {"dy", "x", "groups", "weight", "mean", "rstd", "need_dx", "need_dweight", "need_dbias"});
  python::def<&batch_norm_forward>(m, "batch_norm_forward",
                                   {"x", "weight", "bias", "running_mean", "running_var", "momentum", "eps"});
  python::def<&batch_norm_eval>(m, "batch_norm_eval", {"x", "weight", "bias", "running_mean", "running_var", "eps"});
  python::def<&batch_norm_backward>(
      m, "batch_norm_backward",
      {"dy", "x", "weight", "mean", "rstd", "training", "need_dx", "need_dweight", "need_dbias"});
}

}  // namespace gg
