// The matrix product family: C = alpha A B + beta D over a batch, pairwise p-norm distances, inverses.
#pragma once
#include "core/dims.h"
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

// For every index of the batch: A (M, K), B (K, N), C and D (M, N). Strides are in items; a stride of 0 repeats a
// matrix.
struct MatmulProblem {
  int64_t m, n, k;
  double alpha, beta;
  const void *a, *b, *d;  // d may be null: beta D is then 0
  void* c;                // the columns or the rows of C are dense
  int64_t a_row, a_col, b_row, b_col, d_row, d_col, c_row, c_col;
  int batch_ndim;
  int64_t batch_shape[kMaxDims], a_batch[kMaxDims], b_batch[kMaxDims], d_batch[kMaxDims], c_batch[kMaxDims];
};

struct MatmulKernels {
  void (*matmul)(DType, const MatmulProblem&);
  // out[b, i, j] = (sum over t of |x[b, i, t] - y[b, j, t]|^p)^(1/p) for x (batch, M, T) and y (batch, N, T), all
  // dense; p = 0 counts the coordinates that differ, p = inf takes the largest difference.
  void (*cdist_forward)(DType, double p, const void* x, const void* y, void* out, int64_t batch, int64_t m, int64_t n,
                        int64_t t);
  // dx from dout and out; dy by the same call with x and y exchanged and the strides of (i, j) in dout and out as well.
  void (*cdist_backward)(DType, double p, const void* dout, const void* x, const void* y, const void* out, void* dx,
                         int64_t batch, int64_t m, int64_t n, int64_t t, int64_t out_row, int64_t out_col);
  // out = a^-1 for a (batch, n, n), dense; false where a matrix has no inverse. float32 and float64.
  bool (*inverse)(DType, const void* a, void* out, int64_t batch, int64_t n);
};
GG_KERNELS(MatmulKernels, matmul_kernels)

}  // namespace gg
