// Layout: kernels that move elements without computing: copy (any strides, any pair of dtypes), fill, triangles.
#pragma once
#include "core/device_code.h"
#include "core/dims.h"
#include "core/dtype.h"
#include "core/kernels.h"
#include "core/loop.h"

namespace pybind11 {
class module_;
}

namespace gg {

// What surrounds a padded tensor: a value, or its own elements mirrored, repeated or taken from the other end.
enum class Border : uint8_t { Constant, Reflect, Replicate, Circular };

// The elements of y that an element of x is the source of, along one axis: up to three runs.
struct PadTargets {
  int64_t first[3] = {}, count[3] = {};

  GG_DEVICE int64_t total() const { return count[0] + count[1] + count[2]; }
  GG_DEVICE int64_t at(int64_t i) const {
    if (i < count[0]) return first[0] + i;
    i -= count[0];
    return i < count[1] ? first[1] + i : first[2] + i - count[1];
  }
};

// One axis of x (in elements) and of y (out), where x's element k stands at left + k; left < 0 crops. A circular border
// repeats x's elements [low, high), which are all that is left of x.
struct PadAxis {
  int64_t in, out, left, low, high;
  int64_t stride;  // of x, in items

  // The element of x that y's element i shows, -1 in a constant border.
  GG_DEVICE int64_t source(Border border, int64_t i) const {
    const int64_t k = i - left;
    switch (border) {
      case Border::Reflect: return k < 0 ? -k : k < in ? k : 2 * (in - 1) - k;
      case Border::Replicate: return k < 0 ? 0 : k < in ? k : in - 1;
      case Border::Circular: return k < low ? k + high - low : k < high ? k : k - high + low;
      default: return k >= 0 && k < in ? k : -1;
    }
  }
  GG_DEVICE PadTargets targets(Border border, int64_t k) const {
    PadTargets t;
    auto run = [&](int which, int64_t begin, int64_t end) {
      begin = begin < 0 ? 0 : begin;
      end = end < out ? end : out;
      t.first[which] = begin;
      t.count[which] = end > begin ? end - begin : 0;
    };
    if (k >= low && k < high) run(0, left + k, left + k + 1);
    if (border == Border::Reflect) {
      if (k > 0) run(1, left - k, left - k + 1);
      if (k < in - 1) run(2, left + 2 * (in - 1) - k, left + 2 * (in - 1) - k + 1);
    } else if (border == Border::Replicate) {
      if (k == 0) run(1, 0, left);
      if (k == in - 1) run(2, left + in, out);
    } else if (border == Border::Circular && k >= low && k < high) {
      run(1, left + k - high + low, left + k - high + low + 1);
      run(2, left + k + high - low, left + k + high - low + 1);
    }
    return t;
  }
};

struct PadView {
  Border border;
  int ndim;  // at least 1
  PadAxis axis[kMaxDims];
};

struct LayoutKernels {
  // out = in, converted: bool is x != 0, float to whole numbers truncates. The operands do not overlap. Operand 0 is
  // out; input strides may be 0 or negative.
  void (*copy)(const Loop<2>& loop);
  // out = value, one element of out's dtype in host memory.
  void (*fill)(const Loop<1>& loop, const void* value);
  // y = x (batch, rows, cols) where column - row <= diagonal (lower) or >= diagonal (upper), else 0.
  void (*triangle)(DType, const void* x, void* y, int64_t batch, int64_t rows, int64_t cols, int64_t diagonal,
                   bool lower);
  // y[k] = i for ends[i - 1] <= k < ends[i]; ends, n of them, do not decrease, and the last is total, y's length.
  void (*repeat_index)(const int64_t* ends, int64_t n, int64_t total, int64_t* y);
  // y = x between borders, y dense and not empty; value is one element in host memory.
  void (*pad)(int item_size, const PadView&, const void* x, void* y, const void* value);
  // dx[k] = the sum of dy over what shows x's element k; both dense, dx not empty, floating-point, no constant border.
  void (*pad_backward)(DType, const PadView&, const void* dy, void* dx);
};
GG_KERNELS(LayoutKernels, layout_kernels)

class Array;

// out = in, broadcast to out's shape, converted to its dtype and moved to its device. Bumps no version.
void copy(const Array& out, const Array& in);
// out = value (0-d), converted. Bumps no version.
void fill(const Array& out, const Array& value);
// The part of x from start on along dim, length elements, each step apart. The caller has checked that it fits.
Array slice(const Array& x, int dim, int64_t start, int64_t length, int64_t step = 1);

void bind_views(pybind11::module_& m);

}  // namespace gg
