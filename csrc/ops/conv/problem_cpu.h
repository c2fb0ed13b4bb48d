// What forward and data gradient have in common: a convolution of `channels` into `rows`.
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

}  // namespace
}  // namespace gg::GG_ISA
