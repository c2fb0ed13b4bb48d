// index: reading and writing the items of an array that integers or a mask pick out.
//
// Index arrays (x[a, :, b], index_select, ...) and masks become offsets: a dense array of shape (outer, n, inner) lies
// beside a strided one, and element (o, j, i) meets the item at  o * outer_stride + offsets[j] + i * inner_stride.
// One index per element (gather, scatter) is walked as it is. Writes to one item happen in the order of the source for
// any number of threads: the last write wins, sums have one order.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"
#include "core/loop.h"

namespace gg {

struct Places {
  int64_t outer, n, inner;
  int64_t outer_stride, inner_stride;  // items
  const int64_t* offsets;              // n of them, each in [0, extent)
  int64_t extent;
};

enum class Fold : uint8_t { Write, Add, Multiply, Max, Min };

constexpr int64_t kNonzeroBlock = 1 << 15;

struct IndexKernels {
  // offsets[j] = sum over k of index[k][j] * stride[k]; negative indices count from the end where wrap is set. The list
  // of count pointers is host memory, each points at n indices of the device.
  // The position of the first index that is out of bounds comes back (k * n + j), or -1.
  int64_t (*index_offsets)(int count, const int64_t* const* index, const int64_t* size, const int64_t* stride,
                           bool wrap, int64_t n, int64_t* offsets);
  // all[i, j, k] = a[i] + b[j] + c[k].
  void (*combine_offsets)(const int64_t* a, int64_t na, const int64_t* b, int64_t nb, const int64_t* c, int64_t nc,
                          int64_t* all);
  // y[e] = x[.., index[e], ..] for a dense index of this shape, which replaces coordinate dim of x with these strides;
  // the position of the first index that is out of bounds comes back, or -1.
  int64_t (*axis_read)(int item_size, const void* x, const int64_t* index, int ndim, const int64_t* shape,
                       const int64_t* stride, int dim, int64_t size, void* y);
  // x[.., index[e], ..] = fold(x[.., index[e], ..], v[e]), likewise; v is dense, or one item where v_is_scalar. After
  // an index that is out of bounds x holds a part of the result: it must be nobody else's yet.
  int64_t (*axis_fold)(Fold fold, DType dtype, void* x, const void* v, bool v_is_scalar, const int64_t* index, int ndim,
                       const int64_t* shape, const int64_t* stride, int dim, int64_t size);
  void (*index_read)(int item_size, const void* x, void* y, const Places& places);
  // x = fold(x, v) at the places; v is dense (outer, n, inner), or one item where v_is_scalar.
  void (*index_fold)(Fold fold, DType dtype, void* x, const void* v, bool v_is_scalar, const Places& places);
  // y /= max(count, 1), rounded down for whole numbers.
  void (*divide_sums)(DType dtype, void* y, const int64_t* counts, int64_t n);
  // y = mask ? value : x over loop operands (y, x, mask); value is one item of the device.
  void (*masked_fill)(int item_size, const Loop<3>& loop, const void* value);
  // Nonzero elements of dense x: their number in each block of kNonzeroBlock; then, with the running sums of those
  // numbers, the coordinates: out[row * row_stride + axis * axis_stride].
  void (*nonzero_count)(DType dtype, const void* x, int64_t n, int64_t* counts);
  void (*nonzero_write)(DType dtype, const void* x, int64_t n, const int64_t* starts, int ndim, const int64_t* shape,
                        int64_t* out, int64_t row_stride, int64_t axis_stride);
  // counts[floor((x - low) / (high - low) * bins)] += 1; values outside [low, high] are left out, high is in the last
  // bin.
  void (*histogram)(DType dtype, const void* x, int64_t n, double low, double high, int64_t bins, int64_t* counts);
};

GG_KERNELS(IndexKernels, index_kernels)

}  // namespace gg
