// Loop<N>: the common iteration space of N strided operands, as plain data that any kernel can walk.
//
// Operand 0 is the output. Axes run from outermost to innermost; axes that every operand crosses evenly are merged and
// axes are ordered by the output's strides, so contiguous operands of any rank become one axis.
#pragma once
#include <stdint.h>

#include "core/dims.h"
#include "core/dtype.h"

namespace gg {

template <int N> struct Loop {
  int ndim;
  int64_t numel;
  int64_t shape[kMaxDims];
  int64_t stride[N][kMaxDims];  // bytes
  char* data[N];
  DType dtype[N];
};

}  // namespace gg
