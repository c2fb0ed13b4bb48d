// Optimizer steps: one call updates every parameter of a group.
//
// The front cuts all tensors into slices of bounded size; a kernel walks the slices in parallel and reads and writes
// each element of parameter, gradient and states once. p: parameter, g: gradient, t: the step, counted from 1. On the
// CPU the norm of all gradients is one call too, and so is their scaling; on a GPU their factor never leaves it.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

// A piece of one tensor. What k holds depends on the tensor's step and is said at each kernel.
struct OptimizerSlice {
  void* param;
  const void* grad;
  void* state[3];
  int64_t n;
  DType dtype;
  double k[4];
};

struct SgdOptions {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
};
struct AdamOptions {
  double lr, beta1, beta2, eps, weight_decay;
  bool amsgrad, decoupled, maximize;  // decoupled: AdamW's weight decay
};
struct RmspropOptions {
  double lr, alpha, eps, weight_decay, momentum;
  bool centered, maximize;
};
struct AdagradOptions {
  double eps, weight_decay;
  bool maximize;
};
struct AdadeltaOptions {
  double lr, rho, eps, weight_decay;
  bool maximize;
};
struct AdamaxOptions {
  double beta1, beta2, eps, weight_decay;
  bool maximize;
};
struct NadamOptions {
  double beta1, beta2, eps, weight_decay, lr;
  bool decoupled, maximize;
};
struct RadamOptions {
  double beta1, beta2, eps, weight_decay, lr;
  bool decoupled, maximize;
};
struct RpropOptions {
  double eta_minus, eta_plus, step_min, step_max;
  bool maximize;
};

// The slices of a call are host memory, what they point at is the device's.
struct OptimizerKernels {
  // state: momentum buffer (or null). k[0]: 1 where the buffer is new.
  void (*sgd)(const OptimizerSlice*, int64_t count, const SgdOptions&);
  // state: m, v, largest v (amsgrad). k: lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t).
  void (*adam)(const OptimizerSlice*, int64_t count, const AdamOptions&);
  // state: mean of g^2, mean of g (centered), momentum buffer.
  void (*rmsprop)(const OptimizerSlice*, int64_t count, const RmspropOptions&);
  // state: sum of g^2. k[0]: lr / (1 + (t - 1) lr_decay).
  void (*adagrad)(const OptimizerSlice*, int64_t count, const AdagradOptions&);
  // state: mean of g^2, mean of update^2.
  void (*adadelta)(const OptimizerSlice*, int64_t count, const AdadeltaOptions&);
  // state: m, decayed maximum of |g|. k[0]: lr / (1 - beta1^t).
  void (*adamax)(const OptimizerSlice*, int64_t count, const AdamaxOptions&);
  // state: m, v. k: weight of g / denominator, weight of m / denominator, 1 / sqrt(1 - beta2^t).
  void (*nadam)(const OptimizerSlice*, int64_t count, const NadamOptions&);
  // state: m, v. k: lr / (1 - beta1^t), rectification times sqrt(1 - beta2^t), or 0 where the variance is not tractable
  // yet.
  void (*radam)(const OptimizerSlice*, int64_t count, const RadamOptions&);
  // state: previous g, step sizes.
  void (*rprop)(const OptimizerSlice*, int64_t count, const RpropOptions&);
  // The sum of g^2 over all slices; p *= factor. Null on a GPU.
  double (*square_sum)(const OptimizerSlice*, int64_t count);
  void (*scale)(const OptimizerSlice*, int64_t count, double factor);
};

GG_KERNELS(OptimizerKernels, optimizer_kernels)

}  // namespace gg
