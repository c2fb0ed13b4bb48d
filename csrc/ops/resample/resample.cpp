// Fronts of interpolate and grid_sample: x (N, C, spatial...).
#include "ops/resample/resample.h"

#include <cmath>
#include <cstring>

#include "core/array.h"
#include "core/check.h"
#include "python/bind.h"

namespace gg {
namespace {

// Places and weights along one axis. Coordinates are computed in the type that PyTorch uses, so that a result at an
// exact half falls on the same side.
struct Taps {
  int64_t count = 1;
  std::vector<int64_t> index;
  std::vector<double> weight;  // empty: copies
};

template <class C> C source_scale(int64_t in, int64_t out, bool align_corners, double scale) {
  if (align_corners) return out > 1 ? C(in - 1) / C(out - 1) : C(0);
  return scale > 0 ? C(1.0 / scale) : C(in) / C(out);
}

template <class C> C cubic(C x, C a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : C(0);
}

template <class C> Taps nearest_taps(int64_t in, int64_t out, bool exact, double scale) {
  Taps t;
  const C step = source_scale<C>(in, out, false, scale);
  for (int64_t o = 0; o < out; ++o) {
    const C x = exact ? step * (C(o) + C(0.5)) - C(0.5) : step * C(o);
    const int64_t i = int64_t(std::floor(float(exact ? x + C(0.5) : x)));
    t.index.push_back(std::min(std::max<int64_t>(i, 0), in - 1));
  }
  return t;
}

// linear: two neighbours of the source coordinate, weighted by distance. cubic: four, by Keys' kernel with a = -0.75.
template <class C> Taps interpolation_taps(int64_t in, int64_t out, bool is_cubic, bool align_corners, double scale) {
  Taps t;
  t.count = is_cubic ? 4 : 2;
  t.index.resize(size_t(t.count * out));
  t.weight.resize(size_t(t.count * out));
  const C step = source_scale<C>(in, out, align_corners, scale);
  for (int64_t o = 0; o < out; ++o) {
    C x = align_corners ? step * C(o) : step * (C(o) + C(0.5)) - C(0.5);
    if (!is_cubic && x < 0) x = 0;
    if (!is_cubic && in == out) x = C(o);
    const int64_t low = std::min(int64_t(std::floor(x)), in - 1);
    const C f = std::min(std::max(x - C(low), C(0)), C(1));
    for (int64_t k = 0; k < t.count; ++k) {
      const int64_t i = low + k - (is_cubic ? 1 : 0);
      t.index[size_t(k * out + o)] = std::min(std::max<int64_t>(i, 0), in - 1);
      t.weight[size_t(k * out + o)] = is_cubic ? cubic(f - C(k - 1), C(-0.75)) : (k == 0 ? C(1) - f : f);
    }
  }
  return t;
}

// The same kernels stretched by the scale when shrinking, so that every input counts (a = -0.5 for cubic).
template <class C> Taps antialias_taps(int64_t in, int64_t out, bool is_cubic, bool align_corners, double scale) {
  const C step = source_scale<C>(in, out, align_corners, scale);
  const C half = is_cubic ? C(2) : C(1), support = step >= 1 ? half * step : half;
  const C squeeze = step >= 1 ? C(1) / step : C(1);
  Taps t;
  t.count = std::min<int64_t>(int64_t(std::ceil(support)) * 2 + 1, in);
  t.index.assign(size_t(t.count * out), 0);
  t.weight.assign(size_t(t.count * out), 0);
  for (int64_t o = 0; o < out; ++o) {
    const C center = step * (C(o) + C(0.5));
    const int64_t begin = std::max<int64_t>(int64_t(center - support + C(0.5)), 0);
    const int64_t n = std::min(std::min(int64_t(center + support + C(0.5)), in) - begin, t.count);
    double total = 0;
    for (int64_t k = 0; k < t.count; ++k) t.index[size_t(k * out + o)] = std::min(begin + k, in - 1);
    for (int64_t k = 0; k < n; ++k) {
      const C x = (C(k + begin) - center + C(0.5)) * squeeze;
      const C w = is_cubic ? cubic(x, C(-0.5)) : std::max(C(1) - std::abs(x), C(0));
      t.weight[size_t(k * out + o)] = w;
      total += w;
    }
    for (int64_t k = 0; k < n && total != 0; ++k) t.weight[size_t(k * out + o)] /= total;
  }
  return t;
}

template <class C>
Taps axis_taps(const std::string& mode, int64_t in, int64_t out, bool align_corners, double scale, bool antialias) {
  if (mode == "nearest" || mode == "nearest-exact") return nearest_taps<C>(in, out, mode != "nearest", scale);
  const bool is_cubic = mode == "bicubic";
  if (antialias) return antialias_taps<C>(in, out, is_cubic, align_corners, scale);
  return interpolation_taps<C>(in, out, is_cubic, align_corners, scale);
}

struct Resampling {
  Array memory;  // of all tables, moved to the device at once
  ResampleAxis axis[3];
};

// scales: one per axis, 0 for the ratio of the sizes.
void make_resampling(Resampling* r, const std::string& mode, DType t, Device device, const Dims& in, const Dims& out,
                     const std::vector<double>& scales, bool align_corners, bool antialias) {
  static_assert(sizeof(double) == sizeof(int64_t));
  const int nd = in.n;
  Taps taps[3];
  int64_t size = 0;
  for (int i = 0; i < 3; ++i) {
    const int j = i - (3 - nd);
    if (j < 0)
      taps[i].index = {0};
    else if (t == DType::Float64)
      taps[i] = axis_taps<double>(mode, in[j], out[j], align_corners, scales[size_t(j)], antialias);
    else
      taps[i] = axis_taps<float>(mode, in[j], out[j], align_corners, scales[size_t(j)], antialias);
    size += int64_t(taps[i].index.size() + taps[i].weight.size());
  }
  Array tables = Array::empty({size}, DType::Int64);
  int64_t* to = tables.data<int64_t>();
  for (const Taps& each : taps) {
    to = std::copy(each.index.begin(), each.index.end(), to);
    if (!each.weight.empty()) memcpy(to, each.weight.data(), each.weight.size() * sizeof(double));
    to += each.weight.size();
  }
  r->memory = tables.to_device(device);
  const int64_t* at = r->memory.data<int64_t>();
  for (int i = 0; i < 3; ++i) {
    const int j = i - (3 - nd);
    const bool weighs = !taps[i].weight.empty();
    r->axis[i] = {j < 0 ? 1 : in[j], j < 0 ? 1 : out[j], taps[i].count, at,
                  weighs ? reinterpret_cast<const double*>(at + taps[i].index.size()) : nullptr};
    at += taps[i].index.size() + taps[i].weight.size();
  }
}

Dims spatial(const Dims& shape) {
  Dims d;
  for (int i = 2; i < shape.n; ++i) d.push(shape[i]);
  return d;
}

Dims with_sizes(const Dims& shape, const Dims& sizes) {
  Dims d{shape[0], shape[1]};
  for (int64_t v : sizes) d.push(v);
  return d;
}

}  // namespace

Array interpolate_forward(const Array& x, const Dims& size, const std::string& mode, const std::vector<double>& scales,
                          bool align_corners, bool antialias) {
  const bool copies = mode == "nearest" || mode == "nearest-exact";
  if (!copies || x.dtype() != DType::UInt8) check_floating("interpolate", "input", x);
  check<ShapeError>(x.ndim() == size.n + 2, "interpolate: input ", x, " and size ", size, ": ", x.ndim() - 2,
                    " sizes are needed");
  for (int64_t v : size) check<ValueError>(v > 0, "interpolate: size ", size, " must be at least 1");
  for (int i = 1; i < x.ndim(); ++i)
    check<ShapeError>(x.size(i) > 0, "interpolate: input ", x, " may be empty along its batch axis only");
  const Dims shape = with_sizes(x.shape(), size);
  check_shape("interpolate", shape, x.dtype());
  Array y = Array::empty(shape, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  Resampling r;
  make_resampling(&r, mode, x.dtype(), x.device(), spatial(x.shape()), size, scales, align_corners, antialias);
  const Array xc = x.contiguous();
  resample_kernels(x.device()).resample_forward(x.dtype(), x.size(0) * x.size(1), r.axis, xc.bytes(), y.bytes());
  return y;
}

Array interpolate_backward(const Array& dy, const Dims& in_size, const std::string& mode,
                           const std::vector<double>& scales, bool align_corners, bool antialias) {
  const Dims shape = with_sizes(dy.shape(), in_size);
  Array dx = Array::empty(shape, dy.dtype(), dy.device());
  if (dx.numel() == 0) return dx;
  Resampling r;
  make_resampling(&r, mode, dy.dtype(), dy.device(), in_size, spatial(dy.shape()), scales, align_corners, antialias);
  const Array dyc = dy.contiguous();
  resample_kernels(dy.device()).resample_backward(dy.dtype(), dy.size(0) * dy.size(1), r.axis, dyc.bytes(), dx.bytes());
  return dx;
}

namespace {

GridShape grid_shape(const Array& x, const Array& grid, int64_t mode, int64_t padding, bool align_corners) {
  check_floating("grid_sample", "input", x);
  check_same_dtype("grid_sample", "input", x, "grid", grid);
  check_same_device("grid_sample", x, grid);
  const int nd = x.ndim() - 2;
  check<ShapeError>(nd == 2 || nd == 3, "grid_sample: input ", x, " needs the axes (N, C, H, W) or (N, C, D, H, W)");
  check<ShapeError>(grid.ndim() == nd + 2 && grid.size(nd + 1) == nd && grid.size(0) == x.size(0),
                    "grid_sample: input ", x, " and grid ", grid, ": grid needs ", nd + 2, " axes, the first of size ",
                    x.size(0), ", the last of size ", nd);
  check<ValueError>(mode != int64_t(SampleMode::Bicubic) || nd == 2,
                    "grid_sample: mode bicubic takes images only, not ", x);
  for (int i = 2; i < x.ndim(); ++i)
    check<ShapeError>(x.size(i) > 0, "grid_sample: input ", x, " has an empty spatial axis");
  int64_t pixels = 1;
  for (int i = 2; i < x.ndim(); ++i) pixels *= x.size(i);
  check<ValueError>(pixels < (int64_t(1) << 31), "grid_sample: input ", x, " has more than 2^31 elements per channel");
  GridShape s;
  s.batch = x.size(0);
  s.channels = x.size(1);
  s.points = 1;
  s.nd = nd;
  for (int i = 0; i < nd; ++i) s.points *= grid.size(i + 1);
  for (int i = 0; i < 3; ++i) s.in[i] = i < 3 - nd ? 1 : x.size(i + 2 - (3 - nd));
  s.mode = SampleMode(mode);
  s.padding = SamplePadding(padding);
  s.align_corners = align_corners;
  return s;
}

}  // namespace

Array grid_sample_forward(const Array& x, const Array& grid, int64_t mode, int64_t padding, bool align_corners) {
  const GridShape s = grid_shape(x, grid, mode, padding, align_corners);
  Dims shape{x.size(0), x.size(1)};
  for (int i = 0; i < s.nd; ++i) shape.push(grid.size(i + 1));
  Array y = Array::empty(shape, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const Array xc = x.contiguous(), gc = grid.contiguous();
  resample_kernels(x.device()).grid_sample_forward(x.dtype(), s, xc.bytes(), gc.bytes(), y.bytes());
  return y;
}

std::pair<std::optional<Array>, std::optional<Array>> grid_sample_backward(const Array& dy, const Array& x,
                                                                           const Array& grid, int64_t mode,
                                                                           int64_t padding, bool align_corners,
                                                                           bool needs_x, bool needs_grid) {
  const GridShape s = grid_shape(x, grid, mode, padding, align_corners);
  check_same_device("grid_sample_backward", dy, x);
  std::optional<Array> dx, dgrid;
  if (dy.numel() == 0) {
    if (needs_x) dx = Array::zeros(x.shape(), x.dtype(), x.device());
    if (needs_grid) dgrid = Array::zeros(grid.shape(), grid.dtype(), grid.device());
    return {dx, dgrid};
  }
  if (needs_x) dx = Array::empty(x.shape(), x.dtype(), x.device());
  if (needs_grid) dgrid = Array::empty(grid.shape(), grid.dtype(), grid.device());
  const Array xc = x.contiguous(), gc = grid.contiguous(), dyc = dy.contiguous();
  resample_kernels(x.device())
      .grid_sample_backward(x.dtype(), s, xc.bytes(), gc.bytes(), dyc.bytes(), dx ? dx->bytes() : nullptr,
                            dgrid ? dgrid->bytes() : nullptr);
  return {dx, dgrid};
}

void bind_resample(pybind11::module_& m) {
  python::def<&interpolate_forward>(m, "interpolate_forward",
                                    {"input", "size", "mode", "scales", "align_corners", "antialias"});
  python::def<&interpolate_backward>(m, "interpolate_backward",
                                     {"dy", "in_size", "mode", "scales", "align_corners", "antialias"});
  python::def<&grid_sample_forward>(m, "grid_sample_forward",
                                    {"input", "grid", "mode", "padding_mode", "align_corners"});
  python::def<&grid_sample_backward>(
      m, "grid_sample_backward",
      {"dy", "input", "grid", "mode", "padding_mode", "align_corners", "needs_input", "needs_grid"});
}

}  // namespace gg
