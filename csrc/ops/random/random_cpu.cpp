// CPU random numbers, a tile at a time: the words, then what a distribution makes of them, in vectors.
#include "ops/random/random.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/integers.h"
#include "cpu/math.h"
#include "cpu/philox.h"
#include "cpu/scratch.h"
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr int kWords = 4 * kTileBlocks;  // of a tile
constexpr int64_t kTilesPerPiece = 128;  // about 20 microseconds
constexpr double kTwoPi = 6.283185307179586;

// The loop over lanes is what the compiler turns into vectors: a multiplication to 64 bits is two instructions there.
void fill_tile(Stream s, int64_t tile, uint32_t* __restrict words) {
  const uint64_t first = s.counter + uint64_t(tile) * kTileBlocks, key = s.key;
  for (int i = 0; i < kTileBlocks; ++i) {
    Philox p(first + uint64_t(i));
    p.rounds(key);
    words[i] = p.c0;
    words[kTileBlocks + i] = p.c1;
    words[2 * kTileBlocks + i] = p.c2;
    words[3 * kTileBlocks + i] = p.c3;
  }
}

// The 64 two-word values of a tile.
void fill_tile(Stream s, int64_t tile, uint64_t* __restrict values) {
  uint32_t words[kWords];
  fill_tile(s, tile, words);
  for (int h = 0; h < 2; ++h)
    for (int i = 0; i < kTileBlocks; ++i)
      values[h * kTileBlocks + i] = words[2 * h * kTileBlocks + i] | uint64_t(words[(2 * h + 1) * kTileBlocks + i])
                                                                         << 32;
}

// What one element in compute type C draws.
template <class C> struct word_of { using type = uint32_t; };
template <> struct word_of<double> { using type = uint64_t; };
template <class C> using word_t = typename word_of<C>::type;
template <class C> constexpr int kTileElements = kWords * 4 / int(sizeof(word_t<C>));
template <class C> using Words = typename Packed<word_t<C>, kLanes<C>>::type;
template <class C> using SignedWords = Mask<C>;

template <class C> Words<C> load_words(const word_t<C>* p) {
  Words<C> w;
  memcpy(&w, p, sizeof w);
  return w;
}

// For the tiles of n elements stored as T: make(words, C out[kTileElements]), then out is stored.
template <class T, class Make> void for_tiles(T* y, int64_t n, Stream s, const Make& make) {
  using C = compute_t<T>;
  constexpr int64_t E = kTileElements<C>;
  parallel_for((n + E - 1) / E, kTilesPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      word_t<C> words[E];
      C out[E];
      fill_tile(s, tile, words);
      make(words, out);
      T* to = y + tile * E;
      const int64_t count = smaller(E, n - tile * E);
      int64_t i = 0;
      for (; i + kLanes<C> <= count; i += kLanes<C>) store(to + i, load(out + i));
      for (; i < count; ++i) store1(to + i, out[i]);
    }
  });
}
template <class C, class F> void each_vector(const word_t<C>* words, C* out, const F& f) {
  for (int i = 0; i < kTileElements<C>; i += kLanes<C>) store(out + i, f(load_words<C>(words + i)));
}

// Multiples of 2^-bits in [0, 1), exact in the stored type.
template <class C> Vec<C> unit(Words<C> w, int bits) {
  const int word_bits = 8 * int(sizeof(word_t<C>));
  return __builtin_convertvector(bit_cast<SignedWords<C>>(w >> (word_bits - bits)), Vec<C>) *
         C(1.0 / double(uint64_t(1) << bits));
}
template <class T> constexpr int kUnitBits = 24;
template <> constexpr int kUnitBits<float16> = 11;
template <> constexpr int kUnitBits<bfloat16> = 8;
template <> constexpr int kUnitBits<double> = 53;

// (w + 1/2) / 2^bits: in (0, 1], as fine near 0 as the type can hold. The halves of the word convert exactly.
inline Vec<float> open_unit(Words<float> w) {
  Vec<float> high = __builtin_convertvector(bit_cast<SignedWords<float>>(w >> 16), Vec<float>);
  Vec<float> low = __builtin_convertvector(bit_cast<SignedWords<float>>(w & 0xffff), Vec<float>);
  return high * 0x1p-16f + (low + 0.5f) * 0x1p-32f;
}
inline Vec<double> open_unit(Words<double> w) {
  Vec<double> high = __builtin_convertvector(bit_cast<SignedWords<double>>(w >> 32), Vec<double>);
  Vec<double> low = __builtin_convertvector(bit_cast<SignedWords<double>>(w & 0xffffffff), Vec<double>);
  return high * 0x1p-32 + (low + 0.5) * 0x1p-64;
}

// log of a normal number, 2^k (1 + f) with 1 + f about 1, by artanh of s = f / (2 + f): in math.h's own the last bit is
// not the same under every instruction set.
inline Vec<double> portable_log(Vec<double> u) {
  using I = Vec<int64_t>;
  const int64_t root_half = 0x3fe6a09e667f3bcd;
  const Vec<double> magic = splat(0x1.8p52);  // a conversion of whole numbers has no instruction before AVX-512
  I i = bit_cast<I>(u) - root_half;
  Vec<double> f = bit_cast<Vec<double>>((i & ((int64_t(1) << 52) - 1)) + root_half) - 1, s = f / (f + 2), z = s * s;
  Vec<double> k = bit_cast<Vec<double>>((i >> 52) + bit_cast<I>(magic)) - magic;
  Vec<double> r = z * horner(z, 0x1.5555555555558p-1, 0x1.99999999951bfp-2, 0x1.2492492e0f030p-2, 0x1.c71c62c21809fp-3,
                             0x1.7462be2caad05p-3, 0x1.39fd33f7c7c28p-3, 0x1.2b662bd638363p-3);
  Vec<double> half_square = 0.5 * f * f, tail = s * (half_square + r) + k * 0x1.a39ef35793c76p-33;
  return k * 0x1.62e42fee00000p-1 + (f - (half_square - tail));
}
inline Vec<float> portable_log(Vec<float> u) {
  Vec<int32_t> bits = bit_cast<Vec<int32_t>>(u), k = (bits - 0x3f3504f3) >> 23;  // m is in [sqrt(1/2), sqrt(2))
  Vec<float> f = bit_cast<Vec<float>>(bits - (k << 23)) - 1, s = f / (f + 2), z = s * s;
  Vec<float> tail = s * z * horner(z, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9);
  return __builtin_convertvector(k, Vec<float>) * 0.693147181f + (s + s + tail);
}

// cos and sin of the angle 2 pi w / 2^bits: the nearest multiple of pi/2, and a Taylor series on [-pi/4, pi/4] for the
// rest.
template <class C> void cos_sin(Words<C> w, Vec<C>* cos_out, Vec<C>* sin_out) {
  using V = Vec<C>;
  using I = SignedWords<C>;
  constexpr int bits = 8 * int(sizeof(C));
  Words<C> quadrant = (w + (word_t<C>(1) << (bits - 3))) >> (bits - 2);
  I rest = bit_cast<I>(w - (quadrant << (bits - 2)));
  V x = __builtin_convertvector(rest, V) * C(kTwoPi / 4 / double(uint64_t(1) << (bits - 2)));
  V x2 = x * x, c, s;
  if constexpr (sizeof(C) == 4) {
    c = horner(x2, 1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320);
    s = x * horner(x2, 1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880);
  } else {
    c = horner(x2, 1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600,
               -1.0 / 87178291200, 1.0 / 20922789888000);
    s = x * horner(x2, 1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800,
                   -1.0 / 1307674368000, 1.0 / 355687428096000);
  }
  I q = bit_cast<I>(quadrant & 3);
  I odd = (q & 1) != 0, flip_cos = ((q + 1) & 2) != 0, flip_sin = (q & 2) != 0;
  V cc = odd ? s : c, ss = odd ? c : s;
  *cos_out = flip_cos ? -cc : cc;
  *sin_out = flip_sin ? -ss : ss;
}

// A point (u, v) of the square gives two: r cos t, r sin t with r = sqrt(-2 log u), t = 2 pi v. The lower half of a
// tile holds the u and takes the cosines.
template <class C> void normal_tile(const word_t<C>* words, C* out, C mean, C std, bool exponentiate) {
  constexpr int half = kTileElements<C> / 2;
  for (int i = 0; i < half; i += kLanes<C>) {
    Vec<C> r = sqrt(C(-2) * portable_log(open_unit(load_words<C>(words + i)))), c, s;
    cos_sin<C>(load_words<C>(words + half + i), &c, &s);
    Vec<C> a = r * c * std + mean, b = r * s * std + mean;
    store(out + i, exponentiate ? exp(a) : a);
    store(out + half + i, exponentiate ? exp(b) : b);
  }
}

void fill(Distribution d, DType t, void* y_, int64_t n, Stream s, double a, double b) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    T* y = static_cast<T*>(y_);
    switch (d) {
      case Distribution::Uniform: {
        // Half as many bits of float16 or bfloat16 would make [a, b) visibly coarse where it is wide.
        const C low = C(a), width = C(b - a);
        return for_tiles(y, n, s, [=](const word_t<C>* words, C* out) {
          each_vector<C>(words, out, [=](Words<C> w) { return unit<C>(w, kUnitBits<T>) * width + low; });
        });
      }
      case Distribution::Normal:
      case Distribution::LogNormal:
        return for_tiles(y, n, s, [=](const word_t<C>* words, C* out) {
          normal_tile<C>(words, out, C(a), C(b), d == Distribution::LogNormal);
        });
      case Distribution::Exponential:
        return for_tiles(y, n, s, [=, scale = C(1 / a)](const word_t<C>* words, C* out) {
          each_vector<C>(words, out, [=](Words<C> w) {
            Vec<C> e = -portable_log(open_unit(w));
            return (e > 0 ? e : splat(C(0x1p-33))) * scale;  // u may round to 1, but 0 is no exponential number
          });
        });
      case Distribution::Cauchy:
        return for_tiles(y, n, s, [=](const word_t<C>* words, C* out) {
          each_vector<C>(words, out, [=](Words<C> w) {
            Vec<C> c, sn;
            cos_sin<C>(w >> 1, &c, &sn);  // an angle in [0, pi)
            return sn / c * C(b) + C(a);
          });
        });
      case Distribution::Geometric:
        return for_tiles(y, n, s, [=, scale = C(1 / ::log1p(-a))](const word_t<C>* words, C* out) {
          each_vector<C>(words, out, [=](Words<C> w) {
            Vec<C> k = ceil(portable_log(open_unit(w)) * scale);
            return k > 1 ? k : splat(C(1));
          });
        });
    }
  });
}

template <class T> void store_whole(T* y, int64_t x) {
  if constexpr (requires(T t) { t.bits; })
    store1(y, float(x));
  else
    *y = T(x);
}

// Two words to [0, range), a multiple of range / 2^64: the high half of value * range (Lemire 2019), which is uniform
// but for range / 2^64. Where range has 32 bits the products have 64, and the compiler makes vectors of them.
void scale_words(const uint32_t* words, uint64_t range, uint64_t* out) {
  for (int h = 0; h < 2; ++h) {
    const uint32_t* low = words + 2 * h * kTileBlocks;
    const uint32_t* high = low + kTileBlocks;
    uint64_t* to = out + h * kTileBlocks;
    if (range >> 32 == 0 && range) {
      for (int i = 0; i < kTileBlocks; ++i) to[i] = (high[i] * range + (low[i] * range >> 32)) >> 32;
    } else {
      for (int i = 0; i < kTileBlocks; ++i) {
        const uint64_t value = low[i] | uint64_t(high[i]) << 32;
        to[i] = range ? uint64_t((unsigned __int128)value * range >> 64) : value;
      }
    }
  }
}

void integers(DType t, void* y_, int64_t n, Stream s, int64_t low, uint64_t range) {
  dispatch_all(t, [&]<class T>() {
    T* y = static_cast<T*>(y_);
    constexpr int64_t E = kWords / 2;
    parallel_for((n + E - 1) / E, kTilesPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        uint32_t words[kWords];
        uint64_t values[E];
        fill_tile(s, tile, words);
        scale_words(words, range, values);
        const int64_t count = smaller(E, n - tile * E);
        for (int64_t i = 0; i < count; ++i) store_whole(y + tile * E + i, int64_t(uint64_t(low) + values[i]));
      }
    });
  });
}

// w < threshold(p) has probability p; a p of 1 needs a 33rd bit.
uint64_t threshold(double p) { return uint64_t(p * 0x1p32 + 0.5); }

void bernoulli(DType t, void* y_, int64_t n, Stream s, double p) {
  const uint64_t below = threshold(p);
  dispatch_all(t, [&]<class T>() {
    T* y = static_cast<T*>(y_);
    T zero, one;
    store_whole(&zero, 0);
    store_whole(&one, 1);
    if (below >> 32) {
      for (int64_t i = 0; i < n; ++i) y[i] = one;
      return;
    }
    parallel_for((n + kWords - 1) / kWords, kTilesPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        uint32_t words[kWords];
        T out[kWords];
        fill_tile(s, tile, words);
        for (int i = 0; i < kWords; ++i) out[i] = words[i] < uint32_t(below) ? one : zero;
        memcpy(y + tile * kWords, out, size_t(smaller(kWords, n - tile * kWords)) * sizeof(T));
      }
    });
  });
}

void bernoulli_each(DType t, const void* p_, void* y_, int64_t n, Stream s) {
  dispatch_floating(t, [&]<class T>() {
    const T* p = static_cast<const T*>(p_);
    T* y = static_cast<T*>(y_);
    parallel_for((n + kWords - 1) / kWords, kTilesPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        uint32_t words[kWords];
        fill_tile(s, tile, words);
        const int64_t first = tile * kWords, count = smaller(kWords, n - first);
        for (int64_t i = 0; i < count; ++i)
          store1(y + first + i, compute_t<T>(words[i] * 0x1p-32 < double(load1(p + first + i)) ? 1 : 0));
      }
    });
  });
}

// Uniform numbers of one element: blocks (counter, 0), (counter, 1), ...
class Draws {
 public:
  Draws(uint64_t key, uint64_t counter) : key_(key), counter_(counter) {}
  double operator()() {
    if (used_ % 2 == 0) {
      Philox p(counter_, uint32_t(used_ / 2));
      p.rounds(key_);
      values_[0] = p.c0 | uint64_t(p.c1) << 32;
      values_[1] = p.c2 | uint64_t(p.c3) << 32;
    }
    return double(values_[used_++ % 2] >> 11) * 0x1p-53 + 0x1p-54;
  }

 private:
  uint64_t key_, counter_, values_[2];
  int64_t used_ = 0;
};

// Small rates: the uniform numbers whose product stays above exp(-rate). Large ones: transformed rejection with a
// squeeze, PTRS of Hoermann (1993).
double poisson_of(double rate, Draws& draw) {
  if (!(rate > 0)) return rate == 0 ? 0 : __builtin_nan("");
  if (rate < 10) {
    const double limit = ::exp(-rate);
    double k = 0;
    for (double product = draw(); product > limit; product *= draw()) ++k;
    return k;
  }
  const double root = ::sqrt(rate), log_rate = ::log(rate), b = 0.931 + 2.53 * root, a = -0.059 + 0.02483 * b;
  const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4), vr = 0.9277 - 3.6224 / (b - 2);
  for (;;) {
    const double u = draw() - 0.5, v = draw(), us = 0.5 - ::fabs(u), k = ::floor((2 * a / us + b) * u + rate + 0.43);
    if (us >= 0.07 && v <= vr) return k;
    if (k < 0 || (us < 0.013 && v > us)) continue;
    int sign;
    if (::log(v * inverse_alpha / (a / (us * us) + b)) <= k * log_rate - rate - ::lgamma_r(k + 1, &sign)) return k;
  }
}

void poisson(DType t, const void* rate_, void* y_, int64_t n, Stream s) {
  dispatch_floating(t, [&]<class T>() {
    const T* rate = static_cast<const T*>(rate_);
    T* y = static_cast<T*>(y_);
    parallel_for(n, 512, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        Draws draws(s.key, s.counter + uint64_t(i));
        store1(y + i, compute_t<T>(poisson_of(load1(rate + i), draws)));
      }
    });
  });
}

// Fisher and Yates, as Durstenfeld (1964) does it.
void permutation(int64_t* y, int64_t n, Stream s) {
  constexpr int64_t E = kWords / 2;
  for (int64_t i = 0; i < n; ++i) y[i] = i;
  uint64_t values[E];
  for (int64_t i = 0; i + 1 < n; ++i) {
    if (i % E == 0) fill_tile(s, i / E, values);
    int64_t j = i + int64_t((unsigned __int128)values[i % E] * uint64_t(n - i) >> 64);
    int64_t at = y[i];
    y[i] = y[j];
    y[j] = at;
  }
}

void dropout(DType t, const void* x_, void* y_, uint8_t* mask, int64_t n, Stream s, double p) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    constexpr int L = kLanes<C>;
    using Bytes = typename Packed<int8_t, L>::type;
    const T* x = static_cast<const T*>(x_);
    T* y = static_cast<T*>(y_);
    const uint64_t below = threshold(1 - p);
    const C scale = C(1 / (1 - p));
    parallel_for((n + kWords - 1) / kWords, kTilesPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        uint32_t words[kWords];
        fill_tile(s, tile, words);
        const int64_t first = tile * kWords, count = smaller(kWords, n - first);
        int64_t i = 0;
        if (below >> 32 == 0) {
          for (; i + L <= count; i += L) {
            typename Packed<uint32_t, L>::type w;
            memcpy(&w, words + i, sizeof w);
            Mask<C> keep = __builtin_convertvector(w < uint32_t(below), Mask<C>);
            store(y + first + i, keep ? load(x + first + i) * scale : Vec<C>{});
            Bytes ones = __builtin_convertvector(keep, Bytes) & 1;
            memcpy(mask + first + i, &ones, sizeof ones);
          }
        }
        for (; i < count; ++i) {
          const bool keep = words[i] < below;
          store1(y + first + i, keep ? load1(x + first + i) * scale : C(0));
          mask[first + i] = keep;
        }
      }
    });
  });
}

void dropout_backward(DType t, const void* dy_, const uint8_t* mask, void* dx_, int64_t n, double scale_) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    constexpr int L = kLanes<C>;
    using Bytes = typename Packed<int8_t, L>::type;
    const T* dy = static_cast<const T*>(dy_);
    T* dx = static_cast<T*>(dx_);
    const C scale = C(scale_);
    parallel_for(n, 65536, [&](int64_t begin, int64_t end) {
      int64_t i = begin;
      for (; i + L <= end; i += L) {
        Bytes bytes;
        memcpy(&bytes, mask + i, sizeof bytes);
        store(dx + i, __builtin_convertvector(bytes != 0, Mask<C>) ? load(dy + i) * scale : Vec<C>{});
      }
      for (; i < end; ++i) store1(dx + i, mask[i] ? load1(dy + i) * scale : C(0));
    });
  });
}

}  // namespace

const RandomKernels random_kernels = {fill,    integers,    bernoulli, bernoulli_each,
                                      poisson, permutation, dropout,   dropout_backward};

}  // namespace gg::GG_ISA
