#include "ops/layout/layout.h"

#include "core/backend.h"
#include "core/check.h"
#include "core/make_loop.h"
#include "python/bind.h"

namespace gg {
namespace {

// out = in of one shape, known not to overlap.
void copy_apart(const Array& out, const Array& in) {
  if (out.numel() > 0) layout_kernels(out.device()).copy(make_loop<2>({&out, &in}));
}

// x backwards along an axis: a negative stride, which only a copy's input may have.
Array backwards(const Array& x, int dim) {
  Dims strides = x.strides();
  strides[dim] = -strides[dim];
  return x.view(x.shape(), strides, (x.size(dim) - 1) * x.strides()[dim]);
}

// The bytes of a dense array to one of the same shape and dtype on another device.
void move_bytes(const Array& out, const Array& in) {
  const size_t bytes = size_t(in.numel()) * item_size(in.dtype());
  const Device from = in.device(), to = out.device();
  if (from.type == to.type)
    backend(to).copy_within(out.bytes(), in.bytes(), bytes);
  else if (from.type == DeviceType::Cpu)
    backend(to).copy_in(out.bytes(), in.bytes(), bytes);
  else if (to.type == DeviceType::Cpu)
    backend(from).copy_out(out.bytes(), in.bytes(), bytes);
  else
    move_bytes(out, in.to_device({}));
}

// out = in of another device. What moves is dense and of the smaller dtype; a number of the CPU is a launch's argument.
void copy_across(const Array& out, const Array& in) {
  if (in.numel() == 1 && in.device().type == DeviceType::Cpu) return fill(out, in.view({}, {}));
  Array source = item_size(out.dtype()) < item_size(in.dtype()) ? in.to(out.dtype()) : in;
  source = source.contiguous();
  const bool lands = out.is_contiguous() && out.shape() == source.shape() && out.dtype() == source.dtype();
  Array there = lands ? out : Array::empty(source.shape(), source.dtype(), out.device());
  move_bytes(there, source);
  if (!lands) copy(out, there);
}

}  // namespace

void copy(const Array& out, const Array& in) {
  Dims shape;
  check<ShapeError>(broadcast_shapes(out.shape(), in.shape(), &shape) && shape == out.shape(), "copy: x ", in,
                    " does not broadcast to the destination ", out);
  if (out.numel() == 0) return;
  if (out.device() != in.device()) return copy_across(out, in);
  Array source = overlaps(out, in) ? in.clone() : in;
  copy_apart(out, source.expand(out.shape()));
}

namespace {

// A number of the CPU as one element of a dtype.
void item_bits(const Array& value, DType dtype, char (&bits)[8]) {
  Loop<2> convert{};
  convert.ndim = 1;
  convert.numel = convert.shape[0] = 1;
  convert.data[0] = bits;
  convert.data[1] = value.bytes();
  convert.dtype[0] = dtype;
  convert.dtype[1] = value.dtype();
  layout_kernels(Device{}).copy(convert);
}

}  // namespace

void fill(const Array& out, const Array& value) {
  check<ShapeError>(value.ndim() == 0, "fill: value ", value, " must have no axes");
  if (out.numel() == 0) return;
  if (value.device() != Device{}) return copy(out, value);
  alignas(8) char bits[8];
  item_bits(value, out.dtype(), bits);
  layout_kernels(out.device()).fill(make_loop<1>({&out}), bits);
}

namespace {

void copy_(const Array& out, const Array& in) {
  copy(out, in);
  bump_version(out);
}

void fill_(const Array& out, const Operand& value) {
  fill(out, value.array);
  bump_version(out);
}

Array clone(const Array& x) { return x.clone(); }

Array contiguous(const Array& x) { return x.contiguous(); }

// A dense copy, converted and moved.
Array to(const Array& x, DType dtype, std::optional<Device> device) {
  Array out = Array::empty(x.shape(), dtype, device.value_or(x.device()));
  copy(out, x);
  return out;
}

// The tensors one after the other along dim, in their promoted dtype. A 1-d tensor of no elements fits anything.
Array cat(const std::vector<Array>& tensors, int64_t dim) {
  check<ShapeError>(!tensors.empty(), "cat: at least one tensor is needed");
  auto skipped = [](const Array& x) { return x.ndim() == 1 && x.size(0) == 0; };
  const Array* first = &tensors[0];
  for (const Array& x : tensors) {
    if (skipped(*first)) first = &x;
    check_same_device("cat", tensors[0], x);
  }
  DType dtype = tensors[0].dtype();
  int d = check_dim("cat", dim, first->ndim());
  Dims shape = first->shape();
  if (shape.n > 0) shape[d] = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Array& x = tensors[i];
    check<ShapeError>(x.ndim() > 0, "cat: tensor ", i, " ", x, " has no axis; use stack");
    dtype = promote(dtype, x.dtype());
    if (skipped(x)) continue;
    bool fits = x.ndim() == shape.n;
    for (int k = 0; k < shape.n && fits; ++k) fits = k == d || x.size(k) == shape[k];
    check<ShapeError>(fits, "cat: tensor ", i, " ", x, " and ", *first, ": all sizes but that of dim ", d,
                      " must agree");
    shape[d] += x.size(d);
  }
  Array out = Array::empty(shape, dtype, first->device());
  int64_t at = 0;
  for (const Array& x : tensors) {
    if (skipped(x)) continue;
    copy_apart(slice(out, d, at, x.size(d)), x);
    at += x.size(d);
  }
  return out;
}

// The tensors, all of one shape, along a new axis.
Array stack(const std::vector<Array>& tensors, int64_t dim) {
  check<ShapeError>(!tensors.empty(), "stack: at least one tensor is needed");
  const Array& first = tensors[0];
  check<ShapeError>(first.ndim() < kMaxDims, "stack: ", first, " would have more than ", kMaxDims, " axes");
  int d = check_dim("stack", dim, first.ndim() + 1);
  DType dtype = first.dtype();
  for (size_t i = 0; i < tensors.size(); ++i) {
    check_same_device("stack", first, tensors[i]);
    check<ShapeError>(tensors[i].shape() == first.shape(), "stack: tensor ", i, " ", tensors[i], " and ", first,
                      ": the shapes must be equal");
    dtype = promote(dtype, tensors[i].dtype());
  }
  Dims shape = first.shape();
  shape.insert(d, int64_t(tensors.size()));
  Array out = Array::empty(shape, dtype, first.device());
  Dims strides = out.strides();
  strides.erase(d);
  for (size_t i = 0; i < tensors.size(); ++i)
    copy_apart(out.view(first.shape(), strides, int64_t(i) * out.strides()[d]), tensors[i]);
  return out;
}

// The axes that dims names, each once; an empty list names none.
Dims distinct_dims(const char* op, const Array& x, const Dims& dims) {
  Dims out;
  bool seen[kMaxDims] = {};
  for (int64_t dim : dims) {
    int d = check_dim(op, dim, x.ndim());
    check<ShapeError>(!seen[d], op, ": dim ", d, " appears more than once in dims ", dims);
    seen[d] = true;
    out.push(d);
  }
  return out;
}

Array flip(const Array& x, const Dims& dims) {
  Dims axes = distinct_dims("flip", x, dims);
  Array out = Array::empty(x.shape(), x.dtype(), x.device());
  Array in = x;
  if (x.ndim() > 0)
    for (int64_t d : axes) in = backwards(in, int(d));
  copy_apart(out, in);
  return out;
}

// The 2^k blocks that k rolled axes cut x into move as wholes.
void roll_blocks(const Array& out, const Array& in, const Dims& shifts, int dim) {
  while (dim < in.ndim() && shifts[dim] == 0) ++dim;
  if (dim == in.ndim()) return copy_apart(out, in);
  int64_t n = in.size(dim), k = shifts[dim];
  roll_blocks(slice(out, dim, k, n - k), slice(in, dim, 0, n - k), shifts, dim + 1);
  roll_blocks(slice(out, dim, 0, k), slice(in, dim, n - k, k), shifts, dim + 1);
}

Array roll(const Array& x, const Dims& shifts, const Dims& dims) {
  check<ShapeError>(dims.n > 0 ? shifts.n == dims.n : shifts.n == 1, "roll: shifts ", shifts, " and dims ", dims,
                    " must be of equal length; without dims there is one shift, of the flattened tensor");
  if (dims.n == 0) return roll(x.reshaped({x.numel()}), shifts, {0}).view(x.shape(), contiguous_strides(x.shape()));
  Dims total = Dims::filled(x.ndim(), 0);
  for (int i = 0; i < dims.n; ++i) {
    int d = check_dim("roll", dims[i], x.ndim());
    int64_t n = x.ndim() > 0 ? x.size(d) : 0;
    if (n > 0) total[d] = ((total[d] + shifts[i] % n) % n + n) % n;
  }
  Array out = Array::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() > 0) roll_blocks(out, x, total, 0);
  return out;
}

// x seen as (1, s0, 1, s1, ...) stretches to (r0, s0, r1, s1, ...), which is the output's memory in order.
Array repeat(const Array& x, const Dims& repeats) {
  int lead = repeats.n - x.ndim();
  check<ShapeError>(lead >= 0, "repeat: x ", x, " has more axes than repeats ", repeats,
                    "; give one count for each axis");
  Dims shape, apart, in_strides;
  for (int i = 0; i < repeats.n; ++i) {
    check<ValueError>(repeats[i] >= 0, "repeat: repeats ", repeats, " has a negative count");
    int64_t size = i < lead ? 1 : x.size(i - lead), r = repeats[i], total;
    check<ValueError>(!__builtin_mul_overflow(size, r, &total), "repeat: x ", x, " by ", repeats, ": a size overflows");
    shape.push(total);
    auto axis = [&](int64_t n, int64_t stride) {
      if (n == 1) return;
      check<ShapeError>(apart.n < kMaxDims, "repeat: x ", x, " by ", repeats, " repeats too many axes at once");
      apart.push(n);
      in_strides.push(stride);
    };
    axis(r, 0);
    axis(size, i < lead ? 0 : x.strides()[i - lead]);
  }
  check_shape("repeat", shape, x.dtype());
  Array out = Array::empty(shape, x.dtype(), x.device());
  copy_apart(out.view(apart, contiguous_strides(apart)), x.view(apart, in_strides));
  return out;
}

// The index that takes element i repeats[i] times.
Array repeat_index(const Array& repeats, std::optional<int64_t> output_size) {
  check<ShapeError>(repeats.ndim() <= 1, "repeat_interleave: repeats ", repeats, " must have at most one axis");
  check_integral("repeat_interleave", "repeats", repeats);
  Array counts = repeats.to_device({}).to(DType::Int64).contiguous();
  Array ends = Array::empty(counts.shape(), DType::Int64);
  int64_t total = 0;
  for (int64_t i = 0; i < counts.numel(); ++i) {
    int64_t r = counts.data<int64_t>()[i];
    check<ValueError>(r >= 0, "repeat_interleave: repeats has the negative count ", r);
    check<ValueError>(!__builtin_add_overflow(total, r, &total), "repeat_interleave: the counts' sum overflows");
    ends.data<int64_t>()[i] = total;
  }
  check<ShapeError>(!output_size || *output_size == total, "repeat_interleave: output_size ", output_size.value_or(0),
                    " is not the counts' sum ", total);
  Array index = Array::empty({total}, DType::Int64, repeats.device());
  ends = ends.to_device(index.device());
  if (total > 0)
    layout_kernels(index.device()).repeat_index(ends.data<int64_t>(), ends.numel(), total, index.data<int64_t>());
  return index;
}

// The axes of x and of y, x between borders, and y's shape. pads counts (left, right) for the last axis first; a
// negative count crops: before a circular border is made, after one that mirrors or repeats.
PadView pad_view(const Array& x, const Dims& pads, const std::string& mode, Dims* shape) {
  PadView view;
  if (mode == "reflect")
    view.border = Border::Reflect;
  else if (mode == "replicate")
    view.border = Border::Replicate;
  else if (mode == "circular")
    view.border = Border::Circular;
  else
    view.border = Border::Constant;
  check<ValueError>(view.border != Border::Constant || mode == "constant", "pad: mode '", mode,
                    "' must be constant, reflect, replicate or circular");
  check<ShapeError>(pads.n % 2 == 0 && pads.n / 2 <= x.ndim(), "pad: x ", x, " with pad ", pads,
                    ": a pair (left, right) is needed for each of at most ", x.ndim(), " axes, the last first");
  *shape = x.shape();
  view.ndim = 0;
  bool plain = false;  // the axis before this one has no border
  for (int d = 0; d < x.ndim(); ++d) {
    const int i = x.ndim() - 1 - d;
    const int64_t n = x.size(d), left = i < pads.n / 2 ? pads[2 * i] : 0, right = i < pads.n / 2 ? pads[2 * i + 1] : 0;
    const int64_t most = left > right ? left : right;
    int64_t& out = (*shape)[d];
    const bool added = left > INT64_MIN / 4 && right > INT64_MIN / 4 && !__builtin_add_overflow(n, left, &out) &&
                       !__builtin_add_overflow(out, right, &out);
    check<ShapeError>(added && out >= 0, "pad: x ", x, " with pad ", pads, ": axis ", d, " of ", n,
                      " elements cannot be cropped by that much");
    check<ShapeError>(view.border != Border::Reflect || most <= 0 || most < n, "pad: x ", x, " with pad ", pads,
                      ": axis ", d, " of ", n, " elements has only ", n - 1, " to reflect at each end");
    check<ShapeError>(view.border != Border::Replicate || most <= 0 || n > 0, "pad: x ", x, " with pad ", pads,
                      ": axis ", d, " has no element to replicate");
    PadAxis axis{n, out, left, 0, n, x.strides()[d]};
    if (view.border == Border::Circular) {
      axis.low = left < -n ? n : left < 0 ? -left : 0;
      axis.high = right < axis.low - n ? axis.low : right < 0 ? n + right : n;
      check<ShapeError>(most <= axis.high - axis.low, "pad: x ", x, " with pad ", pads, ": axis ", d,
                        " cannot wrap around more than its ", axis.high - axis.low, " elements");
    }
    const bool bare = left == 0 && right == 0;
    if (bare && plain && view.axis[view.ndim - 1].stride == n * axis.stride) {
      const int64_t merged = view.axis[view.ndim - 1].in * n;
      view.axis[view.ndim - 1] = {merged, merged, 0, 0, merged, axis.stride};
    } else {
      view.axis[view.ndim++] = axis;
    }
    plain = bare;
  }
  return view;
}

// x between borders of a value or of its own elements.
Array pad(const Array& x, const Dims& pads, const std::string& mode, const Operand& value) {
  Dims shape;
  const PadView view = pad_view(x, pads, mode, &shape);
  check<ShapeError>(value.array.ndim() == 0, "pad: value ", value.array, " must have no axes");
  if (x.ndim() == 0) return x.clone();
  Array out = Array::empty(shape, x.dtype(), x.device());
  alignas(8) char bits[8];
  item_bits(value.array.to_device({}), x.dtype(), bits);
  if (out.numel() > 0) layout_kernels(x.device()).pad(item_size(x.dtype()), view, x.bytes(), out.bytes(), bits);
  return out;
}

// dx of x's shape: dy folded back onto the elements that its borders show.
Array pad_backward(const Array& dy, const Dims& shape, const Dims& pads, const std::string& mode) {
  check_floating("pad_backward", "dy", dy);
  Array dx = Array::empty(shape, dy.dtype(), dy.device()), d = dy.contiguous();
  Dims padded;
  const PadView view = pad_view(dx, pads, mode, &padded);
  check<ShapeError>(padded == dy.shape() && view.border != Border::Constant, "pad_backward: dy ", dy, " must be ",
                    padded, " and its border not constant");
  if (dy.numel() == 0) return Array::zeros(shape, dy.dtype(), dy.device());
  if (dx.numel() > 0) layout_kernels(dy.device()).pad_backward(dy.dtype(), view, d.bytes(), dx.bytes());
  return dx;
}

Array triangle(const char* op, const Array& x, int64_t diagonal, bool lower) {
  check<ShapeError>(x.ndim() >= 2, op, ": x ", x, " has ", x.ndim(), " axes; at least 2 are needed");
  Array in = x.contiguous(), out = Array::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return out;
  int64_t rows = x.size(x.ndim() - 2), cols = x.size(x.ndim() - 1);
  int64_t cut = diagonal < -rows ? -rows : diagonal > cols ? cols : diagonal;
  layout_kernels(x.device())
      .triangle(x.dtype(), in.bytes(), out.bytes(), x.numel() / (rows * cols), rows, cols, cut, lower);
  return out;
}

Array tril(const Array& x, int64_t diagonal) { return triangle("tril", x, diagonal, true); }

Array triu(const Array& x, int64_t diagonal) { return triangle("triu", x, diagonal, false); }

}  // namespace

void bind_layout(pybind11::module_& m) {
  python::def<&copy_>(m, "copy_", {"out", "x"});
  python::def<&fill_>(m, "fill_", {"out", "value"});
  python::def<&clone>(m, "clone", {"x"});
  python::def<&contiguous>(m, "contiguous", {"x"});
  python::def<&to>(m, "to", {"x", "dtype", "device"});
  python::def<&cat>(m, "cat", {"tensors", "dim"});
  python::def<&stack>(m, "stack", {"tensors", "dim"});
  python::def<&flip>(m, "flip", {"x", "dims"});
  python::def<&roll>(m, "roll", {"x", "shifts", "dims"});
  python::def<&repeat>(m, "repeat", {"x", "repeats"});
  python::def<&repeat_index>(m, "repeat_index", {"repeats", "output_size"});
  python::def<&pad>(m, "pad", {"x", "pad", "mode", "value"});
  python::def<&pad_backward>(m, "pad_backward", {"dy", "shape", "pad", "mode"});
  python::def<&tril>(m, "tril", {"x", "diagonal"});
  python::def<&triu>(m, "triu", {"x", "diagonal"});
  bind_views(m);
}

}  // namespace gg
