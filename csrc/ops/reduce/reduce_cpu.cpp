// CPU reductions at memory bandwidth, whichever axes are reduced.
//
// Rows: the axis of stride 1 is reduced. The elements of an output, in order, are cut into chunks of kChunk; a chunk
// goes through eight vector accumulators. Columns: the axis of stride 1 is kept. A block of columns is reduced over
// chunks of kChunkRows rows, eight rows at a time, so that eight streams are read and the accumulators stay in the
// first-level cache. The results of chunks are combined pairwise, in a tree that sizes alone decide (Higham 1993: error
// grows with log n).
//
// var and logsumexp go over each chunk twice while it is in cache: first for a pivot (mean, max), then for the sum
// about it; chunks are then combined as in Chan, Golub and LeVeque (1983).
#include "ops/reduce/reduce.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/integers.h"
#include "cpu/math.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "cpu/vec.h"
#include "cpu/wrap.h"

namespace gg::GG_ISA {
namespace {

constexpr int kAccumulators = 8;
constexpr int64_t kChunk = 4096;    // elements of a row whose 8 x 16 accumulators see 32 additions each
constexpr int64_t kChunkRows = 64;  // additions that a column's accumulator sees
constexpr int64_t kColumns = 512;   // columns of a block: 64 rows of it are 128 KiB and stay in the second-level cache
constexpr int64_t kGrain = 65536;   // elements of a piece: about 20 microseconds of memory traffic

// The position of element `index` of some axes, walked in row-major order.
struct Cursor {
  const Axes& axes;
  int64_t offset = 0;
  int64_t at[kMaxDims];

  Cursor(const Axes& axes, int64_t index) : axes(axes) {
    for (int d = axes.ndim - 1; d >= 0; --d) {
      at[d] = index % axes.shape[d];
      index /= axes.shape[d];
      offset += at[d] * axes.stride[d];
    }
  }
  void next() {
    for (int d = axes.ndim - 1; d >= 0; --d) {
      offset += axes.stride[d];
      if (++at[d] < axes.shape[d]) return;
      offset -= axes.stride[d] * axes.shape[d];
      at[d] = 0;
    }
  }
};

// Splits the innermost axis off.
struct Inner {
  Axes outer;
  int64_t n = 1, stride = 1;

  explicit Inner(const Axes& axes) : outer(axes) {
    if (axes.ndim == 0) return;
    n = axes.shape[axes.ndim - 1];
    stride = axes.stride[axes.ndim - 1];
    --outer.ndim;
    outer.numel /= n;
  }
};

template <class T> constexpr bool kWhole = true;  // T holds whole numbers
template <> constexpr bool kWhole<float16> = false;
template <> constexpr bool kWhole<bfloat16> = false;
template <> constexpr bool kWhole<float> = false;
template <> constexpr bool kWhole<double> = false;

template <class F> inline void dispatch_whole(DType t, F&& f) {  // bool is stored as a byte of 0 or 1
  switch (t) {
    case DType::Int8: return f.template operator()<int8_t>();
    case DType::Int16: return f.template operator()<int16_t>();
    case DType::Int32: return f.template operator()<int32_t>();
    case DType::Int64: return f.template operator()<int64_t>();
    default: return f.template operator()<uint8_t>();
  }
}

// Whole numbers are accumulated in int64_t.
template <class T, bool whole> struct accumulate_of { using type = compute_t<T>; };
template <class T> struct accumulate_of<T, true> { using type = int64_t; };
template <class T> using accumulate_t = typename accumulate_of<T, kWhole<T>>::type;

template <class V, class A> inline V all_lanes(A a) {  // V is A or Vec<A>
  if constexpr (sizeof(V) == sizeof(A))
    return a;
  else
    return splat(a);
}

template <class V> inline auto is_nan(V v) { return v != v; }

// Elements stored as T, computed with as A (whole numbers: int64_t).
template <class A, class T> inline Vec<A> load_as(const T* p) {
  if constexpr (kWhole<A>) {
    typename Packed<T, kLanes<A>>::type v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, Vec<A>);
  } else {
    return load(p);
  }
}
template <class A, class T> inline Vec<A> load_strided(const T* p, int64_t stride) {
  Vec<A> v;
  for (int i = 0; i < kLanes<A>; ++i) v[i] = A(load1(p + i * stride));
  return v;
}
template <class A, class T> inline void store_as(T* p, A a) {
  if constexpr (sizeof(compute_t<T>) == sizeof(T))
    *p = T(a);
  else
    store1(p, a);
}

// Combines the lanes by halves: log2(N) dependent steps.
template <class A, int N, class Combine>
inline A fold_lanes(const typename Packed<A, N>::type& v, const Combine& combine) {
  if constexpr (N == 2) {
    return combine(A(v[0]), A(v[1]));
  } else {
    struct Halves { typename Packed<A, N / 2>::type low, high; };
    Halves h = bit_cast<Halves>(v);
    return fold_lanes<A, N / 2>(combine(h.low, h.high), combine);
  }
}

// The reducers. One of one field accumulates by step from identity, and combines accumulators of lanes and of chunks.
// One of two fields first finds a pivot (first_*), which step then takes, and says how two chunks of na and nb elements
// merge. V is A or Vec<A>.
template <class A_> struct Sum {
  using A = A_;
  static constexpr int kFields = 1;
  A identity() const { return 0; }
  template <class V> V step(V acc, V x, V) const { return wrapping_add(acc, x); }
  template <class V> V combine(V a, V b) const { return wrapping_add(a, b); }
};
template <class A> struct NanSum : Sum<A> {
  template <class V> V step(V acc, V x, V) const { return acc + (x == x ? x : V{}); }
};
template <class A> struct Norm1 : Sum<A> {
  template <class V> V step(V acc, V x, V) const { return acc + (x < 0 ? -x : x); }
};
template <class A> struct Norm2 : Sum<A> {
  template <class V> V step(V acc, V x, V) const { return acc + x * x; }
};
template <class A> struct NormP : Sum<A> {
  A p;
  explicit NormP(A p) : p(p) {}
  template <class V> V step(V acc, V x, V) const {
    V magnitude = x < 0 ? -x : x;
    if constexpr (sizeof(V) == sizeof(A))
      return acc + A(::pow(magnitude, p));
    else
      return acc + pow(magnitude, splat(p));
  }
};
template <class A_> struct Prod {
  using A = A_;
  static constexpr int kFields = 1;
  A identity() const { return 1; }
  template <class V> V step(V acc, V x, V) const { return wrapping_multiply(acc, x); }
  template <class V> V combine(V a, V b) const { return wrapping_multiply(a, b); }
};
template <class A_, bool largest> struct Extreme {
  using A = A_;
  static constexpr int kFields = 1;
  A identity() const {
    if constexpr (kWhole<A>)
      return largest ? INT64_MIN : INT64_MAX;
    else
      return largest ? -A(kInfinity) : A(kInfinity);
  }
  template <class V> auto better(V a, V b) const {
    if constexpr (largest)
      return a > b;
    else
      return a < b;
  }
  // A NaN is taken, and once taken nothing compares beyond it.
  template <class V> V combine(V a, V b) const { return (better(b, a) | is_nan(b)) ? b : a; }
  template <class V> V step(V acc, V x, V) const { return combine(acc, x); }
};
// Counts elements that are not 0 by their bits; `ignored` are shifted out: the sign, of which a zero may have two.
struct CountNonzero : Sum<int64_t> {
  int64_t mask;
  explicit CountNonzero(int64_t mask) : mask(mask) {}
  template <class V> V step(V acc, V x, V) const {
    return acc + ((x & all_lanes<V>(mask)) != 0 ? all_lanes<V>(int64_t(1)) : V{});
  }
};
template <class A_> struct Moments {  // fields: mean, sum (x - mean)^2
  using A = A_;
  static constexpr int kFields = 2;
  A identity() const { return 0; }
  A first_identity() const { return 0; }
  template <class V> V first_step(V acc, V x) const { return acc + x; }
  template <class V> V first_combine(V a, V b) const { return a + b; }
  template <class V> V pivot(V total, A n) const { return total / all_lanes<V>(n); }
  template <class V> V step(V acc, V x, V mean) const { return acc + (x - mean) * (x - mean); }
  template <class V> V combine(V a, V b) const { return a + b; }
  template <class V> void merge(V* a, const V* b, A na, A nb) const {
    V delta = b[0] - a[0];
    a[0] = a[0] + delta * all_lanes<V>(nb / (na + nb));
    a[1] = a[1] + b[1] + delta * delta * all_lanes<V>(na * (nb / (na + nb)));
  }
};
inline float exp(float x) { return ::expf(x); }
inline double exp(double x) { return ::exp(x); }
template <class A_> struct LogSumExp {  // fields: max, sum exp(x - shift(max))
  using A = A_;
  static constexpr int kFields = 2;
  A identity() const { return 0; }
  A first_identity() const { return -A(kInfinity); }
  template <class V> V first_step(V acc, V x) const { return first_combine(acc, x); }
  template <class V> V first_combine(V a, V b) const { return ((b > a) | is_nan(b)) ? b : a; }
  template <class V> V pivot(V max, A) const { return max; }
  // An infinite maximum is not subtracted: inf - inf is NaN.
  template <class V> static V shift(V max) { return max - max == V{} ? max : V{}; }
  template <class V> V step(V acc, V x, V max) const { return acc + exp(x - shift(max)); }
  template <class V> V combine(V a, V b) const { return a + b; }
  template <class V> void merge(V* a, const V* b, A, A) const {
    V max = first_combine(a[0], b[0]);
    a[1] = a[1] * exp(a[0] - shift(max)) + b[1] * exp(b[0] - shift(max));
    a[0] = max;
  }
};

// One pass over a chunk.
template <class R> struct MainPass {
  using A = typename R::A;
  const R& r;
  A identity() const { return r.identity(); }
  template <class V> V step(V acc, V x, V pivot) const { return r.step(acc, x, pivot); }
  template <class V> V operator()(V a, V b) const { return r.combine(a, b); }
};
template <class R> struct FirstPass {
  using A = typename R::A;
  const R& r;
  A identity() const { return r.first_identity(); }
  template <class V> V step(V acc, V x, V) const { return r.first_step(acc, x); }
  template <class V> V operator()(V a, V b) const { return r.first_combine(a, b); }
};

template <class R> inline void merge_fields(const R& r, auto* a, const auto* b, int64_t na, int64_t nb) {
  if constexpr (R::kFields == 1)
    a[0] = r.combine(a[0], b[0]);
  else
    r.merge(a, b, typename R::A(na), typename R::A(nb));
}

// Rows ---------------------------------------------------------------------------------------------------------------

// Elements [begin, end) of a row whose runs are given by `runs`, in one pass.
template <class P, class T>
typename P::A pass_row(const P& pass, const T* x, const Inner& runs, int64_t begin, int64_t end, typename P::A pivot) {
  using A = typename P::A;
  using V = Vec<A>;
  constexpr int64_t L = kLanes<A>;
  const V pivots = splat(pivot);
  V acc[kAccumulators];
  for (V& a : acc) a = splat(pass.identity());
  A lone = pass.identity();
  int64_t at = begin % runs.n;
  Cursor run(runs.outer, begin / runs.n);
  for (int64_t left = end - begin; left > 0; run.next(), at = 0) {
    const int64_t n = smaller(runs.n - at, left), stride = runs.stride;
    const T* p = x + run.offset + at * stride;
    left -= n;
    int64_t i = 0;
    if (stride == 1) {
      for (; i + kAccumulators * L <= n; i += kAccumulators * L)
        for (int k = 0; k < kAccumulators; ++k) acc[k] = pass.step(acc[k], load_as<A>(p + i + k * L), pivots);
      for (int k = 0; i + L <= n; i += L, ++k) acc[k] = pass.step(acc[k], load_as<A>(p + i), pivots);
      if (i < n && n >= L) {  // the last whole vector again, of which only the new lanes count
        using I = typename int_of<A>::type;
        V stepped = pass.step(acc[kAccumulators - 1], load_as<A>(p + n - L), pivots);
        acc[kAccumulators - 1] = iota<I>() >= splat(I(L - (n - i))) ? stepped : acc[kAccumulators - 1];
        i = n;
      }
    } else {
      for (; i + 4 * L <= n; i += 4 * L)
        for (int k = 0; k < 4; ++k)
          acc[k] = pass.step(acc[k], load_strided<A>(p + (i + k * L) * stride, stride), pivots);
    }
    for (; i < n; ++i) lone = pass.step(lone, A(load1(p + i * stride)), pivot);
  }
  for (int half = kAccumulators / 2; half; half /= 2)
    for (int k = 0; k < half; ++k) acc[k] = pass(acc[k], acc[k + half]);
  return pass(fold_lanes<A, L>(acc[0], pass), lone);
}

template <class P, class T>
inline typename P::A pass_short_row(const P& pass, const T* x, int64_t n, int64_t stride, typename P::A pivot) {
  typename P::A acc = pass.identity();
  for (int64_t i = 0; i < n; ++i) acc = pass.step(acc, typename P::A(load1(x + i * stride)), pivot);
  return acc;
}

template <class R, class T>
inline void row_chunk(const R& r, const T* x, const Inner& runs, int64_t begin, int64_t end, typename R::A* fields) {
  using A = typename R::A;
  const MainPass<R> main{r};
  const bool is_short = runs.outer.ndim == 0 && end <= kLanes<A>;  // begin is 0: the chunk is the whole row
  if constexpr (R::kFields == 1) {
    fields[0] = is_short ? pass_short_row(main, x, end, runs.stride, A(0)) : pass_row(main, x, runs, begin, end, A(0));
  } else {
    const FirstPass<R> first{r};
    A found = is_short ? pass_short_row(first, x, end, runs.stride, A(0)) : pass_row(first, x, runs, begin, end, A(0));
    fields[0] = r.pivot(found, A(end - begin));
    fields[1] = is_short ? pass_short_row(main, x, end, runs.stride, fields[0])
                         : pass_row(main, x, runs, begin, end, fields[0]);
  }
}

// Bytes are counted 64 at a time, in bytes: a chunk adds at most kChunk / 64 to each.
inline void row_chunk(const CountNonzero& r, const uint8_t* x, const Inner& runs, int64_t begin, int64_t end,
                      int64_t* fields) {
  static_assert(kChunk / 64 < 256);
  if (runs.stride != 1) {
    fields[0] = pass_row(MainPass<CountNonzero>{r}, x, runs, begin, end, 0);
    return;
  }
  int64_t total = 0, at = begin % runs.n;
  Cursor run(runs.outer, begin / runs.n);
  for (int64_t left = end - begin; left > 0; run.next(), at = 0) {
    const int64_t n = smaller(runs.n - at, left);
    const uint8_t* p = x + run.offset + at;
    left -= n;
    uint8_t counts[64] = {};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
      for (int k = 0; k < 64; ++k) counts[k] = uint8_t(counts[k] + (p[i + k] != 0));
    for (; i < n; ++i) total += p[i] != 0;
    for (uint8_t c : counts) total += c;
  }
  fields[0] = total;
}

// finish(fields, o) writes output o.
template <class R, class T, class Finish>
void reduce_rows(const R& r, const T* x, const ReduceView& view, const Finish& finish) {
  using A = typename R::A;
  constexpr int F = R::kFields;
  const Inner runs(view.reduced);
  const int64_t outputs = view.kept.numel, n = view.reduced.numel, chunks = ceil_div(n, kChunk);
  if (chunks == 1) {
    parallel_for(outputs, larger(1, kGrain / n), [&](int64_t begin, int64_t end) {
      Cursor row(view.kept, begin);
      for (int64_t o = begin; o < end; ++o, row.next()) {
        A fields[F];
        row_chunk(r, x + row.offset, runs, 0, n, fields);
        finish(fields, o);
      }
    });
    return;
  }
  Scratch<A> parts(outputs * chunks * F);
  parallel_for(outputs * chunks, kGrain / kChunk, [&](int64_t begin, int64_t end) {
    Cursor row(view.kept, begin / chunks);
    int64_t chunk = begin % chunks;
    for (int64_t unit = begin; unit < end; ++unit) {
      row_chunk(r, x + row.offset, runs, chunk * kChunk, smaller(n, (chunk + 1) * kChunk), &parts[unit * F]);
      if (++chunk == chunks) {
        chunk = 0;
        row.next();
      }
    }
  });
  parallel_for(outputs, larger(1, kGrain / 16 / chunks), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      A* part = &parts[o * chunks * F];
      for (int64_t span = 1; span < chunks; span *= 2)
        for (int64_t c = 0; c + span < chunks; c += 2 * span)
          merge_fields(r, part + c * F, part + (c + span) * F, span * kChunk,
                       smaller(n - (c + span) * kChunk, span * kChunk));
      finish(part, o);
    }
  });
}

// Columns ------------------------------------------------------------------------------------------------------------

// A block of `columns` >= one vector is covered by ceil(columns / lanes) vectors, the last of which ends with the block
// and so overlaps its neighbour. Field f of its accumulators starts at f * slots.
template <class A> struct Block {
  int64_t columns, vectors, slots;
  Block(int64_t columns, int64_t slots) : columns(columns), vectors(ceil_div(columns, kLanes<A>)), slots(slots) {}
  int64_t column(int64_t v) const { return v + 1 < vectors ? v * kLanes<A> : columns - kLanes<A>; }
  int64_t slot(int64_t column) const {  // where a column's accumulator is
    int64_t last = (vectors - 1) * kLanes<A>;
    return column < last ? column : last + column - (columns - kLanes<A>);
  }
};
// acc[slot] from rows [begin, end) of the reduced axes; pivot[slot] or null.
template <class P, class T>
void pass_columns(const P& pass, const T* x, const Axes& rows, int64_t begin, int64_t end, Block<typename P::A> block,
                  const typename P::A* pivot, typename P::A* acc) {
  using A = typename P::A;
  using V = Vec<A>;
  constexpr int64_t L = kLanes<A>;
  Cursor row(rows, begin);
  for (int64_t v = 0; v < block.vectors; ++v) store(acc + v * L, splat(pass.identity()));
  const T* p[8];
  for (int64_t left = end - begin; left > 0;) {
    const int64_t n = smaller(left, 8);
    for (int64_t k = 0; k < n; ++k, row.next()) p[k] = x + row.offset;
    left -= n;
    for (int64_t v = 0; v < block.vectors; ++v) {
      const int64_t column = block.column(v);
      V a = load(acc + v * L), pivots = pivot ? load(pivot + v * L) : V{};
      if (n == 8)
        for (int k = 0; k < 8; ++k) a = pass.step(a, load_as<A>(p[k] + column), pivots);
      else
        for (int64_t k = 0; k < n; ++k) a = pass.step(a, load_as<A>(p[k] + column), pivots);
      store(acc + v * L, a);
    }
  }
}

template <class R, class T>
void column_chunk(const R& r, const T* x, const Axes& rows, int64_t begin, int64_t end, Block<typename R::A> block,
                  typename R::A* fields) {
  using A = typename R::A;
  if constexpr (R::kFields == 1) {
    pass_columns(MainPass<R>{r}, x, rows, begin, end, block, nullptr, fields);
  } else {
    pass_columns(FirstPass<R>{r}, x, rows, begin, end, block, nullptr, fields);
    for (int64_t v = 0; v < block.vectors; ++v) {
      A* pivot = fields + v * kLanes<A>;
      store(pivot, r.pivot(load(pivot), A(end - begin)));
    }
    pass_columns(MainPass<R>{r}, x, rows, begin, end, block, fields, fields + block.slots);
  }
}

template <class R>
void merge_columns(const R& r, typename R::A* a, const typename R::A* b, Block<typename R::A> block, int64_t na,
                   int64_t nb) {
  using A = typename R::A;
  for (int64_t v = 0; v < block.vectors; ++v) {
    Vec<A> left[R::kFields], right[R::kFields];
    for (int f = 0; f < R::kFields; ++f) {
      left[f] = load(a + f * block.slots + v * kLanes<A>);
      right[f] = load(b + f * block.slots + v * kLanes<A>);
    }
    merge_fields(r, left, right, na, nb);
    for (int f = 0; f < R::kFields; ++f) store(a + f * block.slots + v * kLanes<A>, left[f]);
  }
}

// The columns (innermost kept axis) in blocks of even size, so that none is narrower than a vector. A unit is a block
// of one row of the other kept axes.
template <class A> struct ColumnBlocks {
  int64_t width, blocks, slots;
  explicit ColumnBlocks(int64_t width)
      : width(width),
        blocks(ceil_div(width, kColumns)),
        slots(ceil_div(ceil_div(width, blocks), kLanes<A>) * kLanes<A>) {}
  int64_t first(int64_t unit) const { return width * (unit % blocks) / blocks; }
  Block<A> block(int64_t unit) const { return {width * (unit % blocks + 1) / blocks - first(unit), slots}; }
  int64_t output(int64_t unit) const { return unit / blocks * width + first(unit); }
};

template <class R, class T, class Finish>
void reduce_columns(const R& r, const T* x, const ReduceView& view, const Finish& finish) {
  using A = typename R::A;
  constexpr int F = R::kFields;
  const Inner kept(view.kept);
  const ColumnBlocks<A> cut(kept.n);
  const int64_t n = view.reduced.numel, chunks = ceil_div(n, kChunkRows);
  const int64_t units = kept.outer.numel * cut.blocks, part_size = F * cut.slots;
  auto finish_unit = [&](const A* fields, int64_t unit) {
    const Block<A> block = cut.block(unit);
    for (int64_t c = 0; c < block.columns; ++c) {
      A column[F];
      for (int f = 0; f < F; ++f) column[f] = fields[f * cut.slots + block.slot(c)];
      finish(column, cut.output(unit) + c);
    }
  };
  auto reduce_unit = [&](int64_t unit, int64_t chunk, A* fields) {
    const T* from = x + Cursor(kept.outer, unit / cut.blocks).offset + cut.first(unit);
    column_chunk(r, from, view.reduced, chunk * kChunkRows, smaller(n, (chunk + 1) * kChunkRows), cut.block(unit),
                 fields);
  };
  const int64_t grain = larger(1, kGrain / (smaller(n, kChunkRows) * (cut.width / cut.blocks)));
  if (chunks == 1) {
    parallel_for(units, grain, [&](int64_t begin, int64_t end) {
      A fields[F * (kColumns + kLanes<A>)];
      for (int64_t unit = begin; unit < end; ++unit) {
        reduce_unit(unit, 0, fields);
        finish_unit(fields, unit);
      }
    });
    return;
  }
  Scratch<A> parts(units * chunks * part_size);
  parallel_for(units * chunks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) reduce_unit(i / chunks, i % chunks, &parts[i * part_size]);
  });
  parallel_for(units, larger(1, kGrain / (chunks * cut.slots)), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      A* part = &parts[unit * chunks * part_size];
      for (int64_t span = 1; span < chunks; span *= 2)
        for (int64_t c = 0; c + span < chunks; c += 2 * span)
          merge_columns(r, part + c * part_size, part + (c + span) * part_size, cut.block(unit), span * kChunkRows,
                        smaller(n - (c + span) * kChunkRows, span * kChunkRows));
      finish_unit(part, unit);
    }
  });
}

template <class A> bool by_columns(const ReduceView& view) {
  const int last = view.kept.ndim - 1;
  return last >= 0 && view.kept.stride[last] == 1 && view.kept.shape[last] >= kLanes<A>;
}

template <class R, class T, class Finish>
inline void run(const R& r, const T* x, const ReduceView& view, const Finish& finish) {
  if (by_columns<typename R::A>(view))
    reduce_columns(r, x, view, finish);
  else
    reduce_rows(r, x, view, finish);
}

// Entry points -------------------------------------------------------------------------------------------------------

void reduce(Reducer op, DType t, const void* x_, void* y_, const ReduceView& view, double parameter) {
  if (is_floating(t)) {
    dispatch_floating(t, [&]<class T>() {
      using A = compute_t<T>;
      const T* x = static_cast<const T*>(x_);
      T* y = static_cast<T*>(y_);
      auto keep = [y](const A* f, int64_t o) { store1(y + o, f[0]); };
      switch (op) {
        case Reducer::Sum:
        case Reducer::NanSum: {
          auto divide = [y, by = A(parameter)](const A* f, int64_t o) { store1(y + o, f[0] / by); };
          return op == Reducer::Sum ? run(Sum<A>{}, x, view, divide) : run(NanSum<A>{}, x, view, divide);
        }
        case Reducer::Prod: return run(Prod<A>{}, x, view, keep);
        case Reducer::Max: return run(Extreme<A, true>{}, x, view, keep);
        case Reducer::Min: return run(Extreme<A, false>{}, x, view, keep);
        case Reducer::Norm1: return run(Norm1<A>{}, x, view, keep);
        case Reducer::Norm2:
          return run(Norm2<A>{}, x, view, [y](const A* f, int64_t o) { store1(y + o, A(::sqrt(f[0]))); });
        case Reducer::NormP:
          return run(NormP<A>(A(parameter)), x, view,
                     [y, root = 1 / parameter](const A* f, int64_t o) { store1(y + o, A(::pow(f[0], root))); });
        case Reducer::LogSumExp:
          return run(LogSumExp<A>{}, x, view,
                     [y](const A* f, int64_t o) { store1(y + o, A(::log(f[1])) + LogSumExp<A>::shift(f[0])); });
      }
    });
    return;
  }
  dispatch_whole(t, [&]<class T>() {
    using A = int64_t;
    const T* x = static_cast<const T*>(x_);
    auto widened = [y_](const A* f, int64_t o) { static_cast<int64_t*>(y_)[o] = f[0]; };
    auto keep = [y_](const A* f, int64_t o) { static_cast<T*>(y_)[o] = T(f[0]); };
    if (op == Reducer::Sum) return run(Sum<A>{}, x, view, widened);
    if (op == Reducer::Prod) return run(Prod<A>{}, x, view, widened);
    if (op == Reducer::Max) return run(Extreme<A, true>{}, x, view, keep);
    run(Extreme<A, false>{}, x, view, keep);
  });
}

void count(Counter what, DType t, const void* x, void* y, const ReduceView& view) {
  const int64_t n = view.reduced.numel;
  auto finish = [=](const int64_t* f, int64_t o) {
    if (what == Counter::Count)
      static_cast<int64_t*>(y)[o] = f[0];
    else
      static_cast<uint8_t*>(y)[o] = what == Counter::Any ? f[0] > 0 : f[0] == n;
  };
  dispatch_size(item_size(t), [&]<class U>() {
    const uint64_t all = U(~U(0));
    const CountNonzero nonzero(int64_t(is_floating(t) ? all >> 1 : all));
    run(nonzero, static_cast<const U*>(x), view, finish);
  });
}

void var(DType t, const void* x, void* var_, void* mean_, const ReduceView& view, double correction, bool root) {
  dispatch_floating(t, [&]<class T>() {
    using A = compute_t<T>;
    T* out = static_cast<T*>(var_);
    T* mean = static_cast<T*>(mean_);
    const double rest = double(view.reduced.numel) - correction;
    const A divisor = A(rest > 0 ? rest : 0);
    run(Moments<A>{}, static_cast<const T*>(x), view, [=](const A* f, int64_t o) {
      A v = f[1] / divisor;
      store1(out + o, root ? A(::sqrt(v)) : v);
      if (mean) store1(mean + o, f[0]);
    });
  });
}

// The first element of a row equal to `value` (NaN: the first NaN), which is there.
template <class A, class T> int64_t find(const T* x, int64_t n, int64_t stride, A value) {
  constexpr int64_t L = kLanes<A>;
  const bool nan = is_nan(value);
  auto hit = [=](auto v) { return nan ? is_nan(v) : v == all_lanes<decltype(v)>(value); };
  int64_t i = 0;
  if (stride == 1) {
    using Words = typename Packed<uint64_t, GG_VECTOR_BYTES / 8>::type;
    for (; i + 4 * L <= n; i += 4 * L) {
      Mask<A> any = hit(load_as<A>(x + i)) | hit(load_as<A>(x + i + L)) | hit(load_as<A>(x + i + 2 * L)) |
                    hit(load_as<A>(x + i + 3 * L));
      auto words = bit_cast<Words>(any);
      uint64_t found = 0;
      for (int k = 0; k < GG_VECTOR_BYTES / 8; ++k) found |= words[k];
      if (found) break;
    }
  }
  while (i < n - 1 && !hit(A(load1(x + i * stride)))) ++i;
  return i;
}

// Rows: the extremum of each chunk, then a look for it in the first chunk that holds it.
template <class R, class T, class Write>
void extremum_rows(const R& r, const T* x, const ReduceView& view, const Write& write) {
  using A = typename R::A;
  const Inner runs(view.reduced);
  const int64_t outputs = view.kept.numel, n = runs.n, chunks = ceil_div(n, kChunk);
  Scratch<A> parts(outputs * chunks);
  parallel_for(outputs * chunks, larger(1, kGrain / smaller(n, kChunk)), [&](int64_t begin, int64_t end) {
    Cursor row(view.kept, begin / chunks);
    int64_t chunk = begin % chunks;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = chunk * kChunk, last = smaller(n, first + kChunk);
      row_chunk(r, x + row.offset, runs, first, last, &parts[unit]);
      if (chunks == 1) write(unit, parts[unit], find(x + row.offset, n, runs.stride, parts[unit]));
      if (++chunk == chunks) {
        chunk = 0;
        row.next();
      }
    }
  });
  if (chunks == 1) return;
  parallel_for(outputs, larger(1, kGrain / n), [&](int64_t begin, int64_t end) {
    Cursor row(view.kept, begin);
    for (int64_t o = begin; o < end; ++o, row.next()) {
      const A* part = &parts[o * chunks];
      A best = part[0];
      for (int64_t c = 1; c < chunks; ++c) best = r.combine(best, part[c]);
      const int64_t first = find(part, chunks, 1, best) * kChunk;
      write(o, best, first + find(x + row.offset + first * runs.stride, smaller(n - first, kChunk), runs.stride, best));
    }
  });
}

// Columns: the best value and its row so far stay in the first-level cache beside each other.
template <class R, class T, class Write>
void extremum_columns(const R& r, const T* x, const ReduceView& view, const Write& write) {
  using A = typename R::A;
  using I = typename int_of<A>::type;
  using V = Vec<A>;
  constexpr int64_t L = kLanes<A>;
  constexpr int64_t kRows = 4096;  // of a chunk; rows are counted in I, which may have 32 bits
  const Inner kept(view.kept);
  const ColumnBlocks<A> cut(kept.n);
  const int64_t n = view.reduced.numel, stride = Inner(view.reduced).stride, chunks = ceil_div(n, kRows);
  const int64_t units = kept.outer.numel * cut.blocks;
  Scratch<A> values(units * chunks * cut.slots);
  Scratch<I> rows(units * chunks * cut.slots);
  parallel_for(units * chunks, larger(1, kGrain / 2 / (smaller(n, kRows) * (cut.width / cut.blocks))),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t unit = i / chunks, chunk = i % chunks, first = chunk * kRows,
                                 last = smaller(n, first + kRows);
                   const Block<A> block = cut.block(unit);
                   const T* from = x + Cursor(kept.outer, unit / cut.blocks).offset + cut.first(unit) + first * stride;
                   A* value = &values[i * cut.slots];
                   I* row = &rows[i * cut.slots];
                   for (int64_t v = 0; v < block.vectors; ++v) {
                     store(value + v * L, load_as<A>(from + block.column(v)));
                     store(row + v * L, Vec<I>{});
                   }
                   for (int64_t k = 1; k < last - first; k += 4) {
                     const int64_t group = smaller(4, last - first - k);
                     for (int64_t v = 0; v < block.vectors; ++v) {
                       V best = load(value + v * L);
                       Vec<I> at = load(row + v * L);
                       for (int64_t j = 0; j < group; ++j) {
                         V next = load_as<A>(from + (k + j) * stride + block.column(v));
                         Mask<A> better = (r.better(next, best) | is_nan(next)) & ~is_nan(best);
                         best = better ? next : best;
                         at = better ? splat(I(k + j)) : at;
                       }
                       store(value + v * L, best);
                       store(row + v * L, at);
                     }
                   }
                 }
               });
  parallel_for(units, larger(1, kGrain / (chunks * cut.slots)), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Block<A> block = cut.block(unit);
      for (int64_t c = 0; c < block.columns; ++c) {
        const int64_t slot = unit * chunks * cut.slots + block.slot(c);
        A best = values[slot];
        int64_t at = rows[slot];
        for (int64_t chunk = 1; chunk < chunks; ++chunk) {
          const A next = values[slot + chunk * cut.slots];
          if (!is_nan(best) && (r.better(next, best) || is_nan(next))) {
            best = next;
            at = chunk * kRows + rows[slot + chunk * cut.slots];
          }
        }
        write(cut.output(unit) + c, best, at);
      }
    }
  });
}

template <class R, class T>
void extremum_of(const R& r, const T* x, T* values, int64_t* indices, const ReduceView& view) {
  using A = typename R::A;
  auto write = [=](int64_t o, A value, int64_t index) {
    if (values) store_as(values + o, value);
    indices[o] = index;
  };
  if (by_columns<A>(view))
    extremum_columns(r, x, view, write);
  else
    extremum_rows(r, x, view, write);
}

void extremum(DType t, bool largest, const void* x_, void* values_, int64_t* indices, const ReduceView& view) {
  auto of_type = [&]<class T>() {
    using A = accumulate_t<T>;
    const T* x = static_cast<const T*>(x_);
    T* values = static_cast<T*>(values_);
    if (largest)
      extremum_of(Extreme<A, true>{}, x, values, indices, view);
    else
      extremum_of(Extreme<A, false>{}, x, values, indices, view);
  };
  if (is_floating(t))
    dispatch_floating(t, of_type);
  else
    dispatch_whole(t, of_type);
}

// d prod / d x_k is the product of the others, prefix times suffix, which needs no division and so allows zeros.
void prod_backward(DType t, const void* dy_, const void* x_, void* dx_, int64_t outer, int64_t n, int64_t inner) {
  dispatch_floating(t, [&]<class T>() {
    using A = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    const T* x = static_cast<const T*>(x_);
    T* dx = static_cast<T*>(dx_);
    parallel_for(outer * inner, larger(1, kGrain / 4 / n), [&](int64_t begin, int64_t end) {
      Scratch<A> prefix(n);
      for (int64_t o = begin; o < end; ++o) {
        const int64_t at = o / inner * n * inner + o % inner;
        A product = load1(dy + o);
        for (int64_t k = 0; k < n; ++k) {
          prefix[k] = product;
          product *= load1(x + at + k * inner);
        }
        product = 1;
        for (int64_t k = n - 1; k >= 0; --k) {
          store1(dx + at + k * inner, prefix[k] * product);
          product *= load1(x + at + k * inner);
        }
      }
    });
  });
}

}  // namespace

const ReduceKernels reduce_kernels = {reduce, count, var, extremum, prod_backward};

}  // namespace gg::GG_ISA
