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
#include "cpu/philox.h"

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
  C* at(int64_t s, int64_t q) const { return scores + s * width + q; }
};

// Adds the mask of (batch, head) to a tile of scores and hides what causality forbids. `bias` has room for two tiles.
template <class C> void mask_tile(const AttentionProblem& p, int64_t batch, int64_t head, const Tile<C>& t, C* bias) {
  constexpr int L = kLanes<C>;
  const auto bias_of = [](bool keep) { return keep ? C(0) : -kInfinity<C>; };
  if (p.mask) {
    const int64_t* st = p.mask_strides;
    const int64_t first = batch * st[0] + head * st[1] + t.q0 * st[2] + t.s0 * st[3];
    const bool* keep = static_cast<const bool*>(p.mask) + first;
    Matrix<const C> from{static_cast<const C*>(p.mask) + first, st[3], st[2]};  // row: key, column: query
    if (st[2] == 0) {                                                           // one value per key
      for (int64_t s = 0; s < t.keys; ++s) {
        const C x = p.mask_is_bool ? bias_of(keep[s * st[3]]) : *from.at(s, 0);
        for (int64_t q = 0; q < t.width; q += L) store(t.at(s, q), load(t.at(s, q)) + splat(x));
      }
    } else {
      if (p.mask_is_bool) {
        for (int64_t q = 0; q < t.queries; ++q)
          for (int64_t s = 0; s < t.keys; ++s) bias[q * kKeys + s] = bias_of(keep[q * st[2] + s * st[3]]);
        from = {bias, 1, kKeys};
        bias += kKeys * kQueries;
      }
      pack_panel<C>(from, t.keys, t.queries, t.width, bias);
      for (int64_t i = 0; i < t.keys * t.width; i += L) store(t.scores + i, load(t.scores + i) + load(bias + i));
    }
  }
  if (p.causal)
    for (int64_t s = most(0, t.q0 - t.s0); s < t.keys; ++s) {
      const int64_t hidden = least(t.s0 + s - t.q0, t.width);  // queries before this key
      int64_t q = 0;
      for (; q + L <= hidden; q += L) store(t.at(s, q), splat(-kInfinity<C>));
      for (; q < hidden; ++q) *t.at(s, q) = -kInfinity<C>;
    }
}

// keep(s, q) = 1 / (1 - dropout), or 0 with probability dropout. Four keys under one query share a block of random
// words.
template <class C> void dropout_tile(const AttentionProblem& p, int64_t head_index, const Tile<C>& t, C* keep) {
  const C up = p.dropout < 1 ? C(1 / (1 - p.dropout)) : C(0);
  const uint32_t dropped = uint32_t(most(0, least(0xffffffff, int64_t(p.dropout * 0x1p32))));
  for (int64_t s = 0; s < t.keys; s += 4) {
    const uint64_t first = p.offset + uint64_t((head_index * ceil_div(p.s, 4) + (t.s0 + s) / 4) * p.l + t.q0);
    uint32_t words[4][kQueries];
    for (int64_t q = 0; q < t.width; ++q) {
      Philox block(first + uint64_t(q));
      block.rounds(p.seed);
      words[0][q] = block.c0;
      words[1][q] = block.c1;
      words[2][q] = block.c2;
      words[3][q] = block.c3;
    }
    for (int64_t w = 0; w < least(4, t.keys - s); ++w)
      for (int64_t q = 0; q < t.width; ++q) keep[(s + w) * t.width + q] = words[w][q] < dropped ? C(0) : up;
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

int64_t bias_size(const AttentionProblem& p) { return p.mask || p.dropout > 0 ? 2 * kKeys * kQueries : 0; }

// Whether queries are so few that lanes are keys rather than queries.
bool is_few(const AttentionProblem& p) { return p.l <= kThinRows && p.dropout == 0; }

// A row of the output from its sums, and what backward needs of it. A row that saw no key (l = 0) is 0.
template <class C> void finish_row(const AttentionProblem& p, const C* sums, C m, C l, C* out, C* stats) {
  const bool none = l == C(0);
  const C share = none ? C(0) : 1 / l;
  stats[0] = none ? C(0) : m;
  stats[1] = share;
  for (int64_t j = 0; j < p.f; ++j) out[j] = none ? C(0) : sums[j] * share;
}

template <class C> struct ForwardScratch {
  explicit ForwardScratch(const AttentionProblem& p)
      : queries(kQueries * p.e), scores(kKeys * kQueries), out(kQueries * p.f), bias(bias_size(p)) {}
  Scratch<C> queries, scores, out, bias;
};

template <class C>
void attend(const AttentionProblem& p, int64_t batch, int64_t head, int64_t q0, Matrix<C> out, C* stats,
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
    multiply_block(keys, width, p.e, k.block(s0, 0), q_packed, true, Epilogue<C, C>{},
                   Matrix<C>{scores, width, 1});
    const Tile<C> tile{s0, keys, q0, queries, width, scores};
    mask_tile(p, batch, head, tile, scratch.bias.data());
    bool rescale = false;
    for (int64_t q = 0; q < width; q += L) {
      const Vec<C> before = load(m + q);
      Vec<C> top = before;
      for (int64_t s = 0; s < keys; ++s) top = max(load(scores + s * width + q), top);
      store(m + q, top);
      // A row that has seen no key yet has m = -inf: exponentials are then taken from 0, and give 0.
      const Vec<C> base = top == -kInfinity<C> ? Vec<C>{} : top;
      const Vec<C> factor = exp_of_negative(before - base);
      store(shrink + q, factor);
      for (int i = 0; i < L; ++i) rescale |= factor[i] != C(1);
      Vec<C> sum = load(l + q) * factor;
      for (int64_t s = 0; s < keys; ++s) {
        const Vec<C> w = exp_of_negative(load(scores + s * width + q) - base);
        sum += w;
        store(scores + s * width + q, w);
      }
      store(l + q, sum);
    }
    if (p.dropout > 0) {
      C* keep = scratch.bias.data();
      dropout_tile(p, batch * p.heads + head, tile, keep);
      for (int64_t i = 0; i < keys * width; i += L) store(scores + i, load(scores + i) * load(keep + i));
    }
    if (rescale && s0 > 0)
      for (int64_t q = 0; q < queries; ++q)
        for (int64_t j = 0; j < p.f; ++j) *sums.at(q, j) *= shrink[q];
    Epilogue<C, C> add;
    add.accumulate = s0 > 0;
    multiply_block(queries, p.f, keys, Matrix<const C>{scores, 1, width}, v.block(s0, 0), false, add, sums);
  }
  for (int64_t q = 0; q < queries; ++q) finish_row(p, sums.at(q, 0), m[q], l[q], out.at(q0 + q, 0), stats + 2 * q);
}

// The same for a few queries (a model that reads its own output asks one at a time): lanes are keys, or elements of V.
template <class C>
void attend_few(const AttentionProblem& p, int64_t batch, int64_t head, Matrix<C> out, C* stats,
                const ForwardScratch<C>& scratch) {
  constexpr int L = kLanes<C>;
  constexpr int64_t kMost = kKeys * kQueries / kThinRows;  // keys at a time
  const int64_t kv_head = head / (p.heads / p.kv_heads);
  const Matrix<const C> q = rows_of<C>(p.q, p.q_strides, batch, head), k = rows_of<C>(p.k, p.k_strides, batch, kv_head),
                        v = rows_of<C>(p.v, p.v_strides, batch, kv_head);
  const Matrix<C> scores{scratch.scores.data(), kMost, 1}, sums{scratch.out.data(), p.f, 1};
  C m[kThinRows], l[kThinRows];
  for (int64_t i = 0; i < kThinRows; ++i) m[i] = -kInfinity<C>, l[i] = 0;
  const int64_t visible = visible_keys(p, p.l);
  for (int64_t s0 = 0; s0 < visible; s0 += kMost) {
    const int64_t keys = least(kMost, visible - s0);
    Epilogue<C, C> scaled, add;
    scaled.alpha = C(p.scale);
    add.accumulate = s0 > 0;
    dispatch_tile<int(kThinRows), 1>(p.l, 1, [&]<int R, int V>() {
      thin_dots<R>(keys, p.e, q, k.block(s0, 0).transposed(), scaled, scores, 0);
      for (int i = 0; i < R; ++i) {
        C* row = scores.at(i, 0);
        for (int64_t s = 0; s < keys; ++s) {
          if (p.mask) {
            const int64_t* st = p.mask_strides;
            const int64_t at = batch * st[0] + head * st[1] + i * st[2] + (s0 + s) * st[3];
            if (!p.mask_is_bool)
              row[s] += static_cast<const C*>(p.mask)[at];
            else if (!static_cast<const bool*>(p.mask)[at])
              row[s] = -kInfinity<C>;
          }
          if (p.causal && s0 + s > i) row[s] = -kInfinity<C>;
        }
        for (int64_t s = keys; s % L; ++s) row[s] = -kInfinity<C>;
        Vec<C> tops = splat(m[i]), weights{};
        for (int64_t s = 0; s < keys; s += L) tops = max(load(row + s), tops);
        const C top = max_lanes<C>(tops), base = top == -kInfinity<C> ? C(0) : top;
        const C factor = exp_of_negative(splat(m[i] - base))[0];
        for (int64_t s = 0; s < keys; s += L) {
          const Vec<C> w = exp_of_negative(load(row + s) - base);
          weights += w;
          store(row + s, w);
        }
        m[i] = top;
        l[i] = l[i] * factor + sum_lanes<C>(weights);
        if (s0 > 0)
          for (int64_t j = 0; j < p.f; ++j) *sums.at(i, j) *= factor;
      }
      thin_rows<R>(p.f, keys, Matrix<const C>{scores.data, kMost, 1}, v.block(s0, 0), add, sums, 0);
    });
  }
  for (int64_t i = 0; i < p.l; ++i) finish_row(p, sums.at(i, 0), m[i], l[i], out.at(i, 0), stats + 2 * i);
}

template <class C> void forward(const AttentionProblem& p, void* out, const int64_t* out_strides, void* stats) {
  const int64_t blocks = ceil_div(p.l, kQueries);
  const int64_t flops = 2 * least(p.l, kQueries) * p.s * (p.e + p.f);
  parallel_for(p.batch * p.heads * blocks, kPieceFlops / (flops + 1) + 1, [&](int64_t begin, int64_t end) {
    const ForwardScratch<C> scratch(p);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = i / blocks % p.heads, batch = i / blocks / p.heads, q0 = i % blocks * kQueries;
      C* to = static_cast<C*>(out) + batch * out_strides[0] + head * out_strides[1];
      const Matrix<C> rows{to, out_strides[2], 1};
      C* row_stats = static_cast<C*>(stats) + 2 * ((batch * p.heads + head) * p.l + q0);
      if (is_few(p))
        attend_few(p, batch, head, rows, row_stats, scratch);
      else
        attend(p, batch, head, q0, rows, row_stats, scratch);
    }
  });
}

void attention_forward(DType t, const AttentionProblem& p, void* out, const int64_t* out_strides, void* stats) {
  if (t == DType::Float64)
    forward<double>(p, out, out_strides, stats);
  else
    forward<float>(p, out, out_strides, stats);
}

// With P = exp(scale Q K^T + mask - m) / l, O = P V and D_i = sum_f dO_if O_if:
//   dV = P^T dO,  dP = dO V^T,  dS = P * (dP - D),  dQ = scale dS K,  dK = scale dS^T Q.
// With dropout, P in O and dV and dP in dS are multiplied by the same factors as forward. D comes from softmax's own
// rule, D_i = sum_s P_is dP_is = sum_f dO_if sum_s P_is V_sf. A piece of work owns a range of keys of one key head and
// meets its queries in order: dK and dV are its own, and so is dQ unless there are few heads and many keys; then each
// range writes a dQ of its own, and these are added in order.
template <class C> struct BackwardScratch {
  explicit BackwardScratch(const AttentionProblem& p)
      : queries(kQueries * p.e),
        douts(kQueries * p.f),
        weights(kKeys * kQueries),
        slopes(kKeys * kQueries),
        bias(bias_size(p)) {}
  Scratch<C> queries, douts, weights, slopes, bias;
};

template <class C> void clear(C* to, int64_t n) { memset(static_cast<void*>(to), 0, size_t(n) * sizeof(C)); }

template <class C> struct Gradients {
  Matrix<const C> dout, out;
  const C* stats;
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
  alignas(64) C m[kQueries], share[kQueries], d[kQueries];
  for (int64_t i = 0; i < width; ++i) {
    m[i] = i < queries ? g.stats[2 * (q0 + i)] : C(0);
    share[i] = i < queries ? g.stats[2 * (q0 + i) + 1] : C(0);
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
    if (is_few(p)) {  // sums in the order of attend_few, or the weights would not add up to 1
      clear(weights, keys * width);
      Epilogue<C, C> scaled;
      scaled.alpha = scale;
      dispatch_tile<int(kThinRows), 1>(p.l, 1, [&]<int R, int V>() {
        thin_dots<R>(keys, p.e, q, k.block(s0, 0).transposed(), scaled, w.transposed(), 0);
      });
    } else {
      multiply_block(keys, width, p.e, k.block(s0, 0), q_packed, true, Epilogue<C, C>{}, w);
    }
    const Tile<C> tile{s0, keys, q0, queries, width, weights};
    mask_tile(p, batch, head, tile, scratch.bias.data());
    multiply_block(keys, width, p.f, v.block(s0, 0), dout_packed, true, Epilogue<C, C>{}, ds);
    const C* keep = nullptr;
    if (p.dropout > 0) {
      dropout_tile(p, batch * p.heads + head, tile, scratch.bias.data());
      keep = scratch.bias.data();
    }
    for (int64_t s = 0; s < keys; ++s)
      for (int64_t i = 0; i < width; i += L) {
        C *weight = tile.at(s, i), *slope = slopes + s * width + i;
        const Vec<C> w = exp_of_negative(load(weight) - load(m + i)) * load(share + i);
        const Vec<C> factor = keep ? load(keep + s * width + i) : splat(C(1));
        store(weight, w * factor);
        store(slope, w * (load(slope) * factor - load(d + i)));
      }
    const Matrix<const C> w_read{weights, width, 1}, ds_read{slopes, width, 1};
    multiply_block(keys, p.f, queries, w_read, dout, false, add, g.dv.block(s0, 0));
    multiply_block(keys, p.e, queries, ds_read, q, false, add_scaled, g.dk.block(s0, 0));
    multiply_block(queries, p.e, keys, ds_read.transposed(), k.block(s0, 0), false, add_scaled, g.dq.block(q0, 0));
    if (g.dscores)
      for (int64_t i = 0; i < queries; ++i)
        for (int64_t s = 0; s < keys; ++s) g.dscores[(q0 + i) * p.s + s0 + s] = slopes[s * width + i];
  }
}

template <class C>
void backward(const AttentionProblem& p, const void* dout, const int64_t* dout_strides, const void* out,
              const int64_t* out_strides, const C* stats, C* dq, C* dk, C* dv, C* dscores) {
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
        g.stats = stats + 2 * at * p.l;
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
                        const void* out, const int64_t* out_strides, const void* stats, void* dq, void* dk, void* dv,
                        void* dscores) {
  auto run = [&]<class C>() {
    backward<C>(p, dout, dout_strides, out, out_strides, static_cast<const C*>(stats), static_cast<C*>(dq),
                static_cast<C*>(dk), static_cast<C*>(dv), static_cast<C*>(dscores));
  };
  if (t == DType::Float64)
    run.template operator()<double>();
  else
    run.template operator()<float>();
}

// keep (batch, heads, L, S) dense: the factors of dropout.
template <class C> void dropout_factors(const AttentionProblem& p, C* keep) {
  const int64_t blocks = ceil_div(p.l, kQueries);
  parallel_for(p.batch * p.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    const Scratch<C> tile(kKeys * kQueries);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = i / blocks, q0 = i % blocks * kQueries, queries = least(kQueries, p.l - q0);
      for (int64_t s0 = 0; s0 < p.s; s0 += kKeys) {
        const int64_t keys = least(kKeys, p.s - s0);
        dropout_tile(p, head, Tile<C>{s0, keys, q0, queries, queries, nullptr}, tile.data());
        for (int64_t q = 0; q < queries; ++q)
          for (int64_t s = 0; s < keys; ++s) keep[(head * p.l + q0 + q) * p.s + s0 + s] = tile[s * queries + q];
      }
    }
  });
}

void attention_dropout(DType t, const AttentionProblem& p, void* keep) {
  if (t == DType::Float64)
    dropout_factors(p, static_cast<double*>(keep));
  else
    dropout_factors(p, static_cast<float*>(keep));
}

}  // namespace

const AttentionKernels attention_kernels = {attention_forward, attention_backward, attention_dropout};

}  // namespace gg::GG_ISA
