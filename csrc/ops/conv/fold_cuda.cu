// CUDA kernels of fold.h: a thread gathers an element of the columns, or for an element of the image all taps that
// wrote it, in their order.
#include "ops/conv/fold.h"

#include "core/dispatch.h"
#include "cuda/launch.h"
#include "cuda/number.h"
#include "cuda/offsets.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;

// columns: planes * kh of three axes (kw, oh, ow).
template <class U>
__global__ void unfold_forward_kernel(const __grid_constant__ FoldShape s, const U* __restrict__ x,
                                      U* __restrict__ columns, int64_t n, const __grid_constant__ Planes at,
                                      Split kernel_rows) {
  for (int64_t e = first_item(); e < n; e += item_step()) {
    int64_t place[3];
    const int64_t row = at.at(e, place), plane = kernel_rows.quotient(row), r = row - plane * s.kernel[0];
    const int64_t h = place[1] * s.stride[0] + r * s.dilation[0] - s.pad[0],
                  w = place[2] * s.stride[1] + place[0] * s.dilation[1] - s.pad[1];
    const bool inside = h >= 0 && h < s.in[0] && w >= 0 && w < s.in[1];
    columns[e] = inside ? x[(plane * s.in[0] + h) * s.in[1] + w] : U(0);
  }
}

void unfold_forward(DType t, const FoldShape& s, const void* x, void* columns) {
  const int64_t size[3] = {s.kernel[1], s.out[0], s.out[1]}, lines = s.planes * s.kernel[0];
  const int64_t n = lines * size[0] * size[1] * size[2];
  dispatch_size(item_size(t), [&]<class U>() {
    launch(unfold_forward_kernel<U>, grid_for(n, kThreads), kThreads, 0, s, static_cast<const U*>(x),
           static_cast<U*>(columns), n, Planes(lines, size), Split(s.kernel[0], lines));
  });
}

// The window whose tap at this distance is there, or -1.
__device__ inline int64_t window_at(int64_t place, const Split& stride, int64_t windows) {
  if (place < 0) return -1;
  const int64_t o = stride.quotient(place);
  return o < windows && o * stride.d == place ? o : -1;
}

template <class T>
__global__ void fold_forward_kernel(const __grid_constant__ FoldShape s, const T* __restrict__ columns,
                                    T* __restrict__ x, int64_t n, const __grid_constant__ Planes at, Split stride_h,
                                    Split stride_w) {
  const int64_t windows = s.out[0] * s.out[1];
  for (int64_t e = first_item(); e < n; e += item_step()) {
    int64_t place[3];
    const int64_t plane = at.at(e, place);
    compute_t<T> sum = 0;
    for (int64_t r = 0; r < s.kernel[0]; ++r) {
      const int64_t i = window_at(place[1] + s.pad[0] - r * s.dilation[0], stride_h, s.out[0]);
      if (i < 0) continue;
      for (int64_t c = 0; c < s.kernel[1]; ++c) {
        const int64_t j = window_at(place[2] + s.pad[1] - c * s.dilation[1], stride_w, s.out[1]);
        if (j >= 0) sum += load(columns + ((plane * s.kernel[0] + r) * s.kernel[1] + c) * windows + i * s.out[1] + j);
      }
    }
    store(x + e, sum);
  }
}

void fold_forward(DType t, const FoldShape& s, const void* columns, void* x) {
  const int64_t size[3] = {1, s.in[0], s.in[1]}, n = s.planes * s.in[0] * s.in[1];
  dispatch_floating(t, [&]<class T>() {
    launch(fold_forward_kernel<T>, grid_for(n, kThreads), kThreads, 0, s, static_cast<const T*>(columns),
           static_cast<T*>(x), n, Planes(s.planes, size), Split(s.stride[0], s.in[0] + s.pad[0]),
           Split(s.stride[1], s.in[1] + s.pad[1]));
  });
}

}  // namespace

const FoldKernels fold_kernels = {unfold_forward, fold_forward};

}  // namespace gg::cuda
