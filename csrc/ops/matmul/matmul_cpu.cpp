// CPU kernels of the matrix product: batches over cpu/gemm.h, whole numbers in int64, and pairwise distances.
#include "ops/matmul/matmul.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/gemm.h"

namespace gg::GG_ISA {
namespace {

template <class T> struct Operands {
  Matrix<const T> a, b, d;
  Matrix<T> c;
};

template <class T> Operands<T> operands_at(const MatmulProblem& q, int64_t index) {
  int64_t a = 0, b = 0, c = 0, d = 0;
  for (int i = q.batch_ndim - 1; i >= 0; --i) {
    int64_t at = index % q.batch_shape[i];
    index /= q.batch_shape[i];
    a += at * q.a_batch[i];
    b += at * q.b_batch[i];
    c += at * q.c_batch[i];
    d += at * q.d_batch[i];
  }
  const T* addend = q.d ? static_cast<const T*>(q.d) + d : nullptr;
  return {{static_cast<const T*>(q.a) + a, q.a_row, q.a_col},
          {static_cast<const T*>(q.b) + b, q.b_row, q.b_col},
          {addend, q.d_row, q.d_col},
          {static_cast<T*>(q.c) + c, q.c_row, q.c_col}};
}

// Runs one(index) for the whole batch: side by side, or, where each product is work enough for all threads, in turn.
template <class F> void for_batch(const MatmulProblem& q, double flops, const F& one) {
  int64_t count = 1;
  for (int i = 0; i < q.batch_ndim; ++i) count *= q.batch_shape[i];
  if (count == 1 || flops > 16.0 * kPieceFlops) {
    for (int64_t i = 0; i < count; ++i) one(i);
    return;
  }
  const double each = flops + double(kPieceFlops) / 256;  // a product's own cost counts where it is small
  int64_t pieces = 1;  // a power of two, as most batches are: the pieces are then equal
  while (pieces < pieces_of(double(count) * each)) pieces *= 2;
  parallel_for(count, ceil_div(count, pieces), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) one(i);
  });
}

// Whole numbers: sums in int64 wrap as two's complement does, and the last conversion keeps the low bits.
template <class T> void multiply_integers(const MatmulProblem& q, const Operands<T>& o) {
  constexpr int64_t kColumns = 256;
  const int64_t alpha = int64_t(q.alpha), beta = int64_t(q.beta);
  parallel_for(q.m, ceil_div(100000, q.n * q.k + 1), [&](int64_t begin, int64_t end) {
    uint64_t sums[kColumns];
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j0 = 0; j0 < q.n; j0 += kColumns) {
        int64_t n = smaller(kColumns, q.n - j0);
        for (int64_t j = 0; j < n; ++j) sums[j] = 0;
        for (int64_t p = 0; p < q.k; ++p) {
          uint64_t x = uint64_t(int64_t(*o.a.at(i, p)));
          const T* b = o.b.at(p, j0);
          for (int64_t j = 0; j < n; ++j) sums[j] += x * uint64_t(int64_t(b[j * o.b.col]));
        }
        for (int64_t j = 0; j < n; ++j) {
          uint64_t s = uint64_t(alpha) * sums[j];
          if (o.d.data) s += uint64_t(beta) * uint64_t(int64_t(*o.d.at(i, j0 + j)));
          *o.c.at(i, j0 + j) = T(s);
        }
      }
  });
}

void matmul(DType t, const MatmulProblem& q) {
  const double flops = 2.0 * double(q.m) * double(q.n) * double(q.k);
  if (!is_floating(t)) {
    dispatch_all(t, [&]<class T>() {
      if constexpr (sizeof(compute_t<T>) == sizeof(T))
        for_batch(q, flops * 16, [&](int64_t i) { multiply_integers(q, operands_at<T>(q, i)); });
    });
    return;
  }
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    for_batch(q, flops, [&](int64_t i) {
      Operands<T> o = operands_at<T>(q, i);
      gemm<T>(q.m, q.n, q.k, C(q.alpha), o.a, o.b, C(q.beta), o.d, o.c);
    });
  });
}

// One coordinate's share of a distance; `finish` makes the distance of the sum of shares.
struct CountNorm {
  template <class C> Vec<C> add(Vec<C> sum, Vec<C> diff) const { return sum + (diff != C(0) ? splat(C(1)) : Vec<C>{}); }
  template <class C> C finish(C sum) const { return sum; }
};
struct SumNorm {
  template <class C> Vec<C> add(Vec<C> sum, Vec<C> diff) const { return sum + (diff < C(0) ? -diff : diff); }
  template <class C> C finish(C sum) const { return sum; }
};
struct EuclideanNorm {
  template <class C> Vec<C> add(Vec<C> sum, Vec<C> diff) const { return sum + diff * diff; }
  template <class C> C finish(C sum) const { return C(::sqrt(double(sum))); }
};
struct MaxNorm {
  template <class C> Vec<C> add(Vec<C> sum, Vec<C> diff) const {
    Vec<C> size = diff < C(0) ? -diff : diff;
    return size > sum || size != size ? size : sum;
  }
  template <class C> C finish(C sum) const { return sum; }
};
struct PowerNorm {
  double p;
  template <class C> Vec<C> add(Vec<C> sum, Vec<C> diff) const {
    for (int l = 0; l < kLanes<C>; ++l) sum[l] += C(::pow(::fabs(double(diff[l])), p));
    return sum;
  }
  template <class C> C finish(C sum) const { return C(::pow(double(sum), 1 / p)); }
};

template <class F> void dispatch_norm(double p, const F& f) {
  if (p == 0)
    f(CountNorm{});
  else if (p == 1)
    f(SumNorm{});
  else if (p == 2)
    f(EuclideanNorm{});
  else if (p == HUGE_VAL)
    f(MaxNorm{});
  else
    f(PowerNorm{p});
}

// Lanes run over the rows of y, transposed into a panel; four rows of x share each vector of it.
template <class T, class Norm>
void distances(const Norm& norm, const T* x, const T* y, T* out, int64_t batch, int64_t m, int64_t n, int64_t t) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>, R = 4;
  const int64_t blocks = ceil_div(n, L);
  parallel_for(batch * blocks, ceil_div(50000, m * t * L + 1), [&](int64_t begin, int64_t end) {
    Scratch<C> panel(t * L + 1);
    for (int64_t s = begin; s < end; ++s) {
      const int64_t b = s / blocks, j0 = s % blocks * L, columns = smaller(L, n - j0);
      pack_panel<C>(Matrix<const T>{y + (b * n + j0) * t, 1, t}, t, columns, L, panel.data());
      for (int64_t i = 0; i < m; i += R) {
        const int64_t rows = smaller(R, m - i);
        const T* xs[R];
        for (int r = 0; r < R; ++r) xs[r] = x + (b * m + i + (r < rows ? r : 0)) * t;
        Vec<C> sums[R] = {};
        for (int64_t p = 0; p < t; ++p) {
          Vec<C> v = load(panel.data() + p * L);
          for (int r = 0; r < R; ++r) sums[r] = norm.template add<C>(sums[r], splat(load1(xs[r] + p)) - v);
        }
        for (int r = 0; r < rows; ++r) {
          Vec<C> d;
          for (int l = 0; l < L; ++l) d[l] = norm.template finish<C>(sums[r][l]);
          store_n(out + (b * m + i + r) * n + j0, d, columns);
        }
      }
    }
  });
}

void cdist_forward(DType dtype, double p, const void* x, const void* y, void* out, int64_t batch, int64_t m, int64_t n,
                   int64_t t) {
  dispatch_floating(dtype, [&]<class T>() {
    dispatch_norm(p, [&](auto norm) {
      distances(norm, static_cast<const T*>(x), static_cast<const T*>(y), static_cast<T*>(out), batch, m, n, t);
    });
  });
}

// d out / d x_t = sign(x_t - y_t) (|x_t - y_t| / out)^(p - 1), 0 where out is 0. For p = inf only the largest
// coordinate counts (all of them, where several are); for p = 0 nothing does.
// The distance was rounded to T, and so is the coordinate that is compared with it.
template <class T, class C = compute_t<T>> C distance_slope(double p, C diff, C dist) {
  if (dist == C(0) || p == 0) return 0;
  const C size = diff < 0 ? -diff : diff, sign = diff > 0 ? C(1) : diff < 0 ? C(-1) : C(0);
  if (p == 1) return sign;
  if (p == 2) return diff / dist;
  if (p == HUGE_VAL) {
    T rounded;
    store1(&rounded, size);
    return load1(&rounded) == dist ? sign : C(0);
  }
  if (diff == C(0)) return 0;
  return sign * C(::pow(double(size / dist), p - 1));
}

void cdist_backward(DType dtype, double p, const void* dout, const void* x, const void* y, const void* out, void* dx,
                    int64_t batch, int64_t m, int64_t n, int64_t t, int64_t out_row, int64_t out_col) {
  dispatch_floating(dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(batch * m, ceil_div(50000, n * t + 1), [&](int64_t begin, int64_t end) {
      Scratch<C> sums(t + 1);
      for (int64_t s = begin; s < end; ++s) {
        const int64_t b = s / m, i = s % m;
        const T* xi = static_cast<const T*>(x) + s * t;
        for (int64_t u = 0; u < t; ++u) sums[u] = 0;
        for (int64_t j = 0; j < n; ++j) {
          const int64_t at = b * m * n + i * out_row + j * out_col;
          const C dist = load1(static_cast<const T*>(out) + at), g = load1(static_cast<const T*>(dout) + at);
          const T* yj = static_cast<const T*>(y) + (b * n + j) * t;
          for (int64_t u = 0; u < t; ++u) sums[u] += g * distance_slope<T>(p, load1(xi + u) - load1(yj + u), dist);
        }
        for (int64_t u = 0; u < t; ++u) store1(static_cast<T*>(dx) + s * t + u, sums[u]);
      }
    });
  });
}

// Gauss and Jordan with row exchanges, in double: [A | I] becomes [I | A^-1] column by column, the largest element as
// pivot.
bool invert(double* a, double* inverse, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) inverse[i * n + j] = i == j;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (::fabs(a[i * n + k]) > ::fabs(a[pivot * n + k])) pivot = i;
    const double x = a[pivot * n + k];
    if (x == 0) return false;
    double* both[] = {a, inverse};
    for (double* m : both)
      for (int64_t j = 0; j < n; ++j) {
        const double top = m[pivot * n + j];
        m[pivot * n + j] = m[k * n + j];
        m[k * n + j] = top / x;
      }
    for (int64_t i = 0; i < n; ++i) {
      const double y = a[i * n + k];
      if (i == k || y == 0) continue;
      for (double* m : both)
        for (int64_t j = 0; j < n; ++j) m[i * n + j] -= y * m[k * n + j];
    }
  }
  return true;
}

bool inverse(DType dtype, const void* a, void* out, int64_t batch, int64_t n) {
  const Scratch<bool> fine(batch + 1);
  dispatch_floating(dtype, [&]<class T>() {
    parallel_for(batch, ceil_div(100000, n * n * n + 1), [&](int64_t begin, int64_t end) {
      const Scratch<double> work(2 * n * n + 1);
      for (int64_t b = begin; b < end; ++b) {
        const T* from = static_cast<const T*>(a) + b * n * n;
        for (int64_t i = 0; i < n * n; ++i) work[i] = load1(from + i);
        fine[b] = invert(work.data(), work.data() + n * n, n);
        for (int64_t i = 0; i < n * n; ++i) store1(static_cast<T*>(out) + b * n * n + i, compute_t<T>(work[n * n + i]));
      }
    });
  });
  for (int64_t b = 0; b < batch; ++b)
    if (!fine[b]) return false;
  return true;
}

}  // namespace

const MatmulKernels matmul_kernels = {matmul, cdist_forward, cdist_backward, inverse};

}  // namespace gg::GG_ISA
