// Softmax, log-softmax and cross-entropy over the middle axis of x (outer, n, inner).
//
//     softmax_j = exp(x_j - m) / s,   m = max_j x_j,   s = sum_j exp(x_j - m)
//
// Cross-entropy never stores a softmax: its forward saves m and 1 / s of each row, and its backward reads x once more.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

// One row is one (outer, inner) pair: rows = outer * inner. C is the compute type of x. With class indices, the row's
// loss is
//     w_t (1 - smoothing) (-log p_t) + smoothing / n * sum_c w_c (-log p_c),    0 where t == ignore_index
// and with probabilities q
//     sum_c w_c q'_c (-log p_c),    q' = (1 - smoothing) q + smoothing / n.
struct CrossEntropyArgs {
  const void* x;              // (outer, n, inner)
  const int64_t* target;      // (rows), or null
  const void* probabilities;  // (outer, n, inner), in x's dtype, or null
  const void* weight;         // C (n), or null for ones
  void* stats;                // C (2, rows): m and 1 / s; written by forward, read by backward
  int64_t outer, n, inner;
  int64_t ignore_index;
  double smoothing;
};

struct SoftmaxKernels {
  void (*softmax_forward)(DType, const void* x, void* y, int64_t outer, int64_t n, int64_t inner, bool log);
  void (*softmax_backward)(DType, const void* dy, const void* y, void* dx, int64_t outer, int64_t n, int64_t inner,
                           bool log);
  // losses: C (rows).
  void (*cross_entropy_forward)(DType, const CrossEntropyArgs&, void* losses);
  // The sum of C losses (rows), divided by total[0] where mean, in out's dtype t. With a target, total (C) is first set
  // to the sum of w_t over the rows not ignored; without, the caller has set it.
  void (*cross_entropy_reduce)(DType t, const CrossEntropyArgs&, const void* losses, bool mean, void* total, void* out);
  // dx = scale * (p * sum_c k_c - k), where the loss is sum_c k_c (-log p_c); scale = dy (C; one for all, or one a row)
  // over total (C, or null for 1). dq, in x's dtype, may be null: the gradient of the probabilities.
  void (*cross_entropy_backward)(DType, const CrossEntropyArgs&, const void* dy, bool dy_per_row, const void* total,
                                 void* dx, void* dq);
  // The negative log-likelihood of log-probabilities x: losses = -w_t x_t, and dx is that constant at t. Reads of the
  // arguments x, target, weight and sizes only; dx is zero before.
  void (*nll_forward)(DType, const CrossEntropyArgs&, void* losses);
  void (*nll_backward)(DType, const CrossEntropyArgs&, const void* dy, bool dy_per_row, const void* total, void* dx);
  // The first of n classes that is neither in [0, classes) nor ignore_index, or -1.
  int64_t (*find_bad_class)(const int64_t* target, int64_t n, int64_t classes, int64_t ignore_index);
};

GG_KERNELS(SoftmaxKernels, softmax_kernels)

// Every class of a dense int64 target lies in [0, classes) or is ignore_index; else an IndexError.
class Array;
void check_classes(const char* op, const Array& target, int64_t classes, int64_t ignore_index);

}  // namespace gg
