// Attention on the CPU, rung 5: the softmax woven into tile products (ships with AMX). O = softmax(Q K^T / sqrt(64)) V
// for each head, Q and O (heads, L, 64), K and V (heads, S, 64), float32.
//
// csrc/ops/attention/attention_cpu.cpp as it ships. K and V^T of a head are split into bfloat16s and packed once (rung
// 6 of matmul); 64 queries meet 64 keys at a time. While the vector units make the weights of a block, the matrix unit
// works off a queue: the scores of the next block, and the weights of the last times V. Sums shrink only where a score
// exceeds what is subtracted by 4. Without AMX this is rung 4.
//   Work       6 multiply-adds of bfloat16 for one of float32; the weights are split as well, one after the other.
//   Memory     0.59 bytes for each multiply-add: 16 tiles of 1 KB for 32 by 32 by 32 of them, and the sums.
//   Limit now  Loads of tiles, as in matmul's last rung. For 16 scores the unit alone would take 24 cycles and the
//              vectors, with some 30 instructions, 16 beside it; it takes 50.
// Also there: threads, masks, causal attention, dropout, grouped queries, the gradients.
#include <math.h>

#include "ops/attention/attention_cpu.cpp"

extern "C" void ladder_attention(const float* q, const float* k, const float* v, float* o, int heads, int l, int s) {
  using namespace gg;
  constexpr int64_t kD = 64;
  const GG_ISA::Scratch<float> stats(int64_t(heads) * l * 2);
  AttentionProblem p{};
  p.batch = 1, p.heads = p.kv_heads = heads;
  p.l = l, p.s = s, p.e = p.f = kD;
  p.q = q, p.k = k, p.v = v;
  const int64_t queries[3] = {0, l * kD, kD}, keys[3] = {0, s * kD, kD};
  for (int i = 0; i < 3; ++i) p.q_strides[i] = queries[i], p.k_strides[i] = p.v_strides[i] = keys[i];
  p.scale = 0.125;
  set_num_threads(1);
  GG_ISA::attention_kernels.attention_forward(DType::Float32, p, o, queries, stats.data());
}
