// gemm: C = alpha A B + beta D for A (M, K), B (K, N), C and D (M, N), each given by a pointer and two strides.
//
// Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication": B is packed into panels as wide as a
// register tile, one K block at a time; a tile of C (kTileRows x kTileVectors vectors) stays in registers while K runs.
// Row-major A is read in place: a broadcast costs the same from there. Packing also widens 16-bit floats, and C is then
// summed in float32. Few rows read B once, in memory order: as dot products or row by row, or in place by the first
// tile, which leaves it packed for the others. Where B is transposed and A small, C^T = B^T A^T packs the small one.
//
// The order in which K is summed depends on the sizes alone, never on threads: work is cut over M and N, and a long K
// over few outputs into fixed chunks added in order. gemm() may be called from inside a parallel_for piece: it then
// runs alone. For products of another shape take multiply_block, or multiply_tile, which asks for each row of B through
// a functor.
#pragma once
#include "core/parallel.h"
#include "cpu/integers.h"
#include "cpu/matrix.h"
#include "cpu/scratch.h"
#include "cpu/tiles.h"
#include "cpu/transpose.h"
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

// 24 accumulators of 32 registers, or 12 of 16: what is left holds a row of B and a broadcast element of A. Narrow
// tiles are taller, so that as many sums are under way.
constexpr int kTileRows = 6;
constexpr int kTileVectors = GG_VECTOR_BYTES == 64 ? 4 : 2;
constexpr int kTallRows = 12, kTallVectors = kTileVectors / 2;
template <class C> constexpr int kTileColumns = kTileVectors * kLanes<C>;

constexpr int64_t kDepth = 512;            // K block: a block of B then fits beside C in a 1 MB L2
constexpr int64_t kBlockColumns = 512;     // columns of C per piece
constexpr int64_t kFetchDepth = 64;        // depth from which a tile's C is fetched while the tile is summed
constexpr int64_t kFewRows = 128;          // rows of A up to which B is packed by the tile that reads it first,
constexpr int64_t kPassingRows = 512;      // and up to which it is so where each of several pieces has
constexpr int64_t kManyPanels = 8;         // columns of its own
constexpr int64_t kThinRows = 4;           // rows of A up to which a product is one pass over B
constexpr int64_t kPieceFlops = 4000000;   // a piece of parallel work: 20 to 40 microseconds
constexpr int64_t kLeastFlops = 500000;    // below twice this a second thread's help costs more than it brings
constexpr int64_t kPieceElements = 65536;  // a piece of a product that is bound by reading B

// Into how many pieces to cut so much work. Small work makes 2 or 4 pieces, equal ones for two threads or four.
inline int64_t pieces_of(double flops) {
  if (flops < 2.0 * kLeastFlops) return 1;
  if (flops < 4.0 * kLeastFlops) return 2;
  return round_up(int64_t(flops / double(kPieceFlops)) + 1, 4);
}

// Where a tile's B lies: packed, it comes from the L2; in place, from afar, and its rows are fetched earlier.
constexpr int kNear = 8, kFar = 12;
template <int Ahead> struct Nothing {
  static constexpr int kAhead = Ahead;
  template <class V> void operator()(int64_t, int, const V&) const {}
};
template <class C> struct Keep {
  static constexpr int kAhead = kFar;
  C* to;
  int64_t width;
  void operator()(int64_t p, int v, Vec<C> x) const { store(to + p * width + v * kLanes<C>, x); }
};

// sums[r][v] += sum over p < depth of A(r, p) * (vector v of row p of B); b_row(p) points at that row. With Tail the
// last vector has only `tail` lanes and nothing behind them is touched. Every vector of B is given to show(p, v,
// vector).
template <int R, int V, bool Tail = false, class C, class BRow, class Show = Nothing<kNear>>
[[gnu::always_inline]] inline void multiply_tile(int64_t depth, const C* a, int64_t a_row, int64_t a_col,
                                                 const BRow& b_row, Vec<C> (&sums)[R][V], int64_t tail = 0,
                                                 const Show& show = {}) {
  // Three rows to a pointer: x86 addresses them by one index register, and the pointers stay in registers.
  constexpr int G = (R + 2) / 3;
  const C* rows[G];
  for (int g = 0; g < G; ++g) rows[g] = a + 3 * g * a_row;
  Vec<C> s[R][V];  // a copy of its own, which stays in registers whatever is done to `sums` later
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) s[r][v] = sums[r][v];
  for (int64_t p = 0; p < depth; ++p) {
    const C* b = b_row(p);
    Vec<C> bv[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      bv[v] = Tail && v == V - 1 ? load_n(b + v * kLanes<C>, tail) : load(b + v * kLanes<C>);
      if (GG_VECTOR_BYTES == 64 || v == 0) __builtin_prefetch(b_row(p + Show::kAhead) + v * kLanes<C>);
      show(p, v, bv[v]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      Vec<C> x = splat(rows[r / 3][r % 3 * a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) s[r][v] += x * bv[v];
    }
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) rows[g] += a_col;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = s[r][v];
}

// What becomes of a sum s: C = alpha s + beta D, or C += alpha s for the K blocks after the first. No D: D = 0.
template <class C, class T> struct Epilogue {
  C alpha = 1, beta = 0;
  Matrix<const T> d;
  bool accumulate = false;
};

template <class C, class T> inline Vec<C> load_strided(const T* p, int64_t stride, int64_t n) {
  if (stride == 1) return n >= kLanes<C> ? load(p) : load_n(p, n);
  if (stride == 0) return splat(load1(p));
  Vec<C> v{};
  for (int64_t i = 0; i < smaller(n, kLanes<C>); ++i) v[i] = load1(p + i * stride);
  return v;
}

// One vector of C or, with n < kLanes<C>, its first n lanes.
template <class C, class T>
inline void store_vector(Vec<C> sum, const Epilogue<C, T>& e, Matrix<T> c, int64_t i, int64_t j, int64_t n) {
  T* out = c.at(i, j);
  Vec<C> x = sum * e.alpha;
  if (e.accumulate)
    x += n >= kLanes<C> ? load(out) : load_n(out, n);
  else if (e.d.data)
    x += load_strided<C>(e.d.at(i, j), e.d.col, n) * e.beta;
  if (n >= kLanes<C>)
    store(out, x);
  else
    store_n(out, x, n);
}

template <class C, class T>
[[gnu::noinline]] void store_edge(const Vec<C>* sums, int64_t rows, int64_t vectors, const Epilogue<C, T>& e,
                                  Matrix<T> c, int64_t i, int64_t j, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v)
      store_vector(sums[r * vectors + v], e, c, i + r, j + v * kLanes<C>, columns - v * kLanes<C>);
}

// The first `columns` columns of a tile at (i, j) of C; C's columns are dense.
template <int R, int V, class C, class T>
[[gnu::always_inline]] inline void store_tile(Vec<C> (&sums)[R][V], const Epilogue<C, T>& e, Matrix<T> c, int64_t i,
                                              int64_t j, int64_t columns) {
  if (R * V == 1) return store_vector(sums[0][0], e, c, i, j, columns);
  const bool row_sum = !e.d.data || e.accumulate || e.d.col == 0;  // nothing, or one number a row, is added to the sums
  if (columns >= V * kLanes<C> && row_sum) {  // the rule: from the registers, without a branch for each vector
    T* out = c.at(i, j);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r, out += c.row) {
      const Vec<C> added = e.d.data && !e.accumulate ? splat(load1(e.d.at(i + r, 0)) * e.beta) : Vec<C>{};
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        Vec<C> x = sums[r][v] * e.alpha + added;
        if (e.accumulate) x += load(out + v * kLanes<C>);
        store(out + v * kLanes<C>, x);
      }
    }
    return;
  }
  if (V == 1 && !e.d.data && !e.accumulate) {
    T* out = c.at(i, j);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r, out += c.row) store_n(out, sums[r][0] * e.alpha, columns);
    return;
  }
  Vec<C> copy[R * V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) copy[r * V + v] = sums[r][v];
  store_edge(copy, R, V, e, c, i, j, columns);
}

// Calls f.operator()<R, V>() for the numbers of rows and vectors that are left.
template <int R, int V, class F>
[[gnu::always_inline]] inline void dispatch_tile(int64_t rows, int64_t vectors, const F& f) {
  if (rows < R) {
    if constexpr (R > 1) return dispatch_tile<R - 1, V>(rows, vectors, f);
  }
  if (vectors < V) {
    if constexpr (V > 1) return dispatch_tile<R, V - 1>(rows, vectors, f);
  }
  f.template operator()<R, V>();
}

// The same for the numbers of rows that tile_rows returns.
template <int V = kTileVectors, class F>
[[gnu::always_inline]] inline void dispatch_block(int64_t rows, int64_t vectors, const F& f) {
  if (vectors < V) {
    if constexpr (V > 1) return dispatch_block<V - 1>(rows, vectors, f);
  }
  if constexpr (V <= kTallVectors) {
    if (rows == kTallRows) return f.template operator()<kTallRows, V>();
    if (rows == 8) return f.template operator()<8, V>();
  }
  dispatch_tile<kTileRows, V>(rows, V, f);
}

// Rows of the next tile where `left` are left: rather two even tiles than a full one and a sliver.
inline int64_t tile_rows(int64_t left, bool tall) {
  if (tall && left >= kTallRows) return kTallRows;
  if (tall && left != 9 && left >= 8) return 8;
  return left == 7 || left == 8 ? 4 : smaller(left, kTileRows);
}

// Width in vectors of the panel that begins where `columns` columns are left: full, or two halves rather than a sliver.
template <class C> inline int64_t panel_vectors(int64_t columns) {
  int64_t vectors = ceil_div(columns, kLanes<C>);
  return vectors == kTileVectors + 1 ? (vectors + 1) / 2 : smaller(vectors, kTileVectors);
}

// to[p * width + j] = B(p, j) for p < depth and j < columns, zero for the other j < width; width is whole vectors.
template <class C, class T> void pack_panel(Matrix<const T> b, int64_t depth, int64_t columns, int64_t width, C* to) {
  constexpr int L = kLanes<C>;
  if (b.col == 1) {
    for (int64_t p = 0; p < depth; ++p, to += width) {
      const T* from = b.at(p, 0);
      int64_t j = 0;
      for (; j < width && j + L <= columns; j += L) {
        store(to + j, load(from + j));
        __builtin_prefetch(from + kFar * b.row + j);
      }
      if (j < width) store(to + j, load_n(from + j, columns - j));
    }
    return;
  }
  for (int64_t j = 0; j < width; j += L) {
    const int64_t n = smaller(L, columns - j);
    const Matrix<const T> from = b.block(0, j);
    C* out = to + j;
    int64_t p = 0;
    if (b.row == 1)
      for (; p < depth; p += L) {
        const int64_t rows = smaller(L, depth - p);
        Vec<C> x[L];
        if (n == L && rows == L)
#pragma GCC unroll 16
          for (int l = 0; l < L; ++l) {
            x[l] = load(from.at(p, l));
            __builtin_prefetch(from.at(p + 4 * L, l));
          }
        else
#pragma GCC unroll 16
          for (int l = 0; l < L; ++l) x[l] = l < n ? load_n(from.at(p, l), rows) : Vec<C>{};
        transpose_square<C>(x);
        if (rows == L)
#pragma GCC unroll 16
          for (int l = 0; l < L; ++l) store(out + (p + l) * width, x[l]);
        else
#pragma GCC unroll 16
          for (int l = 0; l < L; ++l)
            if (l < rows) store(out + (p + l) * width, x[l]);
      }
    for (; p < depth; ++p)
      for (int l = 0; l < L; ++l) out[p * width + l] = l < n ? load1(from.at(p, l)) : C(0);
  }
}

// The panels of B's columns from `begin` to `end` of `columns`, one after the other.
template <class C, class T>
void pack_panels(Matrix<const T> b, int64_t depth, int64_t begin, int64_t end, int64_t columns, C* to) {
  for (int64_t j = begin, width; j < end; j += width, to += width * depth) {
    width = panel_vectors<C>(columns - j) * kLanes<C>;
    pack_panel<C>(b.block(0, j), depth, columns - j, width, to);
  }
}

// One K block of rows x columns of C, whose first element is at (i0, j0). Rows of B are dense, or B is packed: panels
// of pack_panel, one after the other, each as long as the block is deep.
template <class C, class T>
void multiply_block(int64_t rows, int64_t columns, int64_t depth, Matrix<const C> a, Matrix<const C> b, bool packed,
                    const Epilogue<C, T>& e, Matrix<T> c, int64_t i0 = 0, int64_t j0 = 0) {
  const bool tall = columns <= kTallVectors * kLanes<C>;
  for (int64_t i = 0; i < rows;) {
    const int64_t now = tile_rows(rows - i, tall);
    for (int64_t j = 0; j < columns;) {
      int64_t vectors = panel_vectors<C>(columns - j), width = vectors * kLanes<C>;
      const C* panel = packed ? b.data + j * depth : b.data + j;
      const int64_t stride = packed ? width : b.row, tail = columns - j - (width - kLanes<C>);
      const auto b_row = [=](int64_t p) { return panel + p * stride; };
      dispatch_block(now, vectors, [&]<int R, int V>() {
        if (depth >= kFetchDepth)
          for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) __builtin_prefetch(c.at(i0 + i + r, j0 + j) + v * kLanes<C>, 1);
        Vec<C> sums[R][V] = {};
        if (!packed && tail < kLanes<C>)
          multiply_tile<R, V, true>(depth, a.at(i, 0), a.row, a.col, b_row, sums, tail, Nothing<kFar>{});
        else if (!packed)
          multiply_tile(depth, a.at(i, 0), a.row, a.col, b_row, sums, 0, Nothing<kFar>{});
        else
          multiply_tile(depth, a.at(i, 0), a.row, a.col, b_row, sums);
        store_tile(sums, e, c, i0 + i, j0 + j, columns - j);
      });
      j += width;
    }
    i += now;
  }
}

// The same for rows >= kTileRows: panel by panel, each read in place by the first tile, which leaves it in `packed`
// (depth x kTileColumns) for the others.
template <class C, class T>
void multiply_packing(int64_t rows, int64_t columns, int64_t depth, Matrix<const C> a, Matrix<const C> b, C* packed,
                      const Epilogue<C, T>& e, Matrix<T> c, int64_t i0, int64_t j0) {
  for (int64_t j = 0; j < columns;) {
    const int64_t vectors = panel_vectors<C>(columns - j), width = vectors * kLanes<C>, left = columns - j;
    int64_t done = 0;
    if (left < width) {
      pack_panel<C>(b.block(0, j), depth, left, width, packed);
    } else {
      const auto b_row = [=](int64_t p) { return b.at(p, j); };
      dispatch_tile<1, kTileVectors>(1, vectors, [&]<int R, int V>() {
        Vec<C> sums[kTileRows][V] = {};
        multiply_tile(depth, a.data, a.row, a.col, b_row, sums, 0, Keep<C>{packed, width});
        store_tile(sums, e, c, i0, j0 + j, left);
      });
      done = kTileRows;
    }
    multiply_block(rows - done, smaller(left, width), depth, a.block(done, 0), Matrix<const C>{packed, 0, 1}, true, e,
                   c, i0 + done, j0 + j);
    j += width;
  }
}

// M <= kThinRows, rows of B dense: C's columns in chunks that stay in L1, four rows of B at a time.
// The chunks are long, for B is read along its rows.
template <int R, class C, class T, class TC>
void thin_rows(int64_t columns, int64_t depth, Matrix<const T> a, Matrix<const T> b, const Epilogue<C, TC>& e,
               Matrix<TC> c, int64_t j0) {
  constexpr int L = kLanes<C>, kUnroll = 4, kChunk = 16384 / (int(sizeof(C)) * R) / L * L;
  for (int64_t begin = 0; begin < columns; begin += kChunk) {
    int64_t n = smaller(kChunk, columns - begin);
    alignas(64) C sums[R][kChunk] = {};
    for (int64_t p = 0; p < depth; p += kUnroll) {
      int64_t taken = smaller(kUnroll, depth - p);
      C x[R][kUnroll];
      const T* row[kUnroll];
      for (int u = 0; u < kUnroll; ++u) {
        row[u] = b.at(p + (u < taken ? u : 0), j0 + begin);
        for (int r = 0; r < R; ++r) x[r][u] = u < taken ? load1(a.at(r, p + u)) : C(0);
      }
      auto step = [&](int64_t j, auto load_at) {
        Vec<C> bv[kUnroll];
        for (int u = 0; u < kUnroll; ++u) bv[u] = load_at(row[u] + j);
        for (int r = 0; r < R; ++r) {
          Vec<C> s = load(sums[r] + j);
          for (int u = 0; u < kUnroll; ++u)
            if (u < taken) s += bv[u] * x[r][u];
          store(sums[r] + j, s);
        }
      };
      int64_t j = 0;
      for (; j + L <= n; j += L) step(j, [](const T* q) { return load(q); });
      if (j < n) step(j, [&](const T* q) { return load_n(q, n - j); });
    }
    for (int64_t j = 0; j < n; j += L)
      for (int r = 0; r < R; ++r) {
        Vec<C> one[1][1] = {{load(sums[r] + j)}};
        store_tile(one, e, c, r, j0 + begin + j, n - j);
      }
  }
}

// M <= kThinRows, columns of B dense (x W^T): dot products, several columns at a time.
template <int R, class C, class T, class TC>
void thin_dots(int64_t columns, int64_t depth, Matrix<const T> a, Matrix<const T> b, const Epilogue<C, TC>& e,
               Matrix<TC> c, int64_t j0) {
  constexpr int L = kLanes<C>, kSums = GG_VECTOR_BYTES == 64 ? 16 : 8, J = R == 1 ? 8 : kSums / R;
  constexpr int kRounded = (R * J + L - 1) / L * L;
  constexpr int64_t kAhead = 1024 / sizeof(T);  // a line is fetched this far ahead: columns are streams of their own
  for (int64_t j = 0; j < columns; j += J) {
    const int64_t n = smaller(J, columns - j);
    Vec<C> sums[R][J] = {};
    const T* column[J];
    for (int l = 0; l < J; ++l) column[l] = b.at(0, j0 + j + (l < n ? l : 0));
    auto step = [&](int64_t p, auto load_at) {
      Vec<C> x[R];
      for (int r = 0; r < R; ++r) x[r] = load_at(a.at(r, p));
#pragma GCC unroll 8
      for (int l = 0; l < J; ++l) {
        Vec<C> y = load_at(column[l] + p);
        __builtin_prefetch(column[l] + p + kAhead);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[r][l] += x[r] * y;
      }
    };
    int64_t p = 0;
    for (; p + L <= depth; p += L) step(p, [](const T* q) { return load(q); });
    if (p < depth) step(p, [&](const T* q) { return load_n(q, depth - p); });
    C totals[kRounded];
#pragma GCC unroll 8
    for (int s = 0; s < kRounded; s += L) {
      Vec<C> x[L];
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) x[l] = s + l < R * J ? sums[(s + l) / J % R][(s + l) % J] : Vec<C>{};
      store(totals + s, sum_each<C>(x));
    }
    for (int r = 0; r < R; ++r)
      for (int l = 0; l < n; ++l) {
        C s = totals[r * J + l] * e.alpha;
        TC* out = c.at(r, j0 + j + l);
        if (e.accumulate)
          s += load1(out);
        else if (e.d.data)
          s += load1(e.d.at(r, j0 + j + l)) * e.beta;
        store1(out, s);
      }
  }
}

// K = 1 and rows of B dense: C is written row by row.
template <class C, class T>
void outer_product(int64_t m, int64_t n, Matrix<const T> a, Matrix<const T> b, const Epilogue<C, T>& e, Matrix<T> c) {
  constexpr int L = kLanes<C>, V = kTileVectors;
  parallel_for(m, ceil_div(kPieceElements, n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Vec<C> x = splat(load1(a.at(i, 0)));
      int64_t j = 0;
      for (; j + V * L <= n; j += V * L) {
        Vec<C> sums[1][V];
        for (int v = 0; v < V; ++v) sums[0][v] = load(b.at(0, j + v * L)) * x;
        store_tile(sums, e, c, i, j, V * L);
      }
      for (; j < n; j += L) {
        Vec<C> one[1][1] = {{(n - j < L ? load_n(b.at(0, j), n - j) : load(b.at(0, j))) * x}};
        store_tile(one, e, c, i, j, n - j);
      }
    }
  });
}

// C = beta D where there is nothing to sum.
template <class C, class T> void scale_only(int64_t m, int64_t n, const Epilogue<C, T>& e, Matrix<T> c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) store1(c.at(i, j), e.d.data ? load1(e.d.at(i, j)) * e.beta : C(0));
}

// C, or C^T, from sums in the compute type: rows x columns at (i0, j0).
template <class C, class T>
void finish_block(int64_t i0, int64_t j0, int64_t rows, int64_t columns, Matrix<const C> sums, const Epilogue<C, T>& e,
                  Matrix<T> c) {
  constexpr int L = kLanes<C>;
  const bool turned = c.col != 1;
  const Epilogue<C, T> turned_e{e.alpha, e.beta, e.d.transposed(), e.accumulate};
  for (int64_t i = i0; i < i0 + rows; i += L) {
    const int64_t height = smaller(L, i0 + rows - i);
    for (int64_t j = j0; j < j0 + columns; j += L) {
      const int64_t width = smaller(L, j0 + columns - j);
      Vec<C> x[L];
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) x[l] = l < height ? load_strided<C>(sums.at(i + l, j), 1, width) : Vec<C>{};
      if (turned) transpose_square<C>(x);
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) {
        Vec<C> one[1][1] = {{x[l]}};
        if (turned && l < width) store_tile(one, turned_e, c.transposed(), j + l, i, height);
        if (!turned && l < height) store_tile(one, e, c, i + l, j, width);
      }
    }
  }
}

#if defined(GG_TILES)
constexpr int64_t kUnitDepth = 768;                    // K block; of it B's columns of a piece fit the L2
constexpr int64_t kUnitRows = 64, kUnitColumns = 192;  // of C, a piece

// Whether a product is large enough to pay for splitting its operands: rough costs in ns, of a product's element and of
// one of A, B and C.
template <class T> bool suits_tiles(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b) {
  if (!has_tiles() || (a.row != 1 && a.col != 1) || (b.row != 1 && b.col != 1)) return false;
  return 0.005 > 0.35 / double(m) + 0.35 / double(n) + 0.2 / double(k);
}

// The whole product on the matrix unit, K blocks outermost; C's columns are dense. False where an operand is not
// finite: C must then be computed in another way.
template <class C>
bool gemm_tiles(int64_t m, int64_t n, int64_t k, Matrix<const C> a, Matrix<const C> b, Epilogue<C, C> e, Matrix<C> c) {
  const int64_t depth = round_up(ceil_div(k, ceil_div(k, kUnitDepth)), kDeep), step = depth / kDeep * kSplitWords;
  const int64_t a_units = ceil_div(m, kDeep), b_units = ceil_div(n, kDeep);
  const Scratch<uint32_t> words(2 * (a_units + b_units) * step);
  const SplitTiles<uint32_t> left{words.data(), step, kSplitWords}, right = left.block(2 * a_units, 0);
  const Scratch<bool> finite(a_units + b_units);
  const int64_t row_pieces = ceil_div(m, kUnitRows), column_pieces = ceil_div(n, kUnitColumns);
  for (int64_t p0 = 0; p0 < k; p0 += depth) {
    const int64_t now = smaller(depth, k - p0);
    if (p0) e.accumulate = true;
    parallel_for(a_units + b_units, ceil_div(1 << 15, kDeep * now), [&](int64_t begin, int64_t end) {
      const TileRegisters registers;
      for (int64_t u = begin; u < end; ++u) {
        const int64_t i = u * kDeep, j = (u - a_units) * kDeep;
        if (u < a_units)
          finite[u] = pack_left(a.block(i, p0), smaller(kDeep, m - i), now, left.block(2 * u, 0));
        else
          finite[u] = pack_right(b.block(p0, j), now, smaller(kDeep, n - j), right.block(2 * (u - a_units), 0));
      }
    });
    if (!all_of(finite, a_units + b_units)) return false;
    // Whole blocks of a plain product go to C from the tile registers.
    const bool plain = e.alpha == C(1) && (!e.d.data || e.accumulate);
    parallel_for(row_pieces * column_pieces, 1, [&](int64_t begin, int64_t end) {
      const TileRegisters registers;
      alignas(64) C block[kDeep * kDeep];
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t i0 = piece % row_pieces * kUnitRows, j0 = piece / row_pieces * kUnitColumns;
        const int64_t i1 = smaller(m, i0 + kUnitRows), j1 = smaller(n, j0 + kUnitColumns);
        for (int64_t i = i0; i < i1; i += kDeep)
          for (int64_t j = j0; j < j1; j += kDeep) {
            const int64_t rows = smaller(kDeep, i1 - i), columns = smaller(kDeep, j1 - j);
            const bool direct = plain && rows == kDeep && columns == kDeep;
            if (direct && e.accumulate)
              load_sums(c.at(i, j), c.row);
            else
              clear_sums();
            multiply_sums(ceil_div(now, kDeep), left.block(i / kSide, 0), right.block(j / kSide, 0));
            store_sums(direct ? c.at(i, j) : block, direct ? c.row : kDeep);
            if (!direct) finish_block(i, j, rows, columns, Matrix<const C>{block - i * kDeep - j, kDeep, 1}, e, c);
          }
      }
    });
  }
  return true;
}
#endif

// The whole product, K blocks outermost. C's columns are dense, or its rows.
template <class C, class T, class TC>
void gemm_panels(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Epilogue<C, TC> e,
                 Matrix<TC> c) {
  constexpr bool kWiden = sizeof(C) != sizeof(T);
  constexpr int64_t kInCache = 64 * 1024 / sizeof(C);  // elements that are near at any stride
  const bool b_near = !kWiden && b.col == 1 && (m <= 2 * kTileRows || k * n <= kInCache);
  const bool a_in_place = !kWiden && (a.col == 1 || (a.row == 1 && m * k <= kInCache));
  const int64_t pieces = pieces_of(2.0 * double(m) * double(n) * double(k));
  if constexpr (!kWiden)
    if (a_in_place && b_near && c.col == 1 && k <= kDepth && pieces == 1)
      return multiply_block(m, n, k, a, b, false, e, c);
  constexpr int64_t kSmall = 16384 / sizeof(C);  // elements of a packed B that the stack takes
  if constexpr (!kWiden)
    if (a_in_place && c.col == 1 && pieces == 1 && round_up(n, kLanes<C>) * k <= kSmall) {
      alignas(64) C small[kSmall];
      pack_panels<C>(b, k, 0, n, n, small);
      return multiply_block(m, n, k, a, Matrix<const C>{small, 0, 1}, true, e, c);
    }

  const int64_t deepest = n <= 2 * kTileColumns<C> ? 2 * kDepth : kDepth;
  const int64_t depth = round_up(ceil_div(k, ceil_div(k, deepest)), 8);
  // Where there are columns enough, each piece has some for itself and packs them, for all rows, while it multiplies.
  const bool packing =
      !kWiden && !b_near && b.col == 1 && m >= kTileRows &&
      (m <= kFewRows || (m <= kPassingRows && n / kTileColumns<C> >= smaller(pieces / 3, kManyPanels)));
  const bool b_in_place = b_near || packing;

  // A piece is a block of C: columns that fit the L2, and as many rows as make the wanted number of pieces.
  int64_t column_pieces = ceil_div(n, kBlockColumns);
  if (packing || m <= 4 * kTileRows) column_pieces = larger(column_pieces, smaller(pieces, n / kTileColumns<C>));
  column_pieces = larger(1, column_pieces);
  const int64_t piece_columns = round_up(ceil_div(n, column_pieces), kTileColumns<C>);
  // The last piece takes a last vector along: a panel of five is cut into three and two.
  column_pieces = larger(1, ceil_div(n - kLanes<C>, piece_columns));
  // A C that is turned is stored along its rows, whole cache lines of them.
  const int64_t unit = c.col == 1 ? kTallRows : 4 * kTallRows;
  const int64_t wanted = packing ? 1 : ceil_div(pieces, column_pieces);
  const int64_t piece_rows = packing ? m : larger(unit, smaller(round_up(ceil_div(m, wanted), unit), 96));
  const int64_t row_pieces = ceil_div(m, piece_rows);

  // Sums that cannot be kept in C itself between K blocks, or not yet as they lie there.
  const bool staged = c.col != 1 || (sizeof(TC) != sizeof(C) && k > depth);
  const Scratch<C> sums(staged ? m * n : 0);
  Epilogue<C, C> plain{};
  const int64_t a_width = round_up(smaller(k, depth), kLanes<C>),
                panels = larger(1, ceil_div(n - kLanes<C>, kTileColumns<C>));
  const Scratch<C> a_packed(a_in_place ? 0 : m * a_width);
  const Scratch<C> b_packed(b_in_place ? 0 : round_up(n, kLanes<C>) * smaller(k, depth));

  for (int64_t p0 = 0; p0 < k; p0 += depth) {
    const int64_t now = smaller(depth, k - p0);
    if (p0) e.accumulate = plain.accumulate = true;
    const int64_t b_blocks = b_in_place ? 0 : panels, a_blocks = a_in_place ? 0 : ceil_div(m, kTileColumns<C>);
    parallel_for(b_blocks + a_blocks, ceil_div(1 << 15, kTileColumns<C> * now), [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block)
        if (block < b_blocks) {
          const int64_t j = block * kTileColumns<C>, stop = block == b_blocks - 1 ? n : j + kTileColumns<C>;
          pack_panels<C>(b.block(p0, 0), now, j, stop, n, b_packed.data() + j * now);
        } else {  // rows of A, row-major
          const int64_t i = (block - b_blocks) * kTileColumns<C>;
          pack_panel<C>(a.block(i, p0), smaller(kTileColumns<C>, m - i), now, a_width, a_packed.data() + i * a_width);
        }
    });
    parallel_for(row_pieces * column_pieces, 1, [&](int64_t begin, int64_t end) {
      const Scratch<C> panel(packing ? kTileColumns<C> * now : 0);
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t i0 = piece % row_pieces * piece_rows, j0 = piece / row_pieces * piece_columns;
        const int64_t rows = smaller(piece_rows, m - i0);
        const int64_t columns = piece / row_pieces == column_pieces - 1 ? n - j0 : piece_columns;
        Matrix<const C> left{a_packed.data() + i0 * a_width, a_width, 1}, right{b_packed.data() + j0 * now, 0, 1};
        if constexpr (!kWiden) {
          if (a_in_place) left = a.block(i0, p0);
          if (b_in_place) right = b.block(p0, j0);
        }
        const auto multiply = [&](const auto& epilogue, auto to) {
          if (packing)
            multiply_packing(rows, columns, now, left, right, panel.data(), epilogue, to, i0, j0);
          else
            multiply_block(rows, columns, now, left, right, !b_in_place, epilogue, to, i0, j0);
        };
        if (!staged) {
          multiply(e, c);
          continue;
        }
        multiply(plain, Matrix<C>{sums.data(), n, 1});
        if (p0 + now == k) {
          Epilogue<C, TC> last = e;
          last.accumulate = false;
          finish_block(i0, j0, rows, columns, Matrix<const C>{sums.data(), n, 1}, last, c);
        }
      }
    });
  }
}

// M <= 2 kThinRows and B read along its rows (M <= kThinRows) or columns (dots), without packing.
template <class C, class T, class TC>
void gemm_thin(int64_t m, int64_t n, int64_t k, bool dots, Matrix<const T> a, Matrix<const T> b,
               const Epilogue<C, TC>& e, Matrix<TC> c) {
  const int64_t pieces = n * k < 2 * kPieceElements ? 1 : round_up(ceil_div(n * k, kPieceElements), 2);
  const int64_t grain = round_up(ceil_div(n, pieces), dots ? 8 : 512);
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    // Columns that stay in L1 between the passes of more than kThinRows rows.
    const int64_t chunk = m <= kThinRows ? end - begin : larger(8, 8192 / k / 8 * 8);
    for (int64_t j = begin; j < end; j += chunk)
      for (int64_t i = 0; i < m;) {
        const int64_t rows = m <= kThinRows || i ? m - i : ceil_div(m, 2);
        Epilogue<C, TC> here = e;
        if (e.d.data) here.d = e.d.block(i, 0);
        dispatch_tile<int(kThinRows), 1>(rows, 1, [&]<int R, int V>() {
          if (dots)
            thin_dots<R>(smaller(chunk, end - j), k, a.block(i, 0), b, here, c.block(i, 0), j);
          else
            thin_rows<R>(smaller(chunk, end - j), k, a.block(i, 0), b, here, c.block(i, 0), j);
        });
        i += rows;
      }
  });
}

// The way that fits the shape; C's columns are dense.
template <class C, class T, class TC>
void gemm_of_shape(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Epilogue<C, TC> e,
                   Matrix<TC> c) {
#if defined(GG_TILES)
  if constexpr (sizeof(T) == sizeof(float) && sizeof(TC) == sizeof(float))
    if (suits_tiles(m, n, k, a, b) && gemm_tiles(m, n, k, a, b, e, c)) return;
#endif
  // Dot products are added up across lanes in the end, which a long K pays for.
  const bool dots =
      b.row == 1 && a.col == 1 && (b.col != 1 || n == 1) && (m == 1 || (k >= 4 * kLanes<C> && m <= 2 * kThinRows));
  if (dots || (b.col == 1 && m <= kThinRows)) return gemm_thin<C>(m, n, k, dots, a, b, e, c);
  // A transposed B is packed by transposing: rather the smaller operand, and C is turned as it is stored.
  if (b.col != 1 && b.row == 1 && a.col == 1 && 2 * m <= n && m <= 2 * kFewRows) {
    e.d = e.d.transposed();
    return gemm_panels<C>(n, m, k, b.transposed(), a.transposed(), e, c.transposed());
  }
  gemm_panels<C>(m, n, k, a, b, e, c);
}

// A long K over few outputs: chunks of K side by side, their sums added in order.
template <class T>
void gemm_by_chunks(int64_t m, int64_t n, int64_t k, int64_t chunk, Matrix<const T> a, Matrix<const T> b,
                    const Epilogue<compute_t<T>, T>& e, Matrix<T> c) {
  using C = compute_t<T>;
  const int64_t chunks = ceil_div(k, chunk);
  Scratch<C> sums(chunks * m * n);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      gemm_of_shape<C>(m, n, smaller(chunk, k - s * chunk), a.block(0, s * chunk), b.block(s * chunk, 0),
                       Epilogue<C, C>{}, Matrix<C>{sums.data() + s * m * n, n, 1});
  });
  parallel_for(m, ceil_div(1 << 15, n * chunks), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < n; j += kLanes<C>) {
        Vec<C> one[1][1] = {};
        for (int64_t s = 0; s < chunks; ++s) one[0][0] += load_strided<C>(sums.data() + (s * m + i) * n + j, 1, n - j);
        store_tile(one, e, c, i, j, n - j);
      }
  });
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, compute_t<T> alpha, Matrix<const T> a, Matrix<const T> b, compute_t<T> beta,
          Matrix<const T> d, Matrix<T> c) {
  using C = compute_t<T>;
  if (m == 0 || n == 0) return;
  if (beta == C(0)) d.data = nullptr;
  // Along an axis of one element any stride is right: choose the one that opens the fast paths.
  if (m == 1) a.row = 1, c.row = n;
  if (n == 1) b.col = 1, c.col = 1;
  if (k == 1) a.col = b.row = 1;
  if (c.col != 1 || (n == 1 && m > 1 && c.row == 1)) {  // C^T = B^T A^T
    Matrix<const T> left = b.transposed();
    b = a.transposed();
    a = left;
    d = d.transposed();
    c = c.transposed();
    int64_t t = m;
    m = n;
    n = t;
  }
  Epilogue<C, T> e{alpha, beta, d, false};
  if (k == 0) return scale_only(m, n, e, c);
  if (k == 1 && b.col == 1) return outer_product(m, n, a, b, e, c);
  // Few outputs under a long K: chunks of K side by side.
  constexpr int64_t kLong = 4 * kDepth;
  if (k >= 2 * kLong && m * n <= 128 * 128 && (m > 2 * kThinRows || n <= 64))
    return gemm_by_chunks(m, n, k, kLong, a, b, e, c);
  gemm_of_shape<C>(m, n, k, a, b, e, c);
}

}  // namespace
}  // namespace gg::GG_ISA
