#include "core/array.h"

#include "core/allocator.h"
#include "core/backend.h"
#include "core/check.h"
#include "ops/layout/layout.h"

namespace gg {
void Array::drop(Storage* s) {
  // Who holds the only reference needs no atomic subtraction: nobody else is there to take another one.
  if (s->refs.load(std::memory_order_acquire) != 1 && s->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (s->release)
    s->release(s);
  else
    cpu_release(s->data, s->bytes);
  delete s;
}

Array& Array::operator=(const Array& o) {
  if (o.storage_) o.storage_->refs.fetch_add(1, std::memory_order_relaxed);
  if (storage_) drop(storage_);
  storage_ = o.storage_;
  data_ = o.data_;
  dtype_ = o.dtype_;
  weak_ = o.weak_;
  shape_ = o.shape_;
  strides_ = o.strides_;
  return *this;
}

Array& Array::operator=(Array&& o) noexcept {
  if (this == &o) return *this;
  if (storage_) drop(storage_);
  storage_ = o.storage_;
  o.storage_ = nullptr;
  data_ = o.data_;
  dtype_ = o.dtype_;
  weak_ = o.weak_;
  shape_ = o.shape_;
  strides_ = o.strides_;
  return *this;
}

Dims contiguous_strides(const Dims& shape) {
  Dims strides = Dims::filled(shape.n, 1);
  for (int i = shape.n - 2; i >= 0; --i) strides[i] = strides[i + 1] * (shape[i + 1] > 0 ? shape[i + 1] : 1);
  return strides;
}

Array Array::empty(const Dims& shape, DType dtype, Device device) {
  check_shape("empty", shape, dtype);
  Array a;
  size_t bytes = size_t(product(shape)) * item_size(dtype);
  a.storage_ = new Storage;
  a.storage_->device = device;
  a.storage_->bytes = bytes;
  try {
    if (device.type == DeviceType::Cpu) {
      a.storage_->data = cpu_allocate(bytes);
    } else {
      a.storage_->data = backend(device).allocate(bytes);
      a.storage_->release = release_on_device;
    }
  } catch (...) {
    delete a.storage_;
    a.storage_ = nullptr;
    throw;
  }
  a.data_ = a.storage_->data;
  a.dtype_ = dtype;
  a.shape_ = shape;
  a.strides_ = contiguous_strides(shape);
  return a;
}

Array Array::zeros(const Dims& shape, DType dtype, Device device) {
  Array a = empty(shape, dtype, device);
  fill(a, Array::scalar_int(0, dtype));
  return a;
}

Array Array::scalar(double value, DType dtype, Device device) {
  Array a = empty({}, DType::Float64);
  *a.data<double>() = value;
  a = a.to(dtype);
  return device.type == DeviceType::Cpu ? a : a.beside(device);
}

Array Array::scalar_int(int64_t value, DType dtype, Device device) {
  Array a = empty({}, DType::Int64);
  *a.data<int64_t>() = value;
  a = a.to(dtype);
  return device.type == DeviceType::Cpu ? a : a.beside(device);
}

Array Array::adopt(Storage* storage, void* data, const Dims& shape, const Dims& strides, DType dtype) {
  Array a;
  a.storage_ = storage;
  a.data_ = data;
  a.dtype_ = dtype;
  a.shape_ = shape;
  a.strides_ = strides;
  return a;
}

bool Array::is_contiguous() const {
  int64_t expected = 1;
  for (int i = shape_.n - 1; i >= 0; --i) {
    if (shape_[i] == 0) return true;
    if (shape_[i] != 1) {
      if (strides_[i] != expected) return false;
      expected *= shape_[i];
    }
  }
  return true;
}

Array Array::view(const Dims& shape, const Dims& strides, int64_t offset) const {
  Array a(*this);
  a.weak_ = false;
  a.data_ = bytes() + offset * item_size(dtype_);
  a.shape_ = shape;
  a.strides_ = strides;
  return a;
}

Array Array::transpose(int a, int b) const {
  Dims shape = shape_, strides = strides_;
  shape[a] = shape_[b];
  shape[b] = shape_[a];
  strides[a] = strides_[b];
  strides[b] = strides_[a];
  return view(shape, strides);
}

Array Array::expand(const Dims& shape) const {
  Dims strides = Dims::filled(shape.n, 0);
  int lead = shape.n - shape_.n;
  for (int i = 0; i < shape_.n; ++i)
    if (shape_[i] == shape[lead + i]) strides[lead + i] = strides_[i];
  return view(shape, strides);
}

// Walks old and new axes together: a group of old axes that lie evenly in memory can be cut anew at will.
bool Array::can_view(const Dims& shape, Dims* strides) const {
  *strides = Dims::filled(shape.n, 1);
  if (numel() == 0) {
    *strides = contiguous_strides(shape);
    return true;
  }
  int to = shape.n - 1;
  int64_t chunk_stride = shape_.n ? strides_[shape_.n - 1] : 1, chunk = 1, made = 1;
  for (int from = shape_.n - 1; from >= 0; --from) {
    chunk *= shape_[from];
    bool ends = from == 0 || (shape_[from - 1] != 1 && strides_[from - 1] != chunk * chunk_stride);
    if (!ends) continue;
    while (to >= 0 && (made < chunk || shape[to] == 1)) {
      (*strides)[to] = made * chunk_stride;
      made *= shape[to--];
    }
    if (made != chunk) return false;
    if (from > 0) {
      chunk_stride = strides_[from - 1];
      chunk = made = 1;
    }
  }
  for (; to >= 0; --to) (*strides)[to] = 1;
  return true;
}

Array Array::reshaped(const Dims& shape) const {
  Dims strides;
  if (can_view(shape, &strides)) return view(shape, strides);
  return contiguous().view(shape, contiguous_strides(shape));
}

Array Array::contiguous() const { return is_contiguous() ? *this : clone(); }

Array Array::clone() const {
  Array out = empty(shape_, dtype_, device());
  copy(out, *this);
  return out;
}

Array Array::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  Array out = empty(shape_, dtype, device());
  copy(out, *this);
  return out;
}

Array Array::to_device(Device device) const {
  if (device == this->device()) return *this;
  Array out = empty(shape_, dtype_, device);
  copy(out, *this);
  return out;
}

Array Array::beside(Device device) const {
  if (this->device() == device || this->device().type != DeviceType::Cpu || ndim() > 0) return *this;
  Array out = empty({}, dtype_, device);
  fill(out, *this);
  out.weak_ = weak_;
  return out;
}

double Array::item() const { return *to_device({}).to(DType::Float64).data<double>(); }

int64_t Array::item_int() const { return *to_device({}).to(DType::Int64).data<int64_t>(); }

int64_t Array::item_int(int64_t i) const { return view({}, {}, i).item_int(); }

bool broadcast_shapes(const Dims& a, const Dims& b, Dims* out) {
  const Dims& big = a.n >= b.n ? a : b;
  const Dims& small = a.n >= b.n ? b : a;
  int lead = big.n - small.n;
  *out = big;
  for (int i = 0; i < small.n; ++i) {
    int64_t p = big[lead + i], q = small[i];
    if (p != q && p != 1 && q != 1) return false;
    (*out)[lead + i] = p == 1 ? q : p;
  }
  return true;
}

bool overlaps(const Array& a, const Array& b) {
  if (a.storage() != b.storage()) return false;
  if (a.bytes() == b.bytes() && a.shape() == b.shape() && a.strides() == b.strides() && a.dtype() == b.dtype())
    return false;  // the same elements in the same order: each is read before it is written
  auto end = [](const Array& x) {
    int64_t last = 0;
    for (int i = 0; i < x.ndim(); ++i) last += (x.size(i) - 1) * x.strides()[i];
    return x.bytes() + (last + 1) * item_size(x.dtype());
  };
  if (a.numel() == 0 || b.numel() == 0) return false;
  return a.bytes() < end(b) && b.bytes() < end(a);
}

}  // namespace gg
