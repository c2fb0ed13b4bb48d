// Pooling on the CPU. The windows of most networks, undilated with a stride of at most 2 along a row, are read where
// they lie: an output row takes each tap from the rows under it, a vector of outputs at a time. Others go over shifted
// images (cpu/phases.h): the outputs of several rows and planes side by side fill a vector, and a tap is one contiguous
// load at a fixed offset, whatever the stride. Planes are dealt to threads, so every sum has one order. Adaptive
// windows differ in size and go row by row instead.
#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/phases.h"
#include "cpu/scratch.h"
#include "cpu/transpose.h"
#include "ops/pool/pool.h"

namespace gg::GG_ISA {
namespace {

constexpr int kTile = 4;                  // vectors of outputs whose maxima or sums stay in registers
constexpr int64_t kLinePositions = 4096;  // phase lines of a task: L1 and L2
constexpr int64_t kTaskItems = 32768;

template <class F> void dispatch_pooled(DType t, F&& f) {
  if (t == DType::Int64) return f.template operator()<int64_t>();
  dispatch_floating(t, f);
}
template <class F> void dispatch_index(DType t, F&& f) {
  if (t == DType::Int32) return f.template operator()<int32_t>();
  f.template operator()<int64_t>();
}

template <class C> constexpr C lowest() {
  if constexpr (sizeof(C) == sizeof(int64_t) && C(0.5) == C(0))
    return C(INT64_MIN);
  else
    return -C(__builtin_inf());
}

int64_t volume(const int64_t (&n)[3]) { return n[0] * n[1] * n[2]; }

// The windows of a shape, without the taps that only ever see padding; skipped: how many are left out before each axis.
struct TrimmedAxes {
  WindowAxis axis[3];
  int64_t skipped[3];
  explicit TrimmedAxes(const PoolShape& s) {
    for (int i = 0; i < 3; ++i) {
      axis[i] = {s.in[i], s.out[i], s.stride[i], s.pad[i], s.kernel[i], 0, s.dilation[i]};
      skipped[i] = axis[i].trim();
    }
  }
};

// What the sliding kernels share: windows, tap offsets, and how planes are grouped.
struct Sliding {
  TrimmedAxes axes;
  Windows windows;
  OutputMap map;
  int64_t taps, together, line, width;  // together: planes whose lines are cut at once

  Sliding(const PoolShape& s, int64_t width)
      : axes(s),
        windows(axes.axis),
        map{volume(s.out), {s.out[1] * s.out[2], s.out[2], 1}},
        taps(axes.axis[0].taps * axes.axis[1].taps * axes.axis[2].taps),
        width(width) {
    together = larger(1, smaller(s.planes, kLinePositions / (windows.image * windows.slots)));
    line = windows.line(together, width);
  }
  // f(number, offset in the lines, offset in a plane from that of the first tap)
  template <class F> void each_tap(const PoolShape& s, const F& f) const {
    int64_t i = 0;
    for (int64_t a = 0; a < axes.axis[0].taps; ++a)
      for (int64_t b = 0; b < axes.axis[1].taps; ++b)
        for (int64_t c = 0; c < axes.axis[2].taps; ++c, ++i)
          f(i, windows.offset(a, b, c, line),
            (a * s.dilation[0] * s.in[1] + b * s.dilation[1]) * s.in[2] + c * s.dilation[2]);
  }
  // Where the first tap of output o of an axis reads.
  int64_t start(const PoolShape& s, int axis, int64_t o) const {
    return o * s.stride[axis] - s.pad[axis] + axes.skipped[axis] * s.dilation[axis];
  }
  int64_t groups(int64_t planes) const { return ceil_div(planes, together); }
  int64_t grain(const PoolShape& s) const {
    const int64_t work = together * (volume(s.in) + volume(s.out) * (taps + 4));
    return larger(1, kTaskItems / work);
  }
};

// Running maxima and the tap that holds each: a NaN wins and stays, the first of equals stays.
template <class C, bool kIndex>
void max_tile(int64_t taps, const C* b, const int64_t* offset, const typename int_of<C>::type* place, C* m,
              typename int_of<C>::type* at) {
  constexpr int L = kLanes<C>;
  using I = typename int_of<C>::type;
  Vec<C> best[kTile];
  Vec<I> best_at[kTile];
#pragma GCC unroll 4
  for (int j = 0; j < kTile; ++j) {
    best[j] = splat(lowest<C>());
    best_at[j] = splat(I(-1));
  }
  for (int64_t t = 0; t < taps; ++t) {
    const C* row = b + offset[t];
    const Vec<I> here = splat(place[t]);
#pragma GCC unroll 4
    for (int j = 0; j < kTile; ++j) {
      const Vec<C> v = load(row + j * L);
      const Mask<C> take = (v > best[j]) | (v != v);
      best[j] = take ? v : best[j];
      if constexpr (kIndex) best_at[j] = take ? here : best_at[j];
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kTile; ++j) {
    store(m + j * L, best[j]);
    if constexpr (kIndex) store(at + j * L, best_at[j]);
  }
}

template <class T, class C> inline void store_row(const C* c, T* y, int64_t n) {
  constexpr int L = kLanes<C>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(y + i, load(c + i));
  if (kMasks && i < n) return store_n(y + i, load_n(c + i, n - i), n - i);
  for (; i < n; ++i) store1(y + i, c[i]);
}

// Where nothing was greater than the lowest value (all of the window is -inf): the window's first element.
int64_t first_place(const PoolShape& s, int64_t output) {
  const int64_t o[3] = {output / (s.out[1] * s.out[2]), output / s.out[2] % s.out[1], output % s.out[2]};
  int64_t place = 0;
  for (int i = 0; i < 3; ++i) {
    int64_t at = o[i] * s.stride[i] - s.pad[i];
    if (at < 0) at += ceil_div(-at, s.dilation[i]) * s.dilation[i];
    place = place * s.in[i] + smaller(at, s.in[i] - 1);
  }
  return place;
}

// Windows without dilation whose stride along a row is 1 or 2: an output row is made from the rows under it, where a
// tap is one load, or the even lanes of two. f(plane, output row, rows, their number) for every output row of a range
// of planes; a row begins with its padding.
struct WindowRow {
  const void* data;
  int64_t place;  // of its first element in the plane
};
constexpr int64_t kMostRows = 16;

bool by_rows(const PoolShape& s) {
  bool undilated = true;
  for (int64_t d : s.dilation) undilated &= d == 1;
  return undilated && s.stride[2] <= 2 && s.kernel[0] * s.kernel[1] <= kMostRows && s.kernel[2] <= 8;
}

template <class T, class F>
void each_output_row(const PoolShape& s, compute_t<T> border, const T* x, int64_t begin, int64_t end, const F& f) {
  using C = compute_t<T>;
  const int64_t in = volume(s.in), rows = s.in[0] * s.in[1], wide = s.in[2];
  const int64_t beyond = 2 * kLanes<C> + s.kernel[2];  // what whole vectors read behind a row
  const int64_t right = larger(0, (s.out[2] - 1) * s.stride[2] + s.kernel[2] - s.pad[2] - wide);
  const int64_t pitch = s.pad[2] + wide + right;
  const bool exact = pitch == wide && sizeof(T) == sizeof(C);
  Scratch<C> padded(rows * pitch + beyond);
  for (int64_t plane = begin; plane < end; ++plane) {
    const T* from = x + plane * in;
    const void* base = from;
    if (!exact || (s.planes - plane - 1) * in < beyond) {
      C* to = padded.data();
      for (int64_t r = 0; r < rows; ++r, to += pitch) {
        fill(to, border, s.pad[2]);
        copy_strided(from + r * wide, 1, to + s.pad[2], wide);
        fill(to + s.pad[2] + wide, border, right);
      }
      fill(to, border, beyond);
      base = padded.data();
    }
    WindowRow window[kMostRows];
    for (int64_t d = 0; d < s.out[0]; ++d)
      for (int64_t h = 0; h < s.out[1]; ++h) {
        const int64_t d0 = d * s.stride[0] - s.pad[0], h0 = h * s.stride[1] - s.pad[1];
        int64_t n = 0;
        for (int64_t i = larger(d0, 0); i < smaller(d0 + s.kernel[0], s.in[0]); ++i)
          for (int64_t j = larger(h0, 0); j < smaller(h0 + s.kernel[1], s.in[1]); ++j) {
            const int64_t row = i * s.in[1] + j;
            window[n++] = {static_cast<const C*>(base) + row * pitch, row * wide};
          }
        f(plane, d * s.out[1] + h, window, n);
      }
  }
}

// f.operator()<stride along a row, its taps or 0>()
template <class F> void dispatch_taps(const PoolShape& s, const F& f) {
  const bool two = s.stride[2] == 2;
  switch (s.kernel[2]) {
    case 2: return two ? f.template operator()<2, 2>() : f.template operator()<1, 2>();
    case 3: return two ? f.template operator()<2, 3>() : f.template operator()<1, 3>();
    default: return two ? f.template operator()<2, 0>() : f.template operator()<1, 0>();
  }
}

// Tap c of the next outputs: x[0], x[kStride], x[2 kStride], ... from c on.
template <int kStride, class C> [[gnu::always_inline]] inline Vec<C> tap_vector(const C* x) {
  if constexpr (kStride == 1) return load(x);
  return even_lanes<C>(load(x), load(x + kLanes<C>), std::make_integer_sequence<int, kLanes<C>>());
}

template <class X, class I, int L> inline void store_places(typename Packed<I, L>::type v, X* to, int64_t n) {
  if constexpr (sizeof(X) == sizeof(I)) {
    if (n >= L)
      store(reinterpret_cast<I*>(to), v);
    else
      store_n(reinterpret_cast<I*>(to), v, n);
  } else {
    const auto places = __builtin_convertvector(v, typename Packed<X, L>::type);
    memcpy(to, &places, size_t(smaller(n, L)) * sizeof(X));
  }
}

template <class T, class X, bool kIndex, int kStride, int kTaps>
void max_pool_rows(const PoolShape& s, const T* x, T* y, X* index) {
  using C = compute_t<T>;
  using I = typename int_of<C>::type;
  constexpr int L = kLanes<C>;
  const int64_t taps = kTaps ? kTaps : s.kernel[2], wide = s.out[2], out = volume(s.out);
  parallel_for(s.planes, larger(1, kTaskItems / (volume(s.in) + 2 * out)), [&](int64_t begin, int64_t end) {
    each_output_row(s, lowest<C>(), x, begin, end, [&](int64_t plane, int64_t row, const WindowRow* window, int64_t n) {
      const int64_t o = plane * out + row * wide;
      for (int64_t j = 0; j < wide; j += L) {
        const int64_t left = smaller(L, wide - j);
        const Vec<I> start = iota<I>() * I(kStride) + I(j * kStride - s.pad[2]);  // column of the first tap
        Vec<C> best = splat(lowest<C>());
        Vec<I> at{};  // from the first tap's column; at first the window's first element
        if constexpr (kIndex) at = (start < 0 ? -start : Vec<I>{}) + I(window[0].place);
        for (int64_t r = 0; r < n; ++r) {
          const C* from = static_cast<const C*>(window[r].data) + j * kStride;
#pragma GCC unroll 3
          for (int64_t c = 0; c < taps; ++c) {
            const Vec<C> v = tap_vector<kStride>(from + c);
            const Mask<C> take = (v > best) | (v != v);
            best = take ? v : best;
            if constexpr (kIndex) at = take ? splat(I(window[r].place + c)) : at;
          }
        }
        if (left == L)
          store(y + o + j, best);
        else
          store_n(y + o + j, best, left);
        if constexpr (kIndex) store_places<X, I, L>(at + start, index + o + j, left);
      }
    });
  });
}

template <class T, class X, bool kIndex> void max_pool(const PoolShape& s, const T* x, T* y, X* index) {
  using C = compute_t<T>;
  using I = typename int_of<C>::type;
  if (by_rows(s))
    return dispatch_taps(
        s, [&]<int kStride, int kTaps>() { max_pool_rows<T, X, kIndex, kStride, kTaps>(s, x, y, index); });
  const Sliding p(s, kTile * kLanes<C>);
  const int64_t in = volume(s.in), out = volume(s.out);
  Scratch<int64_t> offset(p.taps);
  Scratch<I> place(p.taps);
  p.each_tap(s, [&](int64_t t, int64_t line, int64_t plane) {
    offset[t] = line;
    place[t] = I(plane);
  });
  parallel_for(p.groups(s.planes), p.grain(s), [&](int64_t begin, int64_t end) {
    Scratch<C> lines(p.windows.slots * p.line);
    Scratch<Run> runs(max_runs(p.windows, p.together, p.width));
    Scratch<int64_t> first(max_tiles(p.windows, p.together, p.width) + 1);
    C best[kTile * kLanes<C>];
    I at[kTile * kLanes<C>];
    int64_t tiles = 0, cut_for = 0;
    for (int64_t group = begin; group < end; ++group) {
      const int64_t plane = group * p.together, n = smaller(p.together, s.planes - plane);
      if (n != cut_for) tiles = cut_runs(p.windows, p.map, n, p.width, false, runs.data(), first.data());
      cut_for = n;
      cut_phases(p.windows, x + plane * in, in, n, lowest<C>(), lines.data(), p.line);
      for (int64_t t = 0; t < tiles; ++t) {
        max_tile<C, kIndex>(p.taps, lines.data() + t * p.width, offset.data(), place.data(), best, at);
        for (const Run* r = &runs[first[t]]; r < &runs[first[t + 1]]; ++r) {
          store_row(best + r->at, y + plane * out + r->y, r->count);
          if constexpr (kIndex) {
            const int64_t o = r->y % out, w = o % s.out[2], h = o / s.out[2] % s.out[1], d = o / s.out[2] / s.out[1];
            const int64_t base = (p.start(s, 0, d) * s.in[1] + p.start(s, 1, h)) * s.in[2] + p.start(s, 2, w);
            X* to = index + plane * out + r->y;
            bool found = true;
            for (int64_t i = 0; i < r->count; ++i) {
              found &= at[r->at + i] >= 0;
              to[i] = X(base + i * s.stride[2] + at[r->at + i]);
            }
            if (!found)
              for (int64_t i = 0; i < r->count; ++i)
                if (at[r->at + i] < 0) to[i] = X(first_place(s, o + i));
          }
        }
      }
    }
  });
}

void max_pool_forward(DType t, const PoolShape& s, const void* x, void* y, DType index_type, void* index) {
  dispatch_pooled(t, [&]<class T>() {
    if (!index) return max_pool<T, int32_t, false>(s, static_cast<const T*>(x), static_cast<T*>(y), nullptr);
    dispatch_index(index_type, [&]<class X>() {
      max_pool<T, X, true>(s, static_cast<const T*>(x), static_cast<T*>(y), static_cast<X*>(index));
    });
  });
}

// Adaptive windows: [begin(o), end(o)) of an axis.
struct Adaptive {
  const PoolShape& s;
  int64_t begin(int axis, int64_t o) const { return o * s.in[axis] / s.out[axis]; }
  int64_t end(int axis, int64_t o) const { return ceil_div((o + 1) * s.in[axis], s.out[axis]); }
  int64_t count(int axis, int64_t o) const { return end(axis, o) - begin(axis, o); }
};

// Where sizes divide, adaptive windows are ordinary ones.
bool divides(const PoolShape& s) {
  return s.in[0] % s.out[0] == 0 && s.in[1] % s.out[1] == 0 && s.in[2] % s.out[2] == 0;
}
PoolShape ordinary(PoolShape s) {
  for (int i = 0; i < 3; ++i) {
    s.kernel[i] = s.stride[i] = s.in[i] / s.out[i];
    s.pad[i] = 0;
    s.dilation[i] = 1;
  }
  return s;
}

// The first place of the maximum of [begin, end) along each axis, or the last one of a NaN.
template <class T, class X>
void max_of_window(const PoolShape& s, const T* plane, const int64_t (&begin)[3], const int64_t (&end)[3], T* y,
                   X* index) {
  int64_t at = (begin[0] * s.in[1] + begin[1]) * s.in[2] + begin[2];
  auto best = lowest<compute_t<T>>();
  for (int64_t i = begin[0]; i < end[0]; ++i)
    for (int64_t j = begin[1]; j < end[1]; ++j)
      for (int64_t k = begin[2]; k < end[2]; ++k) {
        const int64_t here = (i * s.in[1] + j) * s.in[2] + k;
        const auto v = load1(plane + here);
        if (v > best || v != v) {
          best = v;
          at = here;
        }
      }
  store1(y, best);
  *index = X(at);
}

// One window, the whole plane, of L planes at a time: their maxima, then the first place of each.
template <class T, class X> void max_of_planes(const PoolShape& s, const T* x, T* y, X* index) {
  using C = compute_t<T>;
  using I = typename int_of<C>::type;
  constexpr int L = kLanes<C>;
  const int64_t in = volume(s.in);
  parallel_for(ceil_div(s.planes, L), larger(1, kTaskItems / (L * in)), [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const int64_t p0 = group * L, planes = smaller(L, s.planes - p0);
      // f(vector, its place): the last one overlaps its neighbour instead of leaving a remainder.
      auto each = [&](int64_t p, const auto& f) {
        for (int64_t i = 0; i < in; i += L) f(load(x + (p0 + p) * in + smaller(i, in - L)), smaller(i, in - L));
      };
      Vec<C> most[L];
      Mask<C> nan{};
      for (int64_t p = 0; p < L; ++p) {
        most[p] = splat(lowest<C>());
        if (p < planes)
          each(p, [&](Vec<C> v, int64_t) {
            most[p] = max(most[p], v);
            nan |= v != v;
          });
      }
      if (any(nan)) {
        for (int64_t p = p0; p < p0 + planes; ++p) max_of_window(s, x + p * in, {0, 0, 0}, s.in, y + p, index + p);
        continue;
      }
      const Vec<C> maxima = reduce_each<C>(most, [](Vec<C> a, Vec<C> b) { return max(a, b); });
      Vec<I> at[L];
      for (int64_t p = 0; p < L; ++p) {
        at[p] = splat(I(in));
        if (p < planes)
          each(p, [&](Vec<C> v, int64_t i) {
            const Vec<I> here = iota<I>() + I(i);
            at[p] = (v == maxima[p]) & (here < at[p]) ? here : at[p];
          });
      }
      const Vec<I> places = reduce_each<I>(at, [](Vec<I> a, Vec<I> b) { return a < b ? a : b; });
      store_n(y + p0, maxima, planes);
      store_places<X, I, L>(places, index + p0, planes);
    }
  });
}

void adaptive_max_pool_forward(DType t, const PoolShape& s, const void* x, void* y, DType index_type, void* index) {
  const int64_t in = volume(s.in), out = volume(s.out);
  const Adaptive a{s};
  dispatch_floating(t, [&]<class T>() {
    dispatch_index(index_type, [&]<class X>() {
      const T* from = static_cast<const T*>(x);
      T* to = static_cast<T*>(y);
      X* at = static_cast<X*>(index);
      if (out == 1 && in >= kLanes<compute_t<T>>) return max_of_planes(s, from, to, at);
      if (out > 1 && divides(s)) return max_pool<T, X, true>(ordinary(s), from, to, at);
      parallel_for(s.planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
          int64_t o = p * out;
          for (int64_t d = 0; d < s.out[0]; ++d)
            for (int64_t h = 0; h < s.out[1]; ++h)
              for (int64_t w = 0; w < s.out[2]; ++w, ++o)
                max_of_window(s, from + p * in, {a.begin(0, d), a.begin(1, h), a.begin(2, w)},
                              {a.end(0, d), a.end(1, h), a.end(2, w)}, to + o, at + o);
        }
      });
    });
  });
}

void pool_gather(DType t, int64_t planes, int64_t in, int64_t out, const void* x, DType index_type, const void* index,
                 void* y) {
  dispatch_size(item_size(t), [&]<class T>() {
    dispatch_index(index_type, [&]<class X>() {
      parallel_for(planes, larger(1, kTaskItems / (out + 1)), [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p)
          for (int64_t o = p * out; o < (p + 1) * out; ++o)
            static_cast<T*>(y)[o] = static_cast<const T*>(x)[p * in + static_cast<const X*>(index)[o]];
      });
    });
  });
}

// Windows two wide side by side, each element in one of them at most: dx is written once, two rows' outputs' worth of
// pairs at a time.
bool by_pairs(const PoolShape& s) {
  bool yes = s.kernel[2] == 2;
  for (int i = 0; i < 3; ++i)
    yes &= s.kernel[i] == s.stride[i] && s.pad[i] == 0 && s.dilation[i] == 1 && s.out[i] * s.kernel[i] <= s.in[i];
  return yes;
}

// pair(output, place, even, odd) for a vector of outputs of a plane from `output` on: what goes to `place` and behind.
template <class T, class F> void spread_pairs(const PoolShape& s, T* plane, const F& pair) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  constexpr auto lanes = std::make_integer_sequence<int, L>();
  bool whole = true;
  for (int i = 0; i < 3; ++i) whole &= s.out[i] * s.kernel[i] == s.in[i];
  if (!whole) memset(plane, 0, size_t(volume(s.in)) * sizeof(T));
  int64_t output = 0;
  for (int64_t d = 0; d < s.out[0]; ++d)
    for (int64_t h = 0; h < s.out[1]; ++h, output += s.out[2])
      for (int64_t i = 0; i < s.kernel[0]; ++i)
        for (int64_t j = 0; j < s.kernel[1]; ++j) {
          const int64_t place = ((d * s.kernel[0] + i) * s.in[1] + h * s.kernel[1] + j) * s.in[2];
          for (int64_t w = 0; w < s.out[2]; w += L) {
            const int64_t n = smaller(L, s.out[2] - w);
            Vec<C> even, odd;
            pair(output + w, n, place + 2 * w, even, odd);
            const Vec<C> low = zip_low<C>(even, odd, lanes), high = zip_high<C>(even, odd, lanes);
            T* to = plane + place + 2 * w;
            if (n == L) {
              store(to, low);
              store(to + L, high);
            } else {
              store_n(to, low, smaller(2 * n, L));
              if (2 * n > L) store_n(to + L, high, 2 * n - L);
            }
          }
        }
}

// The first n lanes, converted.
template <class I, class X> inline Vec<I> load_places(const X* p, int64_t n) {
  constexpr int L = kLanes<I>;
  if constexpr (sizeof(X) == sizeof(I)) {
    return n == L ? load(reinterpret_cast<const I*>(p)) : load_n(reinterpret_cast<const I*>(p), n);
  } else {
    typename Packed<X, L>::type places{};
    memcpy(&places, p, size_t(n) * sizeof(X));
    return __builtin_convertvector(places, Vec<I>);
  }
}

template <class T, class X> void scatter_pairs(const PoolShape& s, int64_t planes, const T* y, const X* index, T* x) {
  using C = compute_t<T>;
  using I = typename int_of<C>::type;
  const int64_t in = volume(s.in), out = volume(s.out);
  parallel_for(planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      spread_pairs(s, x + p * in, [&](int64_t o, int64_t n, int64_t place, Vec<C>& even, Vec<C>& odd) {
        const Vec<C> dy = n == kLanes<C> ? load(y + p * out + o) : load_n(y + p * out + o, n);
        const Vec<I> at = load_places<I>(index + p * out + o, n) - I(place) - 2 * iota<I>();
        even = at == 0 ? dy : Vec<C>{};
        odd = at == 1 ? dy : Vec<C>{};
      });
  });
}

void pool_scatter(DType t, int64_t planes, int64_t in, int64_t out, const void* y, DType index_type, const void* index,
                  void* x, const PoolShape* windows) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    constexpr bool direct = sizeof(T) == sizeof(C);
    dispatch_index(index_type, [&]<class X>() {
      if (windows && by_pairs(*windows))
        return scatter_pairs(*windows, planes, static_cast<const T*>(y), static_cast<const X*>(index),
                             static_cast<T*>(x));
      parallel_for(planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
        Scratch<C> sum(direct ? 1 : in);
        for (int64_t p = begin; p < end; ++p) {
          T* plane = static_cast<T*>(x) + p * in;
          C* to = sum.data();
          if constexpr (direct) to = plane;
          memset(to, 0, size_t(in) * sizeof(C));
          const T* from = static_cast<const T*>(y) + p * out;
          const X* at = static_cast<const X*>(index) + p * out;
          for (int64_t o = 0; o < out; ++o) to[at[o]] += load1(from + o);
          if constexpr (!direct) store_row(to, plane, in);
        }
      });
    });
  });
}

bool max_unpool_forward(int item_size, int64_t planes, int64_t in, int64_t out, const void* y, const int64_t* index,
                        void* x) {
  for (int64_t o = 0; o < planes * out; ++o)
    if (index[o] < 0 || index[o] >= in) return false;
  dispatch_size(item_size, [&]<class T>() {
    parallel_for(planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        T* plane = static_cast<T*>(x) + p * in;
        memset(plane, 0, size_t(in) * sizeof(T));
        for (int64_t o = p * out; o < (p + 1) * out; ++o) plane[index[o]] = static_cast<const T*>(y)[o];
      }
    });
  });
  return true;
}

// How many elements a window of an axis counts.
int64_t axis_count(const PoolShape& s, Divisor divisor, int axis, int64_t o) {
  int64_t begin = o * s.stride[axis] - s.pad[axis];
  int64_t end = smaller(begin + s.kernel[axis], s.in[axis] + s.pad[axis]);
  if (!divisor.count_pad) {
    begin = larger(begin, 0);
    end = smaller(end, s.in[axis]);
  }
  return end - begin;
}

// f(run, first output's w, count along d and h): divisors are that times the count along w, or the override.
template <class C> struct Divisors {
  const PoolShape& s;
  Divisor divisor;
  Scratch<C> along_w;
  Divisors(const PoolShape& s, Divisor divisor) : s(s), divisor(divisor), along_w(s.out[2] + kLanes<C>) {
    fill(along_w.data() + s.out[2], C(1), kLanes<C>);  // whole vectors may be read
    for (int64_t w = 0; w < s.out[2]; ++w) along_w[w] = divisor.override ? C(1) : C(axis_count(s, divisor, 2, w));
  }
  C row(int64_t d, int64_t h) const {
    return divisor.override ? C(divisor.override) : C(axis_count(s, divisor, 0, d) * axis_count(s, divisor, 1, h));
  }
  // c[i] /= the divisor of output o + i of a plane, for outputs of one row.
  void divide(C* c, int64_t o, int64_t n) const {
    const C r = row(o / s.out[2] / s.out[1], o / s.out[2] % s.out[1]);
    const C* w = &along_w[o % s.out[2]];
    int64_t i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) store(c + i, load(c + i) / (load(w + i) * r));
    if (i < n) store_n(c + i, load_n(c + i, n - i) / (load(w + i) * r), n - i);
  }
};

template <class T, int kStride, int kTaps> void avg_pool_rows(const PoolShape& s, Divisor divisor, const T* x, T* y) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  const Divisors<C> divisors(s, divisor);
  const int64_t taps = kTaps ? kTaps : s.kernel[2], wide = s.out[2], out = volume(s.out);
  parallel_for(s.planes, larger(1, kTaskItems / (volume(s.in) + out)), [&](int64_t begin, int64_t end) {
    each_output_row(s, C(0), x, begin, end, [&](int64_t plane, int64_t row, const WindowRow* window, int64_t n) {
      T* to = y + plane * out + row * wide;
      const C rows = divisors.row(row / s.out[1], row % s.out[1]);
      for (int64_t j = 0; j < wide; j += L) {
        const int64_t left = smaller(L, wide - j);
        Vec<C> sum{};
        for (int64_t r = 0; r < n; ++r) {
          const C* from = static_cast<const C*>(window[r].data) + j * kStride;
#pragma GCC unroll 3
          for (int64_t c = 0; c < taps; ++c) sum += tap_vector<kStride>(from + c);
        }
        sum /= load(&divisors.along_w[j]) * rows;
        if (left == L)
          store(to + j, sum);
        else
          store_n(to + j, sum, left);
      }
    });
  });
}

template <class T> void avg_pool(const PoolShape& s, Divisor divisor, const T* x, T* y) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  if (by_rows(s))
    return dispatch_taps(s, [&]<int kStride, int kTaps>() { avg_pool_rows<T, kStride, kTaps>(s, divisor, x, y); });
  const Sliding p(s, kTile * L);
  const Divisors<C> divisors(s, divisor);
  const int64_t in = volume(s.in), out = volume(s.out);
  Scratch<int64_t> offset(p.taps);
  p.each_tap(s, [&](int64_t t, int64_t line, int64_t) { offset[t] = line; });
  parallel_for(p.groups(s.planes), p.grain(s), [&](int64_t begin, int64_t end) {
    Scratch<C> lines(p.windows.slots * p.line);
    Scratch<Run> runs(max_runs(p.windows, p.together, p.width));
    Scratch<int64_t> first(max_tiles(p.windows, p.together, p.width) + 1);
    C sum[kTile * L];
    int64_t tiles = 0, cut_for = 0;
    for (int64_t group = begin; group < end; ++group) {
      const int64_t plane = group * p.together, n = smaller(p.together, s.planes - plane);
      if (n != cut_for) tiles = cut_runs(p.windows, p.map, n, p.width, false, runs.data(), first.data());
      cut_for = n;
      cut_phases(p.windows, x + plane * in, in, n, C(0), lines.data(), p.line);
      for (int64_t t = 0; t < tiles; ++t) {
        Vec<C> acc[kTile] = {};
        for (int64_t tap = 0; tap < p.taps; ++tap) {
          const C* row = lines.data() + t * p.width + offset[tap];
#pragma GCC unroll 4
          for (int j = 0; j < kTile; ++j) acc[j] += load(row + j * L);
        }
#pragma GCC unroll 4
        for (int j = 0; j < kTile; ++j) store(sum + j * L, acc[j]);
        for (const Run* r = &runs[first[t]]; r < &runs[first[t + 1]]; ++r) {
          divisors.divide(sum + r->at, r->y % out, r->count);
          store_row(sum + r->at, y + plane * out + r->y, r->count);
        }
      }
    }
  });
}

void avg_pool_forward(DType t, const PoolShape& s, Divisor divisor, const void* x, void* y) {
  dispatch_pooled(t, [&]<class T>() { avg_pool(s, divisor, static_cast<const T*>(x), static_cast<T*>(y)); });
}

// Strides of 1: dy / divisor is pooled in turn, in windows as large that reach as far the other way.
template <class T, int kTaps>
void avg_adjoint_rows(const PoolShape& s, const Divisors<compute_t<T>>& divisors, const T* dy, T* dx) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  PoolShape back = s;
  back.planes = 1;
  for (int i = 0; i < 3; ++i) {
    back.in[i] = s.out[i];
    back.out[i] = s.in[i];
    back.pad[i] = s.kernel[i] - 1 - s.pad[i];
  }
  const int64_t in = volume(s.in), out = volume(s.out), taps = kTaps ? kTaps : s.kernel[2], wide = s.in[2];
  parallel_for(s.planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
    Scratch<C> parts(out + L);
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t o = 0; o < out; o += s.out[2]) {
        copy_strided(dy + p * out + o, 1, &parts[o], s.out[2]);
        divisors.divide(&parts[o], o, s.out[2]);
      }
      each_output_row(back, C(0), parts.data(), 0, 1, [&](int64_t, int64_t row, const WindowRow* window, int64_t n) {
        T* to = dx + p * in + row * wide;
        for (int64_t j = 0; j < wide; j += L) {
          Vec<C> sum{};
          for (int64_t r = 0; r < n; ++r) {
            const C* from = static_cast<const C*>(window[r].data) + j;
#pragma GCC unroll 3
            for (int64_t c = 0; c < taps; ++c) sum += load(from + c);
          }
          if (wide - j >= L)
            store(to + j, sum);
          else
            store_n(to + j, sum, wide - j);
        }
      });
    }
  });
}

// Without overlap, each element of a window of two columns gets the same. All windows are whole, of one divisor.
template <class T> void avg_adjoint_pairs(const PoolShape& s, Divisor divisor, const T* dy, T* dx) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  const int64_t in = volume(s.in), out = volume(s.out), count = divisor.override ? divisor.override : volume(s.kernel);
  const bool exact = (count & (count - 1)) == 0 && count > 0;  // a power of two: its inverse gives the same quotients
  parallel_for(s.planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      spread_pairs(s, dx + p * in, [&](int64_t o, int64_t n, int64_t, Vec<C>& even, Vec<C>& odd) {
        const Vec<C> part = n == L ? load(dy + p * out + o) : load_n(dy + p * out + o, n);
        even = odd = exact ? part * (C(1) / C(count)) : part / C(count);
      });
  });
}

// dx[i] = sum of dy[o] / divisor(o) over the windows o that hold i. A phase line of dx gathers, for each of its taps,
// the line of dy / divisor at minus the tap's shift; that line is zero between rows and before its start.
template <class T> void avg_pool_adjoint(const PoolShape& s, Divisor divisor, const T* dy, T* dx) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  const Divisors<C> divisors(s, divisor);
  if (by_pairs(s)) return avg_adjoint_pairs(s, divisor, dy, dx);
  if (by_rows(s) && volume(s.stride) == 1)
    return dispatch_taps(s, [&]<int, int kTaps>() { avg_adjoint_rows<T, kTaps>(s, divisors, dy, dx); });
  const Sliding p(s, kTile * L);
  const int64_t in = volume(s.in), out = volume(s.out), lead = p.windows.max_offset, slots = p.windows.slots;
  const int64_t line = round_up(p.line, p.width);
  Scratch<int64_t> shift(p.taps), first_tap(slots + 1);  // of the taps, slot by slot
  int64_t taps = 0;
  for (int64_t slot = 0; slot < slots; ++slot) {
    first_tap[slot] = taps;
    p.each_tap(s, [&](int64_t, int64_t offset, int64_t) {
      if (offset / p.line == slot) shift[taps++] = offset % p.line;
    });
  }
  first_tap[slots] = taps;
  parallel_for(p.groups(s.planes), p.grain(s), [&](int64_t begin, int64_t end) {
    Scratch<C> lines(slots * line), parts(lead + line);
    Scratch<Run> runs(max_runs(p.windows, p.together, p.width));
    Scratch<int64_t> first(max_tiles(p.windows, p.together, p.width) + 1);
    fill(parts.data(), C(0), lead + line);
    C* const part = parts.data() + lead;
    int64_t tiles = 0, cut_for = 0;
    for (int64_t group = begin; group < end; ++group) {
      const int64_t plane = group * p.together, n = smaller(p.together, s.planes - plane);
      if (n != cut_for) {
        tiles = cut_runs(p.windows, p.map, n, p.width, false, runs.data(), first.data());
        fill(part, C(0), line);
      }
      cut_for = n;
      for (int64_t t = 0; t < tiles; ++t)
        for (const Run* r = &runs[first[t]]; r < &runs[first[t + 1]]; ++r) {
          copy_strided(dy + plane * out + r->y, 1, part + r->q, r->count);
          divisors.divide(part + r->q, r->y % out, r->count);
        }
      const int64_t used = (n - 1) * p.windows.image + p.windows.last + 1 + lead;
      for (int64_t slot = 0; slot < slots; ++slot)
        for (int64_t q = 0; q < used; q += p.width) {
          Vec<C> acc[kTile] = {};
          for (int64_t tap = first_tap[slot]; tap < first_tap[slot + 1]; ++tap)
#pragma GCC unroll 4
            for (int j = 0; j < kTile; ++j) acc[j] += load(part + q - shift[tap] + j * L);
#pragma GCC unroll 4
          for (int j = 0; j < kTile; ++j) store(lines.data() + slot * line + q + j * L, acc[j]);
        }
      memset(dx + plane * in, 0, size_t(n * in) * sizeof(T));
      join_phases(p.windows, lines.data(), line, in, n, dx + plane * in);
    }
  });
}

void avg_pool_backward(DType t, const PoolShape& s, Divisor divisor, const void* dy, void* dx) {
  dispatch_floating(t,
                    [&]<class T>() { avg_pool_adjoint(s, divisor, static_cast<const T*>(dy), static_cast<T*>(dx)); });
}

template <class T> compute_t<T> sum_row(const T* x, int64_t n) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  Vec<C> acc = {};
  int64_t i = 0;
  for (; i + L <= n; i += L) acc += load(x + i);
  C total = sum_lanes<C>(acc);
  for (; i < n; ++i) total += load1(x + i);
  return total;
}

// Rows of the window are added up first, then stretches of the sum.
template <class T> void adaptive_avg_pool(const PoolShape& s, const T* x, T* y) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  const Adaptive a{s};
  const int64_t in = volume(s.in), out = volume(s.out), wide = s.in[2];
  parallel_for(s.planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
    Scratch<C> sum(wide);
    for (int64_t p = begin; p < end; ++p) {
      T* to = y + p * out;
      const T* plane = x + p * in;
      if (out == 1) {
        store1(to, sum_row(plane, in) / C(in));
        continue;
      }
      for (int64_t d = 0; d < s.out[0]; ++d)
        for (int64_t h = 0; h < s.out[1]; ++h) {
          fill(sum.data(), C(0), wide);
          for (int64_t i = a.begin(0, d); i < a.end(0, d); ++i)
            for (int64_t j = a.begin(1, h); j < a.end(1, h); ++j) {
              const T* row = plane + (i * s.in[1] + j) * wide;
              int64_t k = 0;
              for (; k + L <= wide; k += L) store(&sum[k], load(&sum[k]) + load(row + k));
              for (; k < wide; ++k) sum[k] += load1(row + k);
            }
          const int64_t rows = a.count(0, d) * a.count(1, h);
          for (int64_t w = 0; w < s.out[2]; ++w) {
            const int64_t n = a.count(2, w);
            store1(to++, sum_row(&sum[a.begin(2, w)], n) / C(rows * n));
          }
        }
    }
  });
}

void adaptive_avg_pool_forward(DType t, const PoolShape& s, const void* x, void* y) {
  dispatch_floating(t, [&]<class T>() { adaptive_avg_pool(s, static_cast<const T*>(x), static_cast<T*>(y)); });
}

// dx[i] = sum of dy[o] / count(o) over the windows that hold i: dy is spread along w, then added to the window's rows.
template <class T> void adaptive_avg_pool_adjoint(const PoolShape& s, const T* dy, T* dx) {
  using C = compute_t<T>;
  const Adaptive a{s};
  const int64_t in = volume(s.in), out = volume(s.out), wide = s.in[2];
  parallel_for(s.planes, larger(1, kTaskItems / (in + out)), [&](int64_t begin, int64_t end) {
    Scratch<C> row(wide), plane(in);
    for (int64_t p = begin; p < end; ++p) {
      const T* from = dy + p * out;
      if (out == 1) {
        T part;
        store1(&part, load1(from) / C(in));
        fill(dx + p * in, part, in);
        continue;
      }
      fill(plane.data(), C(0), in);
      for (int64_t d = 0; d < s.out[0]; ++d)
        for (int64_t h = 0; h < s.out[1]; ++h) {
          fill(row.data(), C(0), wide);
          const int64_t rows = a.count(0, d) * a.count(1, h);
          for (int64_t w = 0; w < s.out[2]; ++w) {
            const C part = load1(from++) / C(rows * a.count(2, w));
            for (int64_t k = a.begin(2, w); k < a.end(2, w); ++k) row[k] += part;
          }
          for (int64_t i = a.begin(0, d); i < a.end(0, d); ++i)
            for (int64_t j = a.begin(1, h); j < a.end(1, h); ++j) {
              C* to = &plane[(i * s.in[1] + j) * wide];
              for (int64_t k = 0; k < wide; ++k) to[k] += row[k];
            }
        }
      store_row(plane.data(), dx + p * in, in);
    }
  });
}

void adaptive_avg_pool_backward(DType t, const PoolShape& s, const void* dy, void* dx) {
  dispatch_floating(t,
                    [&]<class T>() { adaptive_avg_pool_adjoint(s, static_cast<const T*>(dy), static_cast<T*>(dx)); });
}

}  // namespace

const PoolKernels pool_kernels = {
    max_pool_forward,  adaptive_max_pool_forward, pool_gather,
    pool_scatter,      max_unpool_forward,        avg_pool_forward,
    avg_pool_backward, adaptive_avg_pool_forward, adaptive_avg_pool_backward,
};

}  // namespace gg::GG_ISA
