// CPU kernels of attention. L queries, S keys, E and F elements in a row of Q and K, and of V.
//
// Dao, Fu, Ermon, Rudra, Re 2022, "FlashAttention", with the online softmax of Milakov and Gimelshein 2018. Forward
// takes kQueries queries at a time through all keys, kKeys at a time. Scores are held transposed, T = K Q^T, one row
// per key: the lanes of a vector are then queries, so a row's maximum and sum are plain vector operations; K and V are
// read in place, and only Q^T is packed, once. The running maximum m and sum l rescale the output whenever m grows.
#include "ops/attention/attention.h"

#include <math.h>

#include "core/parallel.h"
#include "cpu/gemm.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kQueries = 64, kKeys = 128;

template <class C> constexpr C kInfinity = C(HUGE_VAL);

template <class C> Matrix<const C> rows_of(const void* data, const int64_t* strides, int64_t batch, int64_t head) {
  return {static_cast<const C*>(data) + batch * strides[0] + head * strides[1], strides[2], 1};
}

// One block of scores: keys [s0, s0 + keys) by queries [q0, q0 + queries), padded to `width` lanes.
template <class C> struct Tile {
  int64_t s0, keys, q0, queries, width;
  C* scores;  // keys x width
};

// Adds the mask of (batch, head) to a tile of scores and hides what causality forbids.
template <class C> void mask_tile(const AttentionProblem& p, int64_t batch, int64_t head, const Tile<C>& t) {
  constexpr int L = kLanes<C>;
  if (p.mask) {
    const int64_t* st = p.mask_strides;
    const int64_t first = batch * st[0] + head * st[1] + t.q0 * st[2] + t.s0 * st[3];
    for (int64_t q = 0; q < t.width; q += L) {
      const int64_t n = least(L, t.queries - q);
      for (int64_t s = 0; s < t.keys; ++s) {
        C* row = t.scores + s * t.width + q;
        const int64_t at = first + q * st[2] + s * st[3];
        Vec<C> x = load(row);
        if (p.mask_is_bool) {
          const bool* keep = static_cast<const bool*>(p.mask) + at;
          if (st[2] == 0) {
            if (!*keep) x = splat(-kInfinity<C>);
          } else {
            for (int64_t i = 0; i < n; ++i)
              if (!keep[i * st[2]]) x[i] = -kInfinity<C>;
          }
        } else if (n > 0) {
          x += load_strided<C>(static_cast<const C*>(p.mask) + at, st[2], n);
        }
        store(row, x);
      }
    }
  }
  if (p.causal && t.s0 + t.keys - 1 > t.q0)
    for (int64_t s = 0; s < t.keys; ++s)
      for (int64_t q = 0; q < t.width; q += L) {
        C* row = t.scores + s * t.width + q;
        const Vec<C> query = iota<C>() + C(t.q0 + q - t.s0 - s);  // relative to the key: small whole numbers are exact
        store(row, query < C(0) ? splat(-kInfinity<C>) : load(row));
      }
}

// How many keys the queries up to `end` see.
int64_t visible_keys(const AttentionProblem& p, int64_t end) { return p.causal ? least(p.s, end) : p.s; }

// Scale Q^T of a block of queries, packed for multiply_block.
template <class C> void pack_queries(Matrix<const C> q, int64_t depth, int64_t queries, C scale, C* to) {
  int64_t width = round_up(queries, kLanes<C>);
  for (int64_t j = 0; j < width;) {
    int64_t panel = panel_vectors<C>(width - j) * kLanes<C>;
    pack_panel<C>(q.transposed().block(0, j), depth, queries - j, panel, to + j * depth);
    j += panel;
  }
  if (scale != C(1))
    for (int64_t i = 0; i < width * depth; ++i) to[i] *= scale;
}

template <class C> struct ForwardScratch {
  explicit ForwardScratch(const AttentionProblem& p)
      : queries(kQueries * p.e), scores(kKeys * kQueries), out(kQueries * p.f) {}
  Scratch<C> queries, scores, out;
};

template <class C>
void attend(const AttentionProblem& p, int64_t batch, int64_t head, int64_t q0, Matrix<C> out, C* lse,
            const ForwardScratch<C>& scratch) {
  constexpr int L = kLanes<C>;
  const int64_t queries = least(kQueries, p.l - q0), width = round_up(queries, L);
  const int64_t kv_head = head / (p.heads / p.kv_heads);
  const Matrix<const C> k = rows_of<C>(p.k, p.k_strides, batch, kv_head),
                        v = rows_of<C>(p.v, p.v_strides, batch, kv_head);
  pack_queries(rows_of<C>(p.q, p.q_strides, batch, head).block(q0, 0), p.e, queries, C(p.scale),
               scratch.queries.data());
  const Matrix<const C> q_packed{scratch.queries.data(), 0, 1};
  C* scores = scratch.scores.data();
  const Matrix<C> sums{scratch.out.data(), p.f, 1};
  alignas(64) C m[kQueries], l[kQueries], shrink[kQueries];
  for (int64_t q = 0; q < kQueries; ++q) m[q] = -kInfinity<C>, l[q] = 0;

  const int64_t visible = visible_keys(p, q0 + queries);
  for (int64_t s0 = 0; s0 < visible; s0 += kKeys) {
    const int64_t keys = least(kKeys, visible - s0);
    multiply_block(keys, width, p.e, k.block(s0, 0), q_packed, {false, true}, Epilogue<C, C>{},
                   Matrix<C>{scores, width, 1});
    mask_tile(p, batch, head, Tile<C>{s0, keys, q0, queries, width, scores});
    bool rescale = false;
    for (int64_t q = 0; q < width; q += L) {
      const Vec<C> before = load(m + q);
      Vec<C> top = before;
      for (int64_t s = 0; s < keys; ++s) top = max(load(scores + s * width + q), top);
      store(m + q, top);
      // A row that has seen no key yet has m = -inf: exponentials are then taken from 0, and give 0.
      const Vec<C> base = top == -kInfinity<C> ? Vec<C>{} : top;
      const Vec<C> factor = exp(before - base);
      store(shrink + q, factor);
      for (int i = 0; i < L; ++i) rescale |= factor[i] != C(1);
      Vec<C> sum = load(l + q) * factor;
      for (int64_t s = 0; s < keys; ++s) {
        const Vec<C> w = exp(load(scores + s * width + q) - base);
        sum += w;
        store(scores + s * width + q, w);
      }
      store(l + q, sum);
    }
    if (rescale && s0 > 0)
      for (int64_t q = 0; q < queries; ++q)
        for (int64_t j = 0; j < p.f; ++j) *sums.at(q, j) *= shrink[q];
    Epilogue<C, C> add;
    add.accumulate = s0 > 0;
    multiply_block(queries, p.f, keys, Matrix<const C>{scores, 1, width}, v.block(s0, 0), {}, add, sums);
  }
  for (int64_t q = 0; q < queries; ++q) {
    const bool none = l[q] == C(0);
    const C share = none ? C(0) : 1 / l[q];
    lse[q] = none ? kInfinity<C> : m[q] + C(::log(double(l[q])));
    C* to = out.at(q0 + q, 0);
    for (int64_t j = 0; j < p.f; ++j) to[j] = none ? C(0) : *sums.at(q, j) * share;
  }
}

template <class C> void forward(const AttentionProblem& p, void* out, const int64_t* out_strides, void* lse) {
  const int64_t blocks = ceil_div(p.l, kQueries);
  const int64_t flops = 2 * least(p.l, kQueries) * p.s * (p.e + p.f);
  parallel_for(p.batch * p.heads * blocks, kPieceFlops / (flops + 1) + 1, [&](int64_t begin, int64_t end) {
    const ForwardScratch<C> scratch(p);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = i / blocks % p.heads, batch = i / blocks / p.heads, q0 = i % blocks * kQueries;
      C* to = static_cast<C*>(out) + batch * out_strides[0] + head * out_strides[1];
      attend(p, batch, head, q0, Matrix<C>{to, out_strides[2], 1},
             static_cast<C*>(lse) + (batch * p.heads + head) * p.l + q0, scratch);
    }
  });
}

void attention_forward(DType t, const AttentionProblem& p, void* out, const int64_t* out_strides, void* lse) {
  if (t == DType::Float64)
    forward<double>(p, out, out_strides, lse);
  else
    forward<float>(p, out, out_strides, lse);
}

// With P = exp(scale Q K^T + mask - lse), O = P V and D_i = sum_f dO_if O_if:
//   dV = P^T dO,  dP = dO V^T,  dS = P * (dP - D),  dQ = scale dS K,  dK = scale dS^T Q.
// D comes from softmax's own rule, D_i = sum_s P_is dP_is = sum_f dO_if sum_s P_is V_sf. A piece of work owns a range
// of keys of one key head and meets its queries in order: dK and dV are its own, and so is dQ unless there are few
// heads and many keys; then each range writes a dQ of its own, and these are added in order.
template <class C> struct BackwardScratch {
  explicit BackwardScratch(const AttentionProblem& p)
      : queries(kQueries * p.e), douts(kQueries * p.f), weights(kKeys * kQueries), slopes(kKeys * kQueries) {}
  Scratch<C> queries, douts, weights, slopes;
};

template <class C> struct Gradients {
  Matrix<const C> dout, out;
  const C* lse;
  Matrix<C> dq, dk, dv;
  C* dscores;  // (L, S) dense, or null
};

template <class C>
void attend_backward(const AttentionProblem& p, int64_t batch, int64_t head, int64_t q0, int64_t s_begin, int64_t s_end,
                     const Gradients<C>& g, const BackwardScratch<C>& scratch) {
  constexpr int L = kLanes<C>;
  const int64_t queries = least(kQueries, p.l - q0), width = round_up(queries, L);
  const int64_t kv_head = head / (p.heads / p.kv_heads);
  const int64_t visible = least(s_end, visible_keys(p, q0 + queries));
  if (s_begin >= visible) return;
  const Matrix<const C> k = rows_of<C>(p.k, p.k_strides, batch, kv_head),
                        v = rows_of<C>(p.v, p.v_strides, batch, kv_head);
  const Matrix<const C> q = rows_of<C>(p.q, p.q_strides, batch, head).block(q0, 0), dout = g.dout.block(q0, 0);
  const C scale = C(p.scale);
  pack_queries(q, p.e, queries, scale, scratch.queries.data());
  pack_queries(dout, p.f, queries, C(1), scratch.douts.data());
  const Matrix<const C> q_packed{scratch.queries.data(), 0, 1}, dout_packed{scratch.douts.data(), 0, 1};
  C *weights = scratch.weights.data(), *slopes = scratch.slopes.data();
  alignas(64) C lse[kQueries], d[kQueries];
  for (int64_t i = 0; i < width; ++i) {
    lse[i] = i < queries ? g.lse[q0 + i] : kInfinity<C>;
    d[i] = 0;
    if (i < queries)
      for (int64_t j = 0; j < p.f; ++j) d[i] += *dout.at(i, j) * *g.out.at(q0 + i, j);
  }
  Epilogue<C, C> add, add_scaled;
  add.accumulate = add_scaled.accumulate = true;
  add_scaled.alpha = scale;
  for (int64_t s0 = s_begin; s0 < visible; s0 += kKeys) {
    const int64_t keys = least(kKeys, visible - s0);
    const Matrix<C> w{weights, width, 1}, ds{slopes, width, 1};
    multiply_block(keys, width, p.e, k.block(s0, 0), q_packed, {false, true}, Epilogue<C, C>{}, w);
    mask_tile(p, batch, head, Tile<C>{s0, keys, q0, queries, width, weights});
    multiply_block(keys, width, p.f, v.block(s0, 0), dout_packed, {false, true}, Epilogue<C, C>{}, ds);
    for (int64_t s = 0; s < keys; ++s)
      for (int64_t i = 0; i < width; i += L) {
        C *at = weights + s * width + i, *slope = slopes + s * width + i;
        const Vec<C> weight = exp(load(at) - load(lse + i));
        store(at, weight);
        store(slope, weight * (load(slope) - load(d + i)));
      }
    const Matrix<const C> w_read{weights, width, 1}, ds_read{slopes, width, 1};
    multiply_block(keys, p.f, queries, w_read, dout, {}, add, g.dv.block(s0, 0));
    multiply_block(keys, p.e, queries, ds_read, q, {}, add_scaled, g.dk.block(s0, 0));
    multiply_block(queries, p.e, keys, ds_read.transposed(), k.block(s0, 0), {}, add_scaled, g.dq.block(q0, 0));
    if (g.dscores)
      for (int64_t i = 0; i < queries; ++i)
        for (int64_t s = 0; s < keys; ++s) g.dscores[(q0 + i) * p.s + s0 + s] = slopes[s * width + i];
  }
}

template <class C> void clear(C* to, int64_t n) { memset(static_cast<void*>(to), 0, size_t(n) * sizeof(C)); }

template <class C>
void backward(const AttentionProblem& p, const void* dout, const int64_t* dout_strides, const void* out,
              const int64_t* out_strides, const C* lse, C* dq, C* dk, C* dv, C* dscores) {
  const int64_t key_heads = p.batch * p.kv_heads, group = p.heads / p.kv_heads;
  const int64_t q_items = p.batch * p.heads * p.l * p.e;
  const int64_t range = key_heads >= 16 ? most(p.s, 1) : 4 * kKeys, ranges = ceil_div(p.s, range);
  const Scratch<C> parts(ranges > 1 ? ranges * q_items : 0);
  C* const dq_of = ranges > 1 ? parts.data() : dq;
  if (dscores) clear(dscores, p.batch * p.heads * p.l * p.s);
  if (ranges == 0) clear(dq, q_items);
  parallel_for(key_heads * ranges, 1, [&](int64_t begin, int64_t end) {
    const BackwardScratch<C> scratch(p);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t key_head = i / ranges, batch = key_head / p.kv_heads, kv_head = key_head % p.kv_heads;
      const int64_t part = i % ranges, s_begin = part * range, s_end = least(p.s, s_begin + range);
      Gradients<C> g;
      g.dk = {dk + key_head * p.s * p.e, p.e, 1};
      g.dv = {dv + key_head * p.s * p.f, p.f, 1};
      clear(g.dk.at(s_begin, 0), (s_end - s_begin) * p.e);
      clear(g.dv.at(s_begin, 0), (s_end - s_begin) * p.f);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        const int64_t at = batch * p.heads + head;
        g.dout = rows_of<C>(dout, dout_strides, batch, head);
        g.out = rows_of<C>(out, out_strides, batch, head);
        g.lse = lse + at * p.l;
        g.dq = {dq_of + part * q_items + at * p.l * p.e, p.e, 1};
        g.dscores = dscores ? dscores + at * p.l * p.s : nullptr;
        clear(g.dq.data, p.l * p.e);
        for (int64_t q0 = 0; q0 < p.l; q0 += kQueries) attend_backward(p, batch, head, q0, s_begin, s_end, g, scratch);
      }
    }
  });
  if (ranges > 1)
    parallel_for(q_items, 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        C sum = 0;
        for (int64_t r = 0; r < ranges; ++r) sum += dq_of[r * q_items + i];
        dq[i] = sum;
      }
    });
}

void attention_backward(DType t, const AttentionProblem& p, const void* dout, const int64_t* dout_strides,
                        const void* out, const int64_t* out_strides, const void* lse, void* dq, void* dk, void* dv,
                        void* dscores) {
  auto run = [&]<class C>() {
    backward<C>(p, dout, dout_strides, out, out_strides, static_cast<const C*>(lse), static_cast<C*>(dq),
                static_cast<C*>(dk), static_cast<C*>(dv), static_cast<C*>(dscores));
  };
  if (t == DType::Float64)
    run.template operator()<double>();
  else
    run.template operator()<float>();
}

}  // namespace

const AttentionKernels attention_kernels = {attention_forward, attention_backward};

}  // namespace gg::GG_ISA
