// Sums and products of whole numbers that wrap around, as PyTorch's do: in C++ a signed overflow is undefined.
#pragma once
#include <stdint.h>

namespace gg::GG_ISA {
namespace {

template <class V> inline V wrapping_add(V a, V b) { return a + b; }
template <class V> inline V wrapping_multiply(V a, V b) { return a * b; }
inline int64_t wrapping_add(int64_t a, int64_t b) { return int64_t(uint64_t(a) + uint64_t(b)); }
inline int64_t wrapping_multiply(int64_t a, int64_t b) { return int64_t(uint64_t(a) * uint64_t(b)); }

}  // namespace
}  // namespace gg::GG_ISA
