// Attention, rung 5, which ships for Hopper: csrc/ops/attention/attention_sm90.cu. O = softmax(Q K^T / sqrt(64)) V for
// each head, Q and O (heads, L, 64), K and V (heads, S, 64), bfloat16 with float32 sums.
//
// What rungs 7 to 9 of matmul brought, for attention. A producer thread keeps a ring of tiles of K and V filled by TMA;
// two warpgroups own 64 queries each and multiply by wgmma, the weights from registers; blocks are persistent, and
// outputs leave by TMA. The next scores are multiplied before the weights of this tile are made, so that exponentials
// run beside products, and one warpgroup's beside the other's (Shah and others 2024, "FlashAttention-3").
//   Memory     Rows of K and V are read for 128 queries: 1/64 byte for each multiply-add, as before.
//   Shared     (64 + 128) 16 elements for 64 128 16 multiply-adds in Q K^T, 64 16 for 64 64 16 in P V: 5/128 bytes each
//              on average, in place of 5/64 and within the 1/16 that shared memory gives.
//   Limit now  With heads of 64 the exponentials: as many cycles as the products, and never all of them hidden. Heads
//              of 128 have twice the products for each.
#include "ops/attention/attention_sm90.cu"

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
  check<ValueError>(attention::forward_sm90(a), "attention_sm90 does not take ", l, " queries and ", s, " keys");
}

}  // namespace gg::cuda
