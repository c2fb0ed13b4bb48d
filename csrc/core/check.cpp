#include "core/check.h"

namespace gg {

std::string describe(const Dims& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.n; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.n == 1 ? ",)" : ")");
}

std::string describe(const Array& x) { return describe(x.shape()) + " " + name(x.dtype()); }

std::string describe(Device device) {
  return name(device.type) + (device.type == DeviceType::Cuda ? ":" + std::to_string(device.index) : "");
}

int check_dim(const char* op, int64_t dim, int ndim) {
  int64_t axes = ndim == 0 ? 1 : ndim;
  check<IndexError>(dim >= -axes && dim < axes, op, ": dim ", dim, " is out of range for ", ndim,
                    " axes; it must be in [", -axes, ", ", axes - 1, "]");
  return int(dim < 0 ? dim + axes : dim);
}

Dims check_dims(const char* op, const Dims& dims, int ndim) {
  bool wanted[kMaxDims] = {};
  Dims out;
  if (dims.n == 0) {
    for (int i = 0; i < ndim; ++i) out.push(i);
    return out;
  }
  for (int64_t dim : dims) {
    int d = check_dim(op, dim, ndim);
    check<ValueError>(!wanted[d], op, ": dim ", d, " appears more than once in dims ", dims);
    wanted[d] = true;
  }
  for (int i = 0; i < ndim; ++i)
    if (wanted[i]) out.push(i);
  return out;
}

void check_shape(const char* op, const Dims& shape, DType dtype) {
  int64_t bytes = item_size(dtype);
  bool empty = false;
  for (int64_t size : shape) {
    check<ValueError>(size >= 0, op, ": shape ", shape, " has a negative size");
    empty |= size == 0;
  }
  if (empty) return;
  for (int64_t size : shape)
    check<ValueError>(!__builtin_mul_overflow(bytes, size, &bytes), op, ": shape ", shape, " ", dtype,
                      " is more bytes than 64 bits can count");
}

void check_floating(const char* op, const char* operand, const Array& x) {
  check<DTypeError>(is_floating(x.dtype()), op, ": ", operand, " ", x,
                    " must be floating point; convert it with .float()");
}

void check_integral(const char* op, const char* operand, const Array& x) {
  check<DTypeError>(is_integral(x.dtype()), op, ": ", operand, " ", x,
                    " must be of an integer type; convert it with .long()");
}

void check_ndim(const char* op, const char* operand, const Array& x, int ndim) {
  check<ShapeError>(x.ndim() == ndim, op, ": ", operand, " ", x, " has ", x.ndim(), " axes; ", ndim, " are needed");
}

void check_same_dtype(const char* op, const char* a_name, const Array& a, const char* b_name, const Array& b) {
  check<DTypeError>(a.dtype() == b.dtype(), op, ": ", a_name, " ", a, " and ", b_name, " ", b, ": the dtypes differ");
}

void check_same_device(const char* op, const Array& a, const Array& b) {
  check<ValueError>(a.device() == b.device(), op, ": operands ", a, " on ", a.device(), " and ", b, " on ", b.device(),
                    ": move one with .to(device)");
}

void check_same_shape(const char* op, const char* a_name, const Array& a, const char* b_name, const Array& b) {
  check<ShapeError>(a.shape() == b.shape(), op, ": ", a_name, " ", a, " and ", b_name, " ", b, ": the shapes differ");
}

}  // namespace gg
