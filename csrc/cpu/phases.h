// Sliding windows as shifts: what convolution and pooling share.
//
// A padded image is cut into its stride phases: phase a of an axis holds x[j*stride + a - pad] at position j, so that a
// tap of the window reads, for consecutive outputs, consecutive elements of one phase, at a fixed shift. Rows, planes
// and images follow each other in one flat line (pitch * row + column), where they share their zero borders; output
// position q of that line takes tap t from position q + offset(t). Positions between the rows compute garbage that
// nobody stores.
#pragma once
#include <utility>

#include "core/dtype.h"
#include "cpu/integers.h"
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr bool kMasks = GG_VECTOR_BYTES == 64;  // load_n and store_n are single instructions

inline int64_t divisor(int64_t a, int64_t b) {  // the greatest common one
  while (b) {
    const int64_t r = a % b;
    a = b;
    b = r;
  }
  return a;
}

// One axis: output o reads padded coordinate o*stride + start + t*step for tap t; coordinate i is x[i - pad] or the
// border.
struct WindowAxis {
  int64_t in, out, stride, pad, taps, start, step;

  int64_t coordinate(int64_t t) const { return start + t * step; }
  int64_t shift(int64_t t) const { return coordinate(t) / stride; }
  // Taps whose coordinates agree modulo stride read the same phase: t and t + slots().
  int64_t slots() const { return larger(1, smaller(taps, stride / divisor(stride, step < 0 ? -step : step))); }
  int64_t phase(int64_t slot) const { return taps ? coordinate(slot) % stride : 0; }
  int64_t max_shift() const { return taps ? larger(shift(0), shift(taps - 1)) : 0; }
  // Positions [first, last) of a phase hold elements of x, the others border.
  int64_t first(int64_t phase) const { return clamp(ceil_div(pad - phase, stride)); }
  int64_t last(int64_t phase) const { return larger(first(phase), clamp(ceil_div(in + pad - phase, stride))); }
  int64_t length() const { return out + max_shift(); }
  // Trailing border of one row that can double as the leading border of the next.
  int64_t shared() const {
    int64_t share = max_shift();
    for (int64_t s = 0; s < slots(); ++s) {
      share = smaller(share, first(phase(s)));
      share = smaller(share, length() - last(phase(s)));
    }
    return share;
  }
  int64_t pitch() const { return length() - shared(); }
  // Whether some output finds an element of x under this tap.
  bool alive(int64_t t) const {
    int64_t c = coordinate(t) - pad;  // o*stride + c in [0, in)
    int64_t o = larger(0, ceil_div(-c, stride));
    return o < out && o * stride + c < in;
  }
  // Leaves out the taps at both ends that only ever see the border, and the border before the first tap. Returns how
  // many taps were left out at the beginning.
  int64_t trim() {
    const int64_t low = pad - (out - 1) * stride, high = pad + in - 1;  // coordinates outside of these see border only
    int64_t begin = step > 0 ? ceil_div(low - start, step) : ceil_div(start - high, -step);
    int64_t end = step > 0 ? floor_div(high - start, step) + 1 : floor_div(start - low, -step) + 1;
    begin = smaller(larger(begin, 0), taps);
    end = larger(begin, smaller(end, taps));
    while (begin < end && !alive(begin)) ++begin;
    while (begin < end && !alive(end - 1)) --end;
    start += begin * step;
    taps = end - begin;
    if (taps > 0) {
      const int64_t nearest = smaller(start, coordinate(taps - 1)) / stride * stride;
      start -= nearest;
      pad -= nearest;
    }
    return begin;
  }

 private:
  int64_t clamp(int64_t j) const { return larger(0, smaller(length(), j)); }
};

struct Windows {
  WindowAxis axis[3];
  int64_t
      pitch[3];   // of a plane in planes, a row in rows, an element: positions along each axis until the next repeats
  int64_t image;  // positions from one image to the next
  int64_t slots;  // phases in use
  int64_t last;   // position of an image's last output
  int64_t max_offset;

  explicit Windows(const WindowAxis (&axes)[3]) {
    for (int i = 0; i < 3; ++i) {
      axis[i] = axes[i];
      pitch[i] = axes[i].pitch();
    }
    measure();
  }
  // The part of the outputs [begin, end) of one axis, outside of which lie unit axes only; offsets stay the same.
  Windows part(int at, int64_t begin, int64_t end) const {
    Windows w = *this;
    w.axis[at].out = end - begin;
    w.axis[at].pad -= begin * axis[at].stride;
    w.measure();
    return w;
  }
  int64_t position(int64_t d, int64_t h, int64_t w) const { return (d * pitch[1] + h) * pitch[2] + w; }
  // Where the tap (t0, t1, t2) reads, relative to the output, when every phase line is `line` long.
  int64_t offset(int64_t t0, int64_t t1, int64_t t2, int64_t line) const {
    const int64_t t[3] = {t0, t1, t2};
    int64_t slot = 0;
    for (int i = 0; i < 3; ++i) slot = slot * axis[i].slots() + t[i] % axis[i].slots();
    return slot * line + position(axis[0].shift(t0), axis[1].shift(t1), axis[2].shift(t2));
  }
  // Length of a phase line for n images whose outputs are computed `tile` at a time. An odd number of cache lines keeps
  // the lines of different channels out of the same cache set.
  int64_t line(int64_t n, int64_t tile) const {
    int64_t need = round_up((n - 1) * image + last + 1, tile) + max_offset;
    int64_t lines = ceil_div(need, 16);
    return (lines | 1) * 16;
  }

 private:
  void measure() {
    image = pitch[0] * pitch[1] * pitch[2];
    slots = axis[0].slots() * axis[1].slots() * axis[2].slots();
    last = position(axis[0].out - 1, axis[1].out - 1, axis[2].out - 1);
    max_offset = position(axis[0].max_shift(), axis[1].max_shift(), axis[2].max_shift());
  }
};

template <class C, int... i> inline Vec<C> even_lanes(Vec<C> a, Vec<C> b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, (2 * i)...);
}

template <class C, int... i> inline Vec<C> zip_low(Vec<C> a, Vec<C> b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, (i / 2 + i % 2 * kLanes<C>)...);
}
template <class C, int... i> inline Vec<C> zip_high(Vec<C> a, Vec<C> b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, (i / 2 + i % 2 * kLanes<C> + kLanes<C> / 2)...);
}

// y[i] = x[i * stride]
template <class T, class C> inline void copy_strided(const T* x, int64_t stride, C* y, int64_t n) {
  constexpr int L = kLanes<C>;
  int64_t i = 0;
  if (stride == 1) {
    for (; i + L <= n; i += L) store(y + i, load(x + i));
    if (kMasks && i < n) return store_n(y + i, load_n(x + i, n - i), n - i);
    for (; i < n; ++i) y[i] = load1(x + i);
  } else if (stride == 2) {
    constexpr auto lanes = std::make_integer_sequence<int, L>();
    for (; i + L < n; i += L) store(y + i, even_lanes<C>(load(x + 2 * i), load(x + 2 * i + L), lanes));
    if (kMasks && i < n) {
      const int64_t left = 2 * (n - i) - 1;  // elements that may be read
      const Vec<C> low = load_n(x + 2 * i, smaller(left, L));
      const Vec<C> high = left > L ? load_n(x + 2 * i + L, left - L) : Vec<C>{};
      return store_n(y + i, even_lanes<C>(low, high, lanes), n - i);
    }
    for (; i < n; ++i) y[i] = load1(x + 2 * i);
  } else {
    for (; i < n; ++i) y[i] = load1(x + i * stride);
  }
}

// y[i * stride] = x[i]
template <class T, class C> inline void spread_strided(const C* x, T* y, int64_t stride, int64_t n) {
  if (stride == 1)
    for (int64_t i = 0; i < n; ++i) store1(y + i, x[i]);
  else
    for (int64_t i = 0; i < n; ++i) store1(y + i * stride, x[i]);
}

template <class C> inline void fill(C* p, C value, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = value;
}

// f(element of x, position in its phase line, count, line number): every stretch of n images' rows that lies in the
// lines.
template <class F> inline void each_phase_row(const Windows& w, int64_t image_stride, int64_t n, const F& f) {
  const WindowAxis &ad = w.axis[0], &ah = w.axis[1], &aw = w.axis[2];
  int64_t slot = 0;
  for (int64_t sd = 0; sd < ad.slots(); ++sd)
    for (int64_t sh = 0; sh < ah.slots(); ++sh)
      for (int64_t sw = 0; sw < aw.slots(); ++sw, ++slot) {
        const int64_t pd = ad.phase(sd), ph = ah.phase(sh), pw = aw.phase(sw);
        const int64_t column = aw.first(pw), count = aw.last(pw) - column;
        if (count <= 0) continue;
        const int64_t d0 = ad.first(pd), d1 = ad.last(pd), h0 = ah.first(ph), h1 = ah.last(ph);
        const int64_t w0 = column * aw.stride + pw - aw.pad;
        for (int64_t i = 0; i < n; ++i)
          for (int64_t jd = d0; jd < d1; ++jd)
            for (int64_t jh = h0; jh < h1; ++jh) {
              const int64_t d = jd * ad.stride + pd - ad.pad, h = jh * ah.stride + ph - ah.pad;
              f(i * image_stride + (d * ah.in + h) * aw.in + w0, i * w.image + w.position(jd, jh, column), count, slot);
            }
      }
}

// Writes all phase lines of one channel of n images: lines[slot][line], border elsewhere.
template <class T, class C>
void cut_phases(const Windows& w, const T* x, int64_t image_stride, int64_t n, C border, C* lines, int64_t line) {
  C* end = lines;  // written so far
  const int64_t stride = w.axis[2].stride;
  each_phase_row(w, image_stride, n, [&](int64_t from, int64_t to, int64_t count, int64_t slot) {
    C* out = lines + slot * line + to;
    fill(end, border, out - end);
    copy_strided(x + from, stride, out, count);
    end = out + count;
  });
  fill(end, border, lines + w.slots * line - end);
}

// The inverse: every element of x from its phase line; elements that no line holds keep what they are.
template <class T, class C>
void join_phases(const Windows& w, const C* lines, int64_t line, int64_t image_stride, int64_t n, T* x) {
  const int64_t stride = w.axis[2].stride;
  each_phase_row(w, image_stride, n, [&](int64_t to, int64_t from, int64_t count, int64_t slot) {
    spread_strided(lines + slot * line + from, x + to, stride, count);
  });
}

// A maximal stretch of outputs that lie side by side in one row: `count` outputs from position q, for column `at` of
// their tile.
struct Run {
  int64_t q;
  int64_t y;  // where they go, in items
  int32_t at, count;
};

// Output strides in items: image, plane, row, element.
struct OutputMap { int64_t image, axis[3]; };

// The runs of n images' outputs, cut into tiles of `width` columns: tile i owns runs [first[i], first[i + 1]). Sparse
// tiles are stretches of the line, whose gaps stay; dense tiles pack outputs side by side. Returns the number of tiles.
inline int64_t max_runs(const Windows& w, int64_t n, int64_t width) {
  return n * w.axis[0].out * w.axis[1].out + ((n - 1) * w.image + w.last + 1) / width + 2;
}
inline int64_t max_tiles(const Windows& w, int64_t n, int64_t width) {
  return ((n - 1) * w.image + w.last + 1) / width + 2;
}
inline int64_t cut_runs(const Windows& w, const OutputMap& map, int64_t n, int64_t width, bool dense, Run* runs,
                        int64_t* first) {
  int64_t tiles = 0, r = 0, packed = 0;
  first[0] = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t d = 0; d < w.axis[0].out; ++d)
      for (int64_t h = 0; h < w.axis[1].out; ++h) {
        int64_t q = i * w.image + w.position(d, h, 0);
        int64_t y = i * map.image + d * map.axis[0] + h * map.axis[1];
        int64_t left = w.axis[2].out;
        while (left > 0) {
          const int64_t column = dense ? packed : q;
          while (column >= (tiles + 1) * width) first[++tiles] = r;
          const int64_t at = column - tiles * width, count = smaller(left, width - at);
          runs[r++] = {q, y, int32_t(at), int32_t(count)};
          q += count;
          y += count * map.axis[2];
          packed += count;
          left -= count;
        }
      }
  if (r > first[tiles]) first[++tiles] = r;
  return tiles;
}

}  // namespace
}  // namespace gg::GG_ISA
