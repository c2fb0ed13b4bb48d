// A matrix in memory.
#pragma once
#include <stdint.h>

namespace gg::GG_ISA {
namespace {

// Element (i, j) lies at data[i * row + j * col].
template <class T> struct Matrix {
  T* data = nullptr;
  int64_t row = 0, col = 0;
  T* at(int64_t i, int64_t j) const { return data + i * row + j * col; }
  Matrix block(int64_t i, int64_t j) const { return {at(i, j), row, col}; }
  Matrix transposed() const { return {data, col, row}; }
};

}  // namespace
}  // namespace gg::GG_ISA
