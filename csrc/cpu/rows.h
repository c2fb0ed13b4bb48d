// Walking a dense row by vectors: whole ones, then one part of a vector. Passes are written once, over a Part that is
// either Whole (all lanes, known when compiling) or a count of lanes.
//
//     for_vectors<C>(n, [&](int64_t i, auto part) { store_part(y + i, exp(load_part(x + i, part)), part); });
//     C m = reduce_row<C>(n, -kInfinity, [&](int64_t i, auto part) { return load_part(x + i, part); }, Max{});
#pragma once
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

constexpr double kInfinity = __builtin_inf();

struct Whole {};

template <class T> inline Vec<compute_t<T>> load_part(const T* p, Whole) { return load(p); }
template <class T> inline Vec<compute_t<T>> load_part(const T* p, int64_t n) { return load_n(p, n); }
template <class T> inline void store_part(T* p, Vec<compute_t<T>> v, Whole) { store(p, v); }
template <class T> inline void store_part(T* p, Vec<compute_t<T>> v, int64_t n) { store_n(p, v, n); }
// v in the lanes that belong to the row, other in the rest.
template <class C> inline Vec<C> keep_part(Vec<C> v, C, Whole) { return v; }
template <class C> inline Vec<C> keep_part(Vec<C> v, C other, int64_t n) {
  using I = typename int_of<C>::type;
  return iota<I>() < splat(I(n)) ? v : splat(other);
}
template <class C> constexpr int64_t lanes_of(Whole) { return kLanes<C>; }
template <class C> constexpr int64_t lanes_of(int64_t n) { return n; }

template <class C, class F> inline void for_vectors(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) f(i, Whole{});
  if (i < n) f(i, n - i);
}

struct Plus {
  template <class V> V operator()(V a, V b) const { return a + b; }
};
struct Max {  // b where either is NaN, so an accumulator goes second
  template <class V> V operator()(V a, V b) const { return a > b ? a : b; }
};

// combine over the row of term(i, part), from four accumulators in a fixed order.
template <class C, class Term, class Combine> inline C reduce_row(int64_t n, C identity, Term&& term, Combine combine) {
  constexpr int64_t L = kLanes<C>;
  Vec<C> a = splat(identity), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    a = combine(term(i, Whole{}), a);
    b = combine(term(i + L, Whole{}), b);
    c = combine(term(i + 2 * L, Whole{}), c);
    d = combine(term(i + 3 * L, Whole{}), d);
  }
  for (; i + L <= n; i += L) a = combine(term(i, Whole{}), a);
  if (i < n) b = combine(keep_part(term(i, n - i), identity, n - i), b);
  return reduce_lanes<C>(combine(combine(a, b), combine(c, d)), combine);
}
template <class C, class Term> inline C sum_row(int64_t n, Term&& term) { return reduce_row<C>(n, C(0), term, Plus{}); }

}  // namespace
}  // namespace gg::GG_ISA
