// interpolate: every row of a plane is resampled along its length once, then rows are combined, which is contiguous
// work. grid_sample: coordinates, tap places and weights of a block of points are computed once and used for all
// channels. These are turned innermost, a vector of them together, so that a tap is one load for all of them; a few
// channels stay as they are. Planes, or blocks of points, are dealt to threads, so every sum has one order.
#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/integers.h"
#include "cpu/scratch.h"
#include "cpu/transpose.h"
#include "cpu/vec.h"
#include "ops/resample/resample.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kTaskItems = 32768;

template <class T> void copy_nearest(int64_t planes, const ResampleAxis (&a)[3], const T* x, T* y) {
  const int64_t in = a[0].in * a[1].in * a[2].in, out = a[0].out * a[1].out * a[2].out;
  parallel_for(planes, larger(1, kTaskItems / (out + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      T* to = y + p * out;
      for (int64_t d = 0; d < a[0].out; ++d)
        for (int64_t h = 0; h < a[1].out; ++h, to += a[2].out) {
          if (h > 0 && a[1].index[h] == a[1].index[h - 1]) {
            memcpy(to, to - a[2].out, size_t(a[2].out) * sizeof(T));
            continue;
          }
          const T* row = x + p * in + (a[0].index[d] * a[1].in + a[1].index[h]) * a[2].in;
          for (int64_t w = 0; w < a[2].out; ++w) to[w] = row[a[2].index[w]];
        }
    }
  });
}

// The weights of the last axis in the compute type, its places in 32 bits (a row is that short) for the gathers.
template <class C> struct RowTaps {
  Scratch<C> weight;
  Scratch<int32_t> index;
  explicit RowTaps(const ResampleAxis& a) : weight(a.taps * a.out), index(a.taps * a.out) {
    for (int64_t i = 0; i < a.taps * a.out; ++i) {
      weight[i] = a.weight ? C(a.weight[i]) : C(1);
      index[i] = int32_t(a.index[i]);
    }
  }
};

inline double weight_at(const ResampleAxis& a, int64_t tap, int64_t o) {
  return a.weight ? a.weight[tap * a.out + o] : 1.0;
}

// f(input row, weight) for every row that output row (d, h) takes part of.
template <class F> inline void each_row_tap(const ResampleAxis (&a)[3], int64_t d, int64_t h, const F& f) {
  for (int64_t i = 0; i < a[0].taps; ++i)
    for (int64_t j = 0; j < a[1].taps; ++j) {
      const double w = weight_at(a[0], i, d) * weight_at(a[1], j, h);
      if (w != 0) f(a[0].index[i * a[0].out + d] * a[1].in + a[1].index[j * a[1].out + h], w);
    }
}

template <class T> void resample_planes(int64_t planes, const ResampleAxis (&a)[3], const T* x, T* y) {
  using C = compute_t<T>;
  const int64_t rows = a[0].in * a[1].in, in = rows * a[2].in, wide = a[2].out, out = a[0].out * a[1].out * wide;
  const RowTaps<C> taps(a[2]);
  const int64_t work = rows * wide * a[2].taps + out * a[0].taps * a[1].taps;
  parallel_for(planes, larger(1, kTaskItems / (work + 1)), [&](int64_t begin, int64_t end) {
    Scratch<C> across(rows * wide), row(a[2].in), sum(wide);
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t r = 0; r < rows; ++r) {
        const T* from = x + p * in + r * a[2].in;
        C* to = &across[r * wide];
        for (int64_t i = 0; i < a[2].in; ++i) row[i] = load1(from + i);
        for (int64_t t = 0; t < a[2].taps; ++t) {
          const C* weight = &taps.weight[t * wide];
          const int32_t* index = &taps.index[t * wide];
          if (t == 0)
            for (int64_t w = 0; w < wide; ++w) to[w] = weight[w] * row[index[w]];
          else
            for (int64_t w = 0; w < wide; ++w) to[w] += weight[w] * row[index[w]];
        }
      }
      T* to = y + p * out;
      for (int64_t d = 0; d < a[0].out; ++d)
        for (int64_t h = 0; h < a[1].out; ++h, to += wide) {
          for (int64_t w = 0; w < wide; ++w) sum[w] = 0;
          each_row_tap(a, d, h, [&](int64_t r, double weight) {
            const C* from = &across[r * wide];
            const C c = C(weight);
            for (int64_t w = 0; w < wide; ++w) sum[w] += c * from[w];
          });
          for (int64_t w = 0; w < wide; ++w) store1(to + w, sum[w]);
        }
    }
  });
}

void resample_forward(DType t, int64_t planes, const ResampleAxis (&a)[3], const void* x, void* y) {
  if (!a[0].weight && !a[1].weight && !a[2].weight)
    return dispatch_size(item_size(t),
                         [&]<class T>() { copy_nearest(planes, a, static_cast<const T*>(x), static_cast<T*>(y)); });
  dispatch_floating(t, [&]<class T>() { resample_planes(planes, a, static_cast<const T*>(x), static_cast<T*>(y)); });
}

// The adjoint, its steps in reverse: rows of dy are added to the rows they came from, then spread along each row.
template <class T> void resample_adjoint(int64_t planes, const ResampleAxis (&a)[3], const T* dy, T* dx) {
  using C = compute_t<T>;
  const int64_t rows = a[0].in * a[1].in, in = rows * a[2].in, wide = a[2].out, out = a[0].out * a[1].out * wide;
  const RowTaps<C> taps(a[2]);
  const int64_t work = rows * wide * a[2].taps + out * a[0].taps * a[1].taps;
  parallel_for(planes, larger(1, kTaskItems / (work + 1)), [&](int64_t begin, int64_t end) {
    Scratch<C> across(rows * wide), row(a[2].in), part(wide);
    for (int64_t p = begin; p < end; ++p) {
      memset(across.data(), 0, size_t(rows * wide) * sizeof(C));
      const T* from = dy + p * out;
      for (int64_t d = 0; d < a[0].out; ++d)
        for (int64_t h = 0; h < a[1].out; ++h, from += wide) {
          for (int64_t w = 0; w < wide; ++w) part[w] = load1(from + w);
          each_row_tap(a, d, h, [&](int64_t r, double weight) {
            C* to = &across[r * wide];
            const C c = C(weight);
            for (int64_t w = 0; w < wide; ++w) to[w] += c * part[w];
          });
        }
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < a[2].in; ++i) row[i] = 0;
        for (int64_t t = 0; t < a[2].taps; ++t)
          for (int64_t w = 0; w < wide; ++w)
            row[taps.index[t * wide + w]] += taps.weight[t * wide + w] * across[r * wide + w];
        T* to = dx + p * in + r * a[2].in;
        for (int64_t i = 0; i < a[2].in; ++i) store1(to + i, row[i]);
      }
    }
  });
}

void resample_backward(DType t, int64_t planes, const ResampleAxis (&a)[3], const void* dy, void* dx) {
  dispatch_floating(t, [&]<class T>() { resample_adjoint(planes, a, static_cast<const T*>(dy), static_cast<T*>(dx)); });
}

constexpr int64_t kBlock = 64;  // points whose taps are computed at once

inline float floor_of(float x) { return __builtin_floorf(x); }
inline double floor_of(double x) { return __builtin_floor(x); }
inline float round_of(float x) { return __builtin_nearbyintf(x); }
inline double round_of(double x) { return __builtin_nearbyint(x); }

// The taps along one axis of a block of points: places (-1: outside), weights and their derivatives by the grid.
template <class C> struct AxisTaps {
  int count;
  int32_t place[4][kBlock];
  C weight[4][kBlock], slope[4][kBlock];
};

// x folded back into [low, high] at its ends; slope is multiplied by the derivative.
template <class C> inline C reflect(C x, C low, C high, C* slope) {
  const C span = high - low;
  if (span == 0) {
    *slope = 0;
    return 0;
  }
  const C distance = x < low ? low - x : x - low;
  const C flips = floor_of(distance / span), extra = distance - flips * span;
  const bool odd = flips - 2 * floor_of(flips / 2) != 0;
  *slope = (x < low) != odd ? -*slope : *slope;
  return odd ? high - extra : low + extra;
}

// A coordinate brought inside by the padding rule; slope is multiplied by the derivative.
template <class C> inline C bring_inside(C x, int64_t size, SamplePadding padding, bool align_corners, C* slope) {
  const C last = C(size - 1);
  if (padding == SamplePadding::Reflection)
    x = align_corners ? reflect<C>(x, 0, last, slope) : reflect<C>(x, C(-0.5), last + C(0.5), slope);
  if (padding != SamplePadding::Zeros) {
    *slope = x > 0 && x < last ? *slope : C(0);
    x = x > 0 ? x : C(0);
    x = x < last ? x : last;
  }
  return x > C(-0x1p30) && x < C(0x1p30) ? x : C(-100);  // too far, or NaN: outside
}

template <class C> inline int32_t place_of(C x, int64_t size) { return x >= 0 && x < C(size) ? int32_t(x) : -1; }

// Keys' cubic with A = -0.75 at distance x, and its derivative.
template <class C> inline C cubic(C x) {
  const C a = C(-0.75);
  return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
}
template <class C> inline C cubic_slope(C x) {
  const C a = C(-0.75);
  return x <= 1 ? (3 * (a + 2) * x - 2 * (a + 3)) * x : (3 * a * x - 10 * a) * x + 8 * a;
}

// grid: one coordinate of n points, nd items apart. Loops run along the points so that they become vector code.
template <class T, class C> void axis_taps(const GridShape& s, const T* grid, int64_t n, int64_t size, AxisTaps<C>* t) {
  C x[kBlock], slope[kBlock];
  const C scale = s.align_corners ? C(size - 1) / 2 : C(size) / 2;
  for (int64_t i = 0; i < n; ++i) {
    const C g = load1(grid + i * s.nd);
    x[i] = s.align_corners ? (g + 1) / 2 * C(size - 1) : ((g + 1) * C(size) - 1) / 2;
    slope[i] = scale;
  }
  if (s.mode == SampleMode::Bicubic) {
    t->count = 4;
    for (int k = 0; k < 4; ++k)
      for (int64_t i = 0; i < n; ++i) {
        const C low = floor_of(x[i]), f = x[i] - low, distance = k < 2 ? f + C(1 - k) : C(k - 1) - f;
        C unused = 1;
        t->place[k][i] = place_of(bring_inside(low + C(k - 1), size, s.padding, s.align_corners, &unused), size);
        t->weight[k][i] = cubic(distance);
        t->slope[k][i] = cubic_slope(distance) * (k < 2 ? scale : -scale);
      }
    return;
  }
  for (int64_t i = 0; i < n; ++i) x[i] = bring_inside(x[i], size, s.padding, s.align_corners, &slope[i]);
  if (s.mode == SampleMode::Nearest) {
    t->count = 1;
    for (int64_t i = 0; i < n; ++i) {
      t->place[0][i] = place_of(round_of(x[i]), size);
      t->weight[0][i] = 1;
      t->slope[0][i] = 0;
    }
    return;
  }
  t->count = 2;
  for (int64_t i = 0; i < n; ++i) {
    const C low = floor_of(x[i]);
    t->place[0][i] = place_of(low, size);
    t->place[1][i] = place_of(low + 1, size);
    t->weight[0][i] = low + 1 - x[i];
    t->weight[1][i] = x[i] - low;
    t->slope[0][i] = -slope[i];
    t->slope[1][i] = slope[i];
  }
}

int64_t taps_of(const GridShape& s) {
  const int64_t n = s.mode == SampleMode::Nearest ? 1 : s.mode == SampleMode::Bilinear ? 2 : 4;
  return s.nd == 2 ? n * n : n * n * n;
}

// Tap tables of a block of points: place[tap][kBlock] in a channel, -1 outside; weight, and slope[axis] where wanted.
template <class C> struct BlockTaps {
  int64_t taps;
  Scratch<int32_t> place;
  Scratch<C> weight, slope;

  BlockTaps(const GridShape& s, bool slopes)
      : taps(taps_of(s)), place(taps * kBlock), weight(taps * kBlock), slope(slopes ? 3 * taps * kBlock : 1) {}

  template <class T> void compute(const GridShape& s, const T* grid, int64_t n, bool slopes) {
    AxisTaps<C> axis[3];
    axis[0].count = 1;
    for (int64_t i = 0; i < n; ++i) {
      axis[0].place[0][i] = 0;
      axis[0].weight[0][i] = 1;
      axis[0].slope[0][i] = 0;
    }
    for (int64_t k = 0; k < s.nd; ++k) axis_taps(s, grid + k, n, s.in[2 - k], &axis[2 - k]);
    const int32_t high = int32_t(s.in[1]), wide = int32_t(s.in[2]);
    int64_t t = 0;
    for (int d = 0; d < axis[0].count; ++d)
      for (int h = 0; h < axis[1].count; ++h)
        for (int w = 0; w < axis[2].count; ++w, t += kBlock) {
          const int32_t *pd = axis[0].place[d], *ph = axis[1].place[h], *pw = axis[2].place[w];
          const C *wd = axis[0].weight[d], *wh = axis[1].weight[h], *ww = axis[2].weight[w];
          for (int64_t i = 0; i < n; ++i) {
            place[t + i] = (pd[i] | ph[i] | pw[i]) < 0 ? -1 : (pd[i] * high + ph[i]) * wide + pw[i];
            weight[t + i] = wd[i] * wh[i] * ww[i];
          }
          if (!slopes) continue;
          const C *sd = axis[0].slope[d], *sh = axis[1].slope[h], *sw = axis[2].slope[w];
          C* const to = &slope[t];
          for (int64_t i = 0; i < n; ++i) {
            to[i] = sd[i] * wh[i] * ww[i];
            to[taps * kBlock + i] = wd[i] * sh[i] * ww[i];
            to[2 * taps * kBlock + i] = wd[i] * wh[i] * sw[i];
          }
        }
  }
};

// A vector of channels beside each other: place i of channel c is at [i][c]. The place after the last one stands for
// those outside.
template <class C> constexpr int64_t kGroup = kLanes<C>;

template <class C> inline int64_t groups_of(const GridShape& s) { return (s.channels + kGroup<C> - 1) / kGroup<C>; }
template <class C> inline bool by_groups(const GridShape& s) { return 2 * s.channels >= kGroup<C>; }

// n places of `channels` channels, which lie `stride` apart, to a group; the channels that it lacks are 0.
template <class T, class C> void turn_in(const T* x, int64_t stride, int64_t channels, int64_t n, C* to) {
  constexpr int G = kGroup<C>;
  for (int64_t i = 0; i < n; i += G) {
    const int64_t m = smaller(G, n - i);
    Vec<C> a[G];
    for (int64_t c = 0; c < G; ++c)
      a[c] = c >= channels ? Vec<C>{} : m == G ? load(x + c * stride + i) : load_n(x + c * stride + i, m);
    transpose_square<C, G>(a);
    for (int64_t k = 0; k < m; ++k) store(to + (i + k) * G, a[k]);
  }
}
template <class T, class C> void turn_out(const C* from, int64_t n, T* y, int64_t stride, int64_t channels) {
  constexpr int G = kGroup<C>;
  for (int64_t i = 0; i < n; i += G) {
    const int64_t m = smaller(G, n - i);
    Vec<C> a[G];
    for (int64_t k = 0; k < G; ++k) a[k] = k < m ? load(from + (i + k) * G) : Vec<C>{};
    transpose_square<C, G>(a);
    for (int64_t c = 0; c < channels; ++c)
      m == G ? store(y + c * stride + i, a[c]) : store_n(y + c * stride + i, a[c], m);
  }
}

// All groups of all images, (batch, group, place, channel), with a place of zeros at each end.
template <class T> struct TurnedImages {
  using C = compute_t<T>;
  const GridShape& s;
  const int64_t in, size;
  Scratch<C> data;

  TurnedImages(const GridShape& s, const T* x)
      : s(s), in(s.in[0] * s.in[1] * s.in[2]), size((in + 1) * kGroup<C>), data(s.batch * groups_of<C>(s) * size) {
    parallel_for(s.batch * groups_of<C>(s), larger(1, kTaskItems / size), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t image = task / groups_of<C>(s), c = task % groups_of<C>(s) * kGroup<C>;
        turn_in(x + (image * s.channels + c) * in, in, smaller(kGroup<C>, s.channels - c), in, &data[task * size]);
        store(&data[task * size + in * kGroup<C>], Vec<C>{});
      }
    });
  }
  const C* group(int64_t image, int64_t g) const { return &data[(image * groups_of<C>(s) + g) * size]; }
  const C* at(const C* group, int32_t place) const { return group + (place < 0 ? in : place) * kGroup<C>; }
};

// f(taps, image, first point, points) for the blocks of points of all images.
template <class C, class T, class F> void for_blocks(const GridShape& s, const T* grid, bool slopes, const F& f) {
  const int64_t blocks = (s.points + kBlock - 1) / kBlock, work = kBlock * (s.channels + 4) * taps_of(s);
  parallel_for(s.batch * blocks, larger(1, kTaskItems / work), [&](int64_t begin, int64_t end) {
    BlockTaps<C> b(s, slopes);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / blocks, first = task % blocks * kBlock, n = smaller(kBlock, s.points - first);
      b.compute(s, grid + (image * s.points + first) * s.nd, n, slopes);
      f(b, image, first, n);
    }
  });
}

template <class T> void sample_groups(const GridShape& s, const T* x, const T* grid, T* y) {
  using C = compute_t<T>;
  constexpr int64_t G = kGroup<C>;
  const TurnedImages<T> images(s, x);
  for_blocks<C>(s, grid, false, [&](const BlockTaps<C>& b, int64_t image, int64_t first, int64_t n) {
    C sums[kBlock * G];
    for (int64_t g = 0; g < groups_of<C>(s); ++g) {
      const C* from = images.group(image, g);
      for (int64_t i = 0; i < n; ++i) {
        Vec<C> sum = {};
        for (int64_t t = 0; t < b.taps; ++t)
          sum += splat(b.weight[t * kBlock + i]) * load(images.at(from, b.place[t * kBlock + i]));
        store(sums + i * G, sum);
      }
      turn_out(sums, n, y + (image * s.channels + g * G) * s.points + first, s.points, smaller(G, s.channels - g * G));
    }
  });
}

template <class T> void sample_planes(const GridShape& s, const T* x, const T* grid, T* y) {
  using C = compute_t<T>;
  const int64_t in = s.in[0] * s.in[1] * s.in[2];
  for_blocks<C>(s, grid, false, [&](const BlockTaps<C>& b, int64_t image, int64_t first, int64_t n) {
    for (int64_t c = image * s.channels; c < (image + 1) * s.channels; ++c) {
      const T* from = x + c * in;
      C sum[kBlock] = {};
      for (int64_t t = 0; t < b.taps; ++t) {
        const int32_t* place = &b.place[t * kBlock];
        const C* weight = &b.weight[t * kBlock];
        for (int64_t i = 0; i < n; ++i)
          if (place[i] >= 0) sum[i] += weight[i] * load1(from + place[i]);
      }
      T* to = y + c * s.points + first;
      for (int64_t i = 0; i < n; ++i) store1(to + i, sum[i]);
    }
  });
}

void grid_sample_forward(DType type, const GridShape& s, const void* x_, const void* grid_, void* y_) {
  dispatch_floating(type, [&]<class T>() {
    const T *x = static_cast<const T*>(x_), *grid = static_cast<const T*>(grid_);
    T* y = static_cast<T*>(y_);
    by_groups<compute_t<T>>(s) ? sample_groups(s, x, grid, y) : sample_planes(s, x, grid, y);
  });
}

// dx: each tap's place collects weight * dy, one thread per group of an image's channels.
template <class T> void grid_sample_dx(const GridShape& s, const T* grid, const T* dy, T* dx) {
  using C = compute_t<T>;
  constexpr int64_t G = kGroup<C>;
  const int64_t in = s.in[0] * s.in[1] * s.in[2], groups = groups_of<C>(s);
  parallel_for(s.batch * groups, 1, [&](int64_t begin, int64_t end) {
    BlockTaps<C> b(s, false);
    Scratch<C> sums((in + 1) * G);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / groups, c0 = task % groups * G, channels = smaller(G, s.channels - c0);
      memset(sums.data(), 0, size_t((in + 1) * G) * sizeof(C));
      const int64_t plane = image * s.channels + c0;
      for (int64_t first = 0; first < s.points; first += kBlock) {
        const int64_t n = smaller(kBlock, s.points - first);
        b.compute(s, grid + (image * s.points + first) * s.nd, n, false);
        C turned[kBlock * G];
        turn_in(dy + plane * s.points + first, s.points, channels, n, turned);
        for (int64_t i = 0; i < n; ++i) {
          const Vec<C> d = load(turned + i * G);
          for (int64_t t = 0; t < b.taps; ++t) {
            const int32_t place = b.place[t * kBlock + i];
            C* to = &sums[(place < 0 ? in : place) * G];
            store(to, load(to) + splat(b.weight[t * kBlock + i]) * d);
          }
        }
      }
      turn_out(sums.data(), in, dx + plane * in, in, channels);
    }
  });
}

// dgrid = sum over channels and taps of dy * x[place] * d weight / d grid: dot holds the sums over channels.
template <class T>
void write_dgrid(const GridShape& s, const BlockTaps<compute_t<T>>& b, const compute_t<T>* dot, int64_t n, T* dgrid) {
  for (int64_t k = 0; k < s.nd; ++k) {
    const compute_t<T>* slope = &b.slope[(2 - k) * b.taps * kBlock];
    for (int64_t i = 0; i < n; ++i) {
      compute_t<T> sum = 0;
      for (int64_t t = 0; t < b.taps; ++t)
        sum += b.place[t * kBlock + i] < 0 ? 0 : dot[t * kBlock + i] * slope[t * kBlock + i];
      store1(dgrid + i * s.nd + k, sum);
    }
  }
}

template <class T> void dgrid_groups(const GridShape& s, const T* x, const T* grid, const T* dy, T* dgrid) {
  using C = compute_t<T>;
  constexpr int64_t G = kGroup<C>;
  static_assert(kBlock % G == 0);
  const TurnedImages<T> images(s, x);
  for_blocks<C>(s, grid, true, [&](const BlockTaps<C>& b, int64_t image, int64_t first, int64_t n) {
    C turned[kBlock * G];
    Scratch<C> products(b.taps * kBlock * G), dot(b.taps * kBlock);  // of dy and x, lane by lane; then their sums
    for (int64_t g = 0; g < groups_of<C>(s); ++g) {
      const C* from = images.group(image, g);
      turn_in(dy + (image * s.channels + g * G) * s.points + first, s.points, smaller(G, s.channels - g * G), n,
              turned);
      for (int64_t i = 0; i < n; ++i) {
        const Vec<C> d = load(turned + i * G);
        for (int64_t t = 0; t < b.taps; ++t) {
          C* to = &products[(t * kBlock + i) * G];
          const Vec<C> product = d * load(images.at(from, b.place[t * kBlock + i]));
          store(to, g ? load(to) + product : product);
        }
      }
    }
    for (int64_t t = 0; t < b.taps; ++t)
      for (int64_t i = 0; i < n; i += G) {
        Vec<C> a[G], sum = {};
        for (int64_t k = 0; k < G; ++k) a[k] = i + k < n ? load(&products[(t * kBlock + i + k) * G]) : Vec<C>{};
        transpose_square<C, G>(a);
        for (const Vec<C>& lane : a) sum += lane;
        store(&dot[t * kBlock + i], sum);
      }
    write_dgrid(s, b, dot.data(), n, dgrid + (image * s.points + first) * s.nd);
  });
}

template <class T> void dgrid_planes(const GridShape& s, const T* x, const T* grid, const T* dy, T* dgrid) {
  using C = compute_t<T>;
  const int64_t in = s.in[0] * s.in[1] * s.in[2];
  for_blocks<C>(s, grid, true, [&](const BlockTaps<C>& b, int64_t image, int64_t first, int64_t n) {
    Scratch<C> dot(b.taps * kBlock);
    for (int64_t t = 0; t < b.taps * kBlock; ++t) dot[t] = 0;
    for (int64_t c = image * s.channels; c < (image + 1) * s.channels; ++c) {
      const T* from = x + c * in;
      C g[kBlock];
      for (int64_t i = 0; i < n; ++i) g[i] = load1(dy + c * s.points + first + i);
      for (int64_t t = 0; t < b.taps; ++t) {
        const int32_t* place = &b.place[t * kBlock];
        C part[kBlock] = {};  // of its own, so that the compiler may gather
        for (int64_t i = 0; i < n; ++i)
          if (place[i] >= 0) part[i] = g[i] * load1(from + place[i]);
        for (int64_t i = 0; i < n; ++i) dot[t * kBlock + i] += part[i];
      }
    }
    write_dgrid(s, b, dot.data(), n, dgrid + (image * s.points + first) * s.nd);
  });
}

void grid_sample_backward(DType type, const GridShape& s, const void* x, const void* grid, const void* dy, void* dx,
                          void* dgrid) {
  dispatch_floating(type, [&]<class T>() {
    const T *g = static_cast<const T*>(grid), *d = static_cast<const T*>(dy);
    if (dx) grid_sample_dx(s, g, d, static_cast<T*>(dx));
    if (!dgrid) return;
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(dgrid);
    by_groups<compute_t<T>>(s) ? dgrid_groups(s, from, g, d, to) : dgrid_planes(s, from, g, d, to);
  });
}

}  // namespace

const ResampleKernels resample_kernels = {resample_forward, resample_backward, grid_sample_forward,
                                          grid_sample_backward};

}  // namespace gg::GG_ISA
