// CPU kernels of attention. L queries, S keys, E and F elements in a row of Q and K, and of V.
//
// Dao, Fu, Ermon, Rudra, Re 2022, "FlashAttention", with the online softmax of Milakov and Gimelshein 2018. Forward
// takes kQueries queries at a time through all keys, kKeys at a time. Scores are held transposed, T = K Q^T, one row
// per key: the lanes of a vector are then queries, so a row's maximum and sum are plain vector operations; K and V are
// read in place, and only Q^T is packed, once. The running maximum m and sum l rescale the output whenever m grows.
// Where there is a matrix unit, float32 takes it (cpu/tiles.h).
#include "ops/attention/attention.h"

#include <math.h>

#include "core/parallel.h"
#include "cpu/gemm.h"
#include "cpu/philox.h"
#include "cpu/tiles.h"

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
    for (int64_t s = larger(0, t.q0 - t.s0); s < t.keys; ++s) {
      const int64_t hidden = smaller(t.s0 + s - t.q0, t.width);  // queries before this key
      int64_t q = 0;
      for (; q + L <= hidden; q += L) store(t.at(s, q), splat(-kInfinity<C>));
      for (; q < hidden; ++q) *t.at(s, q) = -kInfinity<C>;
    }
}

template <class C> void clear(C* to, int64_t n) { memset(static_cast<void*>(to), 0, size_t(n) * sizeof(C)); }

// keep(s, q) = 1 / (1 - dropout), or 0 with probability dropout. Four keys under one query share a block of random
// words.
template <class C> void dropout_tile(const AttentionProblem& p, int64_t head_index, const Tile<C>& t, C* keep) {
  const C up = p.dropout < 1 ? C(1 / (1 - p.dropout)) : C(0);
  const uint32_t dropped = uint32_t(larger(0, smaller(0xffffffff, int64_t(p.dropout * 0x1p32))));
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
    for (int64_t w = 0; w < smaller(4, t.keys - s); ++w)
      for (int64_t q = 0; q < t.width; ++q) keep[(s + w) * t.width + q] = words[w][q] < dropped ? C(0) : up;
  }
}

// How many keys the queries up to `end` see.
int64_t visible_keys(const AttentionProblem& p, int64_t end) { return p.causal ? smaller(p.s, end) : p.s; }

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
  const int64_t queries = smaller(kQueries, p.l - q0), width = round_up(queries, L);
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
    const int64_t keys = smaller(kKeys, visible - s0);
    multiply_block(keys, width, p.e, k.block(s0, 0), q_packed, true, Epilogue<C, C>{}, Matrix<C>{scores, width, 1});
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
    const int64_t keys = smaller(kMost, visible - s0);
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

// Whether the products are large enough to fill tiles.
template <class C> bool suits_tiles(const AttentionProblem& p) {
  return sizeof(C) == sizeof(float) && has_tiles() && p.l >= kSide && p.s >= kSide && p.e >= kSide && p.f >= kSide;
}

#if defined(GG_TILES)
// On a matrix unit (cpu/tiles.h): K and V^T of a head are split and packed once, and kQueries queries at a time go
// through the keys, kTileKeys at a time. Sums are held transposed as well.
constexpr int64_t kTileKeys = 64;
constexpr int64_t kTileScores = kTileKeys * kQueries;

// Whether causality hides the later half of a tile's keys from the earlier half of its queries.
bool hides_half(const AttentionProblem& p, int64_t s0, int64_t keys, int64_t q0) {
  return p.causal && s0 == q0 && keys > kDeep;
}

// Tiles across a row of V, an even number.
int64_t tile_columns(const AttentionProblem& p) { return round_up(ceil_div(p.f, kSide), 2); }

// K, split along its rows, and V, whose depth in P V are the keys, of `heads` key heads, counted over the batch;
// whether a head is finite.
class PackedKeys {
 public:
  PackedKeys(const AttentionProblem& p, int64_t first, int64_t heads)
      : first_(first),
        depth_(ceil_div(p.e, kDeep)),
        columns_(tile_columns(p)),
        chunks_(ceil_div(p.s, kTileKeys)),
        k_(heads * chunks_ * k_chunk()),
        v_(heads * chunks_ * v_chunk()),
        finite_(heads * chunks_) {
    const int64_t work = kTileKeys * (p.e + p.f);
    parallel_for(heads * chunks_, (1 << 15) / work + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t s0 = i % chunks_ * kTileKeys, head = first + i / chunks_, keys = smaller(kTileKeys, p.s - s0);
        const auto k = rows_of<float>(p.k, p.k_strides, head / p.kv_heads, head % p.kv_heads);
        const auto v = rows_of<float>(p.v, p.v_strides, head / p.kv_heads, head % p.kv_heads);
        const bool k_finite = pack_split<false, false>(k.block(s0, 0), keys, p.e, 1, k_tiles(i));
        finite_[i] = pack_split<true, true>(v.block(s0, 0), keys, p.f, 1, v_tiles(i)) && k_finite;
      }
    });
  }
  bool finite(int64_t head) const {
    for (int64_t c = 0; c < chunks_; ++c)
      if (!finite_[(head - first_) * chunks_ + c]) return false;
    return true;
  }
  // Of a head's keys from s0 on, a multiple of kTileKeys, kTileKeys keys.
  SplitTiles<const uint32_t> k(int64_t head, int64_t s0) const { return k_tiles(chunk(head, s0)); }
  SplitTiles<const uint32_t> v(int64_t head, int64_t s0) const { return v_tiles(chunk(head, s0)); }

 private:
  int64_t chunk(int64_t head, int64_t s0) const { return (head - first_) * chunks_ + s0 / kTileKeys; }
  int64_t k_chunk() const { return kTileKeys / kSide * depth_ * kSplitWords; }
  int64_t v_chunk() const { return kTileKeys / kDeep * columns_ * kSplitWords; }
  SplitTiles<uint32_t> k_tiles(int64_t chunk) const {
    return {k_.data() + chunk * k_chunk(), depth_ * kSplitWords, kSplitWords};
  }
  SplitTiles<uint32_t> v_tiles(int64_t chunk) const {
    return {v_.data() + chunk * v_chunk(), kTileKeys / kDeep * kSplitWords, kSplitWords};
  }
  int64_t first_, depth_, columns_, chunks_;
  Scratch<uint32_t> k_, v_;
  Scratch<uint8_t> finite_;
};

struct TileScratch {
  explicit TileScratch(const AttentionProblem& p)
      : queries(kQueries / kSide * ceil_div(p.e, kDeep) * kSplitWords),
        weights(2 * kTileScores / (kSide * kDeep) * kSplitWords),
        scores(2 * kTileScores),
        sums(tile_columns(p) * kSide * kQueries),
        bias(bias_size(p)) {}
  Scratch<uint32_t> queries, weights;
  Scratch<float> scores, sums, bias;
  TileRegisters registers;
};

// Row i of `to`, n elements, becomes column i of `from`, whose rows lie kQueries apart, times factors[i].
void store_turned(const float* from, int64_t rows, int64_t n, const float* factors, Matrix<float> to) {
  for (int64_t i = 0; i < rows; i += kSide)
    for (int64_t j = 0; j < n; j += kSide) {
      Vec<float> x[kSide];
      for (int64_t r = 0; r < kSide; ++r) x[r] = load(from + (j + r) * kQueries + i) * load(factors + i);
      transpose_square<float>(x);
      for (int64_t r = 0; r < smaller(kSide, rows - i); ++r)
        if (n - j >= kSide)
          store(to.at(i + r, j), x[r]);
        else
          store_n(to.at(i + r, j), x[r], n - j);
    }
}

// The rows that fill the keys up to whole tiles weigh nothing. With dropout its factors, 0 for these rows.
void complete_tile(const AttentionProblem& p, int64_t head_index, const Tile<float>& t, float* keep) {
  const int64_t begin = t.keys * t.width, end = round_up(t.keys, kDeep) * t.width;
  for (int64_t i = begin; i < end; ++i) t.scores[i] = -kInfinity<float>;
  if (p.dropout == 0) return;
  dropout_tile(p, head_index, t, keep);
  clear(keep + begin, end - begin);
}

// How far scores may exceed the number m that is subtracted from them before m follows and the sums must shrink.
constexpr float kSlack = 4;

// One step of the online softmax: scores become weights, split and packed; m, l and shrink belong to the tile's
// queries. The queue is worked off meanwhile. Whether the sums must shrink.
bool weigh_tile(const AttentionProblem& p, int64_t head_index, const Tile<float>& t, float* m, float* l, float* shrink,
                float* keep, SplitTiles<uint32_t> weights, TileQueue& queue) {
  const int64_t keys = round_up(t.keys, kDeep), queries = round_up(t.queries, kDeep);
  complete_tile(p, head_index, t, keep);
  Weaver weaver(queue, queries / kSide * (keys / 2 + keys / 8));
  bool rescale = false;
  for (int64_t q = 0; q < queries; q += kSide) {
    const Vec<float> before = load(m + q);
    Vec<float> tops[4] = {before, before, before, before};
    for (int64_t s = 0; s < keys; s += 8) {
      for (int i = 0; i < 8; ++i) tops[i % 4] = max(load(t.at(s + i, q)), tops[i % 4]);
      weaver.turn();
    }
    const Vec<float> top = max(max(tops[0], tops[1]), max(tops[2], tops[3]));
    const auto grows = top > before + kSlack;
    const Vec<float> now = grows ? top : before;
    store(m + q, now);
    // A row that has seen no key yet has m = -inf: exponentials are then taken from 0, and give 0.
    const Vec<float> base = now == -kInfinity<float> ? Vec<float>{} : now;
    const Vec<float> factor = exp_of_negative(before - base);
    store(shrink + q, factor);
    rescale |= any(grows);
    Vec<float> sum{}, other{};
    for (int64_t s = 0; s < keys; s += kDeep) {
      uint32_t* to = weights.at(q / kSide, s / kDeep);
      for (int64_t r = 0; r < kSide; ++r) {
        Vec<float> a = exp_of_negative(load(t.at(s + r, q)) - base);
        Vec<float> b = exp_of_negative(load(t.at(s + r + kSide, q)) - base);
        sum += a;
        other += b;
        if (p.dropout > 0) {
          a *= load(keep + (s + r) * t.width + q);
          b *= load(keep + (s + r + kSide) * t.width + q);
        }
        store_pairs(to + r * kSide, kTileWords, split(a), split(b));
        weaver.turn();
      }
    }
    store(l + q, load(l + q) * factor + (sum + other));
  }
  queue.finish();
  return rescale;
}

// A block of kQueries queries, q0 and up, through all the keys that it sees: while the weights of a tile are computed,
// the matrix unit multiplies those of the tile before by V, and makes the scores of the next. False, and nothing done,
// where a query is not finite.
bool attend_tiles(const AttentionProblem& p, int64_t batch, int64_t head, int64_t q0, const PackedKeys& packed,
                  Matrix<float> out, float* stats, const TileScratch& scratch) {
  constexpr int64_t kStep = kTileKeys / kDeep * kSplitWords;
  const int64_t queries = smaller(kQueries, p.l - q0);
  const int64_t kv_head = batch * p.kv_heads + head / (p.heads / p.kv_heads);
  const int64_t depth = ceil_div(p.e, kDeep);
  const SplitTiles<uint32_t> q_tiles{scratch.queries.data(), depth * kSplitWords, kSplitWords};
  if (!pack_split<false, true>(rows_of<float>(p.q, p.q_strides, batch, head).block(q0, 0), queries, p.e, float(p.scale),
                               q_tiles))
    return false;
  alignas(64) float m[kQueries], l[kQueries] = {}, shrink[kQueries];
  for (float& x : m) x = -kInfinity<float>;

  TileQueue queue;
  const int64_t visible = visible_keys(p, q0 + queries), all = round_up(queries, kDeep) / kSide;
  const auto tile_at = [&](int64_t s0, int buffer) {
    return Tile<float>{
        s0, smaller(kTileKeys, visible - s0), q0, queries, kQueries, scratch.scores.data() + buffer * kTileScores};
  };
  const auto weights_of = [&](int buffer) {
    return SplitTiles<uint32_t>{scratch.weights.data() + buffer * kQueries / kSide * kStep, kStep, kSplitWords};
  };
  const auto add_scores = [&](const Tile<float>& t) {
    const auto k = packed.k(kv_head, t.s0);
    const int64_t rows = round_up(t.keys, kDeep) / kSide, seen = hides_half(p, t.s0, t.keys, q0) ? 2 : rows;
    queue.add({seen, all, depth, k, q_tiles, t.scores, kQueries, false});
    if (seen < rows && all > 2)
      queue.add({rows - seen, all - 2, depth, k.block(2, 0), q_tiles.block(2, 0), t.at(kDeep, kDeep), kQueries, false});
  };
  const auto add_output = [&](const Tile<float>& t, int buffer) {
    const auto v = packed.v(kv_head, t.s0);
    const auto weights = weights_of(buffer);
    const int64_t rows = tile_columns(p), seen = hides_half(p, t.s0, t.keys, q0) ? 2 : 0;
    float* sums = scratch.sums.data();
    if (seen) queue.add({rows, seen, 1, v, weights, sums, kQueries, t.s0 > 0});
    if (seen < all)
      queue.add({rows, all - seen, ceil_div(t.keys, kDeep), v, weights.block(seen, 0), sums + seen * kSide, kQueries,
                 t.s0 > 0});
  };
  int buffer = 0;
  Tile<float> before{};
  add_scores(tile_at(0, 0));
  queue.finish();
  for (int64_t s0 = 0; s0 < visible; s0 += kTileKeys, buffer = 1 - buffer) {
    const Tile<float> now = tile_at(s0, buffer);
    if (before.keys > 0) add_output(before, 1 - buffer);
    if (s0 + kTileKeys < visible) add_scores(tile_at(s0 + kTileKeys, 1 - buffer));
    mask_tile(p, batch, head, now, scratch.bias.data());
    const bool rescale =
        weigh_tile(p, batch * p.heads + head, now, m, l, shrink, scratch.bias.data(), weights_of(buffer), queue);
    if (rescale && s0 > 0)
      for (int64_t f = 0; f < p.f; ++f)
        for (int64_t q = 0; q < all * kSide; q += kSide) {
          float* sum = scratch.sums.data() + f * kQueries + q;
          store(sum, load(sum) * load(shrink + q));
        }
    before = now;
  }
  add_output(before, 1 - buffer);
  queue.finish();

  alignas(64) float share[kQueries];
  for (int64_t q = 0; q < queries; ++q) {
    const bool none = l[q] == 0;
    share[q] = none ? 0 : 1 / l[q];
    stats[2 * q] = none ? 0 : m[q];
    stats[2 * q + 1] = share[q];
  }
  store_turned(scratch.sums.data(), queries, p.f, share, out.block(q0, 0));
  return true;
}

// Whether it was done. Queries and heads that are not finite go through the general kernel.
bool forward_tiles(const AttentionProblem& p, float* out, const int64_t* out_strides, float* stats) {
  if (!suits_tiles<float>(p)) return false;
  const int64_t blocks = ceil_div(p.l, kQueries), key_heads = p.batch * p.kv_heads, group = p.heads / p.kv_heads;
  const auto block = [&](int64_t head_index, int64_t q0, const PackedKeys& packed, const TileScratch& scratch) {
    const int64_t head = head_index % p.heads, batch = head_index / p.heads;
    const Matrix<float> rows{out + batch * out_strides[0] + head * out_strides[1], out_strides[2], 1};
    float* row_stats = stats + 2 * (head_index * p.l + q0);
    if (!packed.finite(head_index / group) || !attend_tiles(p, batch, head, q0, packed, rows, row_stats, scratch))
      attend(p, batch, head, q0, rows, row_stats, ForwardScratch<float>(p));
  };
  // Many heads or short ones: each is packed by the piece that reads it, and is near.
  const int64_t flops = 2 * p.l * p.s * (p.e + p.f) * group;
  if (key_heads >= 16 || flops <= 2 * kPieceFlops) {
    parallel_for(key_heads, kPieceFlops / flops + 1, [&](int64_t begin, int64_t end) {
      const TileScratch scratch(p);
      for (int64_t i = begin; i < end; ++i) {
        const PackedKeys packed(p, i, 1);
        for (int64_t head = i * group; head < (i + 1) * group; ++head)
          for (int64_t q0 = 0; q0 < p.l; q0 += kQueries) block(head, q0, packed, scratch);
      }
    });
    return true;
  }
  const PackedKeys packed(p, 0, key_heads);
  parallel_for(p.batch * p.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    const TileScratch scratch(p);
    for (int64_t i = begin; i < end; ++i)  // under a causal mask the long blocks first
      block(i / blocks, (blocks - 1 - i % blocks) * kQueries, packed, scratch);
  });
  return true;
}
#else
bool forward_tiles(const AttentionProblem&, float*, const int64_t*, float*) { return false; }
#endif

template <class C> void forward(const AttentionProblem& p, void* out, const int64_t* out_strides, void* stats) {
  const int64_t blocks = ceil_div(p.l, kQueries);
  const int64_t flops = 2 * smaller(p.l, kQueries) * p.s * (p.e + p.f);
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
  else if (!forward_tiles(p, static_cast<float*>(out), out_strides, static_cast<float*>(stats)))
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

template <class C> struct Gradients {
  Matrix<const C> dout, out;
  const C* stats;
  Matrix<C> dq, dk, dv;
  C* dscores;  // (L, S) dense, or null
};

// What the softmax of a block of queries was, and D.
template <class C> struct RowStats {
  RowStats(const AttentionProblem& p, const Gradients<C>& g, int64_t q0) {
    for (int64_t i = 0; i < kQueries; ++i) {
      const bool row = q0 + i < p.l;
      m[i] = row ? g.stats[2 * (q0 + i)] : C(0);
      share[i] = row ? g.stats[2 * (q0 + i) + 1] : C(0);
      d[i] = row ? dot(g.dout.at(q0 + i, 0), g.out.at(q0 + i, 0), p.f) : C(0);
    }
  }
  static C dot(const C* a, const C* b, int64_t n) {
    constexpr int L = kLanes<C>;
    Vec<C> sum{};
    int64_t j = 0;
    for (; j + L <= n; j += L) sum += load(a + j) * load(b + j);
    if (j < n) sum += load_n(a + j, n - j) * load_n(b + j, n - j);
    return sum_lanes<C>(sum);
  }
  alignas(64) C m[kQueries], share[kQueries], d[kQueries];
};

template <class C>
void attend_backward(const AttentionProblem& p, int64_t batch, int64_t head, int64_t q0, int64_t s_begin, int64_t s_end,
                     const Gradients<C>& g, const BackwardScratch<C>& scratch) {
  constexpr int L = kLanes<C>;
  const int64_t queries = smaller(kQueries, p.l - q0), width = round_up(queries, L);
  const int64_t kv_head = head / (p.heads / p.kv_heads);
  const int64_t visible = smaller(s_end, visible_keys(p, q0 + queries));
  if (s_begin >= visible) return;
  const Matrix<const C> k = rows_of<C>(p.k, p.k_strides, batch, kv_head),
                        v = rows_of<C>(p.v, p.v_strides, batch, kv_head);
  const Matrix<const C> q = rows_of<C>(p.q, p.q_strides, batch, head).block(q0, 0), dout = g.dout.block(q0, 0);
  const C scale = C(p.scale);
  pack_queries(q, p.e, queries, scale, scratch.queries.data());
  pack_queries(dout, p.f, queries, C(1), scratch.douts.data());
  const Matrix<const C> q_packed{scratch.queries.data(), 0, 1}, dout_packed{scratch.douts.data(), 0, 1};
  C *weights = scratch.weights.data(), *slopes = scratch.slopes.data();
  const RowStats<C> rows(p, g, q0);
  Epilogue<C, C> add, add_scaled;
  add.accumulate = add_scaled.accumulate = true;
  add_scaled.alpha = scale;
  for (int64_t s0 = s_begin; s0 < visible; s0 += kKeys) {
    const int64_t keys = smaller(kKeys, visible - s0);
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
        const Vec<C> w = exp_of_negative(load(weight) - load(rows.m + i)) * load(rows.share + i);
        const Vec<C> factor = keep ? load(keep + s * width + i) : splat(C(1));
        store(weight, w * factor);
        store(slope, w * (load(slope) * factor - load(rows.d + i)));
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

template <class C> class TilePiece {
 public:
  TilePiece(const AttentionProblem&, int64_t, int64_t, int64_t, int64_t) {}
  bool attend(int64_t, int64_t, const Gradients<C>&) const { return false; }
  void finish(const Gradients<C>&) const {}
};

#if defined(GG_TILES)
// Backward on a matrix unit. A piece packs its keys once and each block of queries as it comes to it, in the two ways
// in which they are multiplied; it sums dK and dV beside the result and dQ^T of one block of queries. While the slopes
// of a tile are computed, the matrix unit makes the scores of the next and adds the tile before to the three sums.
struct BackwardTiles {
  BackwardTiles(const AttentionProblem& p, int64_t range)
      : e_blocks(ceil_div(p.e, kDeep)),
        f_blocks(ceil_div(p.f, kDeep)),
        chunk(kTileKeys / kSide * kSplitWords),
        keys(ceil_div(range, kTileKeys) * chunk * (2 * e_blocks + f_blocks)),
        queries(kQueries / kSide * kSplitWords * 2 * (e_blocks + f_blocks)),
        weights(2 * 3 * kTileScores / (kSide * kDeep) * kSplitWords),
        scores(4 * kTileScores),
        dk(round_up(range, kTileKeys) * e_blocks * kDeep),
        dv(round_up(range, kTileKeys) * f_blocks * kDeep),
        dq(e_blocks * kDeep * kQueries),
        bias(bias_size(p)) {
    clear(dk.data(), round_up(range, kTileKeys) * e_blocks * kDeep);
    clear(dv.data(), round_up(range, kTileKeys) * f_blocks * kDeep);
    clear(scores.data(), 4 * kTileScores);  // dP that causality hides is not made, but multiplied by a weight of 0
  }
  static constexpr int64_t kTwo = 2 * kSplitWords;  // tiles along kQueries or kTileKeys as a depth
  using Tiles = SplitTiles<uint32_t>;

  // Of the keys that begin s after the first: K and V for the scores, K^T for dQ.
  Tiles k(int64_t s) const { return {keys_at(s), e_blocks * kSplitWords, kSplitWords}; }
  Tiles k_turned(int64_t s) const { return {keys_at(s) + chunk * e_blocks, kTwo, kSplitWords}; }
  Tiles v(int64_t s) const { return {keys_at(s) + 2 * chunk * e_blocks, f_blocks * kSplitWords, kSplitWords}; }
  // Q and dO for the scores, and for dK and dV.
  Tiles q() const { return {queries.data(), e_blocks * kSplitWords, kSplitWords}; }
  Tiles q_across() const { return {queries.data() + chunk * e_blocks, kTwo, kSplitWords}; }
  Tiles dout() const { return {queries.data() + 2 * chunk * e_blocks, f_blocks * kSplitWords, kSplitWords}; }
  Tiles dout_across() const { return {queries.data() + chunk * (2 * e_blocks + f_blocks), kTwo, kSplitWords}; }
  // P^T for dV, dS^T for dK, and dS^T as the right operand of dQ^T.
  Tiles weight(int buffer, int which) const {
    return {weights.data() + (3 * buffer + which) * kTileScores / (kSide * kDeep) * kSplitWords, kTwo, kSplitWords};
  }
  float* score(int buffer, int which) const { return scores.data() + (2 * buffer + which) * kTileScores; }
  uint32_t* keys_at(int64_t s) const { return keys.data() + s / kTileKeys * chunk * (2 * e_blocks + f_blocks); }

  int64_t e_blocks, f_blocks, chunk;
  Scratch<uint32_t> keys, queries, weights;
  Scratch<float> scores, dk, dv, dq, bias;
  TileRegisters registers;
};

bool pack_keys(const AttentionProblem& p, Matrix<const float> k, Matrix<const float> v, int64_t s_begin, int64_t s_end,
               const BackwardTiles& tiles) {
  bool finite = true;
  for (int64_t s = s_begin; s < s_end; s += kTileKeys) {
    const int64_t keys = smaller(kTileKeys, s_end - s);
    finite &= pack_split<false, false>(k.block(s, 0), keys, p.e, 1, tiles.k(s - s_begin));
    pack_split<true, true>(k.block(s, 0), keys, p.e, 1, tiles.k_turned(s - s_begin));
    finite &= pack_split<false, false>(v.block(s, 0), keys, p.f, 1, tiles.v(s - s_begin));
  }
  return finite;
}

// dS = P * (dP - D) of a tile: from scores and dP to P and dS, split and packed. The queue is worked off meanwhile.
void slope_tile(const AttentionProblem& p, int64_t head_index, const Tile<float>& t, const float* dp, const float* m,
                const float* share, const float* d, float* keep, const BackwardTiles& tiles, int buffer,
                TileQueue& queue) {
  const auto weight = tiles.weight(buffer, 0), slope = tiles.weight(buffer, 1), right = tiles.weight(buffer, 2);
  const int64_t keys = round_up(t.keys, kDeep), queries = round_up(t.queries, kDeep);
  complete_tile(p, head_index, t, keep);
  Weaver weaver(queue, keys / 2 * (queries / kDeep));
  for (int64_t q = 0; q < queries; q += kDeep)
    for (int64_t s = 0; s < keys; s += kDeep)
      for (int64_t r = 0; r < kSide; ++r) {
        Split w[2][2], ds[2][2];  // of keys s + r and s + r + kSide by queries q and q + kSide
        for (int i = 0; i < 2; ++i)
          for (int j = 0; j < 2; ++j) {
            const int64_t at = (s + r + i * kSide) * t.width + q + j * kSide, column = q + j * kSide;
            Vec<float> weight_at = exp_of_negative(load(t.scores + at) - load(m + column)) * load(share + column);
            Vec<float> slope_at = load(dp + at);
            if (p.dropout > 0) slope_at *= load(keep + at);
            slope_at = weight_at * (slope_at - load(d + column));
            if (p.dropout > 0) weight_at *= load(keep + at);
            w[i][j] = split(weight_at);
            ds[i][j] = split(slope_at);
          }
        for (int i = 0; i < 2; ++i) {
          store_pairs(weight.at(s / kSide + i, q / kDeep) + r * kSide, kTileWords, w[i][0], w[i][1]);
          store_pairs(slope.at(s / kSide + i, q / kDeep) + r * kSide, kTileWords, ds[i][0], ds[i][1]);
          store_pairs(right.at(q / kSide + i, s / kDeep) + r * kSide, kTileWords, ds[0][i], ds[1][i]);
        }
        weaver.turn();
      }
  queue.finish();
}

// One block of queries through a piece's keys; false, and nothing done, where it is not finite.
bool attend_backward_tiles(const AttentionProblem& p, int64_t batch, int64_t head, int64_t q0, int64_t s_begin,
                           int64_t s_end, const Gradients<float>& g, const BackwardTiles& tiles) {
  const int64_t queries = smaller(kQueries, p.l - q0), visible = smaller(s_end, visible_keys(p, q0 + queries));
  if (s_begin >= visible) return true;
  const auto q = rows_of<float>(p.q, p.q_strides, batch, head).block(q0, 0), dout = g.dout.block(q0, 0);
  if (!pack_split<false, true>(q, queries, p.e, float(p.scale), tiles.q()) ||
      !pack_split<false, true>(dout, queries, p.f, 1, tiles.dout()))
    return false;
  pack_split<true, false>(q, queries, p.e, 1, tiles.q_across());
  pack_split<true, false>(dout, queries, p.f, 1, tiles.dout_across());
  const RowStats<float> rows(p, g, q0);

  TileQueue queue;
  const int64_t columns = round_up(queries, kDeep) / kSide, q_blocks = ceil_div(queries, kDeep);
  const int64_t e = tiles.e_blocks * kDeep, f = tiles.f_blocks * kDeep;
  const auto tile_at = [&](int64_t s0, int buffer) {
    return Tile<float>{s0, smaller(kTileKeys, visible - s0), q0, queries, kQueries, tiles.score(buffer, 0)};
  };
  const auto add_scores = [&](const Tile<float>& t, int buffer) {
    const int64_t rows = round_up(t.keys, kDeep) / kSide, s = t.s0 - s_begin;
    const int64_t seen = hides_half(p, t.s0, t.keys, q0) ? 2 : rows;
    const auto add = [&](int64_t depth, SplitTiles<const uint32_t> a, SplitTiles<const uint32_t> b, float* c) {
      queue.add({seen, columns, depth, a, b, c, kQueries, false});
      if (seen < rows && columns > 2)
        queue.add({rows - seen, columns - 2, depth, a.block(2, 0), b.block(2, 0), c + kDeep * kQueries + kDeep,
                   kQueries, false});
    };
    add(tiles.e_blocks, tiles.k(s), tiles.q(), t.scores);
    add(tiles.f_blocks, tiles.v(s), tiles.dout(), tiles.score(buffer, 1));
  };
  const auto add_gradients = [&](const Tile<float>& t, int buffer) {
    const int64_t rows = round_up(t.keys, kDeep) / kSide, s = t.s0 - s_begin;
    const int64_t seen = hides_half(p, t.s0, t.keys, q0) ? 2 : 0;
    // By keys: the later ones are seen by later queries only.
    const auto add = [&](int64_t wide, SplitTiles<const uint32_t> a, SplitTiles<const uint32_t> b, float* c) {
      if (seen) queue.add({seen, wide, q_blocks, a, b, c, wide * kSide, true});
      if (q_blocks * 2 > seen && rows > seen)
        queue.add({rows - seen, wide, q_blocks - seen / 2, a.block(seen, seen / 2), b.block(0, seen / 2),
                   c + seen * kSide * wide * kSide, wide * kSide, true});
    };
    add(2 * tiles.f_blocks, tiles.weight(buffer, 0), tiles.dout_across(), tiles.dv.data() + s * f);
    add(2 * tiles.e_blocks, tiles.weight(buffer, 1), tiles.q_across(), tiles.dk.data() + s * e);
    const auto ds = tiles.weight(buffer, 2);
    if (seen) queue.add({2 * tiles.e_blocks, seen, 1, tiles.k_turned(s), ds, tiles.dq.data(), kQueries, s > 0});
    if (seen < columns)
      queue.add({2 * tiles.e_blocks, columns - seen, ceil_div(t.keys, kDeep), tiles.k_turned(s), ds.block(seen, 0),
                 tiles.dq.data() + seen * kSide, kQueries, s > 0});
  };
  int buffer = 0;
  Tile<float> before{};
  add_scores(tile_at(s_begin, 0), 0);
  queue.finish();
  for (int64_t s0 = s_begin; s0 < visible; s0 += kTileKeys, buffer = 1 - buffer) {
    const Tile<float> now = tile_at(s0, buffer);
    if (s0 + kTileKeys < visible) add_scores(tile_at(s0 + kTileKeys, 1 - buffer), 1 - buffer);
    if (before.keys > 0) add_gradients(before, 1 - buffer);
    mask_tile(p, batch, head, now, tiles.bias.data());
    slope_tile(p, batch * p.heads + head, now, tiles.score(buffer, 1), rows.m, rows.share, rows.d, tiles.bias.data(),
               tiles, buffer, queue);
    before = now;
  }
  add_gradients(before, 1 - buffer);
  queue.finish();
  alignas(64) float scales[kQueries];
  for (float& x : scales) x = float(p.scale);
  store_turned(tiles.dq.data(), queries, p.e, scales, g.dq.block(q0, 0));
  return true;
}

// to += scale * from, for rows of n elements, `stride` apart in `from`.
void add_rows(int64_t rows, int64_t n, float scale, const float* from, int64_t stride, float* to) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < n; ++j) to[i * n + j] += scale * from[i * stride + j];
}

// A piece of backward, keys [s_begin, s_end) of one key head, as far as a matrix unit does it.
template <> class TilePiece<float> {
 public:
  TilePiece(const AttentionProblem& p, int64_t batch, int64_t kv_head, int64_t s_begin, int64_t s_end)
      : p_(p), batch_(batch), s_begin_(s_begin), s_end_(s_end), tiles_(p, s_end - s_begin) {
    finite_ = pack_keys(p, rows_of<float>(p.k, p.k_strides, batch, kv_head),
                        rows_of<float>(p.v, p.v_strides, batch, kv_head), s_begin, s_end, tiles_);
  }
  // Whether the block was done.
  bool attend(int64_t head, int64_t q0, const Gradients<float>& g) const {
    return finite_ && attend_backward_tiles(p_, batch_, head, q0, s_begin_, s_end_, g, tiles_);
  }
  void finish(const Gradients<float>& g) const {
    const int64_t rows = s_end_ - s_begin_, e = tiles_.e_blocks * kDeep, f = tiles_.f_blocks * kDeep;
    add_rows(rows, p_.e, float(p_.scale), tiles_.dk.data(), e, g.dk.at(s_begin_, 0));
    add_rows(rows, p_.f, 1, tiles_.dv.data(), f, g.dv.at(s_begin_, 0));
  }

 private:
  const AttentionProblem& p_;
  int64_t batch_, s_begin_, s_end_;
  BackwardTiles tiles_;
  bool finite_;
};
#endif

constexpr int64_t kMostRanges = 8;  // of one head's keys: as many gradients of its queries are held

template <class C>
void backward(const AttentionProblem& p, const void* dout, const int64_t* dout_strides, const void* out,
              const int64_t* out_strides, const C* stats, C* dq, C* dk, C* dv, C* dscores) {
  const int64_t key_heads = p.batch * p.kv_heads, group = p.heads / p.kv_heads;
  const int64_t q_items = p.batch * p.heads * p.l * p.e;
  const int64_t range =
      key_heads >= 16 ? larger(p.s, 1) : larger(4 * kKeys, round_up(ceil_div(p.s, kMostRanges), kKeys));
  const int64_t ranges = ceil_div(p.s, range);
  const Scratch<C> parts(ranges > 1 ? ranges * q_items : 0);
  C* const dq_of = ranges > 1 ? parts.data() : dq;
  if (dscores) clear(dscores, p.batch * p.heads * p.l * p.s);
  if (ranges == 0) clear(dq, q_items);
  const bool by_tiles = suits_tiles<C>(p) && !dscores;
  parallel_for(key_heads * ranges, 1, [&](int64_t begin, int64_t end) {
    const BackwardScratch<C> scratch(p);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t key_head = i / ranges, batch = key_head / p.kv_heads, kv_head = key_head % p.kv_heads;
      const int64_t part = i % ranges, s_begin = part * range, s_end = smaller(p.s, s_begin + range);
      Gradients<C> g;
      g.dk = {dk + key_head * p.s * p.e, p.e, 1};
      g.dv = {dv + key_head * p.s * p.f, p.f, 1};
      clear(g.dk.at(s_begin, 0), (s_end - s_begin) * p.e);
      clear(g.dv.at(s_begin, 0), (s_end - s_begin) * p.f);
      const auto each_block = [&](const auto& done) {
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
          const int64_t at = batch * p.heads + head;
          g.dout = rows_of<C>(dout, dout_strides, batch, head);
          g.out = rows_of<C>(out, out_strides, batch, head);
          g.stats = stats + 2 * at * p.l;
          g.dq = {dq_of + part * q_items + at * p.l * p.e, p.e, 1};
          g.dscores = dscores ? dscores + at * p.l * p.s : nullptr;
          clear(g.dq.data, p.l * p.e);
          for (int64_t q0 = 0; q0 < p.l; q0 += kQueries)
            if (!done(head, q0)) attend_backward(p, batch, head, q0, s_begin, s_end, g, scratch);
        }
      };
      if (by_tiles) {
        const TilePiece<C> tiles(p, batch, kv_head, s_begin, s_end);
        each_block([&](int64_t head, int64_t q0) { return tiles.attend(head, q0, g); });
        tiles.finish(g);
      } else {
        each_block([](int64_t, int64_t) { return false; });
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
      const int64_t head = i / blocks, q0 = i % blocks * kQueries, queries = smaller(kQueries, p.l - q0);
      for (int64_t s0 = 0; s0 < p.s; s0 += kKeys) {
        const int64_t keys = smaller(kKeys, p.s - s0);
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
