// Ramps: each element is computed from its index, never from its neighbour, so rounding does not add up along the
// tensor.
#include "ops/creation/creation.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kGrain = 32768;

template <class T, class X> inline void put(T* p, X x) {
  if constexpr (is_half(dtype_of<T>::value))
    store1(p, float(x));
  else
    *p = T(x);
}

template <class T, class F> void fill_by_index(void* y, int64_t n, F value) {
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) put(static_cast<T*>(y) + i, value(i));
  });
}

void arange(DType t, void* y, int64_t n, double start, double step) {
  dispatch_floating(t, [&]<class T>() { fill_by_index<T>(y, n, [=](int64_t i) { return start + double(i) * step; }); });
}

void arange_int(DType t, void* y, int64_t n, int64_t start, int64_t step) {
  dispatch_all(t, [&]<class T>() {
    // Unsigned arithmetic wraps where a signed one that overflows would be undefined.
    fill_by_index<T>(y, n, [=](int64_t i) { return int64_t(uint64_t(start) + uint64_t(i) * uint64_t(step)); });
  });
}

// S: the type that PyTorch steps in, on which the truncation to whole numbers depends.
template <class S> inline S point(int64_t i, int64_t n, S start, S end, S step) {
  return i < n / 2 ? start + step * S(i) : end - step * S(n - 1 - i);
}

void linspace(DType t, void* y, int64_t n, double start, double end) {
  dispatch_all(t, [&]<class T>() {
    constexpr bool whole = !is_floating(dtype_of<T>::value);
    using S = typename compute_of<T>::type;
    using Step = std::conditional_t<whole, double, S>;
    Step first = Step(S(start)), last = Step(S(end)), step = n > 1 ? (last - first) / Step(n - 1) : Step(0);
    fill_by_index<T>(y, n, [=](int64_t i) { return n == 1 ? first : point(i, n, first, last, step); });
  });
}

void logspace(DType t, void* y, int64_t n, double start, double end, double base) {
  dispatch_all(t, [&]<class T>() {
    constexpr bool whole = !is_floating(dtype_of<T>::value);
    using S = std::conditional_t<whole, float, double>;
    S first = whole ? S(int64_t(start)) : S(start), last = whole ? S(int64_t(end)) : S(end);
    S step = n > 1 ? (last - first) / S(n - 1) : S(0);
    fill_by_index<T>(y, n, [=](int64_t i) { return pow(S(base), n == 1 ? first : point(i, n, first, last, step)); });
  });
}

void triangle_indices(int64_t* y, int64_t n, int64_t rows, int64_t cols, int64_t offset, bool lower) {
  int64_t* column = y + n;
  int64_t begin = lower && offset < 0 ? -offset : 0;
  if (!lower && rows > cols - offset) rows = cols - offset;
  for (int64_t i = begin; i < rows; ++i) {
    int64_t cut = i + offset + (lower ? 1 : 0);
    cut = cut < 0 ? 0 : cut > cols ? cols : cut;
    for (int64_t j = lower ? 0 : cut, end = lower ? cut : cols; j < end; ++j) {
      *y++ = i;
      *column++ = j;
    }
  }
}

}  // namespace

const CreationKernels creation_kernels = {arange, arange_int, linspace, logspace, triangle_indices};

}  // namespace gg::GG_ISA
