#include "ops/creation/creation.h"

#include <math.h>

#include <algorithm>

#include "core/check.h"
#include "ops/layout/layout.h"
#include "python/bind.h"

namespace gg {
namespace {

Array empty(const Dims& shape, DType dtype, std::optional<Device> device) {
  return Array::empty(shape, dtype, device.value_or(Device{}));
}

// op: whom a message should name.
Array full(const Dims& shape, const Operand& value, DType dtype, std::optional<Device> device,
           const std::optional<std::string>& op) {
  check_shape(op ? op->c_str() : "full", shape, dtype);
  Array out = Array::empty(shape, dtype, device.value_or(Device{}));
  fill(out, value.array);
  return out;
}

// The length of start, start + step, ... before end.
Array arange(double start, double end, double step, DType dtype, std::optional<Device> device) {
  check<ValueError>(step != 0, "arange: step must not be 0");
  check<ValueError>(isfinite(start) && isfinite(end) && isfinite(step), "arange: start ", start, ", end ", end,
                    " and step ", step, " must be finite");
  check<ValueError>((end - start) * step >= 0, "arange: from ", start, " to ", end, " by ", step,
                    " leads away from the end; the step's sign must be that of end - start");
  double n = ceil((end - start) / step);
  check<ValueError>(n < 0x1p62, "arange: from ", start, " to ", end, " by ", step, " has too many elements");
  Array out = Array::empty({int64_t(n)}, dtype, device.value_or(Device{}));
  if (is_floating(dtype))
    creation_kernels(out.device()).arange(dtype, out.bytes(), int64_t(n), start, step);
  else
    creation_kernels(out.device()).arange_int(dtype, out.bytes(), int64_t(n), int64_t(start), int64_t(step));
  return out;
}

Array arange_int(int64_t start, int64_t end, int64_t step, DType dtype, std::optional<Device> device) {
  check<ValueError>(step != 0, "arange: step must not be 0");
  check<ValueError>(start == end || (end > start) == (step > 0), "arange: from ", start, " to ", end, " by ", step,
                    " leads away from the end; the step's sign must be that of end - start");
  uint64_t distance = end > start ? uint64_t(end) - uint64_t(start) : uint64_t(start) - uint64_t(end);
  uint64_t stride = step > 0 ? uint64_t(step) : uint64_t(0) - uint64_t(step);
  uint64_t n = distance / stride + (distance % stride != 0);
  check<ValueError>(n < uint64_t(1) << 62, "arange: from ", start, " to ", end, " by ", step, " has too many elements");
  Array out = Array::empty({int64_t(n)}, dtype, device.value_or(Device{}));
  creation_kernels(out.device()).arange_int(dtype, out.bytes(), int64_t(n), start, step);
  return out;
}

Array linspace(double start, double end, int64_t steps, DType dtype, std::optional<Device> device) {
  check<ValueError>(steps >= 0, "linspace: steps ", steps, " must not be negative");
  Array out = Array::empty({steps}, dtype, device.value_or(Device{}));
  creation_kernels(out.device()).linspace(dtype, out.bytes(), steps, start, end);
  return out;
}

Array logspace(double start, double end, int64_t steps, double base, DType dtype, std::optional<Device> device) {
  check<ValueError>(steps >= 0, "logspace: steps ", steps, " must not be negative");
  Array out = Array::empty({steps}, dtype, device.value_or(Device{}));
  creation_kernels(out.device()).logspace(dtype, out.bytes(), steps, start, end, base);
  return out;
}

Array eye(int64_t n, std::optional<int64_t> m, DType dtype, std::optional<Device> device) {
  int64_t cols = m.value_or(n);
  check<ValueError>(n >= 0 && cols >= 0, "eye: n ", n, " and m ", cols, " must not be negative");
  Array out = Array::zeros({n, cols}, dtype, device.value_or(Device{}));
  fill(out.view({n < cols ? n : cols}, {cols + 1}), Array::scalar_int(1, dtype));
  return out;
}

Array triangle_indices(const std::string& op, int64_t rows, int64_t cols, int64_t offset, bool lower, DType dtype,
                       std::optional<Device> device) {
  check<ValueError>(rows >= 0 && cols >= 0, op, ": row ", rows, " and col ", cols, " must not be negative");
  check<DTypeError>(dtype == DType::Int64 || dtype == DType::Int32, op, ": dtype ", dtype, " must be int32 or int64");
  check<ShapeError>(cols == 0 || rows <= (int64_t(1) << 58) / cols, op, ": ", rows, " rows of ", cols,
                    " are more elements than memory can address");
  int64_t shift = offset < -rows ? -rows : offset > cols ? cols : offset;
  // Row i is cut at i + start, clamped to the columns: nothing before row `first`, all columns from row `full` on.
  int64_t start = shift + (lower ? 1 : 0), first = std::clamp<int64_t>(-start, 0, rows);
  int64_t full = std::clamp<int64_t>(cols - start, first, rows), ramp = full - first;
  int64_t below = ramp * (first + start) + ramp * (ramp - 1) / 2 + (rows - full) * cols;
  int64_t n = lower ? below : rows * cols - below;
  Array out = Array::empty({2, n}, DType::Int64, device.value_or(Device{}));
  if (n > 0) creation_kernels(out.device()).triangle_indices(out.data<int64_t>(), n, rows, cols, shift, lower);
  return out.to(dtype);
}

}  // namespace

void bind_creation(pybind11::module_& m) {
  python::def<&empty>(m, "empty", {"size", "dtype", "device"});
  python::def<&full>(m, "full", {"size", "fill_value", "dtype", "device", "op"});
  python::def<&arange>(m, "arange", {"start", "end", "step", "dtype", "device"});
  python::def<&arange_int>(m, "arange_int", {"start", "end", "step", "dtype", "device"});
  python::def<&linspace>(m, "linspace", {"start", "end", "steps", "dtype", "device"});
  python::def<&logspace>(m, "logspace", {"start", "end", "steps", "base", "dtype", "device"});
  python::def<&triangle_indices>(m, "triangle_indices", {"op", "row", "col", "offset", "lower", "dtype", "device"});
  python::def<&eye>(m, "eye", {"n", "m", "dtype", "device"});
}

}  // namespace gg
