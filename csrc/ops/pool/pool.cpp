// Fronts of pooling: x (N, C, spatial...) or (C, spatial...), one to three spatial axes.
#include "ops/pool/pool.h"

#include "core/array.h"
#include "core/check.h"
#include "ops/conv/attributes.h"
#include "python/bind.h"

namespace gg {
namespace {

std::string op_name(const char* stem, int64_t nd) { return message(stem, nd, "d"); }

void check_input(const std::string& op, const Array& x, int nd) {
  check<ShapeError>(x.ndim() == nd + 1 || x.ndim() == nd + 2, op, ": input ", x, " has ", x.ndim(), " axes; ", nd + 1,
                    " or ", nd + 2, " are needed");
  for (int i = x.ndim() - nd - (x.ndim() == nd + 2); i < x.ndim(); ++i)
    check<ShapeError>(x.size(i) > 0, op, ": input ", x, " may be empty along its batch axis only");
}

// The leading axes of x with other spatial sizes.
Dims with_sizes(const Array& x, int nd, const Dims& sizes) {
  Dims d = x.shape();
  for (int i = 0; i < nd; ++i) d[x.ndim() - nd + i] = sizes[i];
  return d;
}

// Planes and spatial sizes, the axes that nd lacks filled with 1.
PoolShape plane_shape(const Array& x, int nd, const Dims& out) {
  PoolShape s;
  s.planes = 1;
  for (int i = 0; i < x.ndim() - nd; ++i) s.planes *= x.size(i);
  for (int i = 0; i < 3; ++i) {
    const int j = i - (3 - nd);
    s.in[i] = j < 0 ? 1 : x.size(x.ndim() - nd + j);
    s.out[i] = j < 0 ? 1 : out[j];
    s.kernel[i] = s.stride[i] = s.dilation[i] = 1;
    s.pad[i] = 0;
  }
  return s;
}

// Sizes of windows into the last nd axes of a shape. An empty stride means kernel_size.
void set_windows(const std::string& op, int nd, const Dims& kernel_size, const Dims& stride_size, const Dims& padding,
                 const Dims& dilation_size, PoolShape* s) {
  const Dims kernel = per_axis(op, "kernel_size", kernel_size, nd, 1);
  const Dims stride = stride_size.n == 0 ? kernel : per_axis(op, "stride", stride_size, nd, 1);
  const Dims pad = per_axis(op, "padding", padding, nd, 0), dilation = per_axis(op, "dilation", dilation_size, nd, 1);
  for (int i = 0; i < nd; ++i) {
    const int j = i + 3 - nd;
    s->kernel[j] = kernel[i];
    s->stride[j] = stride[i];
    s->pad[j] = pad[i];
    s->dilation[j] = dilation[i];
  }
}

struct Sliding {
  PoolShape shape;
  Dims out;  // the result's shape
};

Sliding sliding(const std::string& op, const Array& x, int64_t nd, const Dims& kernel_size, const Dims& stride,
                const Dims& padding, const Dims& dilation, bool ceil_mode) {
  const int n = int(nd);
  check_input(op, x, n);
  PoolShape windows;
  set_windows(op, n, kernel_size, stride, padding, dilation, &windows);
  Dims sizes;
  for (int i = 0; i < n; ++i) {
    const int j = i + 3 - n;
    const int64_t in = x.size(x.ndim() - n + i), span = windows.dilation[j] * (windows.kernel[j] - 1) + 1,
                  pad = windows.pad[j], step = windows.stride[j];
    check<ValueError>(pad <= span / 2, op, ": padding ", padding, " is more than half of kernel_size ", kernel_size);
    const int64_t room = in + 2 * pad - span + (ceil_mode ? step - 1 : 0);
    check<ShapeError>(room >= 0, op, ": input ", x, ": axis ", x.ndim() - n + i, " has size ", in + 2 * pad,
                      " after padding, the window spans ", span);
    int64_t out = room / step + 1;
    if (ceil_mode && (out - 1) * step >= in + pad) --out;  // the last window must begin inside
    sizes.push(out);
  }
  Sliding s{plane_shape(x, n, sizes), with_sizes(x, n, sizes)};
  set_windows(op, n, kernel_size, stride, padding, dilation, &s.shape);
  return s;
}

Sliding adaptive(const std::string& op, const Array& x, int64_t nd, const Dims& output_size) {
  check_floating(op.c_str(), "input", x);
  check_input(op, x, int(nd));
  check<ValueError>(output_size.n == nd, op, ": output_size ", output_size, " has ", output_size.n, " numbers; ", nd,
                    " are needed");
  for (int64_t v : output_size) check<ValueError>(v >= 0, op, ": output_size ", output_size, " must be at least 0");
  const Dims out = with_sizes(x, int(nd), output_size);
  check_shape(op.c_str(), out, x.dtype());
  return {plane_shape(x, int(nd), output_size), out};
}

int64_t spatial(const Array& x, int64_t nd) {
  int64_t n = 1;
  for (int i = x.ndim() - int(nd); i < x.ndim(); ++i) n *= x.size(i);
  return n;
}

int64_t planes(const Array& x, int64_t nd) {
  int64_t n = 1;
  for (int i = 0; i < x.ndim() - int(nd); ++i) n *= x.size(i);
  return n;
}

// Kernels of float32 count places in 32 bits.
void check_places(const std::string& op, const Array& x, int64_t nd) {
  check<ValueError>(spatial(x, nd) < (int64_t(1) << 31), op, ": input ", x, " has more than 2^31 elements per channel");
}

}  // namespace

// index_bytes: 0 for no indices, 4 or 8.
std::pair<Array, std::optional<Array>> max_pool_forward(const Array& x, int64_t nd, const Dims& kernel_size,
                                                        const Dims& stride, const Dims& padding, const Dims& dilation,
                                                        bool ceil_mode, int64_t index_bytes) {
  const std::string op = op_name("max_pool", nd);
  check<DTypeError>(x.dtype() != DType::Bool, op, ": input ", x, " must be a number; convert it with .float()");
  const Sliding s = sliding(op, x, nd, kernel_size, stride, padding, dilation, ceil_mode);
  check_places(op, x, nd);
  const bool whole = !is_floating(x.dtype());
  const Array xc = whole ? x.to(DType::Int64).contiguous() : x.contiguous();
  Array y = Array::empty(s.out, xc.dtype(), x.device());
  std::optional<Array> index;
  if (index_bytes) index = Array::empty(s.out, index_bytes == 4 ? DType::Int32 : DType::Int64, x.device());
  if (y.numel() > 0)
    pool_kernels(x.device())
        .max_pool_forward(xc.dtype(), s.shape, xc.bytes(), y.bytes(), index ? index->dtype() : DType::Int32,
                          index ? index->bytes() : nullptr);
  return {whole ? y.to(x.dtype()) : y, index};
}

std::pair<Array, Array> adaptive_max_pool_forward(const Array& x, int64_t nd, const Dims& output_size,
                                                  int64_t index_bytes) {
  const std::string op = op_name("adaptive_max_pool", nd);
  const Sliding s = adaptive(op, x, nd, output_size);
  check_places(op, x, nd);
  Array y = Array::empty(s.out, x.dtype(), x.device());
  Array index = Array::empty(s.out, index_bytes == 4 ? DType::Int32 : DType::Int64, x.device());
  if (y.numel() == 0) return {y, index};
  const Array xc = x.contiguous();
  pool_kernels(x.device())
      .adaptive_max_pool_forward(x.dtype(), s.shape, xc.bytes(), y.bytes(), index.dtype(), index.bytes());
  return {y, index};
}

// y[plane, o] = x[plane, index[plane, o]]
Array pool_gather(const Array& x, int64_t nd, const Array& index) {
  check_same_device("max_pool", x, index);
  Array y = Array::empty(index.shape(), x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const Array xc = x.contiguous(), ic = index.contiguous();
  pool_kernels(x.device())
      .pool_gather(x.dtype(), planes(x, nd), spatial(x, nd), spatial(index, nd), xc.bytes(), ic.dtype(), ic.bytes(),
                   y.bytes());
  return y;
}

// The adjoint: x of the given shape, zero but for x[plane, index[plane, o]] += y[plane, o]. kernel: none where indices
// lie anywhere, empty where in adaptive windows.
Array pool_scatter(const Array& y, int64_t nd, const Array& index, const Dims& shape, const std::optional<Dims>& kernel,
                   const Dims& stride, const Dims& padding, const Dims& dilation) {
  check_same_device("max_pool", y, index);
  if (y.numel() == 0) return Array::zeros(shape, y.dtype(), y.device());
  Array x = Array::empty(shape, y.dtype(), y.device());
  const Array yc = y.contiguous(), ic = index.contiguous();
  PoolShape windows;
  if (kernel) {
    Dims out;
    for (int i = y.ndim() - int(nd); i < y.ndim(); ++i) out.push(y.size(i));
    windows = plane_shape(x, int(nd), out);
    if (kernel->n)
      set_windows(op_name("max_pool", nd), int(nd), *kernel, stride, padding, dilation, &windows);
    else
      windows.kernel[0] = windows.kernel[1] = windows.kernel[2] = 0;
  }
  pool_kernels(y.device())
      .pool_scatter(y.dtype(), planes(x, nd), spatial(x, nd), spatial(y, nd), yc.bytes(), ic.dtype(), ic.bytes(),
                    x.bytes(), kernel ? &windows : nullptr);
  return x;
}

Array max_unpool_forward(const Array& y, int64_t nd, const Array& index, const Dims& output_size) {
  const std::string op = op_name("max_unpool", nd);
  check_input(op, y, int(nd));
  check_same_device(op.c_str(), y, index);
  check<DTypeError>(index.dtype() == DType::Int64, op, ": indices ", index, " must be int64");
  check<ShapeError>(y.shape() == index.shape(), op, ": input ", y, " and indices ", index, ": the shapes differ");
  check<ValueError>(output_size.n == nd, op, ": output_size ", output_size, " has ", output_size.n, " numbers; ", nd,
                    " are needed");
  const Dims shape = with_sizes(y, int(nd), output_size);
  check_shape(op.c_str(), shape, y.dtype());
  Array x = Array::empty(shape, y.dtype(), y.device());
  const Array yc = y.contiguous(), ic = index.contiguous();
  const bool ok = pool_kernels(y.device())
                      .max_unpool_forward(item_size(y.dtype()), planes(x, nd), spatial(x, nd), spatial(y, nd),
                                          yc.bytes(), ic.data<int64_t>(), x.bytes());
  check<IndexError>(ok, op, ": indices ", index, " hold a place outside of the output (", spatial(x, nd),
                    " elements per channel)");
  return x;
}

Array avg_pool_forward(const Array& x, int64_t nd, const Dims& kernel_size, const Dims& stride, const Dims& padding,
                       bool ceil_mode, bool count_include_pad, std::optional<int64_t> divisor_override) {
  const std::string op = op_name("avg_pool", nd);
  check<DTypeError>(is_floating(x.dtype()) || x.dtype() == DType::Int64, op, ": input ", x,
                    " must be floating point or int64; convert it with .float()");
  const Sliding s = sliding(op, x, nd, kernel_size, stride, padding, {1}, ceil_mode);
  check<ValueError>(!divisor_override || *divisor_override != 0, op, ": divisor_override must not be zero");
  Array y = Array::empty(s.out, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const Array xc = x.contiguous();
  pool_kernels(x.device())
      .avg_pool_forward(x.dtype(), s.shape, {count_include_pad, divisor_override.value_or(0)}, xc.bytes(), y.bytes());
  return y;
}

Array avg_pool_backward(const Array& dy, const Dims& shape, int64_t nd, const Dims& kernel_size, const Dims& stride,
                        const Dims& padding, bool ceil_mode, bool count_include_pad,
                        std::optional<int64_t> divisor_override) {
  const std::string op = op_name("avg_pool", nd);
  Array dx = Array::empty(shape, dy.dtype(), dy.device());
  const Sliding s = sliding(op, dx, nd, kernel_size, stride, padding, {1}, ceil_mode);
  check<ShapeError>(dy.shape() == s.out, op, ": gradient ", dy, " does not belong to an input ", shape);
  if (dx.numel() == 0) return dx;
  const Array dyc = dy.contiguous();
  pool_kernels(dy.device())
      .avg_pool_backward(dy.dtype(), s.shape, {count_include_pad, divisor_override.value_or(0)}, dyc.bytes(),
                         dx.bytes());
  return dx;
}

Array adaptive_avg_pool_forward(const Array& x, int64_t nd, const Dims& output_size) {
  const Sliding s = adaptive(op_name("adaptive_avg_pool", nd), x, nd, output_size);
  Array y = Array::empty(s.out, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const Array xc = x.contiguous();
  pool_kernels(x.device()).adaptive_avg_pool_forward(x.dtype(), s.shape, xc.bytes(), y.bytes());
  return y;
}

Array adaptive_avg_pool_backward(const Array& dy, int64_t nd, const Dims& shape) {
  if (dy.numel() == 0) return Array::zeros(shape, dy.dtype(), dy.device());
  Array dx = Array::empty(shape, dy.dtype(), dy.device());
  Dims out;
  for (int i = dy.ndim() - int(nd); i < dy.ndim(); ++i) out.push(dy.size(i));
  const Array dyc = dy.contiguous();
  pool_kernels(dy.device())
      .adaptive_avg_pool_backward(dy.dtype(), plane_shape(dx, int(nd), out), dyc.bytes(), dx.bytes());
  return dx;
}

void bind_pool(pybind11::module_& m) {
  python::def<&max_pool_forward>(
      m, "max_pool_forward",
      {"input", "nd", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "index_bytes"});
  python::def<&adaptive_max_pool_forward>(m, "adaptive_max_pool_forward",
                                          {"input", "nd", "output_size", "index_bytes"});
  python::def<&pool_gather>(m, "pool_gather", {"x", "nd", "index"});
  python::def<&pool_scatter>(m, "pool_scatter",
                             {"y", "nd", "index", "shape", "kernel_size", "stride", "padding", "dilation"});
  python::def<&max_unpool_forward>(m, "max_unpool_forward", {"input", "nd", "indices", "output_size"});
  python::def<&avg_pool_forward>(
      m, "avg_pool_forward",
      {"input", "nd", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"});
  python::def<&avg_pool_backward>(
      m, "avg_pool_backward",
      {"dy", "shape", "nd", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"});
  python::def<&adaptive_avg_pool_forward>(m, "adaptive_avg_pool_forward", {"input", "nd", "output_size"});
  python::def<&adaptive_avg_pool_backward>(m, "adaptive_avg_pool_backward", {"dy", "nd", "shape"});
}

}  // namespace gg
