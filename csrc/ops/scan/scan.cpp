#include "ops/scan/scan.h"

#include "python/bind.h"

namespace gg {
namespace {

// x as dense (outer, n, inner) around one axis; a 0-d array has one element.
struct Around {
  Array x;
  int64_t outer = 1, n = 1, inner = 1;

  Around(const char* op, const Array& input, int64_t dim) : x(input.contiguous()) {
    int d = check_dim(op, dim, x.ndim());
    for (int i = 0; i < d; ++i) outer *= x.size(i);
    if (x.ndim() > 0) n = x.size(d);
    for (int i = d + 1; i < x.ndim(); ++i) inner *= x.size(i);
  }
};

Array scan(const char* op, Scan kind, const Array& x, int64_t dim, bool reverse) {
  if (!is_floating(x.dtype()) && x.dtype() != DType::Int64) return scan(op, kind, x.to(DType::Int64), dim, reverse);
  Around a(op, x, dim);
  Array y = Array::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() > 0)
    scan_kernels(x.device()).scan(kind, x.dtype(), a.x.bytes(), y.bytes(), a.outer, a.n, a.inner, reverse);
  return y;
}

// Whole numbers and bool give int64.
Array cumsum(const Array& x, int64_t dim, bool reverse) { return scan("cumsum", Scan::Sum, x, dim, reverse); }
Array cumprod(const Array& x, int64_t dim) { return scan("cumprod", Scan::Prod, x, dim, false); }
Array logcumsumexp(const Array& x, int64_t dim) {
  check_floating("logcumsumexp", "input", x);
  return scan("logcumsumexp", Scan::LogSumExp, x, dim, false);
}

std::pair<Array, Array> extremum(const char* op, const Array& x, int64_t dim, bool largest) {
  Around a(op, x, dim);
  Array values = Array::empty(x.shape(), x.dtype(), x.device());
  Array indices = Array::empty(x.shape(), DType::Int64, x.device());
  if (x.numel() > 0)
    scan_kernels(x.device())
        .extremum(x.dtype(), largest, a.x.bytes(), values.bytes(), indices.data<int64_t>(), a.outer, a.n, a.inner);
  return {values, indices};
}
std::pair<Array, Array> cummax(const Array& x, int64_t dim) { return extremum("cummax", x, dim, true); }
std::pair<Array, Array> cummin(const Array& x, int64_t dim) { return extremum("cummin", x, dim, false); }

Array linear_scan(const Array& a, const Array& b, int64_t dim, bool reverse) {
  check_floating("linear_scan", "b", b);
  check_same_device("linear_scan", a, b);
  check_same_dtype("linear_scan", "a", a, "b", b);
  check_same_shape("linear_scan", "a", a, "b", b);
  Around around("linear_scan", a, dim);
  Array bc = b.contiguous(), y = Array::empty(b.shape(), b.dtype(), b.device());
  if (b.numel() > 0)
    scan_kernels(b.device())
        .linear(b.dtype(), around.x.bytes(), bc.bytes(), y.bytes(), around.outer, around.n, around.inner, reverse);
  return y;
}

}  // namespace

void bind_scan(pybind11::module_& m) {
  python::def<&cumsum>(m, "cumsum", {"input", "dim", "reverse"});
  python::def<&cumprod>(m, "cumprod", {"input", "dim"});
  python::def<&logcumsumexp>(m, "logcumsumexp", {"input", "dim"});
  python::def<&cummax>(m, "cummax", {"input", "dim"});
  python::def<&cummin>(m, "cummin", {"input", "dim"});
  python::def<&linear_scan>(m, "linear_scan", {"a", "b", "dim", "reverse"});
}

}  // namespace gg
