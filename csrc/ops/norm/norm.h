// Normalisations. C is the compute type of x: float32 for 16-bit floats; statistics, weights and their gradients are C.
//
//     y = (x - mean) * rstd * weight + bias,    rstd = 1 / sqrt(var + eps),   var biased
//
// layer: x (rows, n), statistics per row, weight and bias (groups, n): row r takes line r % groups. mean == null is RMS
// norm:
//        nothing is subtracted and rstd = 1 / sqrt(mean(x^2) + eps).
// group: x (N, G, K, S), statistics per (N, G), weight and bias (G * K).
// batch: x (N, C, S), statistics per channel.
// weight, bias, and in backward every output may be null.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

struct LayerShape { int64_t rows, n, groups; };
struct GroupShape { int64_t N, G, K, S; };
struct BatchShape { int64_t N, C, S; };

struct NormKernels {
  void (*layer_norm_forward)(DType, const void* x, const void* weight, const void* bias, void* y, void* mean,
                             void* rstd, LayerShape, double eps);
  void (*layer_norm_backward)(DType, const void* dy, const void* x, const void* weight, const void* mean,
                              const void* rstd, void* dx, void* dweight, void* dbias, LayerShape);
  void (*group_norm_forward)(DType, const void* x, const void* weight, const void* bias, void* y, void* mean,
                             void* rstd, GroupShape, double eps);
  void (*group_norm_backward)(DType, const void* dy, const void* x, const void* weight, const void* mean,
                              const void* rstd, void* dx, void* dweight, void* dbias, GroupShape);
  // training: mean, var and rstd are written; otherwise mean and rstd are read, and var is not touched.
  void (*batch_norm_forward)(DType, const void* x, const void* weight, const void* bias, void* y, void* mean, void* var,
                             void* rstd, BatchShape, double eps, bool training);
  void (*batch_norm_backward)(DType, const void* dy, const void* x, const void* weight, const void* mean,
                              const void* rstd, void* dx, void* dweight, void* dbias, BatchShape, bool training);
  void (*reciprocal_root)(DType c, const void* var, void* rstd, int64_t n, double eps);
  // running = (1 - momentum) running + momentum * factor * batch; running in t, batch in its compute type.
  void (*update_running)(DType t, void* running, const void* batch, int64_t n, double momentum, double factor);
};

GG_KERNELS(NormKernels, norm_kernels)

}  // namespace gg
