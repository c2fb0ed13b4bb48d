// CUDA kernels of resample.h. interpolate: a thread gathers an output from its taps, or an input from the outputs that
// read it; these are stretches, as the places of a tap ascend. grid_sample: a thread computes the taps of a point for a
// group of channels. Its dx is summed in order of places (cuda/destinations.h), as points may meet anywhere.
#include "ops/resample/resample.h"

#include "core/dispatch.h"
#include "cuda/destinations.h"
#include "cuda/number.h"
#include "cuda/offsets.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;

// ---- interpolate

// The tables of an axis in 32 bits and the compute type.
template <class C> struct Taps {
  int32_t in, out, taps;
  int32_t* index;
  C* weight;       // ones where the contract has none
  int32_t* first;  // [tap][i], i in [0, in]: the first output whose tap lies at i or beyond; forward null
};

template <class C> struct Axes { Taps<C> axis[3]; };

struct Places { ResampleAxis axis[3]; };

template <class C>
__global__ void fill_taps_kernel(const __grid_constant__ Places from_axes, const __grid_constant__ Axes<C> to_axes,
                                 int64_t n) {
  for (int64_t item = first_item(); item < n; item += item_step()) {
    int64_t e = item;  // of the axis it belongs to
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const ResampleAxis& from = from_axes.axis[axis];
      const Taps<C>& to = to_axes.axis[axis];
      const int64_t entries = from.taps * from.out, inputs = to.first ? from.taps * (from.in + 1) : 0;
      if (e >= 0 && e < entries) {
        to.index[e] = int32_t(from.index[e]);
        to.weight[e] = from.weight ? C(from.weight[e]) : C(1);
      } else if (e >= entries && e < entries + inputs) {
        const int64_t tap = (e - entries) / (from.in + 1), i = (e - entries) % (from.in + 1);
        int64_t low = 0, high = from.out;
        while (low < high) {
          const int64_t middle = (low + high) / 2;
          if (from.index[tap * from.out + middle] < i)
            low = middle + 1;
          else
            high = middle;
        }
        to.first[e - entries] = int32_t(low);
      }
      e -= entries + inputs;
    }
  }
}

template <class C> class Tables {
 public:
  Tables(const ResampleAxis (&a)[3], bool firsts) : places_(size(a, firsts)), weights_(size(a, false)) {
    int32_t* place = places_;
    C* weight = weights_;
    for (int i = 0; i < 3; ++i) {
      const int64_t entries = a[i].taps * a[i].out, inputs = firsts ? a[i].taps * (a[i].in + 1) : 0;
      axes_.axis[i] = {
          int32_t(a[i].in), int32_t(a[i].out), int32_t(a[i].taps), place, weight, firsts ? place + entries : nullptr};
      place += entries + inputs;
      weight += entries;
    }
    const int64_t n = place - places_.get();
    launch(fill_taps_kernel<C>, grid_for(n, kThreads), kThreads, 0, Places{a[0], a[1], a[2]}, axes_, n);
  }
  const Axes<C>& axes() const { return axes_; }

 private:
  static int64_t size(const ResampleAxis (&a)[3], bool firsts) {
    int64_t n = 0;
    for (const ResampleAxis& axis : a) n += axis.taps * (axis.out + (firsts ? axis.in + 1 : 0));
    return n;
  }
  Scratch<int32_t> places_;
  Scratch<C> weights_;
  Axes<C> axes_;
};

int64_t inputs(const ResampleAxis (&a)[3]) { return a[0].in * a[1].in * a[2].in; }
int64_t outputs(const ResampleAxis (&a)[3]) { return a[0].out * a[1].out * a[2].out; }

Planes input_planes(int64_t planes, const ResampleAxis (&a)[3]) {
  const int64_t size[3] = {a[0].in, a[1].in, a[2].in};
  return Planes(planes, size);
}
Planes output_planes(int64_t planes, const ResampleAxis (&a)[3]) {
  const int64_t size[3] = {a[0].out, a[1].out, a[2].out};
  return Planes(planes, size);
}

template <class U>
__global__ void copy_nearest_kernel(const __grid_constant__ Places a, const U* __restrict__ x, U* __restrict__ y,
                                    int64_t n, const __grid_constant__ Planes out) {
  const ResampleAxis &d = a.axis[0], &h = a.axis[1], &w = a.axis[2];
  for (int64_t e = first_item(); e < n; e += item_step()) {
    int64_t o[3];
    const int64_t plane = out.at(e, o);
    y[e] = x[((plane * d.in + d.index[o[0]]) * h.in + h.index[o[1]]) * w.in + w.index[o[2]]];
  }
}

// W: taps along the last axis, held in registers; 0 for any number.
template <class T, int W>
__global__ void resample_forward_kernel(const __grid_constant__ Axes<compute_t<T>> a, const T* __restrict__ x,
                                        T* __restrict__ y, int64_t n, const __grid_constant__ Planes out) {
  using C = compute_t<T>;
  const auto &d = a.axis[0], &h = a.axis[1], &w = a.axis[2];
  const int64_t in = int64_t(d.in) * h.in * w.in;
  for (int64_t e = first_item(); e < n; e += item_step()) {
    int32_t o[3];
    const T* const plane = x + out.at(e, o) * in;
    int32_t index[W > 0 ? W : 1];
    C weight[W > 0 ? W : 1];
#pragma unroll
    for (int k = 0; k < W; ++k) {
      index[k] = w.index[k * w.out + o[2]];
      weight[k] = w.weight[k * w.out + o[2]];
    }
    C sum = 0;
    for (int32_t i = 0; i < d.taps; ++i)
      for (int32_t j = 0; j < h.taps; ++j) {
        const C c = d.weight[i * d.out + o[0]] * h.weight[j * h.out + o[1]];
        if (c == 0) continue;
        const T* const row = plane + (int64_t(d.index[i * d.out + o[0]]) * h.in + h.index[j * h.out + o[1]]) * w.in;
        C along = 0;
        if constexpr (W > 0) {
#pragma unroll
          for (int k = 0; k < W; ++k) along += weight[k] * load(row + index[k]);
        } else {
          for (int32_t k = 0; k < w.taps; ++k)
            along += w.weight[int64_t(k) * w.out + o[2]] * load(row + w.index[int64_t(k) * w.out + o[2]]);
        }
        sum += c * along;
      }
    store(y + e, sum);
  }
}

void resample_forward(DType t, int64_t planes, const ResampleAxis (&a)[3], const void* x, void* y) {
  const int64_t n = planes * outputs(a);
  const dim3 grid = grid_for(n, kThreads);
  if (!a[0].weight && !a[1].weight && !a[2].weight)
    return dispatch_size(item_size(t), [&]<class U>() {
      launch(copy_nearest_kernel<U>, grid, kThreads, 0, Places{a[0], a[1], a[2]}, static_cast<const U*>(x),
             static_cast<U*>(y), n, output_planes(planes, a));
    });
  dispatch_floating(t, [&]<class T>() {
    const Tables<compute_t<T>> tables(a, false);
    auto run = [&]<int W>() {
      launch(resample_forward_kernel<T, W>, grid, kThreads, 0, tables.axes(), static_cast<const T*>(x),
             static_cast<T*>(y), n, output_planes(planes, a));
    };
    if (a[2].taps == 2) return run.template operator()<2>();
    if (a[2].taps == 4) return run.template operator()<4>();
    run.template operator()<0>();
  });
}

// The last axis is outermost: its neighbours' tables differ from lane to lane, those of the others seldom do.
template <class T>
__global__ void resample_backward_kernel(const __grid_constant__ Axes<compute_t<T>> a, const T* __restrict__ dy,
                                         T* __restrict__ dx, int64_t n, const __grid_constant__ Planes in) {
  using C = compute_t<T>;
  const auto &d = a.axis[0], &h = a.axis[1], &w = a.axis[2];
  const int64_t out = int64_t(d.out) * h.out * w.out;
  for (int64_t e = first_item(); e < n; e += item_step()) {
    int32_t at[3];
    const T* const plane = dy + in.at(e, at) * out;
    C sum = 0;
    for (int32_t k = 0; k < w.taps; ++k) {
      const int32_t* const fw = w.first + int64_t(k) * (w.in + 1) + at[2];
      for (int32_t ow = fw[0]; ow < fw[1]; ++ow) {
        C across = 0;
        for (int32_t i = 0; i < d.taps; ++i) {
          const int32_t* const fd = d.first + int64_t(i) * (d.in + 1) + at[0];
          for (int32_t od = fd[0]; od < fd[1]; ++od)
            for (int32_t j = 0; j < h.taps; ++j) {
              const int32_t* const fh = h.first + int64_t(j) * (h.in + 1) + at[1];
              for (int32_t oh = fh[0]; oh < fh[1]; ++oh) {
                const C c = d.weight[int64_t(i) * d.out + od] * h.weight[int64_t(j) * h.out + oh];
                if (c != 0) across += c * load(plane + (int64_t(od) * h.out + oh) * w.out + ow);
              }
            }
        }
        sum += w.weight[int64_t(k) * w.out + ow] * across;
      }
    }
    store(dx + e, sum);
  }
}

void resample_backward(DType t, int64_t planes, const ResampleAxis (&a)[3], const void* dy, void* dx) {
  const int64_t n = planes * inputs(a);
  dispatch_floating(t, [&]<class T>() {
    const Tables<compute_t<T>> tables(a, true);
    launch(resample_backward_kernel<T>, grid_for(n, kThreads), kThreads, 0, tables.axes(), static_cast<const T*>(dy),
           static_cast<T*>(dx), n, input_planes(planes, a));
  });
}

// ---- grid_sample

// x folded back into [low, high] at its ends; slope is multiplied by the derivative.
template <class C> __device__ inline C reflect(C x, C low, C high, C* slope) {
  const C span = high - low;
  if (span == 0) {
    *slope = 0;
    return 0;
  }
  const C distance = x < low ? low - x : x - low;
  const C flips = floor(distance / span), extra = distance - flips * span;
  const bool odd = flips - 2 * floor(flips / 2) != 0;
  *slope = (x < low) != odd ? -*slope : *slope;
  return odd ? high - extra : low + extra;
}

// A coordinate brought inside by the padding rule; slope is multiplied by the derivative.
template <class C> __device__ inline C bring_inside(C x, int64_t size, const GridShape& s, C* slope) {
  const C last = C(size - 1);
  if (s.padding == SamplePadding::Reflection)
    x = s.align_corners ? reflect<C>(x, 0, last, slope) : reflect<C>(x, C(-0.5), last + C(0.5), slope);
  if (s.padding != SamplePadding::Zeros) {
    *slope = x > 0 && x < last ? *slope : C(0);
    x = x > 0 ? x : C(0);
    x = x < last ? x : last;
  }
  return x > C(-0x1p30) && x < C(0x1p30) ? x : C(-100);  // too far, or NaN: outside
}

template <class C> __device__ inline int32_t place_of(C x, int64_t size) {
  return x >= 0 && x < C(size) ? int32_t(x) : -1;
}

// Keys' cubic with A = -0.75 at distance x, and its derivative.
template <class C> __device__ inline C cubic(C x) {
  const C a = C(-0.75);
  return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
}
template <class C> __device__ inline C cubic_slope(C x) {
  const C a = C(-0.75);
  return x <= 1 ? (3 * (a + 2) * x - 2 * (a + 3)) * x : (3 * a * x - 10 * a) * x + 8 * a;
}

// The N taps of a point along an axis: places (-1: outside), weights and their derivatives by the grid.
template <class C, int N> struct AxisTaps {
  int32_t place[N];
  C weight[N], slope[N];

  __device__ void one() {  // an axis that x lacks
    for (int k = 0; k < N; ++k) {
      place[k] = k == 0 ? 0 : -1;
      weight[k] = k == 0 ? C(1) : C(0);
      slope[k] = 0;
    }
  }
  __device__ void compute(const GridShape& s, C g, int64_t size) {
    C x = s.align_corners ? (g + 1) / 2 * C(size - 1) : ((g + 1) * C(size) - 1) / 2;
    C scale = s.align_corners ? C(size - 1) / 2 : C(size) / 2;
    if constexpr (N == 4) {
      const C low = floor(x), f = x - low;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const C distance = k < 2 ? f + C(1 - k) : C(k - 1) - f;
        C unused = 1;
        place[k] = place_of(bring_inside(low + C(k - 1), size, s, &unused), size);
        weight[k] = cubic(distance);
        slope[k] = cubic_slope(distance) * (k < 2 ? scale : -scale);
      }
    } else {
      x = bring_inside(x, size, s, &scale);
      if constexpr (N == 1) {
        place[0] = place_of(nearbyint(x), size);
        weight[0] = 1;
        slope[0] = 0;
      } else {
        const C low = floor(x);
        place[0] = place_of(low, size);
        place[1] = place_of(low + 1, size);
        weight[0] = low + 1 - x;
        weight[1] = x - low;
        slope[0] = -scale;
        slope[1] = scale;
      }
    }
  }
};

// All taps of a point, those of the last axis together. Bicubic taps are of images only: the first axis has one.
template <class C, int N> struct PointTaps {
  static constexpr int kFirst = N == 4 ? 1 : N, kTaps = kFirst * N * N;
  AxisTaps<C, N> axis[3];

  template <class T> __device__ void compute(const GridShape& s, const T* grid) {
    axis[0].one();
    if (s.nd == 3) axis[0].compute(s, load(grid + 2), s.in[0]);
    axis[1].compute(s, load(grid + 1), s.in[1]);
    axis[2].compute(s, load(grid), s.in[2]);
  }
  // f(tap, place in a channel or -1, its places on the axes)
  template <class F> __device__ void each(const GridShape& s, const F& f) const {
#pragma unroll
    for (int d = 0; d < kFirst; ++d)
#pragma unroll
      for (int h = 0; h < N; ++h)
#pragma unroll
        for (int w = 0; w < N; ++w) {
          const int32_t pd = axis[0].place[d], ph = axis[1].place[h], pw = axis[2].place[w];
          const int32_t place = (pd | ph | pw) < 0 ? -1 : (pd * int32_t(s.in[1]) + ph) * int32_t(s.in[2]) + pw;
          f((d * N + h) * N + w, place, d, h, w);
        }
  }
  __device__ C weight(int d, int h, int w) const { return axis[0].weight[d] * axis[1].weight[h] * axis[2].weight[w]; }
};

// f.template operator()<N>() with the taps along an axis.
template <class F> void dispatch_mode(SampleMode mode, const F& f) {
  if (mode == SampleMode::Nearest) return f.template operator()<1>();
  if (mode == SampleMode::Bilinear) return f.template operator()<2>();
  f.template operator()<4>();
}

constexpr int64_t kGroup = 8;  // channels for which a thread uses the taps it computed

template <class T, int N>
__global__ void grid_sample_forward_kernel(const __grid_constant__ GridShape s, const T* __restrict__ x,
                                           const T* __restrict__ grid, T* __restrict__ y, int64_t items, Split points,
                                           Split groups) {
  using C = compute_t<T>;
  const int64_t in = s.in[0] * s.in[1] * s.in[2];
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t row = points.quotient(item), point = item - row * s.points, image = groups.quotient(row);
    const int64_t first = (row - image * groups.d) * kGroup,
                  past = first + kGroup < s.channels ? first + kGroup : s.channels;
    PointTaps<C, N> taps;
    taps.compute(s, grid + (image * s.points + point) * s.nd);
    for (int64_t c = image * s.channels + first; c < image * s.channels + past; ++c) {
      const T* const from = x + c * in;
      C sum = 0;
      taps.each(s, [&](int, int32_t place, int d, int h, int w) {
        if (place >= 0) sum += taps.weight(d, h, w) * load(from + place);
      });
      store(y + c * s.points + point, sum);
    }
  }
}

void grid_sample_forward(DType type, const GridShape& s, const void* x, const void* grid, void* y) {
  const int64_t groups = ceil_div(s.channels, kGroup), items = s.batch * groups * s.points;
  dispatch_floating(type, [&]<class T>() {
    dispatch_mode(s.mode, [&]<int N>() {
      launch(grid_sample_forward_kernel<T, N>, grid_for(items, kThreads), kThreads, 0, s, static_cast<const T*>(x),
             static_cast<const T*>(grid), static_cast<T*>(y), items, Split(s.points, items), Split(groups, items));
    });
  });
}

// The place, counted over all images, and weight of every tap of points first, first + 1, ...; outside, the place after
// the last.
template <class T, int N>
__global__ void tap_places_kernel(const __grid_constant__ GridShape s, const T* __restrict__ grid, int64_t first,
                                  int64_t count, int64_t* __restrict__ places, compute_t<T>* __restrict__ weights) {
  using C = compute_t<T>;
  const int64_t in = s.in[0] * s.in[1] * s.in[2];
  for (int64_t p = first_item(); p < count; p += item_step()) {
    const int64_t image = (first + p) / s.points;
    PointTaps<C, N> taps;
    taps.compute(s, grid + (first + p) * s.nd);
    taps.each(s, [&](int t, int32_t place, int d, int h, int w) {
      places[p * taps.kTaps + t] = place < 0 ? s.batch * in : image * in + place;
      weights[p * taps.kTaps + t] = taps.weight(d, h, w);
    });
  }
}

// dx at its places: a fold for cuda/destinations.h, a column a channel.
template <class T> struct SampleSums {
  using Value = compute_t<T>;
  const T* dy;
  const Value* weights;
  T* dx;
  int64_t first, points, channels, in, outside;
  int taps;

  __device__ Value read(int64_t place, int64_t tap, int64_t channel) const {
    if (place == outside) return 0;
    const int64_t p = first + tap / taps, image = p / points;
    return weights[tap] * load(dy + (image * channels + channel) * points + (p - image * points));
  }
  __device__ Value combine(Value a, Value b) const { return a + b; }
  __device__ void write(int64_t place, int64_t channel, Value sum) const {
    if (place == outside) return;
    const int64_t image = place / in;
    T* const to = dx + (image * channels + channel) * in + (place - image * in);
    store(to, load(to) + sum);
  }
};

template <int N, class T> void grid_sample_dx(const GridShape& s, const T* grid, const T* dy, T* dx) {
  using C = compute_t<T>;
  constexpr int taps = PointTaps<C, N>::kTaps;
  const int64_t in = s.in[0] * s.in[1] * s.in[2], all = s.batch * s.points, most = Destinations::kMost / taps;
  zero(dx, size_t(s.batch * s.channels * in) * sizeof(T));
  for (int64_t first = 0; first < all; first += most) {
    const int64_t count = all - first < most ? all - first : most;
    Scratch<int64_t> places(count * taps);
    Scratch<C> weights(count * taps);
    launch(tap_places_kernel<T, N>, grid_for(count, kThreads), kThreads, 0, s, grid, first, count, places.get(),
           weights.get());
    Destinations at(places, count * taps, s.batch * in + 1);
    fold_ordered(SampleSums<T>{dy, weights, dx, first, s.points, s.channels, in, s.batch * in, taps}, at.ordered(),
                 s.channels, false);
  }
}

// dgrid = sum over channels and taps of dy * x[place] * d weight / d grid.
template <class T, int N>
__global__ void grid_sample_dgrid_kernel(const __grid_constant__ GridShape s, const T* __restrict__ x,
                                         const T* __restrict__ grid, const T* __restrict__ dy, T* __restrict__ dgrid,
                                         int64_t n, Split points) {
  using C = compute_t<T>;
  const int64_t in = s.in[0] * s.in[1] * s.in[2];
  for (int64_t p = first_item(); p < n; p += item_step()) {
    const int64_t image = points.quotient(p), point = p - image * s.points;
    PointTaps<C, N> taps;
    taps.compute(s, grid + p * s.nd);
    C dot[taps.kTaps] = {};  // of dy and x over the channels
    for (int64_t c = image * s.channels; c < (image + 1) * s.channels; ++c) {
      const T* const from = x + c * in;
      const C g = load(dy + c * s.points + point);
      taps.each(s, [&](int t, int32_t place, int, int, int) {
        if (place >= 0) dot[t] += g * load(from + place);
      });
    }
    C sum[3] = {};
    taps.each(s, [&](int t, int32_t, int d, int h, int w) {
      const auto& a = taps.axis;
      sum[0] += dot[t] * (a[0].weight[d] * a[1].weight[h] * a[2].slope[w]);
      sum[1] += dot[t] * (a[0].weight[d] * a[1].slope[h] * a[2].weight[w]);
      sum[2] += dot[t] * (a[0].slope[d] * a[1].weight[h] * a[2].weight[w]);
    });
    store(dgrid + p * s.nd, sum[0]);
    store(dgrid + p * s.nd + 1, sum[1]);
    if (s.nd == 3) store(dgrid + p * s.nd + 2, sum[2]);
  }
}

void grid_sample_backward(DType type, const GridShape& s, const void* x, const void* grid, const void* dy, void* dx,
                          void* dgrid) {
  dispatch_floating(type, [&]<class T>() {
    const T *from = static_cast<const T*>(x), *g = static_cast<const T*>(grid), *d = static_cast<const T*>(dy);
    dispatch_mode(s.mode, [&]<int N>() {
      if (dx) grid_sample_dx<N>(s, g, d, static_cast<T*>(dx));
      const int64_t n = s.batch * s.points;
      if (dgrid)
        launch(grid_sample_dgrid_kernel<T, N>, grid_for(n, kThreads), kThreads, 0, s, from, g, d,
               static_cast<T*>(dgrid), n, Split(s.points, n));
    });
  });
}

}  // namespace

const ResampleKernels resample_kernels = {resample_forward, resample_backward, grid_sample_forward,
                                          grid_sample_backward};

}  // namespace gg::cuda
