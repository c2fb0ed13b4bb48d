// CPU kernels of embedding.h. The gradient's rows are cut into blocks (cpu/destinations.h): each block is cleared and
// summed while it is in cache, in float32 for 16-bit tables, and no row is ever touched by two threads.
#include <math.h>
#include <string.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/destinations.h"
#include "cpu/rows.h"
#include "ops/embedding/embedding.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kGrain = 1 << 14;

int64_t grain_for(int64_t work_per_row) {
  return work_per_row >= kGrain ? 1 : kGrain / (work_per_row > 0 ? work_per_row : 1);
}

// to += scale * from.
template <class T> inline void add_row(compute_t<T>* to, const T* from, compute_t<T> scale, int64_t n) {
  using C = compute_t<T>;
  for_vectors<C>(n, [&](int64_t i, auto part) {
    store_part(to + i, load_part(to + i, part) + load_part(from + i, part) * splat(scale), part);
  });
}

template <class T> inline void round_row(T* to, const compute_t<T>* from, int64_t n) {
  if constexpr (sizeof(T) != sizeof(compute_t<T>))
    for_vectors<compute_t<T>>(n, [&](int64_t i, auto part) { store_part(to + i, load_part(from + i, part), part); });
}

// Rows are anywhere: the processor is told of a later one while this one is read.
constexpr int64_t kAhead = 8;
inline void prefetch_row(const void* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes && i < 1024; i += 64) __builtin_prefetch(static_cast<const char*>(row) + i);
}

int64_t find_bad_row(const int64_t* index, int64_t n, int64_t rows) {
  bool ok = true;
  for (int64_t j = 0; j < n; ++j) ok &= uint64_t(index[j]) < uint64_t(rows);
  for (int64_t j = 0; !ok; ++j)
    if (uint64_t(index[j]) >= uint64_t(rows)) return j;
  return -1;
}

void embedding_forward(int item_size, const void* w, const int64_t* index, void* y, int64_t n, int64_t, int64_t width) {
  const int64_t bytes = width * item_size;
  parallel_for(n, grain_for(width), [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      if (j + kAhead < end) prefetch_row(static_cast<const char*>(w) + index[j + kAhead] * bytes, bytes);
      memcpy(static_cast<char*>(y) + j * bytes, static_cast<const char*>(w) + index[j] * bytes, size_t(bytes));
    }
  });
}

template <class T>
void table_gradient(const T* dy, const int64_t* source, const T* scale, const int64_t* index, T* dw, int64_t n,
                    int64_t rows, int64_t width, int64_t skip) {
  using C = compute_t<T>;
  constexpr bool narrow = sizeof(T) != sizeof(C);
  if (n == 0) {
    memset(dw, 0, size_t(rows * width) * sizeof(T));
    return;
  }
  Destinations destinations(index, n, rows);
  parallel_for(destinations.blocks(), 1, [&](int64_t b, int64_t) {
    const int64_t first = b * destinations.width(),
                  last = first + destinations.width() < rows ? first + destinations.width() : rows;
    const int64_t items = (last - first) * width;
    const int64_t *j = destinations.begin(int(b)), *end = destinations.end(int(b));
    if (j == end || !narrow) memset(dw + first * width, 0, size_t(items) * sizeof(T));
    if (j == end) return;
    Scratch<C> wide(narrow ? items : 1);
    C* sums = wide.data();
    if constexpr (narrow)
      memset(sums, 0, size_t(items) * sizeof(C));
    else
      sums = dw + first * width;
    for (; j != end; ++j) {
      if (index[*j] == skip) continue;
      add_row(sums + (index[*j] - first) * width, dy + (source ? source[*j] : *j) * width,
              scale ? load1(scale + *j) : C(1), width);
    }
    round_row(dw + first * width, sums, items);
  });
}

void embedding_backward(DType dtype, const void* dy, const int64_t* source, const void* scale, const int64_t* index,
                        void* dw, int64_t n, int64_t rows, int64_t width, int64_t skip) {
  dispatch_floating(dtype, [&]<class T>() {
    table_gradient(static_cast<const T*>(dy), source, static_cast<const T*>(scale), index, static_cast<T*>(dw), n, rows,
                   width, skip);
  });
}

void embedding_renorm(DType dtype, void* w, const int64_t* index, int64_t n, int64_t rows, int64_t width,
                      double max_norm, double norm_type) {
  Scratch<bool> named(rows);
  memset(named.data(), 0, size_t(rows));
  for (int64_t j = 0; j < n; ++j) named[index[j]] = true;
  dispatch_floating(dtype, [&]<class T>() {
    parallel_for(rows, grain_for(width), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        if (!named[r]) continue;
        T* row = static_cast<T*>(w) + r * width;
        double norm = 0;
        for (int64_t i = 0; i < width; ++i) {
          const double v = fabs(double(load1(row + i)));
          if (norm_type == 2)
            norm += v * v;
          else if (norm_type == 1)
            norm += v;
          else if (isinf(norm_type))
            norm = v > norm ? v : norm;
          else
            norm += pow(v, norm_type);
        }
        if (norm_type == 2)
          norm = ::sqrt(norm);
        else if (norm_type != 1 && !isinf(norm_type))
          norm = pow(norm, 1 / norm_type);
        if (!(norm > max_norm)) continue;
        const compute_t<T> scale = compute_t<T>(max_norm / (norm + 1e-7));
        for (int64_t i = 0; i < width; ++i) store1(row + i, load1(row + i) * scale);
      }
    });
  });
}

// The positions of a bag, on average, and one for the bag itself.
int64_t per_bag(const int64_t* offsets, int64_t bags) { return bags ? offsets[bags] / bags + 1 : 1; }

void bag_positions(const int64_t* index, const int64_t* offsets, int64_t bags, int64_t skip, int64_t* bag,
                   int64_t* count) {
  parallel_for(bags, grain_for(per_bag(offsets, bags)), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      int64_t rows = 0;
      for (int64_t j = offsets[b]; j < offsets[b + 1]; ++j) {
        bag[j] = b;
        rows += index[j] != skip;
      }
      count[b] = rows;
    }
  });
}

// Columns [i, i + 8 vectors) of a bag's sum, held in registers while the rows go by. The first of them tell the
// processor of rows to come, up to position `last`, which may be another bag's.
template <class T>
void sum_columns(const T* w, const int64_t* index, const T* scale, int64_t begin, int64_t end, int64_t last, int64_t i,
                 int64_t width, int64_t skip, compute_t<T>* sums) {
  using C = compute_t<T>;
  Vec<C> sum[8] = {};
  for (int64_t j = begin; j < end; ++j) {
    if (i == 0 && j + kAhead < last) prefetch_row(w + index[j + kAhead] * width, width * int64_t(sizeof(T)));
    if (index[j] == skip) continue;
    const T* row = w + index[j] * width + i;
    const Vec<C> by = splat(scale ? C(load1(scale + j)) : C(1));
    for (int k = 0; k < 8; ++k) sum[k] += load(row + k * kLanes<C>) * by;
  }
  for (int k = 0; k < 8; ++k) store(sums + i + k * kLanes<C>, sum[k]);
}

template <class T>
void sum_bags(bool mean, const T* w, const int64_t* index, const int64_t* offsets, const T* scale, T* y, int64_t bags,
              int64_t width, int64_t skip) {
  using C = compute_t<T>;
  constexpr bool narrow = sizeof(T) != sizeof(C);
  const int64_t block = 8 * kLanes<C>;
  parallel_for(bags, 4 * grain_for(width * per_bag(offsets, bags)), [&](int64_t bag, int64_t last) {
    Scratch<C> wide(narrow ? width : 1);
    for (; bag < last; ++bag) {
      const int64_t begin = offsets[bag], end = offsets[bag + 1];
      C* sums = wide.data();
      if constexpr (!narrow) sums = y + bag * width;
      int64_t i = 0;
      for (; i + block <= width; i += block)
        sum_columns(w, index, scale, begin, end, offsets[last], i, width, skip, sums);
      memset(sums + i, 0, size_t(width - i) * sizeof(C));
      for (int64_t j = begin; i < width && j < end; ++j)
        if (index[j] != skip) add_row(sums + i, w + index[j] * width + i, scale ? load1(scale + j) : C(1), width - i);
      if (mean) {
        int64_t count = 0;
        for (int64_t j = begin; j < end; ++j) count += index[j] != skip;
        for (int64_t k = 0; count > 1 && k < width; ++k) sums[k] /= C(count);
      }
      round_row(y + bag * width, sums, width);
    }
  });
}

template <class T>
void max_bags(const T* w, const int64_t* index, const int64_t* offsets, T* y, int64_t* row, int64_t bags, int64_t width,
              int64_t skip) {
  parallel_for(bags, grain_for(width * per_bag(offsets, bags)), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      T* best = y + b * width;
      int64_t* from = row + b * width;
      memset(best, 0, size_t(width) * sizeof(T));
      for (int64_t i = 0; i < width; ++i) from[i] = -1;
      for (int64_t j = offsets[b]; j < offsets[b + 1]; ++j) {
        if (index[j] == skip) continue;
        const T* candidate = w + index[j] * width;
        for (int64_t i = 0; i < width; ++i) {
          const compute_t<T> v = load1(candidate + i), now = load1(best + i);
          const bool better = from[i] < 0 || v > now || (v != v && now == now);
          if (!better) continue;
          best[i] = candidate[i];
          from[i] = index[j];
        }
      }
    }
  });
}

void bag_forward(Bag mode, DType dtype, const void* w, const int64_t* index, const int64_t* offsets, const void* scale,
                 void* y, int64_t* row, int64_t bags, int64_t width, int64_t skip) {
  dispatch_floating(dtype, [&]<class T>() {
    const T* table = static_cast<const T*>(w);
    if (mode == Bag::Max)
      max_bags(table, index, offsets, static_cast<T*>(y), row, bags, width, skip);
    else
      sum_bags(mode == Bag::Mean, table, index, offsets, static_cast<const T*>(scale), static_cast<T*>(y), bags, width,
               skip);
  });
}

void bag_scale_backward(DType dtype, const void* dy, const void* w, const int64_t* index, const int64_t* bag,
                        void* dscale, int64_t n, int64_t width, int64_t skip) {
  dispatch_floating(dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(n, grain_for(width), [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        const T* a = static_cast<const T*>(dy) + bag[j] * width;
        const T* b = static_cast<const T*>(w) + index[j] * width;
        C sum = index[j] == skip ? C(0) : sum_row<C>(width, [&](int64_t i, auto part) {
          return load_part(a + i, part) * load_part(b + i, part);
        });
        store1(static_cast<T*>(dscale) + j, sum);
      }
    });
  });
}

}  // namespace

const EmbeddingKernels embedding_kernels = {find_bad_row,  embedding_forward, embedding_backward, embedding_renorm,
                                            bag_positions, bag_forward,       bag_scale_backward};

}  // namespace gg::GG_ISA
