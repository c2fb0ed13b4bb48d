// Elements whose storage dtype is known at run time only, in the type C they are computed in.
//
// The switch goes one way in all threads of a launch, so it costs its few instructions and no divergence; what is
// compiled is one case per dtype instead of one kernel per pair of dtypes.
#pragma once
#include "cuda/number.h"

namespace gg::cuda {

// V elements, aligned to V * sizeof(T) or to 16 bytes where that is more, in as few accesses as there can be.
template <class C, class T, int V> __device__ inline void load_run(const T* p, C (&x)[V]) {
  constexpr int N = V < kPack<T> ? V : kPack<T>;
#pragma unroll
  for (int i = 0; i < V; i += N) {
    const Pack<T, N> pack = load_pack<N>(p + i);
#pragma unroll
    for (int j = 0; j < N; ++j) x[i + j] = from_element<C>(pack[j]);
  }
}
template <class T, class C, int V> __device__ inline void store_run(T* p, const C (&x)[V]) {
  constexpr int N = V < kPack<T> ? V : kPack<T>;
#pragma unroll
  for (int i = 0; i < V; i += N) {
    Pack<T, N> pack;
#pragma unroll
    for (int j = 0; j < N; ++j) pack[j] = to_element<T>(x[i + j]);
    store_pack<N>(p + i, pack);
  }
}
inline bool run_aligned(const void* p, DType t, int count) {
  const int bytes = count * item_size(t);
  return aligned(p, size_t(bytes < 16 ? bytes : 16));
}

template <class C, int V> __device__ inline void load_any(DType t, const void* p, C (&x)[V]) {
  dispatch_all(t, [&]<class T>() { load_run(static_cast<const T*>(p), x); });
}
template <class C, int V> __device__ inline void store_any(DType t, void* p, const C (&x)[V]) {
  dispatch_all(t, [&]<class T>() { store_run(static_cast<T*>(p), x); });
}

}  // namespace gg::cuda
