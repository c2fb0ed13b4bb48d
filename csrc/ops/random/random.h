// Random numbers: every element is a function of (key, counter, its index), so any order, number of threads or
// instruction set gives the same.
//
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011) turns a 64-bit key and a counter into a block of four 32-bit
// words. A call takes whole tiles of 32 consecutive blocks. Word w of a tile's block b belongs to element 32 w + b of
// the tile: 128 elements for distributions of one word each, 64 for those of two (float64 and integers: words 0 and 1,
// or 2 and 3). That order lets 32 lanes, or a warp, write neighbours.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

struct Stream { uint64_t key, counter; };
constexpr int64_t kTileBlocks = 32;

enum class Distribution : uint8_t {  // with parameters a and b
  Uniform,                           // in [a, b)
  Normal,                            // mean a, standard deviation b, by Box and Muller (1958)
  LogNormal,                         // exp of that
  Exponential,                       // rate a, by inversion
  Cauchy,                            // median a, half width b, by inversion
  Geometric,                         // trials up to the first success of probability a: 1, 2, ..., by inversion
};

struct RandomKernels {
  // y dense; floating types.
  void (*fill)(Distribution, DType, void* y, int64_t n, Stream, double a, double b);
  // low + uniform on [0, range), range 0 standing for 2^64, converted to any type.
  void (*integers)(DType, void* y, int64_t n, Stream, int64_t low, uint64_t range);
  // 1 with probability p, else 0, in any type.
  void (*bernoulli)(DType, void* y, int64_t n, Stream, double p);
  // The same with one p per element, of floating type t; y is of type t as well.
  void (*bernoulli_each)(DType t, const void* p, void* y, int64_t n, Stream);
  // Poisson with one rate per element. Element i uses the blocks whose counter is stream.counter + i.
  void (*poisson)(DType t, const void* rate, void* y, int64_t n, Stream);
  // A permutation of 0 ... n - 1. The CPU's is the only one that is called: a shuffle is a chain of swaps.
  void (*permutation)(int64_t* y, int64_t n, Stream);
  // mask = 1 with probability 1 - p, else 0; y = x mask / (1 - p).
  void (*dropout)(DType, const void* x, void* y, uint8_t* mask, int64_t n, Stream, double p);
  // dx = dy mask scale.
  void (*dropout_backward)(DType, const void* dy, const uint8_t* mask, void* dx, int64_t n, double scale);
};
GG_KERNELS(RandomKernels, random_kernels)

// The next `blocks` of the default generator's stream, for ops that draw on their own.
Stream take_stream(int64_t blocks);

}  // namespace gg
