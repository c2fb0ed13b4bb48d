// Scans: y[o, k, i] combines x[o, j, i] for all j <= k (reverse: j >= k), over the middle axis of dense (outer, n,
// inner).
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

enum class Scan : uint8_t { Sum, Prod, LogSumExp };

struct ScanKernels {
  // Floating types and int64.
  void (*scan)(Scan, DType, const void* x, void* y, int64_t outer, int64_t n, int64_t inner, bool reverse);
  // The largest (smallest) so far and where it last stood; NaN is larger and smaller than any number.
  void (*extremum)(DType, bool largest, const void* x, void* values, int64_t* indices, int64_t outer, int64_t n,
                   int64_t inner);
  // y_k = b_k + a_k y_(k-1), with y_(-1) = 0; reverse: y_k = b_k + a_k y_(k+1).
  void (*linear)(DType, const void* a, const void* b, void* y, int64_t outer, int64_t n, int64_t inner, bool reverse);
};
GG_KERNELS(ScanKernels, scan_kernels)

}  // namespace gg
