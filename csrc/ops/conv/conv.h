// Convolution's kernel contract. N images, C input and K output channels in G groups, three spatial axes (1-D and 2-D
// have leading axes of size 1 with kernel 1).
//   x (N, C, in...)   w (K, C/G, kernel...)   y (N, K, out...),   all dense
//   y[n, k, o] = bias[k] + sum_{c, r} w[k, c, r] x[n, c, o*stride + r*dilation - pad]
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

struct ConvShape {
  int64_t batch, groups, in_channels, out_channels;
  int64_t in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
};

struct ConvKernels {
  // Floating dtypes and int64 (gradients of w floating only). bias may be null.
  void (*conv_forward)(DType, const ConvShape&, const void* x, const void* w, const void* bias, void* y);
  // dx, the adjoint of forward in x; with a bias (of C elements) it is the transposed convolution.
  void (*conv_data_grad)(DType, const ConvShape&, const void* dy, const void* w, const void* bias, void* dx);
  void (*conv_weight_grad)(DType, const ConvShape&, const void* x, const void* dy, void* dw);
};
GG_KERNELS(ConvKernels, conv_kernels)

}  // namespace gg
