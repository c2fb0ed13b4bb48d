// CUDA kernels of embedding.h. Rows move 16 bytes a thread. A gradient's positions are put in order of their rows
// (cuda/destinations.h), and each row is summed in the order of its positions, in float32 for 16-bit tables; bags are
// read by one thread a column, position after position.
#include "ops/embedding/embedding.h"

#include "core/dispatch.h"
#include "cuda/destinations.h"
#include "cuda/first_bad.h"
#include "cuda/number.h"
#include "cuda/rows.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void find_bad_row_kernel(const int64_t* __restrict__ index, int64_t n, int64_t rows,
                                    BadPosition* __restrict__ bad) {
  int64_t first = n;
  for (int64_t j = first_item(); j < n; j += item_step())
    if (uint64_t(index[j]) >= uint64_t(rows) && j < first) first = j;
  if (first < n) report_bad(bad, first);
}

int64_t find_bad_row(const int64_t* index, int64_t n, int64_t rows) {
  if (n == 0) return -1;
  FirstBad bad;
  launch(find_bad_row_kernel, grid_for(n, kThreads), kThreads, 0, index, n, rows, bad.get());
  return bad.result();
}

template <class U>
__global__ void embedding_forward_kernel(const U* __restrict__ w, const int64_t* __restrict__ index, U* __restrict__ y,
                                         int64_t items, int64_t rows, Split width) {
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t j = width.quotient(item), row = index[j];
    y[item] = uint64_t(row) < uint64_t(rows) ? w[row * width.d + (item - j * width.d)] : U(0);
  }
}

void embedding_forward(int item_size, const void* w, const int64_t* index, void* y, int64_t n, int64_t rows,
                       int64_t width) {
  dispatch_size(item_size, [&]<class U>() {
    const int64_t items = n * width, row_bytes = width * item_size;
    if (rows_fit(row_bytes, y)) return pick_rows<U>(w, 1, 0, index, n, row_bytes, rows, row_bytes, y);
    launch(embedding_forward_kernel<U>, grid_for(items, kThreads), kThreads, 0, static_cast<const U*>(w), index,
           static_cast<U*>(y), items, rows, Split(width, items));
  });
}

// W columns of the gradient: a fold for cuda/destinations.h. Positions count from `first`.
template <class T, int W> struct RowSums {
  using C = compute_t<T>;
  struct alignas(W == 1 ? sizeof(C) : 16) Value { C v[W]; };
  const T* dy;
  const int64_t* source;
  const T* scale;
  T* dw;
  int64_t width, skip, first;

  __device__ Value read(int64_t row, int64_t j, int64_t column) const {
    Value v{};
    if (row == skip) return v;
    j += first;
    const C by = scale ? load(scale + j) : C(1);
    const auto from = load_pack<W>(dy + (source ? source[j] : j) * width + column * W);
#pragma unroll
    for (int k = 0; k < W; ++k) v.v[k] = from_element<C>(from[k]) * by;
    return v;
  }
  __device__ Value combine(Value a, Value b) const {
#pragma unroll
    for (int k = 0; k < W; ++k) a.v[k] += b.v[k];
    return a;
  }
  __device__ void write(int64_t row, int64_t column, Value sum) const {
    if (row == skip) return;
    T* const to = dw + row * width + column * W;
    Pack<T, W> y;
#pragma unroll
    for (int k = 0; k < W; ++k) y[k] = to_element<T>(first ? load(to + k) + sum.v[k] : sum.v[k]);
    store_pack(to, y);
  }
};

template <int W, class T>
void table_gradient(const T* dy, const int64_t* source, const T* scale, const int64_t* index, T* dw, int64_t n,
                    int64_t rows, int64_t width, int64_t skip) {
  for (int64_t first = 0; first < n; first += Destinations::kMost) {
    Destinations at(index + first, n - first < Destinations::kMost ? n - first : Destinations::kMost, rows);
    fold_ordered(RowSums<T, W>{dy, source, scale, dw, width, skip, first}, at.ordered(), width / W, true);
  }
}

void embedding_backward(DType dtype, const void* dy, const int64_t* source, const void* scale, const int64_t* index,
                        void* dw, int64_t n, int64_t rows, int64_t width, int64_t skip) {
  zero(dw, size_t(rows * width) * item_size(dtype));
  dispatch_floating(dtype, [&]<class T>() {
    const T *d = static_cast<const T*>(dy), *by = static_cast<const T*>(scale);
    if (width % kPack<T> == 0 && aligned(dy, 16) && aligned(dw, 16))
      table_gradient<kPack<T>>(d, source, by, index, static_cast<T*>(dw), n, rows, width, skip);
    else
      table_gradient<1>(d, source, by, index, static_cast<T*>(dw), n, rows, width, skip);
  });
}

__global__ void mark_rows_kernel(const int64_t* __restrict__ index, int64_t n, int64_t rows,
                                 unsigned* __restrict__ named) {
  for (int64_t j = first_item(); j < n; j += item_step())
    if (uint64_t(index[j]) < uint64_t(rows)) atomicOr(named + index[j] / 32, 1u << index[j] % 32);
}

// The sum over i of v^norm_type, or the greatest v where that is infinite.
struct Norm {
  double type;
  __device__ double add(double norm, double v) const {
    if (type == 2) return norm + v * v;
    if (type == 1) return norm + v;
    if (isinf(type)) return v > norm ? v : norm;
    return norm + pow(v, type);
  }
  __device__ double finish(double norm) const {
    if (type == 2) return sqrt(norm);
    return type == 1 || isinf(type) ? norm : pow(norm, 1 / type);
  }
};

// A warp takes a row.
template <class T>
__global__ void embedding_renorm_kernel(T* __restrict__ w, const unsigned* __restrict__ named, int64_t rows,
                                        int64_t width, double max_norm, Norm norm) {
  const int lane = threadIdx.x % 32;
  for (int64_t r = first_item() / 32; r < rows; r += item_step() / 32) {
    if ((named[r / 32] >> r % 32 & 1) == 0) continue;
    T* const row = w + r * width;
    double part = 0;
    for (int64_t i = lane; i < width; i += 32) part = norm.add(part, fabs(double(load(row + i))));
    const double length = norm.finish(isinf(norm.type) ? warp_reduce<Max>(part) : warp_reduce<Sum>(part));
    if (!(length > max_norm)) continue;
    const compute_t<T> scale = compute_t<T>(max_norm / (length + 1e-7));
    for (int64_t i = lane; i < width; i += 32) store(row + i, load(row + i) * scale);
  }
}

void embedding_renorm(DType dtype, void* w, const int64_t* index, int64_t n, int64_t rows, int64_t width,
                      double max_norm, double norm_type) {
  const int64_t words = ceil_div(rows, 32);
  Scratch<unsigned> named(words);
  zero(named, size_t(words) * sizeof(unsigned));
  launch(mark_rows_kernel, grid_for(n, kThreads), kThreads, 0, index, n, rows, named.get());
  dispatch_floating(dtype, [&]<class T>() {
    launch(embedding_renorm_kernel<T>, grid_for(rows * 32, kThreads), kThreads, 0, static_cast<T*>(w),
           static_cast<const unsigned*>(named.get()), rows, width, max_norm, Norm{norm_type});
  });
}

// A warp takes a bag.
__global__ void bag_positions_kernel(const int64_t* __restrict__ index, const int64_t* __restrict__ offsets,
                                     int64_t bags, int64_t skip, int64_t* __restrict__ bag,
                                     int64_t* __restrict__ count) {
  const int lane = threadIdx.x % 32;
  for (int64_t b = first_item() / 32; b < bags; b += item_step() / 32) {
    int64_t kept = 0;
    for (int64_t j = offsets[b] + lane, end = offsets[b + 1]; j < end; j += 32) {
      bag[j] = b;
      kept += index[j] != skip;
    }
    kept = warp_reduce<Sum>(kept);
    if (lane == 0) count[b] = kept;
  }
}

void bag_positions(const int64_t* index, const int64_t* offsets, int64_t bags, int64_t skip, int64_t* bag,
                   int64_t* count) {
  if (bags == 0) return;
  launch(bag_positions_kernel, grid_for(bags * 32, kThreads), kThreads, 0, index, offsets, bags, skip, bag, count);
}

template <class T, int W>
__global__ void sum_bags_kernel(bool mean, const T* __restrict__ w, const int64_t* __restrict__ index,
                                const int64_t* __restrict__ offsets, const T* __restrict__ scale, T* __restrict__ y,
                                int64_t items, int64_t width, int64_t skip) {
  using C = compute_t<T>;
  constexpr int together = 4;  // rows on their way at once
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t b = item / (width / W), column = item % (width / W) * W;
    C sum[W] = {};
    int64_t count = 0;
    for (int64_t j = offsets[b], end = offsets[b + 1]; j < end; j += together) {
      Pack<T, W> row[together];
      C by[together];
      bool kept[together];
#pragma unroll
      for (int k = 0; k < together; ++k) {
        kept[k] = j + k < end && index[j + k] != skip;
        if (!kept[k]) continue;
        row[k] = load_pack<W>(w + index[j + k] * width + column);
        by[k] = scale ? load(scale + j + k) : C(1);
      }
#pragma unroll
      for (int k = 0; k < together; ++k) {
        if (!kept[k]) continue;
        ++count;
#pragma unroll
        for (int i = 0; i < W; ++i) sum[i] += from_element<C>(row[k][i]) * by[k];
      }
    }
    Pack<T, W> result;
#pragma unroll
    for (int i = 0; i < W; ++i) result[i] = to_element<T>(mean && count > 1 ? sum[i] / C(count) : sum[i]);
    store_pack(y + b * width + column, result);
  }
}

template <class T>
__global__ void max_bags_kernel(const T* __restrict__ w, const int64_t* __restrict__ index,
                                const int64_t* __restrict__ offsets, T* __restrict__ y, int64_t* __restrict__ row,
                                int64_t items, int64_t width, int64_t skip) {
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t b = item / width, column = item % width;
    compute_t<T> best = 0;
    int64_t from = -1;
    for (int64_t j = offsets[b], end = offsets[b + 1]; j < end; ++j) {
      if (index[j] == skip) continue;
      const compute_t<T> v = load(w + index[j] * width + column);
      if (from >= 0 && !(v > best) && !(v != v && best == best)) continue;
      best = v;
      from = index[j];
    }
    store(y + item, best);
    row[item] = from;
  }
}

void bag_forward(Bag mode, DType dtype, const void* w, const int64_t* index, const int64_t* offsets, const void* scale,
                 void* y, int64_t* row, int64_t bags, int64_t width, int64_t skip) {
  dispatch_floating(dtype, [&]<class T>() {
    const T* table = static_cast<const T*>(w);
    if (mode == Bag::Max)
      return launch(max_bags_kernel<T>, grid_for(bags * width, kThreads), kThreads, 0, table, index, offsets,
                    static_cast<T*>(y), row, bags * width, width, skip);
    auto sum = [&]<int W>() {
      const int64_t items = bags * width / W;
      launch(sum_bags_kernel<T, W>, grid_for(items, kThreads), kThreads, 0, mode == Bag::Mean, table, index, offsets,
             static_cast<const T*>(scale), static_cast<T*>(y), items, width, skip);
    };
    if (width % kPack<T> == 0 && aligned(w, 16) && aligned(y, 16))
      sum.template operator()<kPack<T>>();
    else
      sum.template operator()<1>();
  });
}

// A warp takes a position.
template <class T>
__global__ void bag_scale_backward_kernel(const T* __restrict__ dy, const T* __restrict__ w,
                                          const int64_t* __restrict__ index, const int64_t* __restrict__ bag,
                                          T* __restrict__ dscale, int64_t n, int64_t width, int64_t skip) {
  using C = compute_t<T>;
  const int lane = threadIdx.x % 32;
  for (int64_t j = first_item() / 32; j < n; j += item_step() / 32) {
    C sum = 0;
    if (index[j] != skip)
      for (int64_t i = lane; i < width; i += 32) sum += load(dy + bag[j] * width + i) * load(w + index[j] * width + i);
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) store(dscale + j, sum);
  }
}

void bag_scale_backward(DType dtype, const void* dy, const void* w, const int64_t* index, const int64_t* bag,
                        void* dscale, int64_t n, int64_t width, int64_t skip) {
  if (n == 0) return;
  dispatch_floating(dtype, [&]<class T>() {
    launch(bag_scale_backward_kernel<T>, grid_for(n * 32, kThreads), kThreads, 0, static_cast<const T*>(dy),
           static_cast<const T*>(w), index, bag, static_cast<T*>(dscale), n, width, skip);
  });
}

}  // namespace

const EmbeddingKernels embedding_kernels = {find_bad_row,  embedding_forward, embedding_backward, embedding_renorm,
                                            bag_positions, bag_forward,       bag_scale_backward};

}  // namespace gg::cuda
