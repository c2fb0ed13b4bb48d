// CPU kernels of index.h. Reads are cut by rows. Writes are cut so that one item belongs to one piece: by outer rows,
// by runs known to be disjoint, by columns of long rows, else by blocks of destinations (cpu/destinations.h).
#include <string.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/destinations.h"
#include "cpu/vec.h"
#include "ops/index/index.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kGrain = 1 << 13;  // items a piece moves: random access costs 2 to 5 ns each

int64_t grain_for(int64_t work_per_row) {
  return work_per_row >= kGrain ? 1 : kGrain / (work_per_row > 0 ? work_per_row : 1);
}

// Single items are scattered in order up to this many: sorting them by destination costs more than it spreads.
constexpr int64_t kSerial = 1 << 22;

// The least position that any piece reports.
struct FirstBad {
  int64_t at = INT64_MAX;
  void report(int64_t j) {
    int64_t now = __atomic_load_n(&at, __ATOMIC_RELAXED);
    while (j < now && !__atomic_compare_exchange_n(&at, &now, j, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
  }
  int64_t result() const { return at == INT64_MAX ? -1 : at; }
};

int64_t index_offsets(int count, const int64_t* const* index, const int64_t* size, const int64_t* stride, bool wrap,
                      int64_t n, int64_t* offsets) {
  FirstBad bad;
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int k = 0; k < count; ++k) {
      const int64_t* from = index[k];
      const int64_t extent = size[k], step = stride[k], lift = wrap ? extent : 0;
      bool ok = true;
      for (int64_t j = begin; j < end; ++j) {
        int64_t i = from[j];
        i += i < 0 ? lift : 0;
        ok &= uint64_t(i) < uint64_t(extent);
        // Unsigned: an index that is out of bounds may be any number.
        offsets[j] = int64_t(uint64_t(k ? offsets[j] : 0) + uint64_t(i) * uint64_t(step));
      }
      if (ok) continue;
      for (int64_t j = begin; j < end; ++j)
        if (from[j] < -lift || from[j] >= extent) {
          bad.report(k * n + j);
          break;
        }
    }
  });
  return bad.result();
}

void combine_offsets(const int64_t* a, int64_t na, const int64_t* b, int64_t nb, const int64_t* c, int64_t nc,
                     int64_t* all) {
  parallel_for(na * nb, grain_for(nc), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t k = 0; k < nc; ++k) all[r * nc + k] = a[r / nb] + b[r % nb] + c[k];
  });
}

// Calls visit(e, offset) for each element e of the index in [begin, end); false at an index out of bounds.
template <class Visit>
inline bool walk_axis(const int64_t* index, int ndim, const int64_t* shape, const int64_t* stride, int dim,
                      int64_t size, int64_t begin, int64_t end, FirstBad* bad, const Visit& visit) {
  const int last = ndim - 1;
  const int64_t row = shape[last], step = dim == last ? 0 : stride[last], pick = stride[dim];
  int64_t coordinate[kMaxDims], base = 0, left = begin;
  for (int d = last; d >= 0; --d) {
    coordinate[d] = left % shape[d];
    left /= shape[d];
    if (d != dim && d != last) base += coordinate[d] * stride[d];
  }
  for (int64_t e = begin; e < end;) {
    const int64_t first = coordinate[last], stop = row - first < end - e ? row : first + end - e;
    bool ok = true;
    for (int64_t i = first; i < stop; ++i) ok &= uint64_t(index[e + i - first]) < uint64_t(size);
    if (!ok) {
      for (int64_t i = first; i < stop; ++i)
        if (uint64_t(index[e + i - first]) >= uint64_t(size)) {
          bad->report(e + i - first);
          return false;
        }
    }
    for (int64_t i = first; i < stop; ++i, ++e) visit(e, base + i * step + index[e] * pick);
    coordinate[last] = 0;
    for (int d = last - 1; d >= 0; --d) {
      if (d != dim) base += stride[d];
      if (++coordinate[d] < shape[d]) break;
      if (d != dim) base -= shape[d] * stride[d];
      coordinate[d] = 0;
    }
  }
  return true;
}

int64_t axis_read(int item_size, const void* x, const int64_t* index, int ndim, const int64_t* shape,
                  const int64_t* stride, int dim, int64_t size, void* y) {
  int64_t n = 1;
  for (int d = 0; d < ndim; ++d) n *= shape[d];
  FirstBad bad;
  dispatch_size(item_size, [&]<class U>() {
    const U* from = static_cast<const U*>(x);
    U* to = static_cast<U*>(y);
    parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
      walk_axis(index, ndim, shape, stride, dim, size, begin, end, &bad,
                [&](int64_t e, int64_t at) { to[e] = from[at]; });
    });
  });
  return bad.result();
}

template <class U> inline void copy_row(U* to, const U* from, int64_t n, int64_t stride) {
  if (stride == 1) {
    memcpy(to, from, size_t(n) * sizeof(U));
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
  }
}

template <class U> void read_rows(const U* x, U* y, const Places& p) {
  parallel_for(p.outer * p.n, grain_for(p.inner), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end;) {
      const int64_t o = row / p.n, first = row - o * p.n;
      const int64_t stop = p.n - first < end - row ? p.n : first + end - row;
      const U* from = x + o * p.outer_stride;
      U* to = y + row * p.inner;
      if (p.inner == 1) {
        for (int64_t j = first; j < stop; ++j) *to++ = from[p.offsets[j]];
      } else {
        for (int64_t j = first; j < stop; ++j, to += p.inner)
          copy_row(to, from + p.offsets[j], p.inner, p.inner_stride);
      }
      row += stop - first;
    }
  });
}

void index_read(int item_size, const void* x, void* y, const Places& p) {
  dispatch_size(item_size, [&]<class U>() { read_rows(static_cast<const U*>(x), static_cast<U*>(y), p); });
}

// visit(o, j, i_begin, i_end) for every element, so that all visits to one item come from one piece, in the order of j.
template <class Visit> void visit_places(const Places& p, const Visit& visit) {
  const int64_t columns = 256, total = p.outer * p.n * p.inner;
  if (total <= kGrain || (p.outer < 16 && p.inner < 16 && total <= kSerial)) {
    for (int64_t o = 0; o < p.outer; ++o)
      for (int64_t j = 0; j < p.n; ++j) visit(o, j, 0, p.inner);
  } else if (p.outer >= 16) {
    parallel_for(p.outer, grain_for(p.n * p.inner), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o)
        for (int64_t j = 0; j < p.n; ++j) visit(o, j, 0, p.inner);
    });
  } else if (p.inner >= 16 * columns) {
    parallel_for(p.inner, columns * grain_for(columns * p.n), [&](int64_t begin, int64_t end) {
      for (int64_t o = 0; o < p.outer; ++o)
        for (int64_t j = 0; j < p.n; ++j) visit(o, j, begin, end);
    });
  } else {
    Destinations destinations(p.offsets, p.n, p.extent);
    parallel_for(destinations.blocks(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t o = 0; o < p.outer; ++o)
        for (int64_t b = begin; b < end; ++b)
          for (const int64_t* j = destinations.begin(int(b)); j != destinations.end(int(b)); ++j)
            visit(o, *j, 0, p.inner);
    });
  }
}

template <class T, class F> void fold_places(T* x, const T* v, bool v_is_scalar, const Places& p, const F& fold) {
  visit_places(p, [&](int64_t o, int64_t j, int64_t begin, int64_t end) {
    T* to = x + o * p.outer_stride + p.offsets[j];
    if (v_is_scalar) {
      for (int64_t i = begin; i < end; ++i) fold(to + i * p.inner_stride, v);
      return;
    }
    const T* from = v + (o * p.n + j) * p.inner;
    if (p.inner_stride == 1) {
      for (int64_t i = begin; i < end; ++i) fold(to + i, from + i);
    } else {
      for (int64_t i = begin; i < end; ++i) fold(to + i * p.inner_stride, from + i);
    }
  });
}

// NaN wins, as in every maximum and minimum of the framework.
template <class C> inline C nan_max(C a, C b) { return a > b || a != a ? a : b; }
template <class C> inline C nan_min(C a, C b) { return a < b || a != a ? a : b; }

// Calls f.template operator()<T>(combine), where combine(T* to, const T* from) does the fold.
template <class F> void dispatch_fold(Fold fold, DType dtype, const F& f) {
  if (fold == Fold::Write) {
    dispatch_size(item_size(dtype),
                  [&]<class U>() { f.template operator()<U>([](U* to, const U* from) { *to = *from; }); });
    return;
  }
  dispatch_all(dtype, [&]<class T>() {
    using C = compute_t<T>;
    auto with = [&](const auto& combine) {
      f.template operator()<T>([&](T* to, const T* from) { store1(to, C(combine(load1(to), load1(from)))); });
    };
    if (fold == Fold::Add) with([](C a, C b) { return C(a + b); });
    if (fold == Fold::Multiply) with([](C a, C b) { return C(a * b); });
    if (fold == Fold::Max) with([](C a, C b) { return nan_max(a, b); });
    if (fold == Fold::Min) with([](C a, C b) { return nan_min(a, b); });
  });
}

void index_fold(Fold fold, DType dtype, void* x, const void* v, bool v_is_scalar, const Places& p) {
  dispatch_fold(fold, dtype, [&]<class T>(const auto& combine) {
    fold_places(static_cast<T*>(x), static_cast<const T*>(v), v_is_scalar, p, combine);
  });
}

// x[index[e]] += v[e] of whole numbers, whose sums are the same in any order: each piece adds up for itself.
void add_whole(int64_t* x, const int64_t* v, bool v_is_scalar, const int64_t* index, int64_t n, int64_t stride,
               int64_t size, int64_t piece, FirstBad* bad) {
  const int64_t pieces = (n + piece - 1) / piece, one = 1;
  Scratch<int64_t> sums(pieces * size);
  memset(sums.data(), 0, size_t(pieces * size) * sizeof(int64_t));
  parallel_for(n, piece, [&](int64_t begin, int64_t end) {
    int64_t* to = sums.data() + begin / piece * size;
    auto add = [&](const auto& visit) { walk_axis(index, 1, &n, &one, 0, size, begin, end, bad, visit); };
    if (v_is_scalar)
      add([to, each = *v](int64_t, int64_t at) { to[at] += each; });
    else
      add([=](int64_t e, int64_t at) { to[at] += v[e]; });
  });
  if (bad->result() >= 0) return;
  for (int64_t k = 0; k < pieces; ++k)
    for (int64_t i = 0; i < size; ++i) x[i * stride] += sums[k * size + i];
}

// Elements that differ in a coordinate before dim, or after it, never meet: pieces are rows of outer axes or columns of
// the last one. A single row is scattered in order, or by destinations where it is long.
int64_t axis_fold(Fold fold, DType dtype, void* x, const void* v, bool v_is_scalar, const int64_t* index, int ndim,
                  const int64_t* shape, const int64_t* stride, int dim, int64_t size) {
  const int last = ndim - 1;
  FirstBad bad;
  int64_t runs = 1, n = 1, extent = 0;
  for (int d = 0; d < ndim; ++d) {
    if (d < dim) runs *= shape[d];
    n *= shape[d];
  }
  const int64_t run = n / runs, row = shape[last], columns = 64, piece = 1 << 16;
  if (fold == Fold::Add && dtype == DType::Int64 && ndim == 1 && n > piece && size <= piece / 4) {
    add_whole(static_cast<int64_t*>(x), static_cast<const int64_t*>(v), v_is_scalar, index, n, stride[0], size, piece,
              &bad);
    return bad.result();
  }
  dispatch_fold(fold, dtype, [&]<class T>(const auto& combine) {
    T* to = static_cast<T*>(x);
    const T* from = static_cast<const T*>(v);
    const int64_t step = v_is_scalar ? 0 : 1;
    auto scatter = [&](int64_t begin, int64_t end) {
      walk_axis(index, ndim, shape, stride, dim, size, begin, end, &bad,
                [&](int64_t e, int64_t at) { combine(to + at, from + e * step); });
    };
    if (runs >= 8) {
      parallel_for(runs, grain_for(run), [&](int64_t begin, int64_t end) { scatter(begin * run, end * run); });
    } else if (dim != last && row >= 2 * columns) {
      parallel_for(row, columns * grain_for(columns * (n / row)), [&](int64_t begin, int64_t end) {
        for (int64_t e = 0; e < n; e += row) scatter(e + begin, e + end);
      });
    } else if (n <= kSerial) {
      scatter(0, n);
    } else {
      Scratch<int64_t> offsets(n);
      parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
        walk_axis(index, ndim, shape, stride, dim, size, begin, end, &bad,
                  [&](int64_t e, int64_t at) { offsets[e] = at; });
      });
      if (bad.result() >= 0) return;
      for (int64_t e = 0; e < n; ++e) extent = offsets[e] >= extent ? offsets[e] + 1 : extent;
      fold_places(to, from, v_is_scalar, Places{1, n, 1, 0, 1, offsets.data(), extent}, combine);
    }
  });
  return bad.result();
}

void divide_sums(DType dtype, void* y, const int64_t* counts, int64_t n) {
  dispatch_all(dtype, [&]<class T>() {
    using C = compute_t<T>;
    T* to = static_cast<T*>(y);
    parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (counts[i] <= 1) continue;
        const C sum = load1(to + i);
        if constexpr (is_floating(dtype_of<T>::value)) {
          store1(to + i, C(sum / C(counts[i])));
        } else {
          const int64_t quotient = int64_t(sum) / counts[i];
          to[i] = T(quotient - (int64_t(sum) % counts[i] < 0));
        }
      }
    });
  });
}

// By vectors: masks are as good as random, so that a branch would often be foretold wrong.
template <class U> inline void masked_fill_row(U* y, const U* x, const char* mask, U value, int64_t n) {
  constexpr int L = GG_VECTOR_BYTES / int(sizeof(U));
  using V = typename Packed<U, L>::type;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    typename Packed<uint8_t, L>::type bytes;
    memcpy(&bytes, mask + i, sizeof bytes);
    V v;
    memcpy(&v, x + i, sizeof v);
    v = __builtin_convertvector(bytes, V) != 0 ? V{} + value : v;
    memcpy(y + i, &v, sizeof v);
  }
  for (; i < n; ++i) y[i] = mask[i] ? value : x[i];
}

template <class U> void masked_fill_rows(const Loop<3>& loop, U value) {
  const int last = loop.ndim - 1;
  const int64_t row = loop.shape[last];
  const int64_t* step[3] = {loop.stride[0], loop.stride[1], loop.stride[2]};
  parallel_for(loop.numel, 4 * kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end;) {
      int64_t at[3] = {0, 0, 0}, left = e;
      for (int d = last; d >= 0; --d) {
        for (int k = 0; k < 3; ++k) at[k] += left % loop.shape[d] * step[k][d];
        left /= loop.shape[d];
      }
      const int64_t first = e % row, n = row - first < end - e ? row - first : end - e;
      char* y = loop.data[0] + at[0];
      const char* x = loop.data[1] + at[1];
      const char* mask = loop.data[2] + at[2];
      if (step[0][last] == sizeof(U) && step[1][last] == sizeof(U) && step[2][last] == 1) {
        masked_fill_row(reinterpret_cast<U*>(y), reinterpret_cast<const U*>(x), mask, value, n);
      } else {
        for (int64_t i = 0; i < n; ++i) {
          U item = *reinterpret_cast<const U*>(x + i * step[1][last]);
          *reinterpret_cast<U*>(y + i * step[0][last]) = mask[i * step[2][last]] ? value : item;
        }
      }
      e += n;
    }
  });
}

void masked_fill(int item_size, const Loop<3>& loop, const void* value) {
  dispatch_size(item_size, [&]<class U>() { masked_fill_rows<U>(loop, *static_cast<const U*>(value)); });
}

template <class T> inline bool is_nonzero(const T* x) {
  if constexpr (sizeof(compute_t<T>) == sizeof(T)) {
    return *x != T(0);
  } else {
    return (x->bits & 0x7fff) != 0;
  }
}

void nonzero_count(DType dtype, const void* x, int64_t n, int64_t* counts) {
  dispatch_all(dtype, [&]<class T>() {
    const T* from = static_cast<const T*>(x);
    parallel_for(n, kNonzeroBlock, [&](int64_t begin, int64_t end) {
      int32_t count = 0;
      for (int64_t i = begin; i < end; ++i) count += is_nonzero(from + i);
      counts[begin / kNonzeroBlock] = count;
    });
  });
}

void nonzero_write(DType dtype, const void* x, int64_t n, const int64_t* starts, int ndim, const int64_t* shape,
                   int64_t* out, int64_t row_stride, int64_t axis_stride) {
  dispatch_all(dtype, [&]<class T>() {
    const T* from = static_cast<const T*>(x);
    parallel_for(n, kNonzeroBlock, [&](int64_t begin, int64_t end) {
      int64_t* to = out + starts[begin / kNonzeroBlock] * row_stride;
      const int64_t batch = 256;
      int64_t found[batch + 1];
      for (int64_t first = begin; first < end; first += batch) {
        const int64_t stop = first + batch < end ? first + batch : end;
        int64_t count = 0;
        for (int64_t i = first; i < stop; ++i) {  // always written, kept where nonzero: no branch to mispredict
          found[count] = i;
          count += is_nonzero(from + i);
        }
        for (int64_t k = 0; k < count; ++k, to += row_stride) {
          int64_t left = found[k];
          for (int d = ndim - 1; d > 0; --d) {
            int64_t quotient = left / shape[d];
            to[d * axis_stride] = left - quotient * shape[d];
            left = quotient;
          }
          to[0] = left;
        }
      }
    });
  });
}

void histogram(DType dtype, const void* x, int64_t n, double low, double high, int64_t bins, int64_t* counts) {
  memset(counts, 0, size_t(bins) * sizeof(int64_t));
  const int64_t piece = 1 << 16, pieces = (n + piece - 1) / piece;
  // Each piece counts for itself where that costs less than the counting; whole numbers add up alike in any order.
  const bool alone = pieces <= 1 || bins > piece;
  Scratch<int64_t> local(alone ? 1 : pieces * bins);
  if (!alone) memset(local.data(), 0, size_t(pieces * bins) * sizeof(int64_t));
  dispatch_all(dtype, [&]<class T>() {
    const T* from = static_cast<const T*>(x);
    auto count = [&](int64_t begin, int64_t end, int64_t* to) {
      for (int64_t i = begin; i < end; ++i) {
        compute_t<T> value = load1(from + i);
        double v = double(value);
        if (!(v >= low && v <= high)) continue;
        int64_t bin = int64_t((v - low) / (high - low) * double(bins));
        ++to[bin < bins ? bin : bins - 1];
      }
    };
    if (alone) return count(0, n, counts);
    parallel_for(n, piece, [&](int64_t begin, int64_t end) { count(begin, end, local.data() + begin / piece * bins); });
  });
  if (!alone)
    for (int64_t k = 0; k < pieces; ++k)
      for (int64_t b = 0; b < bins; ++b) counts[b] += local[k * bins + b];
}

}  // namespace

const IndexKernels index_kernels = {index_offsets, combine_offsets, axis_read,   axis_fold,
                                    index_read,    index_fold,      divide_sums, masked_fill,
                                    nonzero_count, nonzero_write,   histogram};

}  // namespace gg::GG_ISA
