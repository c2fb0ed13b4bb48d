// What the CUDA kernels of attention share: how work is cut, masks, dropout, arguments, and which kernels there are.
#pragma once
#include <math.h>

#include "cuda/launch.h"
#include "cuda/number.h"
#include "cuda/philox.h"
#include "ops/attention/attention.h"

namespace gg::cuda::attention {

template <class C> constexpr C kInfinity = C(HUGE_VAL);
constexpr double kLog2e = 1.4426950408889634074;

template <class T> __host__ __device__ constexpr T least(T a, T b) { return a < b ? a : b; }

// Which head, tile and slice a block works on: slices are neighbours, then tiles, so that they find K and V in L2.
struct Part {
  int batch, head, tile, slice;
  __device__ Part(int heads, int tiles, int slices) {
    int i = int(blockIdx.x);
    slice = i % slices, i /= slices;
    tile = i % tiles, i /= tiles;
    head = i % heads, batch = i / heads;
  }
};

// How many keys the queries before `end` see.
__device__ inline int visible_keys(const AttentionProblem& p, int end) {
  return p.causal ? least(int(p.s), end) : int(p.s);
}

// What is added to a score: 0, the mask's number, or -inf where the query may not see the key or there is no such key.
template <class C> __device__ inline C bias_of(const AttentionProblem& p, int batch, int head, int q, int s) {
  if (s >= int(p.s) || (p.causal && s > q)) return -kInfinity<C>;
  if (!p.mask || q >= int(p.l)) return 0;
  const int64_t* st = p.mask_strides;
  const int64_t at = batch * st[0] + head * st[1] + q * st[2] + s * st[3];
  if (!p.mask_is_bool) return static_cast<const C*>(p.mask)[at];
  return static_cast<const bool*>(p.mask)[at] ? C(0) : -kInfinity<C>;
}

template <class C> struct Dropout {
  bool on;
  uint32_t dropped;  // random words below it drop
  C up;
  Draws draws;

  explicit Dropout(const AttentionProblem& p)
      : on(p.dropout > 0),
        dropped(uint32_t(least(p.dropout * 0x1p32, double(0xffffffffu)))),
        up(p.dropout < 1 ? C(1 / (1 - p.dropout)) : C(0)),
        draws(p.seed, p.offset) {}

  // What multiplies the weights of query q and the keys s ... s + 3, s a multiple of 4; head counts through the batch.
  __device__ Pack<C, 4> keep(const AttentionProblem& p, int64_t head, int64_t q, int64_t s) const {
    const Philox random(draws.counter() + uint64_t((head * ceil_div(p.s, 4) + s / 4) * p.l + q), draws.key());
    Pack<C, 4> factors;
#pragma unroll
    for (int j = 0; j < 4; ++j) factors[j] = random.c[j] < dropped ? C(0) : up;
    return factors;
  }
};

template <class C> struct ForwardArguments {
  AttentionProblem p;
  DType dtype;
  Dropout<C> dropout;
  void* out;
  int64_t out_strides[3];
  C* stats;
  int tiles, slices;
};

// With P = exp(scale Q K^T + mask - m) / l, O = P V and D_i = sum_f dO_if O_if:
//   dV = P^T dO,  dP = dO V^T,  dS = P * (dP - D),  dQ = scale dS K,  dK = scale dS^T Q.
// With dropout, P in O and dV and dP in dS are multiplied by the same factors as forward. D comes from softmax's own
// rule, D_i = sum_s P_is dP_is = sum_f dO_if sum_s P_is V_sf.
template <class C> struct BackwardArguments {
  AttentionProblem p;
  DType dtype;
  Dropout<C> dropout;
  const void *dout, *out;
  int64_t dout_strides[3], out_strides[3];
  const C* stats;
  C* d;  // (batch, heads, L)
  void *dq, *dk, *dv;
  C* dscores;
  int tiles, slices;
};

// Of row `row` of a head, counted through the batch: what makes a score in units of 1 / log2 e a weight,
// w = exp2(score - base), base = m log2 e + log2 l, and D. Rows that do not exist have weights of 0.
__device__ inline void row_numbers(const float* stats, const float* row_d, int64_t head, int row, int l, float& base,
                                   float& d) {
  const bool inside = row < l;
  const int64_t at = head * l + row;
  base = inside ? stats[2 * at] * float(kLog2e) - log2f(stats[2 * at + 1]) : kInfinity<float>;
  d = inside ? row_d[at] : 0.f;
}

// Whether there is neither mask nor dropout, and the largest product is the largest score.
inline bool is_plain(const AttentionProblem& p) { return !p.mask && p.scale > 0 && p.dropout == 0; }

// Tensor cores of sm_80 and later: 16-bit types, E and F at most 256 and multiples of 8, rows 16 bytes apart and
// aligned.
bool mma_takes(DType, const AttentionProblem&);
bool mma_takes_rows(const void* data, const int64_t* strides);
void forward_mma(ForwardArguments<float>);
void backward_mma(BackwardArguments<float>);  // after D has been made

}  // namespace gg::cuda::attention
