// CPU scans. Over the last axis a row is scanned in groups of four, whose own prefix sums do not wait for the carry; a
// long row is cut into chunks that are first totalled, then scanned, each from the total before it. Over another axis,
// a block of columns goes down the rows together. float and the 16-bit types accumulate in double.
#include "ops/scan/scan.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/integers.h"
#include "cpu/scratch.h"
#include "cpu/vec.h"
#include "cpu/wrap.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kChunk = 16384;  // elements of a row between two carries
constexpr int64_t kColumns = 256;  // columns whose accumulators are kept in the first-level cache
constexpr int64_t kGrain = 16384;  // elements of a piece: about 20 microseconds

template <class T> struct wide_of { using type = double; };
template <> struct wide_of<int64_t> { using type = int64_t; };
template <class T> using wide_t = typename wide_of<T>::type;

template <class A> struct SumScan {
  static constexpr bool kCheap = true;  // costs one instruction, so that a chunk may be gone over twice
  A identity() const { return 0; }
  A operator()(A a, A x) const { return wrapping_add(a, x); }
};
template <class A> struct ProdScan {
  static constexpr bool kCheap = true;
  A identity() const { return 1; }
  A operator()(A a, A x) const { return wrapping_multiply(a, x); }
};
struct LogSumExpScan {
  static constexpr bool kCheap = false;
  double identity() const { return -__builtin_inf(); }
  double operator()(double a, double x) const {
    double high = a > x || a != a ? a : x, low = a > x || a != a ? x : a;
    return isinf(high) ? high + (low != low ? low : 0) : high + log1p(::exp(low - high));
  }
};

// Scans n elements, forward (step 1) or backward (-1), from `carry`, and returns the total.
template <int step, class A, class T, class F> A scan_row(const F& f, const T* x, T* y, int64_t n, A carry) {
  int64_t k = 0;
  if constexpr (F::kCheap) {
    for (; k + 4 <= n; k += 4, x += 4 * step, y += 4 * step) {
      A a = A(load1(x)), b = f(a, A(load1(x + step))), c = f(b, A(load1(x + 2 * step))),
        d = f(c, A(load1(x + 3 * step)));
      store1(y, compute_t<T>(f(carry, a)));
      store1(y + step, compute_t<T>(f(carry, b)));
      store1(y + 2 * step, compute_t<T>(f(carry, c)));
      carry = f(carry, d);
      store1(y + 3 * step, compute_t<T>(carry));
    }
  }
  for (; k < n; ++k, x += step, y += step) {
    carry = f(carry, A(load1(x)));
    store1(y, compute_t<T>(carry));
  }
  return carry;
}

template <int step, class A, class T, class F> A total_row(const F& f, const T* x, int64_t n) {
  constexpr int kParts = 32;  // four vectors of doubles, so that none waits for its own last addition
  A part[kParts];
  for (A& p : part) p = f.identity();
  int64_t k = 0;
  for (; k + kParts <= n; k += kParts, x += kParts * step)
    for (int i = 0; i < kParts; ++i) part[i] = f(part[i], A(load1(x + i * step)));
  for (; k < n; ++k, x += step) part[0] = f(part[0], A(load1(x)));
  for (int half = kParts / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) part[i] = f(part[i], part[i + half]);
  return part[0];
}

template <int step, class A, class T, class F> void scan_long_row(const F& f, const T* x, T* y, int64_t n) {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  Scratch<A> carry(chunks);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      carry[c] = total_row<step, A>(f, x + c * kChunk * step, smaller(kChunk, n - c * kChunk));
  });
  A before = f.identity();
  for (int64_t c = 0; c < chunks; ++c) {
    A total = carry[c];
    carry[c] = before;
    before = f(before, total);
  }
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      scan_row<step>(f, x + c * kChunk * step, y + c * kChunk * step, smaller(kChunk, n - c * kChunk), carry[c]);
  });
}

template <class A, class T, class F>
void scan_columns(const F& f, const T* x, T* y, int64_t n, int64_t inner, int64_t width, bool reverse) {
  A acc[kColumns];
  for (int64_t i = 0; i < width; ++i) acc[i] = f.identity();
  for (int64_t k = 0; k < n; ++k) {
    const int64_t at = (reverse ? n - 1 - k : k) * inner;
    for (int64_t i = 0; i < width; ++i) {
      acc[i] = f(acc[i], A(load1(x + at + i)));
      store1(y + at + i, compute_t<T>(acc[i]));
    }
  }
}

// Cuts (outer, n, inner) into columns blocks; f(first element, width).
template <class F> void for_column_blocks(int64_t outer, int64_t n, int64_t inner, const F& f) {
  const int64_t blocks = (inner + kColumns - 1) / kColumns, width = smaller(inner, kColumns);
  parallel_for(outer * blocks, larger(1, kGrain / (n * width)), [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t first = u % blocks * kColumns;
      f(u / blocks * n * inner + first, smaller(kColumns, inner - first));
    }
  });
}

// Rows of n elements whose first ones are x and y.
template <int step, class A, class T, class F> void scan_rows(const F& f, const T* x, T* y, int64_t outer, int64_t n) {
  if (F::kCheap && n >= 4 * kChunk) {
    for (int64_t o = 0; o < outer; ++o) scan_long_row<step, A>(f, x + o * n, y + o * n, n);
    return;
  }
  parallel_for(outer, larger(1, kGrain / n), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) scan_row<step>(f, x + o * n, y + o * n, n, A(f.identity()));
  });
}

template <class A, class T, class F>
void scan_any(const F& f, const T* x, T* y, int64_t outer, int64_t n, int64_t inner, bool reverse) {
  if (inner > 1)
    for_column_blocks(outer, n, inner, [&](int64_t first, int64_t width) {
      scan_columns<A>(f, x + first, y + first, n, inner, width, reverse);
    });
  else if (reverse)
    scan_rows<-1, A>(f, x + n - 1, y + n - 1, outer, n);
  else
    scan_rows<1, A>(f, x, y, outer, n);
}

template <class F> void dispatch_scan(DType t, F&& f) {
  if (t == DType::Int64) return f.template operator()<int64_t>();
  dispatch_floating(t, f);
}

void scan(Scan op, DType t, const void* x_, void* y_, int64_t outer, int64_t n, int64_t inner, bool reverse) {
  dispatch_scan(t, [&]<class T>() {
    using A = wide_t<T>;
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    if (op == Scan::Sum) return scan_any<A>(SumScan<A>{}, x, y, outer, n, inner, reverse);
    if (op == Scan::Prod) return scan_any<A>(ProdScan<A>{}, x, y, outer, n, inner, reverse);
    scan_any<double>(LogSumExpScan{}, x, y, outer, n, inner, reverse);
  });
}

void extremum(DType t, bool largest, const void* x_, void* values_, int64_t* indices, int64_t outer, int64_t n,
              int64_t inner) {
  dispatch_all(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    T* values = static_cast<T*>(values_);
    for_column_blocks(outer, n, inner, [&](int64_t first, int64_t width) {
      C best[kColumns];
      int64_t at[kColumns];
      for (int64_t k = 0; k < n; ++k)
        for (int64_t i = 0; i < width; ++i) {
          const int64_t here = first + k * inner + i;
          const C next = load1(x + here);
          if (k == 0 || next != next || (best[i] == best[i] && (largest ? next >= best[i] : next <= best[i]))) {
            best[i] = next;
            at[i] = k;
          }
          store1(values + here, best[i]);
          indices[here] = at[i];
        }
    });
  });
}

void linear(DType t, const void* a_, const void* b_, void* y_, int64_t outer, int64_t n, int64_t inner, bool reverse) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* a = static_cast<const T*>(a_);
    const T* b = static_cast<const T*>(b_);
    T* y = static_cast<T*>(y_);
    for_column_blocks(outer, n, inner, [&](int64_t first, int64_t width) {
      C carry[kColumns] = {};
      for (int64_t k = 0; k < n; ++k)
        for (int64_t i = 0; i < width; ++i) {
          const int64_t here = first + (reverse ? n - 1 - k : k) * inner + i;
          carry[i] = load1(b + here) + (k == 0 ? C(0) : load1(a + here) * carry[i]);
          store1(y + here, carry[i]);
        }
    });
  });
}

}  // namespace

const ScanKernels scan_kernels = {scan, extremum, linear};

}  // namespace gg::GG_ISA
