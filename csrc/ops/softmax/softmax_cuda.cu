// Softmax and cross-entropy on the GPU.
//
// Rows with inner == 1 are walked by teams of threads (cuda/teams.h). A row that fits the registers of its team is read
// once: its maximum, then the sum of its exponentials, then the result. A longer one goes through the online form of
// Milakov and Gimelshein (2018), a few packs at a time, waiting in shared memory for its second pass where it fits. Few
// rows of many elements are cut into chunks of kChunk: one launch for the statistics of each chunk, one that joins
// them. With inner > 1 neighbouring threads walk neighbouring columns.
#include "ops/softmax/softmax.h"

#include <math.h>

#include "core/dispatch.h"
#include "cuda/first_bad.h"
#include "cuda/teams.h"

namespace gg::cuda {
namespace {

constexpr int64_t kChunk = 16384;    // elements of a row that a block takes where rows are few
constexpr int64_t kFewRows = 128;    // below, rows of several chunks are cut
constexpr int kChunkBlock = 512;     // threads
constexpr int kBackwardBlock = 512;  // most threads where two rows are held: they need the registers
// Elements of a column that a thread reads before it computes with them.
template <class C> constexpr int kColumnUnroll = sizeof(C) == 8 ? 2 : 8;
constexpr int64_t kHeldColumns = 48 << 10;  // bytes of columns that wait in shared memory between their passes
constexpr int64_t kSumPiece = 8192;         // rows of a partial sum

struct Larger {  // passes over NaN, which shows in the sum of exponentials
  template <class T> static __device__ T of(T a, T b) { return fmax(a, b); }
};

template <class T> __device__ T minus_infinity() { return to_element<T>(-INFINITY); }

// Maximum, and sum of exp(x - maximum). Where all is -inf there is no finite maximum to subtract: 0 serves, and NaNs
// still show.
template <class C> struct Stats {
  C max = minus_infinity<C>(), sum = 0;

  static __device__ C shift(C max) { return max == minus_infinity<C>() ? C(0) : max; }
  template <int K, int V> __device__ void add(const C (&x)[K][V]) {
    C top = max;
#pragma unroll
    for (int i = 0; i < K * V; ++i) top = Larger::of(top, x[i / V][i % V]);
    const C by = shift(top);
    sum *= exp(max - by);
    max = top;
#pragma unroll
    for (int i = 0; i < K * V; ++i) sum += exp(x[i / V][i % V] - by);
  }
  // Of all threads of a Team or a ColumnTeam.
  template <class Threads> __device__ Stats join(const Threads& threads, C* parts) const {
    Stats all;
    all.max = threads.template reduce<Larger>(max, parts);
    all.sum = threads.template reduce<Sum>(sum * exp(max - shift(all.max)), parts);
    return all;
  }
};

// Of a row; a copy of it goes to `held`, which may be null.
template <class T>
__device__ Stats<compute_t<T>> row_stats(const T* x, const Packs<T>& packs, const Team& team, compute_t<T>* parts,
                                         T* held) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  const int64_t step = int64_t(team.width) * V;
  Stats<C> mine;
  for (int64_t at = packs.first(team.rank); at < packs.n; at += K * step) {
    Pack<T, V> tile[K];
    load_tile(x, at, step, packs.n, packs.even, minus_infinity<T>(), tile);
    C v[K][V];
    widen(tile, v);
    if (held) store_tile(held, at, step, packs.n, packs.even, v);
    mine.add(v);
  }
  return mine.join(team, parts);
}

// What a softmax is made of once a row's stats are known.
template <class C> struct Normalizer {
  C max, by;  // by: 1 / s, or log s
  bool log;
  __device__ Normalizer(const Stats<C>& s, bool log_) : max(s.max), by(log_ ? C(::log(s.sum)) : 1 / s.sum), log(log_) {}
  __device__ C operator()(C x) const { return log ? x - max - by : exp(x - max) * by; }
};

// Applies f to the elements of a row, from x to y.
template <class T, class F>
__device__ void map_row(const T* x, T* y, const Packs<T>& packs, const Team& team, const F& f) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  const int64_t step = int64_t(team.width) * V;
  const bool even = packs.even_in(y);
  for (int64_t at = packs.first(team.rank); at < packs.n; at += K * step) {
    Pack<T, V> tile[K];
    load_tile(x, at, step, packs.n, packs.even, T{}, tile);
    C v[K][V];
    widen(tile, v);
#pragma unroll
    for (int i = 0; i < K * V; ++i) v[i / V][i % V] = f(v[i / V][i % V]);
    store_tile(y, at, step, packs.n, even, v);
  }
}

template <class C> struct alignas(16) RowShared { C parts[32]; };  // a row may wait behind it

// Rows that the registers of their teams hold.
// hot: no spills
template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    softmax_row_kernel(const T* __restrict__ x_, T* __restrict__ y_, int64_t rows, int n, int width, bool log) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  auto& s = shared<RowShared<C>>();
  const Team team(width);
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < rows; first += int64_t(gridDim.x) * team.count) {
    const int64_t row = first + team.index;
    const T* x = x_ + row * n;
    T* y = y_ + row * n;
    const Packs<T> packs(x, n);
    const int length = row < rows ? n : 0, at = team.rank * V - packs.shift, step = width * V;
    Pack<T, V> tile[K];
    load_tile(x, at, step, length, packs.even, minus_infinity<T>(), tile);
    C v[K][V];
    widen(tile, v);
    Stats<C> stats;
#pragma unroll
    for (int i = 0; i < K * V; ++i) stats.max = Larger::of(stats.max, v[i / V][i % V]);
    stats.max = team.reduce<Larger>(stats.max, s.parts);
    const C by = stats.shift(stats.max);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (at + k * step >= length) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const C e = exp(v[k][i] - by);
        stats.sum += e;
        if (!log) v[k][i] = e;
      }
    }
    stats.sum = team.reduce<Sum>(stats.sum, s.parts);
    const Normalizer<C> f(stats, log);
#pragma unroll
    for (int i = 0; i < K * V; ++i) v[i / V][i % V] = log ? f(v[i / V][i % V]) : v[i / V][i % V] * f.by;
    store_tile(y, at, step, length, packs.even_in(y), v);
  }
}

// Longer rows, one a block.
template <class T>
__global__ void __launch_bounds__(kMaxBlock) softmax_long_row_kernel(const T* __restrict__ x_, T* __restrict__ y_,
                                                                     int64_t rows, int64_t n, bool hold, bool log) {
  using C = compute_t<T>;
  auto& s = shared<RowShared<C>>();
  const Team team(blockDim.x);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* x = x_ + row * n;
    const Packs<T> packs(x, n);
    T* held = hold ? reinterpret_cast<T*>(&s + 1) + packs.shift : nullptr;
    const Normalizer<C> f(row_stats(x, packs, team, s.parts, held), log);
    map_row(hold ? held : x, y_ + row * n, packs, team, f);
  }
}

// Rows cut into chunks: the grid is (chunks, rows).
template <class T> struct Chunk {
  int64_t row, at, n;
  __device__ explicit Chunk(int64_t row_length) : row(blockIdx.y), at(blockIdx.x * kChunk) {
    n = row_length - at < kChunk ? row_length - at : kChunk;
    at += row * row_length;
  }
};

template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    chunk_stats_kernel(const T* __restrict__ x, Stats<compute_t<T>>* __restrict__ partial, int64_t n) {
  auto& s = shared<RowShared<compute_t<T>>>();
  const Chunk<T> chunk(n);
  auto stats = row_stats(x + chunk.at, Packs<T>(x + chunk.at, chunk.n), Team(kChunkBlock), s.parts, (T*)nullptr);
  if (threadIdx.x == 0) partial[chunk.row * gridDim.x + blockIdx.x] = stats;
}

// The stats of a row from those of its chunks.
template <class C>
__device__ Stats<C> join_chunks(const Stats<C>* partial, int64_t chunks, const Team& team, C* parts) {
  Stats<C> mine;
  for (int64_t c = team.rank; c < chunks; c += team.width) {
    const C max = Larger::of(mine.max, partial[c].max), by = mine.shift(max);
    mine.sum = mine.sum * exp(mine.max - by) + partial[c].sum * exp(partial[c].max - by);
    mine.max = max;
  }
  return mine.join(team, parts);
}

template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    softmax_chunk_kernel(const T* __restrict__ x, T* __restrict__ y, const Stats<compute_t<T>>* __restrict__ partial,
                         int64_t n, bool log) {
  using C = compute_t<T>;
  auto& s = shared<RowShared<C>>();
  const Chunk<T> chunk(n);
  const Team team(kChunkBlock);
  const Normalizer<C> f(join_chunks(partial + chunk.row * gridDim.x, gridDim.x, team, s.parts), log);
  map_row(x + chunk.at, y + chunk.at, Packs<T>(x + chunk.at, chunk.n), team, f);
}

template <class C> struct alignas(16) ColumnShared { C parts[kMaxBlock]; };  // columns may wait behind it

// Where column q of (outer, n, inner) begins.
__device__ inline int64_t column_at(int64_t q, int64_t n, int64_t inner) { return q / inner * n * inner + q % inner; }

template <class T>
__device__ Stats<compute_t<T>> column_stats(const T* x, int64_t n, int64_t step, const ColumnTeam& team,
                                            compute_t<T>* parts, T* held) {
  using C = compute_t<T>;
  Stats<C> mine;
  for (int64_t j = team.y; j < n; j += kColumnUnroll<C> * team.height) {
    C v[1][kColumnUnroll<C>];
#pragma unroll
    for (int u = 0; u < kColumnUnroll<C>; ++u) {
      const int64_t at = j + u * team.height;
      v[0][u] = at < n ? load<C>(x + at * step) : minus_infinity<C>();
      if (held && at < n) store(held + at * team.width, v[0][u]);
    }
    mine.add(v);
  }
  return mine.join(team, parts);
}

template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    softmax_column_kernel(const T* __restrict__ x_, T* __restrict__ y_, int64_t columns, int64_t n, int64_t inner,
                          int width, bool hold, bool log) {
  using C = compute_t<T>;
  auto& s = shared<ColumnShared<C>>();
  const ColumnTeam team(width);
  T* held = hold ? reinterpret_cast<T*>(&s + 1) + team.x : nullptr;
  for (int64_t first = int64_t(blockIdx.x) * width; first < columns; first += int64_t(gridDim.x) * width) {
    const int64_t q = first + team.x, at = column_at(q, n, inner), length = q < columns ? n : 0;
    const Normalizer<C> f(column_stats(x_ + at, length, inner, team, s.parts, held), log);
    const T* x = hold ? held : x_ + at;
    const int64_t step = hold ? width : inner;
#pragma unroll 4
    for (int64_t j = team.y; j < length; j += team.height) store(y_ + at + j * inner, f(load<C>(x + j * step)));
  }
}

// Shared memory of a column kernel whose columns of n elements wait there, or 0 where they do not fit.
template <class T> int64_t held_column_bytes(const ColumnPlan& plan, int64_t n) {
  int64_t bytes = plan.width * n * int64_t(sizeof(T));
  return bytes <= kHeldColumns ? bytes : 0;
}

void softmax_forward(DType t, const void* x_, void* y_, int64_t outer, int64_t n, int64_t inner, bool log) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    if (inner > 1) {
      const ColumnPlan plan(outer * inner, n);
      const int64_t held = held_column_bytes<T>(plan, n);
      return launch(softmax_column_kernel<T>, plan.grid, plan.block, sizeof(ColumnShared<C>) + held, x, y,
                    outer * inner, n, inner, plan.width, held > 0, log);
    }
    const int64_t chunks = ceil_div(n, kChunk);
    if (chunks > 1 && outer < kFewRows) {
      Scratch<Stats<C>> partial(outer * chunks);
      const dim3 grid = {unsigned(chunks), unsigned(outer)};
      launch(chunk_stats_kernel<T>, grid, kChunkBlock, sizeof(RowShared<C>), x, partial.get(), n);
      return launch(softmax_chunk_kernel<T>, grid, kChunkBlock, sizeof(RowShared<C>), x, y, partial.get(), n, log);
    }
    const TeamPlan plan = TeamPlan::of(x, outer, n, kHeldPacks<T>);
    if (plan.fits)
      return launch(softmax_row_kernel<T>, plan.grid, plan.block, sizeof(RowShared<C>), x, y, outer, int(n), plan.width,
                    log);
    const size_t row = size_t(n + kPack<T>) * sizeof(T);
    const bool hold = row <= shared_limit() - sizeof(RowShared<C>);
    launch(softmax_long_row_kernel<T>, plan.grid, plan.block, sizeof(RowShared<C>) + (hold ? row : 0), x, y, outer, n,
           hold, log);
  });
}

// With S = sum_j dy_j d_j:   softmax:      dx = y (dy - S),        S = sum_j dy_j y_j
//                            log-softmax:  dx = dy - exp(y) S,     S = sum_j dy_j
template <class C> struct SoftmaxGradient {
  bool log;
  __device__ C term(C dy, C y) const { return log ? dy : dy * y; }
  __device__ C operator()(C dy, C y, C sum) const { return log ? dy - exp(y) * sum : y * (dy - sum); }
};

// A thread's part of S.
template <class T>
__device__ compute_t<T> row_gradient_sum(const T* dy, const T* y, const Packs<T>& packs, const Team& team,
                                         SoftmaxGradient<compute_t<T>> f) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  const int64_t step = int64_t(team.width) * V;
  const bool even = packs.even_in(y);
  C sum = 0;
  for (int64_t at = packs.first(team.rank); at < packs.n; at += K * step) {
    Pack<T, V> d[K], v[K];
    load_tile(dy, at, step, packs.n, packs.even, T{}, d);
    load_tile(y, at, step, packs.n, even, T{}, v);
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < V; ++i) sum += f.term(from_element<C>(d[k][i]), from_element<C>(v[k][i]));
  }
  return sum;
}

template <class T>
__device__ void map_row_gradient(const T* dy, const T* y, T* dx, const Packs<T>& packs, const Team& team,
                                 SoftmaxGradient<compute_t<T>> f, compute_t<T> sum) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  const int64_t step = int64_t(team.width) * V;
  const bool even = packs.even_in(y), even_dx = packs.even_in(dx);
  for (int64_t at = packs.first(team.rank); at < packs.n; at += K * step) {
    Pack<T, V> d[K], v[K];
    load_tile(dy, at, step, packs.n, packs.even, T{}, d);
    load_tile(y, at, step, packs.n, even, T{}, v);
    C g[K][V];
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < V; ++i) g[k][i] = f(from_element<C>(d[k][i]), from_element<C>(v[k][i]), sum);
    store_tile(dx, at, step, packs.n, even_dx, g);
  }
}

// Rows that the registers of their teams hold.
// hot: no spills
template <class T>
__global__ void __launch_bounds__(kBackwardBlock)
    softmax_row_backward_kernel(const T* __restrict__ dy_, const T* __restrict__ y_, T* __restrict__ dx_, int64_t rows,
                                int n, int width, bool log) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  auto& s = shared<RowShared<C>>();
  const Team team(width);
  const SoftmaxGradient<C> f{log};
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < rows; first += int64_t(gridDim.x) * team.count) {
    const int64_t row = first + team.index;
    const T *dy = dy_ + row * n, *y = y_ + row * n;
    T* dx = dx_ + row * n;
    const Packs<T> packs(dy, n);
    const int length = row < rows ? n : 0, at = team.rank * V - packs.shift, step = width * V;
    Pack<T, V> d[K], v[K];
    load_tile(dy, at, step, length, packs.even, T{}, d);
    load_tile(y, at, step, length, packs.even_in(y), T{}, v);
    C sum = 0;
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < V; ++i) sum += f.term(from_element<C>(d[k][i]), from_element<C>(v[k][i]));
    sum = team.reduce<Sum>(sum, s.parts);
    C g[K][V];
#pragma unroll
    for (int k = 0; k < K; ++k)
#pragma unroll
      for (int i = 0; i < V; ++i) g[k][i] = f(from_element<C>(d[k][i]), from_element<C>(v[k][i]), sum);
    store_tile(dx, at, step, length, packs.even_in(dx), g);
  }
}

// Longer rows, one a block.
template <class T>
__global__ void __launch_bounds__(kBackwardBlock, 1)
    softmax_long_row_backward_kernel(const T* __restrict__ dy_, const T* __restrict__ y_, T* __restrict__ dx_,
                                     int64_t rows, int64_t n, bool log) {
  using C = compute_t<T>;
  auto& s = shared<RowShared<C>>();
  const Team team(blockDim.x);
  const SoftmaxGradient<C> f{log};
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *dy = dy_ + row * n, *y = y_ + row * n;
    const Packs<T> packs(dy, n);
    const C sum = team.reduce<Sum>(row_gradient_sum(dy, y, packs, team, f), s.parts);
    map_row_gradient(dy, y, dx_ + row * n, packs, team, f, sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    chunk_gradient_sum_kernel(const T* __restrict__ dy, const T* __restrict__ y, compute_t<T>* __restrict__ partial,
                              int64_t n, bool log) {
  using C = compute_t<T>;
  auto& s = shared<RowShared<C>>();
  const Chunk<T> chunk(n);
  const Team team(kChunkBlock);
  const Packs<T> packs(dy + chunk.at, chunk.n);
  const C sum =
      team.reduce<Sum>(row_gradient_sum(dy + chunk.at, y + chunk.at, packs, team, SoftmaxGradient<C>{log}), s.parts);
  if (threadIdx.x == 0) partial[chunk.row * gridDim.x + blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    softmax_chunk_backward_kernel(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx,
                                  const compute_t<T>* __restrict__ partial, int64_t n, bool log) {
  using C = compute_t<T>;
  auto& s = shared<RowShared<C>>();
  const Chunk<T> chunk(n);
  const Team team(kChunkBlock);
  C sum = 0;
  for (int64_t c = team.rank; c < gridDim.x; c += team.width) sum += partial[chunk.row * gridDim.x + c];
  sum = team.reduce<Sum>(sum, s.parts);
  const Packs<T> packs(dy + chunk.at, chunk.n);
  map_row_gradient(dy + chunk.at, y + chunk.at, dx + chunk.at, packs, team, SoftmaxGradient<C>{log}, sum);
}

template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    softmax_column_backward_kernel(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx,
                                   int64_t columns, int64_t n, int64_t inner, int width, bool log) {
  using C = compute_t<T>;
  auto& s = shared<ColumnShared<C>>();
  const ColumnTeam team(width);
  const SoftmaxGradient<C> f{log};
  for (int64_t first = int64_t(blockIdx.x) * width; first < columns; first += int64_t(gridDim.x) * width) {
    const int64_t q = first + team.x, at = column_at(q, n, inner), length = q < columns ? n : 0;
    C sum = 0;
#pragma unroll 4
    for (int64_t j = team.y; j < length; j += team.height)
      sum += f.term(load<C>(dy + at + j * inner), load<C>(y + at + j * inner));
    sum = team.reduce<Sum>(sum, s.parts);
#pragma unroll 4
    for (int64_t j = team.y; j < length; j += team.height) {
      const int64_t here = at + j * inner;
      store(dx + here, f(load<C>(dy + here), load<C>(y + here), sum));
    }
  }
}

void softmax_backward(DType t, const void* dy_, const void* y_, void* dx_, int64_t outer, int64_t n, int64_t inner,
                      bool log) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    const T* y = static_cast<const T*>(y_);
    T* dx = static_cast<T*>(dx_);
    if (inner > 1) {
      const ColumnPlan plan(outer * inner, n);
      return launch(softmax_column_backward_kernel<T>, plan.grid, plan.block, sizeof(ColumnShared<C>), dy, y, dx,
                    outer * inner, n, inner, plan.width, log);
    }
    const int64_t chunks = ceil_div(n, kChunk);
    if (chunks > 1 && outer < kFewRows) {
      Scratch<C> partial(outer * chunks);
      const dim3 grid = {unsigned(chunks), unsigned(outer)};
      launch(chunk_gradient_sum_kernel<T>, grid, kChunkBlock, sizeof(RowShared<C>), dy, y, partial.get(), n, log);
      return launch(softmax_chunk_backward_kernel<T>, grid, kChunkBlock, sizeof(RowShared<C>), dy, y, dx, partial.get(),
                    n, log);
    }
    const TeamPlan plan = TeamPlan::of(dy, outer, n, kHeldPacks<T>, kBackwardBlock);
    if (plan.fits)
      return launch(softmax_row_backward_kernel<T>, plan.grid, plan.block, sizeof(RowShared<C>), dy, y, dx, outer,
                    int(n), plan.width, log);
    launch(softmax_long_row_backward_kernel<T>, plan.grid, plan.block, sizeof(RowShared<C>), dy, y, dx, outer, n, log);
  });
}

// What a row's loss is made of; see the contract.
template <class T> struct CrossEntropy {
  using C = compute_t<T>;
  const CrossEntropyArgs& a;
  const T *x, *q;
  const C* weight;
  C *max, *scale;
  C smoothing, spread;  // spread: what smoothing gives each class

  __device__ explicit CrossEntropy(const CrossEntropyArgs& a_)
      : a(a_),
        x(static_cast<const T*>(a_.x)),
        q(static_cast<const T*>(a_.probabilities)),
        weight(static_cast<const C*>(a_.weight)),
        max(static_cast<C*>(a_.stats)),
        scale(max + a_.outer * a_.inner),
        smoothing(C(a_.smoothing)),
        spread(C(a_.smoothing / double(a_.n))) {}

  __device__ C weight_at(int64_t c) const { return weight ? weight[c] : C(1); }
  template <int V> __device__ void load_weights(int64_t first, int64_t n, C (&w)[V]) const {
#pragma unroll
    for (int i = 0; i < V; ++i) w[i] = 1;
    if (weight) load_line(weight, first, n, C(1), w);
  }
  // A class out of range is an error of the front's, but a graph's replay does not wait to be told: it counts for
  // nothing.
  __device__ bool ignored(int64_t row) const {
    return a.target && (a.target[row] == a.ignore_index || uint64_t(a.target[row]) >= uint64_t(a.n));
  }
  // k_c of a probability.
  __device__ C share(C probability, C w) const { return w * (probability * (1 - smoothing) + spread); }
  // Whether a loss takes every class of its row, and so a second look at it.
  __device__ bool dense() const { return !a.target || smoothing != 0; }
  // A thread writes the row's results; all_classes is the sum over classes where the loss is dense. x points at class
  // 0.
  __device__ void finish(int64_t row, const T* x_row, const Stats<C>& s, C log_s, C all_classes, C* losses) const {
    max[row] = s.max;
    scale[row] = 1 / s.sum;
    C loss = all_classes;
    if (ignored(row)) {
      loss = 0;
    } else if (a.target) {
      const int64_t t = a.target[row];
      const C own = weight_at(t) * (log_s - (load<C>(x_row + t * a.inner) - s.max));
      loss = smoothing == 0 ? own : (1 - smoothing) * own + spread * all_classes;
    }
    losses[row] = loss;
  }
};

// chunk_stats: of the chunks of each row, or null.
template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    cross_entropy_row_kernel(const __grid_constant__ CrossEntropyArgs a, const Stats<compute_t<T>>* chunk_stats,
                             int64_t chunks, compute_t<T>* losses, int width) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>;
  auto& s = shared<RowShared<C>>();
  const Team team(width);
  const CrossEntropy<T> ce(a);
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < a.outer; first += int64_t(gridDim.x) * team.count) {
    const int64_t row = first + team.index;
    const bool here = row < a.outer;
    const T* x = ce.x + row * a.n;
    const Packs<T> packs(x, here ? a.n : 0);
    const Stats<C> stats = chunk_stats ? join_chunks(chunk_stats + row * chunks, chunks, team, s.parts)
                                       : row_stats(x, packs, team, s.parts, (T*)nullptr);
    const C log_s = log(stats.sum);
    C all_classes = 0;
    if (ce.dense()) {
      const int64_t step = int64_t(width) * V;
      for (int64_t at = packs.first(team.rank); at < packs.n; at += step) {
        Pack<T, V> v[1], q[1];
        C w[V];
        load_tile(x, at, step, packs.n, packs.even, T{}, v);
        if (ce.q) load_tile(ce.q + row * a.n, at, step, packs.n, packs.even_in(ce.q + row * a.n), T{}, q);
        ce.load_weights(at, packs.n, w);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          if (at + i < 0 || at + i >= packs.n) continue;
          const C k = ce.q ? ce.share(from_element<C>(q[0][i]), w[i]) : w[i];
          all_classes += k * (log_s - (from_element<C>(v[0][i]) - stats.max));
        }
      }
      all_classes = team.reduce<Sum>(all_classes, s.parts);
    }
    if (here && team.rank == 0) ce.finish(row, x, stats, log_s, all_classes, losses);
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    cross_entropy_column_kernel(const __grid_constant__ CrossEntropyArgs a, compute_t<T>* losses, int width) {
  using C = compute_t<T>;
  auto& s = shared<ColumnShared<C>>();
  const ColumnTeam team(width);
  const CrossEntropy<T> ce(a);
  const int64_t columns = a.outer * a.inner;
  for (int64_t first = int64_t(blockIdx.x) * width; first < columns; first += int64_t(gridDim.x) * width) {
    const int64_t row = first + team.x, at = column_at(row, a.n, a.inner), length = row < columns ? a.n : 0;
    const T* x = ce.x + at;
    const Stats<C> stats = column_stats(x, length, a.inner, team, s.parts, (T*)nullptr);
    const C log_s = log(stats.sum);
    C all_classes = 0;
    if (ce.dense()) {
      for (int64_t c = team.y; c < length; c += team.height) {
        const C w = ce.weight_at(c), k = ce.q ? ce.share(load<C>(ce.q + at + c * a.inner), w) : w;
        all_classes += k * (log_s - (load<C>(x + c * a.inner) - stats.max));
      }
      all_classes = team.reduce<Sum>(all_classes, s.parts);
    }
    if (row < columns && team.y == 0) ce.finish(row, x, stats, log_s, all_classes, losses);
  }
}

void cross_entropy_forward(DType t, const CrossEntropyArgs& a, void* losses_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    C* losses = static_cast<C*>(losses_);
    if (a.inner > 1) {
      const ColumnPlan plan(a.outer * a.inner, a.n);
      return launch(cross_entropy_column_kernel<T>, plan.grid, plan.block, sizeof(ColumnShared<C>), a, losses,
                    plan.width);
    }
    const T* x = static_cast<const T*>(a.x);
    const TeamPlan plan = TeamPlan::of(x, a.outer, a.n, kHeldPacks<T>);
    const int64_t chunks = ceil_div(a.n, kChunk);
    if (chunks > 1 && a.outer < kFewRows) {
      Scratch<Stats<C>> partial(a.outer * chunks);
      launch(chunk_stats_kernel<T>, dim3(unsigned(chunks), unsigned(a.outer)), kChunkBlock, sizeof(RowShared<C>), x,
             partial.get(), a.n);
      return launch(cross_entropy_row_kernel<T>, plan.grid, plan.block, sizeof(RowShared<C>), a, partial.get(), chunks,
                    losses, plan.width);
    }
    launch(cross_entropy_row_kernel<T>, plan.grid, plan.block, sizeof(RowShared<C>), a, nullptr, 0, losses, plan.width);
  });
}

template <class C> struct LossSums {
  C loss = 0, weight = 0;

  template <class T> __device__ void finish(bool mean, bool weighted, C* total, T* out) const {
    if (mean && weighted) total[0] = weight;
    store(out, mean ? loss / total[0] : loss);
  }
};

// Sums of kSumPiece rows; a single piece is the result.
template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    loss_sums_kernel(const __grid_constant__ CrossEntropyArgs a, const compute_t<T>* __restrict__ losses, bool mean,
                     LossSums<compute_t<T>>* partial, compute_t<T>* total, T* out) {
  using C = compute_t<T>;
  auto& s = shared<RowShared<C>>();
  const CrossEntropy<T> ce(a);
  const int64_t begin = blockIdx.x * kSumPiece, rows = a.outer * a.inner;
  const int64_t end = rows - begin < kSumPiece ? rows : begin + kSumPiece;
  LossSums<C> sums;
  for (int64_t row = begin + threadIdx.x; row < end; row += blockDim.x) {
    sums.loss += losses[row];
    if (mean && a.target && !ce.ignored(row)) sums.weight += ce.weight_at(a.target[row]);
  }
  sums.loss = block_reduce<Sum>(sums.loss, s.parts);
  sums.weight = block_reduce<Sum>(sums.weight, s.parts);
  if (threadIdx.x > 0) return;
  if (gridDim.x == 1)
    sums.finish(mean, a.target, total, out);
  else
    partial[blockIdx.x] = sums;
}

template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    join_loss_sums_kernel(const LossSums<compute_t<T>>* __restrict__ partial, int64_t pieces, bool mean, bool weighted,
                          compute_t<T>* total, T* out) {
  using C = compute_t<T>;
  auto& s = shared<RowShared<C>>();
  LossSums<C> sums;
  for (int64_t p = threadIdx.x; p < pieces; p += blockDim.x) {
    sums.loss += partial[p].loss;
    sums.weight += partial[p].weight;
  }
  sums.loss = block_reduce<Sum>(sums.loss, s.parts);
  sums.weight = block_reduce<Sum>(sums.weight, s.parts);
  if (threadIdx.x == 0) sums.finish(mean, weighted, total, out);
}

void cross_entropy_reduce(DType t, const CrossEntropyArgs& a, const void* losses, bool mean, void* total_, void* out_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    C* total = static_cast<C*>(total_);
    T* out = static_cast<T*>(out_);
    const int64_t rows = a.outer * a.inner, pieces = rows > 0 ? ceil_div(rows, kSumPiece) : 1;
    const int block = rows < kMaxBlock ? int(ceil_div(rows > 0 ? rows : 1, 32) * 32) : kMaxBlock;
    Scratch<LossSums<C>> partial(pieces);
    launch(loss_sums_kernel<T>, dim3(unsigned(pieces)), block, sizeof(RowShared<C>), a, static_cast<const C*>(losses),
           mean, partial.get(), total, out);
    if (pieces > 1)
      launch(join_loss_sums_kernel<T>, 1, kMaxBlock, sizeof(RowShared<C>), partial.get(), pieces, mean,
             a.target != nullptr, total, out);
  });
}

// The loss of a row is sum_c k_c (log s + m - x_c), so dx_c = g (p_c sum_d k_d - k_c) with p_c = exp(x_c - m) / s, and
// dq_c = g w_c (1 - smoothing) (log s + m - x_c); g = dy / total.
// Class indices:  k_c = spread w_c + [c == t] (1 - smoothing) w_t.   Probabilities:  k_c = w_c ((1 - smoothing) q_c +
// spread).
template <class T> struct CrossEntropyBackward : CrossEntropy<T> {
  using typename CrossEntropy<T>::C;
  const C* dy;
  bool dy_per_row;
  C once, all_weights;  // all_weights: sum_c w_c

  __device__ CrossEntropyBackward(const CrossEntropyArgs& a, const C* dy_, bool dy_per_row_, const C* total,
                                  const C* weight_sum)
      : CrossEntropy<T>(a),
        dy(dy_),
        dy_per_row(dy_per_row_),
        once(total ? 1 / total[0] : C(1)),
        all_weights(weight_sum ? weight_sum[0] : C(a.n)) {}

  __device__ C gradient_of(int64_t row) const { return dy[dy_per_row ? row : 0] * once; }
  __device__ C own_share(int64_t t) const { return (1 - this->smoothing) * this->weight_at(t); }
};

// The sum of the class weights, by one block.
template <class C> __global__ void __launch_bounds__(kMaxBlock) weight_sum_kernel(const C* weight, int64_t n, C* sum) {
  auto& s = shared<RowShared<C>>();
  C mine = 0;
  for (int64_t c = threadIdx.x; c < n; c += blockDim.x) mine += weight[c];
  mine = block_reduce<Sum>(mine, s.parts);
  if (threadIdx.x == 0) *sum = mine;
}

// Of class indices; a row is cut into pieces of `piece` elements.
// hot: no spills
template <class T>
__global__ void __launch_bounds__(kBackwardBlock, 1)
    cross_entropy_row_backward_kernel(const __grid_constant__ CrossEntropyArgs a, const compute_t<T>* dy,
                                      bool dy_per_row, const compute_t<T>* total, const compute_t<T>* weight_sum,
                                      T* dx_, int64_t piece, int width) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T> / 2;
  const Team team(width);
  const CrossEntropyBackward<T> ce(a, dy, dy_per_row, total, weight_sum);
  const C* line = ce.weight && ce.smoothing != 0 ? ce.weight : nullptr;
  const int64_t pieces = (a.n + piece - 1) / piece, units = a.outer * pieces;
  const int step = width * V;
  for (int64_t unit = int64_t(blockIdx.x) * team.count + team.index; unit < units;
       unit += int64_t(gridDim.x) * team.count) {
    const int64_t row = unit / pieces, begin = unit % pieces * piece;
    const T* x = ce.x + row * a.n + begin;
    T* dx = dx_ + row * a.n + begin;
    const Packs<T> packs(x, a.n - begin < piece ? a.n - begin : piece);
    const bool ignored = ce.ignored(row), even_dx = packs.even_in(dx);
    const int n = int(packs.n);
    int own = -1;
    C m = 0, own_share = 0, factor = 0, uniform = 0;
    if (!ignored) {
      const int64_t t = a.target[row];
      const C g = ce.gradient_of(row);
      m = ce.max[row];
      own_share = ce.own_share(t);
      factor = g * ce.scale[row] * (own_share + ce.spread * ce.all_weights);
      own_share *= g;
      uniform = g * ce.spread;
      own = t >= begin && t < begin + n ? int(t - begin) : -1;
    }
    for (int at = team.rank * V - packs.shift; at < n; at += K * step) {
      Pack<T, V> tile[K];
      load_tile(x, at, step, n, packs.even, T{}, tile);
      C d[K][V];
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const int first = at + k * step;
        C w[V];
#pragma unroll
        for (int i = 0; i < V; ++i) w[i] = 1;
        if (line) load_line(line + begin, first, n, C(0), w);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const C less = uniform * w[i] + (first + i == own ? own_share : C(0));
          d[k][i] = ignored ? C(0) : exp(from_element<C>(tile[k][i]) - m) * factor - less;
        }
      }
      store_tile(dx, at, step, n, even_dx, d);
    }
  }
}

// Of class probabilities.
template <class T>
__global__ void __launch_bounds__(kBackwardBlock)
    cross_entropy_probability_backward_kernel(const __grid_constant__ CrossEntropyArgs a, const compute_t<T>* dy,
                                              bool dy_per_row, const compute_t<T>* total, T* dx_, T* dq_, int width) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>;
  auto& s = shared<RowShared<C>>();
  const Team team(width);
  const CrossEntropyBackward<T> ce(a, dy, dy_per_row, total, nullptr);
  const int64_t step = int64_t(width) * V;
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < a.outer; first += int64_t(gridDim.x) * team.count) {
    const int64_t row = first + team.index;
    const T *x = ce.x + row * a.n, *q = ce.q + row * a.n;
    const Packs<T> packs(x, row < a.outer ? a.n : 0);
    const bool even_q = packs.even_in(q);
    C factor = 0;
    for (int64_t at = packs.first(team.rank); at < packs.n; at += step) {
      Pack<T, V> share[1];
      C w[V];
      load_tile(q, at, step, packs.n, even_q, T{}, share);
      ce.load_weights(at, packs.n, w);
#pragma unroll
      for (int i = 0; i < V; ++i)
        if (at + i >= 0 && at + i < packs.n) factor += ce.share(from_element<C>(share[0][i]), w[i]);
    }
    factor = team.reduce<Sum>(factor, s.parts);
    if (row >= a.outer) continue;
    const C m = ce.max[row], p_scale = ce.scale[row], g = ce.gradient_of(row);
    const C log_s = -log(p_scale), g_q = g * (1 - ce.smoothing);
    T *dx = dx_ + row * a.n, *dq = dq_ ? dq_ + row * a.n : nullptr;
    factor *= p_scale;
    for (int64_t at = packs.first(team.rank); at < packs.n; at += step) {
      Pack<T, V> v[1], share[1];
      C w[V], d[1][V], d_q[1][V];
      load_tile(x, at, step, packs.n, packs.even, T{}, v);
      load_tile(q, at, step, packs.n, even_q, T{}, share);
      ce.load_weights(at, packs.n, w);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const C centred = from_element<C>(v[0][i]) - m;
        d[0][i] = (exp(centred) * factor - ce.share(from_element<C>(share[0][i]), w[i])) * g;
        d_q[0][i] = (log_s - centred) * g_q * w[i];
      }
      store_tile(dx, at, step, packs.n, packs.even_in(dx), d);
      if (dq) store_tile(dq, at, step, packs.n, packs.even_in(dq), d_q);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    cross_entropy_column_backward_kernel(const __grid_constant__ CrossEntropyArgs a, const compute_t<T>* dy,
                                         bool dy_per_row, const compute_t<T>* total, const compute_t<T>* weight_sum,
                                         T* dx, T* dq, int width) {
  using C = compute_t<T>;
  auto& s = shared<ColumnShared<C>>();
  const ColumnTeam team(width);
  const CrossEntropyBackward<T> ce(a, dy, dy_per_row, total, weight_sum);
  const int64_t columns = a.outer * a.inner;
  for (int64_t first = int64_t(blockIdx.x) * width; first < columns; first += int64_t(gridDim.x) * width) {
    const int64_t row = first + team.x, at = column_at(row, a.n, a.inner), length = row < columns ? a.n : 0;
    C factor = 0;
    if (ce.q) {
      for (int64_t c = team.y; c < length; c += team.height)
        factor += ce.share(load<C>(ce.q + at + c * a.inner), ce.weight_at(c));
      factor = team.reduce<Sum>(factor, s.parts);
    }
    if (row >= columns) continue;
    const bool live = !ce.ignored(row);
    const int64_t t = a.target && live ? a.target[row] : -1;
    const C m = ce.max[row], p_scale = ce.scale[row], g = ce.gradient_of(row);
    if (t >= 0) factor = ce.own_share(t) + ce.spread * ce.all_weights;
    factor *= p_scale * g;
    const C log_s = -log(p_scale);
#pragma unroll 4
    for (int64_t c = team.y; c < length; c += team.height) {
      const int64_t here = at + c * a.inner;
      const C w = ce.dense() ? ce.weight_at(c) : C(0), centred = load<C>(ce.x + here) - m;
      C k = a.target ? ce.spread * w : ce.share(load<C>(ce.q + here), w);
      if (c == t) k += ce.own_share(t);
      store(dx + here, live ? exp(centred) * factor - k * g : C(0));
      if (dq) store(dq + here, (log_s - centred) * g * (w * (1 - ce.smoothing)));
    }
  }
}

void cross_entropy_backward(DType t, const CrossEntropyArgs& a, const void* dy_, bool dy_per_row, const void* total_,
                            void* dx_, void* dq_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const C* dy = static_cast<const C*>(dy_);
    const C* total = static_cast<const C*>(total_);
    T* dx = static_cast<T*>(dx_);
    T* dq = static_cast<T*>(dq_);
    Scratch<C> all_weights(1);
    const C* weight_sum = nullptr;
    if (a.weight && a.target && a.smoothing != 0) {
      launch(weight_sum_kernel<C>, 1, kMaxBlock, sizeof(RowShared<C>), static_cast<const C*>(a.weight), a.n,
             all_weights.get());
      weight_sum = all_weights;
    }
    if (a.inner > 1) {
      const ColumnPlan plan(a.outer * a.inner, a.n);
      return launch(cross_entropy_column_backward_kernel<T>, plan.grid, plan.block, sizeof(ColumnShared<C>), a, dy,
                    dy_per_row, total, weight_sum, dx, dq, plan.width);
    }
    const T* x = static_cast<const T*>(a.x);
    if (a.probabilities) {
      const TeamPlan plan = TeamPlan::of(x, a.outer, a.n, kHeldPacks<T>, kBackwardBlock);
      return launch(cross_entropy_probability_backward_kernel<T>, plan.grid, plan.block, sizeof(RowShared<C>), a, dy,
                    dy_per_row, total, dx, dq, plan.width);
    }
    const int64_t piece = a.n > kChunk ? kChunk : a.n;
    const TeamPlan plan = TeamPlan::of(x, a.outer * ceil_div(a.n, piece), piece, kHeldPacks<T>, kBackwardBlock);
    launch(cross_entropy_row_backward_kernel<T>, plan.grid, plan.block, 0, a, dy, dy_per_row, total, weight_sum, dx,
           piece, plan.width);
  });
}

// Where the element of a row's own class lies.
__device__ inline int64_t own_element(const CrossEntropyArgs& a, int64_t row) {
  return (row / a.inner * a.n + a.target[row]) * a.inner + row % a.inner;
}

template <class T> __global__ void nll_kernel(const __grid_constant__ CrossEntropyArgs a, compute_t<T>* losses) {
  using C = compute_t<T>;
  const CrossEntropy<T> ce(a);
  for (int64_t row = first_item(); row < a.outer * a.inner; row += item_step())
    losses[row] = ce.ignored(row) ? C(0) : -ce.weight_at(a.target[row]) * load<C>(ce.x + own_element(a, row));
}

void nll_forward(DType t, const CrossEntropyArgs& a, void* losses) {
  dispatch_floating(t, [&]<class T>() {
    launch(nll_kernel<T>, grid_for(a.outer * a.inner, 256), 256, 0, a, static_cast<compute_t<T>*>(losses));
  });
}

// loss = -w_t x_t / total, so dx_t = -w_t dy / total and every other element has no part.
template <class T>
__global__ void nll_backward_kernel(const __grid_constant__ CrossEntropyArgs a, const compute_t<T>* dy, bool dy_per_row,
                                    const compute_t<T>* total, T* dx) {
  const CrossEntropyBackward<T> ce(a, dy, dy_per_row, total, nullptr);
  for (int64_t row = first_item(); row < a.outer * a.inner; row += item_step())
    if (!ce.ignored(row)) store(dx + own_element(a, row), -ce.weight_at(a.target[row]) * ce.gradient_of(row));
}

void nll_backward(DType t, const CrossEntropyArgs& a, const void* dy, bool dy_per_row, const void* total, void* dx) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    launch(nll_backward_kernel<T>, grid_for(a.outer * a.inner, 256), 256, 0, a, static_cast<const C*>(dy), dy_per_row,
           static_cast<const C*>(total), static_cast<T*>(dx));
  });
}

__global__ void find_bad_class_kernel(const int64_t* __restrict__ target, int64_t n, int64_t classes,
                                      int64_t ignore_index, BadPosition* bad) {
  for (int64_t i = first_item(); i < n; i += item_step())
    if ((target[i] < 0 || target[i] >= classes) && target[i] != ignore_index) report_bad(bad, i);
}

int64_t find_bad_class(const int64_t* target, int64_t n, int64_t classes, int64_t ignore_index) {
  FirstBad bad;
  launch(find_bad_class_kernel, grid_for(n, 256), 256, 0, target, n, classes, ignore_index, bad.get());
  return bad.result();
}

}  // namespace

const SoftmaxKernels softmax_kernels = {softmax_forward,      softmax_backward,       cross_entropy_forward,
                                        cross_entropy_reduce, cross_entropy_backward, nll_forward,
                                        nll_backward,         find_bad_class};

}  // namespace gg::cuda
