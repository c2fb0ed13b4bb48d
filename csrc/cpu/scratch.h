// Scratch memory of a kernel, from the caching allocator, given back when it goes out of scope.
#pragma once
#include "core/parallel.h"

namespace gg::GG_ISA {
namespace {

template <class T> class Scratch {
 public:
  explicit Scratch(int64_t n) : bytes_(n * int64_t(sizeof(T))), data_(static_cast<T*>(scratch_allocate(bytes_))) {}
  ~Scratch() { scratch_release(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  int64_t bytes_;
  T* data_;
};

}  // namespace
}  // namespace gg::GG_ISA
