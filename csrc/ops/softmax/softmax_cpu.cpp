// Softmax and cross-entropy on the CPU.
//
// Rows with inner == 1 are walked along the row. A row that fits the first cache takes three passes there (max, exp and
// sum, scale); a longer one takes the online form of Milakov and Gimelshein (2018) block by block, so memory is read
// twice, not three times. With inner > 1 the vectors lie across inner and nothing is reduced across lanes.
#include "ops/softmax/softmax.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/math.h"
#include "cpu/rows.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kBlock = 4096;       // elements of a row that stay in the first cache between two passes
constexpr int64_t kCachedRow = 65536;  // the longest row that stays in the second cache beside its softmax
constexpr int64_t kPieceWork = 32768;  // elements of a parallel piece: about 20 microseconds
constexpr int kColumnVectors = 4;      // vectors across inner that are walked together

inline int64_t rows_per_piece(int64_t n) { return n < kPieceWork ? kPieceWork / (n > 0 ? n : 1) : 1; }

inline float log1(float x) { return ::logf(x); }
inline double log1(double x) { return ::log(x); }
inline float exp1(float x) { return ::expf(x); }
inline double exp1(double x) { return ::exp(x); }

template <class C> struct Stats {
  C max, sum;  // of x, and of exp(x - max)
};

// Stats of a row, online over blocks. An all -inf block has no finite max to subtract: 0 serves, and NaNs still show.
template <class T> Stats<compute_t<T>> row_stats(const T* x, int64_t n) {
  using C = compute_t<T>;
  C m = C(-kInfinity), s = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    int64_t count = n - at < kBlock ? n - at : kBlock;
    const T* block = x + at;
    C top = reduce_row<C>(count, m, [&](int64_t i, auto part) { return load_part(block + i, part); }, Max{});
    C shift = top == C(-kInfinity) ? C(0) : top;
    if (top > m) s *= exp1(m - top);
    m = top;
    s += sum_row<C>(count, [&](int64_t i, auto part) {
      __builtin_prefetch(block + count + i);  // the next block, or row: exponentials take longer than memory
      return exp_of_negative(load_part(block + i, part) - shift);
    });
  }
  return {m, s};
}

template <class T> void softmax_row(const T* x, T* y, int64_t n, bool log) {
  using C = compute_t<T>;
  // The exponentials wait in y itself; a 16-bit y would round them twice, so they wait beside it.
  constexpr bool in_place = sizeof(T) == sizeof(C);
  if (!log && n <= (in_place ? kCachedRow : kBlock)) {
    C beside[in_place ? 1 : kBlock];
    C* e = beside;
    if constexpr (in_place) e = y;
    C m = reduce_row<C>(n, C(-kInfinity), [&](int64_t i, auto part) { return load_part(x + i, part); }, Max{});
    C s = sum_row<C>(n, [&](int64_t i, auto part) {
      __builtin_prefetch(x + n + i);  // the next row
      Vec<C> v = exp(load_part(x + i, part) - m);
      store_part(e + i, v, part);
      return v;
    });
    C scale = 1 / s;
    for_vectors<C>(n, [&](int64_t i, auto part) { store_part(y + i, load_part(e + i, part) * scale, part); });
    return;
  }
  auto [m, s] = row_stats(x, n);
  if (log) {
    C log_s = log1(s);
    for_vectors<C>(n, [&](int64_t i, auto part) { store_part(y + i, load_part(x + i, part) - m - log_s, part); });
  } else {
    C scale = 1 / s;
    for_vectors<C>(n, [&](int64_t i, auto part) { store_part(y + i, exp(load_part(x + i, part) - m) * scale, part); });
  }
}

// K vectors of columns starting at x; element j of a column lies at j * inner.
template <int K, class T, class Part>
void column_stats(const T* x, int64_t n, int64_t inner, Part part, Vec<compute_t<T>>* m, Vec<compute_t<T>>* s) {
  using C = compute_t<T>;
  constexpr int64_t L = kLanes<C>;
  for (int k = 0; k < K; ++k) m[k] = splat(C(-kInfinity)), s[k] = Vec<C>{};
  for (int64_t j = 0; j < n; ++j)
    for (int k = 0; k < K; ++k) m[k] = max(load_part(x + j * inner + k * L, part), m[k]);
  Vec<C> shift[K];
  for (int k = 0; k < K; ++k) shift[k] = m[k] == C(-kInfinity) ? Vec<C>{} : m[k];
  for (int64_t j = 0; j < n; ++j)
    for (int k = 0; k < K; ++k) s[k] += exp_of_negative(load_part(x + j * inner + k * L, part) - shift[k]);
}

template <int K, class T, class Part>
void softmax_columns(const T* x, T* y, int64_t n, int64_t inner, Part part, bool log) {
  using C = compute_t<T>;
  constexpr int64_t L = kLanes<C>;
  Vec<C> m[K], s[K];
  column_stats<K>(x, n, inner, part, m, s);
  for (int k = 0; k < K; ++k) s[k] = log ? GG_ISA::log(s[k]) : C(1) / s[k];
  for (int64_t j = 0; j < n; ++j)
    for (int k = 0; k < K; ++k) {
      int64_t at = j * inner + k * L;
      Vec<C> shifted = load_part(x + at, part) - m[k];
      store_part(y + at, log ? shifted - s[k] : exp(shifted) * s[k], part);
    }
}

// Calls f with K (as a type's ::k) and Part for each group of columns in [0, inner) of each outer slice, in parallel.
template <int N> struct Vectors { static constexpr int k = N; };
template <class C, class F> void for_columns(int64_t outer, int64_t n, int64_t inner, const F& f) {
  constexpr int64_t L = kLanes<C>, wide = L * kColumnVectors;
  int64_t groups = (inner + wide - 1) / wide;
  parallel_for(outer * groups, rows_per_piece(n * (inner < wide ? inner : wide)), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      int64_t o = g / groups, column = g % groups * wide;
      if (column + wide <= inner) {
        f(Vectors<kColumnVectors>{}, Whole{}, o, column);
        continue;
      }
      for (; column + L <= inner; column += L) f(Vectors<1>{}, Whole{}, o, column);
      if (column < inner) f(Vectors<1>{}, inner - column, o, column);
    }
  });
}

void softmax_forward(DType t, const void* x_, void* y_, int64_t outer, int64_t n, int64_t inner, bool log) {
  dispatch_floating(t, [&]<class T>() {
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    if (inner == 1)
      return parallel_for(outer, rows_per_piece(n), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) softmax_row(x + o * n, y + o * n, n, log);
      });
    for_columns<compute_t<T>>(outer, n, inner, [&](auto vectors, auto part, int64_t o, int64_t column) {
      int64_t at = o * n * inner + column;
      softmax_columns<decltype(vectors)::k>(x + at, y + at, n, inner, part, log);
    });
  });
}

// With S = sum_j dy_j d_j:   softmax:      dx = y (dy - S),        S = sum_j dy_j y_j
//                            log-softmax:  dx = dy - exp(y) S,     S = sum_j dy_j
template <class T> void softmax_row_backward(const T* dy, const T* y, T* dx, int64_t n, bool log) {
  using C = compute_t<T>;
  if (log) {
    C sum = sum_row<C>(n, [&](int64_t i, auto part) { return load_part(dy + i, part); });
    for_vectors<C>(n, [&](int64_t i, auto part) {
      store_part(dx + i, load_part(dy + i, part) - exp(load_part(y + i, part)) * sum, part);
    });
  } else {
    C sum = sum_row<C>(n, [&](int64_t i, auto part) { return load_part(dy + i, part) * load_part(y + i, part); });
    for_vectors<C>(n, [&](int64_t i, auto part) {
      store_part(dx + i, load_part(y + i, part) * (load_part(dy + i, part) - sum), part);
    });
  }
}

template <int K, class T, class Part>
void softmax_columns_backward(const T* dy, const T* y, T* dx, int64_t n, int64_t inner, Part part, bool log) {
  using C = compute_t<T>;
  constexpr int64_t L = kLanes<C>;
  Vec<C> sum[K] = {};
  for (int64_t j = 0; j < n; ++j)
    for (int k = 0; k < K; ++k) {
      Vec<C> d = load_part(dy + j * inner + k * L, part);
      sum[k] += log ? d : d * load_part(y + j * inner + k * L, part);
    }
  for (int64_t j = 0; j < n; ++j)
    for (int k = 0; k < K; ++k) {
      int64_t at = j * inner + k * L;
      Vec<C> d = load_part(dy + at, part), v = load_part(y + at, part);
      store_part(dx + at, log ? d - exp(v) * sum[k] : v * (d - sum[k]), part);
    }
}

void softmax_backward(DType t, const void* dy_, const void* y_, void* dx_, int64_t outer, int64_t n, int64_t inner,
                      bool log) {
  dispatch_floating(t, [&]<class T>() {
    const T* dy = static_cast<const T*>(dy_);
    const T* y = static_cast<const T*>(y_);
    T* dx = static_cast<T*>(dx_);
    if (inner == 1)
      return parallel_for(outer, rows_per_piece(n), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) softmax_row_backward(dy + o * n, y + o * n, dx + o * n, n, log);
      });
    for_columns<compute_t<T>>(outer, n, inner, [&](auto vectors, auto part, int64_t o, int64_t column) {
      int64_t at = o * n * inner + column;
      softmax_columns_backward<decltype(vectors)::k>(dy + at, y + at, dx + at, n, inner, part, log);
    });
  });
}

// Cross-entropy, one row (or column) at a time: the vector part is stats, the rest touches single elements.
template <class T> struct CrossEntropy {
  using C = compute_t<T>;
  const CrossEntropyArgs& a;
  const T* x = static_cast<const T*>(a.x);
  const T* q = static_cast<const T*>(a.probabilities);
  const C* weight = static_cast<const C*>(a.weight);
  C* max = static_cast<C*>(a.stats);
  C* scale = max + a.outer * a.inner;
  C smoothing = C(a.smoothing), spread = C(a.smoothing / double(a.n));  // spread: what smoothing gives each class

  C weight_at(int64_t c) const { return weight ? weight[c] : C(1); }
  bool ignored(int64_t row) const { return a.target && a.target[row] == a.ignore_index; }

  // sum_c k_c (m + log s - x_c) of one row; xs and qs point at class 0 and step by inner.
  C loss(int64_t row, const T* xs, const T* qs, C m, C log_s) const {
    if (ignored(row)) return 0;
    if (a.target) {
      int64_t t = a.target[row];
      C nll = weight_at(t) * (log_s - (load1(xs + t * a.inner) - m));
      if (smoothing == 0) return nll;
      C all = 0;
      for (int64_t c = 0; c < a.n; ++c) all += weight_at(c) * (log_s - (load1(xs + c * a.inner) - m));
      return (1 - smoothing) * nll + spread * all;
    }
    if (a.inner == 1)
      return sum_row<C>(a.n, [&](int64_t i, auto part) {
        Vec<C> k = load_part(qs + i, part) * (1 - smoothing) + spread;
        if (weight) k = k * load_part(weight + i, part);
        return k * (log_s - (load_part(xs + i, part) - m));
      });
    C sum = 0;
    for (int64_t c = 0; c < a.n; ++c) {
      C k = weight_at(c) * (load1(qs + c * a.inner) * (1 - smoothing) + spread);
      sum += k * (log_s - (load1(xs + c * a.inner) - m));
    }
    return sum;
  }
};

void cross_entropy_forward(DType t, const CrossEntropyArgs& a, void* losses_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const CrossEntropy<T> ce{a};
    C* losses = static_cast<C*>(losses_);
    auto finish = [&](int64_t row, int64_t at, C m, C s, C log_s) {
      ce.max[row] = m;
      ce.scale[row] = 1 / s;
      losses[row] = ce.loss(row, ce.x + at, ce.q + at, m, log_s);
    };
    if (a.inner == 1)
      return parallel_for(a.outer, rows_per_piece(a.n), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) {
          auto [m, s] = row_stats(ce.x + o * a.n, a.n);
          finish(o, o * a.n, m, s, log1(s));
        }
      });
    for_columns<C>(a.outer, a.n, a.inner, [&](auto vectors, auto part, int64_t o, int64_t column) {
      constexpr int K = decltype(vectors)::k;
      Vec<C> m[K], s[K];
      int64_t at = o * a.n * a.inner + column, row = o * a.inner + column;
      column_stats<K>(ce.x + at, a.n, a.inner, part, m, s);
      for (int k = 0; k < K; ++k) {
        Vec<C> log_s = GG_ISA::log(s[k]);
        for (int64_t i = 0; i < lanes_of<C>(part); ++i)
          finish(row + k * kLanes<C> + i, at + k * kLanes<C> + i, m[k][i], s[k][i], log_s[i]);
      }
    });
  });
}

// Sums of fixed blocks, each in eight interleaved chains, then of the blocks: the same for any number of threads.
template <class C, class Term> C blocked_sum(int64_t n, const Term& term) {
  C total = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    C chain[8] = {};
    int64_t end = n - at < kBlock ? n : at + kBlock, i = at;
    for (; i + 8 <= end; i += 8)
      for (int k = 0; k < 8; ++k) chain[k] += term(i + k);
    for (; i < end; ++i) chain[0] += term(i);
    total += ((chain[0] + chain[1]) + (chain[2] + chain[3])) + ((chain[4] + chain[5]) + (chain[6] + chain[7]));
  }
  return total;
}

void cross_entropy_reduce(DType t, const CrossEntropyArgs& a, const void* losses_, bool mean, void* total_, void* out) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const C* losses = static_cast<const C*>(losses_);
    const C* weight = static_cast<const C*>(a.weight);
    C* total = static_cast<C*>(total_);
    int64_t rows = a.outer * a.inner;
    C sum = blocked_sum<C>(rows, [&](int64_t i) { return losses[i]; });
    if (mean && a.target)
      total[0] = blocked_sum<C>(rows, [&](int64_t i) {
        return a.target[i] == a.ignore_index ? C(0) : weight ? weight[a.target[i]] : C(1);
      });
    store1(static_cast<T*>(out), mean ? sum / total[0] : sum);
  });
}

// The loss of a row is sum_c k_c (log s + m - x_c), so dx_c = g (p_c sum_d k_d - k_c) with p_c = exp(x_c - m) / s, and
// dq_c = g w_c (1 - smoothing) (log s + m - x_c); g = dy / total.
// Class indices:  k_c = spread w_c + [c == t] (1 - smoothing) w_t.   Probabilities:  k_c = w_c ((1 - smoothing) q_c +
// spread).
template <class T> struct CrossEntropyBackward : CrossEntropy<T> {
  using Base = CrossEntropy<T>;
  using Base::a, Base::weight, Base::smoothing, Base::spread;
  using typename Base::C;
  C all_weights;  // sum_c w_c

  // One row walked along it.
  void row(int64_t o, C g, T* dx, T* dq) const {
    const T* x = this->x + o * a.n;
    const T* q = this->q ? this->q + o * a.n : nullptr;
    dx += o * a.n;
    C m = this->max[o], p_scale = this->scale[o];
    if (this->ignored(o)) return for_vectors<C>(a.n, [&](int64_t i, auto part) { store_part(dx + i, Vec<C>{}, part); });
    if (a.target) {
      int64_t t = a.target[o];
      C own = (1 - smoothing) * this->weight_at(t), factor = g * p_scale * (own + spread * all_weights);
      if (smoothing == 0)
        for_vectors<C>(
            a.n, [&](int64_t i, auto part) { store_part(dx + i, exp(load_part(x + i, part) - m) * factor, part); });
      else
        for_vectors<C>(a.n, [&](int64_t i, auto part) {
          Vec<C> k = weight ? load_part(weight + i, part) * (g * spread) : splat(g * spread);
          store_part(dx + i, exp(load_part(x + i, part) - m) * factor - k, part);
        });
      C rest = smoothing == 0 ? C(0) : g * spread * this->weight_at(t);
      store1(dx + t, exp1(load1(x + t) - m) * factor - (rest + g * own));
      return;
    }
    auto k = [&](int64_t i, auto part) {
      Vec<C> v = load_part(q + i, part) * (1 - smoothing) + spread;
      return weight ? v * load_part(weight + i, part) : v;
    };
    C factor = p_scale * sum_row<C>(a.n, k);
    for_vectors<C>(a.n, [&](int64_t i, auto part) {
      store_part(dx + i, (exp(load_part(x + i, part) - m) * factor - k(i, part)) * g, part);
    });
    if (!dq) return;
    C log_s = -log1(p_scale), g_q = g * (1 - smoothing);
    for_vectors<C>(a.n, [&](int64_t i, auto part) {
      Vec<C> v = (log_s - (load_part(x + i, part) - m)) * g_q;
      store_part(dq + o * a.n + i, weight ? v * load_part(weight + i, part) : v, part);
    });
  }

  // One vector of columns; g holds their scales, 0 where ignored.
  template <class Part> void column(int64_t o, int64_t column, Vec<C> g, T* dx, T* dq, Part part) const {
    int64_t first = o * a.inner + column, at = o * a.n * a.inner + column;
    Vec<C> m = load_part(this->max + first, part), p_scale = load_part(this->scale + first, part);
    Vec<C> factor{};
    if (a.target) {
      for (int64_t i = 0; i < lanes_of<C>(part); ++i)
        if (!this->ignored(first + i))
          factor[i] = (1 - smoothing) * this->weight_at(a.target[first + i]) + spread * all_weights;
    } else {
      for (int64_t c = 0; c < a.n; ++c)
        factor += this->weight_at(c) * (load_part(this->q + at + c * a.inner, part) * (1 - smoothing) + spread);
    }
    factor = factor * p_scale * g;
    Vec<C> log_s = dq ? -GG_ISA::log(p_scale) : Vec<C>{};
    for (int64_t c = 0; c < a.n; ++c) {
      int64_t here = at + c * a.inner;
      C w = this->weight_at(c);
      Vec<C> xc = load_part(this->x + here, part) - m;
      Vec<C> k = a.target ? splat(w * spread) : w * (load_part(this->q + here, part) * (1 - smoothing) + spread);
      Vec<C> d = exp(xc) * factor - k * g;
      // An ignored row may hold infinities: its gradient is 0 all the same.
      if (a.target) d = g == C(0) ? Vec<C>{} : d;
      store_part(dx + here, d, part);
      if (dq) store_part(dq + here, (log_s - xc) * g * (w * (1 - smoothing)), part);
    }
    if (a.target)
      for (int64_t i = 0; i < lanes_of<C>(part); ++i) {
        if (this->ignored(first + i)) continue;
        int64_t t = a.target[first + i], here = at + t * a.inner + i;
        C w = this->weight_at(t);
        store1(dx + here, exp1(load1(this->x + here) - m[i]) * factor[i] - g[i] * w * (spread + 1 - smoothing));
      }
  }
};

void cross_entropy_backward(DType t, const CrossEntropyArgs& a, const void* dy_, bool dy_per_row, const void* total_,
                            void* dx_, void* dq_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    CrossEntropyBackward<T> ce{{a}, C(a.n)};
    if (ce.weight) ce.all_weights = blocked_sum<C>(a.n, [&](int64_t c) { return ce.weight[c]; });
    const C* dy = static_cast<const C*>(dy_);
    const C* total = static_cast<const C*>(total_);
    T* dx = static_cast<T*>(dx_);
    T* dq = static_cast<T*>(dq_);
    C once = total ? 1 / total[0] : C(1);
    auto scale_at = [&](int64_t row) { return dy[dy_per_row ? row : 0] * once; };
    if (a.inner == 1)
      return parallel_for(a.outer, rows_per_piece(a.n), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) ce.row(o, scale_at(o), dx, dq);
      });
    for_columns<C>(a.outer, a.n, a.inner, [&](auto vectors, auto part, int64_t o, int64_t column) {
      for (int k = 0; k < decltype(vectors)::k; ++k) {
        int64_t at = column + k * kLanes<C>;
        Vec<C> g{};
        for (int64_t i = 0; i < lanes_of<C>(part); ++i)
          if (!ce.ignored(o * a.inner + at + i)) g[i] = scale_at(o * a.inner + at + i);
        ce.column(o, at, g, dx, dq, part);
      }
    });
  });
}

void nll_forward(DType t, const CrossEntropyArgs& a, void* losses_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const CrossEntropy<T> ce{a};
    C* losses = static_cast<C*>(losses_);
    parallel_for(a.outer * a.inner, kPieceWork / 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        int64_t c = a.target[row], at = (row / a.inner * a.n + c) * a.inner + row % a.inner;
        losses[row] = ce.ignored(row) ? C(0) : -ce.weight_at(c) * load1(ce.x + at);
      }
    });
  });
}

// loss = -w_t x_t / total, so dx_t = -w_t dy / total and every other element has no part.
void nll_backward(DType t, const CrossEntropyArgs& a, const void* dy_, bool dy_per_row, const void* total_, void* dx_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const CrossEntropy<T> ce{a};
    const C* dy = static_cast<const C*>(dy_);
    const C* total = static_cast<const C*>(total_);
    T* dx = static_cast<T*>(dx_);
    C once = total ? 1 / total[0] : C(1);
    parallel_for(a.outer * a.inner, kPieceWork / 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (ce.ignored(row)) continue;
        int64_t c = a.target[row], at = (row / a.inner * a.n + c) * a.inner + row % a.inner;
        store1(dx + at, -ce.weight_at(c) * (dy[dy_per_row ? row : 0] * once));
      }
    });
  });
}

int64_t find_bad_class(const int64_t* target, int64_t n, int64_t classes, int64_t ignore_index) {
  for (int64_t i = 0; i < n; ++i)
    if (uint64_t(target[i]) >= uint64_t(classes) && target[i] != ignore_index) return i;
  return -1;
}

}  // namespace

const SoftmaxKernels softmax_kernels = {softmax_forward,      softmax_backward,       cross_entropy_forward,
                                        cross_entropy_reduce, cross_entropy_backward, nll_forward,
                                        nll_backward,         find_bad_class};

}  // namespace gg::GG_ISA
