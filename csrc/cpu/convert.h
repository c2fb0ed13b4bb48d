// Blocks of elements between any storage dtype and a compute type C (float, double, int64_t), with any stride.
//
// A kernel that serves all ten dtypes computes on short dense blocks of C: load_block and gather_block fill one,
// store_block and scatter_block empty it. Conversions are C's casts: floats to integers truncate, wide integers wrap,
// and anything but zero is true; 16-bit floats pass through float.
#pragma once
#include "core/dims.h"
#include "core/dispatch.h"
#include "cpu/vec.h"

namespace gg::GG_ISA {
namespace {

template <class To, class From> inline To convert1(From x) {
  if constexpr (sizeof(To) < sizeof(int64_t) && To(0.5f) == To(0) && From(0.5f) != From(0))
    return To(int32_t(x));  // what lies outside wraps, as in one conversion instruction
  else
    return To(x);
}

template <class T, class C> inline C load_as(const T* p) {
  if constexpr (sizeof(compute_t<T>) != sizeof(T))
    return convert1<C>(load1(p));
  else
    return convert1<C>(*p);
}
template <class T, class C> inline void store_as(T* p, C x) {
  if constexpr (sizeof(compute_t<T>) != sizeof(T))
    store1(p, float(x));
  else if constexpr (dtype_of<T>::value == DType::Bool)
    *p = x != 0;
  else
    *p = convert1<T>(x);
}

template <class T, class C> inline void load_run(const char* p, int64_t stride, C* out, int64_t n) {
  const T* x = reinterpret_cast<const T*>(p);
  if (stride == int64_t(sizeof(T))) {
    if constexpr (dtype_of<T>::value == dtype_of<C>::value) {
      memcpy(out, x, size_t(n) * sizeof(T));
    } else if constexpr (sizeof(compute_t<T>) != sizeof(T) && dtype_of<C>::value == DType::Float32) {
      int64_t i = 0;
      for (; i + kLanes<float> <= n; i += kLanes<float>) store(out + i, load(x + i));
      for (; i < n; ++i) out[i] = load1(x + i);
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = load_as<T, C>(x + i);
    }
  } else if (stride == 0) {
    const C value = load_as<T, C>(x);
    for (int64_t i = 0; i < n; ++i) out[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = load_as<T, C>(reinterpret_cast<const T*>(p + i * stride));
  }
}
template <class T, class C> inline void store_run(char* p, int64_t stride, const C* in, int64_t n) {
  T* y = reinterpret_cast<T*>(p);
  if (stride == int64_t(sizeof(T))) {
    if constexpr (dtype_of<T>::value == dtype_of<C>::value) {
      memcpy(y, in, size_t(n) * sizeof(T));
    } else if constexpr (sizeof(compute_t<T>) != sizeof(T) && dtype_of<C>::value == DType::Float32) {
      int64_t i = 0;
      for (; i + kLanes<float> <= n; i += kLanes<float>) store(y + i, load(in + i));
      for (; i < n; ++i) store1(y + i, in[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) store_as<T, C>(y + i, in[i]);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) store_as<T, C>(reinterpret_cast<T*>(p + i * stride), in[i]);
  }
}

// n elements, stride bytes apart.
template <class C> void load_block(DType t, const char* p, int64_t stride, C* out, int64_t n) {
  dispatch_all(t, [&]<class T>() { load_run<T, C>(p, stride, out, n); });
}
template <class C> void store_block(DType t, char* p, int64_t stride, const C* in, int64_t n) {
  dispatch_all(t, [&]<class T>() { store_run<T, C>(p, stride, in, n); });
}

// Calls f(byte offset, count) for each run along the innermost axis within elements [first, first + n) of a strided
// operand.
template <class F>
inline void for_each_run(int ndim, const int64_t* shape, const int64_t* stride, int64_t first, int64_t n, F f) {
  int64_t index[kMaxDims], offset = 0;
  for (int d = ndim - 1; d >= 0; --d) {
    index[d] = first % shape[d];
    first /= shape[d];
    offset += index[d] * stride[d];
  }
  const int last = ndim - 1;
  for (;;) {
    int64_t run = shape[last] - index[last] < n ? shape[last] - index[last] : n;
    f(offset, run);
    n -= run;
    if (n == 0) return;
    offset += run * stride[last];
    index[last] += run;
    for (int d = last; index[d] == shape[d]; --d) {
      offset += stride[d - 1] - shape[d] * stride[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

// Elements [first, first + n), n > 0, in row-major order of a strided operand (strides in bytes, axes outermost first).
template <class C>
void gather_block(DType t, const char* p, int ndim, const int64_t* shape, const int64_t* stride, int64_t first, C* out,
                  int64_t n) {
  dispatch_all(t, [&]<class T>() {
    for_each_run(ndim, shape, stride, first, n, [&](int64_t offset, int64_t run) {
      load_run<T, C>(p + offset, stride[ndim - 1], out, run);
      out += run;
    });
  });
}
template <class C>
void scatter_block(DType t, char* p, int ndim, const int64_t* shape, const int64_t* stride, int64_t first, const C* in,
                   int64_t n) {
  dispatch_all(t, [&]<class T>() {
    for_each_run(ndim, shape, stride, first, n, [&](int64_t offset, int64_t run) {
      store_run<T, C>(p + offset, stride[ndim - 1], in, run);
      in += run;
    });
  });
}

}  // namespace
}  // namespace gg::GG_ISA
