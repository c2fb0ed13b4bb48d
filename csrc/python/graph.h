// Node, the part of an Op that is not mathematics: what it points at and what it saved
// (python/glassgrad/autograd/graph.py says how a graph is made of them), and `direct`, the call of an op that records
// nothing without a Python frame.
#pragma once
#include <Python.h>
#include <stdint.h>

namespace gg::python {

struct Saved {
  uint32_t version;  // of the tensor when it was saved
  int output;        // which of the node's outputs it is, or -1
};

struct NodeObject {
  PyObject_HEAD PyObject* attributes;
  PyObject* weak_references;
  PyObject* edges;   // a tuple
  PyObject* saved;   // a tuple; None once backward has used it; a Recompute where it is checkpointed
  PyObject* params;  // the arguments after the last tensor
  PyObject* shapes;  // of the arguments; null where all tensors among them have the output's
  PyObject* dtype;   // of the output, or a tuple of them
  PyObject* hooks;   // {output: {id: function}}
  PyObject* code;    // the user's code that recorded it
  int instruction;   // and where in it
  int saved_count;
  Saved few[4];  // for each of saved
  Saved* many;   // the same, where there are more
};

inline NodeObject* as_node(PyObject* o) { return reinterpret_cast<NodeObject*>(o); }
extern PyTypeObject* node_base;  // Node

// The edges of an op's arguments, or an empty tuple when nothing is recorded: a new reference.
PyObject* edges_of(PyObject* const* args, Py_ssize_t n);
PyObject* edge_of(PyObject* tensor);   // None where it needs no gradient: a new reference
void release_saved(NodeObject* node);  // backward has used it
void attach_output(PyObject* tensor, PyObject* node, int output);

}  // namespace gg::python
