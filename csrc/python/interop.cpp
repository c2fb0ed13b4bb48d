#include "python/interop.h"

#include <string.h>

#include "core/backend.h"
#include "python/bind.h"

namespace gg::python {
namespace {

constexpr const char* kFormat[kDTypes] = {"?", "B", "b", "h", "i", "l", "e", nullptr, "f", "d"};

bool dtype_of_format(const char* format, Py_ssize_t item, DType* out) {
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (strlen(format) != 1) return false;
  if (*format == '?') return *out = DType::Bool, true;
  if (*format == 'e') return *out = DType::Float16, true;
  if (*format == 'f') return *out = DType::Float32, true;
  if (*format == 'd') return *out = DType::Float64, true;
  if (*format == 'B') return *out = DType::UInt8, true;
  if (!strchr("bhilq", *format)) return false;
  *out = item == 1 ? DType::Int8 : item == 2 ? DType::Int16 : item == 4 ? DType::Int32 : DType::Int64;
  return true;
}

// Storage over memory that someone else owns; the owner hears of the end under Python's lock.
void release_buffer_owner(Storage* s) {
  if (!Py_IsInitialized()) return;
  PyGILState_STATE gil = PyGILState_Ensure();
  auto* buffer = static_cast<Py_buffer*>(s->owner);
  PyBuffer_Release(buffer);
  delete buffer;
  PyGILState_Release(gil);
}

Storage* foreign_storage(void* data, int64_t bytes, void* owner, void (*release)(Storage*)) {
  Storage* s = new Storage;
  s->data = data;
  s->bytes = size_t(bytes);
  s->owner = owner;
  s->release = release;
  return s;
}

// from_buffer(object): a tensor over the memory of anything with the buffer protocol.
PyObject* from_buffer(PyObject*, PyObject* object) {
  auto* buffer = new Py_buffer;
  if (PyObject_GetBuffer(object, buffer, PyBUF_STRIDED | PyBUF_FORMAT | PyBUF_WRITABLE) < 0) {
    delete buffer;
    return nullptr;
  }
  try {
    DType dtype;
    Dims shape, strides;
    bool known = buffer->format && dtype_of_format(buffer->format, buffer->itemsize, &dtype);
    if (!known || buffer->ndim > kMaxDims) {
      std::string format = buffer->format ? buffer->format : "none";
      int ndim = buffer->ndim;
      check<DTypeError>(
          known, "from_numpy: elements of buffer format '", format,
          "' have no tensor type; supported are bool, uint8, int8 to int64, float16, float32 and float64");
      throw ShapeError(message("from_numpy: ", ndim, " axes; at most ", kMaxDims, " are supported"));
    }
    for (int i = 0; i < buffer->ndim; ++i) {
      shape.push(buffer->shape[i]);
      strides.push(buffer->strides[i] / buffer->itemsize);
      check<ValueError>(
          buffer->strides[i] % buffer->itemsize == 0 && (buffer->strides[i] >= 0 || buffer->shape[i] <= 1),
          "from_numpy: strides that are negative or no multiple of the item size need a copy: use gg.tensor");
    }
    Storage* s = foreign_storage(buffer->buf, buffer->len, buffer, release_buffer_owner);
    return wrap(Array::adopt(s, buffer->buf, shape, strides, dtype));
  } catch (...) {
    set_python_error();
    PyBuffer_Release(buffer);
    delete buffer;
    return nullptr;
  }
}

// Storage over device memory of a Python object, which is held as long.
Storage* borrowed_storage(Device device, void* data, int64_t bytes, PyObject* owner) {
  Storage* s = foreign_storage(data, bytes, Py_NewRef(owner), [](Storage* self) {
    if (!Py_IsInitialized()) return;
    PyGILState_STATE gil = PyGILState_Ensure();
    Py_DECREF(static_cast<PyObject*>(self->owner));
    PyGILState_Release(gil);
  });
  s->device = device;
  return s;
}

// from_cuda_memory(owner, address, dtype, shape, strides in items or None, device): a tensor over memory on a GPU.
PyObject* from_cuda_memory(PyObject*, PyObject* args) {
  PyObject *owner, *kind, *sizes, *steps, *place;
  unsigned long long address;
  if (!PyArg_ParseTuple(args, "OKOOOO", &owner, &address, &kind, &sizes, &steps, &place)) return nullptr;
  try {
    const Device device = From<Device>::from(place, {"tensor", "device"});
    backend(device);
    const DType dtype = From<DType>::from(kind, {"tensor", "dtype"});
    const Dims shape = From<Dims>::from(sizes, {"tensor", "shape"});
    const Dims strides = steps == Py_None ? contiguous_strides(shape) : From<Dims>::from(steps, {"tensor", "strides"});
    check<ValueError>(strides.n == shape.n, "tensor: shape ", shape, " and strides ", strides, " differ in length");
    for (int i = 0; i < shape.n; ++i)
      check<ValueError>(strides[i] >= 0 || shape[i] <= 1, "tensor: negative strides ", strides, " need a copy first");
    void* data = reinterpret_cast<void*>(address);
    Storage* s = borrowed_storage(device, data, product(shape) * item_size(dtype), owner);
    return wrap(Array::adopt(s, data, shape, strides, dtype));
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// DLPack 0.x structures, as their specification lays them out.
struct DLDevice { int32_t type, id; };
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
constexpr int kDLCPU = 1, kDLCUDA = 2;
enum DLCode : uint8_t { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4, kDLBool = 6 };

DLDataType dl_type(DType t) {
  uint8_t bits = uint8_t(8 * item_size(t));
  if (t == DType::Bool) return {kDLBool, 8, 1};
  if (t == DType::UInt8) return {kDLUInt, 8, 1};
  if (t == DType::BFloat16) return {kDLBfloat, 16, 1};
  return {is_floating(t) ? kDLFloat : kDLInt, bits, 1};
}

bool dtype_of_dl(DLDataType d, DType* out) {
  for (int i = 0; i < kDTypes; ++i) {
    DLDataType known = dl_type(DType(i));
    if (d.lanes == 1 && d.code == known.code && d.bits == known.bits) {
      *out = DType(i);
      return true;
    }
  }
  return false;
}

struct Exported {
  DLManagedTensor managed;
  Array array;
  int64_t shape[kMaxDims], strides[kMaxDims];
};

void delete_unused_capsule(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // taken over: its consumer calls the deleter
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

PyObject* to_dlpack(PyObject*, PyObject* tensor) {
  if (!is_tensor(tensor)) {
    PyErr_SetString(PyExc_TypeError, "to_dlpack: expected a Tensor");
    return nullptr;
  }
  const Array& a = as_tensor(tensor)->array;
  const int device = a.device().type == DeviceType::Cuda ? kDLCUDA : kDLCPU;
  auto* e = new Exported{{}, a, {}, {}};
  for (int i = 0; i < a.ndim(); ++i) {
    e->shape[i] = a.size(i);
    e->strides[i] = a.strides()[i];
  }
  e->managed.tensor = {a.bytes(), {device, a.device().index}, a.ndim(), dl_type(a.dtype()), e->shape, e->strides, 0};
  e->managed.context = e;
  e->managed.deleter = [](DLManagedTensor* m) { delete static_cast<Exported*>(m->context); };
  return PyCapsule_New(&e->managed, "dltensor", delete_unused_capsule);
}

PyObject* from_dlpack_capsule(PyObject*, PyObject* capsule) {
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  if (!managed) return nullptr;
  const DLTensor& t = managed->tensor;
  try {
    DType dtype;
    check<DTypeError>(dtype_of_dl(t.dtype, &dtype), "from_dlpack: elements of code ", int(t.dtype.code), " with ",
                      int(t.dtype.bits), " bits have no tensor type");
    check<ValueError>(t.device.type == kDLCPU || (t.device.type == kDLCUDA && t.device.id < 100),
                      "from_dlpack: memory on DLPack device type ", t.device.type,
                      "; only memory of the CPU and of CUDA devices can be taken over");
    Device device;
    if (t.device.type == kDLCUDA) {
      device = {DeviceType::Cuda, int8_t(t.device.id)};
      backend(device);
    }
    check<ShapeError>(t.ndim <= kMaxDims, "from_dlpack: ", t.ndim, " axes; at most ", kMaxDims, " are supported");
    Dims shape, strides;
    for (int i = 0; i < t.ndim; ++i) {
      shape.push(t.shape[i]);
      if (t.strides) strides.push(t.strides[i]);
      check<ValueError>(!t.strides || t.strides[i] >= 0 || t.shape[i] <= 1,
                        "from_dlpack: negative strides need a copy first");
    }
    if (!t.strides) strides = contiguous_strides(shape);
    char* data = static_cast<char*>(t.data) + t.byte_offset;
    int64_t bytes = product(shape) * item_size(dtype);
    Storage* s = foreign_storage(data, bytes, managed, [](Storage* self) {
      auto* m = static_cast<DLManagedTensor*>(self->owner);
      if (!m->deleter || !Py_IsInitialized()) return;
      PyGILState_STATE gil = PyGILState_Ensure();
      m->deleter(m);
      PyGILState_Release(gil);
    });
    s->device = device;
    PyCapsule_SetName(capsule, "used_dltensor");
    return wrap(Array::adopt(s, data, shape, strides, dtype));
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

PyMethodDef functions[] = {
    {"from_cuda_memory", from_cuda_memory, METH_VARARGS, "A tensor over memory on a GPU that another object owns."},
    {"from_buffer", from_buffer, METH_O, "A tensor over the memory of an object with the buffer protocol."},
    {"to_dlpack", to_dlpack, METH_O, "A DLPack capsule over a tensor's memory."},
    {"from_dlpack_capsule", from_dlpack_capsule, METH_O, "A tensor over a DLPack capsule's memory."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  TensorObject* t = as_tensor(self);
  const Array& a = t->array;
  const char* format = kFormat[int(a.dtype())];
  if (a.device() != Device{}) {
    const std::string device = describe(a.device());
    PyErr_Format(PyExc_TypeError, "numpy: a tensor on %s is in no memory of the CPU; copy it there with .cpu() first",
                 device.c_str());
    view->obj = nullptr;
    return -1;
  }
  if (!format || t->requires_grad || t->node) {
    PyErr_SetString(PyExc_BufferError, !format ? "buffer: numpy has no bfloat16; convert with .float() first"
                                               : "buffer: this tensor requires grad; use .detach() first");
    view->obj = nullptr;
    return -1;
  }
  if (!(flags & PyBUF_STRIDES) && !a.is_contiguous()) {
    PyErr_SetString(PyExc_BufferError, "buffer: the tensor is not contiguous; use .contiguous() first");
    view->obj = nullptr;
    return -1;
  }
  auto* sizes = static_cast<Py_ssize_t*>(PyMem_Malloc(sizeof(Py_ssize_t) * (2 * a.ndim() + 1)));
  if (!sizes) {
    PyErr_NoMemory();
    view->obj = nullptr;
    return -1;
  }
  for (int i = 0; i < a.ndim(); ++i) {
    sizes[i] = a.size(i);
    sizes[a.ndim() + i] = a.strides()[i] * item_size(a.dtype());
  }
  view->obj = Py_NewRef(self);
  view->buf = a.bytes();
  view->len = a.numel() * item_size(a.dtype());
  view->itemsize = item_size(a.dtype());
  view->readonly = 0;
  view->ndim = a.ndim();
  view->format = flags & PyBUF_FORMAT ? const_cast<char*>(format) : nullptr;
  view->shape = sizes;
  view->strides = sizes + a.ndim();
  view->suboffsets = nullptr;
  view->internal = new Array(a);  // the memory stays while the view is held, even if the tensor is given other data
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) {
  PyMem_Free(view->shape);
  delete static_cast<Array*>(view->internal);
}

void bind_interop(pybind11::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), functions) < 0) throw pybind11::error_already_set();
}

}  // namespace gg::python
