// Fronts of sort.h. Rows run along the last axis: other axes are moved there and back.
#include "ops/sort/sort.h"

#include "core/check.h"
#include "ops/layout/layout.h"
#include "python/bind.h"

namespace gg {
namespace {

// x with axis dim last, dense; an array without axes is a row of one.
struct Rows {
  Array x;
  int dim;
  int64_t rows, n;
  Rows(const char* op, const Array& input, int64_t dim_given) : dim(check_dim(op, dim_given, input.ndim())) {
    x = input.ndim() ? move_axis(input, dim, input.ndim() - 1).contiguous() : input;
    n = input.ndim() ? input.size(dim) : 1;
    rows = 1;
    for (int i = 0; i < input.ndim(); ++i) rows *= i == dim ? 1 : input.size(i);
  }
  static Array move_axis(const Array& a, int from, int to) {
    Dims shape = a.shape(), strides = a.strides();
    int64_t size = shape[from], stride = strides[from];
    shape.erase(from);
    strides.erase(from);
    shape.insert(to, size);
    strides.insert(to, stride);
    return a.view(shape, strides);
  }
  Array empty(int64_t length, DType dtype) const {
    Dims shape = x.shape();
    if (shape.n) shape[shape.n - 1] = length;
    return Array::empty(shape, dtype, x.device());
  }
  Array back(const Array& y) const { return y.ndim() ? move_axis(y, y.ndim() - 1, dim).contiguous() : y; }
  Array back_without(const Array& y) const {  // for results of one per row
    if (!y.ndim()) return y;
    Dims shape = y.shape();
    shape.erase(shape.n - 1);
    return y.view(shape, contiguous_strides(shape));
  }
};

std::pair<Array, Array> sort(const Array& x, int64_t dim, bool descending) {
  Rows r("sort", x, dim);
  Array values = r.empty(r.n, x.dtype()), order = r.empty(r.n, DType::Int64);
  if (x.numel())
    sort_kernels(x.device())
        .sort(x.dtype(), r.x.bytes(), values.bytes(), order.data<int64_t>(), r.rows, r.n, descending);
  return {r.back(values), r.back(order)};
}

std::pair<Array, Array> topk(const Array& x, int64_t k, int64_t dim, bool largest) {
  Rows r("topk", x, dim);
  check<ValueError>(k >= 0 && k <= r.n, "topk: k ", k, " is out of range for axis ", r.dim, " of x ", x,
                    ", which has size ", r.n);
  Array values = r.empty(k, x.dtype()), order = r.empty(k, DType::Int64);
  if (values.numel())
    sort_kernels(x.device())
        .topk(x.dtype(), r.x.bytes(), values.bytes(), order.data<int64_t>(), r.rows, r.n, k, largest);
  return {r.back(values), r.back(order)};
}

// One element of each row, without the axis.
template <class Kernel>
std::pair<Array, Array> pick_one(const char* op, const Array& x, int64_t dim, const Kernel& kernel) {
  Rows r(op, x, dim);
  check<IndexError>(r.n > 0 || r.rows == 0, op, ": axis ", r.dim, " of x ", x, " is empty");
  Array values = r.empty(1, x.dtype()), order = r.empty(1, DType::Int64);
  if (values.numel()) kernel(r, values, order);
  return {r.back_without(values), r.back_without(order)};
}

std::pair<Array, Array> kthvalue(const Array& x, int64_t k, int64_t dim) {
  return pick_one("kthvalue", x, dim, [&](const Rows& r, const Array& values, const Array& order) {
    check<ValueError>(k >= 1 && k <= r.n, "kthvalue: k ", k, " is out of range for axis ", r.dim, " of x ", x,
                      "; it must be in [1, ", r.n, "]");
    sort_kernels(x.device())
        .kth(x.dtype(), r.x.bytes(), values.bytes(), order.data<int64_t>(), r.rows, r.n, k - 1, NanRule::Greatest);
  });
}

std::pair<Array, Array> median(const Array& x, int64_t dim, bool skip_nan) {
  return pick_one("median", x, dim, [&](const Rows& r, const Array& values, const Array& order) {
    sort_kernels(x.device())
        .kth(x.dtype(), r.x.bytes(), values.bytes(), order.data<int64_t>(), r.rows, r.n, -1,
             skip_nan ? NanRule::Skip : NanRule::First);
  });
}

std::pair<Array, Array> mode(const Array& x, int64_t dim) {
  return pick_one("mode", x, dim, [&](const Rows& r, const Array& values, const Array& order) {
    sort_kernels(x.device()).mode(x.dtype(), r.x.bytes(), values.bytes(), order.data<int64_t>(), r.rows, r.n);
  });
}

// The distinct elements of flat x, or its distinct slices along dim; the number of each element's value; counts.
std::tuple<Array, std::optional<Array>, std::optional<Array>> unique(const Array& x, std::optional<int64_t> dim,
                                                                     bool sorted, bool want_inverse, bool want_counts) {
  const char* op = sorted ? "unique" : "unique_consecutive";
  Array rows = x.contiguous();
  Dims inverse_shape = x.shape(), slice;
  int d = 0;
  if (dim) {
    d = check_dim(op, *dim, x.ndim());
    if (x.ndim()) rows = Rows::move_axis(x, d, 0).contiguous();
    slice = rows.shape();
    if (slice.n) slice.erase(0);
    inverse_shape = x.ndim() ? Dims{x.size(d)} : Dims{1};
  }
  const int64_t m = product(slice), n = product(inverse_shape);
  check<ValueError>(m > 0 || n == 0, op, ": the slices of x ", x, " along axis ", d, " are empty");
  const SortKernels& kernels = sort_kernels(x.device());
  Array order, run = Array::empty({n}, DType::Int64, x.device()), source = rows;
  const bool by_order = sorted && m > 1;
  if (sorted) {
    order = Array::empty({n}, DType::Int64, x.device());
    if (by_order) {
      kernels.sort_rows(x.dtype(), rows.bytes(), n, m, order.data<int64_t>());
    } else if (n) {
      source = Array::empty({n}, x.dtype(), x.device());
      kernels.sort(x.dtype(), rows.bytes(), source.bytes(), order.data<int64_t>(), 1, n, false);
    }
  }
  const int64_t* runs = run.data<int64_t>();
  const int64_t count = kernels.mark_runs(x.dtype(), source.bytes(), n, m, by_order ? order.data<int64_t>() : nullptr,
                                          run.data<int64_t>());
  Dims shape = slice;
  shape.insert(0, count);
  Array values = Array::empty(shape, x.dtype(), x.device());
  const int64_t bytes = m * item_size(x.dtype());
  for (int64_t i = 0; i < n; ++i)
    if (i == 0 || runs[i] != runs[i - 1])
      memcpy(values.bytes() + runs[i] * bytes, source.bytes() + (by_order ? order.data<int64_t>()[i] : i) * bytes,
             size_t(bytes));
  std::optional<Array> inverse, counts;
  if (want_inverse) {
    inverse = Array::empty(inverse_shape, DType::Int64, x.device());
    for (int64_t i = 0; i < n; ++i) inverse->data<int64_t>()[sorted ? order.data<int64_t>()[i] : i] = runs[i];
  }
  if (want_counts) {
    counts = Array::zeros({count}, DType::Int64, x.device());
    for (int64_t i = 0; i < n; ++i) ++counts->data<int64_t>()[runs[i]];
  }
  if (dim && x.ndim()) values = Rows::move_axis(values, 0, d).contiguous();
  return {values, inverse, counts};
}

Array searchsorted(const std::string& op, const Array& sorted, const Operand& values, bool int32, bool right,
                   const std::optional<Array>& sorter) {
  const Array& v = values.array;
  check<ShapeError>(sorted.ndim() > 0, op, ": the sorted sequence ", sorted, " needs at least one axis");
  const int64_t n = sorted.size(sorted.ndim() - 1);
  const bool shared = sorted.ndim() == 1;
  if (!shared) {
    bool same = v.ndim() == sorted.ndim();
    for (int i = 0; same && i + 1 < v.ndim(); ++i) same = v.size(i) == sorted.size(i);
    check<ShapeError>(same, op, ": sorted sequence ", sorted, " and values ", v,
                      " must agree on all axes but the last");
  }
  Array through;
  if (sorter) {
    check_same_shape(op.c_str(), "sorted sequence", sorted, "sorter", *sorter);
    check<DTypeError>(sorter->dtype() == DType::Int64, op, ": sorter ", *sorter, " must be int64");
    through = sorter->contiguous();
    for (int64_t i = 0; i < through.numel(); ++i)
      check<IndexError>(through.data<int64_t>()[i] >= 0 && through.data<int64_t>()[i] < n, op, ": sorter index ",
                        through.data<int64_t>()[i], " is out of bounds for size ", n);
  }
  const DType common = result_type(sorted, v);
  Array a = sorted.to(common).contiguous(), x = v.to(common).contiguous();
  Array out = Array::empty(v.shape(), DType::Int64, v.device());
  const int64_t m = shared ? v.numel() : v.size(v.ndim() - 1), rows = shared ? 1 : sorted.numel() / (n ? n : 1);
  if (out.numel())
    sort_kernels(a.device())
        .search(common, a.bytes(), sorter ? through.data<int64_t>() : nullptr, x.bytes(), out.data<int64_t>(),
                shared ? 1
                : n    ? rows
                       : v.numel() / m,
                n, m, shared, right);
  return int32 ? out.to(DType::Int32) : out;
}

Array isin(const Operand& elements, const Operand& test_elements, bool invert) {
  const Array &x = elements.array, &test = test_elements.array;
  const DType common = result_type(x, test);
  Array from = x.to(common).contiguous(), among = test.to(common).contiguous();
  const int64_t n = among.numel();
  Array sorted = Array::empty({n}, common, x.device()), order = Array::empty({n}, DType::Int64, x.device());
  if (n) sort_kernels(x.device()).sort(common, among.bytes(), sorted.bytes(), order.data<int64_t>(), 1, n, false);
  Array out = Array::empty(x.shape(), DType::Bool, x.device());
  if (out.numel())
    sort_kernels(x.device()).contains(common, sorted.bytes(), n, from.bytes(), out.data<bool>(), out.numel(), invert);
  return out;
}

}  // namespace

void bind_sort(pybind11::module_& m) {
  python::def<&sort>(m, "sort", {"x", "dim", "descending"});
  python::def<&topk>(m, "topk", {"x", "k", "dim", "largest"});
  python::def<&kthvalue>(m, "kthvalue", {"x", "k", "dim"});
  python::def<&median>(m, "median", {"x", "dim", "skip_nan"});
  python::def<&mode>(m, "mode", {"x", "dim"});
  python::def<&unique>(m, "unique", {"x", "dim", "sorted", "want_inverse", "want_counts"});
  python::def<&searchsorted>(m, "searchsorted", {"op", "sorted", "values", "int32", "right", "sorter"});
  python::def<&isin>(m, "isin", {"elements", "test_elements", "invert"});
}

}  // namespace gg
