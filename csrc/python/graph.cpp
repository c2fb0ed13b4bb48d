#include "python/graph.h"

#include <frameobject.h>
#include <structmember.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "python/bind.h"
#include "python/spares.h"
#include "python/tensor.h"

namespace gg::python {

PyTypeObject* node_base = nullptr;

namespace {

PyObject* casting = nullptr;        // Python: casts the arguments of an op while a thread is in autocast
PyObject* unbroadcast = nullptr;    // Python: unbroadcast(dy, shape)
PyObject* changed_error = nullptr;  // Python: the error of a saved tensor that was changed since
PyObject* node_forward = nullptr;   // Op.forward, which computes the op's kernel

PyObject *s_kernel, *s_forward, *s_autocast, *s_saves, *s_is_view, *s_name, *s_restore, *s_module;
PyObject* nothing = nullptr;  // ()

constexpr Py_ssize_t kFewArguments = 16;  // of a call that allocates nothing
constexpr Py_ssize_t kNotNeeded = 32;     // entries of needs where nothing is recorded: as many as any rule asks for

// Where the user's own code is: the innermost frame outside this package.
bool user_line(PyObject** code, int* instruction) {
  *code = nullptr;
  PyFrameObject* frame = PyEval_GetFrame();
  Py_XINCREF(frame);
  while (frame) {
#if PY_VERSION_HEX >= 0x030b0000
    PyObject* globals = PyFrame_GetGlobals(frame);
    int at = PyFrame_GetLasti(frame);
#else
    PyObject* globals = Py_NewRef(frame->f_globals);
    int at = frame->f_lasti * int(sizeof(_Py_CODEUNIT));
#endif
    PyObject* module = PyDict_GetItemWithError(globals, s_module);
    Py_DECREF(globals);
    const char* name = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : "";
    if (!name) PyErr_Clear();
    if (!name || std::strncmp(name, "glassgrad.", 10) != 0) {
      *code = reinterpret_cast<PyObject*>(PyFrame_GetCode(frame));
      *instruction = at;
      Py_DECREF(frame);
      return true;
    }
    PyFrameObject* back = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = back;
  }
  return false;
}

PyObject* tuple_of(PyObject* const* items, Py_ssize_t n) {
  PyObject* tuple = PyTuple_New(n);
  for (Py_ssize_t i = 0; tuple && i < n; ++i) PyTuple_SET_ITEM(tuple, i, Py_NewRef(items[i]));
  return tuple;
}

// The same elements without the graph.
PyObject* alias_of(PyObject* tensor) {
  try {
    return wrap(as_tensor(tensor)->array);
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

Saved* saved_notes(NodeObject* node) { return node->many ? node->many : node->few; }

// Notes the versions of what was saved, and which of it are the node's own outputs.
bool note_saved(NodeObject* node, PyObject* const* outs, Py_ssize_t out_count) {
  Py_ssize_t n = PyTuple_GET_SIZE(node->saved);
  if (n > Py_ssize_t(std::size(node->few))) {
    PyMem_Free(node->many);
    node->many = static_cast<Saved*>(PyMem_Malloc(size_t(n) * sizeof(Saved)));
    if (!node->many) return PyErr_NoMemory(), false;
  }
  Saved* notes = saved_notes(node);
  bool own = false;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* t = PyTuple_GET_ITEM(node->saved, i);
    notes[i] = {is_tensor(t) ? as_tensor(t)->array.storage()->version.load(std::memory_order_relaxed) : 0, -1};
    for (Py_ssize_t j = 0; j < out_count; ++j)
      if (t == outs[j] && t != Py_None) notes[i].output = int(j), own = true;
  }
  node->saved_count = int(n);
  if (!own) return true;
  // A node that held its own output would hold itself: it keeps an alias.
  PyObject* saved = PyTuple_New(n);
  if (!saved) return false;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* t = PyTuple_GET_ITEM(node->saved, i);
    PyObject* kept = notes[i].output < 0 ? Py_NewRef(t) : alias_of(t);
    if (!kept) {
      Py_DECREF(saved);
      return false;
    }
    PyTuple_SET_ITEM(saved, i, kept);
  }
  Py_SETREF(node->saved, saved);
  return true;
}

bool record(NodeObject* node, PyObject* out) {
  bool several = PyTuple_CheckExact(out);
  PyObject* const* outs = several ? PySequence_Fast_ITEMS(out) : &out;
  Py_ssize_t n = several ? PyTuple_GET_SIZE(out) : 1;
  for (Py_ssize_t j = 0; j < n; ++j)
    if (!is_tensor(outs[j])) {
      PyErr_Format(PyExc_TypeError, "%s: forward must return tensors, got %s", Py_TYPE(node)->tp_name,
                   Py_TYPE(outs[j])->tp_name);
      return false;
    }
  if (node->saved && PyTuple_CheckExact(node->saved) && PyTuple_GET_SIZE(node->saved) > 0) {
    Py_CLEAR(node->code);
    user_line(&node->code, &node->instruction);
    if (!note_saved(node, outs, n)) return false;
  }
  for (Py_ssize_t j = 0; j < n; ++j) attach_output(outs[j], reinterpret_cast<PyObject*>(node), int(j));
  PyObject* dtype = nullptr;
  if (several) {
    dtype = PyTuple_New(n);
    if (!dtype) return false;
    for (Py_ssize_t j = 0; j < n; ++j) PyTuple_SET_ITEM(dtype, j, dtype_object(as_tensor(outs[j])->array.dtype()));
  } else {
    dtype = dtype_object(as_tensor(out)->array.dtype());
  }
  Py_XSETREF(node->dtype, dtype);
  return true;
}

Spares spares;  // of classes that add no slots
bool is_plain(PyTypeObject* type) { return type->tp_basicsize == Py_ssize_t(sizeof(NodeObject)); }

PyObject* node_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyObject* o = is_plain(type) ? spares.take(type) : nullptr;
  if (o) {
    std::memset(reinterpret_cast<char*>(o) + sizeof(PyObject), 0, sizeof(NodeObject) - sizeof(PyObject));
    PyObject_GC_Track(o);
  } else {
    o = type->tp_alloc(type, 0);
    if (!o) return nullptr;
  }
  as_node(o)->edges = Py_NewRef(nothing);
  as_node(o)->saved = Py_NewRef(nothing);
  return o;
}

int node_traverse(PyObject* self, visitproc visit, void* arg) {
  NodeObject* node = as_node(self);
  Py_VISIT(node->attributes);
  Py_VISIT(node->edges);
  Py_VISIT(node->saved);
  Py_VISIT(node->params);
  Py_VISIT(node->hooks);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

int node_clear(PyObject* self) {
  NodeObject* node = as_node(self);
  Py_CLEAR(node->attributes);
  Py_CLEAR(node->edges);
  Py_CLEAR(node->saved);
  Py_CLEAR(node->params);
  Py_CLEAR(node->shapes);
  Py_CLEAR(node->dtype);
  Py_CLEAR(node->hooks);
  Py_CLEAR(node->code);
  return 0;
}

void node_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  NodeObject* node = as_node(self);
  PyObject_GC_UnTrack(self);
  Py_TRASHCAN_BEGIN(self, node_dealloc)
  if (node->weak_references) PyObject_ClearWeakRefs(self);
  node_clear(self);
  PyMem_Free(node->many);
  if (!is_plain(type) || type->tp_finalize || !spares.keep(self)) type->tp_free(self);
  Py_DECREF(type);
  Py_TRASHCAN_END
}

// A class attribute as the class holds it.
PyObject* class_attribute(PyTypeObject* type, PyObject* name) { return _PyType_Lookup(type, name); }

// What the class says it saves: pairs (which argument, or -1 for the output; for which argument's gradient, or None for
// all of them).
PyObject* chosen(PyObject* saves, PyObject* edges, PyObject* const* args, Py_ssize_t n, PyObject* out) {
  Py_ssize_t count = PyTuple_GET_SIZE(saves);
  PyObject* saved = PyTuple_New(count);
  if (!saved) return nullptr;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* pair = PyTuple_GET_ITEM(saves, i);
    Py_ssize_t which = PyLong_AsSsize_t(PyTuple_GET_ITEM(pair, 0));
    PyObject* whose = PyTuple_GET_ITEM(pair, 1);
    bool wanted = whose == Py_None || PyTuple_GET_ITEM(edges, PyLong_AsSsize_t(whose)) != Py_None;
    PyTuple_SET_ITEM(saved, i, Py_NewRef(!wanted ? Py_None : which < 0 ? out : which < n ? args[which] : Py_None));
  }
  return saved;
}

// Op.forward in C: the kernel of the arguments. Of them the node keeps what its class says it saves, their shapes where
// some are stretched, and what follows the last tensor.
PyObject* compute(NodeObject* node, PyObject* kernel, PyObject* const* args, Py_ssize_t n) {
  PyObject* out = PyObject_Vectorcall(kernel, args, size_t(n), nullptr);
  if (!out || !is_tensor(out)) return out;
  Py_ssize_t tensors = n;
  while (tensors > 0 && !is_tensor(args[tensors - 1])) --tensors;
  if (tensors < n) {
    Py_XSETREF(node->params, tuple_of(args + tensors, n - tensors));
    if (!node->params) {
      Py_DECREF(out);
      return nullptr;
    }
  }
  const Dims& shape = as_tensor(out)->array.shape();
  bool same = true;
  for (Py_ssize_t i = 0; i < n; ++i) same = same && (!is_tensor(args[i]) || as_tensor(args[i])->array.shape() == shape);
  if (!same) {
    PyObject* shapes = PyTuple_New(n);
    if (!shapes) {
      Py_DECREF(out);
      return nullptr;
    }
    for (Py_ssize_t i = 0; i < n; ++i)
      PyTuple_SET_ITEM(shapes, i,
                       is_tensor(args[i]) ? to_python(as_tensor(args[i])->array.shape()) : Py_NewRef(nothing));
    Py_XSETREF(node->shapes, shapes);
  }
  PyObject* saves = class_attribute(Py_TYPE(node), s_saves);
  if (saves && PyTuple_CheckExact(saves) && PyTuple_GET_SIZE(saves) > 0 && PyTuple_GET_SIZE(node->edges) > 0) {
    PyObject* saved = chosen(saves, node->edges, args, n, out);
    if (!saved) {
      Py_DECREF(out);
      return nullptr;
    }
    Py_SETREF(node->saved, saved);
  }
  return out;
}

// Each output of a view remembers how it was made: (parent, the parent's node, the class, the other arguments).
bool note_views(PyTypeObject* type, PyObject* const* args, Py_ssize_t n, PyObject* out) {
  PyObject* rest = tuple_of(args + 1, n - 1);
  if (!rest) return false;
  PyObject* parent = args[0];
  PyObject* node = as_tensor(parent)->node ? as_tensor(parent)->node : Py_None;
  bool several = PyTuple_CheckExact(out);
  PyObject* const* outs = several ? PySequence_Fast_ITEMS(out) : &out;
  bool done = true;
  for (Py_ssize_t j = 0; done && j < (several ? PyTuple_GET_SIZE(out) : 1); ++j) {
    if (outs[j] == parent) continue;
    PyObject* view = PyTuple_Pack(4, parent, node, type, rest);
    done = view != nullptr;
    if (done) Py_XSETREF(as_tensor(outs[j])->view, view);
  }
  Py_DECREF(rest);
  return done;
}

// Op.apply: runs forward and records the node where a gradient is needed.
PyObject* apply_uncast(PyTypeObject* type, PyObject* const* args, Py_ssize_t n) {
  PyObject* kernel = class_attribute(type, s_kernel);
  if (kernel == Py_None || !PyCFunction_Check(kernel)) kernel = nullptr;
  PyObject* edges = edges_of(args, n);
  if (!edges) return nullptr;
  if (kernel && PyTuple_GET_SIZE(edges) == 0) {
    Py_DECREF(edges);
    return PyObject_Vectorcall(kernel, args, size_t(n), nullptr);
  }
  PyObject* op = node_new(type, nullptr, nullptr);
  if (!op) {
    Py_DECREF(edges);
    return nullptr;
  }
  Py_SETREF(as_node(op)->edges, edges);
  PyObject *out, *forward = class_attribute(type, s_forward);
  if (kernel && forward == node_forward) {
    out = compute(as_node(op), kernel, args, n);
  } else {
    PyObject *few[kFewArguments + 1], **given = few;
    if (n > kFewArguments) given = static_cast<PyObject**>(PyMem_Malloc(size_t(n + 1) * sizeof(PyObject*)));
    if (given) {
      given[0] = op;
      std::copy_n(args, n, given + 1);
      out = PyObject_Vectorcall(forward, given, size_t(n) + 1, nullptr);
    } else {
      out = PyErr_NoMemory();
    }
    if (given != few) PyMem_Free(given);
  }
  if (out && PyTuple_GET_SIZE(as_node(op)->edges) > 0 && !record(as_node(op), out)) Py_CLEAR(out);
  Py_DECREF(op);
  if (out && class_attribute(type, s_is_view) == Py_True && !note_views(type, args, n, out)) Py_CLEAR(out);
  return out;
}

PyObject* apply_op(PyTypeObject* type, PyObject* const* args, Py_ssize_t n) {
  PyObject* rule = casting ? class_attribute(type, s_autocast) : nullptr;
  if (!rule || rule == Py_None) return apply_uncast(type, args, n);
  PyObject* given = tuple_of(args, n);
  if (!given) return nullptr;
  PyObject* cast = PyObject_CallFunctionObjArgs(casting, reinterpret_cast<PyObject*>(type), given, nullptr);
  Py_DECREF(given);
  if (!cast) return nullptr;
  PyObject* out = apply_uncast(type, PySequence_Fast_ITEMS(cast), PyTuple_GET_SIZE(cast));
  Py_DECREF(cast);
  return out;
}

PyObject* apply(PyObject* type, PyObject* const* args, Py_ssize_t n) {
  return apply_op(reinterpret_cast<PyTypeObject*>(type), args, n);
}

PyObject* node_record(PyObject* self, PyObject* out) {
  if (!record(as_node(self), out)) return nullptr;
  Py_RETURN_NONE;
}

PyObject* node_save(PyObject* self, PyObject* const* tensors, Py_ssize_t n) {
  PyObject* saved = tuple_of(tensors, n);
  if (!saved) return nullptr;
  Py_XSETREF(as_node(self)->saved, saved);
  Py_RETURN_NONE;
}

PyObject* raise_freed(PyObject* self) {
  PyObject* name = PyObject_GetAttr(self, s_name);
  if (!name) return nullptr;
  PyErr_Format(PyExc_RuntimeError,
               "%U: backward ran through this part of the graph before, and what it had saved is freed; pass "
               "retain_graph=True to the first backward",
               name);
  Py_DECREF(name);
  return nullptr;
}

PyObject* get_saved(PyObject* self, void*) {
  NodeObject* node = as_node(self);
  if (!node->saved || node->saved == Py_None) return raise_freed(self);
  if (!PyTuple_CheckExact(node->saved)) {  // checkpointed: computed again now
    PyObject* done = PyObject_CallMethodNoArgs(node->saved, s_restore);
    if (!done) return nullptr;
    Py_DECREF(done);
  }
  PyObject* saved = node->saved;
  Saved* notes = saved_notes(node);
  bool own = false;
  for (int i = 0; i < node->saved_count; ++i) {
    PyObject* t = PyTuple_GET_ITEM(saved, i);
    own = own || notes[i].output >= 0;
    if (!is_tensor(t) || as_tensor(t)->array.storage()->version.load(std::memory_order_relaxed) == notes[i].version)
      continue;
    PyObject* version = PyLong_FromUnsignedLong(notes[i].version);
    PyObject* error = PyObject_CallFunctionObjArgs(changed_error, self, t, version, nullptr);
    Py_XDECREF(version);
    if (error) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
    Py_XDECREF(error);
    return nullptr;
  }
  if (!own || !grad_enabled) return Py_NewRef(saved);
  // An output takes part in the graph of its own gradient.
  Py_ssize_t n = PyTuple_GET_SIZE(saved);
  PyObject* attached = PyTuple_New(n);
  if (!attached) return nullptr;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* t = PyTuple_GET_ITEM(saved, i);
    bool is_output = i < node->saved_count && notes[i].output >= 0;
    PyObject* given = is_output ? alias_of(t) : Py_NewRef(t);
    if (!given) {
      Py_DECREF(attached);
      return nullptr;
    }
    if (is_output) attach_output(given, self, notes[i].output);
    PyTuple_SET_ITEM(attached, i, given);
  }
  return attached;
}

// _replace_saved(old, new): what was saved of one tensor is that of another, which nobody will change.
PyObject* replace_saved(PyObject* self, PyObject* const* args, Py_ssize_t) {
  NodeObject* node = as_node(self);
  Py_ssize_t n = PyTuple_GET_SIZE(node->saved);
  PyObject* saved = PyTuple_New(n);
  if (!saved) return nullptr;
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* t = PyTuple_GET_ITEM(node->saved, i);
    if (t == args[0] && i < node->saved_count)
      saved_notes(node)[i].version = as_tensor(args[1])->array.storage()->version.load(std::memory_order_relaxed);
    PyTuple_SET_ITEM(saved, i, Py_NewRef(t == args[0] ? args[1] : t));
  }
  Py_SETREF(node->saved, saved);
  Py_RETURN_NONE;
}

// _take_saved(other): has saved what another node of the same op has.
PyObject* take_saved(PyObject* self, PyObject* other) {
  NodeObject *to = as_node(self), *from = as_node(other);
  Py_XSETREF(to->saved, Py_XNewRef(from->saved));
  to->saved_count = from->saved_count;
  if (from->many) {
    Saved* many = static_cast<Saved*>(PyMem_Realloc(to->many, size_t(from->saved_count) * sizeof(Saved)));
    if (!many) return PyErr_NoMemory();
    to->many = many;
  }
  std::copy_n(saved_notes(from), from->saved_count, saved_notes(to));
  Py_RETURN_NONE;
}

PyObject* release(PyObject* self, PyObject*) {
  release_saved(as_node(self));
  Py_RETURN_NONE;
}

// by(i, dy): the gradient by argument i from that by the output: dy, summed over the axes along which the argument was
// stretched; None where it needs none.
PyObject* by(PyObject* self, PyObject* const* args, Py_ssize_t n) {
  NodeObject* node = as_node(self);
  if (n != 2) return PyErr_Format(PyExc_TypeError, "by: takes 2 arguments, got %zd", n);
  Py_ssize_t i = PyLong_AsSsize_t(args[0]);
  if (i < 0 || i >= PyTuple_GET_SIZE(node->edges)) return PyErr_Format(PyExc_IndexError, "by: no argument %zd", i);
  if (PyTuple_GET_ITEM(node->edges, i) == Py_None) Py_RETURN_NONE;
  if (!node->shapes) return Py_NewRef(args[1]);
  return PyObject_CallFunctionObjArgs(unbroadcast, args[1], PyTuple_GET_ITEM(node->shapes, i), nullptr);
}

PyObject* get_needs(PyObject* self, void*) {
  PyObject* edges = as_node(self)->edges;
  Py_ssize_t n = PyTuple_GET_SIZE(edges);
  PyObject* needs = PyTuple_New(n ? n : kNotNeeded);
  if (!needs) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(needs); ++i)
    PyTuple_SET_ITEM(needs, i, PyBool_FromLong(i < n && PyTuple_GET_ITEM(edges, i) != Py_None));
  return needs;
}

PyObject* line_object(PyObject* code, int instruction) {
  if (!code) Py_RETURN_NONE;
  return Py_BuildValue("(Oi)", code, instruction);
}
PyObject* get_line(PyObject* self, void*) { return line_object(as_node(self)->code, as_node(self)->instruction); }

PyObject* get_params(PyObject* self, void*) {
  return Py_NewRef(as_node(self)->params ? as_node(self)->params : nothing);
}
int set_params(PyObject* self, PyObject* value, void*) {
  Py_XSETREF(as_node(self)->params, Py_XNewRef(value));
  return 0;
}

int set_saved(PyObject* self, PyObject* value, void*) {
  Py_XSETREF(as_node(self)->saved, Py_NewRef(value ? value : Py_None));
  return 0;
}
PyObject* get_raw_saved(PyObject* self, void*) { return Py_XNewRef(as_node(self)->saved); }

PyGetSetDef getset[] = {
    {"saved", get_saved, nullptr, "What was saved, in order, unchanged since.", nullptr},
    {"_saved", get_raw_saved, set_saved, "The same without a check; None once backward has used it.", nullptr},
    {"needs", get_needs, nullptr, "Whether each argument needs a gradient.", nullptr},
    {"params", get_params, set_params, "The arguments after the last tensor.", nullptr},
    {"line", get_line, nullptr, "The user's (code, instruction) that recorded it, or None.", nullptr},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef methods[] = {
    {"apply", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(apply)), METH_FASTCALL | METH_CLASS,
     "Runs forward and records the node where a gradient is needed."},
    {"save", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(node_save)), METH_FASTCALL,
     "Keeps inputs or outputs for backward; reading them back fails if they were changed in between."},
    {"release", release, METH_NOARGS, "Forgets what was saved: backward has used it."},
    {"by", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(by)), METH_FASTCALL,
     "by(i, dy): dy summed over the axes along which argument i was stretched; None where it needs no gradient."},
    {"_record", node_record, METH_O, "Makes a tensor, or a tuple of them, the output."},
    {"_replace_saved", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(replace_saved)), METH_FASTCALL,
     "Keeps one tensor in place of another."},
    {"_take_saved", take_saved, METH_O, "Saves what another node has saved."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"edges", T_OBJECT, offsetof(NodeObject, edges), 0, nullptr},
    {"shapes", T_OBJECT, offsetof(NodeObject, shapes), 0, nullptr},
    {"dtype", T_OBJECT, offsetof(NodeObject, dtype), 0, nullptr},
    {"hooks", T_OBJECT, offsetof(NodeObject, hooks), 0, nullptr},
    {"__dictoffset__", T_PYSSIZET, offsetof(NodeObject, attributes), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(NodeObject, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(node_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(node_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(node_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(node_clear)},
    {Py_tp_getset, getset},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, nullptr},
};
PyType_Spec spec = {"glassgrad._core.Node", sizeof(NodeObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

// Function: a public function that is one op. A call with its required positional arguments is Op.apply of them,
// without a frame of Python; any other goes to the function, which is also what there is to read.
struct FunctionObject {
  PyObject_HEAD vectorcallfunc call;
  PyObject* function;
  PyTypeObject* op;
  PyObject* when;  // of the core, or null
  Py_ssize_t required;
  bool tensors_only;  // an operator that leaves what is no tensor to the other operand
};
FunctionObject* as_function(PyObject* o) { return reinterpret_cast<FunctionObject*>(o); }
PyTypeObject* function_type = nullptr;

PyObject* function_call(PyObject* self, PyObject* const* args, size_t flagged, PyObject* names) {
  FunctionObject* f = as_function(self);
  Py_ssize_t n = PyVectorcall_NARGS(flagged);
  if (f->tensors_only && n == 2 && !(is_tensor(args[0]) && is_tensor(args[1]))) Py_RETURN_NOTIMPLEMENTED;
  if (n != f->required || names) return PyObject_Vectorcall(f->function, args, flagged, names);
  if (f->when) {
    PyObject* fits = PyObject_Vectorcall(f->when, args, size_t(n), nullptr);
    if (!fits) return nullptr;
    Py_DECREF(fits);  // True and False live on
    if (fits != Py_True) return PyObject_Vectorcall(f->function, args, flagged, names);
  }
  return apply_op(f->op, args, n);
}

PyObject* function_bind(PyObject* self, PyObject* object, PyObject*) {
  return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}

PyObject* function_doc(PyObject* self, void*) { return PyObject_GetAttrString(as_function(self)->function, "__doc__"); }

// Name and signature are the function's.
PyObject* function_attribute(PyObject* self, PyObject* name) {
  if (PyUnicode_CompareWithASCIIString(name, "__module__") != 0) {
    PyObject* found = PyObject_GenericGetAttr(self, name);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
    PyErr_Clear();
  }
  return PyObject_GetAttr(as_function(self)->function, name);
}

PyObject* function_repr(PyObject* self) { return PyObject_Repr(as_function(self)->function); }
PyObject* function_reduce(PyObject* self, PyObject*) {
  return PyObject_GetAttrString(as_function(self)->function, "__qualname__");
}

int function_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(as_function(self)->function);
  Py_VISIT(as_function(self)->op);
  Py_VISIT(as_function(self)->when);
  Py_VISIT(Py_TYPE(self));
  return 0;
}
int function_clear(PyObject* self) {
  Py_CLEAR(as_function(self)->function);
  Py_CLEAR(as_function(self)->op);
  Py_CLEAR(as_function(self)->when);
  return 0;
}
void function_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  function_clear(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(FunctionObject, call), READONLY, nullptr},
    {"__wrapped__", T_OBJECT, offsetof(FunctionObject, function), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};
PyGetSetDef function_getset[] = {
    {"__doc__", function_doc, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};
PyMethodDef function_methods[] = {
    {"__reduce__", function_reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
PyType_Slot function_slots[] = {
    {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
    {Py_tp_descr_get, reinterpret_cast<void*>(function_bind)},
    {Py_tp_getattro, reinterpret_cast<void*>(function_attribute)},
    {Py_tp_repr, reinterpret_cast<void*>(function_repr)},
    {Py_tp_dealloc, reinterpret_cast<void*>(function_dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(function_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(function_clear)},
    {Py_tp_getset, function_getset},
    {Py_tp_members, function_members},
    {Py_tp_methods, function_methods},
    {0, nullptr},
};
PyType_Spec function_spec = {
    "glassgrad._core.Function", sizeof(FunctionObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    function_slots};

PyObject* make_function(PyObject* function, PyObject* op, PyObject* when, Py_ssize_t required, bool tensors_only) {
  PyObject* o = function_type->tp_alloc(function_type, 0);
  if (!o) return nullptr;
  FunctionObject* f = as_function(o);
  f->call = function_call;
  f->function = Py_NewRef(function);
  f->op = reinterpret_cast<PyTypeObject*>(Py_NewRef(op));
  f->when = when && when != Py_None ? Py_NewRef(when) : nullptr;
  f->required = required;
  f->tensors_only = tensors_only;
  return o;
}

// direct(function, op, arguments, when): the Function.
PyObject* direct(PyObject*, PyObject* args) {
  PyObject *function, *op, *when;
  Py_ssize_t required;
  if (!PyArg_ParseTuple(args, "O!O!nO", &PyFunction_Type, &function, &PyType_Type, &op, &required, &when))
    return nullptr;
  PyObject* defaults = PyFunction_GetDefaults(function);
  if (required < 0) {
    required = reinterpret_cast<PyCodeObject*>(PyFunction_GetCode(function))->co_argcount;
    required -= defaults ? PyTuple_GET_SIZE(defaults) : 0;
  }
  return make_function(function, op, when, required, false);
}

// operator_of(function): the Function as an operator that gives NotImplemented for what is no tensor.
PyObject* operator_of(PyObject*, PyObject* function) {
  if (Py_TYPE(function) != function_type) return PyErr_Format(PyExc_TypeError, "operator_of: needs a Function");
  FunctionObject* f = as_function(function);
  return make_function(f->function, reinterpret_cast<PyObject*>(f->op), f->when, f->required, true);
}

PyObject* set_casting(PyObject*, PyObject* function) {
  Py_XSETREF(casting, function == Py_None ? nullptr : Py_NewRef(function));
  Py_RETURN_NONE;
}

PyObject* set_graph(PyObject*, PyObject* args) {
  PyObject *forward, *fold, *error;
  if (!PyArg_ParseTuple(args, "OOO", &forward, &fold, &error)) return nullptr;
  Py_XSETREF(node_forward, Py_NewRef(forward));
  Py_XSETREF(unbroadcast, Py_NewRef(fold));
  Py_XSETREF(changed_error, Py_NewRef(error));
  Py_RETURN_NONE;
}

PyObject* user_line_object(PyObject*, PyObject*) {
  PyObject* code;
  int instruction = 0;
  user_line(&code, &instruction);
  PyObject* line = line_object(code, instruction);
  Py_XDECREF(code);
  return line;
}

PyMethodDef functions[] = {
    {"direct", direct, METH_VARARGS, "A function whose plain call is an op's apply, without a frame of Python."},
    {"operator_of", operator_of, METH_O, "The same as an operator between tensors."},
    {"set_casting", set_casting, METH_O, "What casts the arguments of ops while a thread is in autocast, or None."},
    {"set_graph", set_graph, METH_VARARGS, "Registers Op.forward, unbroadcast and the error of changed tensors."},
    {"user_line", user_line_object, METH_NOARGS, "(code, instruction) of the innermost frame outside this package."},
    {nullptr, nullptr, 0, nullptr},
};

PyTypeObject* make_type(PyType_Spec* spec) {
  PyObject* type = PyType_FromSpec(spec);
  if (!type) throw pybind11::error_already_set();
  return reinterpret_cast<PyTypeObject*>(type);
}

}  // namespace

void release_saved(NodeObject* node) {
  bool empty = node->saved && PyTuple_CheckExact(node->saved) && PyTuple_GET_SIZE(node->saved) == 0;
  if (!empty) Py_XSETREF(node->saved, Py_NewRef(Py_None));
}

void bind_graph(pybind11::module_& m) {
  s_kernel = PyUnicode_InternFromString("kernel");
  s_forward = PyUnicode_InternFromString("forward");
  s_autocast = PyUnicode_InternFromString("autocast");
  s_is_view = PyUnicode_InternFromString("is_view");
  s_saves = PyUnicode_InternFromString("saves");
  s_name = PyUnicode_InternFromString("name");
  s_restore = PyUnicode_InternFromString("restore");
  s_module = PyUnicode_InternFromString("__name__");
  nothing = PyTuple_New(0);
  node_base = make_type(&spec);
  function_type = make_type(&function_spec);
  m.add_object("Node", reinterpret_cast<PyObject*>(node_base));
  m.add_object("Function", reinterpret_cast<PyObject*>(function_type));
  if (PyModule_AddFunctions(m.ptr(), functions) < 0) throw pybind11::error_already_set();
}

}  // namespace gg::python
