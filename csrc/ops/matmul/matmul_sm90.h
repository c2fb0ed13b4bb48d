// Products by Hopper's TMA and wgmma, for the dispatch in matmul_cuda.cu.
#pragma once
#include "ops/matmul/matmul.h"

namespace gg::cuda {

// C = alpha A B + beta D for float16, bfloat16 and large float32 problems; false, and nothing done, where the device,
// the sizes or the alignment do not suit: every operand needs one dense axis, and 16-byte multiples for the others.
bool matmul_sm90(DType dtype, const MatmulProblem& problem) __attribute__((weak));

}  // namespace gg::cuda
