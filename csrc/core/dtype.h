// The ten element types, their sizes, classes and PyTorch's promotion lattice.
#pragma once
#include <stdint.h>
#include <string.h>

namespace gg {

enum class DType : uint8_t { Bool, UInt8, Int8, Int16, Int32, Int64, Float16, BFloat16, Float32, Float64 };
constexpr int kDTypes = 10;

// 16-bit floats are storage only: arithmetic happens in float32 and rounds once, to nearest even, on the way back.
struct float16 { uint16_t bits; };
struct bfloat16 { uint16_t bits; };

inline constexpr int kItemSize[kDTypes] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
inline constexpr const char* kDTypeName[kDTypes] = {"bool",  "uint8",   "int8",     "int16",   "int32",
                                                    "int64", "float16", "bfloat16", "float32", "float64"};

constexpr int item_size(DType t) { return kItemSize[int(t)]; }
constexpr const char* name(DType t) { return kDTypeName[int(t)]; }
constexpr bool is_floating(DType t) { return t >= DType::Float16; }
constexpr bool is_integral(DType t) { return t >= DType::UInt8 && t <= DType::Int64; }
constexpr bool is_half(DType t) { return t == DType::Float16 || t == DType::BFloat16; }

// What a Python float becomes, and what functions with fractions make of integers; set by set_default_dtype.
inline DType default_dtype = DType::Float32;

// The type in which an element of type t is computed with: 16-bit floats in float32, everything whole in int64.
constexpr DType compute_type(DType t) {
  if (t == DType::Float64) return t;
  return is_floating(t) ? DType::Float32 : DType::Int64;
}

// torch.promote_types: the smallest type of the lattice that holds both; float16 with bfloat16 gives float32, and
// uint8 with a signed type gives the next wider signed type.
constexpr DType promote(DType a, DType b) {
  if (a == b) return a;
  if (a > b) {
    DType t = a;
    a = b;
    b = t;
  }
  if (is_floating(b)) return is_floating(a) && is_half(a) && is_half(b) ? DType::Float32 : b;
  if (a == DType::UInt8 && b == DType::Int8) return DType::Int16;
  return b;
}

template <class T> struct dtype_of;
template <> struct dtype_of<bool> { static constexpr DType value = DType::Bool; };
template <> struct dtype_of<uint8_t> { static constexpr DType value = DType::UInt8; };
template <> struct dtype_of<int8_t> { static constexpr DType value = DType::Int8; };
template <> struct dtype_of<int16_t> { static constexpr DType value = DType::Int16; };
template <> struct dtype_of<int32_t> { static constexpr DType value = DType::Int32; };
template <> struct dtype_of<int64_t> { static constexpr DType value = DType::Int64; };
template <> struct dtype_of<float16> { static constexpr DType value = DType::Float16; };
template <> struct dtype_of<bfloat16> { static constexpr DType value = DType::BFloat16; };
template <> struct dtype_of<float> { static constexpr DType value = DType::Float32; };
template <> struct dtype_of<double> { static constexpr DType value = DType::Float64; };

}  // namespace gg
