// Reductions: y[o] = combine over r of x[o, r] for the kept axes o and the reduced axes r of x, which may be any axes.
// Every kernel wants at least one element per output; fronts answer empty reductions.
#pragma once
#include "core/dims.h"
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

// What is done with the elements of one output, n of them, and the parameter it takes.
enum class Reducer : uint8_t {
  Sum,        // sum x / parameter
  NanSum,     // the same, NaN counting as 0
  Prod,       // prod x
  Max,        // the largest, NaN if there is one
  Min,        // the smallest, NaN if there is one
  Norm1,      // sum |x|
  Norm2,      // (sum x^2)^(1/2)
  NormP,      // (sum |x|^p)^(1/p), p the parameter
  LogSumExp,  // log sum exp x
};
enum class Counter : uint8_t { Any, All, Count };  // of the elements that are not 0

// Axes of an array, outermost first; strides in items.
struct Axes {
  int ndim = 0;
  int64_t numel = 1;
  int64_t shape[kMaxDims];
  int64_t stride[kMaxDims];
};

// The axes of x; outputs are dense and in the order of the kept axes. An empty list of axes stands for one element.
struct ReduceView { Axes kept, reduced; };

struct ReduceKernels {
  // y has x's dtype; whole numbers and bool are summed and multiplied into int64.
  void (*reduce)(Reducer, DType, const void* x, void* y, const ReduceView&, double parameter);
  // y is bool (a byte) for Any and All, int64 for Count.
  void (*count)(Counter, DType, const void* x, void* y, const ReduceView&);
  // var = sum (x - mean)^2 / max(n - correction, 0), or its root. mean may be null.
  void (*var)(DType, const void* x, void* var, void* mean, const ReduceView&, double correction, bool root);
  // The largest (smallest) element along the only reduced axis and where it first stands; NaN is larger and smaller
  // than any number. values may be null.
  void (*extremum)(DType, bool largest, const void* x, void* values, int64_t* indices, const ReduceView&);
  // dx[o, k, i] = dy[o, i] prod over j != k of x[o, j, i], all dense.
  void (*prod_backward)(DType, const void* dy, const void* x, void* dx, int64_t outer, int64_t n, int64_t inner);
};
GG_KERNELS(ReduceKernels, reduce_kernels)

}  // namespace gg
