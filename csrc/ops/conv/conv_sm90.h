// Convolutions by Hopper's TMA and wgmma, for the dispatch in conv_cuda.cu. Each does nothing and returns false where
// the device or the sizes do not suit: two-dimensional, one group, float16 or bfloat16, multiples of 8 channels and
// enough of them to fill slices.
#pragma once
#include "ops/conv/conv.h"

namespace gg::cuda {

// Absent from builds that are not for Hopper.
__attribute__((weak)) bool conv_forward_sm90(DType, const ConvShape&, const void* x, const void* w, const void* bias,
                                             void* y);
// Stride 1 only.
__attribute__((weak)) bool conv_data_grad_sm90(DType, const ConvShape&, const void* dy, const void* w, const void* bias,
                                               void* dx);
__attribute__((weak)) bool conv_weight_grad_sm90(DType, const ConvShape&, const void* x, const void* dy, void* dw);

}  // namespace gg::cuda
