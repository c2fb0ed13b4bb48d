// def<&function>(module, "name", {"x", "dim"}): a C++ function as a fast Python function.
//
// The call is METH_FASTCALL with positional arguments: no tuple, no dictionary, no signature matching, which is what
// makes an op on a small array several times cheaper than a general binding. Arguments convert by their C++ type; one
// that does not fit raises TypeError with the function, the argument and what was given.
#pragma once
#include <pybind11/pybind11.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/array.h"
#include "core/check.h"
#include "core/promote.h"
#include "python/tensor.h"

namespace gg {

// A tensor, which it refers to, or a Python number: a 0-d array of its own that is weak in promotion.
class Operand {
 public:
  Operand(const Array& tensor) : array(tensor) {}
  Operand(Array&& number) : array(number_), number_(std::move(number)) {}
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;

  const Array& array;

 private:
  Array number_;
};

namespace python {

struct Where {
  const char* function;
  const char* argument;
};

[[noreturn]] void throw_argument(const Where& where, const char* wanted, PyObject* given);
void set_python_error() noexcept;  // the exception in flight becomes Python's

template <class T> struct From;  // static T from(PyObject*, const Where&)

template <> struct From<Array> {
  static const Array& from(PyObject* o, const Where& w) {
    if (!is_tensor(o)) [[unlikely]]
      throw_argument(w, "a Tensor", o);
    return as_tensor(o)->array;
  }
};
Array number_operand(PyObject* o, const Where& w);
template <> struct From<Operand> {
  static Operand from(PyObject* o, const Where& w) {
    if (is_tensor(o)) return Operand(static_cast<const Array&>(as_tensor(o)->array));
    return Operand(number_operand(o, w));
  }
};
template <> struct From<int64_t> { static int64_t from(PyObject* o, const Where& w); };
template <> struct From<double> { static double from(PyObject* o, const Where& w); };
template <> struct From<bool> { static bool from(PyObject* o, const Where& w); };
template <> struct From<Dims> { static Dims from(PyObject* o, const Where& w); };
template <> struct From<DType> { static DType from(PyObject* o, const Where& w); };
template <> struct From<Device> { static Device from(PyObject* o, const Where& w); };
template <> struct From<std::string> { static std::string from(PyObject* o, const Where& w); };
template <class T> struct From<std::vector<T>> {
  static std::vector<T> from(PyObject* o, const Where& w) {
    if (!PyTuple_Check(o) && !PyList_Check(o)) throw_argument(w, "a tuple or list", o);
    std::vector<T> out;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    out.reserve(size_t(n));
    for (Py_ssize_t i = 0; i < n; ++i) out.push_back(From<T>::from(PySequence_Fast_GET_ITEM(o, i), w));
    return out;
  }
};
template <class T> struct From<std::optional<T>> {
  static std::optional<T> from(PyObject* o, const Where& w) {
    if (!o || o == Py_None) return std::nullopt;
    return From<T>::from(o, w);
  }
};

inline PyObject* to_python(Array a) { return wrap(std::move(a)); }
inline PyObject* to_python(bool x) { return PyBool_FromLong(x); }
inline PyObject* to_python(int64_t x) { return PyLong_FromLongLong(x); }
inline PyObject* to_python(int x) { return PyLong_FromLong(x); }
inline PyObject* to_python(double x) { return PyFloat_FromDouble(x); }
inline PyObject* to_python(DType t) { return dtype_object(t); }
inline PyObject* to_python(Device d) { return device_object(d); }
inline PyObject* to_python(const std::string& s) { return PyUnicode_FromStringAndSize(s.data(), Py_ssize_t(s.size())); }
inline PyObject* to_python(const Dims& d) {
  PyObject* tuple = PyTuple_New(d.n);
  for (int i = 0; i < d.n; ++i) PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(d[i]));
  return tuple;
}
template <class T> PyObject* to_python(std::optional<T> x) {
  if (!x) Py_RETURN_NONE;
  return to_python(std::move(*x));
}
template <class T> PyObject* to_python(std::vector<T> list) {
  PyObject* tuple = PyTuple_New(Py_ssize_t(list.size()));
  for (size_t i = 0; i < list.size(); ++i) PyTuple_SET_ITEM(tuple, Py_ssize_t(i), to_python(std::move(list[i])));
  return tuple;
}
template <class... Ts> PyObject* to_python(std::tuple<Ts...> values) {
  PyObject* tuple = PyTuple_New(sizeof...(Ts));
  [&]<size_t... I>(std::index_sequence<I...>) {
    (PyTuple_SET_ITEM(tuple, Py_ssize_t(I), to_python(std::move(std::get<I>(values)))), ...);
  }(std::index_sequence_for<Ts...>());
  return tuple;
}
template <class A, class B> PyObject* to_python(std::pair<A, B> p) {
  return to_python(std::tuple<A, B>(std::move(p.first), std::move(p.second)));
}

template <class T> constexpr bool is_optional = false;
template <class T> constexpr bool is_optional<std::optional<T>> = true;

template <auto F, class Signature> struct Bound;
template <auto F, class R, class... Args> struct Bound<F, R (*)(Args...)> {
  static constexpr size_t kCount = sizeof...(Args);
  static inline const char* name;
  static inline std::array<const char*, kCount> arguments;
  static inline PyMethodDef method;

  static constexpr Py_ssize_t required() {
    bool optional[kCount + 1] = {is_optional<std::decay_t<Args>>..., false};
    Py_ssize_t n = kCount;
    while (n > 0 && optional[n - 1]) --n;
    return n;
  }

  static PyObject* call(PyObject*, PyObject* const* given, Py_ssize_t n) {
    if (n > Py_ssize_t(kCount) || n < required()) [[unlikely]] {
      PyErr_Format(PyExc_TypeError, "%s: takes %zd to %zd arguments, got %zd", name, required(), Py_ssize_t(kCount), n);
      return nullptr;
    }
    try {
      return invoke(given, n, std::index_sequence_for<Args...>());
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }

  template <size_t... I> static PyObject* invoke(PyObject* const* given, Py_ssize_t n, std::index_sequence<I...>) {
    (void)given, (void)n;
    auto at = [&](size_t i) { return Py_ssize_t(i) < n ? given[i] : nullptr; };
    (void)at;
    if constexpr (std::is_void_v<R>) {
      F(From<std::decay_t<Args>>::from(at(I), Where{name, arguments[I]})...);
      Py_RETURN_NONE;
    } else {
      return to_python(F(From<std::decay_t<Args>>::from(at(I), Where{name, arguments[I]})...));
    }
  }
};

template <auto F> void def(pybind11::module_& m, const char* name, std::initializer_list<const char*> arguments) {
  using B = Bound<F, decltype(F)>;
  if (arguments.size() != B::kCount) throw std::logic_error(std::string(name) + ": one name for each argument");
  B::name = name;
  size_t i = 0;
  for (const char* argument : arguments) B::arguments[i++] = argument;
  B::method = {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(B::call)), METH_FASTCALL, nullptr};
  m.add_object(name, pybind11::reinterpret_steal<pybind11::object>(
                         PyCFunction_NewEx(&B::method, nullptr, pybind11::str(m.attr("__name__")).ptr())));
}

}  // namespace python
}  // namespace gg
