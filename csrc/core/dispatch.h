// The dtype switch: calls f.template operator()<T>() with the element type that a dtype names. Kernel files include it;
// f is a lambda of the caller's anonymous namespace, so each instance stays in that file. (constexpr: device code may
// call them too.)
//
//     dispatch_floating(dtype, [&]<class T>() { softmax_rows<T>(...); });
#pragma once
#include "core/dtype.h"

namespace gg {

template <class F> constexpr decltype(auto) dispatch_floating(DType t, F&& f) {
  switch (t) {
    case DType::Float16: return f.template operator()<float16>();
    case DType::BFloat16: return f.template operator()<bfloat16>();
    case DType::Float64: return f.template operator()<double>();
    default: return f.template operator()<float>();
  }
}

template <class F> constexpr decltype(auto) dispatch_all(DType t, F&& f) {
  switch (t) {
    case DType::Bool: return f.template operator()<bool>();
    case DType::UInt8: return f.template operator()<uint8_t>();
    case DType::Int8: return f.template operator()<int8_t>();
    case DType::Int16: return f.template operator()<int16_t>();
    case DType::Int32: return f.template operator()<int32_t>();
    case DType::Int64: return f.template operator()<int64_t>();
    default: return dispatch_floating(t, f);
  }
}

// For kernels that move elements and never look at them: the unsigned integer of the same size.
template <class F> constexpr decltype(auto) dispatch_size(int item_size, F&& f) {
  switch (item_size) {
    case 1: return f.template operator()<uint8_t>();
    case 2: return f.template operator()<uint16_t>();
    case 4: return f.template operator()<uint32_t>();
    default: return f.template operator()<uint64_t>();
  }
}

}  // namespace gg
