#include "python/tensor.h"

#include <structmember.h>

#include <new>

#include "python/bind.h"
#include "python/graph.h"
#include "python/interop.h"
#include "python/spares.h"

namespace gg::python {

PyTypeObject* tensor_base = nullptr;
PyTypeObject* tensor_type = nullptr;
thread_local bool grad_enabled = true;

namespace {

PyObject* refresh_view = nullptr;  // Python: gives a view whose parent was changed in place its new node
PyObject* fetched = nullptr;       // Python: the edge of a 0-d tensor of the CPU beside tensors of a device

Spares spares;  // of the class Tensor itself

PyObject* allocate(PyTypeObject* type, Array array) {
  PyObject* o = type == tensor_type ? spares.take(type) : nullptr;
  if (o) {
    TensorObject* t = as_tensor(o);
    new (&t->array) Array(std::move(array));
    t->grad = t->node = t->view = t->hooks = t->weak_references = nullptr;
    t->output = 0;
    t->requires_grad = false;
    PyObject_GC_Track(o);
    return o;
  }
  o = type->tp_alloc(type, 0);  // zeroed: no gradient, no node
  if (!o) throw pybind11::error_already_set();
  new (&as_tensor(o)->array) Array(std::move(array));
  return o;
}

PyObject* tensor_new(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* data = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : nullptr;
  try {
    if (!data) return allocate(type, Array::empty({0}, default_dtype));
    return allocate(type, From<Array>::from(data, {"Tensor", "data"}));
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

int tensor_traverse(PyObject* self, visitproc visit, void* arg) {
  TensorObject* t = as_tensor(self);
  Py_VISIT(t->grad);
  Py_VISIT(t->node);
  Py_VISIT(t->view);
  Py_VISIT(t->hooks);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

int tensor_clear(PyObject* self) {
  TensorObject* t = as_tensor(self);
  Py_CLEAR(t->grad);
  Py_CLEAR(t->node);
  Py_CLEAR(t->view);
  Py_CLEAR(t->hooks);
  return 0;
}

void tensor_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, tensor_dealloc)
  if (as_tensor(self)->weak_references) PyObject_ClearWeakRefs(self);
  tensor_clear(self);
  as_tensor(self)->array.~Array();
  if (type != tensor_type || !spares.keep(self)) type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

PyObject* or_none(PyObject* o) { return Py_NewRef(o ? o : Py_None); }

// A view is stale when its parent got another node since (an in-place op on it or on a sibling view).
bool is_stale(TensorObject* t) {
  if (!t->view) return false;
  TensorObject* parent = as_tensor(PyTuple_GET_ITEM(t->view, 0));
  if (is_stale(parent)) return true;
  PyObject* then = PyTuple_GET_ITEM(t->view, 1);
  return then != (parent->node ? parent->node : Py_None);
}

bool freshen(PyObject* self) {
  if (!as_tensor(self)->view || !is_stale(as_tensor(self))) return true;
  PyObject* done = PyObject_CallOneArg(refresh_view, self);
  Py_XDECREF(done);
  return done != nullptr;
}

bool needs_grad(TensorObject* t) { return t->requires_grad || t->node; }

PyObject* get_shape(PyObject* self, void*) { return to_python(as_tensor(self)->array.shape()); }
PyObject* get_dtype(PyObject* self, void*) { return dtype_object(as_tensor(self)->array.dtype()); }
PyObject* get_device(PyObject* self, void*) { return device_object(as_tensor(self)->array.device()); }
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(as_tensor(self)->array.ndim()); }
PyObject* get_itemsize(PyObject* self, void*) { return PyLong_FromLong(item_size(as_tensor(self)->array.dtype())); }
PyObject* get_nbytes(PyObject* self, void*) {
  const Array& a = as_tensor(self)->array;
  return PyLong_FromLongLong(a.numel() * item_size(a.dtype()));
}
PyObject* get_version(PyObject* self, void*) {
  return PyLong_FromUnsignedLong(as_tensor(self)->array.storage()->version.load(std::memory_order_relaxed));
}

PyObject* get_grad(PyObject* self, void*) { return or_none(as_tensor(self)->grad); }
int set_grad(PyObject* self, PyObject* value, void*) {
  TensorObject* t = as_tensor(self);
  if (!value || value == Py_None) {
    Py_CLEAR(t->grad);
    return 0;
  }
  try {
    if (!is_tensor(value)) throw_argument({"grad", "value"}, "a Tensor or None", value);
    const Array& g = as_tensor(value)->array;
    check<ShapeError>(g.shape() == t->array.shape(), "grad: a gradient of ", g, " for a tensor of ", t->array,
                      ": the shapes must be the same");
    check<DTypeError>(g.dtype() == t->array.dtype(), "grad: a gradient of ", g, " for a tensor of ", t->array,
                      ": the dtypes must be the same");
    check_same_device("grad", g, t->array);
  } catch (...) {
    set_python_error();
    return -1;
  }
  Py_XSETREF(t->grad, Py_NewRef(value));
  return 0;
}

PyObject* get_node(PyObject* self, void*) { return freshen(self) ? or_none(as_tensor(self)->node) : nullptr; }
int set_node(PyObject* self, PyObject* value, void*) {
  Py_XSETREF(as_tensor(self)->node, value && value != Py_None ? Py_NewRef(value) : nullptr);
  return 0;
}
PyObject* get_view(PyObject* self, void*) { return or_none(as_tensor(self)->view); }
int set_view(PyObject* self, PyObject* value, void*) {
  Py_XSETREF(as_tensor(self)->view, value && value != Py_None ? Py_NewRef(value) : nullptr);
  return 0;
}
PyObject* get_hooks(PyObject* self, void*) { return or_none(as_tensor(self)->hooks); }
int set_hooks(PyObject* self, PyObject* value, void*) {
  Py_XSETREF(as_tensor(self)->hooks, value && value != Py_None ? Py_NewRef(value) : nullptr);
  return 0;
}
PyObject* get_output(PyObject* self, void*) { return PyLong_FromLong(as_tensor(self)->output); }
int set_output(PyObject* self, PyObject* value, void*) {
  as_tensor(self)->output = int(PyLong_AsLong(value));
  return PyErr_Occurred() ? -1 : 0;
}

PyObject* get_is_leaf(PyObject* self, void*) {
  return freshen(self) ? PyBool_FromLong(!as_tensor(self)->node) : nullptr;
}
PyObject* get_requires_grad(PyObject* self, void*) {
  return freshen(self) ? PyBool_FromLong(needs_grad(as_tensor(self))) : nullptr;
}
int set_requires_grad(PyObject* self, PyObject* value, void*) {
  TensorObject* t = as_tensor(self);
  int wanted = value ? PyObject_IsTrue(value) : 0;
  if (wanted < 0) return -1;
  if (wanted && !is_floating(t->array.dtype())) {
    PyErr_Format(PyExc_RuntimeError,
                 "requires_grad: a tensor of %s cannot have a gradient; only floating-point ones can",
                 name(t->array.dtype()));
    return -1;
  }
  if (!wanted && t->node) {
    PyErr_SetString(
        PyExc_RuntimeError,
        "requires_grad: only a leaf can stop requiring a gradient; this tensor was computed: use .detach()");
    return -1;
  }
  t->requires_grad = wanted;
  return 0;
}
PyObject* get_edge(PyObject* self, void*) { return edge_of(self); }

PyGetSetDef getset[] = {
    {"shape", get_shape, nullptr, "The sizes of the axes, a tuple.", nullptr},
    {"dtype", get_dtype, nullptr, "The element type.", nullptr},
    {"device", get_device, nullptr, "Where the elements are.", nullptr},
    {"ndim", get_ndim, nullptr, "The number of axes.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes of an element.", nullptr},
    {"nbytes", get_nbytes, nullptr, "Bytes of all elements.", nullptr},
    {"grad", get_grad, set_grad, "The gradient that backward accumulated, or None.", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad, "Whether backward computes a gradient for it.", nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Whether it was given, not computed by a recorded op.", nullptr},
    {"_version", get_version, nullptr, "Counts in-place changes of the storage.", nullptr},
    {"_node", get_node, set_node, "The Op that made it, or None.", nullptr},
    {"_output", get_output, set_output, "Which of the node's outputs it is.", nullptr},
    {"_view", get_view, set_view, "Of a view: (parent, the parent's node, Op class, arguments).", nullptr},
    {"_hooks", get_hooks, set_hooks, "A leaf's gradient hooks.", nullptr},
    {"_edge", get_edge, nullptr, "What a node keeps of it as an input.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyObject* numel(PyObject* self, PyObject*) { return PyLong_FromLongLong(as_tensor(self)->array.numel()); }
PyObject* is_contiguous(PyObject* self, PyObject*) { return PyBool_FromLong(as_tensor(self)->array.is_contiguous()); }
PyObject* data_ptr(PyObject* self, PyObject*) { return PyLong_FromVoidPtr(as_tensor(self)->array.bytes()); }
PyObject* storage_offset(PyObject* self, PyObject*) {
  const Array& a = as_tensor(self)->array;
  return PyLong_FromLongLong((a.bytes() - static_cast<char*>(a.storage()->data)) / item_size(a.dtype()));
}

PyObject* size_or_stride(PyObject* args, const char* op, const Dims& values) {
  PyObject* dim = nullptr;
  if (!PyArg_ParseTuple(args, "|O", &dim)) return nullptr;
  try {
    if (!dim || dim == Py_None) return to_python(values);
    return PyLong_FromLongLong(values[check_dim(op, From<int64_t>::from(dim, {op, "dim"}), values.n)]);
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}
PyObject* size(PyObject* self, PyObject* args) { return size_or_stride(args, "size", as_tensor(self)->array.shape()); }
PyObject* stride(PyObject* self, PyObject* args) {
  return size_or_stride(args, "stride", as_tensor(self)->array.strides());
}

PyObject* item(PyObject* self, PyObject*) {
  const Array& a = as_tensor(self)->array;
  try {
    check<ShapeError>(a.numel() == 1, "item: ", a, " has ", a.numel(), " elements; only one can become a number");
    if (is_floating(a.dtype())) return PyFloat_FromDouble(a.item());
    return a.dtype() == DType::Bool ? PyBool_FromLong(a.item_int() != 0) : PyLong_FromLongLong(a.item_int());
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// The same elements without the graph; the storage and its version are shared.
PyObject* alias(PyObject* self, PyObject*) {
  try {
    return wrap(as_tensor(self)->array);
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

PyObject* set_data(PyObject* self, PyObject* other) {
  try {
    as_tensor(self)->array = Array(From<Array>::from(other, {"data", "value"}));
    Py_RETURN_NONE;
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

PyMethodDef methods[] = {
    {"numel", numel, METH_NOARGS, "The number of elements."},
    {"nelement", numel, METH_NOARGS, "The number of elements."},
    {"is_contiguous", is_contiguous, METH_NOARGS, "Whether the elements lie densely in row-major order."},
    {"data_ptr", data_ptr, METH_NOARGS, "The address of the first element."},
    {"storage_offset", storage_offset, METH_NOARGS, "The first element's place in the storage, in elements."},
    {"size", size, METH_VARARGS, "The sizes of the axes, or of one."},
    {"stride", stride, METH_VARARGS, "Elements from one index to the next along each axis, or one."},
    {"item", item, METH_NOARGS, "The only element, as a Python number."},
    {"_alias", alias, METH_NOARGS, "The same elements without the graph."},
    {"_set_data", set_data, METH_O, "Takes over another tensor's elements."},
    {nullptr, nullptr, 0, nullptr},
};

Py_ssize_t length(PyObject* self) {
  const Array& a = as_tensor(self)->array;
  if (a.ndim() == 0) {
    PyErr_SetString(PyExc_TypeError, "len: a 0-d tensor has no length");
    return -1;
  }
  return Py_ssize_t(a.size(0));
}

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_members, members},
    {Py_tp_new, reinterpret_cast<void*>(tensor_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(tensor_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(tensor_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(tensor_clear)},
    {Py_tp_getset, getset},
    {Py_tp_methods, methods},
    {Py_mp_length, reinterpret_cast<void*>(length)},
    {Py_sq_length, reinterpret_cast<void*>(length)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
    {0, nullptr},
};

PyType_Spec spec = {"glassgrad._core.TensorBase", sizeof(TensorObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

// Beside tensors of a device an op takes 0-d tensors of the CPU: their gradients come back through a node of their own.
bool fetch_edges(PyObject* const* args, PyObject* edges) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(edges); ++i) {
    PyObject *o = args[i], *edge = PyTuple_GET_ITEM(edges, i);
    if (edge == Py_None) continue;
    const Array& a = as_tensor(o)->array;
    if (a.ndim() > 0 || a.device() != Device{}) continue;
    PyObject* dtype = dtype_object(a.dtype());
    PyObject* node = PyObject_CallFunctionObjArgs(fetched, edge, dtype, nullptr);
    Py_DECREF(dtype);
    if (!node) return false;
    PyTuple_SET_ITEM(edges, i, node);
    Py_DECREF(edge);
  }
  return true;
}

// edges(args): the edges of an op's arguments, or () when none needs a gradient or nothing is being recorded.
PyObject* edges(PyObject*, PyObject* args) { return edges_of(PySequence_Fast_ITEMS(args), PyTuple_GET_SIZE(args)); }

// attach(tensor, node, output): the tensor is that output of the node; one that cannot have a gradient stays as it is.
PyObject* attach(PyObject*, PyObject* const* args, Py_ssize_t) {
  attach_output(args[0], args[1], int(PyLong_AsLong(args[2])));
  Py_RETURN_NONE;
}

PyObject* set_tensor_type(PyObject*, PyObject* args) {
  PyObject *type, *refresh, *fetch;
  if (!PyArg_ParseTuple(args, "OOO", &type, &refresh, &fetch)) return nullptr;
  tensor_type = reinterpret_cast<PyTypeObject*>(Py_NewRef(type));
  tensor_type->tp_dealloc = tensor_dealloc;  // which leaves nothing to do: the class adds no member of its own
  Py_XSETREF(refresh_view, Py_NewRef(refresh));
  Py_XSETREF(fetched, Py_NewRef(fetch));
  Py_RETURN_NONE;
}

PyObject* is_grad_enabled(PyObject*, PyObject*) { return PyBool_FromLong(grad_enabled); }
PyObject* set_grad_enabled(PyObject*, PyObject* value) {
  bool before = grad_enabled;
  grad_enabled = value == Py_True;
  return PyBool_FromLong(before);
}

PyMethodDef functions[] = {
    {"edges", edges, METH_O, "The edges of an op's arguments; () when nothing is recorded."},
    {"attach", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(attach)), METH_FASTCALL,
     "Makes a tensor an output of a node."},
    {"set_tensor_type", set_tensor_type, METH_VARARGS, "Registers the Python class of tensors."},
    {"is_grad_enabled", is_grad_enabled, METH_NOARGS, "Whether ops are recorded in this thread."},
    {"set_grad_enabled", set_grad_enabled, METH_O, "Sets it and returns what it was."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

PyObject* wrap(Array array) { return allocate(tensor_type, std::move(array)); }

bool owns_storage(PyObject* tensor) {
  const Array& a = as_tensor(tensor)->array;
  return a.storage()->refs.load() == 1 && !a.storage()->owner && a.is_contiguous();
}

bool set_gradient(PyObject* tensor, PyObject* value) { return set_grad(tensor, value, nullptr) == 0; }

// What a node keeps of an input: its node and output, the input itself if it is a leaf, None if it needs no gradient.
PyObject* edge_of(PyObject* self) {
  if (!freshen(self)) return nullptr;
  TensorObject* t = as_tensor(self);
  if (t->node) {
    if (t->output == 0) return Py_NewRef(t->node);
    return Py_BuildValue("(Oi)", t->node, t->output);
  }
  return Py_NewRef(t->requires_grad ? self : Py_None);
}

PyObject* edges_of(PyObject* const* args, Py_ssize_t n) {
  bool any = false;
  if (grad_enabled)
    for (Py_ssize_t i = 0; i < n && !any; ++i) {
      if (!is_tensor(args[i])) continue;
      if (!freshen(args[i])) return nullptr;
      any = needs_grad(as_tensor(args[i]));
    }
  PyObject* out = PyTuple_New(any ? n : 0);
  if (!any || !out) return out;
  bool on_cpu = false, on_device = false;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* o = args[i];
    bool given = is_tensor(o);
    if (given) (as_tensor(o)->array.device().type == DeviceType::Cpu ? on_cpu : on_device) = true;
    PyObject* edge = given ? edge_of(o) : Py_NewRef(Py_None);
    if (!edge) {
      Py_DECREF(out);
      return nullptr;
    }
    PyTuple_SET_ITEM(out, i, edge);
  }
  if (on_cpu && on_device && !fetch_edges(args, out)) Py_CLEAR(out);
  return out;
}

void attach_output(PyObject* tensor, PyObject* node, int output) {
  TensorObject* t = as_tensor(tensor);
  if (!is_floating(t->array.dtype())) return;
  Py_XSETREF(t->node, Py_NewRef(node));
  t->output = output;
}

void bind_tensor(pybind11::module_& m) {
  tensor_base = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!tensor_base) throw pybind11::error_already_set();
  tensor_type = tensor_base;
  m.add_object("TensorBase", reinterpret_cast<PyObject*>(tensor_base));
  if (PyModule_AddFunctions(m.ptr(), functions) < 0) throw pybind11::error_already_set();
}

}  // namespace gg::python
