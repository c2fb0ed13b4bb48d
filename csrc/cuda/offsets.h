// Where element i of a strided loop lies, for each of its N operands.
//
// Dividing by a size that the host knows is a multiplication: floor(i / d) = (i * m) >> 32 + s for 32-bit i (Granlund
// and Montgomery 1994, "Division by invariant integers using multiplication"). Loops of 2^31 elements and more divide.
#pragma once
#include "core/loop.h"
#include "cuda/language.h"

namespace gg::cuda {

struct Divisor {
  uint32_t d = 1, multiplier = 0, shift = 0;

  Divisor() = default;
  explicit Divisor(uint32_t divisor) : d(divisor) {
    while (shift < 32 && (uint64_t(1) << shift) < d) ++shift;
    multiplier = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift) - d)) / d + 1);
  }
  __host__ __device__ uint32_t quotient(uint32_t i) const {
    uint32_t high = uint32_t((uint64_t(i) * multiplier) >> 32);
    return uint32_t((uint64_t(high) + i) >> shift);
  }
};

// Quotients of numbers below limit.
struct Split {
  int64_t d = 1;
  bool small = true;  // fits 32-bit arithmetic
  Divisor divisor;

  Split() = default;
  Split(int64_t d, int64_t limit) : d(d), small(limit < (int64_t(1) << 31)), divisor(small ? uint32_t(d) : 1) {}
  __device__ int64_t quotient(int64_t i) const { return small ? int64_t(divisor.quotient(uint32_t(i))) : i / d; }
};

// Planes of three axes, dense one after the other: which plane an element lies in, and where.
struct Planes {
  Split axis[3];

  Planes(int64_t planes, const int64_t (&size)[3])
      : axis{{size[0], planes * size[0] * size[1] * size[2]},
             {size[1], planes * size[0] * size[1] * size[2]},
             {size[2], planes * size[0] * size[1] * size[2]}} {}
  template <class I> __device__ int64_t at(int64_t e, I (&place)[3]) const {
#pragma unroll
    for (int d = 2; d >= 0; --d) {
      const int64_t q = axis[d].quotient(e);
      place[d] = I(e - q * axis[d].d);
      e = q;
    }
    return e;
  }
};

template <int N> struct Offsets {
  int ndim;
  bool small;  // fits 32-bit arithmetic
  Divisor divisor[kMaxDims];
  int64_t shape[kMaxDims];
  int64_t stride[N][kMaxDims];  // bytes

  explicit Offsets(const Loop<N>& loop) : ndim(loop.ndim), small(loop.numel < (int64_t(1) << 31)) {
    for (int d = 0; d < ndim; ++d) {
      shape[d] = loop.shape[d];
      divisor[d] = Divisor(small ? uint32_t(shape[d]) : 1);
      for (int k = 0; k < N; ++k) stride[k][d] = loop.stride[k][d];
    }
  }

  // Byte offsets of element i, counted row by row. (Not unrolled: axes are few, and registers are occupancy.)
  __device__ void at(int64_t i, int64_t (&offset)[N]) const {
    for (int k = 0; k < N; ++k) offset[k] = 0;
    if (small) {
      uint32_t rest = uint32_t(i);
#pragma unroll 1
      for (int d = ndim - 1; d > 0; --d) {
        uint32_t q = divisor[d].quotient(rest), r = rest - q * uint32_t(shape[d]);
        for (int k = 0; k < N; ++k) offset[k] += int64_t(r) * stride[k][d];
        rest = q;
      }
      for (int k = 0; k < N; ++k) offset[k] += int64_t(rest) * stride[k][0];
    } else {
#pragma unroll 1
      for (int d = ndim - 1; d > 0; --d) {
        int64_t q = i / shape[d], r = i - q * shape[d];
        for (int k = 0; k < N; ++k) offset[k] += r * stride[k][d];
        i = q;
      }
      for (int k = 0; k < N; ++k) offset[k] += i * stride[k][0];
    }
  }
};

}  // namespace gg::cuda
