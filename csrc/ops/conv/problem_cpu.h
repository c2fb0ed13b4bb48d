// What forward and data gradient have in common: a convolution of `channels` into `rows`, its cut into tasks, and how
// tiles of the result are stored.
#pragma once
#include "cpu/phases.h"

namespace gg::GG_ISA {
namespace {

// A convolution with the strides that tell forward from data gradient.
struct Problem {
  int64_t batch, groups, channels, rows;  // channels (reduced) and output channels, both of one group
  WindowAxis axis[3];
  int64_t x_image, x_channel;  // strides of the input, in items
  int64_t w_group, w_row, w_channel, w_tap[3], w_start;
  int64_t y_channel, y_start;
  OutputMap map;

  void trim() {
    for (int i = 0; i < 3; ++i) w_start += axis[i].trim() * w_tap[i];
  }
  int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  // f(number, index of its weight, its tap on each axis)
  template <class F> void each_tap(const F& f) const {
    int64_t i = 0;
    for (int64_t a = 0; a < axis[0].taps; ++a)
      for (int64_t b = 0; b < axis[1].taps; ++b)
        for (int64_t c = 0; c < axis[2].taps; ++c)
          f(i++, w_start + a * w_tap[0] + b * w_tap[1] + c * w_tap[2], a, b, c);
  }
};

constexpr int64_t kCache = 640 << 10;  // bytes of phase lines per task: L2
constexpr int64_t kTaskFlops = 4 << 20;

// How the pixels are cut into tasks: `images` whole images each, or `lines` outputs of the outermost axis of one image.
struct Blocks {
  int64_t images, lines, count;
  int at;

  // least and most: positions of a block, to fill register tiles and to fit the cache; wanted: blocks to keep cores
  // busy.
  Blocks(const Windows& w, int64_t batch, int64_t least, int64_t most, int64_t wanted) {
    at = 0;
    while (at < 2 && w.axis[at].length() == 1) ++at;
    lines = w.axis[at].out;
    images = larger(batch / wanted, ceil_div(least, w.image));
    images = larger(1, smaller(smaller(images, batch), most / w.image));
    if (w.image > most || (batch < wanted && w.image >= 2 * least)) {
      const int64_t one = larger(1, w.image / w.pitch[at]), halo = w.axis[at].max_shift();
      int64_t fit = smaller(most / one - halo, ceil_div(lines, ceil_div(wanted, batch)));
      fit = larger(fit, larger(2 * halo, ceil_div(least, one)));  // what is computed outweighs what is copied again
      if (fit < lines) lines = ceil_div(lines, ceil_div(lines, fit));
    }
    count = parts(w) * ceil_div(batch, images);
  }
  int64_t parts(const Windows& w) const { return ceil_div(w.axis[at].out, lines); }
};

// y[0..n) = c + bias, rounded to T. The last whole vector overlaps its neighbour instead of leaving a remainder.
template <class T, class C> inline void store_run(const C* c, C bias, T* y, int64_t n) {
  constexpr int L = kLanes<C>;
  const Vec<C> b = splat(bias);
  if (n < L) return store_n(y, load_n(c, n) + b, n);
  for (int64_t i = 0; i < n; i += L) {
    const int64_t at = smaller(i, n - L);
    store(y + at, load(c + at) + b);
  }
}

template <class T, class C>
void store_tile(const Run* run, const Run* end, int64_t step, const C* c, int64_t rows, int64_t width, const T* bias,
                T* y, int64_t y_channel) {
  while (run < end) {
    const int64_t at = run->at, to = run->y;
    int64_t n = run->count;
    for (++run; run < end && step == 1 && run->at == at + n && run->y == to + n; ++run) n += run->count;
    for (int64_t i = 0; i < rows; ++i) {
      const C b = bias ? load1(bias + i) : C(0);
      const C* from = c + i * width + at;
      T* out = y + i * y_channel + to;
      if (step == 1)
        store_run(from, b, out, n);
      else
        for (int64_t j = 0; j < n; ++j) store1(out + j * step, from[j] + b);
    }
  }
}

}  // namespace
}  // namespace gg::GG_ISA
