// Creation: tensors made from a rule instead of data.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

struct CreationKernels {
  // y[i] = start + i * step, in float64 for floating dtypes, else in int64.
  void (*arange)(DType, void* y, int64_t n, double start, double step);
  void (*arange_int)(DType, void* y, int64_t n, int64_t start, int64_t step);
  // y[i] = start + i * (end - start) / (n - 1), counted from the nearer end, so that both ends are exact.
  void (*linspace)(DType, void* y, int64_t n, double start, double end);
  // y[i] = base ** linspace(start, end, n)[i].
  void (*logspace)(DType, void* y, int64_t n, double start, double end, double base);
  // The places (i, j) of a (rows, cols) matrix with j - i <= offset (lower) or >= offset (upper), row by row: y[0, :]
  // holds the n values of i, y[1, :] those of j.
  void (*triangle_indices)(int64_t* y, int64_t n, int64_t rows, int64_t cols, int64_t offset, bool lower);
};
GG_KERNELS(CreationKernels, creation_kernels)

}  // namespace gg
