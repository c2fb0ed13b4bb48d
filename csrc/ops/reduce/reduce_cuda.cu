// Reductions on the GPU, whichever axes are reduced.
//
// Rows: the axis of stride 1 is reduced; a team of threads (cuda/teams.h) takes up to kChunk elements of an output, in
// packs of 16 bytes. Columns: the axis of stride 1 is kept; neighbouring threads take neighbouring columns, and several
// share one. More elements are cut into chunks, whose results a second launch joins, so that no thread adds more than a
// few dozen numbers one by one and none waits for one block. Sizes alone decide what is joined with what.
//
// Numbers of a pack are summed pairwise; var joins moments as Chan, Golub and LeVeque (1983), logsumexp maxima and
// sums.
#include "ops/reduce/reduce.h"

#include <math.h>

#include "core/dispatch.h"
#include "cuda/math.h"
#include "cuda/offsets.h"
#include "cuda/teams.h"

namespace gg::cuda {
namespace {

constexpr int kBlock = 256;
constexpr int kTeamPacks = 8;                     // packs of a row that a thread takes before more threads share it
constexpr int64_t kThreadPacks = 16;              // packs that it takes at most
constexpr int64_t kThreadRows = 64;               // rows that a thread of a column takes at most
constexpr int kPacksAtOnce = 4, kRowsAtOnce = 8;  // read before they are computed with

// How elements are accumulated: whole numbers in int64_t.
template <class T> using accumulate_t = std::conditional_t<kWhole<compute_t<T>>, int64_t, compute_t<T>>;

template <class A> __device__ inline A wrapping_add(A a, A b) {
  if constexpr (kWhole<A>)
    return A(uint64_t(a) + uint64_t(b));
  else
    return a + b;
}
template <class A> __device__ inline A wrapping_multiply(A a, A b) {
  if constexpr (kWhole<A>)
    return A(uint64_t(a) * uint64_t(b));
  else
    return a * b;
}

// y[i] = x, where y holds elements of type t. (One switch an output: writers need not be compiled for each type.)
template <class A> __device__ void store_as(DType t, void* y, int64_t i, A x) {
  if constexpr (kWhole<A>) {
    switch (t) {
      case DType::Int64: static_cast<int64_t*>(y)[i] = x; break;
      case DType::Int32: static_cast<int32_t*>(y)[i] = int32_t(x); break;
      case DType::Int16: static_cast<int16_t*>(y)[i] = int16_t(x); break;
      default: static_cast<uint8_t*>(y)[i] = uint8_t(x);
    }
  } else {
    switch (t) {
      case DType::Float16: store(static_cast<float16*>(y) + i, x); break;
      case DType::BFloat16: store(static_cast<bfloat16*>(y) + i, x); break;
      case DType::Float64: store(static_cast<double*>(y) + i, x); break;
      default: store(static_cast<float*>(y) + i, x);
    }
  }
}

// v combined by halves.
template <int N, class A, class F> __device__ inline A fold(const A (&v)[N], const F& f) {
  A w[N];
#pragma unroll
  for (int i = 0; i < N; ++i) w[i] = v[i];
#pragma unroll
  for (int half = N / 2; half > 0; half /= 2)
#pragma unroll
    for (int i = 0; i < half; ++i) w[i] = f(w[i], w[i + half]);
  return w[0];
}

template <class A> __device__ __noinline__ A power(A x, A p) { return pow(x, p); }

// The reducers. Each has accumulators (Part), what they are of no element, add for N elements, the first of which has
// the given place among the output's and the next ones `step` further, join for what came after, and finish for output
// o. N is a power of two.

enum class Kind : uint8_t { Sum, NanSum, Prod, Max, Min, Norm1, Norm2, NormP, Any, All, Count };

template <class A_> struct Number {
  using A = A_;
  using Part = A_;
  Kind kind;
  DType type;  // of y
  void* y;
  A parameter;
  int64_t bits;  // of an element that Any, All and Count look at: not the sign of a float, of which a zero may have two
  int64_t n;

  __device__ Part none() const {
    if (kind == Kind::Prod) return 1;
    if constexpr (kWhole<A>)
      return kind == Kind::Max ? INT64_MIN : kind == Kind::Min ? INT64_MAX : 0;
    else
      return kind == Kind::Max ? A(-INFINITY) : kind == Kind::Min ? A(INFINITY) : A(0);
  }
  // A NaN is taken, and once taken nothing compares beyond it.
  static __device__ A larger(A a, A b) { return b > a || b != b ? b : a; }
  static __device__ A smaller(A a, A b) { return b < a || b != b ? b : a; }

  template <int N> __device__ void add(Part& part, const A (&x)[N], int64_t, int64_t) const {
    A v[N];
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = x[i];
    if constexpr (kWhole<A>) {
      if (kind >= Kind::Any)
#pragma unroll
        for (int i = 0; i < N; ++i) v[i] = (x[i] & bits) != 0;
    } else {
      switch (kind) {
        case Kind::NanSum:
#pragma unroll
          for (int i = 0; i < N; ++i) v[i] = x[i] == x[i] ? x[i] : A(0);
          break;
        case Kind::Norm1:
#pragma unroll
          for (int i = 0; i < N; ++i) v[i] = fabs(x[i]);
          break;
        case Kind::Norm2:
#pragma unroll
          for (int i = 0; i < N; ++i) v[i] = x[i] * x[i];
          break;
        case Kind::NormP:
#pragma unroll
          for (int i = 0; i < N; ++i) v[i] = power(fabs(x[i]), parameter);
          break;
        default: break;
      }
    }
    join(part, combine(v));
  }
  __device__ void join(Part& a, const Part& b) const {
    const A both[2] = {a, b};
    a = combine(both);
  }
  template <int N> __device__ A combine(const A (&v)[N]) const {
    switch (kind) {
      case Kind::Prod: return fold(v, wrapping_multiply<A>);
      case Kind::Max: return fold(v, larger);
      case Kind::Min: return fold(v, smaller);
      default: return fold(v, wrapping_add<A>);
    }
  }
  __device__ void finish(const Part& part, int64_t o) const {
    A x = part;
    if constexpr (kWhole<A>) {
      if (kind == Kind::Any) x = part > 0;
      if (kind == Kind::All) x = part == n;
    } else {
      if (kind == Kind::Sum || kind == Kind::NanSum) x = part / parameter;
      if (kind == Kind::Norm2) x = sqrt(part);
      if (kind == Kind::NormP) x = pow(part, 1 / parameter);
    }
    store_as(type, y, o, x);
  }
};

template <class A_> struct Variance {
  using A = A_;
  struct Part { A count, mean, m2; };
  DType type;
  void *var, *mean;  // mean may be null
  A divisor;
  bool root;

  __device__ Part none() const { return {0, 0, 0}; }
  template <int N> __device__ void add(Part& part, const A (&x)[N], int64_t, int64_t) const {
    const A mean = N == 1 ? x[0] : fold(x, wrapping_add<A>) / N;
    A squares[N];
#pragma unroll
    for (int i = 0; i < N; ++i) squares[i] = (x[i] - mean) * (x[i] - mean);
    join(part, {A(N), mean, fold(squares, wrapping_add<A>)});
  }
  __device__ void join(Part& a, const Part& b) const {
    if (b.count == 0) return;
    if (a.count == 0) {
      a = b;
      return;
    }
    const A n = a.count + b.count, delta = b.mean - a.mean, share = b.count / n;
    a.mean += delta * share;
    a.m2 += b.m2 + delta * delta * (a.count * share);
    a.count = n;
  }
  __device__ void finish(const Part& part, int64_t o) const {
    const A v = part.m2 / divisor;
    store_as(type, var, o, root ? A(sqrt(v)) : v);
    if (mean) store_as(type, mean, o, part.mean);
  }
};

template <class A_> struct LogSumExp {
  using A = A_;
  struct Part { A max, sum; };  // sum of exp(x - shift(max))
  DType type;
  void* y;

  __device__ Part none() const { return {A(-INFINITY), 0}; }
  // An infinite maximum is not subtracted: inf - inf is NaN.
  static __device__ A shift(A max) { return isfinite(max) ? max : A(0); }
  template <int N> __device__ void add(Part& part, const A (&x)[N], int64_t, int64_t) const {
    A top = part.max;
#pragma unroll
    for (int i = 0; i < N; ++i) top = fmax(top, x[i]);  // passes over NaN, which shows in the sum
    const A by = shift(top);
    part.sum *= exp(part.max - by);
#pragma unroll
    for (int i = 0; i < N; ++i) part.sum += exp(x[i] - by);
    part.max = top;
  }
  __device__ void join(Part& a, const Part& b) const {
    const A top = fmax(a.max, b.max), by = shift(top);
    a.sum = a.sum * exp(a.max - by) + b.sum * exp(b.max - by);
    a.max = top;
  }
  __device__ void finish(const Part& part, int64_t o) const {
    store_as(type, y, o, A(log(part.sum)) + shift(part.max));
  }
};

template <class A_> struct Extremum {
  using A = A_;
  struct Part {
    A value;
    int64_t index;  // negative: none
  };
  DType type;
  void* values;  // may be null
  int64_t* indices;
  bool largest;

  __device__ Part none() const { return {0, -1}; }
  __device__ bool better(A a, A b) const { return largest ? a > b : a < b; }
  // Of one thread the elements come in order, so an equal one never takes the place of the first.
  template <int N> __device__ void add(Part& part, const A (&x)[N], int64_t place, int64_t step) const {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (part.index < 0 || (part.value == part.value && (better(x[i], part.value) || x[i] != x[i])))
        part = {x[i], place + i * step};
  }
  __device__ void join(Part& a, const Part& b) const {
    if (b.index < 0) return;
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value, first = b.index < a.index;
    const bool equal = a_nan || b_nan ? a_nan && b_nan : a.value == b.value;
    if (a.index < 0 || (equal ? first : b_nan || (!a_nan && better(b.value, a.value)))) a = b;
  }
  __device__ void finish(const Part& part, int64_t o) const {
    if (values) store_as(type, values, o, part.value);
    indices[o] = part.index;
  }
};

template <class Part> struct Shared { Part parts[kBlock]; };

// Of a team; its first thread gets the result.
template <class R>
__device__ typename R::Part join_team(const R& r, typename R::Part part, const Team& team, typename R::Part* parts) {
  const int width = team.width < 32 ? team.width : 32;
  for (int step = width / 2; step > 0; step /= 2) r.join(part, shuffle_xor(part, step));
  if (team.width <= 32) return part;
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = part;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int w = 1; w < int(blockDim.x) / 32; ++w) r.join(part, parts[w]);
  __syncthreads();
  return part;
}
// Of the threads of a column; those with y == 0 get the result.
template <class R>
__device__ typename R::Part join_column(const R& r, typename R::Part part, const ColumnTeam& team,
                                        typename R::Part* parts) {
  for (int half = team.height / 2; half > 0; half /= 2) {
    parts[threadIdx.x] = part;
    __syncthreads();
    if (team.y < half) r.join(part, parts[threadIdx.x + half * team.width]);
    __syncthreads();
  }
  return part;
}

Offsets<1> offsets_of(const Axes& axes, int ndim) {
  Loop<1> loop{};
  loop.ndim = ndim > 0 ? ndim : 1;
  loop.numel = loop.shape[0] = 1;
  for (int d = 0; d < ndim; ++d) {
    loop.shape[d] = axes.shape[d];
    loop.stride[0][d] = axes.stride[d];
    loop.numel *= axes.shape[d];
  }
  return Offsets<1>(loop);
}
__device__ inline int64_t offset_of(const Offsets<1>& axes, int64_t i) {
  int64_t offset[1];
  axes.at(i, offset);
  return offset[0];
}

// The elements of an output: runs of n, `stride` apart, cut into chunks: pieces of a long run, or several short ones.
struct Runs {
  Offsets<1> at;
  int64_t runs, n, stride;
  int64_t pieces, piece, together, chunks;

  Runs(const Axes& reduced, int64_t chunk)
      : at(offsets_of(reduced, reduced.ndim - 1)),
        n(reduced.ndim > 0 ? reduced.shape[reduced.ndim - 1] : 1),
        stride(reduced.ndim > 0 ? reduced.stride[reduced.ndim - 1] : 1) {
    runs = reduced.numel / n;
    pieces = ceil_div(n, chunk);
    piece = pieces > 1 ? chunk : n;
    together = pieces > 1 || chunk / n < 1 ? 1 : chunk / n < runs ? chunk / n : runs;
    chunks = ceil_div(runs, together) * pieces;
  }
};
struct Chunk {
  int64_t run, end, begin;  // runs [run, end), and of each the elements from begin on:
  int count;
  __device__ Chunk(const Runs& r, int64_t chunk) {
    run = r.pieces == 1 ? chunk * r.together : chunk / r.pieces;
    begin = r.pieces == 1 ? 0 : chunk % r.pieces * r.piece;
    end = run + r.together < r.runs ? run + r.together : r.runs;
    count = int(begin + r.piece < r.n ? r.piece : r.n - begin);
  }
};

// Blocks of a multiprocessor: as many as leave a thread the registers it needs.
template <class T> constexpr int kBlocks = sizeof(T) == 1 ? 2 : 3;

// Rows: runs of stride 1, which one of both innermost axes has, by the front's doing. partial (chunks, outputs), where
// there is more than one chunk.
template <class T, class R>
__global__ void __launch_bounds__(kBlock, kBlocks<T>)
    reduce_rows_kernel(const T* __restrict__ x, const __grid_constant__ Offsets<1> kept,
                       const __grid_constant__ Split outputs, const __grid_constant__ Runs runs,
                       const __grid_constant__ R r, typename R::Part* __restrict__ partial, int width) {
  using A = typename R::A;
  constexpr int V = kPack<T>, K = kPacksAtOnce, G = kWhole<A> && V > 4 ? 4 : V;  // G: added at once
  auto& s = shared<Shared<typename R::Part>>();
  const Team team(width);
  const int64_t units = outputs.d * runs.chunks;
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < units; first += int64_t(gridDim.x) * team.count) {
    const int64_t unit = first + team.index, chunk_index = unit < units ? outputs.quotient(unit) : 0;
    const int64_t o = unit < units ? unit - chunk_index * outputs.d : 0;
    const Chunk chunk(runs, chunk_index);
    const T* row = x + offset_of(kept, o) + chunk.begin;
    auto part = r.none();
    for (int64_t run = chunk.run; run < chunk.end && unit < units; ++run) {
      const T* from = row + offset_of(runs.at, run);
      const Packs<T> packs(from, chunk.count);
      const int64_t place = run * runs.n + chunk.begin;
      for (int first_at = team.rank * V - packs.shift; first_at < chunk.count; first_at += K * width * V) {
        Pack<T, V> tile[K];
#pragma unroll
        for (int k = 0; k < K; ++k) {
          const int at = first_at + k * width * V;
          if (at >= 0 && at + V <= chunk.count) tile[k] = load_pack<V>(from + at);
        }
#pragma unroll
        for (int k = 0; k < K; ++k) {
          const int at = first_at + k * width * V;
          if (at >= 0 && at + V <= chunk.count) {
#pragma unroll
            for (int j = 0; j < V; j += G) {
              A v[G];
#pragma unroll
              for (int i = 0; i < G; ++i) v[i] = from_element<A>(tile[k][j + i]);
              r.add(part, v, place + at + j, 1);
            }
          } else {
#pragma unroll 1
            for (int i = at > 0 ? at : 0; i < at + V && i < chunk.count; ++i) {
              const A one[1] = {load<A>(from + i)};
              r.add(part, one, place + i, 1);
            }
          }
        }
      }
    }
    part = join_team(r, part, team, s.parts);
    if (team.rank > 0 || unit >= units) continue;
    if (runs.chunks == 1)
      r.finish(part, o);
    else
      partial[unit] = part;
  }
}

// Columns that one access of a thread takes.
template <class T> constexpr int kColumns = sizeof(T) < 4 ? 4 / int(sizeof(T)) : 1;

// The outputs: `columns` neighbours, in groups of width * kColumns, at each place of the outer axes. even: every access
// is whole.
struct Columns {
  Offsets<1> at;
  int64_t columns;
  Split groups, outers;
  int width, block;
  bool even;

  template <class T> static Columns of(const T* x, const ReduceView& view) {
    const Axes &kept = view.kept, &reduced = view.reduced;
    const int last = kept.ndim - 1;
    const int64_t columns = kept.shape[last], words = ceil_div(columns, kColumns<T>);
    bool even = columns % kColumns<T> == 0 && aligned(x, 4);
    for (int d = 0; d < last; ++d) even = even && kept.stride[d] % kColumns<T> == 0;
    for (int d = 0; d < reduced.ndim; ++d) even = even && reduced.stride[d] % kColumns<T> == 0;
    int width = 1, height = 1;
    while (width < 32 && width < words) width *= 2;
    while (width * height < kBlock && height * kRowsAtOnce < reduced.numel) height *= 2;
    while (width * height < kBlock && width < words) width *= 2;
    while (width * height < 32) height *= 2;
    const int64_t groups = ceil_div(words, width), outers = kept.numel / columns;
    const int64_t limit = kept.numel * reduced.numel;
    return {offsets_of(kept, last), columns, Split(groups, limit), Split(outers, limit), width, width * height, even};
  }

  // The elements of a thread's columns in a row that begins at `from`; zeros beyond the last column.
  template <class T> __device__ Pack<T, kColumns<T>> load(const T* from, int64_t column) const {
    if (kColumns<T> == 1 || even) return load_pack<kColumns<T>>(from);
    Pack<T, kColumns<T>> word{};
#pragma unroll
    for (int j = 0; j < kColumns<T>; ++j)
      if (column + j < columns) word[j] = from[j];
    return word;
  }
};

// partial (chunks, outputs), where there is more than one chunk.
template <class T, class R>
__global__ void __launch_bounds__(kBlock, kBlocks<T>)
    reduce_columns_kernel(const T* __restrict__ x, const __grid_constant__ Columns c, const __grid_constant__ Runs runs,
                          const __grid_constant__ R r, typename R::Part* __restrict__ partial) {
  using A = typename R::A;
  constexpr int N = kColumns<T>, K = sizeof(A) == 8 ? kRowsAtOnce / 2 : kRowsAtOnce;
  auto& s = shared<Shared<typename R::Part>>();
  const ColumnTeam team(c.width);
  const int64_t units = c.groups.d * c.outers.d * runs.chunks, step = team.height * runs.stride;
  for (int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int64_t rest = c.groups.quotient(unit), group = unit - rest * c.groups.d;
    const int64_t chunk_index = c.outers.quotient(rest), outer = rest - chunk_index * c.outers.d;
    const Chunk chunk(runs, chunk_index);
    const int64_t column = (group * c.width + team.x) * N;
    const T* rows = x + offset_of(c.at, outer) + column + (chunk.begin + team.y) * runs.stride;
    typename R::Part part[N];
#pragma unroll
    for (int j = 0; j < N; ++j) part[j] = r.none();
    for (int64_t run = chunk.run; run < chunk.end && column < c.columns; ++run) {
      const T* from = rows + offset_of(runs.at, run);
      int64_t place = run * runs.n + chunk.begin + team.y;
      int left = chunk.count - team.y;  // rows of this thread and those between them
      for (; left > (K - 1) * team.height; left -= K * team.height) {
        Pack<T, N> word[K];
#pragma unroll
        for (int k = 0; k < K; ++k) word[k] = c.load(from + k * step, column);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          A v[K];
#pragma unroll
          for (int k = 0; k < K; ++k) v[k] = from_element<A>(word[k][j]);
          r.add(part[j], v, place, team.height);
        }
        from += K * step;
        place += K * team.height;
      }
#pragma unroll 1
      for (; left > 0; left -= team.height) {
        const Pack<T, N> word = c.load(from, column);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const A one[1] = {from_element<A>(word[j])};
          r.add(part[j], one, place, 1);
        }
        from += step;
        place += team.height;
      }
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
      part[j] = join_column(r, part[j], team, s.parts);
      if (team.y > 0 || column + j >= c.columns) continue;
      const int64_t o = outer * c.columns + column + j;
      if (runs.chunks == 1)
        r.finish(part[j], o);
      else
        partial[chunk_index * c.columns * c.outers.d + o] = part[j];
    }
  }
}

template <class R>
__global__ void __launch_bounds__(kBlock, 1)
    join_chunks_kernel(const typename R::Part* __restrict__ partial, int64_t chunks, int64_t outputs,
                       const __grid_constant__ R r, int width) {
  auto& s = shared<Shared<typename R::Part>>();
  const ColumnTeam team(width);
  for (int64_t first = int64_t(blockIdx.x) * width; first < outputs; first += int64_t(gridDim.x) * width) {
    const int64_t o = first + team.x;
    auto part = r.none();
    if (o < outputs)
      for (int64_t c = team.y; c < chunks; c += team.height) r.join(part, partial[c * outputs + o]);
    part = join_column(r, part, team, s.parts);
    if (team.y == 0 && o < outputs) r.finish(part, o);
  }
}

template <class R> void join_chunks(const typename R::Part* partial, int64_t chunks, int64_t outputs, const R& r) {
  int width = 1;
  while (width < 32 && width < outputs) width *= 2;
  launch(join_chunks_kernel<R>, grid_for(outputs, width), kBlock, sizeof(Shared<typename R::Part>), partial, chunks,
         outputs, r, width);
}

template <class T, class R> void run(const T* x, const ReduceView& view, const R& r) {
  using Part = typename R::Part;
  const int64_t outputs = view.kept.numel;
  if (view.kept.ndim > 0 && view.kept.stride[view.kept.ndim - 1] == 1) {
    const Columns columns = Columns::of(x, view);
    const Runs runs(view.reduced, columns.block / columns.width * kThreadRows);
    Scratch<Part> partial(runs.chunks > 1 ? runs.chunks * outputs : 0);
    launch(reduce_columns_kernel<T, R>, grid_for(columns.groups.d * columns.outers.d * runs.chunks, 1), columns.block,
           sizeof(Shared<Part>), x, columns, runs, r, partial.get());
    if (runs.chunks > 1) join_chunks(partial.get(), runs.chunks, outputs, r);
    return;
  }
  const int last = view.reduced.ndim - 1;
  const int64_t packs = ceil_div(last < 0 ? 1 : view.reduced.shape[last], kPack<T>);
  const int width = TeamPlan(1, packs, kTeamPacks, kBlock).width;
  const Runs runs(view.reduced, width * kThreadPacks * kPack<T>);
  const TeamPlan plan(outputs * runs.chunks, packs, kTeamPacks, kBlock);
  Scratch<Part> partial(runs.chunks > 1 ? runs.chunks * outputs : 0);
  launch(reduce_rows_kernel<T, R>, plan.grid, plan.block, sizeof(Shared<Part>), x,
         offsets_of(view.kept, view.kept.ndim), Split(outputs, outputs * runs.chunks), runs, r, partial.get(), width);
  if (runs.chunks > 1) join_chunks(partial.get(), runs.chunks, outputs, r);
}

template <class F> void dispatch_whole(DType t, F&& f) {  // bool is stored as a byte of 0 or 1
  switch (t) {
    case DType::Int8: return f.template operator()<int8_t>();
    case DType::Int16: return f.template operator()<int16_t>();
    case DType::Int32: return f.template operator()<int32_t>();
    case DType::Int64: return f.template operator()<int64_t>();
    default: return f.template operator()<uint8_t>();
  }
}

Kind kind_of(Reducer op) {
  switch (op) {
    case Reducer::Sum: return Kind::Sum;
    case Reducer::NanSum: return Kind::NanSum;
    case Reducer::Prod: return Kind::Prod;
    case Reducer::Max: return Kind::Max;
    case Reducer::Min: return Kind::Min;
    case Reducer::Norm1: return Kind::Norm1;
    case Reducer::Norm2: return Kind::Norm2;
    default: return Kind::NormP;
  }
}

void reduce(Reducer op, DType t, const void* x, void* y, const ReduceView& view, double parameter) {
  if (!is_floating(t)) {
    const bool widens = op == Reducer::Sum || op == Reducer::Prod;
    return dispatch_whole(t, [&]<class T>() {
      run(static_cast<const T*>(x), view, Number<int64_t>{kind_of(op), widens ? DType::Int64 : t, y, 0, 0, 0});
    });
  }
  dispatch_floating(t, [&]<class T>() {
    using A = compute_t<T>;
    if (op == Reducer::LogSumExp) return run(static_cast<const T*>(x), view, LogSumExp<A>{t, y});
    run(static_cast<const T*>(x), view, Number<A>{kind_of(op), t, y, A(parameter), 0, 0});
  });
}

void count(Counter what, DType t, const void* x, void* y, const ReduceView& view) {
  const Kind kind = what == Counter::Any ? Kind::Any : what == Counter::All ? Kind::All : Kind::Count;
  const int size = item_size(t);
  const uint64_t all = size == 8 ? ~uint64_t(0) : (uint64_t(1) << (8 * size)) - 1;
  const DType words = size == 1 ? DType::UInt8 : size == 2 ? DType::Int16 : size == 4 ? DType::Int32 : DType::Int64;
  dispatch_whole(words, [&]<class T>() {
    run(static_cast<const T*>(x), view,
        Number<int64_t>{kind, what == Counter::Count ? DType::Int64 : DType::Bool, y, 0,
                        int64_t(is_floating(t) ? all >> 1 : all), view.reduced.numel});
  });
}

void var(DType t, const void* x, void* v, void* mean, const ReduceView& view, double correction, bool root) {
  const double rest = double(view.reduced.numel) - correction;
  dispatch_floating(t, [&]<class T>() {
    using A = compute_t<T>;
    run(static_cast<const T*>(x), view, Variance<A>{t, v, mean, A(rest > 0 ? rest : 0), root});
  });
}

void extremum(DType t, bool largest, const void* x, void* values, int64_t* indices, const ReduceView& view) {
  auto of_type = [&]<class T>() {
    run(static_cast<const T*>(x), view, Extremum<accumulate_t<T>>{t, values, indices, largest});
  };
  if (is_floating(t))
    dispatch_floating(t, of_type);
  else
    dispatch_whole(t, of_type);
}

template <class A> struct Products { A of[kMaxBlock]; };

// d prod / d x_k is the product of the others, prefix times suffix, which needs no division and so allows zeros. Each
// thread of a column has a stretch of it; prefixes wait in memory until the suffixes are known.
template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    prod_backward_kernel(const T* __restrict__ dy, const T* __restrict__ x_, T* __restrict__ dx_,
                         compute_t<T>* __restrict__ prefix_, int64_t columns, int64_t n, int64_t inner, int width) {
  using A = compute_t<T>;
  auto& s = shared<Products<A>>();
  const ColumnTeam team(width);
  const int64_t stretch = (n + team.height - 1) / team.height;
  for (int64_t first = int64_t(blockIdx.x) * width; first < columns; first += int64_t(gridDim.x) * width) {
    const int64_t column = first + team.x, at = column / inner * n * inner + column % inner;
    const int64_t begin = column < columns ? team.y * stretch : n, end = begin + stretch < n ? begin + stretch : n;
    const T* x = x_ + at;
    A product = 1;
    for (int64_t k = begin; k < end; ++k) product *= load<A>(x + k * inner);
    s.of[threadIdx.x] = product;
    __syncthreads();
    A prefix = column < columns ? load<A>(dy + column) : A(0), suffix = 1;
    for (int h = 0; h < team.y; ++h) prefix *= s.of[h * width + team.x];
    for (int h = team.height - 1; h > team.y; --h) suffix *= s.of[h * width + team.x];
    __syncthreads();
    for (int64_t k = begin; k < end; ++k) {
      prefix_[at + k * inner] = prefix;
      prefix *= load<A>(x + k * inner);
    }
    for (int64_t k = end - 1; k >= begin; --k) {
      store(dx_ + at + k * inner, prefix_[at + k * inner] * suffix);
      suffix *= load<A>(x + k * inner);
    }
  }
}

void prod_backward(DType t, const void* dy, const void* x, void* dx, int64_t outer, int64_t n, int64_t inner) {
  dispatch_floating(t, [&]<class T>() {
    using A = compute_t<T>;
    const ColumnPlan plan(outer * inner, n);
    Scratch<A> prefix(outer * n * inner);
    launch(prod_backward_kernel<T>, plan.grid, plan.block, sizeof(Products<A>), static_cast<const T*>(dy),
           static_cast<const T*>(x), static_cast<T*>(dx), prefix.get(), outer * inner, n, inner, plan.width);
  });
}

}  // namespace

const ReduceKernels reduce_kernels = {reduce, count, var, extremum, prod_backward};

}  // namespace gg::cuda
