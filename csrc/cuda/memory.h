// Device memory for kernel files: scratch from the caching allocator, small copies, in the order of the launches.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace gg::cuda {

void* scratch_allocate(size_t bytes);  // 256-byte aligned; throws OutOfMemory
void scratch_release(void* data, size_t bytes);
void copy_in(void* device, const void* host, size_t bytes);   // host may change when it returns
void copy_out(void* host, const void* device, size_t bytes);  // waits for everything before it
void zero(void* device, size_t bytes);
// Multiprocessors of the device in use: how many blocks run at once is a small multiple of it.
int multiprocessors();
// 10 times the compute capability of the device in use: 75, 80, 86, 90, ... Kernels for newer hardware ask first.
int architecture();
// While a graph is captured: the generator's key and how far it has moved since, as each replay finds them. Else null.
const uint64_t* replay_words();
// Bytes of shared memory that one block can have there.
size_t shared_limit();

// n elements of device memory that live as long as the launches before the end of its scope.
template <class T> class Scratch {
 public:
  explicit Scratch(int64_t n) : bytes_(size_t(n) * sizeof(T)) {
    if (bytes_) data_ = static_cast<T*>(scratch_allocate(bytes_));
  }
  ~Scratch() {
    if (bytes_) scratch_release(data_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  operator T*() { return data_; }
  T* get() { return data_; }

 private:
  size_t bytes_;
  T* data_ = nullptr;
};

// One element, for a front that must know it: waits for everything before it.
template <class T> T read(const T* device) {
  T value;
  copy_out(&value, device, sizeof(T));
  return value;
}

}  // namespace gg::cuda
