// Scaled dot-product attention, O = softmax(scale Q K^T + mask) V, by tiles: the score matrix is never stored.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

// Q (batch, heads, L, E), K (batch, kv_heads, S, E), V (batch, kv_heads, S, F); query head h reads key head
// h / (heads / kv_heads). Strides are in items: batch, head, row; elements of a row are dense. dtype is float32 or
// float64, on GPUs float16 and bfloat16 as well; what is computed in, C, is float32 for these and the dtype otherwise.
struct AttentionProblem {
  int64_t batch, heads, kv_heads, l, s, e, f;
  const void *q, *k, *v;
  int64_t q_strides[3], k_strides[3], v_strides[3];
  const void* mask;  // null, bool (true keeps) or C (added): (batch, heads, L, S) by strides
  bool mask_is_bool;
  int64_t mask_strides[4];
  bool causal;  // query i sees keys 0..i
  double scale;
  double dropout;  // the probability that a weight is dropped; the random words are Philox's under seed, counted from
                   // offset
  uint64_t seed, offset;
};

struct AttentionKernels {
  // out (batch, heads, L, F) by strides; stats (batch, heads, L, 2) dense, C: a number m near the largest score of a
  // row and one over the sum l of its exp(score - m); both 0, and the row of out as well, where every key is masked.
  void (*attention_forward)(DType, const AttentionProblem&, void* out, const int64_t* out_strides, void* stats);
  // dq, dk, dv dense; dscores (batch, heads, L, S) dense, C, is the gradient by the scores, or null where no mask wants
  // it.
  void (*attention_backward)(DType, const AttentionProblem&, const void* dout, const int64_t* dout_strides,
                             const void* out, const int64_t* out_strides, const void* stats, void* dq, void* dk,
                             void* dv, void* dscores);
  // keep (batch, heads, L, S) dense, of type C, the DType given: what dropout multiplies the weights by, 0 or 1 / (1 -
  // dropout).
  void (*attention_dropout)(DType, const AttentionProblem&, void* keep);
};
GG_KERNELS(AttentionKernels, attention_kernels)

}  // namespace gg
