// CUDA kernels of sort.h, over the stable sort of cuda/radix_sort.h. The k best: tiles of a row keep their k best until
// one tile holds them. The k-th and the mode are found in sorted rows. Rows of few columns are sorted column by column
// from the last; of many, merged: each row finds by bisection how many of the other run go before it.
#include "ops/sort/sort.h"

#include <utility>

#include "core/dispatch.h"
#include "cuda/number.h"
#include "cuda/radix_sort.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;

template <class U> void sort_elements(const U* x, KeyMap<U> map, int64_t rows, int64_t n, int64_t keep, Sorted<U> out) {
  constexpr int bits = 8 * int(sizeof(U));
  if (n <= int64_t(UINT32_MAX))
    radix_sort<U>(x, map, bits, rows, n, keep, out);
  else
    radix_sort<U, uint64_t>(x, map, bits, rows, n, keep, out);
}

void sort(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, bool descending) {
  dispatch_size(item_size(dtype), [&]<class U>() {
    sort_elements<U>(static_cast<const U*>(x), KeyMap<U>(dtype, descending), rows, n, n,
                     {static_cast<U*>(values), order, nullptr});
  });
}

void topk(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, int64_t k, bool largest) {
  if (k == 0) return;
  dispatch_size(item_size(dtype), [&]<class U>() {
    const KeyMap<U> map(dtype, largest);
    const U* from = static_cast<const U*>(x);
    const Sorted<U> out{static_cast<U*>(values), order, nullptr};
    if (n <= kTile<U> || k > kTile<U> / 4) return sort_elements<U>(from, map, rows, n, k, out);
    const int64_t first = kept_by_tiles<U>(n, k), second = kept_by_tiles<U>(first, k);
    Scratch<U> best(rows * (first + second));
    Scratch<int64_t> places(rows * (first + second));
    const int64_t* position = nullptr;
    for (int64_t at = 0; n > kTile<U>; at = at ? 0 : rows * first) {
      sort_tiles<U>(from, position, map, rows, n, k, {best + at, places + at, nullptr});
      n = kept_by_tiles<U>(n, k);
      from = best + at;
      position = places + at;
    }
    sort_tiles<U>(from, position, map, rows, n, k, out);
  });
}

// From sorted rows, where NaNs stand last.
template <class U>
__global__ void kth_kernel(const U* __restrict__ sorted, const int64_t* __restrict__ sorted_order, KeyMap<U> map,
                           int64_t rows, int64_t n, int64_t k, NanRule nan, U* __restrict__ values,
                           int64_t* __restrict__ order) {
  for (int64_t r = first_item(); r < rows; r += item_step()) {
    const U* const row = sorted + r * n;
    int64_t numbers = n;
    if (nan != NanRule::Greatest && map.kind == KeyMap<U>::Floating) {
      int64_t begin = 0;
      while (begin < numbers) {
        const int64_t middle = begin + (numbers - begin) / 2;
        if (map(row[middle]) == U(~U(0)))
          numbers = middle;
        else
          begin = middle + 1;
      }
    }
    const int64_t ranked = nan == NanRule::Skip && numbers > 0 ? numbers : n;
    const int64_t at = nan == NanRule::First && numbers < n ? numbers : k >= 0 ? k : (ranked - 1) / 2;
    values[r] = row[at];
    order[r] = sorted_order[r * n + at];
  }
}

void kth(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, int64_t k, NanRule nan) {
  dispatch_size(item_size(dtype), [&]<class U>() {
    const KeyMap<U> map(dtype, false);
    Scratch<U> sorted(rows * n);
    Scratch<int64_t> sorted_order(rows * n);
    sort_elements<U>(static_cast<const U*>(x), map, rows, n, n, {sorted, sorted_order, nullptr});
    launch(kth_kernel<U>, grid_for(rows, kThreads), kThreads, 0, static_cast<const U*>(sorted.get()),
           static_cast<const int64_t*>(sorted_order.get()), map, rows, n, k, nan, static_cast<U*>(values), order);
  });
}

// A run of equal elements and where it ends: the longest, the first of several.
struct Run { int64_t length, last; };
struct Longest {
  static __device__ Run of(Run a, Run b) {
    return a.length > b.length || (a.length == b.length && a.last < b.last) ? a : b;
  }
};

struct RunParts { Run parts[kThreads / 32]; };

constexpr int64_t kRunPiece = 8192;

// The longest run that ends in a piece of a sorted row; every NaN is a run of its own.
template <class U>
__global__ void longest_run_kernel(const U* __restrict__ sorted, KeyMap<U> map, int64_t n, int64_t pieces, int64_t all,
                                   Run* __restrict__ runs) {
  RunParts& m = shared<RunParts>();
  for (int64_t piece = blockIdx.x; piece < all; piece += gridDim.x) {
    const U* const row = sorted + piece / pieces * n;
    const int64_t begin = piece % pieces * kRunPiece, end = begin + kRunPiece < n ? begin + kRunPiece : n;
    Run best{0, n};
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
      const U key = map(row[i]);
      const bool is_nan = map.kind == KeyMap<U>::Floating && key == U(~U(0));
      if (is_nan ? best.length > 0 : i + 1 < n && map(row[i + 1]) == key) continue;
      if (best.length > i || (!is_nan && best.length > 0 && map(row[i - best.length]) != key)) continue;
      int64_t first = i;  // the first element of the run lies in (below, first]
      for (int64_t below = is_nan ? i - 1 : -1; first - below > 1;) {
        const int64_t middle = below + (first - below) / 2;
        if (map(row[middle]) == key)
          first = middle;
        else
          below = middle;
      }
      best = {i - first + 1, i};
    }
    best = block_reduce<Longest>(best, m.parts);
    if (threadIdx.x == 0) runs[piece] = best;
  }
}

template <class U>
__global__ void mode_kernel(const Run* __restrict__ runs, int64_t pieces, const U* __restrict__ sorted,
                            const int64_t* __restrict__ sorted_order, int64_t rows, int64_t n, U* __restrict__ values,
                            int64_t* __restrict__ order) {
  for (int64_t r = first_item(); r < rows; r += item_step()) {
    Run best = runs[r * pieces];
    for (int64_t p = 1; p < pieces; ++p) best = Longest::of(best, runs[r * pieces + p]);
    values[r] = sorted[r * n + best.last];
    order[r] = sorted_order[r * n + best.last];
  }
}

void mode(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n) {
  dispatch_size(item_size(dtype), [&]<class U>() {
    const KeyMap<U> map(dtype, false);
    const int64_t pieces = ceil_div(n, kRunPiece);
    Scratch<U> sorted(rows * n);
    Scratch<int64_t> sorted_order(rows * n);
    Scratch<Run> runs(rows * pieces);
    sort_elements<U>(static_cast<const U*>(x), map, rows, n, n, {sorted, sorted_order, nullptr});
    launch(longest_run_kernel<U>, grid_for(rows * pieces, 1), kThreads, sizeof(RunParts),
           static_cast<const U*>(sorted.get()), map, n, pieces, rows * pieces, runs.get());
    launch(mode_kernel<U>, grid_for(rows, kThreads), kThreads, 0, static_cast<const Run*>(runs.get()), pieces,
           static_cast<const U*>(sorted.get()), static_cast<const int64_t*>(sorted_order.get()), rows, n,
           static_cast<U*>(values), order);
  });
}

// y[i] = the column's element of row order[i]; of row i where order is null.
template <class U>
__global__ void take_column_kernel(const U* __restrict__ x, const int64_t* __restrict__ order, int64_t n, int64_t m,
                                   int64_t column, U* __restrict__ y) {
  for (int64_t i = first_item(); i < n; i += item_step()) y[i] = x[(order ? order[i] : i) * m + column];
}

// y = order[places]; places where order is null.
__global__ void take_order_kernel(const int64_t* __restrict__ order, const int64_t* __restrict__ places, int64_t n,
                                  int64_t* __restrict__ y) {
  for (int64_t i = first_item(); i < n; i += item_step()) y[i] = order ? order[places[i]] : places[i];
}

__global__ void count_up_kernel(int64_t* __restrict__ y, int64_t n) {
  for (int64_t i = first_item(); i < n; i += item_step()) y[i] = i;
}

// Runs of `width` rows in order become runs of twice that.
template <class U>
__global__ void merge_rows_kernel(const U* __restrict__ x, KeyMap<U> map, int64_t n, int64_t m, int64_t width,
                                  const int64_t* __restrict__ from, int64_t* __restrict__ to) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int64_t begin = i / (2 * width) * (2 * width), middle = begin + width < n ? begin + width : n,
                  end = middle + width < n ? middle + width : n;
    const bool is_first = i < middle;
    const U* const mine = x + from[i] * m;
    int64_t low = is_first ? middle : begin, high = is_first ? end : middle;
    const int64_t start = low;
    while (low < high) {
      const int64_t at = low + (high - low) / 2;
      const U* const other = x + from[at] * m;
      int64_t k = 0;
      while (k < m && map(mine[k]) == map(other[k])) ++k;
      // Of equal rows those of the first run go before.
      const bool before = k < m ? map(other[k]) < map(mine[k]) : !is_first;
      if (before)
        low = at + 1;
      else
        high = at;
    }
    to[(is_first ? i : i - middle + begin) + low - start] = from[i];
  }
}

void sort_rows(DType dtype, const void* x, int64_t n, int64_t m, int64_t* order) {
  constexpr int64_t few = 8;  // columns that are sorted one by one
  dispatch_size(item_size(dtype), [&]<class U>() {
    const U* const rows = static_cast<const U*>(x);
    const KeyMap<U> map(dtype, false);
    const dim3 grid = grid_for(n, kThreads);
    Scratch<int64_t> other(n);
    int64_t *from = order, *to = other;
    if (m > few) {
      launch(count_up_kernel, grid, kThreads, 0, order, n);
      for (int64_t width = 1; width < n; width *= 2) {
        launch(merge_rows_kernel<U>, grid, kThreads, 0, rows, map, n, m, width, static_cast<const int64_t*>(from), to);
        std::swap(from, to);
      }
    } else {
      Scratch<U> keys(n);
      Scratch<int64_t> places(n);
      for (int64_t column = m - 1; column >= 0; --column) {
        const bool is_first = column == m - 1;
        launch(take_column_kernel<U>, grid, kThreads, 0, rows, is_first ? nullptr : static_cast<const int64_t*>(from),
               n, m, column, keys.get());
        sort_elements<U>(keys, map, 1, n, n, {nullptr, is_first ? from : places.get(), nullptr});
        if (is_first) continue;
        launch(take_order_kernel, grid, kThreads, 0, static_cast<const int64_t*>(from),
               static_cast<const int64_t*>(places.get()), n, to);
        std::swap(from, to);
      }
    }
    if (from != order)
      launch(take_order_kernel, grid, kThreads, 0, nullptr, static_cast<const int64_t*>(from), n, order);
  });
}

constexpr int64_t kMarkPiece = 2048;

struct MarkParts { int64_t parts[32]; };

// run[i] = changes in i's piece up to row i; sums: in the whole piece.
template <class T>
__global__ void mark_changes_kernel(const T* __restrict__ x, int64_t n, int64_t m, const int64_t* __restrict__ order,
                                    int64_t* __restrict__ run, int64_t* __restrict__ sums, int64_t pieces) {
  MarkParts& shared_parts = shared<MarkParts>();
  for (int64_t piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
    const int64_t begin = piece * kMarkPiece, end = begin + kMarkPiece < n ? begin + kMarkPiece : n;
    int64_t before = 0;
    for (int64_t first = begin; first < end; first += kThreads) {
      const int64_t i = first + threadIdx.x;
      bool differs = false;
      if (i > 0 && i < end) {
        const T* a = x + (order ? order[i] : i) * m;
        const T* b = x + (order ? order[i - 1] : i - 1) * m;
        for (int64_t k = 0; k < m && !differs; ++k) differs = load(a + k) != load(b + k);
      }
      int64_t total;
      const int64_t sum = block_prefix_sum(int64_t(differs), shared_parts.parts, &total);
      if (i < end) run[i] = before + sum + differs;
      before += total;
    }
    if (threadIdx.x == 0) sums[piece] = before;
  }
}

// Each becomes the sum of those before it; one block.
__global__ void __launch_bounds__(1024) sum_before_kernel(int64_t* __restrict__ sums, int64_t n) {
  MarkParts& m = shared<MarkParts>();
  int64_t before = 0;
  for (int64_t first = 0; first < n; first += blockDim.x) {
    const int64_t i = first + threadIdx.x;
    int64_t total;
    const int64_t sum = block_prefix_sum(i < n ? sums[i] : int64_t(0), m.parts, &total);
    if (i < n) sums[i] = before + sum;
    before += total;
  }
}

__global__ void add_before_kernel(int64_t* __restrict__ run, const int64_t* __restrict__ sums, int64_t n) {
  for (int64_t i = first_item(); i < n; i += item_step()) run[i] += sums[i / kMarkPiece];
}

int64_t mark_runs(DType dtype, const void* x, int64_t n, int64_t m, const int64_t* order, int64_t* run) {
  if (n == 0) return 0;
  const int64_t pieces = ceil_div(n, kMarkPiece);
  Scratch<int64_t> sums(pieces);
  dispatch_all(dtype, [&]<class T>() {
    launch(mark_changes_kernel<T>, grid_for(pieces, 1), kThreads, sizeof(MarkParts), static_cast<const T*>(x), n, m,
           order, run, sums.get(), pieces);
  });
  if (pieces > 1) {
    launch(sum_before_kernel, 1, 1024, sizeof(MarkParts), sums.get(), pieces);
    launch(add_before_kernel, grid_for(n, kThreads), kThreads, 0, run, static_cast<const int64_t*>(sums.get()), n);
  }
  return read(run + n - 1) + 1;
}

// How many leading elements of a sorted row go before v: those not above it, or those below it; NaN is above all.
template <class T>
__device__ inline int64_t partition_point(const T* row, const int64_t* sorter, int64_t n, compute_t<T> v, bool right) {
  int64_t begin = 0;
  while (n > 0) {
    const int64_t half = n / 2, at = begin + half;
    const compute_t<T> a = load(row + (sorter ? sorter[at] : at));
    const bool before = right ? !(a > v) : !(a >= v);
    begin = before ? at + 1 : begin;
    n = before ? n - half - 1 : half;
  }
  return begin;
}

template <class T>
__global__ void search_kernel(const T* __restrict__ sorted, const int64_t* __restrict__ sorter, const T* __restrict__ x,
                              int64_t* __restrict__ out, int64_t all, int64_t n, int64_t m, bool shared_row,
                              bool right) {
  for (int64_t i = first_item(); i < all; i += item_step()) {
    const int64_t row = shared_row ? 0 : i / m * n;
    out[i] = partition_point(sorted + row, sorter ? sorter + row : nullptr, n, load(x + i), right);
  }
}

void search(DType dtype, const void* sorted, const int64_t* sorter, const void* x, int64_t* out, int64_t rows,
            int64_t n, int64_t m, bool shared_row, bool right) {
  const int64_t all = rows * m;
  dispatch_all(dtype, [&]<class T>() {
    launch(search_kernel<T>, grid_for(all, kThreads), kThreads, 0, static_cast<const T*>(sorted), sorter,
           static_cast<const T*>(x), out, all, n, m, shared_row, right);
  });
}

template <class T>
__global__ void contains_kernel(const T* __restrict__ sorted, int64_t n, const T* __restrict__ x,
                                bool* __restrict__ out, int64_t m, bool invert) {
  for (int64_t i = first_item(); i < m; i += item_step()) {
    const auto v = load(x + i);
    int64_t begin = 0;
    for (int64_t left = n; left > 0;) {
      const int64_t half = left / 2;
      const bool before = load(sorted + begin + half) < v;
      begin = before ? begin + half + 1 : begin;
      left = before ? left - half - 1 : half;
    }
    out[i] = (begin < n && load(sorted + begin) == v) != invert;
  }
}

void contains(DType dtype, const void* sorted, int64_t n, const void* x, bool* out, int64_t m, bool invert) {
  dispatch_all(dtype, [&]<class T>() {
    launch(contains_kernel<T>, grid_for(m, kThreads), kThreads, 0, static_cast<const T*>(sorted), n,
           static_cast<const T*>(x), out, m, invert);
  });
}

}  // namespace

const SortKernels sort_kernels = {sort, topk, kth, mode, sort_rows, mark_runs, search, contains};

}  // namespace gg::cuda
