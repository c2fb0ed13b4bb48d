// Normalisations on the GPU.
//
// A set of numbers with common statistics (a row, a group, a channel of a batch) that fits the registers of its team
// (cuda/teams.h) is read once: mean, squared deviations, result. Larger ones are cut into chunks of kChunk elements:
// one launch takes each chunk's moments, pack by pack, one joins them by the update of Chan, Golub and LeVeque (1979),
// one writes the result. Layer norm's backward reads a row of x and dy once, too, while each block adds its fixed share
// of the rows to lines of dweight and dbias in shared memory; a small launch adds the lines of all blocks. Everything
// is cut by size: any device gives the same bits.
#include "ops/norm/norm.h"

#include <initializer_list>

#include "core/dispatch.h"
#include "cuda/offsets.h"
#include "cuda/teams.h"

namespace gg::cuda {
namespace {

constexpr int64_t kChunk = 8192;           // elements of a set that a team takes where sets are large
constexpr int kChunkBlock = 256;           // most threads of such a team
constexpr int kBatchBlock = 512;           // most threads that hold x and dy of a channel: they need the registers
constexpr int64_t kShortRun = 32;          // shorter runs of a batch are walked as columns
constexpr int64_t kChunkRows = 64;         // rows of a chunk of columns, at least
constexpr int64_t kFewSets = 128;          // below, sets of several chunks are cut even where a team could hold one
constexpr int64_t kShareThreads = 131072;  // that walk the rows of a layer: 1024 for each of 128 multiprocessors
constexpr int64_t kShareRows = 4;          // of a block, at least

// Count, mean and sum of squared deviations of a set of numbers.
template <class C> struct Moments {
  C count = 0, mean = 0, m2 = 0;

  __device__ void join(const Moments& b) {
    if (b.count == 0) return;
    if (count == 0) {
      *this = b;
      return;
    }
    const C n = count + b.count, delta = b.mean - mean, share = b.count / n;
    mean += delta * share;
    m2 += b.m2 + delta * delta * (count * share);
    count = n;
  }
  // From sums of d = x - k and d^2 over n numbers.
  static __device__ Moments shifted(C n, C k, C sum, C squares) {
    if (n == 0) return {};
    const C m2 = squares - sum * (sum / n);
    return {n, k + sum / n, m2 > 0 || m2 != m2 ? m2 : C(0)};
  }
};
// Sums of dy and of dy (x - mean).
template <class C> struct GradientSums {
  C dy = 0, dyx = 0;
  __device__ void join(const GradientSums& b) {
    dy += b.dy;
    dyx += b.dyx;
  }
};
struct Join {
  template <class T> static __device__ T of(T a, const T& b) {
    a.join(b);
    return a;
  }
};

template <class T> struct TeamShared { T parts[32]; };

// A set has `runs` runs of `length` elements; run i of set c begins at (i * sets + c) * length.
struct Sets { int64_t sets, runs, length; };

// How sets are cut: into pieces of long runs, or some whole runs each.
struct Cut {
  int64_t pieces, together, chunks;
  Cut(const Sets& s, int64_t chunk)
      : pieces(ceil_div(s.length, chunk)), together(pieces > 1 || s.length == 0 ? 1 : chunk / s.length) {
    if (together > s.runs) together = s.runs;
    chunks = ceil_div(s.runs, together) * pieces;
  }
};

// How a team walks a chunk: pack p lies in run p / packs_a_run of it. even: every pack of every array is whole.
template <class T> struct Walk {
  Sets sets;
  int64_t pieces, together, chunks, piece;
  bool even;
  Split packs_a_run;

  Walk(const Sets& s, int64_t chunk, std::initializer_list<const void*> arrays)
      : Walk(s, Cut(s, chunk), chunk < s.length ? chunk : s.length, is_even(s, arrays)) {}
  // Of one chunk at most.
  int64_t packs() const { return together * packs_a_run.d; }

 private:
  static bool is_even(const Sets& s, std::initializer_list<const void*> arrays) {
    bool even = s.length % kPack<T> == 0;
    for (const void* p : arrays) even = even && aligned(p, 16);
    return even;
  }
  Walk(const Sets& s, const Cut& cut, int64_t piece_, bool even_)
      : sets(s),
        pieces(cut.pieces),
        together(cut.together),
        chunks(cut.chunks),
        piece(piece_),
        even(even_),
        packs_a_run(ceil_div(piece + (even ? 0 : kPack<T> - 1), kPack<T>), cut.together * (piece / kPack<T> + 2)) {}
};

// One chunk of one set.
template <class T> struct Chunk {
  static constexpr int V = kPack<T>;
  const Walk<T>& walk;
  int64_t at;     // its first element
  int n, packs;   // elements of a run of it; packs in all
  int64_t count;  // of elements

  __device__ Chunk(const Walk<T>& w, int64_t set, int64_t chunk) : walk(w) {
    const int64_t piece = w.pieces == 1 ? 0 : chunk % w.pieces,
                  run = w.pieces == 1 ? chunk * w.together : chunk / w.pieces;
    const int64_t begin = piece * w.piece, rest = w.sets.length - begin, runs = w.sets.runs - run;
    at = (run * w.sets.sets + set) * w.sets.length + begin;
    n = int(rest < w.piece ? rest : w.piece);
    const int together = int(runs < w.together ? runs : w.together);
    packs = together * int(w.packs_a_run.d);
    count = int64_t(n) * together;
  }

  // Pack p: the run it lies in, and its first element there.
  struct Spot {
    int64_t run;
    int first, n;
  };
  __device__ Spot spot(const T* x, int p) const {
    const int i = int(walk.packs_a_run.quotient(p));
    const int64_t run = at + i * walk.sets.sets * walk.sets.length;
    const int shift = walk.even ? 0 : int(reinterpret_cast<uintptr_t>(x + run) % 16 / sizeof(T));
    return {run, (p - i * int(walk.packs_a_run.d)) * V - shift, p < packs ? n : 0};
  }
  __device__ Pack<T, V> load(const T* x, const Spot& s) const {
    return load_one(x + s.run, s.first, s.n, walk.even, T{});
  }
  template <class C> __device__ void store(T* y, const Spot& s, const C (&v)[V]) const {
    store_one(y + s.run, s.first, s.n, walk.even, v);
  }
};
__device__ inline bool inside(int i, int n) { return i >= 0 && i < n; }

// The weight and bias of element e of a run of a set: those of line set % lines * per_set + e / each.
template <class C> struct Affine {
  const C *weight, *bias;
  int64_t lines, per_set;
  Split each;

  __device__ C weight_at(int64_t line) const { return weight ? weight[line] : C(1); }
  __device__ C bias_at(int64_t line) const { return bias ? bias[line] : C(0); }
  // v = v * weight + bias for the elements from `first` on.
  template <int V> __device__ void apply(int64_t set, int first, int n, C (&v)[V]) const {
    const int64_t base = set % lines * per_set;
    if (each.d == 1) {
      C w[V];
      if (weight) {
        load_line(weight + base, first, n, C(0), w);
#pragma unroll
        for (int i = 0; i < V; ++i) v[i] *= w[i];
      }
      if (bias) {
        load_line(bias + base, first, n, C(0), w);
#pragma unroll
        for (int i = 0; i < V; ++i) v[i] += w[i];
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (!inside(first + i, n)) continue;
      const int64_t line = base + each.quotient(first + i);
      v[i] = v[i] * weight_at(line) + bias_at(line);
    }
  }
};

// Sets that the registers of their teams hold. mean null: nothing is subtracted; var may be null.
// hot: no spills
template <class T>
__global__ void __launch_bounds__(kMaxBlock)
    norm_forward_kernel(const T* __restrict__ x, T* __restrict__ y, const __grid_constant__ Walk<T> walk,
                        const __grid_constant__ Affine<compute_t<T>> affine, compute_t<T>* mean, compute_t<T>* var,
                        compute_t<T>* rstd, compute_t<T> eps, int width) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  auto& s = shared<TeamShared<C>>();
  const Team team(width);
  const int64_t sets = walk.sets.sets;
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < sets; first += int64_t(gridDim.x) * team.count) {
    const int64_t set = first + team.index;
    const bool live = set < sets;
    const Chunk<T> chunk(walk, live ? set : 0, 0);
    const C count = C(chunk.count);
    Pack<T, V> tile[K];
#pragma unroll
    for (int k = 0; k < K; ++k) tile[k] = chunk.load(x, chunk.spot(x, k * width + team.rank));
    C d[K][V], centre = 0;
    widen(tile, d);
    if (mean) {
      C sum = 0;
#pragma unroll
      for (int i = 0; i < K * V; ++i) sum += d[i / V][i % V];
      centre = team.reduce<Sum>(sum, s.parts) / count;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto spot = chunk.spot(x, k * width + team.rank);
#pragma unroll
        for (int i = 0; i < V; ++i) d[k][i] = inside(spot.first + i, spot.n) ? d[k][i] - centre : C(0);
      }
    }
    C squares = 0;
#pragma unroll
    for (int i = 0; i < K * V; ++i) squares += d[i / V][i % V] * d[i / V][i % V];
    squares = team.reduce<Sum>(squares, s.parts) / count;
    const C scale = 1 / sqrt(squares + eps);
    if (live && team.rank == 0) {
      if (mean) mean[set] = centre;
      if (var) var[set] = squares;
      rstd[set] = scale;
    }
    if (!live) continue;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const auto spot = chunk.spot(x, k * width + team.rank);
#pragma unroll
      for (int i = 0; i < V; ++i) d[k][i] *= scale;
      affine.apply(set, spot.first, spot.n, d[k]);
      chunk.store(y, spot, d[k]);
    }
  }
}

// What elements of a set do to an element of it: y = (x - mean) by_x + constant, and in backward + dy by_dy. Sets have
// one or more lines of coefficients, for runs of as many elements.
template <class C> struct alignas(4 * sizeof(C)) Line { C mean, by_x, constant, by_dy; };

// y, flat, from x and, where not null, dy: element e belongs to line e / length % lines.
template <class T>
__global__ void __launch_bounds__(256)
    apply_lines_kernel(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ y,
                       const Line<compute_t<T>>* __restrict__ coefficients, int64_t n, Split length, Split lines) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>;
  const Packs<T> packs(x, n);
  const bool even_dy = dy && packs.even_in(dy), even_y = packs.even_in(y);
  for (int64_t p = first_item(); p < packs.count; p += item_step()) {
    const int64_t at = packs.first(p), start = at > 0 ? at : 0;
    const Pack<T, V> v = load_one(x, at, n, packs.even, T{});
    Pack<T, V> d = v;
    if (dy) d = load_one(dy, at, n, even_dy, T{});
    int64_t run = length.quotient(start), line = run - lines.quotient(run) * lines.d,
            left = (run + 1) * length.d - start;
    Line<C> f = coefficients[line];
    C out[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (at + i > start && at + i < n && --left == 0) {
        left = length.d;
        line = line + 1 == lines.d ? 0 : line + 1;
        f = coefficients[line];
      }
      out[i] = (from_element<C>(v[i]) - f.mean) * f.by_x + f.constant;
      if (dy) out[i] += from_element<C>(d[i]) * f.by_dy;
    }
    store_one(y, at, n, even_y, out);
  }
}

template <class T>
void apply_lines(const T* dy, const T* x, T* y, const Line<compute_t<T>>* coefficients, int64_t n, int64_t length,
                 int64_t lines) {
  launch(apply_lines_kernel<T>, grid_for(ceil_div(n, kPack<T>) + 1, 256), 256, 0, dy, x, y, coefficients, n,
         Split(length, n), Split(lines, n / length + 1));
}

// partial (chunks, sets): the moments of each chunk of each set.
template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    moments_kernel(const T* __restrict__ x, const __grid_constant__ Walk<T> walk, Moments<compute_t<T>>* partial,
                   int width) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  auto& s = shared<TeamShared<Moments<C>>>();
  const Team team(width);
  const int64_t units = walk.sets.sets * walk.chunks;
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < units; first += int64_t(gridDim.x) * team.count) {
    const int64_t unit = first + team.index;
    const bool live = unit < units;
    const Chunk<T> chunk(walk, live ? unit % walk.sets.sets : 0, live ? unit / walk.sets.sets : 0);
    Moments<C> mine;
    for (int p = team.rank; p < chunk.packs; p += K * width) {
      Pack<T, V> tile[K];
#pragma unroll
      for (int k = 0; k < K; ++k) tile[k] = chunk.load(x, chunk.spot(x, p + k * width));
      C v[K][V], sum = 0;
      widen(tile, v);
      Moments<C> here;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto spot = chunk.spot(x, p + k * width);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          here.count += inside(spot.first + i, spot.n) ? C(1) : C(0);
          sum += v[k][i];
        }
      }
      if (here.count == 0) continue;
      here.mean = sum / here.count;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto spot = chunk.spot(x, p + k * width);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const C d = v[k][i] - here.mean;
          here.m2 += inside(spot.first + i, spot.n) ? d * d : C(0);
        }
      }
      mine.join(here);
    }
    mine = team.reduce<Join>(mine, s.parts);
    if (live && team.rank == 0) partial[unit] = mine;
  }
}

template <class T> struct ColumnShared { T parts[256]; };

// The same for columns of x (rows, columns), in chunks of rows: partial (chunks, columns).
template <class T>
__global__ void __launch_bounds__(256) column_moments_kernel(const T* __restrict__ x, int64_t rows, int64_t columns,
                                                             int64_t chunk_rows, Moments<compute_t<T>>* partial) {
  using C = compute_t<T>;
  auto& s = shared<ColumnShared<Moments<C>>>();
  const ColumnTeam team(32);
  const int64_t column = int64_t(blockIdx.x) * 32 + team.x, begin = blockIdx.y * chunk_rows + team.y;
  const int64_t end = column >= columns ? 0 : begin - team.y + chunk_rows < rows ? begin - team.y + chunk_rows : rows;
  C k = 0, sum = 0, squares = 0, count = 0;
#pragma unroll 4
  for (int64_t r = begin; r < end; r += team.height) {
    const C v = load<C>(x + r * columns + column);
    if (count == 0) k = v;
    const C d = v - k;
    count += 1;
    sum += d;
    squares += d * d;
  }
  const auto all = team.reduce<Join>(Moments<C>::shifted(count, k, sum, squares), s.parts);
  if (team.y == 0 && column < columns) partial[blockIdx.y * columns + column] = all;
}

// By one warp: the join of the parts of a set, `each` neighbours in each of `chunks` lines. Every lane gets it.
template <class P> __device__ P join_parts(const P* partial, int64_t chunks, int64_t each, int64_t set, int64_t sets) {
  P mine;
  for (int64_t i = threadIdx.x % 32; i < chunks * each; i += 32)
    mine.join(partial[(i / each * sets + set) * each + i % each]);
  return shuffle(warp_reduce<Join>(mine), 0);
}

// The set of a warp of a grid of warps, and its lane.
__device__ inline int64_t first_warp() { return int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; }
__device__ inline int64_t warp_step() { return int64_t(gridDim.x) * (blockDim.x / 32); }
dim3 grid_for_warps(int64_t n) { return grid_for(n, 8); }
constexpr int kWarpsBlock = 256;

// Statistics from the parts of each set, or where partial is null from mean and rstd; then its lines of coefficients,
// where wanted. mean null: nothing is subtracted; var may be null.
template <class C>
__global__ void __launch_bounds__(kWarpsBlock, 1)
    finish_forward_kernel(const Moments<C>* partial, int64_t chunks, int64_t each, int64_t sets, C* mean, C* var,
                          C* rstd, C eps, const __grid_constant__ Affine<C> affine, Line<C>* lines) {
  const int lane = threadIdx.x % 32;
  for (int64_t set = first_warp(); set < sets; set += warp_step()) {
    C centre, scale;
    if (partial) {
      const Moments<C> m = join_parts(partial, chunks, each, set, sets);
      const C variance = m.m2 / m.count;
      centre = mean ? m.mean : C(0);
      scale = 1 / sqrt((mean ? variance : variance + m.mean * m.mean) + eps);
      if (lane == 0) {
        if (mean) mean[set] = centre;
        if (var) var[set] = variance;
        rstd[set] = scale;
      }
    } else {
      centre = mean[set];
      scale = rstd[set];
    }
    if (!lines) continue;
    for (int64_t k = lane; k < affine.per_set; k += 32) {
      const int64_t line = set % affine.lines * affine.per_set + k;
      lines[set * affine.per_set + k] = {centre, scale * affine.weight_at(line), affine.bias_at(line), C(0)};
    }
  }
}

// Rows of a layer whose statistics are known, chunk by chunk.
template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    layer_apply_kernel(const T* __restrict__ x_, T* __restrict__ y_, const compute_t<T>* mean, const compute_t<T>* rstd,
                       const __grid_constant__ Affine<compute_t<T>> affine, int64_t rows, int64_t n, int64_t chunks) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>;
  for (int64_t unit = blockIdx.x; unit < rows * chunks; unit += gridDim.x) {
    const int64_t row = unit / chunks, begin = unit % chunks * kChunk, rest = n - begin;
    const T* x = x_ + row * n + begin;
    T* y = y_ + row * n + begin;
    const Packs<T> packs(x, rest < kChunk ? rest : kChunk);
    const C centre = mean ? mean[row] : C(0), scale = rstd[row];
    Affine<C> here = affine;
    here.weight = affine.weight ? affine.weight + begin : nullptr;
    here.bias = affine.bias ? affine.bias + begin : nullptr;
    for (int p = threadIdx.x; p < packs.count; p += blockDim.x) {
      const int at = p * V - packs.shift;
      const Pack<T, V> v = load_one(x, at, int(packs.n), packs.even, T{});
      C d[V];
#pragma unroll
      for (int i = 0; i < V; ++i) d[i] = (from_element<C>(v[i]) - centre) * scale;
      here.apply(row, at, int(packs.n), d);
      store_one(y, at, int(packs.n), packs.even_in(y), d);
    }
  }
}

template <class C>
Affine<C> make_affine(const void* weight, const void* bias, int64_t lines, int64_t per_set, int64_t each,
                      int64_t length) {
  return {static_cast<const C*>(weight), static_cast<const C*>(bias), lines, per_set, Split(each, length)};
}

// Sets in registers, in one launch; false where they do not fit or there are too few of them.
template <class T>
bool forward_held(const T* x, T* y, const Sets& s, const Affine<compute_t<T>>& affine, void* mean, void* var,
                  void* rstd, double eps) {
  using C = compute_t<T>;
  if (s.runs * s.length > kMaxBlock * kHeldPacks<T> * kPack<T>) return false;
  if (s.sets < kFewSets && s.runs * s.length > kChunk) return false;
  const Walk<T> walk(s, s.runs * s.length, {x, y});
  const TeamPlan plan(s.sets, walk.packs(), kHeldPacks<T>, kMaxBlock);
  if (!plan.fits) return false;
  launch(norm_forward_kernel<T>, plan.grid, plan.block, sizeof(TeamShared<C>), x, y, walk, affine,
         static_cast<C*>(mean), static_cast<C*>(var), static_cast<C*>(rstd), C(eps), plan.width);
  return true;
}

// Of each chunk of each set.
template <class T> void take_moments(const T* x, const Walk<T>& walk, Moments<compute_t<T>>* partial) {
  const TeamPlan plan(walk.sets.sets * walk.chunks, walk.packs(), kHeldPacks<T>, kChunkBlock);
  launch(moments_kernel<T>, plan.grid, plan.block, sizeof(TeamShared<Moments<compute_t<T>>>), x, walk, partial,
         plan.width);
}

void layer_norm_forward(DType t, const void* x_, const void* weight, const void* bias, void* y_, void* mean, void* rstd,
                        LayerShape shape, double eps) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    const Sets sets{shape.rows, 1, shape.n};
    const auto affine = make_affine<C>(weight, bias, shape.groups, shape.n, 1, shape.n);
    if (forward_held(x, y, sets, affine, mean, nullptr, rstd, eps)) return;
    const Walk<T> walk(sets, kChunk, {x});
    Scratch<Moments<C>> partial(walk.chunks * shape.rows);
    take_moments(x, walk, partial.get());
    launch(finish_forward_kernel<C>, grid_for_warps(shape.rows), kWarpsBlock, 0, partial.get(), walk.chunks, 1,
           shape.rows, static_cast<C*>(mean), nullptr, static_cast<C*>(rstd), C(eps), affine, nullptr);
    launch(layer_apply_kernel<T>, grid_for(shape.rows * walk.chunks, 1), kChunkBlock, 0, x, y,
           static_cast<const C*>(mean), static_cast<const C*>(rstd), affine, shape.rows, shape.n, walk.chunks);
  });
}

// With h = (x - mean) rstd and g = dy w, the statistics depend on every x of the row:
//   dx = rstd (g - mean(g) - h mean(g h));   RMS norm has no mean(g).   dw = sum dy h, db = sum dy over rows.

// Adds v to a line on a 16-byte boundary.
template <int N, class C> __device__ void add_to(C* line, const C (&v)[N]) {
  auto pack = load_pack<N>(line);
#pragma unroll
  for (int i = 0; i < N; ++i) pack[i] += v[i];
  store_pack(line, pack);
}

constexpr int kLayerBackwardBlock = 768;  // most threads: two held rows and their sums want 80 registers each

// A block takes a share of the rows of one group of weights, its teams a row at a time; the grid is (shares, groups).
// What a thread adds to dw and db waits in lines of `pitch` elements, one of each a team, in shared memory. partial
// (shares, 2, groups * n), or null where neither is wanted.
template <class T>
__global__ void __launch_bounds__(kLayerBackwardBlock, 1)
    layer_backward_kernel(const T* __restrict__ dy_, const T* __restrict__ x_, const compute_t<T>* __restrict__ weight,
                          const compute_t<T>* __restrict__ mean, const compute_t<T>* __restrict__ rstd,
                          T* __restrict__ dx_, compute_t<T>* __restrict__ partial, int64_t rows, int n, int64_t share,
                          int pitch, int width, bool even) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, N = kPack<C>, K = kHeldPacks<T>;
  auto& s = shared<TeamShared<GradientSums<C>>>();
  C* lines = reinterpret_cast<C*>(&s + 1);
  const Team team(width);
  const int step = width * V, start = team.rank * V;
  const int groups = gridDim.y, group = blockIdx.y;
  const int64_t first_row = blockIdx.x * share * groups + group, rest = (rows - first_row + groups - 1) / groups;
  const int mine = int(rest < share ? rest : share);
  C* line = lines + team.index * 2 * pitch;
  if (partial)
    for (int at = start; at < n; at += step)
#pragma unroll
      for (int i = 0; i < V; ++i) line[at + i] = line[pitch + at + i] = 0;
  const C* w = weight ? weight + group * n : nullptr;
  for (int first = 0; first < mine; first += team.count) {
    const bool live = first + team.index < mine;
    const int64_t row = first_row + (live ? first + team.index : 0) * int64_t(groups);
    const int length = live ? n : 0;
    const T *dy = dy_ + row * n, *x = x_ + row * n;
    const C centre = mean ? mean[row] : C(0), scale = rstd[row];
    Pack<T, V> d[K], v[K];
    load_tile(dy, start, step, length, even, T{}, d);
    load_tile(x, start, step, length, even, T{}, v);
    GradientSums<C> sums;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int at = start + k * step;
      if (at >= length) continue;
#pragma unroll
      for (int j = 0; j < V; j += N) {  // as many as one access takes: half a pack's numbers need half the registers
        C by[N], dw[N], db[N];
#pragma unroll
        for (int i = 0; i < N; ++i) by[i] = 1;
        if (w) load_line(w, at + j, n, C(0), by);
#pragma unroll
        for (int i = 0; i < N; ++i) {
          const C h = inside(at + j + i, length) ? (from_element<C>(v[k][j + i]) - centre) * scale : C(0);
          db[i] = from_element<C>(d[k][j + i]);
          dw[i] = db[i] * h;
          sums.dy += db[i] * by[i];
          sums.dyx += db[i] * by[i] * h;
        }
        if (partial) {
          add_to(line + at + j, dw);
          add_to(line + pitch + at + j, db);
        }
      }
    }
    if (!dx_) continue;
    sums = team.reduce<Join>(sums, s.parts);
    const C a = mean ? sums.dy / C(n) * scale : C(0), b = sums.dyx / C(n) * scale;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int at = start + k * step;
      if (at >= length) continue;
      C out[V];
#pragma unroll
      for (int j = 0; j < V; j += N) {
        C by[N];
#pragma unroll
        for (int i = 0; i < N; ++i) by[i] = 1;
        if (w) load_line(w, at + j, n, C(0), by);
#pragma unroll
        for (int i = 0; i < N; ++i) {
          const C h = (from_element<C>(v[k][j + i]) - centre) * scale;
          out[j + i] = from_element<C>(d[k][j + i]) * scale * by[i] - a - h * b;
        }
      }
      store_one(dx_ + row * n, at, length, even, out);
    }
  }
  if (!partial) return;
  __syncthreads();
  for (int j = threadIdx.x; j < 2 * n; j += blockDim.x) {
    const int half = j / n, column = j - half * n;
    C sum = 0;
    for (int t = 0; t < team.count; ++t) sum += lines[(2 * t + half) * pitch + column];
    partial[((blockIdx.x * 2 + half) * groups + group) * n + column] = sum;
  }
}

// dweight and dbias (n) from lines of both.
template <class C>
__global__ void __launch_bounds__(256)
    sum_lines_kernel(const C* __restrict__ partial, int64_t lines, int64_t n, C* dweight, C* dbias) {
  auto& s = shared<ColumnShared<C>>();
  const ColumnTeam team(32);
  const int64_t column = int64_t(blockIdx.x) * 32 + team.x;
  C sum = 0;
  if (column < 2 * n)
#pragma unroll 4
    for (int64_t i = team.y; i < lines; i += team.height) sum += partial[i * 2 * n + column];
  sum = team.reduce<Sum>(sum, s.parts);
  if (team.y > 0 || column >= 2 * n) return;
  if (column < n && dweight) dweight[column] = sum;
  if (column >= n && dbias) dbias[column - n] = sum;
}

// Rows that no team holds: the sums of g and g h of each chunk; partial (chunks, rows).
template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    layer_sums_kernel(const T* __restrict__ dy_, const T* __restrict__ x_, const compute_t<T>* __restrict__ weight,
                      const compute_t<T>* __restrict__ mean, const compute_t<T>* __restrict__ rstd,
                      GradientSums<compute_t<T>>* __restrict__ partial, int64_t rows, int64_t n, int64_t groups,
                      int64_t chunks) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>;
  auto& s = shared<TeamShared<GradientSums<C>>>();
  for (int64_t unit = blockIdx.x; unit < rows * chunks; unit += gridDim.x) {
    const int64_t row = unit / chunks, chunk = unit % chunks, begin = chunk * kChunk, rest = n - begin;
    const T *dy = dy_ + row * n + begin, *x = x_ + row * n + begin;
    const C* w = weight ? weight + row % groups * n + begin : nullptr;
    const Packs<T> packs(x, rest < kChunk ? rest : kChunk);
    const int length = int(packs.n);
    const C centre = mean ? mean[row] : C(0), scale = rstd[row];
    GradientSums<C> sums;
    for (int p = threadIdx.x; p < packs.count; p += blockDim.x) {
      const int at = p * V - packs.shift;
      const Pack<T, V> d = load_one(dy, at, length, packs.even_in(dy), T{}),
                       v = load_one(x, at, length, packs.even, T{});
      C by[V];
#pragma unroll
      for (int i = 0; i < V; ++i) by[i] = 1;
      if (w) load_line(w, at, length, C(0), by);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const C g = from_element<C>(d[i]) * by[i];
        sums.dy += g;
        sums.dyx += inside(at + i, length) ? g * ((from_element<C>(v[i]) - centre) * scale) : C(0);
      }
    }
    sums = block_reduce<Join>(sums, s.parts);
    if (threadIdx.x == 0) partial[chunk * rows + row] = sums;
  }
}

// A row's rstd mean(g) and rstd mean(g h).
template <class C>
__global__ void __launch_bounds__(kWarpsBlock)
    layer_terms_kernel(const GradientSums<C>* partial, int64_t chunks, int64_t rows, int64_t n, const C* mean,
                       const C* rstd, GradientSums<C>* terms) {
  for (int64_t row = first_warp(); row < rows; row += warp_step()) {
    const GradientSums<C> all = join_parts(partial, chunks, 1, row, rows);
    if (threadIdx.x % 32 == 0) terms[row] = {mean ? all.dy / C(n) * rstd[row] : C(0), all.dyx / C(n) * rstd[row]};
  }
}

// A thread takes V columns of a share of the rows of one group; the grid is (columns, shares, groups). partial as
// above.
template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    layer_columns_backward_kernel(const T* __restrict__ dy_, const T* __restrict__ x_,
                                  const compute_t<T>* __restrict__ weight, const compute_t<T>* __restrict__ mean,
                                  const compute_t<T>* __restrict__ rstd,
                                  const GradientSums<compute_t<T>>* __restrict__ terms, T* __restrict__ dx_,
                                  compute_t<T>* __restrict__ partial, int64_t rows, int64_t n, int64_t share) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>;
  const int64_t at = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  const int64_t groups = gridDim.z, group = blockIdx.z, end_of_group = rows / groups;
  const int64_t begin = blockIdx.y * share, end = begin + share < end_of_group ? begin + share : end_of_group;
  if (at >= n) return;
  C by[V], dw[V], db[V];
#pragma unroll
  for (int i = 0; i < V; ++i) by[i] = 1, dw[i] = db[i] = 0;
  if (weight) load_line(weight + group * n, at, n, C(0), by);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t row = r * groups + group;
    const Pack<T, V> d = load_one(dy_ + row * n, at, n, false, T{}), v = load_one(x_ + row * n, at, n, false, T{});
    const C centre = mean ? mean[row] : C(0), scale = rstd[row];
    GradientSums<C> term;
    if (dx_) term = terms[row];
    C out[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const C g = from_element<C>(d[i]), h = (from_element<C>(v[i]) - centre) * scale;
      dw[i] += g * h;
      db[i] += g;
      out[i] = g * scale * by[i] - term.dy - h * term.dyx;
    }
    if (dx_) store_one(dx_ + row * n, at, n, false, out);
  }
  if (!partial) return;
  C* line = partial + (blockIdx.y * 2 * groups + group) * n + at;
#pragma unroll
  for (int i = 0; i < V; ++i)
    if (at + i < n) {
      line[i] = dw[i];
      line[groups * n + i] = db[i];
    }
}

void layer_norm_backward(DType t, const void* dy_, const void* x_, const void* weight_, const void* mean_,
                         const void* rstd_, void* dx_, void* dweight, void* dbias, LayerShape shape) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    const T* x = static_cast<const T*>(x_);
    const C* weight = static_cast<const C*>(weight_);
    const C* mean = static_cast<const C*>(mean_);
    const C* rstd = static_cast<const C*>(rstd_);
    T* dx = static_cast<T*>(dx_);
    const int64_t n = shape.n, rows_of_group = shape.rows / shape.groups, width = shape.groups * n;
    const bool sums = dweight || dbias,
               even = n % kPack<T> == 0 && aligned(dy, 16) && aligned(x, 16) && aligned(dx, 16);
    const TeamPlan plan(shape.rows, ceil_div(n, kPack<T>), kHeldPacks<T>, kLayerBackwardBlock);
    const int64_t pitch = ceil_div(n, kPack<T>) * kPack<T>;
    const size_t lines = size_t(plan.block / plan.width * 2 * pitch) * sizeof(C);
    const size_t bytes = sizeof(TeamShared<GradientSums<C>>) + (sums ? lines : 0);
    const bool held = plan.fits && bytes <= shared_limit();
    const int block =
        held ? plan.block : int(ceil_div(n, kPack<T>) < kChunkBlock ? ceil_div(n, kPack<T>) : kChunkBlock);
    int64_t share = ceil_div(shape.rows * block, kShareThreads);
    if (share < kShareRows) share = kShareRows;
    if (held && share < plan.block / plan.width) share = plan.block / plan.width;
    const int64_t shares = ceil_div(rows_of_group, share);
    Scratch<C> partial(sums ? shares * 2 * width : 0);
    C* lines_out = sums ? partial.get() : nullptr;
    if (held) {
      launch(layer_backward_kernel<T>, dim3(unsigned(shares), unsigned(shape.groups)), plan.block, bytes, dy, x, weight,
             mean, rstd, dx, lines_out, shape.rows, int(n), share, int(pitch), plan.width, even);
    } else {
      const int64_t chunks = ceil_div(n, kChunk);
      Scratch<GradientSums<C>> row_sums(dx ? chunks * shape.rows : 0), terms(dx ? shape.rows : 0);
      if (dx) {
        launch(layer_sums_kernel<T>, grid_for(shape.rows * chunks, 1), kChunkBlock, sizeof(TeamShared<GradientSums<C>>),
               dy, x, weight, mean, rstd, row_sums.get(), shape.rows, n, shape.groups, chunks);
        launch(layer_terms_kernel<C>, grid_for_warps(shape.rows), kWarpsBlock, 0, row_sums.get(), chunks, shape.rows, n,
               mean, rstd, terms.get());
      }
      launch(layer_columns_backward_kernel<T>,
             dim3(unsigned(ceil_div(n, kChunkBlock * kPack<T>)), unsigned(shares), unsigned(shape.groups)), kChunkBlock,
             0, dy, x, weight, mean, rstd, terms.get(), dx, lines_out, shape.rows, n, share);
    }
    if (sums)
      launch(sum_lines_kernel<C>, dim3(unsigned(ceil_div(2 * width, 32))), 256, sizeof(ColumnShared<C>), partial.get(),
             shares, width, static_cast<C*>(dweight), static_cast<C*>(dbias));
  });
}

void group_norm_forward(DType t, const void* x_, const void* weight, const void* bias, void* y_, void* mean, void* rstd,
                        GroupShape shape, double eps) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    const Sets sets{shape.N * shape.G, 1, shape.K * shape.S};
    const auto affine = make_affine<C>(weight, bias, shape.G, shape.K, shape.S, sets.length);
    if (forward_held(x, y, sets, affine, mean, nullptr, rstd, eps)) return;
    const Walk<T> walk(sets, kChunk, {x});
    Scratch<Moments<C>> partial(walk.chunks * sets.sets);
    Scratch<Line<C>> lines(sets.sets * shape.K);
    take_moments(x, walk, partial.get());
    launch(finish_forward_kernel<C>, grid_for_warps(sets.sets), kWarpsBlock, 0, partial.get(), walk.chunks, 1,
           sets.sets, static_cast<C*>(mean), nullptr, static_cast<C*>(rstd), C(eps), affine, lines.get());
    apply_lines<T>(nullptr, x, y, lines.get(), sets.sets * sets.length, shape.S, sets.sets * shape.K);
  });
}

// The sums of each chunk of each set, whose mean is mean[set / sets_a_mean]; partial (chunks, sets).
template <class T>
__global__ void __launch_bounds__(kChunkBlock)
    gradient_sums_kernel(const T* __restrict__ dy, const T* __restrict__ x, const compute_t<T>* __restrict__ mean,
                         int64_t sets_a_mean, const __grid_constant__ Walk<T> walk,
                         GradientSums<compute_t<T>>* __restrict__ partial, int width) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T> / 2;
  auto& s = shared<TeamShared<GradientSums<C>>>();
  const Team team(width);
  const int64_t units = walk.sets.sets * walk.chunks;
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < units; first += int64_t(gridDim.x) * team.count) {
    const int64_t unit = first + team.index;
    const bool live = unit < units;
    const int64_t set = live ? unit % walk.sets.sets : 0;
    const Chunk<T> chunk(walk, set, live ? unit / walk.sets.sets : 0);
    const C centre = mean[set / sets_a_mean];
    GradientSums<C> sums;
    for (int p = team.rank; p < chunk.packs; p += K * width) {
      Pack<T, V> d[K], v[K];
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto spot = chunk.spot(x, p + k * width);
        d[k] = chunk.load(dy, spot);
        v[k] = chunk.load(x, spot);
      }
#pragma unroll
      for (int k = 0; k < K; ++k) {
        const auto spot = chunk.spot(x, p + k * width);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const C g = from_element<C>(d[k][i]);
          sums.dy += g;
          sums.dyx += inside(spot.first + i, spot.n) ? g * (from_element<C>(v[k][i]) - centre) : C(0);
        }
      }
    }
    sums = team.reduce<Join>(sums, s.parts);
    if (live && team.rank == 0) partial[unit] = sums;
  }
}

template <class T>
void take_gradient_sums(const T* dy, const T* x, const compute_t<T>* mean, int64_t sets_a_mean, const Walk<T>& walk,
                        GradientSums<compute_t<T>>* partial) {
  const TeamPlan plan(walk.sets.sets * walk.chunks, walk.packs(), kHeldPacks<T>, kChunkBlock);
  launch(gradient_sums_kernel<T>, plan.grid, plan.block, sizeof(TeamShared<GradientSums<compute_t<T>>>), dy, x, mean,
         sets_a_mean, walk, partial, plan.width);
}

// As layer norm, with one weight a run of S: with a_c = sum_s dy and b_c = sum_s dy (x - mean),
//   mean(g) = sum_k w a / n,  mean(g h) = rstd sum_k w b / n,  dx = rstd (w dy - mean(g) - h mean(g h)),
//   dw_c = sum_N b rstd,  db_c = sum_N a.
// A warp joins the chunks of a group's channels into sums (N, channels), and makes the channels' coefficients of dx.
template <class C>
__global__ void __launch_bounds__(kWarpsBlock)
    group_backward_kernel(const GradientSums<C>* partial, int64_t chunks, const C* weight, const C* mean, const C* rstd,
                          GroupShape shape, GradientSums<C>* sums, Line<C>* lines) {
  const int lane = threadIdx.x % 32;
  const int64_t groups = shape.N * shape.G;
  for (int64_t r = first_warp(); r < groups; r += warp_step()) {
    GradientSums<C> all;
    for (int64_t k = lane; k < shape.K; k += 32) {
      GradientSums<C> here;
      for (int64_t c = 0; c < chunks; ++c) here.join(partial[c * groups * shape.K + r * shape.K + k]);
      sums[r * shape.K + k] = here;
      const C w = weight ? weight[r % shape.G * shape.K + k] : C(1);
      all.dy += w * here.dy;
      all.dyx += w * here.dyx;
    }
    all = shuffle(warp_reduce<Join>(all), 0);
    if (!lines) continue;
    const C s = rstd[r], n = C(shape.K * shape.S);
    for (int64_t k = lane; k < shape.K; k += 32) {
      const C w = weight ? weight[r % shape.G * shape.K + k] : C(1);
      lines[r * shape.K + k] = {mean[r], -s * s * s * (all.dyx / n), -s * (all.dy / n), s * w};
    }
  }
}

template <class C>
__global__ void __launch_bounds__(256)
    group_parameters_kernel(const GradientSums<C>* __restrict__ sums, const C* __restrict__ rstd, GroupShape shape,
                            C* dweight, C* dbias) {
  const int64_t channels = shape.G * shape.K;
  for (int64_t c = first_item(); c < channels; c += item_step()) {
    C dw = 0, db = 0;
    for (int64_t i = 0; i < shape.N; ++i) {
      const GradientSums<C> run = sums[i * channels + c];
      dw += run.dyx * rstd[i * shape.G + c / shape.K];
      db += run.dy;
    }
    if (dweight) dweight[c] = dw;
    if (dbias) dbias[c] = db;
  }
}

void group_norm_backward(DType t, const void* dy_, const void* x_, const void* weight, const void* mean_,
                         const void* rstd_, void* dx_, void* dweight, void* dbias, GroupShape shape) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    const T* x = static_cast<const T*>(x_);
    const C* mean = static_cast<const C*>(mean_);
    const C* rstd = static_cast<const C*>(rstd_);
    T* dx = static_cast<T*>(dx_);
    const int64_t channels = shape.G * shape.K, runs = shape.N * channels;
    const Walk<T> walk({runs, 1, shape.S}, kChunk, {dy, x});
    Scratch<GradientSums<C>> partial(walk.chunks * runs), sums(runs);
    Scratch<Line<C>> lines(dx ? runs : 0);
    take_gradient_sums(dy, x, mean, shape.K, walk, partial.get());
    launch(group_backward_kernel<C>, grid_for_warps(shape.N * shape.G), kWarpsBlock, 0, partial.get(), walk.chunks,
           static_cast<const C*>(weight), mean, rstd, shape, sums.get(), dx ? lines.get() : nullptr);
    if (dx) apply_lines(dy, x, dx, lines.get(), runs * shape.S, shape.S, runs);
    if (dweight || dbias)
      launch(group_parameters_kernel<C>, grid_for(channels, 256), 256, 0, sums.get(), rstd, shape,
             static_cast<C*>(dweight), static_cast<C*>(dbias));
  });
}

// Rows of a chunk of x (N, C * S) whose columns are summed, and how many chunks there are.
struct RowChunks {
  int64_t rows, chunks;
  explicit RowChunks(int64_t n) : rows(ceil_div(n, 64) > kChunkRows ? ceil_div(n, 64) : kChunkRows) {
    chunks = ceil_div(n, rows);
  }
};

void batch_norm_forward(DType t, const void* x_, const void* weight, const void* bias, void* y_, void* mean_,
                        void* var_, void* rstd_, BatchShape shape, double eps, bool training) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    C* mean = static_cast<C*>(mean_);
    C* var = static_cast<C*>(var_);
    C* rstd = static_cast<C*>(rstd_);
    const Sets sets{shape.C, shape.N, shape.S};
    const bool columns = shape.S < kShortRun;
    const auto affine = make_affine<C>(weight, bias, shape.C, 1, shape.S == 1 ? 2 : shape.S, 2);
    if (training && !columns && forward_held(x, y, sets, affine, mean, var, rstd, eps)) return;
    const Walk<T> walk(sets, kChunk, {x});
    const RowChunks rows(shape.N);
    const int64_t chunks = columns ? rows.chunks : walk.chunks, each = columns ? shape.S : 1;
    Scratch<Moments<C>> partial(training ? chunks * shape.C * each : 0);
    Scratch<Line<C>> lines(shape.C);
    if (training && columns)
      launch(column_moments_kernel<T>, dim3(unsigned(ceil_div(shape.C * shape.S, 32)), unsigned(chunks)), 256,
             sizeof(ColumnShared<Moments<C>>), x, shape.N, shape.C * shape.S, rows.rows, partial.get());
    else if (training)
      take_moments(x, walk, partial.get());
    launch(finish_forward_kernel<C>, grid_for_warps(shape.C), kWarpsBlock, 0, training ? partial.get() : nullptr,
           chunks, each, shape.C, mean, training ? var : nullptr, rstd, C(eps), affine, lines.get());
    apply_lines<T>(nullptr, x, y, lines.get(), shape.N * shape.C * shape.S, shape.S, shape.C);
  });
}

// With h = (x - mean) rstd, M = N S, a = sum dy and b = sum dy (x - mean) over the channel:
//   dw = b rstd,  db = a,  training: dx = w rstd (dy - a / M - h rstd b / M);  with fixed statistics dx = w rstd dy.
template <class C> struct BatchGradient {
  const C *weight, *mean, *rstd;
  C *dweight, *dbias;
  C count;
  bool training;

  // One thread of a channel writes what its parameters get; all learn the coefficients of dx.
  __device__ Line<C> finish(int64_t c, const GradientSums<C>& all, bool writes) const {
    const C s = rstd[c];
    if (writes && dweight) dweight[c] = all.dyx * s;
    if (writes && dbias) dbias[c] = all.dy;
    const C by_dy = weight ? weight[c] * s : s;
    if (!training) return {mean[c], C(0), C(0), by_dy};
    return {mean[c], -by_dy * s * s * (all.dyx / count), -by_dy * (all.dy / count), by_dy};
  }
};

// Channels that the registers of their teams hold, x and dy.
// hot: no spills
template <class T>
__global__ void __launch_bounds__(kBatchBlock, 1)
    batch_backward_kernel(const T* __restrict__ dy, const T* __restrict__ x, T* __restrict__ dx,
                          const __grid_constant__ Walk<T> walk,
                          const __grid_constant__ BatchGradient<compute_t<T>> gradient, int width) {
  using C = compute_t<T>;
  constexpr int V = kPack<T>, K = kHeldPacks<T>;
  auto& s = shared<TeamShared<GradientSums<C>>>();
  const Team team(width);
  const int64_t sets = walk.sets.sets;
  for (int64_t first = int64_t(blockIdx.x) * team.count; first < sets; first += int64_t(gridDim.x) * team.count) {
    const bool live = first + team.index < sets;
    const int64_t c = live ? first + team.index : 0;
    const Chunk<T> chunk(walk, c, 0);
    const C centre = gradient.mean[c];
    Pack<T, V> d[K], v[K];
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const auto spot = chunk.spot(x, k * width + team.rank);
      d[k] = chunk.load(dy, spot);
      v[k] = chunk.load(x, spot);
    }
    GradientSums<C> sums;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const auto spot = chunk.spot(x, k * width + team.rank);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const C g = from_element<C>(d[k][i]);
        sums.dy += g;
        sums.dyx += inside(spot.first + i, spot.n) ? g * (from_element<C>(v[k][i]) - centre) : C(0);
      }
    }
    sums = team.reduce<Join>(sums, s.parts);
    const Line<C> f = gradient.finish(c, sums, live && team.rank == 0);
    if (!live || !dx) continue;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      C out[V];
#pragma unroll
      for (int i = 0; i < V; ++i)
        out[i] = from_element<C>(d[k][i]) * f.by_dy + (from_element<C>(v[k][i]) - f.mean) * f.by_x + f.constant;
      chunk.store(dx, chunk.spot(x, k * width + team.rank), out);
    }
  }
}

// The sums of columns of (rows, columns); column j belongs to channel j / each.
template <class T>
__global__ void __launch_bounds__(256)
    column_gradient_sums_kernel(const T* __restrict__ dy, const T* __restrict__ x,
                                const compute_t<T>* __restrict__ mean, int64_t each, int64_t rows, int64_t columns,
                                int64_t chunk_rows, GradientSums<compute_t<T>>* __restrict__ partial) {
  using C = compute_t<T>;
  auto& s = shared<ColumnShared<GradientSums<C>>>();
  const ColumnTeam team(32);
  const int64_t column = int64_t(blockIdx.x) * 32 + team.x, begin = blockIdx.y * chunk_rows + team.y;
  const int64_t end = column >= columns ? 0 : begin - team.y + chunk_rows < rows ? begin - team.y + chunk_rows : rows;
  const C centre = column < columns ? mean[column / each] : C(0);
  GradientSums<C> sums;
#pragma unroll 4
  for (int64_t r = begin; r < end; r += team.height) {
    const C g = load<C>(dy + r * columns + column);
    sums.dy += g;
    sums.dyx += g * (load<C>(x + r * columns + column) - centre);
  }
  sums = team.reduce<Join>(sums, s.parts);
  if (team.y == 0 && column < columns) partial[blockIdx.y * columns + column] = sums;
}

template <class C>
__global__ void __launch_bounds__(kWarpsBlock)
    finish_batch_backward_kernel(const GradientSums<C>* partial, int64_t chunks, int64_t each, int64_t channels,
                                 const __grid_constant__ BatchGradient<C> gradient, Line<C>* lines) {
  const int lane = threadIdx.x % 32;
  for (int64_t c = first_warp(); c < channels; c += warp_step()) {
    GradientSums<C> all;
    if (partial) all = join_parts(partial, chunks, each, c, channels);
    const Line<C> line = gradient.finish(c, all, lane == 0);
    if (lane == 0) lines[c] = line;
  }
}

void batch_norm_backward(DType t, const void* dy_, const void* x_, const void* weight, const void* mean_,
                         const void* rstd, void* dx_, void* dweight, void* dbias, BatchShape shape, bool training) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    const T* x = static_cast<const T*>(x_);
    const C* mean = static_cast<const C*>(mean_);
    T* dx = static_cast<T*>(dx_);
    const BatchGradient<C> gradient{static_cast<const C*>(weight),
                                    mean,
                                    static_cast<const C*>(rstd),
                                    static_cast<C*>(dweight),
                                    static_cast<C*>(dbias),
                                    C(shape.N * shape.S),
                                    training};
    const bool sums = training || dweight || dbias, columns = shape.S < kShortRun;
    const int64_t M = shape.N * shape.S;
    const Sets sets{shape.C, shape.N, shape.S};
    if (sums && !columns && M <= kBatchBlock * kHeldPacks<T> * kPack<T> && (shape.C >= kFewSets || M <= kChunk)) {
      const Walk<T> walk(sets, M, {dy, x, dx});
      const TeamPlan plan(shape.C, walk.packs(), kHeldPacks<T>, kBatchBlock);
      if (plan.fits)
        return launch(batch_backward_kernel<T>, plan.grid, plan.block, sizeof(TeamShared<GradientSums<C>>), dy, x, dx,
                      walk, gradient, plan.width);
    }
    const Walk<T> walk(sets, kChunk, {dy, x});
    const RowChunks rows(shape.N);
    const int64_t chunks = columns ? rows.chunks : walk.chunks, each = columns ? shape.S : 1;
    Scratch<GradientSums<C>> partial(sums ? chunks * shape.C * each : 0);
    Scratch<Line<C>> lines(shape.C);
    if (sums && columns)
      launch(column_gradient_sums_kernel<T>, dim3(unsigned(ceil_div(shape.C * shape.S, 32)), unsigned(chunks)), 256,
             sizeof(ColumnShared<GradientSums<C>>), dy, x, mean, shape.S, shape.N, shape.C * shape.S, rows.rows,
             partial.get());
    else if (sums)
      take_gradient_sums(dy, x, mean, 1, walk, partial.get());
    launch(finish_batch_backward_kernel<C>, grid_for_warps(shape.C), kWarpsBlock, 0, sums ? partial.get() : nullptr,
           chunks, each, shape.C, gradient, lines.get());
    if (dx) apply_lines(dy, x, dx, lines.get(), shape.N * shape.C * shape.S, shape.S, shape.C);
  });
}

template <class C>
__global__ void reciprocal_root_kernel(const C* __restrict__ var, C* __restrict__ rstd, int64_t n, C eps) {
  for (int64_t i = first_item(); i < n; i += item_step()) rstd[i] = 1 / sqrt(var[i] + eps);
}

void reciprocal_root(DType c, const void* var, void* rstd, int64_t n, double eps) {
  dispatch_floating(c, [&]<class T>() {
    using C = compute_t<T>;
    launch(reciprocal_root_kernel<C>, grid_for(n, 256), 256, 0, static_cast<const C*>(var), static_cast<C*>(rstd), n,
           C(eps));
  });
}

template <class T>
__global__ void update_running_kernel(T* __restrict__ running, const compute_t<T>* __restrict__ batch, int64_t n,
                                      compute_t<T> old, compute_t<T> fresh, compute_t<T> by) {
  for (int64_t i = first_item(); i < n; i += item_step())
    store(running + i, load<compute_t<T>>(running + i) * old + batch[i] * by * fresh);
}

void update_running(DType t, void* running, const void* batch, int64_t n, double momentum, double factor) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    launch(update_running_kernel<T>, grid_for(n, 256), 256, 0, static_cast<T*>(running), static_cast<const C*>(batch),
           n, C(1 - momentum), C(momentum), C(factor));
  });
}

}  // namespace

const NormKernels norm_kernels = {layer_norm_forward, layer_norm_backward, group_norm_forward, group_norm_backward,
                                  batch_norm_forward, batch_norm_backward, reciprocal_root,    update_running};

}  // namespace gg::cuda
