// CUDA kernels of attention, for any GPU and any sizes. L queries, S keys, E and F elements in a row of Q and K, and
// of V.
//
// Dao 2023, "FlashAttention-2", with the online softmax of Milakov and Gimelshein 2018. A block takes a tile of queries
// through all keys, kKeys at a time; backward has one kernel whose blocks own queries (dQ) and one whose blocks own
// keys (dK, dV), so that every sum has an order. Products of two tiles go through shared memory in chunks of 256 bytes
// a row, which makes rows of any length the same problem; what a loop sums up (O, dQ, dK, dV) is cut into slices of
// kWidth columns that fit in registers, and the block of each slice makes the scores again.
#include "cuda/block.h"
#include "ops/attention/attention_device.h"
#include "ops/attention/attention_sm90.h"

namespace gg::cuda {
namespace {

using namespace attention;

// Threads stand kSide by kSide in a block: x along keys and columns, y along queries.
constexpr int kSide = 16, kThreads = kSide * kSide, kKeys = 64;
__device__ inline int x_of_thread() { return threadIdx.x % kSide; }
__device__ inline int y_of_thread() { return threadIdx.x / kSide; }

// Of a tile of scores a thread holds kRows queries, y + kSide i, by four keys, 4 x + j.
template <class C> constexpr int kRows = 16 / int(sizeof(C));
template <class C> constexpr int kQueries = kSide * kRows<C>;
template <class C> using Scores = C[kRows<C>][4];

// 16 bytes follow every row in shared memory, so that threads that read down a column meet different banks.
template <class C, int kColumns> constexpr int kPitch = kColumns + kPack<C>;
template <class C> constexpr int kDepth = kSide * kPack<C>;  // columns of a chunk

// The matrix of one head, dense along a row, of type C; or of a 16-bit type, read and written as float.
template <class C> struct Rows {
  char* data;
  int64_t stride;
  int rows, columns;
  DType dtype;
  bool by_four;  // four neighbours may be moved at once

  __device__ Rows(DType t, const void* all, const int64_t* strides, int batch, int head, int64_t n, int64_t width)
      : stride(strides[2]), rows(int(n)), columns(int(width)), dtype(t) {
    const int size = sizeof(C) == 8 ? 8 : is_half(t) ? 2 : 4;
    data = static_cast<char*>(const_cast<void*>(all)) + (batch * strides[0] + head * strides[1]) * size;
    by_four = columns % 4 == 0 && stride % 4 == 0 && reinterpret_cast<uintptr_t>(data) % least(16, 4 * size) == 0;
  }

  // f(pointer to the first element), of the type that the elements have.
  template <class F> __device__ void dispatch(const F& f) const {
    if constexpr (sizeof(C) == 4) {
      if (dtype == DType::Float16) return f(reinterpret_cast<float16*>(data));
      if (dtype == DType::BFloat16) return f(reinterpret_cast<bfloat16*>(data));
    }
    f(reinterpret_cast<C*>(data));
  }
};

// N elements at p, at most four, of which `inside` exist; the rest is 0.
template <int N, class C, class T> __device__ inline Pack<C, N> load_row(const T* p, int inside, bool by_four) {
  constexpr int kStep = least(N, kPack<T>);
  Pack<C, N> y{};
  if (by_four) {
    if (inside > 0)
#pragma unroll
      for (int j = 0; j < N; j += kStep) {
        const Pack<T, kStep> part = load_pack<kStep>(p + j);
        for (int k = 0; k < kStep; ++k) y[j + k] = from_element<C>(part[k]);
      }
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (j < inside) y[j] = from_element<C>(p[j]);
  }
  return y;
}
template <int N, class C, class T> __device__ inline void store_row(T* p, int inside, bool by_four, const C* y) {
  constexpr int kStep = least(N, kPack<T>);
  if (by_four) {
    if (inside > 0)
#pragma unroll
      for (int j = 0; j < N; j += kStep) {
        Pack<T, kStep> part;
        for (int k = 0; k < kStep; ++k) part[k] = to_element<T>(y[j + k]);
        store_pack<kStep>(p + j, part);
      }
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (j < inside) store(p + j, y[j]);
  }
}

// A block of kTileRows by kColumns of x, from (row0, column0) on, into shared memory, with zeros beyond x. Keys are
// dealt out: row r goes to 16 (r % 4) + r / 4, so that rows x + 16 j of shared memory, which neighbouring threads read
// without conflicts, are the keys 4 x + j, which share random words and neighbour in the mask.
template <int kTileRows, int kColumns, bool kDealt, class C>
__device__ inline void place(const Rows<C>& x, int row0, int column0, C* to) {
  constexpr int kFours = kColumns / 4, kStep = kThreads / kFours, P = kPack<C>;
  const int row = threadIdx.x / kFours, column = threadIdx.x % kFours * 4;
  const int inside = x.columns - column0 - column, rows = x.rows - row0 - row;
  C* at = to + (kDealt ? row % 4 * kSide + row / 4 : row) * kPitch<C, kColumns> + column;
  x.dispatch([&]<class T>(const T* from) {
    from += (row0 + row) * x.stride + column0 + column;
#pragma unroll
    for (int r = 0; r < kTileRows; r += kStep) {
      static_assert(kStep % 4 == 0 && kTileRows % kStep == 0);
      const Pack<C, 4> y = load_row<4, C>(from + r * x.stride, r < rows ? inside : 0, x.by_four);
#pragma unroll
      for (int j = 0; j < 4; j += P) {
        Pack<C, P> part;
        for (int k = 0; k < P; ++k) part[k] = y[j + k];
        store_pack<P>(at + (kDealt ? r / 4 : r) * kPitch<C, kColumns> + j, part);
      }
    }
  });
}

// The three products of tiles in shared memory, each summing over `depth`.
//   nt: to[i][j] += sum_k a[y + 16 i][k] b[x + 16 j][k]
template <class C> __device__ inline void multiply_nt(Scores<C>& to, const C* a, const C* b, int depth) {
  constexpr int P = kPack<C>, kLine = kPitch<C, kDepth<C>>;
  a += y_of_thread() * kLine;
  b += x_of_thread() * kLine;
#pragma unroll 1
  for (int k = 0; k < depth; k += P) {
    Pack<C, P> as[kRows<C>], bs[4];
#pragma unroll
    for (int i = 0; i < kRows<C>; ++i) as[i] = load_pack<P>(a + kSide * i * kLine + k);
#pragma unroll
    for (int j = 0; j < 4; ++j) bs[j] = load_pack<P>(b + kSide * j * kLine + k);
#pragma unroll
    for (int u = 0; u < P; ++u)
#pragma unroll
      for (int i = 0; i < kRows<C>; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) to[i][j] += as[i][u] * bs[j][u];
  }
}

// A thread's columns of a slice are P x + 16 P j + u, u < P = kPack, in the order of j and u.
template <class C, int kWidth> constexpr int kColumnsEach = kWidth / kSide;

template <int kWidth, class C>
__device__ inline void slice_row(const C* b, Pack<C, kPack<C>> (&to)[kColumnsEach<C, kWidth> / kPack<C>]) {
#pragma unroll
  for (int j = 0; j < kColumnsEach<C, kWidth> / kPack<C>; ++j) to[j] = load_pack<kPack<C>>(b + kSide * kPack<C> * j);
}

//   nn: to[i][c] += sum_s a[y + 16 i][s] b[s][column c]
template <int kWidth, class C>
__device__ inline void multiply_nn(C (&to)[kRows<C>][kColumnsEach<C, kWidth>], const C* a, const C* b, int depth) {
  constexpr int P = kPack<C>, kLine = kPitch<C, kKeys>;
  a += y_of_thread() * kLine;
  b += x_of_thread() * P;
#pragma unroll 1
  for (int s = 0; s < depth; s += P) {
    Pack<C, P> as[kRows<C>], bs[kColumnsEach<C, kWidth> / P];
#pragma unroll
    for (int i = 0; i < kRows<C>; ++i) as[i] = load_pack<P>(a + kSide * i * kLine + s);
#pragma unroll
    for (int u = 0; u < P; ++u) {
      slice_row<kWidth>(b + (s + u) * kPitch<C, kWidth>, bs);
#pragma unroll
      for (int i = 0; i < kRows<C>; ++i)
#pragma unroll
        for (int c = 0; c < kColumnsEach<C, kWidth>; ++c) to[i][c] += as[i][u] * bs[c / P][c % P];
    }
  }
}

//   tn: to[r][c] += sum_q a[q][key r] b[q][column c], keys cut like columns: P y + 16 P i + u
template <int kWidth, class C>
__device__ inline void multiply_tn(C (&to)[kKeys / kSide][kColumnsEach<C, kWidth>], const C* a, const C* b, int depth) {
  constexpr int P = kPack<C>;
  a += y_of_thread() * P;
  b += x_of_thread() * P;
#pragma unroll 2
  for (int q = 0; q < depth; ++q) {
    Pack<C, P> as[kColumnsEach<C, kKeys> / P], bs[kColumnsEach<C, kWidth> / P];
    slice_row<kKeys>(a + q * kPitch<C, kKeys>, as);
    slice_row<kWidth>(b + q * kPitch<C, kWidth>, bs);
#pragma unroll
    for (int r = 0; r < kKeys / kSide; ++r)
#pragma unroll
      for (int c = 0; c < kColumnsEach<C, kWidth>; ++c) to[r][c] += as[r / P][r % P] * bs[c / P][c % P];
  }
}

// The matrices of one query head and its key head. They lie in shared memory to leave the registers to sums.
template <class C> struct HeadRows {
  Rows<C> q, k, v, dout;

  // For one thread to call, between barriers.
  __device__ void set(DType t, const AttentionProblem& p, int batch, int head) {
    const int kv_head = head / int(p.heads / p.kv_heads);
    q = Rows<C>(t, p.q, p.q_strides, batch, head, p.l, p.e);
    k = Rows<C>(t, p.k, p.k_strides, batch, kv_head, p.s, p.e);
    v = Rows<C>(t, p.v, p.v_strides, batch, kv_head, p.s, p.f);
  }
};

// A chunk of queries and one of keys, or the slice that a tile of scores multiplies; and that tile.
template <class C, int kWidth> struct Tiles {
  HeadRows<C> rows;
  static constexpr int kChunks = (kQueries<C> + kKeys) * kPitch<C, kDepth<C>>, kSlice = kKeys * kPitch<C, kWidth>;
  alignas(16) C operands[kChunks > kSlice ? kChunks : kSlice];
  alignas(16) C scores[kQueries<C> * kPitch<C, kKeys>];
};

// to = A B^T for a tile of rows of A from a0 on and kKeys rows of B from b0 on. Begins with a barrier.
template <class C, int kWidth>
__device__ inline void products(Scores<C>& to, const Rows<C>& a, int a0, const Rows<C>& b, int b0,
                                Tiles<C, kWidth>& tiles) {
#pragma unroll
  for (int i = 0; i < kRows<C>; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) to[i][j] = 0;
  C* bs = tiles.operands + kQueries<C> * kPitch<C, kDepth<C>>;
  __syncthreads();
  for (int column = 0; column < a.columns; column += kDepth<C>) {
    if (column) __syncthreads();
    place<kQueries<C>, kDepth<C>, false>(a, a0, column, tiles.operands);
    place<kKeys, kDepth<C>, true>(b, b0, column, bs);
    __syncthreads();
    multiply_nt(to, tiles.operands, bs, least(kDepth<C>, a.columns - column));
  }
}

// A thread's columns of a slice, out to the matrix.
template <int kWidth, class C> __device__ inline void store_slice(const Rows<C>& to, int row, int column0, const C* y) {
  constexpr int P = kPack<C>;
  if (row >= to.rows) return;
  to.dispatch([&]<class T>(T* all) {
#pragma unroll
    for (int j = 0; j < kColumnsEach<C, kWidth>; j += P) {
      const int column = column0 + kSide * j + P * x_of_thread();
      store_row<P>(all + row * to.stride + column, to.columns - column, to.by_four, y + j);
    }
  });
}

// A tile of scores into shared memory, for all, beside the rows that it multiplies.
template <int kSliceRows, class C, int kWidth>
__device__ inline void share(const Scores<C>& x, const Rows<C>& slice, int row0, int column0, Tiles<C, kWidth>& tiles) {
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kRows<C>; ++i)
#pragma unroll
    for (int j = 0; j < 4; j += kPack<C>) {
      Pack<C, kPack<C>> part;
      for (int u = 0; u < kPack<C>; ++u) part[u] = x[i][j + u];
      store_pack<kPack<C>>(tiles.scores + (y_of_thread() + kSide * i) * kPitch<C, kKeys> + 4 * x_of_thread() + j, part);
    }
  place<kSliceRows, kWidth, false>(slice, row0, column0, tiles.operands);
  __syncthreads();
}

// Products become scores.
template <class C>
__device__ inline void mask_tile(const AttentionProblem& p, int batch, int head, int q0, int s0, Scores<C>& x) {
  const C scale = C(p.scale);
#pragma unroll
  for (int i = 0; i < kRows<C>; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      x[i][j] =
          x[i][j] * scale + bias_of<C>(p, batch, head, q0 + y_of_thread() + kSide * i, s0 + 4 * x_of_thread() + j);
}

// hot: no spills
template <class C, int kWidth>
__global__ void __launch_bounds__(kThreads, 2) forward_kernel(const __grid_constant__ ForwardArguments<C> a) {
  const AttentionProblem& p = a.p;
  auto& tiles = shared<Tiles<C, kWidth>>();
  Part part(int(p.heads), a.tiles, a.slices);
  if (p.causal) part.tile = a.tiles - 1 - part.tile;  // the longest first
  const int q0 = part.tile * kQueries<C>;
  const int column0 = part.slice * kWidth;
  if (threadIdx.x == 0) tiles.rows.set(a.dtype, p, part.batch, part.head);
  C m[kRows<C>], l[kRows<C>], sums[kRows<C>][kColumnsEach<C, kWidth>] = {};
#pragma unroll
  for (int i = 0; i < kRows<C>; ++i) m[i] = -kInfinity<C>, l[i] = 0;
  __syncthreads();

  const int visible = visible_keys(p, q0 + kQueries<C>);
  for (int s0 = 0; s0 < visible; s0 += kKeys) {
    Scores<C> x;
    products(x, tiles.rows.q, q0, tiles.rows.k, s0, tiles);
    mask_tile(p, part.batch, part.head, q0, s0, x);
#pragma unroll
    for (int i = 0; i < kRows<C>; ++i) {
      C top = m[i];
      for (int j = 0; j < 4; ++j) top = x[i][j] > top ? x[i][j] : top;
      top = warp_reduce<Max>(top, kSide);
      // A row that has seen no key yet has m = -inf: exponentials are then taken from 0, and give 0.
      const C base = top == -kInfinity<C> ? C(0) : top, shrink = exp(m[i] - base);
      m[i] = top;
      C sum = 0;
      for (int j = 0; j < 4; ++j) sum += x[i][j] = exp(x[i][j] - base);
      l[i] = l[i] * shrink + warp_reduce<Sum>(sum, kSide);
#pragma unroll
      for (int c = 0; c < kColumnsEach<C, kWidth>; ++c) sums[i][c] *= shrink;
      if (a.dropout.on) {
        const int row = q0 + y_of_thread() + kSide * i;
        const auto keep = a.dropout.keep(p, part.batch * p.heads + part.head, row, s0 + 4 * x_of_thread());
        for (int j = 0; j < 4; ++j) x[i][j] *= keep[j];
      }
    }
    share<kKeys>(x, tiles.rows.v, s0, column0, tiles);
    multiply_nn<kWidth>(sums, tiles.scores, tiles.operands, least(kKeys, int(p.s) - s0));
  }

  const Rows<C> to(a.dtype, a.out, a.out_strides, part.batch, part.head, p.l, p.f);
#pragma unroll
  for (int i = 0; i < kRows<C>; ++i) {
    const int row = q0 + y_of_thread() + kSide * i;
    const bool none = l[i] == C(0);
    const C share = none ? C(0) : 1 / l[i];
    if (part.slice == 0 && x_of_thread() == 0 && row < p.l) {
      C* to_stats = a.stats + 2 * ((part.batch * p.heads + part.head) * p.l + row);
      to_stats[0] = none ? C(0) : m[i];
      to_stats[1] = share;
    }
#pragma unroll
    for (int c = 0; c < kColumnsEach<C, kWidth>; ++c) sums[i][c] = none ? C(0) : sums[i][c] * share;
    store_slice<kWidth>(to, row, column0, sums[i]);
  }
}

// D, a warp to a row.
template <class C>
__global__ void __launch_bounds__(kThreads) row_products_kernel(const __grid_constant__ BackwardArguments<C> a) {
  const AttentionProblem& p = a.p;
  const int lane = threadIdx.x % 32;
  const int64_t rows = p.batch * p.heads * p.l;
  for (int64_t i = first_item() / 32; i < rows; i += item_step() / 32) {
    const int64_t batch = i / p.l / p.heads, head = i / p.l % p.heads, row = i % p.l;
    const Rows<C> dout(a.dtype, a.dout, a.dout_strides, batch, head, p.l, p.f);
    const Rows<C> out(a.dtype, a.out, a.out_strides, batch, head, p.l, p.f);
    C sum = 0;
    dout.dispatch([&]<class T>(const T* x) {
      x += row * dout.stride;
      const T* y = reinterpret_cast<const T*>(out.data) + row * out.stride;
      for (int column = 4 * lane; column < dout.columns; column += 4 * 32) {
        const auto xs = load_row<4, C>(x + column, dout.columns - column, dout.by_four);
        const auto ys = load_row<4, C>(y + column, dout.columns - column, out.by_four);
        for (int j = 0; j < 4; ++j) sum += xs[j] * ys[j];
      }
    });
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) a.d[i] = sum;
  }
}

// Begins and ends with a barrier.
template <class C>
__device__ inline void set_rows(const BackwardArguments<C>& a, int batch, int head, HeadRows<C>& rows) {
  __syncthreads();
  if (threadIdx.x == 0) {
    rows.set(a.dtype, a.p, batch, head);
    rows.dout = Rows<C>(a.dtype, a.dout, a.dout_strides, batch, head, a.p.l, a.p.f);
  }
  __syncthreads();
}

// Makes a tile's weights P, with dropout's factors, and slopes dS.
template <class C, int kWidth>
__device__ inline void slopes(const BackwardArguments<C>& a, int batch, int head, int q0, int s0, Scores<C>& weights,
                              Scores<C>& ds, Tiles<C, kWidth>& tiles) {
  products(weights, tiles.rows.q, q0, tiles.rows.k, s0, tiles);
  mask_tile(a.p, batch, head, q0, s0, weights);
  products(ds, tiles.rows.dout, q0, tiles.rows.v, s0, tiles);
  const int head_index = batch * int(a.p.heads) + head;
#pragma unroll
  for (int i = 0; i < kRows<C>; ++i) {
    const int row = q0 + y_of_thread() + kSide * i;
    const int64_t at = int64_t(head_index) * a.p.l + row;
    const bool inside = row < int(a.p.l);
    const C m = inside ? a.stats[2 * at] : C(0), share = inside ? a.stats[2 * at + 1] : C(0);
    const C d = inside ? a.d[at] : C(0);
    Pack<C, 4> keep{1, 1, 1, 1};
    if (a.dropout.on) keep = a.dropout.keep(a.p, head_index, row, s0 + 4 * x_of_thread());
    for (int j = 0; j < 4; ++j) {
      const C w = exp(weights[i][j] - m) * share;
      weights[i][j] = w * keep[j];
      ds[i][j] = w * (ds[i][j] * keep[j] - d);
    }
  }
}

// A matrix of dense heads.
template <class C>
__device__ inline Rows<C> dense_rows(DType t, void* data, int64_t head, int64_t rows, int64_t columns) {
  const int64_t strides[3] = {0, rows * columns, columns};
  return Rows<C>(t, data, strides, 0, head, rows, columns);
}

// hot: no spills
template <class C, int kWidth>
__global__ void __launch_bounds__(kThreads, 2) backward_queries_kernel(const __grid_constant__ BackwardArguments<C> a) {
  const AttentionProblem& p = a.p;
  auto& tiles = shared<Tiles<C, kWidth>>();
  Part part(int(p.heads), a.tiles, a.slices);
  if (p.causal) part.tile = a.tiles - 1 - part.tile;
  const int q0 = part.tile * kQueries<C>;
  const int column0 = part.slice * kWidth;
  set_rows(a, part.batch, part.head, tiles.rows);
  const int64_t head_index = part.batch * p.heads + part.head;
  C dq[kRows<C>][kColumnsEach<C, kWidth>] = {};

  const int visible = visible_keys(p, q0 + kQueries<C>);
  for (int s0 = 0; s0 < visible; s0 += kKeys) {
    Scores<C> weights, ds;
    slopes(a, part.batch, part.head, q0, s0, weights, ds, tiles);
    if (a.dscores && part.slice == 0) {
      const int s = s0 + 4 * x_of_thread(), inside = int(p.s) - s;
#pragma unroll
      for (int i = 0; i < kRows<C>; ++i) {
        const int row = q0 + y_of_thread() + kSide * i;
        if (row < p.l) store_row<4>(a.dscores + (head_index * p.l + row) * p.s + s, inside, p.s % 4 == 0, ds[i]);
      }
    }
    share<kKeys>(ds, tiles.rows.k, s0, column0, tiles);
    multiply_nn<kWidth>(dq, tiles.scores, tiles.operands, least(kKeys, int(p.s) - s0));
  }

  const Rows<C> to = dense_rows<C>(a.dtype, a.dq, head_index, p.l, p.e);
#pragma unroll
  for (int i = 0; i < kRows<C>; ++i) {
    for (C& x : dq[i]) x *= C(p.scale);
    store_slice<kWidth>(to, q0 + y_of_thread() + kSide * i, column0, dq[i]);
  }
}

// hot: no spills
template <class C, int kWidth>
__global__ void __launch_bounds__(kThreads, kColumnsEach<C, kWidth> * sizeof(C) > 16 ? 1 : 2)
    backward_keys_kernel(const __grid_constant__ BackwardArguments<C> a) {
  const AttentionProblem& p = a.p;
  auto& tiles = shared<Tiles<C, kWidth>>();
  const Part part(int(p.kv_heads), a.tiles, a.slices);
  const int s0 = part.tile * kKeys, group = int(p.heads / p.kv_heads);
  const int column0 = part.slice * kWidth;
  C dk[kKeys / kSide][kColumnsEach<C, kWidth>] = {}, dv[kKeys / kSide][kColumnsEach<C, kWidth>] = {};

  const int first = p.causal ? s0 / kQueries<C> * kQueries<C> : 0;
  for (int head = part.head * group; head < (part.head + 1) * group; ++head) {
    set_rows(a, part.batch, head, tiles.rows);
    for (int q0 = first; q0 < int(p.l); q0 += kQueries<C>) {
      Scores<C> weights, ds;
      slopes(a, part.batch, head, q0, s0, weights, ds, tiles);
      const int queries = least(kQueries<C>, int(p.l) - q0);
      share<kQueries<C>>(weights, tiles.rows.dout, q0, column0, tiles);
      multiply_tn<kWidth>(dv, tiles.scores, tiles.operands, queries);
      share<kQueries<C>>(ds, tiles.rows.q, q0, column0, tiles);
      multiply_tn<kWidth>(dk, tiles.scores, tiles.operands, queries);
    }
  }

  const int64_t head_index = part.batch * p.kv_heads + part.head;
  const Rows<C> to_k = dense_rows<C>(a.dtype, a.dk, head_index, p.s, p.e);
  const Rows<C> to_v = dense_rows<C>(a.dtype, a.dv, head_index, p.s, p.f);
#pragma unroll
  for (int r = 0; r < kKeys / kSide; ++r) {
    const int row = s0 + kPack<C> * y_of_thread() + r % kPack<C> + r / kPack<C> * kPack<C> * kSide;
    for (C& x : dk[r]) x *= C(p.scale);
    store_slice<kWidth>(to_k, row, column0, dk[r]);
    store_slice<kWidth>(to_v, row, column0, dv[r]);
  }
}

// keep (batch, heads, L, S): a thread makes the factors of four keys under one query.
template <class C>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const __grid_constant__ AttentionProblem p, Dropout<C> dropout, C* __restrict__ keep) {
  const int64_t fours = ceil_div(p.s, 4), n = p.batch * p.heads * p.l * fours;
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int64_t row = i / fours, s = i % fours * 4;
    const Pack<C, 4> x = dropout.keep(p, row / p.l, row % p.l, s);
    for (int j = 0; j < least<int64_t>(4, p.s - s); ++j) keep[row * p.s + s + j] = x[j];
  }
}

// Slices of 128 columns are taken where rows fill them; float64 keeps to 64, for want of registers.
template <class C, class F> void dispatch_width(int64_t columns, const F& f) {
  if (sizeof(C) == 4 && columns > 64)
    f.template operator()<4 == sizeof(C) ? 128 : 64>();
  else
    f.template operator()<64>();
}
int slices_of(int64_t columns, int width) { return int(columns > width ? ceil_div(columns, width) : 1); }

template <class C> void forward(ForwardArguments<C> a) {
  const AttentionProblem& p = a.p;
  dispatch_width<C>(p.f, [&]<int kWidth>() {
    a.tiles = int(ceil_div(p.l, kQueries<C>));
    a.slices = slices_of(p.f, kWidth);
    const int64_t blocks = p.batch * p.heads * a.tiles * a.slices;
    if (blocks > 0) launch(forward_kernel<C, kWidth>, dim3(unsigned(blocks)), kThreads, sizeof(Tiles<C, kWidth>), a);
  });
}

template <class C> void backward(BackwardArguments<C> a) {
  const AttentionProblem& p = a.p;
  const int64_t rows = p.batch * p.heads * p.l;
  Scratch<C> d(rows);
  a.d = d.get();
  if (a.dscores) zero(a.dscores, size_t(rows * p.s) * sizeof(C));
  if (rows > 0) launch(row_products_kernel<C>, grid_for(rows, kThreads / 32), kThreads, 0, a);
  if constexpr (sizeof(C) == 4)
    if (mma_takes(a.dtype, p) && mma_takes_rows(a.dout, a.dout_strides)) {
      if (!backward_sm90 || !backward_sm90(a)) backward_mma(a);
      return;
    }
  dispatch_width<C>(p.e > p.f ? p.e : p.f, [&]<int kWidth>() {
    a.tiles = int(ceil_div(p.s, kKeys));
    a.slices = slices_of(p.e > p.f ? p.e : p.f, kWidth);
    const int64_t blocks = p.batch * p.kv_heads * a.tiles * a.slices;
    if (blocks > 0)
      launch(backward_keys_kernel<C, kWidth>, dim3(unsigned(blocks)), kThreads, sizeof(Tiles<C, kWidth>), a);
  });
  dispatch_width<C>(p.e, [&]<int kWidth>() {
    a.tiles = int(ceil_div(p.l, kQueries<C>));
    a.slices = slices_of(p.e, kWidth);
    const int64_t blocks = p.batch * p.heads * a.tiles * a.slices;
    if (blocks > 0)
      launch(backward_queries_kernel<C, kWidth>, dim3(unsigned(blocks)), kThreads, sizeof(Tiles<C, kWidth>), a);
  });
}

// f.template operator()<C>() with the type that t is computed in.
template <class F> void dispatch_compute(DType t, const F& f) {
  if (t == DType::Float64)
    f.template operator()<double>();
  else
    f.template operator()<float>();
}

void attention_forward(DType t, const AttentionProblem& p, void* out, const int64_t* out_strides, void* stats) {
  dispatch_compute(t, [&]<class C>() {
    ForwardArguments<C> a{p, t, Dropout<C>(p), out, {}, static_cast<C*>(stats), 0, 0};
    for (int i = 0; i < 3; ++i) a.out_strides[i] = out_strides[i];
    if constexpr (sizeof(C) == 4)
      if (mma_takes(t, p) && mma_takes_rows(out, out_strides)) {
        if (!forward_sm90 || !forward_sm90(a)) forward_mma(a);
        return;
      }
    forward(a);
  });
}

void attention_backward(DType t, const AttentionProblem& p, const void* dout, const int64_t* dout_strides,
                        const void* out, const int64_t* out_strides, const void* stats, void* dq, void* dk, void* dv,
                        void* dscores) {
  dispatch_compute(t, [&]<class C>() {
    BackwardArguments<C> a{p,
                           t,
                           Dropout<C>(p),
                           dout,
                           out,
                           {},
                           {},
                           static_cast<const C*>(stats),
                           nullptr,
                           dq,
                           dk,
                           dv,
                           static_cast<C*>(dscores),
                           0,
                           0};
    for (int i = 0; i < 3; ++i) a.dout_strides[i] = dout_strides[i], a.out_strides[i] = out_strides[i];
    backward(a);
  });
}

void attention_dropout(DType t, const AttentionProblem& p, void* keep) {
  const int64_t n = p.batch * p.heads * p.l * ceil_div(p.s, 4);
  if (n == 0) return;
  dispatch_compute(t, [&]<class C>() {
    launch(dropout_kernel<C>, grid_for(n, kThreads), kThreads, 0, p, Dropout<C>(p), static_cast<C*>(keep));
  });
}

}  // namespace

const AttentionKernels attention_kernels = {attention_forward, attention_backward, attention_dropout};

}  // namespace gg::cuda
