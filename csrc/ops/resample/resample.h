// Resampling's kernel contract.
//   interpolate  planes (N*C) of three spatial axes; along each axis output o is a weighted sum of `taps` inputs:
//                y[o] = sum_t weight[t][o] x[index[t][o]], and the axes' sums nest. weight null: copies (taps 1).
//   grid sample  x (N, C, in...), grid (N, points, nd) in [-1, 1], last coordinate first axis of x; y (N, C, points)
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

struct ResampleAxis {
  int64_t in, out, taps;
  const int64_t* index;  // [taps][out], of the device like weight; a tap's places do not descend
  const double* weight;  // [taps][out]
};

enum class SampleMode : int64_t { Bilinear, Nearest, Bicubic };
enum class SamplePadding : int64_t { Zeros, Border, Reflection };

struct GridShape {
  int64_t batch, channels, points, nd;
  int64_t in[3];  // leading axes of size 1 where nd is 2
  SampleMode mode;
  SamplePadding padding;
  bool align_corners;
};

struct ResampleKernels {
  void (*resample_forward)(DType, int64_t planes, const ResampleAxis (&)[3], const void* x, void* y);
  void (*resample_backward)(DType, int64_t planes, const ResampleAxis (&)[3], const void* dy, void* dx);
  void (*grid_sample_forward)(DType, const GridShape&, const void* x, const void* grid, void* y);
  // dx or dgrid may be null.
  void (*grid_sample_backward)(DType, const GridShape&, const void* x, const void* grid, const void* dy, void* dx,
                               void* dgrid);
};
GG_KERNELS(ResampleKernels, resample_kernels)

}  // namespace gg
