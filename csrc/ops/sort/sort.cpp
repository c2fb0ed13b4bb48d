// Fronts of sort.h. Rows run along the last axis: other axes are moved there and back.
#include "ops/sort/sort.h"

#include "core/check.h"
#include "core/make_loop.h"
#include "ops/creation/creation.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/index/index.h"
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

// Rows of a dense x, m items each, in the order that index names; their number is index's.
Array take_rows(const Array& x, int64_t n, int64_t m, const Array& index) {
  const int64_t count = index.numel(), *at = index.data<int64_t>();
  Array offsets = Array::empty({count}, DType::Int64, x.device());
  Array y = Array::empty({count * m}, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const IndexKernels& kernels = index_kernels(x.device());
  kernels.index_offsets(1, &at, &n, &m, false, count, offsets.data<int64_t>());
  kernels.index_read(item_size(x.dtype()), x.bytes(), y.bytes(),
                     Places{1, count, m, 0, 1, offsets.data<int64_t>(), n * m});
  return y;
}

// begin[r] = the first i with run[i] = r, for runs 0 ... count - 1, and at the end n, the length of run.
Array run_begins(const Array& run, int64_t count) {
  Array numbers = Array::empty({count + 1}, DType::Int64, run.device()), begin = numbers.clone();
  creation_kernels(run.device()).arange_int(DType::Int64, numbers.bytes(), count + 1, 0, 1);
  sort_kernels(run.device())
      .search(DType::Int64, run.bytes(), nullptr, numbers.bytes(), begin.data<int64_t>(), 1, run.numel(), count + 1,
              true, false);
  return begin;
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
  const int64_t* by = by_order ? order.data<int64_t>() : nullptr;
  const int64_t count = n ? kernels.mark_runs(x.dtype(), source.bytes(), n, m, by, run.data<int64_t>()) : 0;
  Dims shape = slice;
  shape.insert(0, count);
  const Array begin = run_begins(run, count), first = begin.view({count}, {1});
  Array values = take_rows(source, n, m, by_order ? take_rows(order, n, 1, first) : first);
  values = values.view(shape, contiguous_strides(shape));
  std::optional<Array> inverse, counts;
  if (want_inverse) {
    inverse = sorted ? Array::empty(inverse_shape, DType::Int64, x.device())
                     : run.view(inverse_shape, contiguous_strides(inverse_shape));
    if (sorted && n)
      index_kernels(x.device())
          .index_fold(Fold::Write, DType::Int64, inverse->bytes(), run.bytes(), false,
                      Places{1, n, 1, 0, 1, order.data<int64_t>(), n});
  }
  if (want_counts) {
    counts = Array::empty({count}, DType::Int64, x.device());
    const Array next = begin.view({count}, {1}, 1);
    const double no_parameters[kMaxParams] = {};
    if (count)
      elementwise_kernels(x.device())
          .binary(Binary::Sub, DType::Int64, make_loop<3>({&*counts, &next, &first}), 0, no_parameters);
  }
  if (dim && x.ndim()) values = Rows::move_axis(values, 0, d).contiguous();
  return {values, inverse, counts};
}

Array searchsorted(const std::string& op, const Array& sorted, const Operand& values, bool int32, bool right,
                   const std::optional<Array>& sorter) {
  const Array v = values.array.beside(sorted.device());
  check_same_device(op.c_str(), sorted, v);
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
    check_same_device(op.c_str(), sorted, *sorter);
    check_same_shape(op.c_str(), "sorted sequence", sorted, "sorter", *sorter);
    check<DTypeError>(sorter->dtype() == DType::Int64, op, ": sorter ", *sorter, " must be int64");
    through = sorter->contiguous();
    int64_t bad = embedding_kernels(through.device()).find_bad_row(through.data<int64_t>(), through.numel(), n);
    if (bad >= 0)
      throw IndexError(message(op, ": sorter index ", through.item_int(bad), " is out of bounds for size ", n));
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
  const Device device = elements.array.device() != Device{} ? elements.array.device() : test_elements.array.device();
  const Array x = elements.array.beside(device), test = test_elements.array.beside(device);
  check_same_device("isin", x, test);
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
