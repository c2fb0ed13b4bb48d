// Losses worth a kernel of their own: pointwise ones, which would otherwise write and read several arrays of the
// input's size, and connectionist temporal classification. (Cross-entropy and nll stand with softmax.)
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

// Each with d = x - t:
enum class PointwiseLoss : uint8_t {
  Mse,            // d^2
  L1,             // |d|
  SmoothL1,       // d^2 / (2 beta) where |d| < beta, else |d| - beta / 2
  Huber,          // d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2)
  Bce,            // -t log x - (1 - t) log(1 - x), logarithms not below -100
  BceWithLogits,  // max(x, 0) - x t + log(1 + exp(-|x|))
  SoftMargin,     // log(1 + exp(-t x))
  KlDiv,          // t log t - t x
  KlDivLog,       // exp(t) (t - x)
  PoissonLog,     // exp(x) - t x
};
constexpr int kPointwiseLosses = 10;

// Lengths and labels of a batch of sequences, all of the device; log_probs is (T, N, C), C elements of type c, dense.
struct CtcArgs {
  const void* log_probs;
  const int64_t* labels;         // of all sequences
  const int64_t* label_begin;    // (N): where a sequence's labels begin
  const int64_t* label_lengths;  // (N)
  const int64_t* input_lengths;  // (N)
  double* alpha;                 // (N, T, states): written by forward, read by backward
  int64_t T, N, C, states, blank;
};

struct LossKernels {
  // reduce: out is one element, factor times the sum; else out has n elements. parameter is beta or delta.
  void (*pointwise_forward)(PointwiseLoss, DType, const void* x, const void* target, void* out, int64_t n,
                            double parameter, bool reduce, double factor);
  // dx = factor dy loss'(x); dy is one element or, where per_element, n. Where not null dtarget = -dx: the loss is one
  // of d.
  void (*pointwise_backward)(PointwiseLoss, DType, const void* dy, const void* x, const void* target, void* dx,
                             void* dtarget, int64_t n, double parameter, bool per_element, double factor);
  // Whether every element lies in [low, high]; a NaN does not.
  bool (*within)(DType, const void* x, int64_t n, double low, double high);
  void (*ctc_forward)(DType c, const CtcArgs&, void* losses);
  // dx (T, N, C) from dy (N); an infinite loss gives zeros where zero_infinity.
  void (*ctc_backward)(DType c, const CtcArgs&, const void* dy, void* dx, bool zero_infinity);
};

GG_KERNELS(LossKernels, loss_kernels)

}  // namespace gg
