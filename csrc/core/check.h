// Errors a user can cause. Every front checks its operands with these before anything is allocated; a message names the
// op, the operands with shape and dtype, what clashes and what would fit.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

#include "core/array.h"

namespace gg {

// Each class becomes the Python exception of the same name; ShapeError is both a RuntimeError and a ValueError there.
struct ShapeError : std::runtime_error { using std::runtime_error::runtime_error; };
struct DTypeError : std::runtime_error {  // TypeError in Python
  using std::runtime_error::runtime_error;
};
struct IndexError : std::runtime_error { using std::runtime_error::runtime_error; };
struct ValueError : std::runtime_error { using std::runtime_error::runtime_error; };
struct OutOfMemory : std::runtime_error {  // MemoryError in Python
  using std::runtime_error::runtime_error;
};

std::string describe(const Dims& shape);  // (32, 784)
std::string describe(const Array& x);     // (32, 784) float32
std::string describe(Device device);      // cuda:0
inline std::string describe(DType t) { return name(t); }

// message("matmul: x ", x, " and y ", y, " ...") with arrays, shapes and dtypes described.
template <class... Parts> std::string message(const Parts&... parts) {
  std::ostringstream out;
  auto put = [&out](const auto& part) {
    if constexpr (requires { describe(part); })
      out << describe(part);
    else
      out << part;
  };
  (put(parts), ...);
  return out.str();
}

// check<ShapeError>(condition, "op: ", x, " ...") throws unless the condition holds.
template <class Error, class... Parts> void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    throw Error(message(parts...));
}

// The axis that dim means in an array of ndim axes (negative counts from the end); a 0-d array has one virtual axis.
int check_dim(const char* op, int64_t dim, int ndim);
// Sorted, distinct axes; an empty list means all of them.
Dims check_dims(const char* op, const Dims& dims, int ndim);
// Sizes that are not negative and whose product of bytes fits 63 bits.
void check_shape(const char* op, const Dims& shape, DType dtype);
void check_floating(const char* op, const char* operand, const Array& x);
void check_integral(const char* op, const char* operand, const Array& x);  // whole numbers, not bool
void check_ndim(const char* op, const char* operand, const Array& x, int ndim);
void check_same_dtype(const char* op, const char* a_name, const Array& a, const char* b_name, const Array& b);
void check_same_device(const char* op, const Array& a, const Array& b);
void check_same_shape(const char* op, const char* a_name, const Array& a, const char* b_name, const Array& b);

}  // namespace gg
