// CUDA kernels of index.h. Reads: an element a thread, or 16 bytes of a row. Writes: where an axis is short, each
// element looks at the rest of its line; whole numbers are added by atomics, in any order; the last write to an item is
// the greatest position that names it. All others go through positions in order of their destinations
// (cuda/destinations.h).
#include "ops/index/index.h"

#include <type_traits>

#include "core/dispatch.h"
#include "cuda/destinations.h"
#include "cuda/first_bad.h"
#include "cuda/number.h"
#include "cuda/offsets.h"
#include "cuda/rows.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;

// ---- offsets

struct Indices {
  int count;
  const int64_t* index[kMaxDims];
  int64_t size[kMaxDims], stride[kMaxDims];
};

__global__ void index_offsets_kernel(const __grid_constant__ Indices from, bool wrap, int64_t n,
                                     int64_t* __restrict__ offsets, BadPosition* __restrict__ bad) {
  for (int64_t j = first_item(); j < n; j += item_step()) {
    int64_t offset = 0;  // -1: out of bounds
    for (int k = 0; k < from.count; ++k) {
      int64_t i = from.index[k][j];
      if (wrap && i < 0) i += from.size[k];
      const bool inside = uint64_t(i) < uint64_t(from.size[k]);
      if (!inside) report_bad(bad, k * n + j);
      offset = inside && offset >= 0 ? offset + i * from.stride[k] : -1;
    }
    offsets[j] = offset;
  }
}

int64_t index_offsets(int count, const int64_t* const* index, const int64_t* size, const int64_t* stride, bool wrap,
                      int64_t n, int64_t* offsets) {
  if (n == 0) return -1;
  Indices from;
  from.count = count;
  for (int k = 0; k < count; ++k) {
    from.index[k] = index[k];
    from.size[k] = size[k];
    from.stride[k] = stride[k];
  }
  FirstBad bad;
  launch(index_offsets_kernel, grid_for(n, kThreads), kThreads, 0, from, wrap, n, offsets, bad.get());
  return bad.result();
}

__global__ void combine_offsets_kernel(const int64_t* __restrict__ a, const int64_t* __restrict__ b,
                                       const int64_t* __restrict__ c, int64_t* __restrict__ all, int64_t n, Split nb,
                                       Split nc) {
  for (int64_t item = first_item(); item < n; item += item_step()) {
    const int64_t row = nc.quotient(item), i = nb.quotient(row);
    const int64_t middle = b[row - i * nb.d];
    all[item] = middle < 0 ? -1 : a[i] + middle + c[item - row * nc.d];
  }
}

void combine_offsets(const int64_t* a, int64_t na, const int64_t* b, int64_t nb, const int64_t* c, int64_t nc,
                     int64_t* all) {
  const int64_t n = na * nb * nc;
  launch(combine_offsets_kernel, grid_for(n, kThreads), kThreads, 0, a, b, c, all, n, Split(nb, n), Split(nc, n));
}

// ---- items: where the elements of a dense array of shape (outer, length, inner) lie in another

// Element e meets the item at base(e) + index * step; the index is e's own, or that of its place along the axis.
struct Items {
  int64_t n, length;
  const int64_t* index;
  bool own;
  int64_t step, size;  // each index lies in [0, size)
  Split axis, inner;
  Offsets<1> base;

  Items(int64_t n, int64_t length, int64_t inner, const int64_t* index, bool own, int64_t step, int64_t size,
        const Loop<1>& base)
      : n(n),
        length(length),
        index(index),
        own(own),
        step(step),
        size(size),
        axis(length, n),
        inner(inner, n),
        base(base) {}

  __device__ int64_t place(int64_t e) const {  // along the axis
    const int64_t row = inner.quotient(e);
    return row - axis.quotient(row) * length;
  }
  // Whether element e's key names an item. bad may be null: the front knows already.
  __device__ bool inside(int64_t e, int64_t key, BadPosition* bad) const {
    const bool is = uint64_t(key) < uint64_t(size);
    if (!is && bad) report_bad(bad, e);
    return is;
  }
  __device__ int64_t key(int64_t e) const { return index[own ? e : place(e)]; }
  __device__ int64_t item(int64_t e, int64_t key) const {
    int64_t at[1];
    base.at(e, at);
    return at[0] + key * step;
  }
};

// Strides in items; axes that merge do.
Loop<1> merged(int ndim, const int64_t* shape, const int64_t* stride) {
  Loop<1> loop;
  loop.ndim = 0;
  loop.numel = 1;
  for (int d = 0; d < ndim; ++d) {
    loop.numel *= shape[d];
    if (shape[d] == 1) continue;
    const bool merges = loop.ndim && loop.stride[0][loop.ndim - 1] == stride[d] * shape[d];
    const int at = merges ? loop.ndim - 1 : loop.ndim++;
    loop.shape[at] = merges ? loop.shape[at] * shape[d] : shape[d];
    loop.stride[0][at] = stride[d];
  }
  if (loop.ndim == 0) {
    loop.ndim = 1;
    loop.shape[0] = loop.numel;
    loop.stride[0][0] = 0;
  }
  return loop;
}

Items items_of(const int64_t* index, int ndim, const int64_t* shape, const int64_t* stride, int dim, int64_t size) {
  int64_t steps[kMaxDims], inner = 1;
  for (int d = 0; d < ndim; ++d) {
    steps[d] = d == dim ? 0 : stride[d];
    if (d > dim) inner *= shape[d];
  }
  const Loop<1> base = merged(ndim, shape, steps);
  return Items(base.numel, shape[dim], inner, index, true, stride[dim], size, base);
}

Items items_of(const Places& p) {
  const int64_t shape[3] = {p.outer, p.n, p.inner}, stride[3] = {p.outer_stride, 0, p.inner_stride};
  const Loop<1> base = merged(3, shape, stride);
  return Items(base.numel, p.n, p.inner, p.offsets, false, 1, p.extent, base);
}

// ---- reads

template <class U>
__global__ void read_items_kernel(const U* __restrict__ x, U* __restrict__ y, const __grid_constant__ Items items,
                                  BadPosition* __restrict__ bad) {
  for (int64_t e = first_item(); e < items.n; e += item_step()) {
    const int64_t key = items.key(e);
    y[e] = items.inside(e, key, bad) ? x[items.item(e, key)] : U(0);
  }
}

template <class U> void read_items(const void* x, void* y, const Items& items, BadPosition* bad) {
  launch(read_items_kernel<U>, grid_for(items.n, kThreads), kThreads, 0, static_cast<const U*>(x), static_cast<U*>(y),
         items, bad);
}

int64_t axis_read(int item_size, const void* x, const int64_t* index, int ndim, const int64_t* shape,
                  const int64_t* stride, int dim, int64_t size, void* y) {
  FirstBad bad;
  const Items items = items_of(index, ndim, shape, stride, dim, size);
  dispatch_size(item_size, [&]<class U>() { read_items<U>(x, y, items, bad.get()); });
  return bad.result();
}

void index_read(int item_size, const void* x, void* y, const Places& p) {
  dispatch_size(item_size, [&]<class U>() {
    if (p.inner_stride == 1 && rows_fit(p.inner * item_size, y))
      pick_rows<U>(x, p.outer, p.outer_stride * item_size, p.offsets, p.n, item_size, p.extent, p.inner * item_size, y);
    else
      read_items<U>(x, y, items_of(p), nullptr);
  });
}

// ---- writes

// Whether each element may look at the rest of its line. Lines of their own cost more to sort than one of all.
bool looks_around(const Items& items) {
  if (!items.own) return items.length <= 64;
  return items.length <= 16 || (items.length <= 256 && items.n * items.length <= int64_t(1) << 26);
}

// The element whose write to its item is the last of its line's, on an axis short enough to look.
template <class U>
__global__ void write_lines_kernel(U* __restrict__ x, const U* __restrict__ v, bool v_is_scalar,
                                   const __grid_constant__ Items items, BadPosition* __restrict__ bad) {
  for (int64_t e = first_item(); e < items.n; e += item_step()) {
    const int64_t key = items.key(e), place = items.place(e);
    if (!items.inside(e, key, bad)) continue;
    bool last = true;
    for (int64_t k = place + 1; last && k < items.length; ++k)
      last = items.index[items.own ? e + (k - place) * items.inner.d : k] != key;
    if (last) x[items.item(e, key)] = v[v_is_scalar ? 0 : e];
  }
}

// offsets[e] = the item of element e.
__global__ void item_offsets_kernel(const __grid_constant__ Items items, int64_t* __restrict__ offsets,
                                    BadPosition* __restrict__ bad) {
  for (int64_t e = first_item(); e < items.n; e += item_step()) {
    const int64_t key = items.key(e);
    offsets[e] = items.inside(e, key, bad) ? items.item(e, key) : -1;
  }
}

__global__ void last_writer_kernel(const int64_t* __restrict__ offsets, int64_t n, uint32_t* __restrict__ last) {
  for (int64_t j = first_item(); j < n; j += item_step())
    if (offsets[j] >= 0) atomicMax(last + offsets[j], uint32_t(j));
}

template <class U>
__global__ void write_last_kernel(U* __restrict__ x, const U* __restrict__ v, bool v_is_scalar,
                                  const uint32_t* __restrict__ last, const __grid_constant__ Items items) {
  for (int64_t e = first_item(); e < items.n; e += item_step()) {
    const int64_t place = items.place(e), key = items.index[place];
    if (key >= 0 && last[key] == uint32_t(place)) x[items.item(e, key)] = v[v_is_scalar ? 0 : e];
  }
}

// Of equal destinations, which stand side by side, the last.
template <class U>
__global__ void write_ordered_kernel(U* __restrict__ x, const U* __restrict__ v, bool v_is_scalar, Ordered at,
                                     const __grid_constant__ Items items) {
  const int64_t inner = items.inner.d;
  for (int64_t t = first_item(); t < items.n; t += item_step()) {
    const int64_t row = items.inner.quotient(t), o = items.axis.quotient(row), s = row - o * items.length;
    const int64_t to = at.destination(s);
    if (to < 0 || (s + 1 < at.n && at.destination(s + 1) == to)) continue;
    const int64_t e = (o * items.length + at.position(s)) * inner + (t - row * inner);
    x[items.item(e, to)] = v[v_is_scalar ? 0 : e];
  }
}

template <class T>
__global__ void add_items_kernel(T* __restrict__ x, const T* __restrict__ v, bool v_is_scalar,
                                 const __grid_constant__ Items items, BadPosition* __restrict__ bad) {
  for (int64_t e = first_item(); e < items.n; e += item_step()) {
    const int64_t key = items.key(e);
    if (items.inside(e, key, bad)) atomicAdd(x + items.item(e, key), v[v_is_scalar ? 0 : e]);
  }
}

// A fold in the type C of an element of a dtype that is known at run time. NaN wins in maxima and minima.
template <class C> struct Folding {
  Fold fold;
  DType dtype;

  __device__ C read(const void* p, int64_t i) const {
    return dispatch_compute([&]<class T>() { return from_element<C>(static_cast<const T*>(p)[i]); });
  }
  __device__ void write(void* p, int64_t i, C x) const {
    dispatch_compute([&]<class T>() { store(static_cast<T*>(p) + i, x); });
  }
  __device__ C combine(C a, C b) const {
    switch (fold) {
      case Fold::Max: return Max::of(a, b);
      case Fold::Min: return Min::of(a, b);
      case Fold::Multiply: return C(wrapping(a) * wrapping(b));
      default: return C(wrapping(a) + wrapping(b));
    }
  }

 private:
  // Whole numbers wrap where signed ones would be undefined.
  static __device__ auto wrapping(C x) {
    if constexpr (kWhole<C>)
      return uint64_t(x);
    else
      return x;
  }
  // The dtypes that are computed in C.
  template <class F> __device__ decltype(auto) dispatch_compute(F f) const {
    if constexpr (std::is_same_v<C, double>)
      return f.template operator()<double>();
    else if constexpr (std::is_same_v<C, float>)
      return dtype == DType::Float32   ? f.template operator()<float>()
             : dtype == DType::Float16 ? f.template operator()<float16>()
                                       : f.template operator()<bfloat16>();
    else
      switch (dtype) {
        case DType::Bool: return f.template operator()<bool>();
        case DType::UInt8: return f.template operator()<uint8_t>();
        case DType::Int8: return f.template operator()<int8_t>();
        case DType::Int16: return f.template operator()<int16_t>();
        case DType::Int32: return f.template operator()<int32_t>();
        default: return f.template operator()<int64_t>();
      }
  }
};

template <class F> void dispatch_folding(Fold fold, DType dtype, const F& f) {
  const DType compute = compute_type(dtype);
  if (compute == DType::Float64) return f(Folding<double>{fold, dtype});
  if (compute == DType::Float32) return f(Folding<float>{fold, dtype});
  f(Folding<int64_t>{fold, dtype});
}

// The first element of its line to name an item folds all that name it.
template <class C>
__global__ void fold_lines_kernel(Folding<C> folding, void* __restrict__ x, const void* __restrict__ v,
                                  bool v_is_scalar, const __grid_constant__ Items items,
                                  BadPosition* __restrict__ bad) {
  for (int64_t e = first_item(); e < items.n; e += item_step()) {
    const int64_t key = items.key(e), place = items.place(e), inner = items.inner.d;
    if (!items.inside(e, key, bad)) continue;
    const int64_t step = items.own ? inner : 1;
    const int64_t* const line = items.own ? items.index + e - place * inner : items.index;
    bool first = true;
    for (int64_t k = 0; first && k < place; ++k) first = line[k * step] != key;
    if (!first) continue;
    const int64_t to = items.item(e, key);
    C sum = folding.read(x, to);
    for (int64_t k = place; k < items.length; ++k)
      if (line[k * step] == key) sum = folding.combine(sum, folding.read(v, v_is_scalar ? 0 : e + (k - place) * inner));
    folding.write(x, to, sum);
  }
}

// Folds for cuda/destinations.h: column (o, i) of position j is element (o, j, i).
template <class C> struct FoldColumns {
  using Value = C;
  Folding<C> folding;
  void* x;
  const void* v;
  bool v_is_scalar;
  int64_t n, inner, outer_stride, inner_stride;

  __device__ C read(int64_t, int64_t j, int64_t column) const {
    const int64_t o = column / inner, i = column - o * inner;
    return folding.read(v, v_is_scalar ? 0 : (o * n + j) * inner + i);
  }
  __device__ C combine(C a, C b) const { return folding.combine(a, b); }
  __device__ void write(int64_t to, int64_t column, C sum) const {
    const int64_t o = column / inner, at = o * outer_stride + to + (column - o * inner) * inner_stride;
    folding.write(x, at, folding.combine(folding.read(x, at), sum));
  }
};

// Keys of each line of an axis, line after line; all ones where out of bounds.
__global__ void line_keys_kernel(const __grid_constant__ Items items, uint32_t* __restrict__ keys,
                                 BadPosition* __restrict__ bad) {
  for (int64_t e = first_item(); e < items.n; e += item_step()) {
    const int64_t key = items.key(e), row = items.inner.quotient(e), o = items.axis.quotient(row);
    const int64_t line = o * items.inner.d + (e - row * items.inner.d);
    keys[line * items.length + (row - o * items.length)] = items.inside(e, key, bad) ? uint32_t(key) : ~uint32_t(0);
  }
}

// Folds of such lines.
template <class C> struct FoldLines {
  using Value = C;
  Folding<C> folding;
  void* x;
  const void* v;
  bool v_is_scalar;
  Items items;

  __device__ int64_t element(int64_t line, int64_t place) const {
    const int64_t o = items.inner.quotient(line);
    return (o * items.length + place) * items.inner.d + (line - o * items.inner.d);
  }
  __device__ C read(int64_t, int64_t position, int64_t) const {
    const int64_t line = items.axis.quotient(position);
    return folding.read(v, v_is_scalar ? 0 : element(line, position - line * items.length));
  }
  __device__ C combine(C a, C b) const { return folding.combine(a, b); }
  __device__ void write(int64_t to, int64_t, C sum) const {
    const int64_t line = to / items.size, at = items.item(element(line, 0), to - line * items.size);
    folding.write(x, at, folding.combine(folding.read(x, at), sum));
  }
};

// Sums of float32 rows, sixteen bytes a column.
struct AddRows {
  static constexpr int W = 4;
  using Value = Pack<float, W>;
  float* x;
  const float* v;
  int64_t n, units, outer_stride;  // units: of W in a row

  __device__ Value read(int64_t, int64_t j, int64_t column) const {
    const int64_t o = column / units;
    return load_pack<W>(v + ((o * n + j) * units + (column - o * units)) * W);
  }
  __device__ Value combine(Value a, const Value& b) const {
#pragma unroll
    for (int k = 0; k < W; ++k) a[k] += b[k];
    return a;
  }
  __device__ void write(int64_t to, int64_t column, const Value& sum) const {
    const int64_t o = column / units;
    float* const at = x + o * outer_stride + to + (column - o * units) * W;
    if (reinterpret_cast<uintptr_t>(at) % sizeof(Value) == 0) return store_pack(at, combine(load_pack<W>(at), sum));
#pragma unroll
    for (int k = 0; k < W; ++k) at[k] += sum[k];
  }
};

void write_places(int size, void* x, const void* v, bool v_is_scalar, const Places& p) {
  const Items items = items_of(p);
  dispatch_size(size, [&]<class U>() {
    U* const to = static_cast<U*>(x);
    const U* const from = static_cast<const U*>(v);
    const dim3 grid = grid_for(items.n, kThreads);
    if (looks_around(items)) {
      launch(write_lines_kernel<U>, grid, kThreads, 0, to, from, v_is_scalar, items, nullptr);
    } else if (p.extent <= 8 * p.n) {
      Scratch<uint32_t> last(p.extent);
      zero(last, size_t(p.extent) * sizeof(uint32_t));
      launch(last_writer_kernel, grid_for(p.n, kThreads), kThreads, 0, p.offsets, p.n, last.get());
      launch(write_last_kernel<U>, grid, kThreads, 0, to, from, v_is_scalar, static_cast<const uint32_t*>(last.get()),
             items);
    } else {
      Destinations at(p.offsets, p.n, p.extent);
      launch(write_ordered_kernel<U>, grid, kThreads, 0, to, from, v_is_scalar, at.ordered(), items);
    }
  });
}

template <class C>
void fold_places(const Folding<C>& folding, void* x, const void* v, bool v_is_scalar, const Places& p) {
  const Items items = items_of(p);
  if (looks_around(items))
    return launch(fold_lines_kernel<C>, grid_for(items.n, kThreads), kThreads, 0, folding, x, v, v_is_scalar, items,
                  nullptr);
  Destinations at(p.offsets, p.n, p.extent);
  const bool rows = std::is_same_v<C, float> && folding.dtype == DType::Float32 && folding.fold == Fold::Add &&
                    !v_is_scalar && p.inner_stride == 1 && p.inner % AddRows::W == 0 && aligned(v, 16);
  if (rows)
    return fold_ordered(
        AddRows{static_cast<float*>(x), static_cast<const float*>(v), p.n, p.inner / AddRows::W, p.outer_stride},
        at.ordered(), p.outer * p.inner / AddRows::W, true);
  fold_ordered(FoldColumns<C>{folding, x, v, v_is_scalar, p.n, p.inner, p.outer_stride, p.inner_stride}, at.ordered(),
               p.outer * p.inner, p.inner >= 8);
}

// Whole numbers wrap, so their sums have no order.
template <class F> bool dispatch_atomic_sum(Fold fold, DType dtype, const F& f) {
  if (fold != Fold::Add || (dtype != DType::Int32 && dtype != DType::Int64)) return false;
  if (dtype == DType::Int32)
    f.template operator()<unsigned>();
  else
    f.template operator()<unsigned long long>();
  return true;
}

// More positions than can be ordered at once are folded one stretch after the other.
void fold_in_stretches(Fold fold, DType dtype, void* x, const void* v, bool v_is_scalar, const Places& p) {
  const int64_t most = Destinations::kMost;
  const bool fits = p.n <= most;
  for (int64_t o = 0; o < (fits ? 1 : p.outer); ++o)
    for (int64_t first = 0; first < p.n; first += most) {
      Places part = p;
      part.n = p.n - first < most ? p.n - first : most;
      part.offsets = p.offsets + first;
      if (!fits) part.outer = 1;
      char* const to = static_cast<char*>(x) + (fits ? 0 : o * p.outer_stride * item_size(dtype));
      const char* const from =
          static_cast<const char*>(v) + (v_is_scalar ? 0 : (o * p.n + first) * p.inner * item_size(dtype));
      if (fold == Fold::Write)
        write_places(item_size(dtype), to, from, v_is_scalar, part);
      else
        dispatch_folding(fold, dtype, [&](const auto& folding) { fold_places(folding, to, from, v_is_scalar, part); });
    }
}

void index_fold(Fold fold, DType dtype, void* x, const void* v, bool v_is_scalar, const Places& p) {
  const Items items = items_of(p);
  const bool added = dispatch_atomic_sum(fold, dtype, [&]<class T>() {
    launch(add_items_kernel<T>, grid_for(items.n, kThreads), kThreads, 0, static_cast<T*>(x), static_cast<const T*>(v),
           v_is_scalar, items, nullptr);
  });
  if (!added) fold_in_stretches(fold, dtype, x, v, v_is_scalar, p);
}

int64_t axis_fold(Fold fold, DType dtype, void* x, const void* v, bool v_is_scalar, const int64_t* index, int ndim,
                  const int64_t* shape, const int64_t* stride, int dim, int64_t size) {
  FirstBad bad;
  const Items items = items_of(index, ndim, shape, stride, dim, size);
  const dim3 grid = grid_for(items.n, kThreads);
  const bool added = dispatch_atomic_sum(fold, dtype, [&]<class T>() {
    launch(add_items_kernel<T>, grid, kThreads, 0, static_cast<T*>(x), static_cast<const T*>(v), v_is_scalar, items,
           bad.get());
  });
  if (added) return bad.result();
  if (looks_around(items)) {
    if (fold == Fold::Write)
      dispatch_size(item_size(dtype), [&]<class U>() {
        launch(write_lines_kernel<U>, grid, kThreads, 0, static_cast<U*>(x), static_cast<const U*>(v), v_is_scalar,
               items, bad.get());
      });
    else
      dispatch_folding(fold, dtype, [&]<class C>(const Folding<C>& folding) {
        launch(fold_lines_kernel<C>, grid, kThreads, 0, folding, x, v, v_is_scalar, items, bad.get());
      });
    return bad.result();
  }
  if (fold != Fold::Write && items.n <= Destinations::kMost && size < int64_t(UINT32_MAX)) {
    Scratch<uint32_t> keys(items.n);
    launch(line_keys_kernel, grid, kThreads, 0, items, keys.get(), bad.get());
    Destinations at(keys, items.n / items.length, items.length, size);
    dispatch_folding(fold, dtype, [&]<class C>(const Folding<C>& folding) {
      fold_ordered(FoldLines<C>{folding, x, v, v_is_scalar, items}, at.ordered(), 1, false);
    });
    return bad.result();
  }
  Scratch<int64_t> offsets(items.n);
  launch(item_offsets_kernel, grid, kThreads, 0, items, offsets.get(), bad.get());
  int64_t extent = 1 + (size - 1) * stride[dim];
  for (int d = 0; d < ndim; ++d)
    if (d != dim) extent += (shape[d] - 1) * stride[d];
  fold_in_stretches(fold, dtype, x, v, v_is_scalar, Places{1, items.n, 1, 0, 1, offsets, extent});
  return bad.result();
}

// ---- the rest

template <class T>
__global__ void divide_sums_kernel(T* __restrict__ y, const int64_t* __restrict__ counts, int64_t n) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int64_t count = counts[i];
    if (count <= 1) continue;
    const auto sum = load(y + i);
    if constexpr (is_floating(dtype_of<T>::value)) {
      store(y + i, sum / compute_t<T>(count));
    } else {
      const int64_t quotient = int64_t(sum) / count;
      store(y + i, quotient - (int64_t(sum) % count < 0));
    }
  }
}

void divide_sums(DType dtype, void* y, const int64_t* counts, int64_t n) {
  dispatch_all(dtype, [&]<class T>() {
    launch(divide_sums_kernel<T>, grid_for(n, kThreads), kThreads, 0, static_cast<T*>(y), counts, n);
  });
}

template <class U>
__global__ void masked_fill_kernel(char* y, const char* x, const char* __restrict__ mask, int64_t n,
                                   const __grid_constant__ Offsets<3> at, const U* __restrict__ value) {
  for (int64_t e = first_item(); e < n; e += item_step()) {
    int64_t offset[3];
    at.at(e, offset);
    *reinterpret_cast<U*>(y + offset[0]) = mask[offset[2]] ? *value : *reinterpret_cast<const U*>(x + offset[1]);
  }
}

// All dense: as many elements a thread as fill sixteen bytes.
template <class U>
__global__ void masked_fill_dense_kernel(U* y, const U* x, const uint8_t* __restrict__ mask, int64_t packs,
                                         const U* __restrict__ value) {
  constexpr int W = kPack<U>;
  const U fill = *value;
  for (int64_t p = first_item(); p < packs; p += item_step()) {
    Pack<U, W> v = load_pack<W>(x + p * W);
    const Pack<uint8_t, W> chosen = load_pack<W>(mask + p * W);
#pragma unroll
    for (int k = 0; k < W; ++k) v[k] = chosen[k] ? fill : v[k];
    store_pack(y + p * W, v);
  }
}

void masked_fill(int item_size, const Loop<3>& loop, const void* value) {
  if (loop.numel == 0) return;
  dispatch_size(item_size, [&]<class U>() {
    constexpr int W = kPack<U>;
    const U* const item = static_cast<const U*>(value);
    const bool dense = loop.ndim == 1 && loop.stride[0][0] == item_size && loop.stride[1][0] == item_size &&
                       loop.stride[2][0] == 1 && loop.numel % W == 0 && aligned(loop.data[0], 16) &&
                       aligned(loop.data[1], 16) && aligned(loop.data[2], W);
    if (dense)
      launch(masked_fill_dense_kernel<U>, grid_for(loop.numel / W, kThreads), kThreads, 0,
             reinterpret_cast<U*>(loop.data[0]), reinterpret_cast<const U*>(loop.data[1]),
             reinterpret_cast<const uint8_t*>(loop.data[2]), loop.numel / W, item);
    else
      launch(masked_fill_kernel<U>, grid_for(loop.numel, kThreads), kThreads, 0, loop.data[0], loop.data[1],
             loop.data[2], loop.numel, Offsets<3>(loop), item);
  });
}

// A bit for each of elements i, i + 1, ..., as many as fill sixteen bytes: set where it is below n and not zero.
template <class T> __device__ inline uint32_t nonzero_bits(const T* x, int64_t i, int64_t n, bool is_aligned) {
  constexpr int W = kPack<T>;
  Pack<T, W> pack{};
  if (is_aligned && i + W <= n) {
    pack = load_pack<W>(x + i);
  } else {
#pragma unroll
    for (int k = 0; k < W; ++k)
      if (i + k < n) pack[k] = x[i + k];
  }
  uint32_t bits = 0;
#pragma unroll
  for (int k = 0; k < W; ++k) bits |= uint32_t(from_element<compute_t<T>>(pack[k]) != compute_t<T>(0)) << k;
  return bits;
}

struct Counts { uint32_t parts[32]; };

// A block of threads counts a block of elements.
template <class T>
__global__ void __launch_bounds__(1024) nonzero_count_kernel(const T* __restrict__ x, int64_t n, bool is_aligned,
                                                             int64_t* __restrict__ counts, int64_t blocks) {
  Counts& m = shared<Counts>();
  for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
    const int64_t begin = b * kNonzeroBlock, end = begin + kNonzeroBlock < n ? begin + kNonzeroBlock : n;
    uint32_t count = 0;
    for (int64_t i = begin + threadIdx.x * kPack<T>; i < end; i += blockDim.x * kPack<T>)
      count += __popc(nonzero_bits(x, i, end, is_aligned));
    count = block_reduce<Sum>(count, m.parts);
    if (threadIdx.x == 0) counts[b] = count;
  }
}

void nonzero_count(DType dtype, const void* x, int64_t n, int64_t* counts) {
  const int64_t blocks = ceil_div(n, kNonzeroBlock);
  if (blocks == 0) return;
  dispatch_all(dtype, [&]<class T>() {
    launch(nonzero_count_kernel<T>, grid_for(blocks, 1), 1024, sizeof(Counts), static_cast<const T*>(x), n,
           aligned(x, 16), counts, blocks);
  });
}

struct Shape {
  int ndim;
  int64_t size[kMaxDims];
};

template <class T>
__global__ void __launch_bounds__(1024)
    nonzero_write_kernel(const T* __restrict__ x, int64_t n, bool is_aligned, const int64_t* __restrict__ starts,
                         const __grid_constant__ Shape shape, int64_t* __restrict__ out, int64_t row_stride,
                         int64_t axis_stride, int64_t blocks) {
  Counts& m = shared<Counts>();
  for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
    const int64_t begin = b * kNonzeroBlock, end = begin + kNonzeroBlock < n ? begin + kNonzeroBlock : n;
    int64_t row = starts[b];
    for (int64_t first = begin; first < end; first += blockDim.x * kPack<T>) {
      const int64_t i = first + threadIdx.x * kPack<T>;
      uint32_t bits = nonzero_bits(x, i, end, is_aligned), count;
      int64_t* to = out + (row + block_prefix_sum(uint32_t(__popc(bits)), m.parts, &count)) * row_stride;
      row += count;
      for (; bits; bits &= bits - 1, to += row_stride) {
        int64_t left = i + __ffs(int(bits)) - 1;
        for (int d = shape.ndim - 1; d > 0; --d) {
          const int64_t quotient = left / shape.size[d];
          to[d * axis_stride] = left - quotient * shape.size[d];
          left = quotient;
        }
        to[0] = left;
      }
    }
  }
}

void nonzero_write(DType dtype, const void* x, int64_t n, const int64_t* starts, int ndim, const int64_t* shape,
                   int64_t* out, int64_t row_stride, int64_t axis_stride) {
  const int64_t blocks = ceil_div(n, kNonzeroBlock);
  Shape sizes;
  sizes.ndim = ndim;
  for (int d = 0; d < ndim; ++d) sizes.size[d] = shape[d];
  dispatch_all(dtype, [&]<class T>() {
    launch(nonzero_write_kernel<T>, grid_for(blocks, 1), 1024, sizeof(Counts), static_cast<const T*>(x), n,
           aligned(x, 16), starts, sizes, out, row_stride, axis_stride, blocks);
  });
}

constexpr int64_t kSharedBins = 4096;

struct Bins { uint32_t count[kSharedBins]; };

// Few bins are counted in shared memory first. Whole numbers add up alike in any order.
template <class T>
__global__ void histogram_kernel(const T* __restrict__ x, int64_t n, double low, double high, int64_t bins,
                                 bool in_shared, unsigned long long* __restrict__ counts) {
  Bins& m = shared<Bins>();
  if (in_shared) {
    for (int b = threadIdx.x; b < bins; b += kThreads) m.count[b] = 0;
    __syncthreads();
  }
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const double v = double(load(x + i));
    if (!(v >= low && v <= high)) continue;
    int64_t bin = int64_t((v - low) / (high - low) * double(bins));
    if (bin >= bins) bin = bins - 1;
    if (in_shared)
      atomicAdd(&m.count[bin], 1u);
    else
      atomicAdd(counts + bin, 1ull);
  }
  if (in_shared) {
    __syncthreads();
    for (int b = threadIdx.x; b < bins; b += kThreads)
      if (m.count[b]) atomicAdd(counts + b, (unsigned long long)m.count[b]);
  }
}

void histogram(DType dtype, const void* x, int64_t n, double low, double high, int64_t bins, int64_t* counts) {
  zero(counts, size_t(bins) * sizeof(int64_t));
  if (n == 0) return;
  dispatch_all(dtype, [&]<class T>() {
    launch(histogram_kernel<T>, grid_for(n, kThreads), kThreads, sizeof(Bins), static_cast<const T*>(x), n, low, high,
           bins, bins <= kSharedBins, reinterpret_cast<unsigned long long*>(counts));
  });
}

}  // namespace

const IndexKernels index_kernels = {index_offsets, combine_offsets, axis_read,   axis_fold,
                                    index_read,    index_fold,      divide_sums, masked_fill,
                                    nonzero_count, nonzero_write,   histogram};

}  // namespace gg::cuda
