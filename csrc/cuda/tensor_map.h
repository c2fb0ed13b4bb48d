// How the tensor memory accelerator (TMA) sees an array, and what it asks of it.
#pragma once
#include <stdint.h>

#include "core/check.h"
#include "core/dtype.h"

#if defined(GG_SIMT)
#include "simt/hopper.h"
#endif

namespace gg::cuda {

// A strided array of up to 4 axes, innermost first, and the box that one copy moves. A kernel takes it as a const
// __grid_constant__ parameter.
#if defined(GG_SIMT)
using simt::TensorMap;
#else
struct alignas(128) TensorMap { char opaque[128]; };
#endif

// rank axes: sizes, byte strides of axes 1.. (multiples of 16), box sizes (at most 256 each; box[0] times the item size
// is 128 with swizzle, a multiple of 16 without). step: a load takes every step-th element of an axis, box of them;
// null for ones, step[0] is 1. Outside the array loads give 0 and stores do nothing. Throws ValueError where the
// hardware could not.
TensorMap make_tensor_map(DType, const void* data, int rank, const int64_t* size, const int64_t* byte_stride,
                          const int* box, bool swizzle = true, const int* step = nullptr);

inline void check_tensor_map(DType dtype, const void* data, int rank, const int64_t* size, const int64_t* byte_stride,
                             const int* box, bool swizzle, const int* step) {
  check<ValueError>(rank >= 2 && rank <= 4, "tensor map: ", rank, " axes; 2 to 4 are supported");
  check<ValueError>(reinterpret_cast<uintptr_t>(data) % 16 == 0, "tensor map: the array must be aligned to 16 bytes");
  for (int k = 0; k < rank; ++k) {
    check<ValueError>(box[k] >= 1 && box[k] <= 256, "tensor map: a box of ", box[k], "; 1 to 256 is possible");
    check<ValueError>(size[k] >= 1 && size[k] <= int64_t(1) << 32, "tensor map: an axis of size ", size[k]);
    check<ValueError>(!step || (step[k] >= 1 && step[k] <= (k ? 8 : 1) && box[k] * step[k] <= 256),
                      "tensor map: a box of ", box[k], " with steps of ", step ? step[k] : 1,
                      "; steps are at most 8, and their product with the box at most 256");
    if (k == 0) continue;
    check<ValueError>(byte_stride[k - 1] % 16 == 0 && byte_stride[k - 1] < int64_t(1) << 40, "tensor map: a stride of ",
                      byte_stride[k - 1], " bytes is no multiple of 16 below 2^40");
  }
  int inner = box[0] * item_size(dtype);
  check<ValueError>(swizzle ? inner == 128 : inner % 16 == 0, "tensor map: a row of the box has ", inner,
                    " bytes; 128 are needed with the swizzle, a multiple of 16 without");
}

}  // namespace gg::cuda
