// Objects that died, kept for the next ones of their kind: most tensors and nodes live for one op. Python's lock guards
// the list.
#pragma once
#include <Python.h>

namespace gg::python {

class Spares {
 public:
  // An object of that type whose members are still those of the dead one, or null.
  PyObject* take(PyTypeObject* type) { return count_ > 0 ? PyObject_Init(kept_[--count_], type) : nullptr; }
  // False where the list is full: the object is to be freed.
  bool keep(PyObject* dead) {
    if (count_ == kMost) return false;
    kept_[count_++] = dead;
    return true;
  }

 private:
  static constexpr int kMost = 64;
  PyObject* kept_[kMost];
  int count_ = 0;
};

}  // namespace gg::python
