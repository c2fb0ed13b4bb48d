// Array: strided numbers on a device. It knows no gradient; every kernel and front speaks Arrays.
//
// An array is a view of a refcounted storage: element (i, j, ...) lies at data + (i*strides[0] + j*strides[1] + ...)
// items. Copying an Array shares the storage. A stride of 0 repeats an element (broadcasting); negative strides do not
// occur.
#pragma once
#include <stddef.h>

#include <atomic>

#include "core/device.h"
#include "core/dims.h"
#include "core/dtype.h"

namespace gg {

struct Storage {
  std::atomic<int> refs{1};
  std::atomic<uint32_t> version{0};  // counts in-place changes; a saved value checks it before backward reads it
  Device device;
  void* data = nullptr;
  size_t bytes = 0;
  void (*release)(Storage*) = nullptr;  // gives data back; null for the CPU's caching allocator
  void* owner = nullptr;                // for release: whoever owns foreign memory, null for our own
};

class Array {
 public:
  Array() = default;
  Array(const Array& o)
      : storage_(o.storage_), data_(o.data_), dtype_(o.dtype_), weak_(o.weak_), shape_(o.shape_), strides_(o.strides_) {
    if (storage_) storage_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  Array(Array&& o) noexcept
      : storage_(o.storage_), data_(o.data_), dtype_(o.dtype_), weak_(o.weak_), shape_(o.shape_), strides_(o.strides_) {
    o.storage_ = nullptr;
  }
  Array& operator=(const Array& other);
  Array& operator=(Array&& other) noexcept;
  ~Array() {
    if (storage_) drop(storage_);
  }

  static Array empty(const Dims& shape, DType dtype, Device device = {});  // dense, row-major, not initialised
  static Array zeros(const Dims& shape, DType dtype, Device device = {});
  static Array scalar(double value, DType dtype, Device device = {});  // 0-d
  static Array scalar_int(int64_t value, DType dtype, Device device = {});
  // Adopts a storage whose count already includes this array.
  static Array adopt(Storage* storage, void* data, const Dims& shape, const Dims& strides, DType dtype);

  bool defined() const { return storage_ != nullptr; }
  const Dims& shape() const { return shape_; }
  const Dims& strides() const { return strides_; }  // in items
  int ndim() const { return shape_.n; }
  int64_t size(int dim) const { return shape_[dim]; }
  int64_t numel() const { return product(shape_); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_->device; }
  Storage* storage() const { return storage_; }
  bool is_contiguous() const;
  // A Python number: it takes part in promotion by its kind (bool, int, float) only.
  bool weak() const { return weak_; }
  void set_weak(bool weak) { weak_ = weak; }

  char* bytes() const { return static_cast<char*>(data_); }
  template <class T> T* data() const { return static_cast<T*>(data_); }

  // Views: new shape and strides over the same storage, offset in items from this array's first element.
  Array view(const Dims& shape, const Dims& strides, int64_t offset = 0) const;
  Array transpose(int a, int b) const;
  Array expand(const Dims& shape) const;                  // broadcasts; the caller has checked that it fits
  bool can_view(const Dims& shape, Dims* strides) const;  // whether a reshape needs no copy
  Array reshaped(const Dims& shape) const;                // a view where possible, else a dense copy
  // Dense row-major: itself if it is already, else a copy (csrc/ops/layout).
  Array contiguous() const;
  Array to(DType dtype) const;  // itself if it has that dtype already, else a dense converted copy
  Array clone() const;
  Array to_device(Device device) const;  // itself if it is there already, else a dense copy there
  // An operand of kernels on that device: a 0-d array of the CPU is written there by a launch that takes its value, any
  // other is itself.
  Array beside(Device device) const;
  double item() const;  // the only element, as a double; waits for its device
  int64_t item_int() const;
  int64_t item_int(int64_t i) const;  // element i of a dense array

 private:
  static void drop(Storage* storage);

  Storage* storage_ = nullptr;
  void* data_ = nullptr;
  DType dtype_ = DType::Float32;
  bool weak_ = false;
  Dims shape_, strides_;
};

Dims contiguous_strides(const Dims& shape);

// Called by every front that changes an array in place: what the graph saved of it is now out of date.
inline void bump_version(const Array& a) { a.storage()->version.fetch_add(1, std::memory_order_relaxed); }

// Broadcasting as numpy's: trailing axes align, a size of 1 stretches.
bool broadcast_shapes(const Dims& a, const Dims& b, Dims* out);

// Whether two arrays share bytes in a way that makes writing one while reading the other wrong.
bool overlaps(const Array& a, const Array& b);

}  // namespace gg
