// CPU kernels of sort.h. An element becomes an unsigned key of the same order; key and position packed into one integer
// (64 bits, or 128 for 8-byte elements) are distinct, so any sort of them is stable. Short rows: insertion; others:
// radix by bytes from the lowest, leaving out bytes that all keys share; a long row is cut into chunks that count and
// move in parallel. Selection: radix from the highest byte, keeping only the bucket that holds the k-th.
#include <string.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/scratch.h"
#include "cpu/vec.h"
#include "ops/sort/sort.h"

namespace gg::GG_ISA {
namespace {

template <int Bytes> struct unsigned_of;
template <> struct unsigned_of<1> { using type = uint8_t; };
template <> struct unsigned_of<2> { using type = uint16_t; };
template <> struct unsigned_of<4> { using type = uint32_t; };
template <> struct unsigned_of<8> { using type = uint64_t; };
template <class T> using Key = typename unsigned_of<sizeof(T)>::type;

template <class T> constexpr bool kIsFloating = is_floating(dtype_of<T>::value);

template <class T> inline bool is_nan(const T* x) {
  if constexpr (kIsFloating<T>) {
    compute_t<T> v = load1(x);
    return v != v;
  } else {
    return false;
  }
}

// Floats: the sign bit turns the order of the magnitudes around. Signed integers: the sign bit is flipped.
template <class T> inline Key<T> key_of(const T& x) {
  using K = Key<T>;
  K bits;
  memcpy(&bits, &x, sizeof bits);
  constexpr K top = K(K(1) << (8 * sizeof(K) - 1));
  if constexpr (kIsFloating<T>) {
    constexpr int mantissa = sizeof(T) == 8 ? 52 : sizeof(T) == 4 ? 23 : dtype_of<T>::value == DType::BFloat16 ? 7 : 10;
    constexpr K infinity = K(K(top - 1) >> mantissa << mantissa);
    K magnitude = K(bits & K(~top));
    const K negative = K(0) - K(bits >> (8 * sizeof(K) - 1));
    K key = K(bits ^ K(negative | top));
    key = magnitude == 0 ? top : key;
    return magnitude > infinity ? K(~K(0)) : key;
  } else if constexpr (sizeof(T) > 1 || dtype_of<T>::value == DType::Int8) {
    return K(bits ^ top);
  } else {
    return bits;
  }
}

// Key above, position below.
using Wide = unsigned __int128;
template <class P> constexpr int kPositionBits = sizeof(P) * 4;
template <class P, class T> inline P pack(const T& x, int64_t i, bool flip) {
  Key<T> key = key_of(x);
  return P(P(flip ? Key<T>(~key) : key) << kPositionBits<P> | P(i));
}
template <class P> inline int64_t position(P p) { return int64_t(uint64_t(p & ((P(1) << kPositionBits<P>)-1))); }

// Calls f.template operator()<T, P>() with the packed type that holds T's key and positions below n.
template <class F> void dispatch_packed(DType dtype, int64_t n, const F& f) {
  dispatch_all(dtype, [&]<class T>() {
    if constexpr (sizeof(T) < 8) {
      if (n <= UINT32_MAX) return f.template operator()<T, uint64_t>();
    }
    f.template operator()<T, Wide>();
  });
}

constexpr int64_t kShort = 32;
constexpr int64_t kChunk = 1 << 16;

template <class P> void insertion_sort(P* a, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    P p = a[i];
    int64_t j = i;
    for (; j > 0 && a[j - 1] > p; --j) a[j] = a[j - 1];
    a[j] = p;
  }
}

// Sorts a by its key bits, with b as the other buffer; the sorted one of the two comes back.
template <class P> P* radix_sort(P* a, P* b, int64_t n, int key_bits) {
  if (n <= kShort) {
    insertion_sort(a, n);
    return a;
  }
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  Scratch<P> all(2 * chunks);
  parallel_for(n, kChunk, [&](int64_t begin, int64_t end) {
    P any = 0, every = ~P(0);
    for (int64_t i = begin; i < end; ++i) any |= a[i], every &= a[i];
    all[begin / kChunk * 2] = any;
    all[begin / kChunk * 2 + 1] = every;
  });
  P any = 0, every = ~P(0);
  for (int64_t c = 0; c < chunks; ++c) any |= all[2 * c], every &= all[2 * c + 1];
  const P varies = any ^ every;
  Scratch<int64_t> next(chunks * 256);
  for (int shift = kPositionBits<P>; shift < kPositionBits<P> + key_bits; shift += 8) {
    if ((uint32_t(varies >> shift) & 255) == 0) continue;
    memset(next.data(), 0, size_t(chunks) * 256 * sizeof(int64_t));
    parallel_for(n, kChunk, [&](int64_t begin, int64_t end) {
      int64_t* count = next.data() + begin / kChunk * 256;
      for (int64_t i = begin; i < end; ++i) ++count[uint32_t(a[i] >> shift) & 255];
    });
    int64_t sum = 0;
    for (int digit = 0; digit < 256; ++digit)
      for (int64_t c = 0; c < chunks; ++c) {
        int64_t count = next[c * 256 + digit];
        next[c * 256 + digit] = sum;
        sum += count;
      }
    parallel_for(n, kChunk, [&](int64_t begin, int64_t end) {
      int64_t* to = next.data() + begin / kChunk * 256;
      for (int64_t i = begin; i < end; ++i) b[to[uint32_t(a[i] >> shift) & 255]++] = a[i];
    });
    P* other = a;
    a = b;
    b = other;
  }
  return a;
}

// The k-th smallest of a, whose contents are lost.
template <class P> P select(P* a, int64_t n, int64_t k) {
  for (int shift = int(sizeof(P)) * 8 - 8; n > kShort && shift >= 0; shift -= 8) {
    int64_t count[256] = {};
    for (int64_t i = 0; i < n; ++i) ++count[uint32_t(a[i] >> shift) & 255];
    uint32_t digit = 0;
    while (k >= count[digit]) k -= count[digit++];
    if (count[digit] == n) continue;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      a[kept] = a[i];
      kept += (uint32_t(a[i] >> shift) & 255) == digit;
    }
    n = kept;
  }
  insertion_sort(a, n);
  return a[k];
}

template <class T, class P> void pack_row(const T* x, P* a, int64_t n, bool flip) {
  parallel_for(n, kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) a[i] = pack<P>(x[i], i, flip);
  });
}

template <class T, class P> void unpack_row(const T* x, const P* a, int64_t n, T* values, int64_t* order) {
  parallel_for(n, kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) order[i] = position(a[i]);
    for (int64_t i = begin; i < end; ++i) values[i] = x[order[i]];
  });
}

// row(r) for every row: rows side by side, or one after the other where each is long enough to be cut itself.
template <class F> void for_rows(int64_t rows, int64_t n, const F& row) {
  const int64_t together = 1 << 12;
  if (n >= 4 * kChunk) {
    for (int64_t r = 0; r < rows; ++r) row(r);
  } else {
    parallel_for(rows, n >= together ? 1 : together / (n > 0 ? n : 1), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) row(r);
    });
  }
}

// Sorts a row. 8-byte elements whose keys span less than 2^32, as most integers do, are packed by their distance from
// the least one into half the bytes.
template <class T, class P> void sort_row(const T* x, int64_t n, bool flip, T* values, int64_t* order) {
  if constexpr (sizeof(T) == 8) {
    uint64_t least = UINT64_MAX, greatest = 0;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t key = flip ? ~key_of(x[i]) : key_of(x[i]);
      least = key < least ? key : least;
      greatest = key > greatest ? key : greatest;
    }
    if (n > kShort && n <= UINT32_MAX && greatest - least <= UINT32_MAX) {
      Scratch<uint64_t> buffer(2 * n);
      uint64_t* a = buffer.data();
      parallel_for(n, kChunk, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          a[i] = ((flip ? ~key_of(x[i]) : key_of(x[i])) - least) << 32 | uint64_t(i);
      });
      return unpack_row(x, radix_sort(a, a + n, n, 32), n, values, order);
    }
  }
  Scratch<P> buffer(2 * n);
  pack_row(x, buffer.data(), n, flip);
  unpack_row(x, radix_sort(buffer.data(), buffer.data() + n, n, int(sizeof(T)) * 8), n, values, order);
}

void sort(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, bool descending) {
  dispatch_packed(dtype, n, [&]<class T, class P>() {
    for_rows(rows, n, [&](int64_t r) {
      sort_row<T, P>(static_cast<const T*>(x) + r * n, n, descending, static_cast<T*>(values) + r * n, order + r * n);
    });
  });
}

// For few: the best k so far stand sorted, and blocks of elements that do not beat the last of them are passed over.
template <class T, class P> void scan_best(const T* x, P* best, int64_t n, int64_t k, bool flip) {
  for (int64_t i = 0; i < k; ++i) best[i] = pack<P>(x[i], i, flip);
  insertion_sort(best, k);
  const int64_t block = 64;
  for (int64_t begin = k; begin < n; begin += block) {
    const int64_t end = begin + block < n ? begin + block : n;
    // A later element that equals the last of the best does not beat it: keys alone decide.
    const Key<T> worst = Key<T>(best[k - 1] >> kPositionBits<P>);
    const Key<T> mask = flip ? Key<T>(~Key<T>(0)) : Key<T>(0);
    Key<T> any = 0;
    for (int64_t i = begin; i < end; ++i) any |= Key<T>(Key<T>(key_of(x[i]) ^ mask) < worst);
    if (!any) continue;
    for (int64_t i = begin; i < end; ++i) {
      P p = pack<P>(x[i], i, flip);
      if (p >= best[k - 1]) continue;
      int64_t j = k - 1;
      for (; j > 0 && best[j - 1] > p; --j) best[j] = best[j - 1];
      best[j] = p;
    }
  }
}

void topk(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, int64_t k, bool largest) {
  if (k == 0) return;
  dispatch_packed(dtype, n, [&]<class T, class P>() {
    for_rows(rows, n, [&](int64_t r) {
      const T* from = static_cast<const T*>(x) + r * n;
      T* to = static_cast<T*>(values) + r * k;
      if (k <= kShort) {
        P best[kShort];
        scan_best(from, best, n, k, largest);
        return unpack_row(from, best, k, to, order + r * k);
      }
      Scratch<P> buffer(n > 2 * k ? n : 2 * k);
      P* a = buffer.data();
      pack_row(from, a, n, largest);
      const P last = select(a, n, k - 1);
      int64_t found = 0;
      for (int64_t i = 0; found < k; ++i) {
        a[found] = pack<P>(from[i], i, largest);
        found += a[found] <= last;
      }
      unpack_row(from, radix_sort(a, a + k, k, int(sizeof(T)) * 8), k, to, order + r * k);
    });
  });
}

void kth(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, int64_t k, NanRule rule) {
  dispatch_packed(dtype, n, [&]<class T, class P>() {
    for_rows(rows, n, [&](int64_t r) {
      const T* from = static_cast<const T*>(x) + r * n;
      int64_t at = -1, nans = 0;
      if (rule != NanRule::Greatest)
        for (int64_t i = n - 1; i >= 0; --i)
          if (is_nan(from + i)) {
            at = i;
            ++nans;
          }
      if (rule != NanRule::First || at < 0) {
        const int64_t ranked = rule == NanRule::Skip && nans < n ? n - nans : n;
        Scratch<P> buffer(n);
        pack_row(from, buffer.data(), n, false);
        at = position(select(buffer.data(), n, k >= 0 ? k : (ranked - 1) / 2));
      }
      order[r] = at;
      static_cast<T*>(values)[r] = from[at];
    });
  });
}

void mode(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n) {
  dispatch_packed(dtype, n, [&]<class T, class P>() {
    for_rows(rows, n, [&](int64_t r) {
      const T* from = static_cast<const T*>(x) + r * n;
      Scratch<P> buffer(2 * n);
      pack_row(from, buffer.data(), n, false);
      const P* a = radix_sort(buffer.data(), buffer.data() + n, n, int(sizeof(T)) * 8);
      int64_t best = 0, run = 0, at = 0;
      for (int64_t i = 0; i < n; ++i) {
        bool same = i > 0 && a[i] >> kPositionBits<P> == a[i - 1] >> kPositionBits<P> && !is_nan(from + position(a[i]));
        run = same ? run + 1 : 1;
        if (run > best) {
          best = run;
          at = position(a[i]);
        }
      }
      order[r] = at;
      static_cast<T*>(values)[r] = from[at];
    });
  });
}

void sort_rows(DType dtype, const void* x, int64_t n, int64_t m, int64_t* order) {
  dispatch_all(dtype, [&]<class T>() {
    const T* rows = static_cast<const T*>(x);
    auto after = [&](int64_t a, int64_t b) {
      for (int64_t i = 0; i < m; ++i) {
        Key<T> p = key_of(rows[a * m + i]), q = key_of(rows[b * m + i]);
        if (p != q) return p > q;
      }
      return false;
    };
    Scratch<int64_t> other(n);
    int64_t *from = order, *to = other.data();
    for (int64_t i = 0; i < n; ++i) order[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
      for (int64_t begin = 0; begin < n; begin += 2 * width) {
        const int64_t middle = begin + width < n ? begin + width : n, end = middle + width < n ? middle + width : n;
        int64_t a = begin, b = middle;
        for (int64_t i = begin; i < end; ++i)
          to[i] = b == end || (a < middle && !after(from[a], from[b])) ? from[a++] : from[b++];
      }
      int64_t* swap = from;
      from = to;
      to = swap;
    }
    if (from != order) memcpy(order, from, size_t(n) * sizeof(int64_t));
  });
}

int64_t mark_runs(DType dtype, const void* x, int64_t n, int64_t m, const int64_t* order, int64_t* run) {
  if (n == 0) return 0;
  const int64_t chunk = 1 << 13, chunks = (n + chunk - 1) / chunk;
  Scratch<int64_t> sums(chunks);
  dispatch_all(dtype, [&]<class T>() {
    const T* rows = static_cast<const T*>(x);
    parallel_for(n, chunk, [&](int64_t begin, int64_t end) {
      int64_t sum = 0;
      for (int64_t i = begin; i < end; ++i) {
        if (i > 0) {
          const T* a = rows + (order ? order[i] : i) * m;
          const T* b = rows + (order ? order[i - 1] : i - 1) * m;
          int64_t k = 0;
          while (k < m && load1(a + k) == load1(b + k)) ++k;
          sum += k < m;
        }
        run[i] = sum;
      }
      sums[begin / chunk] = sum;
    });
  });
  int64_t total = 0;
  for (int64_t c = 0; c < chunks; ++c) {
    int64_t sum = sums[c];
    sums[c] = total;
    total += sum;
  }
  parallel_for(n, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run[i] += sums[begin / chunk];
  });
  return total + 1;
}

// How many leading elements of the sorted row satisfy before(element).
template <class T, class Before>
inline int64_t partition_point(const T* row, const int64_t* sorter, int64_t n, const Before& before) {
  int64_t begin = 0;
  while (n > 0) {
    int64_t half = n / 2, at = begin + half;
    bool yes = before(load1(row + (sorter ? sorter[at] : at)));
    begin = yes ? at + 1 : begin;
    n = yes ? n - half - 1 : half;
  }
  return begin;
}

// The same for kTogether values at once: their searches halve in step, so that the waits for memory overlap.
constexpr int kTogether = 16;
template <class T, class Before>
inline void partition_points(const T* row, int64_t n, const compute_t<T>* values, int64_t* out, const Before& before) {
  int64_t begin[kTogether] = {};
  for (; n > 1; n -= n / 2)
    for (int k = 0; k < kTogether; ++k) begin[k] += before(load1(row + begin[k] + n / 2 - 1), values[k]) ? n / 2 : 0;
  for (int k = 0; k < kTogether; ++k) out[k] = begin[k] + (n > 0 && before(load1(row + begin[k]), values[k]));
}

template <class T, class Before>
void search_rows(const T* sorted, const int64_t* sorter, const T* x, int64_t* out, int64_t rows, int64_t n, int64_t m,
                 bool shared, const Before& before) {
  using C = compute_t<T>;
  parallel_for(rows * m, 1 << 11, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      const int64_t row = shared ? 0 : i / m * n;
      if (shared && !sorter && end - i >= kTogether) {
        C values[kTogether];
        for (int k = 0; k < kTogether; ++k) values[k] = load1(x + i + k);
        partition_points(sorted, n, values, out + i, before);
        i += kTogether;
        continue;
      }
      const C v = load1(x + i);
      out[i++] = partition_point(sorted + row, sorter ? sorter + row : nullptr, n, [&](C a) { return before(a, v); });
    }
  });
}

void search(DType dtype, const void* sorted, const int64_t* sorter, const void* x, int64_t* out, int64_t rows,
            int64_t n, int64_t m, bool shared, bool right) {
  dispatch_all(dtype, [&]<class T>() {
    using C = compute_t<T>;
    const T *from = static_cast<const T*>(sorted), *values = static_cast<const T*>(x);
    if (right)
      search_rows(from, sorter, values, out, rows, n, m, shared, [](C a, C v) { return !(a > v); });
    else
      search_rows(from, sorter, values, out, rows, n, m, shared, [](C a, C v) { return !(a >= v); });
  });
}

void contains(DType dtype, const void* sorted, int64_t n, const void* x, bool* out, int64_t m, bool invert) {
  dispatch_all(dtype, [&]<class T>() {
    using C = compute_t<T>;
    const T* row = static_cast<const T*>(sorted);
    parallel_for(m, 1 << 11, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const C v = load1(static_cast<const T*>(x) + i);
        const int64_t at = partition_point(row, nullptr, n, [&](C a) { return a < v; });
        out[i] = (at < n && load1(row + at) == v) != invert;
      }
    });
  });
}

}  // namespace

const SortKernels sort_kernels = {sort, topk, kth, mode, sort_rows, mark_runs, search, contains};

}  // namespace gg::GG_ISA
