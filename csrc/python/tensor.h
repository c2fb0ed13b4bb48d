// The heap type TensorBase: an Array with what the graph needs beside it. Python's Tensor derives from it and adds the
// operators and methods (python/glassgrad/tensor.py); every tensor that the core makes is of that class.
#pragma once
#include <Python.h>

#include "core/array.h"

namespace gg::python {

struct TensorObject {
  PyObject_HEAD Array array;
  PyObject* grad;   // the gradient of a leaf, or of a tensor that retains it
  PyObject* node;   // the Op that made it
  PyObject* view;   // for a view: (parent, the parent's node then, Op class, arguments)
  PyObject* hooks;  // of a leaf: {id: function}
  PyObject* weak_references;
  int output;  // which of the node's outputs it is
  bool requires_grad;
};

extern PyTypeObject* tensor_base;  // TensorBase
extern PyTypeObject* tensor_type;  // Tensor, once python/glassgrad/tensor.py has registered it

inline bool is_tensor(PyObject* o) { return Py_TYPE(o) == tensor_type || PyObject_TypeCheck(o, tensor_base); }
inline TensorObject* as_tensor(PyObject* o) { return reinterpret_cast<TensorObject*>(o); }

bool owns_storage(PyObject* tensor);                   // alone, and dense: its memory may be taken over with the object
bool set_gradient(PyObject* tensor, PyObject* value);  // false with Python's error set

PyObject* wrap(Array array);  // a new Tensor; throws where Python cannot allocate

PyObject* dtype_object(DType t);    // a new reference to gg.float32 and kin
PyObject* device_object(Device d);  // likewise gg.device
bool dtype_from(PyObject* o, DType* out);
bool device_from(PyObject* o, Device* out);

extern thread_local bool grad_enabled;

}  // namespace gg::python
