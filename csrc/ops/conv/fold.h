// Unfold (im2col) and its adjoint fold (col2im): x (N, C, H, W), columns (N, C*kh*kw, oh*ow).
//   columns[n, (c, r, s), (i, j)] = x[n, c, i*stride + r*dilation - pad, j*stride + s*dilation - pad], 0 outside
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace pybind11 {
class module_;
}

namespace gg {

struct FoldShape {
  int64_t planes;  // N*C
  int64_t in[2], out[2], kernel[2], stride[2], pad[2], dilation[2];
};

struct FoldKernels {
  void (*unfold_forward)(DType, const FoldShape&, const void* x, void* columns);
  void (*fold_forward)(DType, const FoldShape&, const void* columns, void* x);  // sums where windows overlap
};
GG_KERNELS(FoldKernels, fold_kernels)

void bind_fold(pybind11::module_& m);

}  // namespace gg
