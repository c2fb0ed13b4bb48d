// Builds a Loop from arrays that have been expanded to one shape.
#pragma once
#include <utility>

#include "core/array.h"
#include "core/loop.h"

namespace gg {

template <int N> Loop<N> make_loop(const Array* const (&operands)[N]) {
  Loop<N> loop;
  const Array& out = *operands[0];
  loop.numel = out.numel();
  for (int k = 0; k < N; ++k) {
    loop.data[k] = operands[k]->bytes();
    loop.dtype[k] = operands[k]->dtype();
  }
  int order[kMaxDims], n = 0;
  for (int i = 0; i < out.ndim(); ++i)
    if (out.size(i) != 1) order[n++] = i;
  for (int i = 1; i < n; ++i)  // insertion sort: outermost is the output's largest stride, equal ones keep their order
    for (int j = i; j > 0 && out.strides()[order[j]] > out.strides()[order[j - 1]]; --j)
      std::swap(order[j], order[j - 1]);
  loop.ndim = 0;
  for (int i = 0; i < n; ++i) {
    int64_t size = out.size(order[i]);
    int64_t stride[N];
    for (int k = 0; k < N; ++k) stride[k] = operands[k]->strides()[order[i]] * item_size(loop.dtype[k]);
    bool merges = loop.ndim > 0;
    for (int k = 0; k < N && merges; ++k) merges = loop.stride[k][loop.ndim - 1] == stride[k] * size;
    int at = merges ? loop.ndim - 1 : loop.ndim++;
    loop.shape[at] = merges ? loop.shape[at] * size : size;
    for (int k = 0; k < N; ++k) loop.stride[k][at] = stride[k];
  }
  if (loop.ndim == 0) {
    loop.ndim = 1;
    loop.shape[0] = loop.numel;
    for (int k = 0; k < N; ++k) loop.stride[k][0] = 0;
  }
  return loop;
}

}  // namespace gg
