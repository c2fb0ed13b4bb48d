#include "python/bind.h"

#include <new>

namespace gg::python {
namespace {

PyObject* shape_error = nullptr;          // glassgrad.ShapeError, a RuntimeError and a ValueError
PyObject* out_of_memory_error = nullptr;  // glassgrad.OutOfMemoryError, a RuntimeError and a MemoryError
thread_local int8_t cuda_device = 0;      // the one that "cuda" without a number means

struct DTypeTag { DType t; };
PyObject* dtype_objects[kDTypes];

struct DeviceTag { Device d; };

std::string type_name(PyObject* o) { return Py_TYPE(o)->tp_name; }

}  // namespace

void throw_argument(const Where& w, const char* wanted, PyObject* given) {
  throw DTypeError(std::string(w.function) + ": " + w.argument + " must be " + wanted + ", got " + type_name(given));
}

void set_python_error() noexcept {
  try {
    throw;
  } catch (pybind11::error_already_set& e) {
    e.restore();
  } catch (const ShapeError& e) {
    PyErr_SetString(shape_error, e.what());
  } catch (const DTypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const IndexError& e) {
    PyErr_SetString(PyExc_IndexError, e.what());
  } catch (const ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const OutOfMemory& e) {
    PyErr_SetString(out_of_memory_error, e.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "unknown C++ exception");
  }
}

Array number_operand(PyObject* o, const Where& w) {
  Array a;
  if (PyBool_Check(o)) {
    a = Array::scalar_int(o == Py_True, DType::Bool);
  } else if (PyFloat_Check(o)) {
    a = Array::scalar(PyFloat_AS_DOUBLE(o), DType::Float64);
  } else if (PyIndex_Check(o)) {
    a = Array::scalar_int(From<int64_t>::from(o, w), DType::Int64);
  } else if (o && PyNumber_Check(o) && !PyComplex_Check(o)) {
    a = Array::scalar(From<double>::from(o, w), DType::Float64);
  } else {
    throw_argument(w, "a Tensor or a number", o);
  }
  a.set_weak(true);
  return a;
}

int64_t From<int64_t>::from(PyObject* o, const Where& w) {
  if (!PyIndex_Check(o)) throw_argument(w, "an int", o);
  PyObject* index = PyNumber_Index(o);
  if (!index) throw pybind11::error_already_set();
  int overflow;
  int64_t value = PyLong_AsLongLongAndOverflow(index, &overflow);
  Py_DECREF(index);
  if (overflow) throw std::runtime_error(std::string(w.function) + ": " + w.argument + " does not fit into 64 bits");
  return value;
}

double From<double>::from(PyObject* o, const Where& w) {
  if (PyFloat_Check(o)) return PyFloat_AS_DOUBLE(o);
  if (!PyNumber_Check(o) || PyComplex_Check(o)) throw_argument(w, "a number", o);
  double value = PyFloat_AsDouble(o);
  if (value == -1.0 && PyErr_Occurred()) throw pybind11::error_already_set();
  return value;
}

bool From<bool>::from(PyObject* o, const Where& w) {
  if (o == Py_True) return true;
  if (o == Py_False) return false;
  if (PyIndex_Check(o) || type_name(o) == "numpy.bool_" || type_name(o) == "numpy.bool") return PyObject_IsTrue(o) == 1;
  throw_argument(w, "a bool", o);
}

Dims From<Dims>::from(PyObject* o, const Where& w) {
  Dims d;
  if (PyIndex_Check(o) && !PyTuple_Check(o)) {
    d.push(From<int64_t>::from(o, w));
    return d;
  }
  if (!PyTuple_Check(o) && !PyList_Check(o)) throw_argument(w, "an int or a tuple of ints", o);
  Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
  if (n > kMaxDims)
    throw ShapeError(
        message(w.function, ": ", w.argument, " has ", n, " entries; at most ", kMaxDims, " axes are supported"));
  for (Py_ssize_t i = 0; i < n; ++i) d.push(From<int64_t>::from(PySequence_Fast_GET_ITEM(o, i), w));
  return d;
}

DType From<DType>::from(PyObject* o, const Where& w) {
  DType t;
  if (!dtype_from(o, &t)) throw_argument(w, "a dtype such as gg.float32", o);
  return t;
}

Device From<Device>::from(PyObject* o, const Where& w) {
  Device d;
  if (!device_from(o, &d)) throw_argument(w, "a device such as 'cpu'", o);
  return d;
}

std::string From<std::string>::from(PyObject* o, const Where& w) {
  if (!PyUnicode_Check(o)) throw_argument(w, "a string", o);
  return PyUnicode_AsUTF8(o);
}

PyObject* dtype_object(DType t) { return Py_NewRef(dtype_objects[int(t)]); }

bool dtype_from(PyObject* o, DType* out) {
  for (int i = 0; i < kDTypes; ++i)
    if (o == dtype_objects[i]) {
      *out = DType(i);
      return true;
    }
  if (o == reinterpret_cast<PyObject*>(&PyFloat_Type)) return *out = DType::Float64, true;
  if (o == reinterpret_cast<PyObject*>(&PyLong_Type)) return *out = DType::Int64, true;
  if (o == reinterpret_cast<PyObject*>(&PyBool_Type)) return *out = DType::Bool, true;
  return false;
}

PyObject* device_object(Device d) {
  static PyObject* known[3][128];  // tensors of one device have one device object
  PyObject*& object = known[int(d.type)][d.index];
  if (!object) object = pybind11::cast(DeviceTag{d}).release().ptr();
  return Py_NewRef(object);
}

bool device_from(PyObject* o, Device* out) {
  if (pybind11::isinstance<DeviceTag>(o)) {
    *out = pybind11::cast<DeviceTag>(pybind11::handle(o)).d;
    return true;
  }
  if (PyLong_Check(o) && !PyBool_Check(o)) {  // a GPU's number
    int64_t index = From<int64_t>::from(o, {"device", "index"});
    check<ValueError>(index >= 0 && index < 100, "device: there is no cuda device of number ", index);
    *out = {DeviceType::Cuda, int8_t(index)};
    return true;
  }
  if (!PyUnicode_Check(o)) return false;
  std::string text = PyUnicode_AsUTF8(o);
  size_t colon = text.find(':');
  std::string type = text.substr(0, colon);
  std::string index = colon == std::string::npos ? "0" : text.substr(colon + 1);
  bool number = !index.empty() && index.size() <= 2 && index.find_first_not_of("0123456789") == std::string::npos;
  for (DeviceType t : {DeviceType::Cpu, DeviceType::Cuda, DeviceType::Simt})
    if (number && type == name(t)) {
      *out = {t, int8_t(std::stoi(index))};
      if (t == DeviceType::Cuda && colon == std::string::npos) out->index = cuda_device;
      check<ValueError>(t == DeviceType::Cuda || out->index == 0, "device: '", text, "': there is one ", type,
                        " device, number 0");
      return true;
    }
  throw ValueError("device: '" + text + "' is not a device; known are 'cpu', 'cuda', 'cuda:N' and 'simt'");
}

void bind_types(pybind11::module_& m) {
  namespace py = pybind11;
  py::tuple bases = py::make_tuple(py::reinterpret_borrow<py::object>(PyExc_RuntimeError),
                                   py::reinterpret_borrow<py::object>(PyExc_ValueError));
  shape_error = PyErr_NewExceptionWithDoc("glassgrad.ShapeError", "Operands whose shapes do not fit together.",
                                          bases.ptr(), nullptr);
  m.add_object("ShapeError", py::reinterpret_borrow<py::object>(shape_error));
  bases = py::make_tuple(py::reinterpret_borrow<py::object>(PyExc_RuntimeError),
                         py::reinterpret_borrow<py::object>(PyExc_MemoryError));
  out_of_memory_error =
      PyErr_NewExceptionWithDoc("glassgrad.OutOfMemoryError", "A device has no memory left.", bases.ptr(), nullptr);
  m.add_object("OutOfMemoryError", py::reinterpret_borrow<py::object>(out_of_memory_error));
  m.def("get_cuda_device", [] { return int(cuda_device); });
  m.def("set_cuda_device", [](int8_t index) { cuda_device = index; });

  py::class_<DTypeTag>(m, "dtype", "An element type: float32 and its kin.\n\n>>> gg.float32.itemsize\n4\n")
      .def_property_readonly("name", [](const DTypeTag& d) { return std::string(name(d.t)); })
      .def_property_readonly("itemsize", [](const DTypeTag& d) { return item_size(d.t); })
      .def_property_readonly("is_floating_point", [](const DTypeTag& d) { return is_floating(d.t); })
      .def_property_readonly("is_complex", [](const DTypeTag&) { return false; })
      .def_property_readonly("is_signed", [](const DTypeTag& d) { return d.t != DType::Bool && d.t != DType::UInt8; })
      .def("__repr__", [](const DTypeTag& d) { return std::string("glassgrad.") + name(d.t); })
      .def("__reduce__", [](const DTypeTag& d) { return std::string(name(d.t)); });
  for (int i = 0; i < kDTypes; ++i) {
    py::object o = py::cast(DTypeTag{DType(i)});
    m.attr(name(DType(i))) = o;
    dtype_objects[i] = o.release().ptr();
  }

  py::class_<DeviceTag>(m, "device",
                        "Where a tensor's elements are: device('cpu'), device('cuda', 0), device('simt').\n\n>>> "
                        "gg.device('cpu').type\n'cpu'\n")
      .def(py::init([](const py::object& type, const py::object& index) {
             Device d;
             try {
               if (!device_from(type.ptr(), &d)) throw py::type_error("device: expected a string or a device");
             } catch (const ValueError& e) {
               throw py::value_error(e.what());
             }
             if (index.is_none()) return DeviceTag{d};
             int64_t i = py::cast<int64_t>(index);
             if (i < 0 || i > (d.type == DeviceType::Cuda ? 99 : 0))
               throw py::value_error(message("device: there is no ", name(d.type), " device of number ", i));
             d.index = int8_t(i);
             return DeviceTag{d};
           }),
           py::arg("type"), py::arg("index") = py::none())
      .def_property_readonly("type", [](const DeviceTag& d) { return std::string(name(d.d.type)); })
      .def_property_readonly("index",
                             [](const DeviceTag& d) -> py::object {
                               if (d.d.type != DeviceType::Cuda) return py::none();
                               return py::int_(int(d.d.index));
                             })
      .def("__eq__",
           [](const DeviceTag& a, const py::object& b) {
             return py::isinstance<DeviceTag>(b) && py::cast<DeviceTag>(b).d == a.d;
           })
      .def("__hash__", [](const DeviceTag& d) { return int(d.d.type) * 128 + d.d.index; })
      .def("__str__", [](const DeviceTag& d) { return describe(d.d); })
      .def("__repr__",
           [](const DeviceTag& d) {
             return std::string("device(type='") + name(d.d.type) + "'" +
                    (d.d.type == DeviceType::Cuda ? ", index=" + std::to_string(d.d.index) : "") + ")";
           })
      .def("__reduce__", [](const DeviceTag& d) {
        return py::make_tuple(py::type::of<DeviceTag>(), py::make_tuple(std::string(name(d.d.type)), int(d.d.index)));
      });
}

}  // namespace gg::python
