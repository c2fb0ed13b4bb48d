// CUDA random numbers, a tile a warp: lane b draws the tile's block b, whose words belong to elements b, 32 + b, 64 + b
// and 96 + b, so that the lanes write neighbours. Every operation is one that rounds as the CPU's does, and the
// compiler may not fuse two (-fmad=false), so a seed gives the same numbers here.
#include "ops/random/random.h"

#include "cuda/convert.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/philox.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;
constexpr double kTwoPi = 6.283185307179586;

// What one element in compute type C draws.
template <class C> struct WordOf { using type = uint32_t; };
template <> struct WordOf<double> { using type = uint64_t; };
template <class C> using word_t = typename WordOf<C>::type;
template <class C> constexpr int kLaneElements = 16 / int(sizeof(word_t<C>));  // of a tile's block
template <class C> constexpr int kTileElements = int(kTileBlocks) * kLaneElements<C>;

template <class C> __device__ inline void draw(const Draws& d, int64_t tile, word_t<C> (&w)[kLaneElements<C>]) {
  const Philox p(d.counter() + uint64_t(tile * kTileBlocks + threadIdx.x % 32), d.key());
#pragma unroll
  for (int h = 0; h < kLaneElements<C>; ++h) {
    if constexpr (sizeof(word_t<C>) == 4)
      w[h] = p.c[h];
    else
      w[h] = p.c[2 * h] | uint64_t(p.c[2 * h + 1]) << 32;
  }
}

// The tiles of a warp, of n elements that draw E a tile: for (Tiles t(n, E); t.more(); t.next()).
struct Tiles {
  int64_t tile, count;
  __device__ Tiles(int64_t n, int elements) : tile(first_item() / 32), count((n + elements - 1) / elements) {}
  __device__ bool more() const { return tile < count; }
  __device__ void next() { tile += item_step() / 32; }
};
dim3 tile_grid(int64_t n, int elements) { return grid_for(ceil_div(n, elements) * 32, kThreads); }

// Multiples of 2^-bits in [0, 1), exact in the stored type.
template <class C> __device__ inline C unit(word_t<C> w, int bits) {
  return C(w >> (8 * int(sizeof(w)) - bits)) * C(1.0 / double(uint64_t(1) << bits));
}
template <class T> constexpr int kUnitBits = 24;
template <> constexpr int kUnitBits<float16> = 11;
template <> constexpr int kUnitBits<bfloat16> = 8;
template <> constexpr int kUnitBits<double> = 53;

// (w + 1/2) / 2^bits: in (0, 1], as fine near 0 as the type can hold. The halves of the word convert exactly.
__device__ inline float open_unit(uint32_t w) {
  return float(w >> 16) * 0x1p-16f + (float(w & 0xffff) + 0.5f) * 0x1p-32f;
}
__device__ inline double open_unit(uint64_t w) {
  return double(w >> 32) * 0x1p-32 + (double(w & 0xffffffff) + 0.5) * 0x1p-64;
}

// log of a normal number, 2^k (1 + f) with 1 + f about 1, by artanh of s = f / (2 + f): the CPU's, step by step.
__device__ inline float portable_log(float u) {
  const int bits = __float_as_int(u), k = (bits - 0x3f3504f3) >> 23;
  const float f = __int_as_float(bits - (k << 23)) - 1, s = f / (f + 2), z = s * s;
  const float tail = s * z * horner(z, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9);
  return float(k) * 0.693147181f + (s + s + tail);
}
__device__ inline double portable_log(double u) {
  const int64_t root_half = 0x3fe6a09e667f3bcd, i = __double_as_longlong(u) - root_half;
  const double f = __longlong_as_double((i & ((int64_t(1) << 52) - 1)) + root_half) - 1, k = double(i >> 52);
  const double s = f / (f + 2), z = s * s;
  const double r = z * horner(z, 0x1.5555555555558p-1, 0x1.99999999951bfp-2, 0x1.2492492e0f030p-2, 0x1.c71c62c21809fp-3,
                              0x1.7462be2caad05p-3, 0x1.39fd33f7c7c28p-3, 0x1.2b662bd638363p-3);
  const double half_square = 0.5 * f * f, tail = s * (half_square + r) + k * 0x1.a39ef35793c76p-33;
  return k * 0x1.62e42fee00000p-1 + (f - (half_square - tail));
}

// e^x = 2^k e^r, |r| <= log 2 / 2; 2^k in two steps, so that neither leaves the exponents.
__device__ inline float portable_exp(float x) {
  x = x < 89.0f ? x : 89.0f;
  x = x > -104.0f ? x : -104.0f;
  const float k = (x * 1.44269504f + 0x1.8p23f) - 0x1.8p23f;
  float r = x - k * 0x1.62e4p-1f;
  r = r - k * 0x1.7f7d1cp-20f;
  const float p = horner(r, 0x1.fffff8p-2f, 0x1.55548ep-3f, 0x1.555b98p-5f, 0x1.123bccp-7f, 0x1.6850e4p-10f);
  const int n = int(k), half = n >> 1;
  return (p * r * r + r + 1.0f) * __int_as_float((half + 127) << 23) * __int_as_float((n - half + 127) << 23);
}
__device__ inline double portable_exp(double x) {
  x = x < 710.0 ? x : 710.0;
  x = x > -746.0 ? x : -746.0;
  const double k = (x * 1.4426950408889634 + 0x1.8p52) - 0x1.8p52;
  double r = x - k * 0x1.62e42fee00000p-1;
  r = r - k * 0x1.a39ef35793c76p-33;
  const double p = horner(r, 0.5, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
                          1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800);
  const int64_t n = int64_t(k), half = n >> 1;
  return (p * r * r + r + 1.0) * __longlong_as_double((half + 1023) << 52) *
         __longlong_as_double((n - half + 1023) << 52);
}

// cos and sin of the angle 2 pi w / 2^bits: the nearest multiple of pi/2, and a Taylor series on [-pi/4, pi/4] for the
// rest.
template <class C> __device__ inline void cos_sin(word_t<C> w, C* cos_out, C* sin_out) {
  using W = word_t<C>;
  constexpr int bits = 8 * int(sizeof(C));
  const W quadrant = (w + (W(1) << (bits - 3))) >> (bits - 2), rest = w - (quadrant << (bits - 2));
  C x, c, s;
  if constexpr (sizeof(C) == 4) {
    x = C(int32_t(rest)) * C(kTwoPi / 4 / double(uint64_t(1) << (bits - 2)));
    const C x2 = x * x;
    c = horner(x2, 1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320);
    s = x * horner(x2, 1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880);
  } else {
    x = C(int64_t(rest)) * C(kTwoPi / 4 / double(uint64_t(1) << (bits - 2)));
    const C x2 = x * x;
    c = horner(x2, 1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600,
               -1.0 / 87178291200, 1.0 / 20922789888000);
    s = x * horner(x2, 1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800,
                   -1.0 / 1307674368000, 1.0 / 355687428096000);
  }
  const bool odd = quadrant & 1, flip_cos = (quadrant + 1) & 2, flip_sin = quadrant & 2;
  const C cc = odd ? s : c, ss = odd ? c : s;
  *cos_out = flip_cos ? -cc : cc;
  *sin_out = flip_sin ? -ss : ss;
}

// The distributions: what a lane's words become, element by element but for the normal ones.
template <class C, class F>
__device__ inline void each(const word_t<C> (&w)[kLaneElements<C>], C (&out)[kLaneElements<C>], const F& f) {
#pragma unroll
  for (int h = 0; h < kLaneElements<C>; ++h) out[h] = f(w[h]);
}

// Half as many bits of float16 or bfloat16 would make [a, b) visibly coarse where it is wide.
template <class C> struct Uniform {
  C low, width;
  int bits;
  __device__ void operator()(const word_t<C> (&w)[kLaneElements<C>], C (&out)[kLaneElements<C>]) const {
    each<C>(w, out, [&](word_t<C> x) { return unit<C>(x, bits) * width + low; });
  }
};
// A point (u, v) of the square gives two: r cos t, r sin t with r = sqrt(-2 log u), t = 2 pi v. The lower half of a
// tile holds the u and takes the cosines.
template <class C> struct Normal {
  C mean, std;
  bool exponentiate;
  __device__ void operator()(const word_t<C> (&w)[kLaneElements<C>], C (&out)[kLaneElements<C>]) const {
    constexpr int half = kLaneElements<C> / 2;
#pragma unroll
    for (int h = 0; h < half; ++h) {
      const C r = sqrt(C(-2) * portable_log(open_unit(w[h])));
      C c, s;
      cos_sin<C>(w[half + h], &c, &s);
      const C a = r * c * std + mean, b = r * s * std + mean;
      out[h] = exponentiate ? portable_exp(a) : a;
      out[half + h] = exponentiate ? portable_exp(b) : b;
    }
  }
};
template <class C> struct Exponential {
  C scale;
  __device__ void operator()(const word_t<C> (&w)[kLaneElements<C>], C (&out)[kLaneElements<C>]) const {
    each<C>(w, out, [&](word_t<C> x) {
      const C e = -portable_log(open_unit(x));
      return (e > 0 ? e : C(0x1p-33)) * scale;  // u may round to 1, but 0 is no exponential number
    });
  }
};
template <class C> struct Cauchy {
  C median, sigma;
  __device__ void operator()(const word_t<C> (&w)[kLaneElements<C>], C (&out)[kLaneElements<C>]) const {
    each<C>(w, out, [&](word_t<C> x) {
      C c, s;
      cos_sin<C>(x >> 1, &c, &s);  // an angle in [0, pi)
      return s / c * sigma + median;
    });
  }
};
template <class C> struct Geometric {
  C scale;
  __device__ void operator()(const word_t<C> (&w)[kLaneElements<C>], C (&out)[kLaneElements<C>]) const {
    each<C>(w, out, [&](word_t<C> x) {
      const C k = ceil(portable_log(open_unit(x)) * scale);
      return k > 1 ? k : C(1);
    });
  }
};

template <class T, class Rule> __global__ void fill_kernel(T* __restrict__ y, int64_t n, Draws d, Rule rule) {
  using C = compute_t<T>;
  constexpr int E = kTileElements<C>;
  for (Tiles t(n, E); t.more(); t.next()) {
    word_t<C> words[kLaneElements<C>];
    C out[kLaneElements<C>];
    draw<C>(d, t.tile, words);
    rule(words, out);
#pragma unroll
    for (int h = 0; h < kLaneElements<C>; ++h) {
      const int64_t i = t.tile * E + 32 * h + threadIdx.x % 32;
      if (i < n) store(y + i, out[h]);
    }
  }
}

void fill(Distribution distribution, DType t, void* y, int64_t n, Stream s, double a, double b) {
  const Draws d(s.key, s.counter);
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    auto run = [&](auto rule) {
      launch(fill_kernel<T, decltype(rule)>, tile_grid(n, kTileElements<C>), kThreads, 0, static_cast<T*>(y), n, d,
             rule);
    };
    switch (distribution) {
      case Distribution::Uniform: return run(Uniform<C>{C(a), C(b - a), kUnitBits<T>});
      case Distribution::Normal:
      case Distribution::LogNormal: return run(Normal<C>{C(a), C(b), distribution == Distribution::LogNormal});
      case Distribution::Exponential: return run(Exponential<C>{C(1 / a)});
      case Distribution::Cauchy: return run(Cauchy<C>{C(a), C(b)});
      case Distribution::Geometric: return run(Geometric<C>{C(1 / ::log1p(-a))});
    }
  });
}

// Two words to [0, range), a multiple of range / 2^64: the high half of value * range (Lemire 2019), which is uniform
// but for range / 2^64.
__global__ void integers_kernel(DType t, char* y, int item, int64_t n, Draws d, int64_t low, uint64_t range) {
  constexpr int E = kTileElements<double>;
  for (Tiles tiles(n, E); tiles.more(); tiles.next()) {
    uint64_t words[kLaneElements<double>];
    draw<double>(d, tiles.tile, words);
#pragma unroll
    for (int h = 0; h < kLaneElements<double>; ++h) {
      const int64_t i = tiles.tile * E + 32 * h + threadIdx.x % 32;
      const int64_t x[1] = {int64_t(uint64_t(low) + (range ? __umul64hi(words[h], range) : words[h]))};
      if (i < n) store_any(t, y + i * item, x);
    }
  }
}

void integers(DType t, void* y, int64_t n, Stream s, int64_t low, uint64_t range) {
  launch(integers_kernel, tile_grid(n, kTileElements<double>), kThreads, 0, t, static_cast<char*>(y), item_size(t), n,
         Draws(s.key, s.counter), low, range);
}

// w < threshold(p) has probability p; a p of 1 needs a 33rd bit.
uint64_t threshold(double p) { return uint64_t(p * 0x1p32 + 0.5); }

__global__ void bernoulli_kernel(DType t, char* y, int item, int64_t n, Draws d, uint64_t below) {
  constexpr int E = kTileElements<float>;
  for (Tiles tiles(n, E); tiles.more(); tiles.next()) {
    uint32_t words[kLaneElements<float>];
    draw<float>(d, tiles.tile, words);
#pragma unroll
    for (int h = 0; h < kLaneElements<float>; ++h) {
      const int64_t i = tiles.tile * E + 32 * h + threadIdx.x % 32;
      const int64_t x[1] = {words[h] < below};
      if (i < n) store_any(t, y + i * item, x);
    }
  }
}

void bernoulli(DType t, void* y, int64_t n, Stream s, double p) {
  launch(bernoulli_kernel, tile_grid(n, kTileElements<float>), kThreads, 0, t, static_cast<char*>(y), item_size(t), n,
         Draws(s.key, s.counter), threshold(p));
}

template <class T>
__global__ void bernoulli_each_kernel(const T* __restrict__ p, T* __restrict__ y, int64_t n, Draws d) {
  constexpr int E = kTileElements<float>;
  for (Tiles tiles(n, E); tiles.more(); tiles.next()) {
    uint32_t words[kLaneElements<float>];
    draw<float>(d, tiles.tile, words);
#pragma unroll
    for (int h = 0; h < kLaneElements<float>; ++h) {
      const int64_t i = tiles.tile * E + 32 * h + threadIdx.x % 32;
      if (i < n) store(y + i, compute_t<T>(words[h] * 0x1p-32 < double(load(p + i)) ? 1 : 0));
    }
  }
}

void bernoulli_each(DType t, const void* p, void* y, int64_t n, Stream s) {
  dispatch_floating(t, [&]<class T>() {
    launch(bernoulli_each_kernel<T>, tile_grid(n, kTileElements<float>), kThreads, 0, static_cast<const T*>(p),
           static_cast<T*>(y), n, Draws(s.key, s.counter));
  });
}

// Uniform numbers of one element: blocks (counter, 0), (counter, 1), ...
class Uniforms {
 public:
  __device__ Uniforms(uint64_t key, uint64_t counter) : key_(key), counter_(counter) {}
  __device__ double operator()() {
    uint64_t value = later_;
    if (used_ % 2 == 0) {
      const Philox p(counter_, key_, uint32_t(used_ / 2));
      value = p.c[0] | uint64_t(p.c[1]) << 32;
      later_ = p.c[2] | uint64_t(p.c[3]) << 32;
    }
    ++used_;
    return double(value >> 11) * 0x1p-53 + 0x1p-54;
  }

 private:
  uint64_t key_, counter_, later_ = 0;
  int64_t used_ = 0;
};

// Small rates: the uniform numbers whose product stays above exp(-rate). Large ones: transformed rejection with a
// squeeze, PTRS of Hoermann (1993).
__device__ double poisson_of(double rate, Uniforms& draw) {
  if (!(rate > 0)) return rate == 0 ? 0 : Ieee<double>::nan;
  if (rate < 10) {
    const double limit = exp(-rate);
    double k = 0;
    for (double product = draw(); product > limit; product *= draw()) ++k;
    return k;
  }
  const double root = sqrt(rate), log_rate = log(rate), b = 0.931 + 2.53 * root, a = -0.059 + 0.02483 * b;
  const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4), vr = 0.9277 - 3.6224 / (b - 2);
  for (;;) {
    const double u = draw() - 0.5, v = draw(), us = 0.5 - fabs(u), k = floor((2 * a / us + b) * u + rate + 0.43);
    if (us >= 0.07 && v <= vr) return k;
    if (k < 0 || (us < 0.013 && v > us)) continue;
    if (log(v * inverse_alpha / (a / (us * us) + b)) <= k * log_rate - rate - lgamma(k + 1)) return k;
  }
}

template <class T> __global__ void poisson_kernel(const T* __restrict__ rate, T* __restrict__ y, int64_t n, Draws d) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    Uniforms uniforms(d.key(), d.counter() + uint64_t(i));
    store(y + i, compute_t<T>(poisson_of(load(rate + i), uniforms)));
  }
}

void poisson(DType t, const void* rate, void* y, int64_t n, Stream s) {
  dispatch_floating(t, [&]<class T>() {
    launch(poisson_kernel<T>, grid_for(n, kThreads), kThreads, 0, static_cast<const T*>(rate), static_cast<T*>(y), n,
           Draws(s.key, s.counter));
  });
}

template <class T>
__global__ void dropout_kernel(const T* __restrict__ x, T* __restrict__ y, uint8_t* __restrict__ mask, int64_t n,
                               Draws d, uint64_t below, compute_t<T> scale) {
  using C = compute_t<T>;
  constexpr int E = kTileElements<float>, L = kLaneElements<float>;
  for (Tiles tiles(n, E); tiles.more(); tiles.next()) {
    const int64_t first = tiles.tile * E + threadIdx.x % 32;
    C in[L];
#pragma unroll
    for (int h = 0; h < L; ++h) in[h] = first + 32 * h < n ? load(x + first + 32 * h) : C(0);
    uint32_t words[L];
    draw<float>(d, tiles.tile, words);
#pragma unroll
    for (int h = 0; h < L; ++h) {
      if (first + 32 * h >= n) continue;
      const bool keep = words[h] < below;
      store(y + first + 32 * h, keep ? in[h] * scale : C(0));
      mask[first + 32 * h] = keep;
    }
  }
}

void dropout(DType t, const void* x, void* y, uint8_t* mask, int64_t n, Stream s, double p) {
  dispatch_floating(t, [&]<class T>() {
    launch(dropout_kernel<T>, tile_grid(n, kTileElements<float>), kThreads, 0, static_cast<const T*>(x),
           static_cast<T*>(y), mask, n, Draws(s.key, s.counter), threshold(1 - p), compute_t<T>(1 / (1 - p)));
  });
}

template <class T>
__global__ void dropout_backward_kernel(const T* __restrict__ dy, const uint8_t* __restrict__ mask, T* __restrict__ dx,
                                        int64_t n, int64_t packs, compute_t<T> scale) {
  using C = compute_t<T>;
  constexpr int N = kPack<T>;
  for (int64_t p = first_item(); p < packs; p += item_step()) {
    C x[N];
    const Pack<uint8_t, N> keep = load_pack<N>(mask + p * N);
    load_run(dy + p * N, x);
#pragma unroll
    for (int j = 0; j < N; ++j) x[j] = keep[j] ? x[j] * scale : C(0);
    store_run(dx + p * N, x);
  }
  for (int64_t i = packs * N + first_item(); i < n; i += item_step())
    store(dx + i, mask[i] ? load(dy + i) * scale : C(0));
}

void dropout_backward(DType t, const void* dy, const uint8_t* mask, void* dx, int64_t n, double scale) {
  dispatch_floating(t, [&]<class T>() {
    constexpr int N = kPack<T>;
    const int64_t packs = aligned(dy, 16) && aligned(dx, 16) && aligned(mask, N) ? n / N : 0;
    launch(dropout_backward_kernel<T>, grid_for(packs ? packs : n, kThreads), kThreads, 0, static_cast<const T*>(dy),
           mask, static_cast<T*>(dx), n, packs, compute_t<T>(scale));
  });
}

}  // namespace

const RandomKernels random_kernels = {fill,    integers, bernoulli, bernoulli_each,
                                      poisson, nullptr,  dropout,   dropout_backward};

}  // namespace gg::cuda
