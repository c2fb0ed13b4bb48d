// Normalisations on the CPU.
//
// A row of layer or group norm stays in the first cache: one pass for its mean, one for its squared deviations, one to
// write. Batch norm sums x - k and (x - k)^2 in one pass, k being a first estimate of the mean taken from the data
// itself, so the difference of the sums does not cancel; chunks are joined by the update of Chan, Golub and LeVeque
// (1979). A channel that fits the second cache is written while it is still there. Chunks are cut by size: any number
// of threads gives the same bits.
#include "ops/norm/norm.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/integers.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kBlock = 4096;          // elements that stay in the first cache between two passes
constexpr int64_t kPieceWork = 32768;     // elements of a parallel piece: about 20 microseconds
constexpr int64_t kFusedBytes = 1 << 20;  // a channel up to this size is normalised while it is in the second cache
constexpr int64_t kMaxChunks = 32;        // partial sums of a gradient over rows

inline int64_t rows_per_piece(int64_t n) { return larger(1, kPieceWork / larger(1, n)); }
inline float sqrt1(float x) { return __builtin_sqrtf(x); }
inline double sqrt1(double x) { return __builtin_sqrt(x); }

// Count, mean and sum of squared deviations of a set of numbers.
template <class C> struct Moments {
  C count = 0, mean = 0, m2 = 0;
  void join(const Moments& b) {
    if (b.count == 0) return;
    if (count == 0) {
      *this = b;
      return;
    }
    C n = count + b.count, delta = b.mean - mean;
    mean += delta * (b.count / n);
    m2 += b.m2 + delta * delta * (count * (b.count / n));
    count = n;
  }
  // From sums of d = x - k and d^2 over n numbers.
  static Moments shifted(C n, C k, C sum, C squares) {
    C m2 = squares - sum * (sum / n);
    return {n, k + sum / n, m2 > 0 || m2 != m2 ? m2 : C(0)};
  }
};

template <class T> Moments<compute_t<T>> row_moments(const T* x, int64_t n) {
  using C = compute_t<T>;
  Moments<C> all;
  for (int64_t at = 0; at < n; at += kBlock) {
    int64_t count = n - at < kBlock ? n - at : kBlock;
    const T* block = x + at;
    C mean = sum_row<C>(count, [&](int64_t i, auto part) { return load_part(block + i, part); }) / C(count);
    C m2 = sum_row<C>(count, [&](int64_t i, auto part) {
      Vec<C> d = load_part(block + i, part) - mean;
      return keep_part(d * d, C(0), part);
    });
    all.join({C(count), mean, m2});
  }
  return all;
}

template <class T> compute_t<T> row_mean_square(const T* x, int64_t n) {
  using C = compute_t<T>;
  C sum = 0;
  for (int64_t at = 0; at < n; at += kBlock)
    sum += sum_row<C>(n - at < kBlock ? n - at : kBlock, [&](int64_t i, auto part) {
      Vec<C> v = load_part(x + at + i, part);
      return v * v;
    });
  return sum / C(n);
}

// y = (x - mean) * scale + shift over a run; scale and shift are numbers.
template <class T>
void apply_run(const T* x, T* y, int64_t n, compute_t<T> mean, compute_t<T> scale, compute_t<T> shift) {
  for_vectors<compute_t<T>>(
      n, [&](int64_t i, auto part) { store_part(y + i, (load_part(x + i, part) - mean) * scale + shift, part); });
}

template <class T> struct LayerNorm {
  using C = compute_t<T>;
  LayerShape shape;
  const T* x;
  const C *weight, *bias;
  C *mean, *rstd;

  void forward_row(int64_t r, T* y, C eps) const {
    int64_t n = shape.n;
    const T* xr = x + r * n;
    T* yr = y + r * n;
    C centre = 0, square;
    if (mean) {
      Moments<C> m = row_moments(xr, n);
      mean[r] = centre = m.mean;
      square = m.m2 / C(n);
    } else {
      square = row_mean_square(xr, n);
    }
    C s = rstd[r] = 1 / sqrt1(square + eps);
    const C* w = weight ? weight + r % shape.groups * n : nullptr;
    const C* b = bias ? bias + r % shape.groups * n : nullptr;
    for_vectors<C>(n, [&](int64_t i, auto part) {
      Vec<C> v = (load_part(xr + i, part) - centre) * s;
      if (w) v = v * load_part(w + i, part);
      if (b) v = v + load_part(b + i, part);
      store_part(yr + i, v, part);
    });
  }

  // With h = (x - mean) rstd and g = dy w, the statistics depend on every x of the row:
  //   dx = rstd (g - mean(g) - h mean(g h));   RMS norm has no mean(g).   dw = sum dy h, db = sum dy over rows.
  // One pass sums g and g h and adds this row to dw and db; the next, in cache, writes dx.
  void backward_row(int64_t r, const T* dy, T* dx, C* dw, C* db) const {
    int64_t n = shape.n;
    const T *xr = x + r * n, *dyr = dy + r * n;
    const C* w = weight ? weight + r % shape.groups * n : nullptr;
    C centre = mean ? mean[r] : C(0), s = rstd[r];
    Vec<C> g_sums{};
    C sum_gx = sum_row<C>(n, [&](int64_t i, auto part) {
      Vec<C> d = load_part(dyr + i, part), h = (load_part(xr + i, part) - centre) * s;
      if (dw) store_part(dw + i, load_part(dw + i, part) + d * h, part);
      if (db) store_part(db + i, load_part(db + i, part) + d, part);
      if (w) d = d * load_part(w + i, part);
      g_sums += d;
      return keep_part(d * h, C(0), part);
    });
    if (!dx) return;
    C sum_g = mean ? sum_lanes<C>(g_sums) : C(0);
    C a = sum_g / C(n) * s, b = sum_gx / C(n) * s;
    T* dxr = dx + r * n;
    for_vectors<C>(n, [&](int64_t i, auto part) {
      Vec<C> g = load_part(dyr + i, part) * s, h = (load_part(xr + i, part) - centre) * s;
      if (w) g = g * load_part(w + i, part);
      store_part(dxr + i, g - a - h * b, part);
    });
  }
};

void layer_norm_forward(DType t, const void* x, const void* weight, const void* bias, void* y, void* mean, void* rstd,
                        LayerShape shape, double eps) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    LayerNorm<T> norm{shape,
                      static_cast<const T*>(x),
                      static_cast<const C*>(weight),
                      static_cast<const C*>(bias),
                      static_cast<C*>(mean),
                      static_cast<C*>(rstd)};
    parallel_for(shape.rows, rows_per_piece(shape.n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) norm.forward_row(r, static_cast<T*>(y), C(eps));
    });
  });
}

// out[j] = sum over chunks of partial[chunk * n + j], in order.
template <class C> void sum_chunks(const C* partial, int64_t chunks, int64_t stride, C* out, int64_t n) {
  parallel_for(n, rows_per_piece(chunks), [&](int64_t begin, int64_t end) {
    for_vectors<C>(end - begin, [&](int64_t i, auto part) {
      Vec<C> sum{};
      for (int64_t c = 0; c < chunks; ++c) sum += load_part(partial + c * stride + begin + i, part);
      store_part(out + begin + i, sum, part);
    });
  });
}

void layer_norm_backward(DType t, const void* dy_, const void* x, const void* weight, const void* mean,
                         const void* rstd, void* dx_, void* dweight, void* dbias, LayerShape shape) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    T* dx = static_cast<T*>(dx_);
    LayerNorm<T> norm{shape,
                      static_cast<const T*>(x),
                      static_cast<const C*>(weight),
                      nullptr,
                      static_cast<C*>(const_cast<void*>(mean)),
                      static_cast<C*>(const_cast<void*>(rstd))};
    if (!dweight && !dbias)
      return parallel_for(shape.rows, rows_per_piece(shape.n), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) norm.backward_row(r, dy, dx, nullptr, nullptr);
      });
    // A chunk's line of sums for each group of weights: dw, then db.
    int64_t width = shape.groups * shape.n;
    int64_t per_chunk = ceil_div(shape.rows, kMaxChunks);
    if (per_chunk < rows_per_piece(shape.n)) per_chunk = rows_per_piece(shape.n);
    int64_t chunks = larger(1, ceil_div(shape.rows, per_chunk));
    Scratch<C> partial(chunks * width * 2);
    parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        C* dw = partial.data() + c * width * 2;
        C* db = dw + width;
        memset(dw, 0, size_t(width) * 2 * sizeof(C));
        for (int64_t r = c * per_chunk; r < shape.rows && r < (c + 1) * per_chunk; ++r) {
          int64_t line = r % shape.groups * shape.n;
          norm.backward_row(r, dy, dx, dweight ? dw + line : nullptr, dbias ? db + line : nullptr);
        }
      }
    });
    if (dweight) sum_chunks(partial.data(), chunks, 2 * width, static_cast<C*>(dweight), width);
    if (dbias) sum_chunks(partial.data() + width, chunks, 2 * width, static_cast<C*>(dbias), width);
  });
}

void group_norm_forward(DType t, const void* x_, const void* weight_, const void* bias_, void* y_, void* mean_,
                        void* rstd_, GroupShape shape, double eps) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    const C* weight = static_cast<const C*>(weight_);
    const C* bias = static_cast<const C*>(bias_);
    T* y = static_cast<T*>(y_);
    C* mean = static_cast<C*>(mean_);
    C* rstd = static_cast<C*>(rstd_);
    int64_t n = shape.K * shape.S;
    parallel_for(shape.N * shape.G, rows_per_piece(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        Moments<C> m = row_moments(x + r * n, n);
        mean[r] = m.mean;
        C s = rstd[r] = 1 / sqrt1(m.m2 / C(n) + C(eps));
        for (int64_t k = 0; k < shape.K; ++k) {
          int64_t c = r % shape.G * shape.K + k, at = r * n + k * shape.S;
          apply_run(x + at, y + at, shape.S, m.mean, weight ? s * weight[c] : s, bias ? bias[c] : C(0));
        }
      }
    });
  });
}

// Sums over a run of dy and of dy (x - mean).
template <class C> struct GradientSums { C dy = 0, dyx = 0; };
template <class T> GradientSums<compute_t<T>> gradient_sums(const T* dy, const T* x, int64_t n, compute_t<T> mean) {
  using C = compute_t<T>;
  Vec<C> sum{};
  C dyx = sum_row<C>(n, [&](int64_t i, auto part) {
    Vec<C> d = load_part(dy + i, part);  // zero beyond the run, and so is the product
    sum += d;
    return keep_part(d * (load_part(x + i, part) - mean), C(0), part);
  });
  return {sum_lanes<C>(sum), dyx};
}

// As layer norm, with one weight a run of S: with a_c = sum_s dy and b_c = sum_s dy (x - mean),
//   mean(g) = sum_k w a / n,  mean(g h) = rstd sum_k w b / n,  dx = rstd (w dy - mean(g) - h mean(g h)),
//   dw_c = sum_N b rstd,  db_c = sum_N a.
void group_norm_backward(DType t, const void* dy_, const void* x_, const void* weight_, const void* mean_,
                         const void* rstd_, void* dx_, void* dweight_, void* dbias_, GroupShape shape) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    const T* x = static_cast<const T*>(x_);
    const C* weight = static_cast<const C*>(weight_);
    const C* mean = static_cast<const C*>(mean_);
    const C* rstd = static_cast<const C*>(rstd_);
    T* dx = static_cast<T*>(dx_);
    C* dweight = static_cast<C*>(dweight_);
    C* dbias = static_cast<C*>(dbias_);
    int64_t n = shape.K * shape.S, channels = shape.G * shape.K;
    Scratch<GradientSums<C>> sums(shape.N * channels);
    parallel_for(shape.N * shape.G, rows_per_piece(n), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        C a = 0, b = 0;
        for (int64_t k = 0; k < shape.K; ++k) {
          int64_t at = r * n + k * shape.S;
          auto run = sums[r * shape.K + k] = gradient_sums(dy + at, x + at, shape.S, mean[r]);
          C w = weight ? weight[r % shape.G * shape.K + k] : C(1);
          a += w * run.dy;
          b += w * run.dyx;
        }
        if (!dx) continue;
        C s = rstd[r], m = mean[r];
        C by_x = -s * s * s * (b / C(n)), constant = -s * (a / C(n));
        for (int64_t k = 0; k < shape.K; ++k) {
          int64_t at = r * n + k * shape.S;
          C by_dy = weight ? s * weight[r % shape.G * shape.K + k] : s;
          for_vectors<C>(shape.S, [&](int64_t i, auto part) {
            Vec<C> v = load_part(dy + at + i, part) * by_dy + ((load_part(x + at + i, part) - m) * by_x + constant);
            store_part(dx + at + i, v, part);
          });
        }
      }
    });
    if (!dweight && !dbias) return;
    parallel_for(channels, rows_per_piece(shape.N), [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        C dw = 0, db = 0;
        for (int64_t i = 0; i < shape.N; ++i) {
          const auto& run = sums[i * channels + c];
          dw += run.dyx * rstd[i * shape.G + c / shape.K];
          db += run.dy;
        }
        if (dweight) dweight[c] = dw;
        if (dbias) dbias[c] = db;
      }
    });
  });
}

// Batch norm sees x (N, C, S) in one of two ways. By runs, S >= a vector: a chunk is one channel of some images. By
// columns, S short: x is (N, C * S), a chunk is some vectors of columns of some rows, and a channel joins its S
// columns.
template <class T> struct BatchNorm {
  using C = compute_t<T>;
  static constexpr int64_t L = kLanes<C>;
  BatchShape shape;
  const T* x;
  int64_t width = shape.C * shape.S;  // of one image
  bool by_runs = shape.S >= L;
  int64_t images = chunk_images();  // of a chunk
  int64_t chunks = larger(1, ceil_div(shape.N, images));
  int64_t columns = by_runs ? shape.C : width;  // of a line of partial sums

  int64_t chunk_images() const {
    int64_t enough = larger(1, by_runs ? kPieceWork / shape.S : kPieceWork / (4 * L));
    int64_t few = ceil_div(shape.N, kMaxChunks);
    return larger(1, enough > few ? enough : few);
  }
  int64_t chunk_begin(int64_t chunk) const { return chunk * images; }
  int64_t chunk_end(int64_t chunk) const { return (chunk + 1) * images < shape.N ? (chunk + 1) * images : shape.N; }
  bool fused() const { return by_runs && shape.C >= 8 && shape.N * shape.S * int64_t(sizeof(T)) <= kFusedBytes; }

  // f(chunk, column, part): part is a Part for columns, and of no meaning for runs.
  template <class F> void for_chunks(const F& f) const {
    int64_t groups = by_runs ? shape.C : ceil_div(width, 4 * L);
    parallel_for(chunks * groups, 1, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) {
        int64_t chunk = g / groups, group = g % groups;
        if (by_runs) {
          f(chunk, group, Whole{});
          continue;
        }
        int64_t first = group * 4 * L, last = first + 4 * L < width ? first + 4 * L : width;
        for_vectors<C>(last - first, [&](int64_t i, auto part) { f(chunk, first + i, part); });
      }
    });
  }

  // partial: (chunks, columns) moments.
  void run_moments(int64_t chunk, int64_t c, Moments<C>* partial) const {
    const T* first = x + chunk_begin(chunk) * width + c * shape.S;
    int64_t sample = shape.S < kBlock ? shape.S : kBlock;
    C k = sum_row<C>(sample, [&](int64_t i, auto part) { return load_part(first + i, part); }) / C(sample);
    Vec<C> s0{}, s1{}, q0{}, q1{};
    int64_t begin = chunk_begin(chunk), end = chunk_end(chunk);
    C sum = 0, squares = 0;
    for (int64_t i = begin; i < end; ++i) {
      const T* run = x + i * width + c * shape.S;
      int64_t at = 0;
      for (; at + 2 * L <= shape.S; at += 2 * L) {
        Vec<C> d0 = load(run + at) - k, d1 = load(run + at + L) - k;
        s0 += d0, q0 += d0 * d0;
        s1 += d1, q1 += d1 * d1;
      }
      for_vectors<C>(shape.S - at, [&](int64_t j, auto part) {
        Vec<C> d = keep_part(load_part(run + at + j, part) - k, C(0), part);
        s0 += d, q0 += d * d;
      });
      if (shape.S >= kBlock || i + 1 == end) {  // long chains of float additions round; a run's sum starts afresh
        sum += sum_lanes<C>(s0 + s1), squares += sum_lanes<C>(q0 + q1);
        s0 = s1 = q0 = q1 = Vec<C>{};
      }
    }
    partial[chunk * columns + c] = Moments<C>::shifted(C((end - begin) * shape.S), k, sum, squares);
  }
  template <class Part> void column_moments(int64_t chunk, int64_t column, Part part, Moments<C>* partial) const {
    const T* at = x + column;
    int64_t begin = chunk_begin(chunk), end = chunk_end(chunk);
    Vec<C> k = load_part(at + begin * width, part), s{}, q{};
    for (int64_t i = begin + 1; i < end; ++i) {
      Vec<C> d = load_part(at + i * width, part) - k;
      s += d, q += d * d;
    }
    for (int64_t i = 0; i < lanes_of<C>(part); ++i)
      partial[chunk * columns + column + i] = Moments<C>::shifted(C(end - begin), k[i], s[i], q[i]);
  }
  Moments<C> channel_moments(int64_t c, const Moments<C>* partial) const {
    Moments<C> all;
    int64_t each = by_runs ? 1 : shape.S;
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
      for (int64_t s = 0; s < each; ++s) all.join(partial[chunk * columns + c * each + s]);
    return all;
  }

  // Sums of dy and dy (x - mean), by the same chunks.
  void run_sums(const T* dy, const C* mean, int64_t chunk, int64_t c, GradientSums<C>* partial) const {
    GradientSums<C> all;
    for (int64_t i = chunk_begin(chunk); i < chunk_end(chunk); ++i) {
      int64_t at = i * width + c * shape.S;
      auto run = gradient_sums(dy + at, x + at, shape.S, mean[c]);
      all.dy += run.dy, all.dyx += run.dyx;
    }
    partial[chunk * columns + c] = all;
  }
  template <class Part>
  void column_sums(const T* dy, const C* mean, int64_t chunk, int64_t column, Part part,
                   GradientSums<C>* partial) const {
    Vec<C> m{}, a{}, b{};
    for (int64_t i = 0; i < lanes_of<C>(part); ++i) m[i] = mean[(column + i) / shape.S];
    for (int64_t i = chunk_begin(chunk); i < chunk_end(chunk); ++i) {
      Vec<C> d = load_part(dy + i * width + column, part);
      a += d, b += d * (load_part(x + i * width + column, part) - m);
    }
    for (int64_t i = 0; i < lanes_of<C>(part); ++i) partial[chunk * columns + column + i] = {a[i], b[i]};
  }
  GradientSums<C> channel_sums(int64_t c, const GradientSums<C>* partial) const {
    GradientSums<C> all;
    int64_t each = by_runs ? 1 : shape.S;
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
      for (int64_t s = 0; s < each; ++s) {
        const auto& p = partial[chunk * columns + c * each + s];
        all.dy += p.dy, all.dyx += p.dyx;
      }
    return all;
  }

  // out = dy * by_dy[c] + (x - mean[c]) * by_x[c] + constant[c]; the forward has no dy.
  struct Affine { const C *mean, *by_x, *constant, *by_dy; };
  void affine_channel(const T* dy, T* out, const Affine& f, int64_t c, int64_t begin, int64_t end) const {
    C m = f.mean[c], by_x = f.by_x[c], constant = f.constant[c];
    for (int64_t i = begin; i < end; ++i) {
      int64_t at = i * width + c * shape.S;
      if (!dy) {
        apply_run(x + at, out + at, shape.S, m, by_x, constant);
        continue;
      }
      C by_dy = f.by_dy[c];
      for_vectors<C>(shape.S, [&](int64_t j, auto part) {
        Vec<C> v = (load_part(x + at + j, part) - m) * by_x + constant;
        store_part(out + at + j, load_part(dy + at + j, part) * by_dy + v, part);
      });
    }
  }
  void affine(const T* dy, T* out, const Affine& f) const {
    if (by_runs)
      return parallel_for(shape.N * shape.C, rows_per_piece(shape.S), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) affine_channel(dy, out, f, r % shape.C, r / shape.C, r / shape.C + 1);
      });
    // One line of each coefficient, as wide as an image.
    Scratch<C> lines(4 * width);
    for (int64_t j = 0; j < width; ++j) {
      int64_t c = j / shape.S;
      lines[j] = f.mean[c], lines[width + j] = f.by_x[c], lines[2 * width + j] = f.constant[c];
      lines[3 * width + j] = dy ? f.by_dy[c] : C(0);
    }
    const C *m = lines.data(), *by_x = m + width, *constant = by_x + width, *by_dy = constant + width;
    parallel_for(shape.N, rows_per_piece(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        for_vectors<C>(width, [&](int64_t j, auto part) {
          int64_t at = i * width + j;
          Vec<C> v = (load_part(x + at, part) - load_part(m + j, part)) * load_part(by_x + j, part) +
                     load_part(constant + j, part);
          if (dy) v = v + load_part(dy + at, part) * load_part(by_dy + j, part);
          store_part(out + at, v, part);
        });
    });
  }
};

void batch_norm_forward(DType t, const void* x, const void* weight_, const void* bias_, void* y_, void* mean_,
                        void* var_, void* rstd_, BatchShape shape, double eps, bool training) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const BatchNorm<T> norm{shape, static_cast<const T*>(x)};
    const C* weight = static_cast<const C*>(weight_);
    const C* bias = static_cast<const C*>(bias_);
    T* y = static_cast<T*>(y_);
    C* mean = static_cast<C*>(mean_);
    C* var = static_cast<C*>(var_);
    C* rstd = static_cast<C*>(rstd_);
    Scratch<C> scale(2 * shape.C);
    C* shift = scale.data() + shape.C;
    auto finish = [&](int64_t c) {
      scale[c] = weight ? rstd[c] * weight[c] : rstd[c];
      shift[c] = bias ? bias[c] : C(0);
    };
    typename BatchNorm<T>::Affine f{mean, scale.data(), shift, nullptr};
    if (!training) {
      for (int64_t c = 0; c < shape.C; ++c) finish(c);
      return norm.affine(nullptr, y, f);
    }
    Scratch<Moments<C>> partial(norm.chunks * norm.columns);
    auto join = [&](int64_t c) {
      Moments<C> m = norm.channel_moments(c, partial.data());
      mean[c] = m.mean;
      var[c] = m.m2 / m.count;
      rstd[c] = 1 / sqrt1(var[c] + C(eps));
      finish(c);
    };
    if (norm.fused())
      return parallel_for(shape.C, rows_per_piece(shape.N * shape.S), [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c) {
          for (int64_t chunk = 0; chunk < norm.chunks; ++chunk) norm.run_moments(chunk, c, partial.data());
          join(c);
          norm.affine_channel(nullptr, y, f, c, 0, shape.N);
        }
      });
    norm.for_chunks([&](int64_t chunk, int64_t column, auto part) {
      if (norm.by_runs)
        norm.run_moments(chunk, column, partial.data());
      else
        norm.column_moments(chunk, column, part, partial.data());
    });
    for (int64_t c = 0; c < shape.C; ++c) join(c);
    norm.affine(nullptr, y, f);
  });
}

// With h = (x - mean) rstd, M = N S, a = sum dy and b = sum dy (x - mean) over the channel:
//   dw = b rstd,  db = a,  training: dx = w rstd (dy - a / M - h rstd b / M);  with fixed statistics dx = w rstd dy.
void batch_norm_backward(DType t, const void* dy_, const void* x, const void* weight_, const void* mean_,
                         const void* rstd_, void* dx_, void* dweight_, void* dbias_, BatchShape shape, bool training) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const BatchNorm<T> norm{shape, static_cast<const T*>(x)};
    const T* dy = static_cast<const T*>(dy_);
    const C* weight = static_cast<const C*>(weight_);
    const C* mean = static_cast<const C*>(mean_);
    const C* rstd = static_cast<const C*>(rstd_);
    T* dx = static_cast<T*>(dx_);
    C* dweight = static_cast<C*>(dweight_);
    C* dbias = static_cast<C*>(dbias_);
    C M = C(shape.N * shape.S);
    Scratch<C> coefficients(3 * shape.C);
    C *by_dy = coefficients.data(), *by_x = by_dy + shape.C, *constant = by_x + shape.C;
    Scratch<GradientSums<C>> partial(norm.chunks * norm.columns);
    auto join = [&](int64_t c, bool sums) {
      GradientSums<C> all;
      if (sums) all = norm.channel_sums(c, partial.data());
      if (dweight) dweight[c] = all.dyx * rstd[c];
      if (dbias) dbias[c] = all.dy;
      by_dy[c] = weight ? weight[c] * rstd[c] : rstd[c];
      by_x[c] = training ? -by_dy[c] * rstd[c] * rstd[c] * (all.dyx / M) : C(0);
      constant[c] = training ? -by_dy[c] * (all.dy / M) : C(0);
    };
    typename BatchNorm<T>::Affine f{mean, by_x, constant, by_dy};
    bool sums = training || dweight || dbias;
    if (norm.fused() && sums)
      return parallel_for(shape.C, rows_per_piece(shape.N * shape.S), [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c) {
          for (int64_t chunk = 0; chunk < norm.chunks; ++chunk) norm.run_sums(dy, mean, chunk, c, partial.data());
          join(c, true);
          if (dx) norm.affine_channel(dy, dx, f, c, 0, shape.N);
        }
      });
    if (sums)
      norm.for_chunks([&](int64_t chunk, int64_t column, auto part) {
        if (norm.by_runs)
          norm.run_sums(dy, mean, chunk, column, partial.data());
        else
          norm.column_sums(dy, mean, chunk, column, part, partial.data());
      });
    for (int64_t c = 0; c < shape.C; ++c) join(c, sums);
    if (dx) norm.affine(dy, dx, f);
  });
}

void reciprocal_root(DType c, const void* var_, void* rstd_, int64_t n, double eps) {
  dispatch_floating(c, [&]<class T>() {
    using C = compute_t<T>;
    const C* var = static_cast<const C*>(var_);
    C* rstd = static_cast<C*>(rstd_);
    for (int64_t i = 0; i < n; ++i) rstd[i] = 1 / sqrt1(var[i] + C(eps));
  });
}

void update_running(DType t, void* running_, const void* batch_, int64_t n, double momentum, double factor) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    T* running = static_cast<T*>(running_);
    const C* batch = static_cast<const C*>(batch_);
    C old = C(1 - momentum), fresh = C(momentum), by = C(factor);
    for (int64_t i = 0; i < n; ++i) store1(running + i, load1(running + i) * old + batch[i] * by * fresh);
  });
}

}  // namespace

const NormKernels norm_kernels = {layer_norm_forward, layer_norm_backward, group_norm_forward, group_norm_backward,
                                  batch_norm_forward, batch_norm_backward, reciprocal_root,    update_running};

}  // namespace gg::GG_ISA
