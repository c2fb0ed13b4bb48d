// gemm: C = alpha A B + beta D for A (M, K), B (K, N), C and D (M, N), each given by a pointer and two strides.
//
// Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication": B is packed into panels as wide as a
// register tile, one K block at a time; a tile of C (kTileRows x kTileVectors vectors) stays in registers while K runs.
// Row-major A is read in place: a broadcast costs the same from there. Packing also widens 16-bit floats, and C is then
// summed in float32. Few rows (M <= kThinRows) read B once, in memory order, without packing.
//
// The order in which K is summed depends on the sizes alone, never on threads: work is cut over M and N, and a long K
// over few outputs into fixed chunks added in order. gemm() may be called from inside a parallel_for piece: it then
// runs alone. For products of another shape take multiply_block, or multiply_tile, which asks for each row of B through
// a functor.
#pragma once
#include "core/parallel.h"
#include "cpu/scratch.h"
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

// Element (i, j) lies at data[i * row + j * col].
template <class T> struct Matrix {
  T* data = nullptr;
  int64_t row = 0, col = 0;
  T* at(int64_t i, int64_t j) const { return data + i * row + j * col; }
  Matrix block(int64_t i, int64_t j) const { return {at(i, j), row, col}; }
  Matrix transposed() const { return {data, col, row}; }
};

// 24 accumulators of 32 registers, or 12 of 16: what is left holds a row of B and a broadcast element of A.
constexpr int kTileRows = 6;
constexpr int kTileVectors = GG_VECTOR_BYTES == 64 ? 4 : 2;
template <class C> constexpr int kTileColumns = kTileVectors * kLanes<C>;

constexpr int64_t kDepth = 512;           // K block: a panel of B then fits beside C in a 1 MB L2
constexpr int64_t kBlockColumns = 512;    // columns of C per piece
constexpr int64_t kThinRows = 4;          // rows of A up to which a product is a few passes over B
constexpr int64_t kPieceFlops = 4000000;  // a piece of parallel work: 20 to 40 microseconds

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// sums[r][v] += sum over p < depth of A(r, p) * (vector v of row p of B); b_row(p) points at that row. With Tail the
// last vector has only `tail` lanes and nothing behind them is touched.
template <int R, int V, bool Tail = false, class C, class BRow>
[[gnu::always_inline]] inline void multiply_tile(int64_t depth, const C* a, int64_t a_row, int64_t a_col,
                                                 const BRow& b_row, Vec<C> (&sums)[R][V], int64_t tail = 0) {
  for (int64_t p = 0; p < depth; ++p) {
    const C* b = b_row(p);
    Vec<C> bv[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      bv[v] = Tail && v == V - 1 ? load_n(b + v * kLanes<C>, tail) : load(b + v * kLanes<C>);
      if (GG_VECTOR_BYTES == 64 || v == 0) __builtin_prefetch(b_row(p + 8) + v * kLanes<C>);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      Vec<C> x = splat(a[r * a_row + p * a_col]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] += x * bv[v];
    }
  }
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
  for (int64_t i = 0; i < least(n, kLanes<C>); ++i) v[i] = load1(p + i * stride);
  return v;
}

// The first `columns` columns of a tile at (i, j) of C; C's columns are dense.
template <int R, int V, class C, class T>
inline void store_tile(Vec<C> (&sums)[R][V], const Epilogue<C, T>& e, Matrix<T> c, int64_t i, int64_t j,
                       int64_t columns) {
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) {
      T* out = c.at(i + r, j) + v * kLanes<C>;
      int64_t n = columns - v * kLanes<C>;
      Vec<C> x = sums[r][v] * e.alpha;
      if (e.accumulate)
        x += n >= kLanes<C> ? load(out) : load_n(out, n);
      else if (e.d.data)
        x += load_strided<C>(e.d.at(i + r, j + v * kLanes<C>), e.d.col, n) * e.beta;
      if (n >= kLanes<C>)
        store(out, x);
      else
        store_n(out, x, n);
    }
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

// Width in vectors of the panel that begins where `columns` columns are left: full, or two halves rather than a sliver.
template <class C> inline int64_t panel_vectors(int64_t columns) {
  int64_t vectors = ceil_div(columns, kLanes<C>);
  return vectors == kTileVectors + 1 ? (vectors + 1) / 2 : least(vectors, kTileVectors);
}

// The transpose of an L x L block of vectors, by log2 L rounds of exchanging halves.
template <class C> inline void transpose_lanes(Vec<C> (&x)[kLanes<C>]) {
  constexpr int L = kLanes<C>;
#pragma GCC unroll 8
  for (int d = L / 2; d; d /= 2) {
    Mask<C> low, high;
    for (int l = 0; l < L; ++l) {
      low[l] = l & d ? L + (l ^ d) : l;
      high[l] = l & d ? L + l : l ^ d;
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if (!(i & d)) {
        Vec<C> a = __builtin_shuffle(x[i], x[i + d], low), b = __builtin_shuffle(x[i], x[i + d], high);
        x[i] = a;
        x[i + d] = b;
      }
  }
}

// to[p * width + j] = B(p, j) for p < depth and j < columns, zero for the other j < width; width is whole vectors.
template <class C, class T> void pack_panel(Matrix<const T> b, int64_t depth, int64_t columns, int64_t width, C* to) {
  constexpr int L = kLanes<C>;
  for (int64_t j = 0; j < width; j += L) {
    int64_t n = least(L, columns - j);
    Matrix<const T> from = b.block(0, j);
    C* out = to + j;
    if (b.col == 1) {
      if (n == L)
        for (int64_t p = 0; p < depth; ++p) store(out + p * width, load(from.at(p, 0)));
      else
        for (int64_t p = 0; p < depth; ++p) store(out + p * width, load_n(from.at(p, 0), n));
      continue;
    }
    int64_t p = 0;
    if (b.row == 1)
      for (; p + L <= depth; p += L) {
        Vec<C> x[L];
        for (int l = 0; l < L; ++l) x[l] = l < n ? load(from.at(p, l)) : Vec<C>{};
        transpose_lanes<C>(x);
        for (int l = 0; l < L; ++l) store(out + (p + l) * width, x[l]);
      }
    for (; p < depth; ++p)
      for (int l = 0; l < L; ++l) out[p * width + l] = l < n ? load1(from.at(p, l)) : C(0);
  }
}

// Rows of A for the tiles: row-major with stride depth, or, where A's columns are dense, slabs of kTileRows rows with
// element (i, p) at (i % kTileRows) + p * kTileRows. `to` has room for rows * depth elements and one vector.
template <class C, class T> void pack_rows(Matrix<const T> a, int64_t rows, int64_t depth, C* to) {
  constexpr int L = kLanes<C>;
  if (a.row == 1) {  // whole vectors are stored and the next store covers what is too much
    for (int64_t i = 0; i < rows; i += kTileRows, to += kTileRows * depth) {
      int64_t n = least(kTileRows, rows - i);
      for (int64_t p = 0; p < depth; ++p)
        for (int64_t l = 0; l < n; l += L)
          store(to + p * kTileRows + l, n - l >= L ? load(a.at(i + l, p)) : load_n(a.at(i + l, p), n - l));
    }
    return;
  }
  for (int64_t i = 0; i < rows; ++i, to += depth) {
    int64_t p = 0;
    if (a.col == 1)
      for (; p + L <= depth; p += L) store(to + p, load(a.at(i, p)));
    for (; p < depth; ++p) to[p] = load1(a.at(i, p));
  }
}

// How the operands of a block lie: as given by their strides, or packed by pack_rows (slabs) and pack_panel (panels,
// one after the other, each as long as the block is deep).
struct Packing { bool slabs = false, panels = false; };

// One K block of rows x columns of C, whose first element is at (i0, j0). Rows of B are dense.
template <class C, class T>
void multiply_block(int64_t rows, int64_t columns, int64_t depth, Matrix<const C> a, Matrix<const C> b, Packing packing,
                    const Epilogue<C, T>& e, Matrix<T> c, int64_t i0 = 0, int64_t j0 = 0) {
  for (int64_t i = 0; i < rows; i += kTileRows) {
    const C* a_tile = packing.slabs ? a.data + i * depth : a.at(i, 0);
    int64_t a_row = packing.slabs ? 1 : a.row, a_col = packing.slabs ? kTileRows : a.col;
    for (int64_t j = 0; j < columns;) {
      int64_t vectors = panel_vectors<C>(columns - j), width = vectors * kLanes<C>;
      const C* panel = packing.panels ? b.data + j * depth : b.data + j;
      const int64_t stride = packing.panels ? width : b.row, tail = columns - j - (width - kLanes<C>);
      const auto b_row = [=](int64_t p) { return panel + p * stride; };
      dispatch_tile<kTileRows, kTileVectors>(rows - i, vectors, [&]<int R, int V>() {
        Vec<C> sums[R][V] = {};
        if (!packing.panels && tail < kLanes<C>)
          multiply_tile<R, V, true>(depth, a_tile, a_row, a_col, b_row, sums, tail);
        else
          multiply_tile(depth, a_tile, a_row, a_col, b_row, sums);
        store_tile(sums, e, c, i0 + i, j0 + j, columns - j);
      });
      j += width;
    }
  }
}

// M <= kThinRows, rows of B dense: C's columns in chunks that stay in L1, four rows of B at a time.
template <int R, class C, class T>
void thin_rows(int64_t columns, int64_t depth, Matrix<const T> a, Matrix<const T> b, const Epilogue<C, T>& e,
               Matrix<T> c, int64_t j0) {
  constexpr int L = kLanes<C>, kUnroll = 4, kChunk = 512;
  for (int64_t begin = 0; begin < columns; begin += kChunk) {
    int64_t n = least(kChunk, columns - begin);
    alignas(64) C sums[R][kChunk] = {};
    for (int64_t p = 0; p < depth; p += kUnroll) {
      int64_t taken = least(kUnroll, depth - p);
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

// M <= kThinRows, columns of B dense (x W^T): dot products, kTileVectors columns at a time.
template <int R, class C, class T>
void thin_dots(int64_t columns, int64_t depth, Matrix<const T> a, Matrix<const T> b, const Epilogue<C, T>& e,
               Matrix<T> c, int64_t j0) {
  constexpr int L = kLanes<C>, J = 4;
  for (int64_t j = 0; j < columns; j += J) {
    int64_t n = least(J, columns - j);
    Vec<C> sums[R][J] = {};
    const T* column[J];
    for (int l = 0; l < J; ++l) column[l] = b.at(0, j0 + j + (l < n ? l : 0));
    auto step = [&](int64_t p, auto load_at) {
      Vec<C> x[R];
      for (int r = 0; r < R; ++r) x[r] = load_at(a.at(r, p));
      for (int l = 0; l < J; ++l) {
        Vec<C> y = load_at(column[l] + p);
        for (int r = 0; r < R; ++r) sums[r][l] += x[r] * y;
      }
    };
    int64_t p = 0;
    for (; p + L <= depth; p += L) step(p, [](const T* q) { return load(q); });
    if (p < depth) step(p, [&](const T* q) { return load_n(q, depth - p); });
    for (int r = 0; r < R; ++r)
      for (int l = 0; l < n; ++l) {
        C s = sum_lanes<C>(sums[r][l]) * e.alpha;
        T* out = c.at(r, j0 + j + l);
        if (e.accumulate)
          s += load1(out);
        else if (e.d.data)
          s += load1(e.d.at(r, j0 + j + l)) * e.beta;
        store1(out, s);
      }
  }
}

// C = beta D where there is nothing to sum.
template <class C, class T> void scale_only(int64_t m, int64_t n, const Epilogue<C, T>& e, Matrix<T> c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) store1(c.at(i, j), e.d.data ? load1(e.d.at(i, j)) * e.beta : C(0));
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, compute_t<T> alpha, Matrix<const T> a, Matrix<const T> b, compute_t<T> beta,
          Matrix<const T> d, Matrix<T> c);

// Partial sums over K in float or double, C then made from them: for 16-bit outputs with several K blocks, and for a
// long K over few outputs, whose chunks are summed side by side.
template <class T>
void gemm_by_chunks(int64_t m, int64_t n, int64_t k, int64_t chunk, Matrix<const T> a, Matrix<const T> b,
                    const Epilogue<compute_t<T>, T>& e, Matrix<T> c);

// The whole product, K blocks outermost; T is C, or a 16-bit float with K at most one block.
template <class C, class T, class TC>
void gemm_panels(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, Epilogue<C, TC> e,
                 Matrix<TC> c) {
  constexpr bool kWiden = sizeof(C) != sizeof(T);
  constexpr int64_t kInCache = 64 * 1024 / sizeof(C);  // elements that are near at any stride
  const bool b_in_place = !kWiden && b.col == 1 && (m <= 3 * kTileRows || k * n <= kInCache);
  const bool a_in_place = !kWiden && (a.col == 1 || (a.row == 1 && m * k <= kInCache));
  if constexpr (!kWiden)
    if (a_in_place && b_in_place && k <= kDepth && 2 * m * n * k <= kPieceFlops)
      return multiply_block(m, n, k, a, b, {}, e, c);

  const bool slabs = !a_in_place && a.row == 1;
  const int64_t depth = round_up(ceil_div(k, ceil_div(k, kDepth)), 8);
  const int64_t piece_columns = round_up(ceil_div(n, ceil_div(n, kBlockColumns)), kTileColumns<C>);
  // The last piece takes a last vector along: a panel of five is cut into three and two.
  const int64_t column_pieces = most(1, ceil_div(n - kLanes<C>, piece_columns));
  const int64_t wanted_rows = kPieceFlops / (2 * least(n, piece_columns) * least(k, depth));
  const int64_t piece_rows = most(2 * kTileRows, least(round_up(wanted_rows, kTileRows), 16 * kTileRows));
  const int64_t row_pieces = ceil_div(m, piece_rows);
  const Scratch<C> packed(b_in_place ? 0 : round_up(n, kLanes<C>) * least(k, depth));

  for (int64_t p0 = 0; p0 < k; p0 += depth) {
    const int64_t now = least(depth, k - p0);
    if (p0) e.accumulate = true;
    if (!b_in_place) {
      const int64_t panels = most(1, ceil_div(n - kLanes<C>, kTileColumns<C>));
      parallel_for(panels, ceil_div(1 << 15, kTileColumns<C> * now), [&](int64_t begin, int64_t end) {
        const int64_t stop = end == panels ? n : end * kTileColumns<C>;
        for (int64_t j = begin * kTileColumns<C>; j < stop;) {
          const int64_t width = panel_vectors<C>(n - j) * kLanes<C>;
          pack_panel<C>(b.block(p0, j), now, n - j, width, packed.data() + j * now);
          j += width;
        }
      });
    }
    parallel_for(row_pieces * column_pieces, 1, [&](int64_t begin, int64_t end) {
      const Scratch<C> rows_packed(a_in_place ? 0 : piece_rows * now + kLanes<C>);
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t i0 = piece % row_pieces * piece_rows, j0 = piece / row_pieces * piece_columns;
        const int64_t rows = least(piece_rows, m - i0);
        const int64_t columns = piece / row_pieces == column_pieces - 1 ? n - j0 : piece_columns;
        Matrix<const C> block;
        if (!a_in_place) {
          pack_rows<C>(a.block(i0, p0), rows, now, rows_packed.data());
          block = {rows_packed.data(), now, 1};
        }
        Matrix<const C> panels{packed.data() + j0 * now, 0, 1};
        if constexpr (!kWiden) {
          if (a_in_place) block = a.block(i0, p0);
          if (b_in_place) panels = b.block(p0, j0);
        }
        multiply_block(rows, columns, now, block, panels, {slabs, !b_in_place}, e, c, i0, j0);
      }
    });
  }
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
  // Few outputs under a long K: chunks of K side by side.
  constexpr int64_t kLong = 4 * kDepth;
  if (k >= 2 * kLong && m * n <= 128 * 128) return gemm_by_chunks(m, n, k, kLong, a, b, e, c);
  if (m <= kThinRows && (b.col == 1 || (b.row == 1 && a.col == 1))) {
    const bool dots = b.col != 1 || (n == 1 && b.row == 1 && a.col == 1);
    const int64_t grain = round_up(most(1, 100000 / k), 512 / (dots ? 16 : 1));
    parallel_for(n, grain, [&](int64_t begin, int64_t end) {
      dispatch_tile<int(kThinRows), 1>(m, 1, [&]<int R, int V>() {
        if (dots)
          thin_dots<R>(end - begin, k, a, b, e, c, begin);
        else
          thin_rows<R>(end - begin, k, a, b, e, c, begin);
      });
    });
    return;
  }
  if constexpr (sizeof(C) != sizeof(T))
    if (k > kDepth) return gemm_by_chunks(m, n, k, k, a, b, e, c);
  gemm_panels<C>(m, n, k, a, b, e, c);
}

template <class T>
void gemm_by_chunks(int64_t m, int64_t n, int64_t k, int64_t chunk, Matrix<const T> a, Matrix<const T> b,
                    const Epilogue<compute_t<T>, T>& e, Matrix<T> c) {
  using C = compute_t<T>;
  const int64_t chunks = ceil_div(k, chunk);
  Scratch<C> sums(chunks * m * n);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      gemm_panels<C>(m, n, least(chunk, k - s * chunk), a.block(0, s * chunk), b.block(s * chunk, 0), Epilogue<C, C>{},
                     Matrix<C>{sums.data() + s * m * n, n, 1});
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

}  // namespace
}  // namespace gg::GG_ISA
