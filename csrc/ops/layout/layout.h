// Layout: kernels that move elements without computing: copy (any strides, any pair of dtypes), fill, triangles.
#pragma once
#include "core/dims.h"
#include "core/dtype.h"
#include "core/kernels.h"
#include "core/loop.h"

namespace pybind11 {
class module_;
}

namespace gg {

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
