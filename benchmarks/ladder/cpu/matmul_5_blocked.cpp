// Matmul on the CPU, rung 5: blocks of K, rows fetched ahead (ships without AMX). C (M, N) = A (M, K) B (K, N),
// float32.
//
// csrc/cpu/gemm.h on vectors. K is cut into blocks of 512 at most, so that a panel is 128 KB whatever K is; each row of
// a panel is fetched eight rows before its use, and a tile's C while it is being summed; at edges two tiles of half the
// height stand for a full one and a sliver.
//   Work       The tile is rung 3's, 6 rows by 4 vectors with AVX-512, and a prefetch for each vector of B.
//   Memory     0.73 bytes for each multiply-add, and C is loaded and stored again for every block of K.
//   Limit now  The multiply-add units.
#include "cpu/vec.h"
#undef GG_TILES  // the matrix unit is the next rung's
#include "matmul_6_shipped.cpp"
