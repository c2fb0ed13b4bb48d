// Views: new shape and strides over the same elements. No kernel runs.
#include "core/check.h"
#include "ops/layout/layout.h"
#include "python/bind.h"

namespace gg {

Array slice(const Array& x, int dim, int64_t start, int64_t length, int64_t step) {
  Dims shape = x.shape(), strides = x.strides();
  shape[dim] = length;
  strides[dim] *= step;
  return x.view(shape, strides, start * x.strides()[dim]);
}

namespace {

void check_rank(const char* op, const Array& x, int64_t ndim) {
  check<ShapeError>(ndim <= kMaxDims, op, ": x ", x, " would have ", ndim, " axes; at most ", kMaxDims,
                    " are possible");
}

// shape with the size that -1 stands for.
Dims infer_shape(const char* op, const Array& x, Dims shape) {
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < shape.n; ++i) {
    if (shape[i] == -1) {
      check<ShapeError>(unknown < 0, op, ": shape ", shape, " has more than one -1; only one size can be inferred");
      unknown = i;
      continue;
    }
    check<ShapeError>(shape[i] >= 0, op, ": shape ", shape, " has a negative size; only one may be, and it must be -1");
    check<ShapeError>(!__builtin_mul_overflow(known, shape[i], &known), op, ": shape ", shape,
                      " has more elements than 64 bits can count");
  }
  if (unknown >= 0) {
    check<ShapeError>(known > 0, op, ": x ", x, " to ", shape,
                      ": -1 could be any size beside a size of 0; give it in full");
    check<ShapeError>(x.numel() % known == 0, op, ": x ", x, " to ", shape, ": ", x.numel(),
                      " elements are no multiple of ", known);
    shape[unknown] = x.numel() / known;
  }
  check<ShapeError>(unknown >= 0 || known == x.numel(), op, ": x ", x, " has ", x.numel(), " elements, shape ", shape,
                    " has ", known, "; a size of -1 is inferred");
  return shape;
}

bool reshape_is_view(const Array& x, const Dims& shape) {
  Dims strides;
  return x.can_view(infer_shape("reshape", x, shape), &strides);
}

void check_view(const Array& x, const Dims& shape) {
  Dims sizes = infer_shape("view", x, shape), strides;
  check<ShapeError>(x.can_view(sizes, &strides), "view: x ", x, " with strides ", x.strides(), " cannot be seen as ",
                    sizes, " without a copy: its axes do not lie evenly in memory; use reshape, or contiguous first");
}

// A view where strides allow it, else a dense copy.
Array reshape(const Array& x, const Dims& shape) { return x.reshaped(infer_shape("reshape", x, shape)); }

Array view_dtype(const Array& x, DType dtype) {
  int from = item_size(x.dtype()), to = item_size(dtype);
  Dims shape = x.shape(), strides = x.strides();
  if (from != to) {
    int last = shape.n - 1;
    check<ShapeError>(
        shape.n > 0 && strides[last] == 1, "view: x ", x, " as ", dtype,
        ": the item sizes differ, so the last axis must exist and lie densely in memory; use contiguous first");
    bool fits = from > to || shape[last] * from % to == 0;
    for (int i = 0; i < last && from < to; ++i) fits = fits && strides[i] * from % to == 0;
    fits = fits && x.bytes() - static_cast<char*>(x.storage()->data) >= 0 &&
           (x.bytes() - static_cast<char*>(x.storage()->data)) % to == 0;
    check<ShapeError>(fits, "view: x ", x, " with strides ", x.strides(), " as ", dtype,
                      ": the last axis and the strides must be multiples of ", to / from, " elements");
    shape[last] = shape[last] * from / to;
    for (int i = 0; i < last; ++i) strides[i] = strides[i] * from / to;
  }
  x.storage()->refs.fetch_add(1);
  return Array::adopt(x.storage(), x.bytes(), shape, strides, dtype);
}

Array transpose(const Array& x, int64_t dim0, int64_t dim1) {
  int a = check_dim("transpose", dim0, x.ndim()), b = check_dim("transpose", dim1, x.ndim());
  return x.ndim() == 0 ? x.view({}, {}) : x.transpose(a, b);
}

Array permute(const Array& x, const Dims& dims) {
  check<ShapeError>(dims.n == x.ndim(), "permute: x ", x, " has ", x.ndim(), " axes, dims ", dims, " names ", dims.n,
                    "; each axis must be named once");
  bool seen[kMaxDims] = {};
  Dims shape = x.shape(), strides = x.strides();
  for (int i = 0; i < dims.n; ++i) {
    int d = check_dim("permute", dims[i], x.ndim());
    check<ShapeError>(!seen[d], "permute: dims ", dims, " names axis ", d, " twice; each axis must be named once");
    seen[d] = true;
    shape[i] = x.size(d);
    strides[i] = x.strides()[d];
  }
  return x.view(shape, strides);
}

// x with the axis source[i] moved to destination[i]; the others keep their order.
Array movedim(const Array& x, const Dims& source, const Dims& destination) {
  check<ShapeError>(source.n == destination.n, "movedim: source ", source, " and destination ", destination,
                    " must name as many axes");
  int from[kMaxDims];
  bool moved[kMaxDims] = {}, taken[kMaxDims] = {};
  for (int i = 0; i < x.ndim(); ++i) from[i] = -1;
  for (int i = 0; i < source.n; ++i) {
    int s = check_dim("movedim", source[i], x.ndim()), d = check_dim("movedim", destination[i], x.ndim());
    check<ShapeError>(!moved[s] && !taken[d], "movedim: source ", source, " and destination ", destination,
                      " must not name an axis twice");
    moved[s] = taken[d] = true;
    from[d] = s;
  }
  if (x.ndim() == 0) return x.view({}, {});
  Dims dims;
  for (int i = 0, next = 0; i < x.ndim(); ++i) {
    if (from[i] < 0) {
      while (moved[next]) ++next;
      from[i] = next++;
    }
    dims.push(from[i]);
  }
  return permute(x, dims);
}

Array expand(const Array& x, const Dims& shape) {
  int lead = shape.n - x.ndim();
  check<ShapeError>(lead >= 0, "expand: x ", x, " has more axes than shape ", shape,
                    "; name every axis, -1 keeps a size");
  Dims sizes = shape;
  for (int i = 0; i < shape.n; ++i) {
    if (i >= lead && shape[i] == -1) sizes[i] = x.size(i - lead);
    check<ShapeError>(sizes[i] >= 0 && (i < lead || sizes[i] == x.size(i - lead) || x.size(i - lead) == 1),
                      "expand: x ", x, " to ", shape, ": axis ", i, " cannot become ", shape[i],
                      i < lead ? "; a new axis needs its size" : "; only axes of size 1 stretch, and -1 keeps a size");
  }
  check_shape("expand", sizes, x.dtype());
  return x.expand(sizes);
}

Array squeeze(const Array& x, const std::optional<Dims>& dims) {
  bool wanted[kMaxDims] = {};
  if (dims) {
    for (int64_t dim : *dims) {
      int d = check_dim("squeeze", dim, x.ndim());
      check<ShapeError>(!wanted[d], "squeeze: dim ", d, " appears more than once in ", *dims);
      wanted[d] = true;
    }
  }
  Dims shape, strides;
  for (int i = 0; i < x.ndim(); ++i) {
    if (x.size(i) == 1 && (!dims || wanted[i])) continue;
    shape.push(x.size(i));
    strides.push(x.strides()[i]);
  }
  return x.view(shape, strides);
}

Array unsqueeze(const Array& x, int64_t dim) {
  check_rank("unsqueeze", x, x.ndim() + 1);
  int d = check_dim("unsqueeze", dim, x.ndim() + 1);
  Dims shape = x.shape(), strides = x.strides();
  strides.insert(d, d < x.ndim() ? shape[d] * strides[d] : 1);
  shape.insert(d, 1);
  return x.view(shape, strides);
}

// length elements of an axis from start on, each step after the one before.
Array narrow(const Array& x, int64_t dim, int64_t start, int64_t length, int64_t step) {
  check<ShapeError>(x.ndim() > 0, "narrow: x ", x, " has no axis to narrow");
  int d = check_dim("narrow", dim, x.ndim());
  int64_t n = x.size(d), from = start < 0 ? start + n : start;
  check<IndexError>(from >= 0 && from <= n, "narrow: start ", start, " is out of range for axis ", d, " of x ", x,
                    "; it must be in [", -n, ", ", n, "]");
  check<ValueError>(length >= 0 && step > 0, "narrow: length ", length, " must not be negative");
  check<ShapeError>(length == 0 || (length - 1 <= (n - from) / step && (length - 1) * step < n - from),
                    "narrow: ", length, " elements from ", from, " on do not fit axis ", d, " of x ", x, "; at most ",
                    (n - from + step - 1) / step, " do");
  return slice(x, d, from, length, step);
}

// Consecutive parts of an axis. op: whom a message should name.
std::vector<Array> split(const Array& x, const std::vector<int64_t>& sizes, int64_t dim, const std::string& op) {
  check<ShapeError>(x.ndim() > 0, op, ": x ", x, " has no axis to split");
  int d = check_dim(op.c_str(), dim, x.ndim());
  int64_t at = 0;
  bool fits = true;
  for (int64_t n : sizes) fits = fits && n >= 0 && !__builtin_add_overflow(at, n, &at);
  check<ShapeError>(fits && at == x.size(d), op, ": the sizes must not be negative and sum to ", x.size(d),
                    ", the size of axis ", d, " of x ", x, "; they sum to ", at);
  std::vector<Array> parts;
  parts.reserve(sizes.size());
  at = 0;
  for (int64_t n : sizes) {
    parts.push_back(slice(x, d, at, n));
    at += n;
  }
  return parts;
}

std::vector<Array> unbind(const Array& x, int64_t dim) {
  check<ShapeError>(x.ndim() > 0, "unbind: x ", x, " has no axis to unbind");
  int d = check_dim("unbind", dim, x.ndim());
  Dims shape = x.shape(), strides = x.strides();
  shape.erase(d);
  strides.erase(d);
  std::vector<Array> parts;
  parts.reserve(size_t(x.size(d)));
  for (int64_t i = 0; i < x.size(d); ++i) parts.push_back(x.view(shape, strides, i * x.strides()[d]));
  return parts;
}

Array select(const Array& x, int64_t dim, int64_t index) {
  check<IndexError>(x.ndim() > 0, "select: x ", x, " has no axis to select from");
  int d = check_dim("select", dim, x.ndim());
  int64_t n = x.size(d);
  check<IndexError>(index >= -n && index < n, "select: index ", index, " is out of range for axis ", d, " of x ", x,
                    "; it must be in [", -n, ", ", n - 1, "]");
  Dims shape = x.shape(), strides = x.strides();
  shape.erase(d);
  strides.erase(d);
  return x.view(shape, strides, (index < 0 ? index + n : index) * x.strides()[d]);
}

Array diagonal(const Array& x, int64_t offset, int64_t dim1, int64_t dim2) {
  check<ShapeError>(x.ndim() >= 2, "diagonal: x ", x, " has ", x.ndim(), " axes; at least 2 are needed");
  int a = check_dim("diagonal", dim1, x.ndim()), b = check_dim("diagonal", dim2, x.ndim());
  check<ShapeError>(a != b, "diagonal: dim1 ", dim1, " and dim2 ", dim2, " are the same axis of x ", x);
  int64_t rows = x.size(a), cols = x.size(b);
  int64_t length = offset >= 0 ? (offset < cols ? cols - offset : 0) : (-offset < rows ? rows + offset : 0);
  if (length > (offset >= 0 ? rows : cols)) length = offset >= 0 ? rows : cols;
  Dims shape, strides;
  for (int i = 0; i < x.ndim(); ++i) {
    if (i == a || i == b) continue;
    shape.push(x.size(i));
    strides.push(x.strides()[i]);
  }
  shape.push(length);
  strides.push(x.strides()[a] + x.strides()[b]);
  int64_t start = length == 0 ? 0 : offset >= 0 ? offset * x.strides()[b] : -offset * x.strides()[a];
  return x.view(shape, strides, start);
}

// Windows of size elements, step apart, along an axis; the elements of a window become the last axis.
Array unfold(const Array& x, int64_t dimension, int64_t size, int64_t step) {
  int d = check_dim("unfold", dimension, x.ndim());
  int64_t n = x.ndim() == 0 ? 1 : x.size(d), stride = x.ndim() == 0 ? 1 : x.strides()[d];
  check<ValueError>(size >= 0 && step > 0, "unfold: size ", size, " must not be negative and step ", step,
                    " must be positive");
  check<ShapeError>(size <= n, "unfold: windows of ", size, " do not fit axis ", d, " of x ", x, ", which has ", n);
  check_rank("unfold", x, x.ndim() + 1);
  Dims shape = x.shape(), strides = x.strides();
  if (x.ndim() > 0) {
    shape[d] = (n - size) / step + 1;
    strides[d] = stride * step;
  }
  shape.push(size);
  strides.push(stride);
  return x.view(shape, strides);
}

int64_t storage_offset(const Array& x) {
  return (x.bytes() - static_cast<char*>(x.storage()->data)) / item_size(x.dtype());
}

Array as_strided(const Array& x, const Dims& size, const Dims& stride, std::optional<int64_t> offset) {
  check<ShapeError>(size.n == stride.n, "as_strided: size ", size, " and stride ", stride, " must be of equal length");
  check_shape("as_strided", size, x.dtype());
  int64_t start = offset.value_or(storage_offset(x)), last = start;
  check<ValueError>(start >= 0, "as_strided: storage_offset ", start, " must not be negative");
  for (int i = 0; i < size.n; ++i) {
    check<ValueError>(stride[i] >= 0, "as_strided: stride ", stride, " has a negative entry; use flip for the reverse");
    int64_t reach;
    bool fits = size[i] == 0 || (!__builtin_mul_overflow(size[i] - 1, stride[i], &reach) &&
                                 !__builtin_add_overflow(last, reach, &last));
    check<ShapeError>(fits, "as_strided: size ", size, " with stride ", stride,
                      " reaches further than 64 bits can count");
  }
  int64_t held = int64_t(x.storage()->bytes) / item_size(x.dtype());
  check<ShapeError>(product(size) == 0 || last < held, "as_strided: size ", size, " with stride ", stride,
                    " from offset ", start, " reaches element ", last, " of a storage of ", held);
  return x.view(size, stride, product(size) == 0 ? 0 : start - storage_offset(x));
}

}  // namespace

void bind_views(pybind11::module_& m) {
  python::def<&reshape_is_view>(m, "reshape_is_view", {"x", "shape"});
  python::def<&reshape>(m, "reshape", {"x", "shape"});
  python::def<&check_view>(m, "check_view", {"x", "shape"});
  python::def<&view_dtype>(m, "view_dtype", {"x", "dtype"});
  python::def<&transpose>(m, "transpose", {"x", "dim0", "dim1"});
  python::def<&permute>(m, "permute", {"x", "dims"});
  python::def<&movedim>(m, "movedim", {"x", "source", "destination"});
  python::def<&expand>(m, "expand", {"x", "shape"});
  python::def<&squeeze>(m, "squeeze", {"x", "dims"});
  python::def<&unsqueeze>(m, "unsqueeze", {"x", "dim"});
  python::def<&narrow>(m, "narrow", {"x", "dim", "start", "length", "step"});
  python::def<&split>(m, "split", {"x", "sizes", "dim", "op"});
  python::def<&unbind>(m, "unbind", {"x", "dim"});
  python::def<&select>(m, "select", {"x", "dim", "index"});
  python::def<&diagonal>(m, "diagonal", {"x", "offset", "dim1", "dim2"});
  python::def<&unfold>(m, "unfold_windows", {"x", "dimension", "size", "step"});
  python::def<&storage_offset>(m, "storage_offset", {"x"});
  python::def<&as_strided>(m, "as_strided", {"x", "size", "stride", "storage_offset"});
}

}  // namespace gg
