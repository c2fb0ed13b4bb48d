// Fronts of index.h: views, advanced indexing, gather and scatter, masks, histogram.
// Every index is checked before anything is written.
#include "ops/index/index.h"

#include <cmath>

#include "core/check.h"
#include "core/make_loop.h"
#include "ops/layout/layout.h"
#include "python/bind.h"

namespace gg {
namespace {

// An index expression of integers, slices, None and Ellipsis only, which gives a view; Python's own objects taken
// apart.
struct BasicKey {
  enum Kind { Select, NewAxis, Slice, Rest };
  struct Item {
    Kind kind;
    int64_t start, stop, step;
  };
  bool basic = true;  // false: it holds something else
  int n = 0;
  Item items[2 * kMaxDims];
};

}  // namespace

namespace python {

template <> struct From<BasicKey> {
  static int64_t bound(PyObject* o, int64_t otherwise) {
    if (o == Py_None) return otherwise;
    if (!PyIndex_Check(o))
      throw DTypeError(std::string("index: slice bounds must be integers or None, not ") + Py_TYPE(o)->tp_name);
    PyObject* index = PyNumber_Index(o);
    if (!index) throw pybind11::error_already_set();
    int overflow;
    int64_t value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    return overflow ? (overflow > 0 ? INT64_MAX : -INT64_MAX) : value;
  }
  static void push(BasicKey& key, PyObject* o) {
    check<IndexError>(key.n < 2 * kMaxDims, "index: more than ", 2 * kMaxDims, " entries in an index");
    BasicKey::Item& item = key.items[key.n++];
    if (PyLong_Check(o) && !PyBool_Check(o)) {
      item = {BasicKey::Select, bound(o, 0), 0, 0};
    } else if (PySlice_Check(o)) {
      PySliceObject* slice = reinterpret_cast<PySliceObject*>(o);
      item = {BasicKey::Slice, bound(slice->start, 0), bound(slice->stop, INT64_MAX), bound(slice->step, 1)};
    } else if (o == Py_None) {
      item.kind = BasicKey::NewAxis;
    } else if (o == Py_Ellipsis) {
      item.kind = BasicKey::Rest;
    } else {
      key.basic = false;
    }
  }
  static BasicKey from(PyObject* o, const Where&) {
    BasicKey key;
    if (!PyTuple_Check(o)) {
      push(key, o);
    } else {
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o) && key.basic; ++i) push(key, PyTuple_GET_ITEM(o, i));
    }
    return key;
  }
};

}  // namespace python

namespace {

bool is_basic_key(const BasicKey& key) { return key.basic; }

// Axes as one axis, where they lie evenly in memory.
bool merge_axes(const Dims& shape, const Dims& strides, int64_t* size, int64_t* stride) {
  *size = product(shape);
  *stride = 1;
  if (*size == 0) return true;
  *size = 1;
  bool first = true;
  for (int i = shape.n - 1; i >= 0; --i) {
    if (shape[i] == 1) continue;
    if (first)
      *stride = strides[i];
    else if (strides[i] != *stride * *size)
      return false;
    *size *= shape[i];
    first = false;
  }
  return true;
}

int64_t extent_of(const Array& x) {
  int64_t last = 0;
  for (int i = 0; i < x.ndim(); ++i) last += (x.size(i) > 0 ? x.size(i) - 1 : 0) * x.strides()[i];
  return last + 1;
}

// What an advanced index picks: see index.h.
struct Pick {
  Places places{};
  Dims shape;     // of the result
  Array offsets;  // the memory of places.offsets
};

// The offsets of all elements of an array of this shape, in row-major order.
Array all_offsets(const Dims& shape, const Dims& strides, Device device) {
  Array out = Array::empty({product(shape)}, DType::Int64);
  int64_t* to = out.data<int64_t>();
  int64_t made = 1;
  to[0] = 0;
  // Axis by axis, each offset made so far becomes a run of them; from the back, so that none is overwritten.
  for (int d = 0; d < shape.n; ++d) {
    for (int64_t i = made - 1; i >= 0; --i)
      for (int64_t k = shape[d] - 1; k >= 0; --k) to[i * shape[d] + k] = to[i] + k * strides[d];
    made *= shape[d];
  }
  return out.to_device(device);
}

Array as_index(const std::string& op, const Array& index) {
  check<DTypeError>(index.dtype() == DType::Int64 || index.dtype() == DType::Int32, op, ": index ", index,
                    " must be int64 or int32; convert it with .long()");
  return index.to(DType::Int64);
}

// Indices may lie on the CPU beside any x: a list in Python is such an index.
Pick pick(const std::string& op, const Array& x, const Dims& axes, const std::vector<Array>& indices, bool wrap) {
  const int count = int(indices.size());
  check<IndexError>(count > 0 && count == axes.n, op, ": ", count, " indices for ", axes.n, " axes");
  Dims picked;
  for (const Array& index : indices) {
    if (index.device() != Device{}) check_same_device(op.c_str(), x, index);
    Dims both;
    if (!broadcast_shapes(picked, index.shape(), &both)) {
      std::string shapes;
      for (const Array& each : indices) shapes += (shapes.empty() ? "" : ", ") + describe(each.shape());
      throw IndexError(message(op, ": the index shapes ", shapes, " do not broadcast together"));
    }
    picked = both;
  }
  bool adjacent = true;
  for (int k = 0; k < count; ++k) {
    check<IndexError>(axes[k] >= 0 && axes[k] < x.ndim(), op, ": too many indices for x ", x);
    adjacent &= k == 0 || axes[k] == axes[k - 1] + 1;
  }
  // Kept axes before and after the picked ones; indices apart from each other move their result to the front.
  Dims before, before_strides, after, after_strides;
  for (int d = 0, k = 0; d < x.ndim(); ++d) {
    if (k < count && axes[k] == d) {
      ++k;
    } else if (adjacent && k == 0) {
      before.push(x.size(d));
      before_strides.push(x.strides()[d]);
    } else {
      after.push(x.size(d));
      after_strides.push(x.strides()[d]);
    }
  }
  check<IndexError>(before.n + picked.n + after.n <= kMaxDims, op, ": the result would have more than ", kMaxDims,
                    " axes");
  Pick p;
  for (int64_t size : before) p.shape.push(size);
  for (int64_t size : picked) p.shape.push(size);
  for (int64_t size : after) p.shape.push(size);
  check_shape(op.c_str(), p.shape, x.dtype());
  Places& places = p.places;
  places.n = product(picked);
  // Axes that do not lie evenly in memory join the offsets, all but the longest inner run.
  const bool even = merge_axes(before, before_strides, &places.outer, &places.outer_stride);
  Dims ragged, ragged_strides;
  while (!merge_axes(after, after_strides, &places.inner, &places.inner_stride)) {
    ragged.push(after[0]);
    ragged_strides.push(after_strides[0]);
    after.erase(0);
    after_strides.erase(0);
  }
  std::vector<Array> dense(static_cast<size_t>(count));
  const int64_t* data[kMaxDims];
  int64_t sizes[kMaxDims], strides[kMaxDims];
  for (int k = 0; k < count; ++k) {
    dense[k] = as_index(op, indices[k]).to_device(x.device()).expand(picked).contiguous();
    data[k] = dense[k].data<int64_t>();
    sizes[k] = x.size(int(axes[k]));
    strides[k] = x.strides()[int(axes[k])];
  }
  p.offsets = Array::empty({places.n}, DType::Int64, x.device());
  places.offsets = p.offsets.data<int64_t>();
  places.extent = extent_of(x);
  int64_t bad =
      index_kernels(x.device()).index_offsets(count, data, sizes, strides, wrap, places.n, p.offsets.data<int64_t>());
  if (bad >= 0) {
    int k = int(bad / places.n);
    throw IndexError(message(op, ": index ", dense[k].item_int(bad % places.n), " is out of bounds for axis ", axes[k],
                             " of x ", x, ", which has size ", sizes[k],
                             wrap ? "" : "; negative indices are not taken here"));
  }
  if ((!even || ragged.n) && product(p.shape)) {
    Array first = all_offsets(even ? Dims{} : before, even ? Dims{} : before_strides, x.device());
    Array last = all_offsets(ragged, ragged_strides, x.device());
    Array all = Array::empty({first.numel() * places.n * last.numel()}, DType::Int64, x.device());
    index_kernels(x.device())
        .combine_offsets(first.data<int64_t>(), first.numel(), places.offsets, places.n, last.data<int64_t>(),
                         last.numel(), all.data<int64_t>());
    if (!even) places.outer = 1;
    places.n = all.numel();
    places.offsets = all.data<int64_t>();
    p.offsets = all;
  }
  return p;
}

// x as the values of a write: cast, broadcast to shape, dense, and apart from the memory that is written.
Array as_values(const std::string& op, const Array& given, const Array& x, const Dims& shape) {
  Dims both;
  Array v = given.beside(x.device());
  check_same_device(op.c_str(), x, v);
  check<ShapeError>(broadcast_shapes(v.shape(), shape, &both) && both == shape, op, ": value ", v,
                    " does not broadcast to the indexed shape ", shape);
  if (v.numel() == 1) return v.to(x.dtype());
  Array values = v.to(x.dtype()).expand(shape);
  bool shared = values.storage() == x.storage();
  return shared ? values.clone() : values.contiguous();
}

// Halves are folded in float32 and rounded once.
template <class F> void in_compute_type(const Array& x, Fold fold, const F& f) {
  if (fold == Fold::Write || fold >= Fold::Max || !is_half(x.dtype())) return f(x);
  Array wide = x.to(DType::Float32);
  f(wide);
  copy(x, wide);
}

Array index_get(const std::string& op, const Array& x, const Dims& axes, const std::vector<Array>& indices, bool wrap) {
  Pick p = pick(op, x, axes, indices, wrap);
  Array y = Array::empty(p.shape, x.dtype(), x.device());
  if (y.numel()) index_kernels(x.device()).index_read(item_size(x.dtype()), x.bytes(), y.bytes(), p.places);
  return y;
}

void index_put(const std::string& op, const Array& x, const Dims& axes, const std::vector<Array>& indices,
               const Array& v, bool wrap, Fold fold) {
  in_compute_type(x, fold, [&](const Array& to) {
    Pick p = pick(op, to, axes, indices, wrap);
    Array values = as_values(op, v, to, p.shape);
    if (product(p.shape) == 0) return;
    index_kernels(x.device()).index_fold(fold, to.dtype(), to.bytes(), values.bytes(), values.numel() == 1, p.places);
  });
}

// An array without axes takes part in ops along an axis as one of a single element.
Array with_axis(const Array& x) { return x.ndim() ? x : x.view({1}, {1}); }

// The view of x that a basic key gives.
Array index_view(const Array& x, const BasicKey& key) {
  check<IndexError>(key.basic, "index: a view takes integers, slices, None and Ellipsis only");
  Dims shape, strides;
  int64_t offset = 0;
  int axis = 0, used = 0, rests = 0;
  for (int i = 0; i < key.n; ++i) {
    used += key.items[i].kind == BasicKey::Select || key.items[i].kind == BasicKey::Slice;
    rests += key.items[i].kind == BasicKey::Rest;
  }
  check<IndexError>(rests <= 1, "index: an index can only have a single ellipsis ('...')");
  check<IndexError>(used <= x.ndim(), "index: too many indices (", used, ") for x ", x);
  auto push = [&](int64_t size, int64_t stride) {
    check<IndexError>(shape.n < kMaxDims, "index: the result would have more than ", kMaxDims, " axes");
    shape.push(size);
    strides.push(stride);
  };
  for (int i = 0; i < key.n; ++i) {
    const BasicKey::Item& item = key.items[i];
    if (item.kind == BasicKey::NewAxis) {
      push(1, 1);
    } else if (item.kind == BasicKey::Rest) {
      for (int left = x.ndim() - used; left > 0; --left, ++axis) push(x.size(axis), x.strides()[axis]);
    } else if (item.kind == BasicKey::Select) {
      const int64_t size = x.size(axis), at = item.start;
      check<IndexError>(at >= -size && at < size, "index: index ", at, " is out of bounds for axis ", axis, " of x ", x,
                        ", which has size ", size);
      offset += (at < 0 ? at + size : at) * x.strides()[axis++];
    } else {
      const int64_t size = x.size(axis), step = item.step;
      check<ValueError>(step > 0, "index: slice step ", step, " on axis ", axis,
                        " must be positive; flip the axis with .flip(", axis, ")");
      int64_t start = item.start < 0 ? item.start + size : item.start;
      int64_t stop = item.stop < 0 ? item.stop + size : item.stop;
      start = start < 0 ? 0 : start > size ? size : start;
      stop = stop < start ? start : stop > size ? size : stop;
      offset += start * x.strides()[axis];
      push((stop - start) / step + ((stop - start) % step != 0), x.strides()[axis++] * step);
    }
  }
  for (; axis < x.ndim(); ++axis) push(x.size(axis), x.strides()[axis]);
  return x.view(shape, strides, product(shape) == 0 ? 0 : offset);
}

// x's part named by a key, then by indices, is folded with v.
void index_assign_(const std::string& op, const Array& x, const BasicKey& key, const Dims& axes,
                   const std::vector<Array>& indices, const Operand& v, bool wrap, int64_t fold) {
  Array view = index_view(x, key);
  if (indices.empty()) {
    Array value = v.array;
    while (value.ndim() > view.ndim() && value.size(0) == 1) {  // leading axes of one are dropped, as numpy does
      Dims shape = value.shape(), strides = value.strides();
      shape.erase(0);
      strides.erase(0);
      value = value.view(shape, strides);
    }
    Dims both;
    check<ShapeError>(broadcast_shapes(value.shape(), view.shape(), &both) && both == view.shape(), op, ": value ",
                      v.array, " does not broadcast to the indexed shape ", view.shape());
    copy(view, value);
  } else {
    index_put(op, view, axes, indices, v.array, wrap, Fold(fold));
  }
  bump_version(x);
}

Array index_assign(const std::string& op, const Array& x, const BasicKey& key, const Dims& axes,
                   const std::vector<Array>& indices, const Operand& v, bool wrap, int64_t fold) {
  Array y = x.clone();
  index_assign_(op, y, key, axes, indices, v, wrap, fold);
  return y;
}

// Zeros of a shape with dy in the part that a key names, or summed at the places that indices name.
Array index_spread(const std::string& op, const Array& dy, const Dims& shape, const BasicKey& key, const Dims& axes,
                   const std::vector<Array>& indices, bool wrap) {
  Array dx = Array::zeros(shape, dy.dtype(), dy.device());
  if (indices.empty())
    copy(index_view(dx, key), dy);
  else
    index_put(op, index_view(dx, key), axes, indices, dy, wrap, Fold::Add);
  return dx;
}

// An index may be longer than x on axis dim only.
void check_index_fits(const std::string& op, const Array& x, int dim, const Array& index) {
  check_same_device(op.c_str(), x, index);
  check<ShapeError>(x.ndim() == index.ndim(), op, ": x ", x, " and index ", index,
                    " must have the same number of axes");
  for (int d = 0; d < x.ndim(); ++d)
    check<ShapeError>(d == dim || index.size(d) <= x.size(d), op, ": index ", index, " is larger than x ", x,
                      " on axis ", d, "; only axis ", dim, " may be");
}

[[noreturn]] void throw_bad_index(const std::string& op, const Array& x, int dim, const Array& index, int64_t bad) {
  throw IndexError(message(op, ": index ", index.item_int(bad), " is out of bounds for axis ", dim, " of x ", x,
                           ", which has size ", x.size(dim), "; negative indices are not taken here"));
}

// The indices along dim that an index expanded to x's other axes repeats: they pick whole slices, which is less work.
std::optional<Array> repeated_index(const Array& x, int dim, const Array& index) {
  if (index.ndim() != x.ndim() || index.numel() <= index.size(dim)) return {};
  for (int d = 0; d < x.ndim(); ++d)
    if (d != dim && (index.size(d) != x.size(d) || (index.size(d) > 1 && index.strides()[d] != 0))) return {};
  return index.view({index.size(dim)}, {index.strides()[dim]});
}

Array gather(const std::string& op, const Array& x, int64_t dim, const Array& index) {
  int d = check_dim(op.c_str(), dim, x.ndim());
  if (index.numel() == 0 && (x.ndim() != index.ndim() || index.dtype() != DType::Int64))
    return Array::empty(index.shape(), x.dtype(), x.device());
  Array xs = with_axis(x);
  if (std::optional<Array> row = repeated_index(xs, d, with_axis(index)))
    return index_get(op, xs, {int64_t(d)}, {*row}, false);
  Array picks = as_index(op, index).contiguous(), is = with_axis(picks);
  check_index_fits(op, xs, d, is);
  Array y = Array::empty(index.shape(), x.dtype(), x.device());
  if (y.numel() == 0) return y;
  int64_t bad = index_kernels(x.device())
                    .axis_read(item_size(x.dtype()), xs.bytes(), is.data<int64_t>(), xs.ndim(), is.shape().v,
                               xs.strides().v, d, xs.size(d), y.bytes());
  if (bad >= 0) throw_bad_index(op, xs, d, is, bad);
  return y;
}

// index with negative ones counted from the end of an axis of this size.
Array index_wrap(const std::string& op, const Array& index, int64_t axis, int64_t size) {
  Array from = as_index(op, index).contiguous(), out = Array::empty(index.shape(), DType::Int64, index.device());
  const int64_t *data = from.data<int64_t>(), step = 1;
  int64_t bad =
      index_kernels(index.device()).index_offsets(1, &data, &size, &step, true, out.numel(), out.data<int64_t>());
  check<IndexError>(bad < 0, op, ": index ", bad < 0 ? 0 : from.item_int(bad), " is out of bounds for axis ", axis,
                    ", which has size ", size);
  return out;
}

// x[.., index[e], ..] = fold(x[.., index[e], ..], src[e]), in an x that is the caller's own; src is a single item or at
// least as large as index.
void scatter_into(const std::string& op, const Array& x, int64_t dim, const Array& index, const Operand& src,
                  int64_t fold) {
  int d = check_dim(op.c_str(), dim, x.ndim());
  if (index.numel() == 0) return;
  const bool is_scalar = src.array.weak();
  check<DTypeError>(is_scalar || src.array.dtype() == x.dtype(), op, ": x ", x, " and src ", src.array,
                    ": the dtypes differ");
  const std::optional<Array> row = repeated_index(with_axis(x), d, with_axis(index));
  Array picks = row ? index : as_index(op, index).contiguous(), is = with_axis(picks);
  Array values = src.array.beside(x.device());
  check_same_device(op.c_str(), x, values);
  if (!is_scalar) {
    values = with_axis(values);
    check<ShapeError>(values.ndim() == is.ndim(), op, ": src ", src.array, " and index ", index,
                      " must have the same number of axes");
    for (int i = 0; i < is.ndim(); ++i)
      check<ShapeError>(is.size(i) <= values.size(i), op, ": index ", index, " is larger than src ", src.array,
                        " on axis ", i);
    values = values.view(is.shape(), values.strides());
    values = values.storage() == x.storage() ? values.clone() : values.contiguous();
  }
  in_compute_type(with_axis(x), Fold(fold), [&](const Array& to) {
    check_index_fits(op, to, d, is);
    const IndexKernels& kernels = index_kernels(x.device());
    Array v = values.to(to.dtype());
    if (row) {
      Pick p = pick(op, to, {int64_t(d)}, {*row}, false);
      return kernels.index_fold(Fold(fold), to.dtype(), to.bytes(), v.bytes(), is_scalar, p.places);
    }
    int64_t bad = kernels.axis_fold(Fold(fold), to.dtype(), to.bytes(), v.bytes(), is_scalar, is.data<int64_t>(),
                                    to.ndim(), is.shape().v, to.strides().v, d, to.size(d));
    if (bad >= 0) throw_bad_index(op, to, d, is, bad);
  });
}

Array scatter(const std::string& op, const Array& x, int64_t dim, const Array& index, const Operand& src,
              int64_t fold) {
  Array y = x.clone();
  scatter_into(op, y, dim, index, src, fold);
  return y;
}

// Zeros of a shape with dy added where gather would have read.
Array gather_backward(const std::string& op, const Array& dy, const Dims& shape, int64_t dim, const Array& index) {
  Array dx = Array::zeros(shape, dy.dtype(), dy.device());
  scatter_into(op, dx, dim, index, {dy}, int64_t(Fold::Add));
  return dx;
}

// What changes nothing under a reduction, as a number of x's dtype.
Array neutral(const std::string& reduce, DType dtype) {
  if (reduce == "prod") return Array::scalar_int(1, dtype);
  if (reduce != "amax" && reduce != "amin") return Array::scalar_int(0, dtype);
  const bool low = reduce == "amax";
  if (is_floating(dtype)) return Array::scalar(low ? -INFINITY : INFINITY, dtype);
  if (dtype == DType::Bool || dtype == DType::UInt8)
    return Array::scalar_int(low ? 0 : dtype == DType::Bool ? 1 : 255, dtype);
  const int bits = 8 * item_size(dtype) - 1;
  return Array::scalar_int(low ? int64_t(-1) << bits : int64_t(~(~uint64_t(0) << bits)), dtype);
}

// x combined with the src of each place: sum, prod, mean, amax or amin. Means divide a float32 or wider sum once.
Array scatter_reduce(const std::string& op, const Array& x, int64_t dim, const Array& index, const Array& src,
                     const std::string& reduce, bool include_self) {
  const bool mean = reduce == "mean";
  const Fold fold = reduce == "prod"   ? Fold::Multiply
                    : reduce == "amax" ? Fold::Max
                    : reduce == "amin" ? Fold::Min
                                       : Fold::Add;
  check_same_dtype(op.c_str(), "x", x, "src", src);
  Array y = x.clone();
  if (!include_self) {
    Array start = neutral(reduce, x.dtype());
    start.set_weak(true);
    scatter_into(op, y, dim, index, {start}, int64_t(Fold::Write));
  }
  if (mean && is_half(x.dtype())) y = y.to(DType::Float32);
  scatter_into(op, y, dim, index, {src.to(y.dtype())}, int64_t(fold));
  if (!mean) return y;
  Array one = Array::scalar_int(1, DType::Int64), none = Array::scalar_int(0, DType::Int64);
  one.set_weak(true);
  none.set_weak(true);
  Array counts = Array::empty(x.shape(), DType::Int64, x.device());
  fill(counts, one);
  if (!include_self) scatter_into(op, counts, dim, index, {none}, int64_t(Fold::Write));
  scatter_into(op, counts, dim, index, {one}, int64_t(Fold::Add));
  index_kernels(x.device()).divide_sums(y.dtype(), y.bytes(), counts.data<int64_t>(), y.numel());
  return y.to(x.dtype());
}

Array masked_fill_into(const Array& y, const Array& x, const Array& mask, const Operand& value) {
  check<ShapeError>(value.array.numel() == 1, "masked_fill: value ", value.array, " must be a single number");
  Array item = value.array.to(x.dtype()).beside(x.device()), from = x.expand(y.shape()), where = mask.expand(y.shape());
  check_same_device("masked_fill", x, item);
  index_kernels(y.device()).masked_fill(item_size(y.dtype()), make_loop<3>({&y, &from, &where}), item.bytes());
  return y;
}

Dims masked_shape(const std::string& op, const Array& x, const Array& mask) {
  check_same_device(op.c_str(), x, mask);
  check<DTypeError>(mask.dtype() == DType::Bool, op, ": mask ", mask, " must be bool; compare with != 0");
  Dims shape;
  check<ShapeError>(broadcast_shapes(x.shape(), mask.shape(), &shape), op, ": x ", x, " and mask ", mask,
                    " do not broadcast");
  return shape;
}

Array masked_fill(const Array& x, const Array& mask, const Operand& value) {
  Dims shape = masked_shape("masked_fill", x, mask);
  return masked_fill_into(Array::empty(shape, x.dtype(), x.device()), x, mask, value);
}

void masked_fill_(const Array& x, const Array& mask, const Operand& value) {
  Dims shape = masked_shape("masked_fill_", x, mask);
  check<ShapeError>(shape == x.shape(), "masked_fill_: mask ", mask, " does not broadcast to x ", x);
  masked_fill_into(x, x, mask.storage() == x.storage() ? mask.clone() : mask, value);
  bump_version(x);
}

// Running sums of the nonzero counts of x's blocks, and the total.
std::pair<Array, int64_t> nonzero_starts(const Array& dense) {
  const int64_t blocks = (dense.numel() + kNonzeroBlock - 1) / kNonzeroBlock;
  Array counts = Array::empty({blocks}, DType::Int64, dense.device());
  if (blocks)
    index_kernels(dense.device()).nonzero_count(dense.dtype(), dense.bytes(), dense.numel(), counts.data<int64_t>());
  Array starts = counts.to_device({});
  int64_t sum = 0;
  for (int64_t i = 0; i < blocks; ++i) {
    int64_t& start = starts.data<int64_t>()[i];
    int64_t count = start;
    start = sum;
    sum += count;
  }
  return {starts.to_device(dense.device()), sum};
}

// (count, ndim) coordinates, stored one axis after the other so that each column is dense.
Array nonzero(const Array& x) {
  Array dense = x.contiguous();
  const auto [starts, count] = nonzero_starts(dense);
  Array out = Array::empty({x.ndim(), count}, DType::Int64, x.device());
  if (count && x.ndim())
    index_kernels(x.device())
        .nonzero_write(x.dtype(), dense.bytes(), dense.numel(), starts.data<int64_t>(), x.ndim(), x.shape().v,
                       out.data<int64_t>(), 1, count);
  return out.transpose(0, 1);
}

// Flat row-major positions where the mask is true.
Array masked_positions(const Array& mask) {
  Array dense = mask.contiguous();
  const auto [starts, count] = nonzero_starts(dense);
  const int64_t n = dense.numel();
  Array out = Array::empty({count}, DType::Int64, mask.device());
  if (out.numel())
    index_kernels(mask.device())
        .nonzero_write(mask.dtype(), dense.bytes(), n, starts.data<int64_t>(), 1, &n, out.data<int64_t>(), 1, 0);
  return out;
}

Array masked_select(const Array& x, const Array& mask) {
  Dims shape = masked_shape("masked_select", x, mask);
  Array from = x.expand(shape).contiguous(), at = masked_positions(mask.expand(shape));
  Array y = Array::empty(at.shape(), x.dtype(), x.device());
  Places places{1, at.numel(), 1, 0, 1, at.data<int64_t>(), from.numel()};
  if (y.numel()) index_kernels(x.device()).index_read(item_size(x.dtype()), from.bytes(), y.bytes(), places);
  return y;
}

// x[mask] = the first elements of source, in order.
void masked_scatter_(const Array& x, const Array& mask, const Array& source) {
  Dims shape = masked_shape("masked_scatter", x, mask);
  check_same_device("masked_scatter", x, source);
  check<ShapeError>(shape == x.shape(), "masked_scatter: mask ", mask, " does not broadcast to x ", x);
  check<DTypeError>(source.dtype() == x.dtype(), "masked_scatter: x ", x, " and source ", source,
                    ": the dtypes differ");
  Array at = masked_positions(mask.expand(shape));
  check<ShapeError>(source.numel() >= at.numel(), "masked_scatter: source ", source,
                    " has fewer elements than the mask's ", at.numel(), " true ones");
  if (at.numel() == 0) return;
  Array values = source.storage() == x.storage() ? source.clone() : source.contiguous(), to = x.contiguous();
  Places places{1, at.numel(), 1, 0, 1, at.data<int64_t>(), to.numel()};
  index_kernels(x.device()).index_fold(Fold::Write, x.dtype(), to.bytes(), values.bytes(), false, places);
  if (!x.is_contiguous()) copy(x, to);
  bump_version(x);
}

Array masked_scatter(const Array& x, const Array& mask, const Array& source) {
  Array y = x.expand(masked_shape("masked_scatter", x, mask)).clone();
  masked_scatter_(y, mask, source);
  return y;
}

// Counts of bins of equal width over [low, high], as int64.
Array histogram(const Array& x, int64_t bins, double low, double high) {
  check<ValueError>(bins > 0, "histogram: bins must be positive, not ", bins);
  check<ValueError>(std::isfinite(low) && std::isfinite(high) && low < high, "histogram: the range [", low, ", ", high,
                    "] must be finite and increasing");
  Array dense = x.contiguous(), counts = Array::empty({bins}, DType::Int64, x.device());
  index_kernels(x.device()).histogram(x.dtype(), dense.bytes(), x.numel(), low, high, bins, counts.data<int64_t>());
  return counts;
}

}  // namespace

void bind_index(pybind11::module_& m) {
  python::def<&is_basic_key>(m, "is_basic_key", {"key"});
  python::def<&index_view>(m, "index_view", {"x", "key"});
  python::def<&index_get>(m, "index_get", {"op", "x", "axes", "indices", "wrap"});
  python::def<&index_assign>(m, "index_assign", {"op", "x", "key", "axes", "indices", "v", "wrap", "fold"});
  python::def<&index_assign_>(m, "index_assign_", {"op", "x", "key", "axes", "indices", "v", "wrap", "fold"});
  python::def<&index_spread>(m, "index_spread", {"op", "dy", "shape", "key", "axes", "indices", "wrap"});
  python::def<&index_wrap>(m, "index_wrap", {"op", "index", "axis", "size"});
  python::def<&gather>(m, "gather", {"op", "x", "dim", "index"});
  python::def<&gather_backward>(m, "gather_backward", {"op", "dy", "shape", "dim", "index"});
  python::def<&scatter>(m, "scatter", {"op", "x", "dim", "index", "src", "fold"});
  python::def<&scatter_reduce>(m, "scatter_reduce", {"op", "x", "dim", "index", "src", "reduce", "include_self"});
  python::def<&masked_fill>(m, "masked_fill", {"x", "mask", "value"});
  python::def<&masked_fill_>(m, "masked_fill_", {"x", "mask", "value"});
  python::def<&masked_select>(m, "masked_select", {"x", "mask"});
  python::def<&masked_scatter>(m, "masked_scatter", {"x", "mask", "source"});
  python::def<&nonzero>(m, "nonzero", {"x"});
  python::def<&histogram>(m, "histogram", {"x", "bins", "low", "high"});
}

}  // namespace gg
