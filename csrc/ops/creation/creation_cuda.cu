// Ramps: each element is computed from its index, never from its neighbour, so rounding does not add up along the
// tensor.
#include "ops/creation/creation.h"

#include <type_traits>

#include "cuda/launch.h"
#include "cuda/number.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;

template <class T, class Rule> __global__ void fill_by_index_kernel(T* y, int64_t n, Rule value) {
  for (int64_t i = first_item(); i < n; i += item_step()) store(y + i, value(i));
}
template <class T, class Rule> void fill_by_index(void* y, int64_t n, Rule value) {
  launch(fill_by_index_kernel<T, Rule>, grid_for(n, kThreads), kThreads, 0, static_cast<T*>(y), n, value);
}

struct Arange {
  double start, step;
  __device__ double operator()(int64_t i) const { return start + double(i) * step; }
};
// Unsigned arithmetic wraps where a signed one that overflows would be undefined.
struct ArangeInt {
  uint64_t start, step;
  __device__ int64_t operator()(int64_t i) const { return int64_t(start + uint64_t(i) * step); }
};
// Counted from the nearer end. S: the type that PyTorch steps in. What a step lies beside a whole number decides where
// it is truncated to, so that product and sum must be rounded once, as the CPU's fused instruction does.
template <class S> struct Linspace {
  S start, end, step;
  int64_t n;

  Linspace(S first, S last, int64_t count)
      : start(first), end(last), step(count > 1 ? (last - first) / S(count - 1) : S(0)), n(count) {}
  __device__ S operator()(int64_t i) const {
    return n == 1 || i < n / 2 ? fma(step, S(i), start) : fma(-step, S(n - 1 - i), end);
  }
};
template <class S> struct Logspace {
  Linspace<S> exponent;
  S base;
  __device__ S operator()(int64_t i) const { return pow(base, exponent(i)); }
};

void arange(DType t, void* y, int64_t n, double start, double step) {
  dispatch_floating(t, [&]<class T>() { fill_by_index<T>(y, n, Arange{start, step}); });
}

void arange_int(DType t, void* y, int64_t n, int64_t start, int64_t step) {
  dispatch_all(t, [&]<class T>() { fill_by_index<T>(y, n, ArangeInt{uint64_t(start), uint64_t(step)}); });
}

void linspace(DType t, void* y, int64_t n, double start, double end) {
  dispatch_all(t, [&]<class T>() {
    using S = compute_t<T>;
    using Step = std::conditional_t<is_floating(dtype_of<T>::value), S, double>;
    fill_by_index<T>(y, n, Linspace<Step>(Step(S(start)), Step(S(end)), n));
  });
}

void logspace(DType t, void* y, int64_t n, double start, double end, double base) {
  dispatch_all(t, [&]<class T>() {
    constexpr bool whole = !is_floating(dtype_of<T>::value);
    using S = std::conditional_t<whole, float, double>;
    const S first = whole ? S(int64_t(start)) : S(start), last = whole ? S(int64_t(end)) : S(end);
    fill_by_index<T>(y, n, Logspace<S>{Linspace<S>(first, last, n), S(base)});
  });
}

// Row i is cut at i + start, clamped to the columns: nothing is before it up to row `first`, all columns from row
// `full` on.
struct Triangle {
  int64_t cols, start, first, full;
  bool lower;

  __device__ int64_t cut(int64_t i) const {
    const int64_t c = i + start;
    return c < 0 ? 0 : c > cols ? cols : c;
  }
  // Places in the rows above row i.
  __device__ int64_t above(int64_t i) const {
    int64_t ramp = (i < full ? i : full) - first, below = i > full ? (i - full) * cols : 0;
    if (ramp > 0) below += ramp * (first + start) + ramp * (ramp - 1) / 2;
    return lower ? below : i * cols - below;
  }
};

__global__ void triangle_indices_kernel(int64_t* __restrict__ y, int64_t n, int64_t rows, Triangle triangle) {
  for (int64_t k = first_item(); k < n; k += item_step()) {
    int64_t low = 0, high = rows - 1;  // the row is the first with more than k places above the next
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (triangle.above(middle + 1) > k)
        high = middle;
      else
        low = middle + 1;
    }
    y[k] = low;
    y[n + k] = k - triangle.above(low) + (triangle.lower ? 0 : triangle.cut(low));
  }
}

void triangle_indices(int64_t* y, int64_t n, int64_t rows, int64_t cols, int64_t offset, bool lower) {
  auto clamp = [](int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; };
  Triangle t;
  t.cols = cols;
  t.start = offset + (lower ? 1 : 0);
  t.first = clamp(-t.start, 0, rows);
  t.full = clamp(cols - t.start, t.first, rows);
  t.lower = lower;
  launch(triangle_indices_kernel, grid_for(n, kThreads), kThreads, 0, y, n, rows, t);
}

}  // namespace

const CreationKernels creation_kernels = {arange, arange_int, linspace, logspace, triangle_indices};

}  // namespace gg::cuda
