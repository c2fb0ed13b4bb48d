// Row by row: for one tap the columns of a row of windows are a strided stretch of one row of the image.
#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/phases.h"
#include "cpu/scratch.h"
#include "ops/conv/fold.h"

namespace gg::GG_ISA {
namespace {

// Windows [begin, end) of an axis for which tap t lies inside the image.
struct Span {
  int64_t begin, end, start;  // start: where window 0 reads
  Span(const FoldShape& s, int axis, int64_t t) {
    start = t * s.dilation[axis] - s.pad[axis];
    begin = smaller(s.out[axis], larger(0, ceil_div(-start, s.stride[axis])));
    end = smaller(s.out[axis], larger(begin, ceil_div(s.in[axis] - start, s.stride[axis])));
  }
};

template <class T> void unfold_plane(const FoldShape& s, const T* x, T* columns) {
  for (int64_t r = 0; r < s.kernel[0]; ++r) {
    const Span rows(s, 0, r);
    for (int64_t c = 0; c < s.kernel[1]; ++c) {
      const Span span(s, 1, c);
      for (int64_t i = 0; i < s.out[0]; ++i, columns += s.out[1]) {
        const bool inside = i >= rows.begin && i < rows.end && span.begin < span.end;
        if (!inside) {
          memset(columns, 0, size_t(s.out[1]) * sizeof(T));
          continue;
        }
        const T* row = x + (i * s.stride[0] + rows.start) * s.in[1] + span.start;
        memset(columns, 0, size_t(span.begin) * sizeof(T));
        memset(columns + span.end, 0, size_t(s.out[1] - span.end) * sizeof(T));
        const int64_t stride = s.stride[1];
        if (stride == 1)
          memcpy(columns + span.begin, row + span.begin, size_t(span.end - span.begin) * sizeof(T));
        else
          for (int64_t j = span.begin; j < span.end; ++j) columns[j] = row[j * stride];
      }
    }
  }
}

void unfold_forward(DType t, const FoldShape& s, const void* x, void* columns) {
  dispatch_size(item_size(t), [&]<class T>() {
    const int64_t image = s.in[0] * s.in[1], column = s.kernel[0] * s.kernel[1] * s.out[0] * s.out[1];
    parallel_for(s.planes, ceil_div(65536, column + 1), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        unfold_plane(s, static_cast<const T*>(x) + p * image, static_cast<T*>(columns) + p * column);
    });
  });
}

// Each plane sums its taps in order, in the compute type.
template <class T> void fold_plane(const FoldShape& s, const T* columns, compute_t<T>* sum, T* x) {
  using C = compute_t<T>;
  const int64_t image = s.in[0] * s.in[1];
  fill(sum, C(0), image);
  for (int64_t r = 0; r < s.kernel[0]; ++r) {
    const Span rows(s, 0, r);
    for (int64_t c = 0; c < s.kernel[1]; ++c, columns += s.out[0] * s.out[1]) {
      const Span span(s, 1, c);
      const int64_t stride = s.stride[1];
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        C* row = sum + (i * s.stride[0] + rows.start) * s.in[1] + span.start;
        const T* from = columns + i * s.out[1];
        if (stride == 1)
          for (int64_t j = span.begin; j < span.end; ++j) row[j] += load1(from + j);
        else
          for (int64_t j = span.begin; j < span.end; ++j) row[j * stride] += load1(from + j);
      }
    }
  }
  for (int64_t i = 0; i < image; ++i) store1(x + i, sum[i]);
}

void fold_forward(DType t, const FoldShape& s, const void* columns, void* x) {
  dispatch_floating(t, [&]<class T>() {
    const int64_t image = s.in[0] * s.in[1], column = s.kernel[0] * s.kernel[1] * s.out[0] * s.out[1];
    parallel_for(s.planes, ceil_div(65536, column + 1), [&](int64_t begin, int64_t end) {
      Scratch<compute_t<T>> sum(image);
      for (int64_t p = begin; p < end; ++p)
        fold_plane(s, static_cast<const T*>(columns) + p * column, sum.data(), static_cast<T*>(x) + p * image);
    });
  });
}

}  // namespace

const FoldKernels fold_kernels = {unfold_forward, fold_forward};

}  // namespace gg::GG_ISA
