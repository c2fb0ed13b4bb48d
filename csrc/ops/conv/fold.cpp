// Fronts of unfold and fold: x (N, C, H, W), columns (N, C*kh*kw, L).
#include "ops/conv/fold.h"

#include "core/array.h"
#include "core/check.h"
#include "ops/conv/attributes.h"
#include "python/bind.h"

namespace gg {
namespace {

FoldShape fold_shape(const char* op, const Dims& in, const Dims& kernel, const Dims& dilation, const Dims& padding,
                     const Dims& stride) {
  const Dims k = per_axis(op, "kernel_size", kernel, 2, 1), d = per_axis(op, "dilation", dilation, 2, 1),
             p = per_axis(op, "padding", padding, 2, 0), t = per_axis(op, "stride", stride, 2, 1);
  FoldShape s;
  for (int i = 0; i < 2; ++i) {
    s.in[i] = in[i];
    s.kernel[i] = k[i];
    s.stride[i] = t[i];
    s.pad[i] = p[i];
    s.dilation[i] = d[i];
    const int64_t room = in[i] + 2 * p[i] - d[i] * (k[i] - 1) - 1;
    check<ShapeError>(room >= 0, op, ": images of size ", in, " padded by ", padding, " are smaller than kernel_size ",
                      kernel, " with dilation ", dilation);
    s.out[i] = room / t[i] + 1;
  }
  return s;
}

}  // namespace

Array unfold_forward(const Array& x, const Dims& kernel, const Dims& dilation, const Dims& padding,
                     const Dims& stride) {
  check<ShapeError>(x.ndim() == 4, "unfold: input ", x, " needs the axes (N, C, H, W) or (C, H, W)");
  FoldShape s = fold_shape("unfold", {x.size(2), x.size(3)}, kernel, dilation, padding, stride);
  s.planes = x.size(0) * x.size(1);
  const Dims shape{x.size(0), x.size(1) * s.kernel[0] * s.kernel[1], s.out[0] * s.out[1]};
  check_shape("unfold", shape, x.dtype());
  Array y = Array::empty(shape, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const Array xc = x.contiguous();
  fold_kernels(x.device()).unfold_forward(x.dtype(), s, xc.bytes(), y.bytes());
  return y;
}

Array fold_forward(const Array& columns, const Dims& output_size, const Dims& kernel, const Dims& dilation,
                   const Dims& padding, const Dims& stride) {
  check_floating("fold", "input", columns);
  check<ShapeError>(columns.ndim() == 3, "fold: input ", columns, " needs the axes (N, C*kh*kw, L) or (C*kh*kw, L)");
  const Dims size = per_axis("fold", "output_size", output_size, 2, 1);
  FoldShape s = fold_shape("fold", size, kernel, dilation, padding, stride);
  const int64_t taps = s.kernel[0] * s.kernel[1], blocks = s.out[0] * s.out[1];
  check<ShapeError>(columns.size(1) % taps == 0, "fold: input ", columns, ": ", columns.size(1),
                    " channels are no multiple of the ", taps, " elements of kernel_size ", kernel);
  check<ShapeError>(columns.size(2) == blocks, "fold: input ", columns, " and output_size ", size, ": ",
                    columns.size(2), " blocks, these sizes make ", blocks);
  s.planes = columns.size(0) * (columns.size(1) / taps);
  const Dims shape{columns.size(0), columns.size(1) / taps, size[0], size[1]};
  check_shape("fold", shape, columns.dtype());
  Array x = Array::empty(shape, columns.dtype(), columns.device());
  if (x.numel() == 0) return x;
  const Array dense = columns.contiguous();
  fold_kernels(x.device()).fold_forward(x.dtype(), s, dense.bytes(), x.bytes());
  return x;
}

void bind_fold(pybind11::module_& m) {
  python::def<&unfold_forward>(m, "unfold_forward", {"input", "kernel_size", "dilation", "padding", "stride"});
  python::def<&fold_forward>(m, "fold_forward",
                             {"input", "output_size", "kernel_size", "dilation", "padding", "stride"});
}

}  // namespace gg
