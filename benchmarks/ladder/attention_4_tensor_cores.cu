// Attention, rung 4, which ships for any GPU from sm_80 on: csrc/ops/attention/attention_mma_cuda.cu.
// O = softmax(Q K^T / sqrt(64)) V for each head, Q and O (heads, L, 64), K and V (heads, S, 64), bfloat16 with float32
// sums.
//
// Both products by mma.sync. The scores of a warp, 32 queries by 64 keys, leave a product spread over its lanes just as
// the next product wants its left side: weights become pairs of bfloat16 in place, and never see shared memory (Dao
// 2023, "FlashAttention-2"). K's next tile comes while V is multiplied, V's while K is: cp.async, one buffer each.
// Exponentials are of base 2, for which there is an instruction; log2 e is part of the scale.
//   Work       2048 multiply-adds a cycle of a multiprocessor, 128 of them for a score: 16 scores a cycle.
//   Memory     Rows of K and V are read for 128 queries, 2 bytes an element: 1/64 byte for each multiply-add.
//   Shared     (32 + 64) 16 elements for 32 64 16 multiply-adds in Q K^T, 64 16 in P V: 5/64 bytes each on average.
//   Limit now  mma.sync does not reach Hopper's rate. And a multiprocessor does 16 exponentials a cycle: one for each
//              score takes as long as the products, unless both go on at once.
// Also there: head sizes to 256, causal, masks, grouped queries, dropout, backward.
#include "ops/attention/attention_mma_cuda.cu"

namespace gg::cuda {

void ladder_attention(const bfloat16* q, const bfloat16* k, const bfloat16* v, bfloat16* o, int heads, int l, int s) {
  constexpr int kD = 64;
  AttentionProblem p{};
  p.batch = 1, p.heads = p.kv_heads = heads;
  p.l = l, p.s = s, p.e = p.f = kD;
  p.q = q, p.k = k, p.v = v;
  p.q_strides[1] = int64_t(l) * kD, p.k_strides[1] = p.v_strides[1] = int64_t(s) * kD;
  p.q_strides[2] = p.k_strides[2] = p.v_strides[2] = kD;
  p.scale = 1 / sqrt(kD);
  Scratch<float> stats(int64_t(heads) * l * 2);
  attention::ForwardArguments<float> a{
      p, DType::BFloat16, attention::Dropout<float>(p), o, {0, int64_t(l) * kD, kD}, stats.get(), 0, 0};
  attention::forward_mma(a);
}

}  // namespace gg::cuda
