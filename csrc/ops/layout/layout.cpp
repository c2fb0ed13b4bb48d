#include "ops/layout/layout.h"

#include "core/check.h"
#include "core/make_loop.h"
#include "python/bind.h"

namespace gg {

void copy(const Array& out, const Array& in) {
  Dims shape;
  check<ShapeError>(broadcast_shapes(out.shape(), in.shape(), &shape) && shape == out.shape(), "copy: ", in,
                    " does not broadcast to the destination ", out);
  if (out.numel() == 0) return;
  Array source = overlaps(out, in) ? in.clone() : in;
  Array expanded = source.expand(out.shape());
  layout_kernels(out.device()).copy(make_loop<2>({&out, &expanded}));
}

void fill(const Array& out, const Array& value) {
  check<ShapeError>(value.numel() == 1, "fill: value ", value, " must be one number");
  if (out.numel() == 0) return;
  if (value.device() != Device{}) return copy(out, value.view({}, {}));
  alignas(8) char bits[8];
  Loop<2> convert{};
  convert.ndim = 1;
  convert.numel = convert.shape[0] = 1;
  convert.data[0] = bits;
  convert.data[1] = value.bytes();
  convert.dtype[0] = out.dtype();
  convert.dtype[1] = value.dtype();
  layout_kernels(Device{}).copy(convert);
  layout_kernels(out.device()).fill(make_loop<1>({&out}), bits);
}

void bind_layout(pybind11::module_&) {}

}  // namespace gg
