// Attention by Hopper's TMA and wgmma, for the dispatch in attention_cuda.cu.
#pragma once
#include "ops/attention/attention_device.h"

namespace gg::cuda::attention {

// The arguments are as forward_mma and backward_mma take them; false, and nothing done, where the device or the problem
// does not suit: plain problems with E and F at most 128.
bool forward_sm90(const ForwardArguments<float>& arguments) __attribute__((weak));
bool backward_sm90(const BackwardArguments<float>& arguments) __attribute__((weak));

}  // namespace gg::cuda::attention
