// Scans on a GPU. A scan combines states, one an element, by an associative operation: numbers by + or *, values with
// their places, pairs (a, b) that stand for y -> a y + b.
//
// Over the last axis lanes scan neighbouring elements by doubling steps (Hillis and Steele 1986, "Data parallel
// algorithms"): part of a warp a short row, a block a long one, tile after tile with a carry. Over another axis a
// thread goes down a column, neighbours beside it. Where there are too few rows or columns to fill the device they are
// cut into chunks, which are first totalled, then scanned, each from the total before it. float and the 16-bit types
// accumulate in double.
#include "ops/scan/scan.h"

#include "cuda/launch.h"
#include "cuda/number.h"
#include "cuda/warp.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kEach = 4, kTile = kThreads * kEach;
constexpr int64_t kChunk = 8 * kTile;  // elements of a row between two carries
constexpr int64_t kShort = 256;        // a row up to this long is one warp's at most

// The elements of a scan: which state an element is, how states combine, what is stored.
template <class T> struct wide_of { using type = double; };
template <> struct wide_of<int64_t> { using type = int64_t; };

struct Plus {
  template <class A> static __device__ A of(A a, A b) { return a + b; }
  static __device__ int64_t of(int64_t a, int64_t b) { return int64_t(uint64_t(a) + uint64_t(b)); }  // wraps
  static constexpr int identity = 0;
};
struct Times {
  template <class A> static __device__ A of(A a, A b) { return a * b; }
  static __device__ int64_t of(int64_t a, int64_t b) { return int64_t(uint64_t(a) * uint64_t(b)); }
  static constexpr int identity = 1;
};
template <class T, class Op> struct Numbers {
  using State = typename wide_of<T>::type;
  const T* x;
  T* y;
  __device__ State identity() const { return Op::identity; }
  __device__ State load(int64_t at, int64_t) const { return from_element<State>(x[at]); }
  __device__ State combine(State a, State b) const { return Op::of(a, b); }
  __device__ void store(int64_t at, State s) const { y[at] = to_element<T>(s); }
};
template <class T> struct LogSumExp {
  using State = double;
  const T* x;
  T* y;
  __device__ State identity() const { return -INFINITY; }
  __device__ State load(int64_t at, int64_t) const { return from_element<double>(x[at]); }
  __device__ State combine(State a, State b) const {
    const double high = a > b || a != a ? a : b, low = a > b || a != a ? b : a;
    return high - high != 0 ? high + (low != low ? low : 0) : high + log1p(exp(low - high));
  }
  __device__ void store(int64_t at, State s) const { y[at] = to_element<T>(s); }
};
// The last of equal extremes counts, and any NaN more than a number.
template <class T> struct Extremum {
  using C = compute_t<T>;
  struct State {
    int64_t at;  // -1: nothing yet
    C value;
  };
  const T* x;
  T* values;
  int64_t* indices;
  bool largest;
  __device__ State identity() const { return {-1, C(0)}; }
  __device__ State load(int64_t at, int64_t k) const { return {k, cuda::load(x + at)}; }
  __device__ State combine(State a, State b) const {
    if (a.at < 0 || b.at < 0) return a.at < 0 ? b : a;
    const bool later =
        b.value != b.value || (a.value == a.value && (largest ? b.value >= a.value : b.value <= a.value));
    return later ? b : a;
  }
  __device__ void store(int64_t at, State s) const {
    values[at] = to_element<T>(s.value);
    indices[at] = s.at;
  }
};
// y_k = b_k + a_k y_(k-1): element k is the map y -> a y + b, the first one without a.
template <class T> struct Linear {
  using C = compute_t<T>;
  struct State { C a, b; };
  const T *a, *b;
  T* y;
  __device__ State identity() const { return {C(1), C(0)}; }
  __device__ State load(int64_t at, int64_t k) const {
    return {k == 0 ? C(0) : cuda::load(a + at), cuda::load(b + at)};
  }
  __device__ State combine(State f, State g) const { return {f.a * g.a, g.b + g.a * f.b}; }
  __device__ void store(int64_t at, State s) const { y[at] = to_element<T>(s.b); }
};

// Column u of dense (outer, n, inner): element k of the scan lies at at(k).
struct Column {
  int64_t base, n, inner;
  bool reverse;
  __device__ Column(int64_t u, int64_t n_, int64_t inner_, bool reverse_)
      : base(u / inner_ * n_ * inner_ + u % inner_), n(n_), inner(inner_), reverse(reverse_) {}
  __device__ int64_t at(int64_t k) const { return base + (reverse ? n - 1 - k : k) * inner; }
};

struct Shape {
  int64_t columns, n, inner;
  bool reverse;
  int64_t chunk, chunks;
};

// The combination of the states of the lanes before this one and its own, in groups of `width` lanes.
template <class S> __device__ inline typename S::State scan_lanes(const S& s, typename S::State state, int width) {
  const int rank = threadIdx.x % width;
  for (int step = 1; step < width; step *= 2) {
    const typename S::State before = shuffle_up(state, step);
    if (rank >= step) state = s.combine(before, state);
  }
  return state;
}

// Rows of at most kShort elements, `width` lanes each.
template <class S> __global__ void scan_short_kernel(const S s, const Shape shape, int width) {
  const int rank = threadIdx.x % width;
  const int64_t rows_at_once = item_step() / width, last = (shape.columns + 31) / 32 * 32;
  // Lanes of a warp whose row does not exist take part in its shuffles.
  for (int64_t row = first_item() / width; row < last; row += rows_at_once) {
    const bool exists = row < shape.columns;
    const Column c(exists ? row : 0, shape.n, 1, shape.reverse);
    typename S::State carry = s.identity();
    for (int64_t first = 0; first < shape.n; first += width) {
      const int64_t k = first + rank;
      const bool inside = exists && k < shape.n;
      typename S::State state = scan_lanes(s, inside ? s.load(c.at(k), k) : s.identity(), width);
      state = s.combine(carry, state);
      if (inside) s.store(c.at(k), state);
      carry = shuffle(state, (threadIdx.x | (width - 1)) % 32);
    }
  }
}

template <class State> struct BlockStates { State of[kWarps]; };

// A chunk of a row to a block: with kTotals, its combination to totals; else scanned, from carries where there are any.
template <class S, bool kTotals>
__global__ void __launch_bounds__(kThreads)
    scan_rows_kernel(const S s, const Shape shape, const typename S::State* __restrict__ carries,
                     typename S::State* __restrict__ totals) {
  using State = typename S::State;
  BlockStates<State>& warps = shared<BlockStates<State>>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t unit = blockIdx.x; unit < shape.columns * shape.chunks; unit += gridDim.x) {
    const int64_t row = unit % shape.columns, first = unit / shape.columns * shape.chunk;
    const int64_t last = first + shape.chunk < shape.n ? first + shape.chunk : shape.n;
    const Column c(row, shape.n, 1, shape.reverse);
    State carry = carries ? carries[unit] : s.identity();
    for (int64_t tile = first; tile < last; tile += kTile) {
      const int64_t k0 = tile + int64_t(threadIdx.x) * kEach;
      State state[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const State own = k0 + i < last ? s.load(c.at(k0 + i), k0 + i) : s.identity();
        state[i] = i == 0 ? own : s.combine(state[i - 1], own);
      }
      const State upto = scan_lanes(s, state[kEach - 1], 32);
      State before = shuffle_up(upto, 1);
      if (lane == 0) before = s.identity();
      if (lane == 31) warps.of[warp] = upto;
      __syncthreads();
      State start = carry, next = carry;
      for (int w = 0; w < kWarps; ++w) {
        if (w == warp) start = next;
        next = s.combine(next, warps.of[w]);
      }
      __syncthreads();
      carry = next;
      if constexpr (!kTotals) {
        start = s.combine(start, before);
#pragma unroll
        for (int i = 0; i < kEach; ++i)
          if (k0 + i < last) s.store(c.at(k0 + i), s.combine(start, state[i]));
      }
    }
    if (kTotals && threadIdx.x == 0) totals[unit] = carry;
  }
}

// Likewise a chunk of a column to a thread.
template <class S, bool kTotals>
__global__ void scan_columns_kernel(const S s, const Shape shape, const typename S::State* __restrict__ carries,
                                    typename S::State* __restrict__ totals) {
  for (int64_t unit = first_item(); unit < shape.columns * shape.chunks; unit += item_step()) {
    const int64_t first = unit / shape.columns * shape.chunk;
    const int64_t last = first + shape.chunk < shape.n ? first + shape.chunk : shape.n;
    const Column c(unit % shape.columns, shape.n, shape.inner, shape.reverse);
    typename S::State state = carries ? carries[unit] : s.identity();
    for (int64_t k = first; k < last; ++k) {
      state = s.combine(state, s.load(c.at(k), k));
      if constexpr (!kTotals) s.store(c.at(k), state);
    }
    if constexpr (kTotals) totals[unit] = state;
  }
}

// Totals of chunks become what comes before each.
template <class S> __global__ void carry_kernel(const S s, const Shape shape, typename S::State* totals) {
  for (int64_t column = first_item(); column < shape.columns; column += item_step()) {
    typename S::State before = s.identity();
    for (int64_t chunk = 0; chunk < shape.chunks; ++chunk) {
      typename S::State& here = totals[chunk * shape.columns + column];
      const typename S::State total = here;
      here = before;
      before = s.combine(before, total);
    }
  }
}

template <class S> void scan_any(const S& s, int64_t outer, int64_t n, int64_t inner, bool reverse) {
  using State = typename S::State;
  Shape shape{outer * inner, n, inner, reverse, n, 1};
  const bool rows = inner == 1;
  if (rows && n <= kShort) {
    int width = 4;
    while (width < 32 && width < n) width *= 2;
    return launch(scan_short_kernel<S>, grid_for(shape.columns * width, kThreads), dim3(kThreads), 0, s, shape, width);
  }
  // Rows and columns that alone would leave most of the device idle are cut.
  const int64_t units = rows ? shape.columns : ceil_div(shape.columns, kThreads);
  if (n >= 2 * kChunk / (rows ? 1 : 64) && units < 4 * multiprocessors()) {
    shape.chunk = rows ? kChunk : kChunk / 64;
    shape.chunks = ceil_div(n, shape.chunk);
  }
  const int64_t pieces = shape.columns * shape.chunks;
  const size_t bytes = rows ? sizeof(BlockStates<State>) : 0;
  const dim3 grid = rows ? grid_for(pieces, 1) : grid_for(pieces, kThreads);
  const State* none = nullptr;
  if (shape.chunks == 1)
    return launch(rows ? scan_rows_kernel<S, false> : scan_columns_kernel<S, false>, grid, dim3(kThreads), bytes, s,
                  shape, none, static_cast<State*>(nullptr));
  Scratch<State> carries(pieces);
  launch(rows ? scan_rows_kernel<S, true> : scan_columns_kernel<S, true>, grid, dim3(kThreads), bytes, s, shape, none,
         carries.get());
  launch(carry_kernel<S>, grid_for(shape.columns, 32), dim3(32), 0, s, shape, carries.get());
  launch(rows ? scan_rows_kernel<S, false> : scan_columns_kernel<S, false>, grid, dim3(kThreads), bytes, s, shape,
         static_cast<const State*>(carries.get()), static_cast<State*>(nullptr));
}

template <class F> void dispatch_scan(DType t, F&& f) {
  if (t == DType::Int64) return f.template operator()<int64_t>();
  dispatch_floating(t, f);
}

void scan(Scan op, DType t, const void* x_, void* y_, int64_t outer, int64_t n, int64_t inner, bool reverse) {
  dispatch_scan(t, [&]<class T>() {
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    if (op == Scan::Sum) return scan_any(Numbers<T, Plus>{x, y}, outer, n, inner, reverse);
    if (op == Scan::Prod) return scan_any(Numbers<T, Times>{x, y}, outer, n, inner, reverse);
    scan_any(LogSumExp<T>{x, y}, outer, n, inner, reverse);
  });
}

void extremum(DType t, bool largest, const void* x, void* values, int64_t* indices, int64_t outer, int64_t n,
              int64_t inner) {
  dispatch_all(t, [&]<class T>() {
    scan_any(Extremum<T>{static_cast<const T*>(x), static_cast<T*>(values), indices, largest}, outer, n, inner, false);
  });
}

void linear(DType t, const void* a, const void* b, void* y, int64_t outer, int64_t n, int64_t inner, bool reverse) {
  dispatch_floating(t, [&]<class T>() {
    scan_any(Linear<T>{static_cast<const T*>(a), static_cast<const T*>(b), static_cast<T*>(y)}, outer, n, inner,
             reverse);
  });
}

}  // namespace

const ScanKernels scan_kernels = {scan, extremum, linear};

}  // namespace gg::cuda
