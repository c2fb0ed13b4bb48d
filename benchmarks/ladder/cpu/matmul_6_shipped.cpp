// Matmul on the CPU, rung 6: three bfloat16s for a float32 (ships with AMX). C (M, N) = A (M, K) B (K, N), float32.
//
// csrc/cpu/gemm.h as it ships. AMX multiplies tiles of bfloat16 and adds in float32. A float32 is exactly the sum of
// three bfloat16s, and six of the nine products of two such sums are enough (csrc/cpu/tiles.h). Both operands are split
// and packed once; 32 by 32 of C are summed in four tile registers. Without AMX, or where a product is small or has
// infinities, this is rung 5.
//   Work       6 multiply-adds of bfloat16 for one of float32; a tile product does 8192 of them. If it takes 16 cycles,
//              that makes 85 of float32 a cycle, where two units of vectors of 16 do 32.
//   Memory     0.44 bytes for each multiply-add: for 32 by 32 by 32 of them 14 tiles of 1 KB are loaded. An operand is
//              6 bytes an element once it is split.
//   Limit now  Loads of tiles from the L2 between the tile products, and the splitting.
// Also there: threads, any strides, transposed and 16-bit operands, alpha and beta, few rows, long K.
#include "cpu/gemm.h"

extern "C" void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  using namespace gg::GG_ISA;
  gg::set_num_threads(1);
  gemm<float>(m, n, k, 1, {a, k, 1}, {b, n, 1}, 0, {}, {c, n, 1});
}
