// Attention on the CPU, rung 4: gemm's tiles, more keys a block (ships without AMX). O = softmax(Q K^T / sqrt(64)) V
// for each head, Q and O (heads, L, 64), K and V (heads, S, 64), float32.
//
// csrc/ops/attention/attention_cpu.cpp on vectors: 64 queries meet 128 keys, half as many blocks as in rung 3; both
// products are made by csrc/cpu/gemm.h's tiles of 6 rows, for any sizes; O is held by rows and rescaled only where a
// largest score has grown.
//   Memory     0.79 bytes for each multiply-add: 0.73 in the tiles, the rest for scores, 32 KB, and O.
//   Limit now  As in rung 3, whose speed it has at this head size: multiply-adds, and the exponentials beside them.
#include "cpu/vec.h"
#undef GG_TILES  // the matrix unit is the next rung's
#include "attention_5_shipped.cpp"
