// A short list of sizes, strides or axes, stored inline.
#pragma once
#include <stdint.h>

#include <initializer_list>

namespace gg {

constexpr int kMaxDims = 16;

struct Dims {
  int n = 0;
  int64_t v[kMaxDims];

  Dims() {}
  Dims(std::initializer_list<int64_t> list) {
    for (int64_t x : list) v[n++] = x;
  }
  Dims(const Dims& other) { *this = other; }
  Dims& operator=(const Dims& other) {  // copies what is in use: most arrays have two axes of sixteen
    n = other.n;
    switch (n) {  // without the call that a loop would become
      case 4: v[3] = other.v[3]; [[fallthrough]];
      case 3: v[2] = other.v[2]; [[fallthrough]];
      case 2: v[1] = other.v[1]; [[fallthrough]];
      case 1: v[0] = other.v[0]; [[fallthrough]];
      case 0: break;
      default:
        for (int i = 0; i < n; ++i) v[i] = other.v[i];
    }
    return *this;
  }
  static Dims filled(int n, int64_t value) {
    Dims d;
    for (d.n = 0; d.n < n; ++d.n) d.v[d.n] = value;
    return d;
  }

  int64_t& operator[](int i) { return v[i]; }
  int64_t operator[](int i) const { return v[i]; }
  int64_t* begin() { return v; }
  int64_t* end() { return v + n; }
  const int64_t* begin() const { return v; }
  const int64_t* end() const { return v + n; }
  void push(int64_t x) { v[n++] = x; }
  void erase(int at) {
    for (int i = at; i + 1 < n; ++i) v[i] = v[i + 1];
    --n;
  }
  void insert(int at, int64_t x) {
    for (int i = n; i > at; --i) v[i] = v[i - 1];
    v[at] = x;
    ++n;
  }
  bool operator==(const Dims& other) const {
    if (n != other.n) return false;
    for (int i = 0; i < n; ++i)
      if (v[i] != other.v[i]) return false;
    return true;
  }
  bool operator!=(const Dims& other) const { return !(*this == other); }
};

inline int64_t product(const Dims& d) {
  int64_t p = 1;
  for (int64_t x : d) p *= x;
  return p;
}

}  // namespace gg
