// Layout: kernels that move elements without computing: copy (any strides, any pair of dtypes), fill, triangles.
#pragma once
#include "core/dims.h"
#include "core/dtype.h"
#include "core/kernels.h"
#include "core/loop.h"

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
};
GG_KERNELS(LayoutKernels, layout_kernels)

class Array;

// out = in, broadcast to out's shape and converted to its dtype. Bumps no version.
void copy(const Array& out, const Array& in);
// out = value (0-d), converted. Bumps no version.
void fill(const Array& out, const Array& value);

}  // namespace gg
