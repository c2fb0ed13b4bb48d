// The neighbours on the CPU without a copy: Python's buffer protocol (numpy) and DLPack, both ways.
#pragma once
#include <Python.h>

namespace gg::python {
int get_buffer(PyObject* self, Py_buffer* view, int flags);
void release_buffer(PyObject* self, Py_buffer* view);
}  // namespace gg::python
