// Pooling's kernel contract: planes (N*C) of three spatial axes (leading ones of size 1 in 1-D and 2-D), all dense.
//   max       y[o] = max over taps r of x[o*stride + r*dilation - pad]; index: its place in the plane, the first of
//   equals average   y[o] = sum over taps / divisor(o) adaptive  windows [floor(o*in/out), ceil((o + 1)*in/out))
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

struct PoolShape {
  int64_t planes;
  int64_t in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
};

struct Divisor {
  bool count_pad;    // whether padding counts
  int64_t override;  // instead of the count; 0: none
};

struct PoolKernels {
  // Floating dtypes and int64. index may be null; its dtype is int32 or int64.
  void (*max_pool_forward)(DType, const PoolShape&, const void* x, void* y, DType index_type, void* index);
  void (*adaptive_max_pool_forward)(DType, const PoolShape&, const void* x, void* y, DType index_type, void* index);
  // Both directions along indices, one per output: y[o] = x[index[o]], and x[index[o]] += y[o], x zero elsewhere.
  // windows: the ones that the indices lie in, adaptive where kernel is 0; null where they may lie anywhere.
  void (*pool_gather)(DType, int64_t planes, int64_t in, int64_t out, const void* x, DType, const void* index, void* y);
  void (*pool_scatter)(DType, int64_t planes, int64_t in, int64_t out, const void* y, DType, const void* index, void* x,
                       const PoolShape* windows);
  // x[index[o]] = y[o], the last of equals; false where an index is none of [0, in).
  bool (*max_unpool_forward)(int item_size, int64_t planes, int64_t in, int64_t out, const void* y,
                             const int64_t* index, void* x);
  void (*avg_pool_forward)(DType, const PoolShape&, Divisor, const void* x, void* y);
  void (*avg_pool_backward)(DType, const PoolShape&, Divisor, const void* dy, void* dx);
  void (*adaptive_avg_pool_forward)(DType, const PoolShape&, const void* x, void* y);
  void (*adaptive_avg_pool_backward)(DType, const PoolShape&, const void* dy, void* dx);
};
GG_KERNELS(PoolKernels, pool_kernels)

}  // namespace gg
