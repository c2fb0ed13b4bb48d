// Backward: the loop that walks the graph from the loss to the leaves.
//
//     find    from the roots, every node and leaf, and how many consumers each has
//     ready   an end whose consumers have all sent their part of its gradient
//     step    dy of a ready node -> its op's backward, in Python -> dx along each edge, added to what that end has
//
// It is a loop, never recursion: a graph may be a million nodes deep. What a run knows of an end is in the run, so
// threads, and a rule that itself calls backward, may walk the same graph.
#include <utility>
#include <vector>

#include "python/bind.h"
#include "python/graph.h"
#include "python/tensor.h"

namespace gg::python {
namespace {

PyObject* accumulate_in = nullptr;  // Python: accumulate_in(leaf, dy, create_graph)
PyObject *s_backward, *s_to;

// A reference that is given back when its holder goes. Python's error is set where an operation here throws Failed.
struct Failed {};
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* stolen) : o_(stolen) {}
  static Ref to(PyObject* borrowed) { return Ref(Py_XNewRef(borrowed)); }
  static Ref checked(PyObject* stolen) {
    if (!stolen) throw Failed();
    return Ref(stolen);
  }
  Ref(Ref&& other) noexcept : o_(std::exchange(other.o_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    PyObject* old = std::exchange(o_, std::exchange(other.o_, nullptr));
    Py_XDECREF(old);
    return *this;
  }
  ~Ref() { Py_XDECREF(o_); }
  PyObject* get() const { return o_; }
  PyObject* release() { return std::exchange(o_, nullptr); }
  explicit operator bool() const { return o_; }

 private:
  PyObject* o_ = nullptr;
};

// A node or leaf of the graph, as a run sees it.
struct End {
  Ref object;
  int64_t waiting = 0;  // parts of its gradient that are still to come
  size_t edges = 0;     // of a node: where its edges begin in Run::edges_
  size_t edge_count = 0;
  bool useful = true;          // whether its backward must run
  bool wanted = false;         // whether it is one of the inputs
  Ref dy;                      // what has come, of output 0
  std::vector<Ref> other_dys;  // and of the others
};

bool is_leaf(PyObject* object) { return is_tensor(object); }

// What an edge points at: the node or leaf, and which output of it.
std::pair<PyObject*, int> target(PyObject* edge) {
  if (!PyTuple_CheckExact(edge)) return {edge, 0};
  return {PyTuple_GET_ITEM(edge, 0), int(PyLong_AsLong(PyTuple_GET_ITEM(edge, 1)))};
}

int output_count(PyObject* object) {
  if (is_leaf(object)) return 1;
  PyObject* dtype = as_node(object)->dtype;
  return dtype && PyTuple_CheckExact(dtype) ? int(PyTuple_GET_SIZE(dtype)) : 1;
}

// The number of each object, by its address: open addressing in a table at most half full.
class Numbers {
 public:
  Numbers() : table_(64, {nullptr, 0}) {}
  // The object's number; a new object gets `next`.
  int64_t of(PyObject* object, int64_t next) {
    if (2 * size_ >= table_.size()) grow();
    auto& entry = place(object);
    if (!entry.first) {
      entry = {object, next};
      ++size_;
    }
    return entry.second;
  }

 private:
  using Entry = std::pair<PyObject*, int64_t>;
  Entry& place(PyObject* object) {
    size_t mask = table_.size() - 1, i = (reinterpret_cast<size_t>(object) >> 4) * 0x9E3779B97F4A7C15u >> 20;
    while (table_[i & mask].first && table_[i & mask].first != object) ++i;
    return table_[i & mask];
  }
  void grow() {
    std::vector<Entry> old(table_.size() * 2, {nullptr, 0});
    old.swap(table_);
    for (const Entry& entry : old)
      if (entry.first) place(entry.first) = entry;
  }

  std::vector<Entry> table_;
  size_t size_ = 0;
};

class Run {
 public:
  Run(bool retain_graph, bool create_graph, bool accumulate)
      : retain_graph_(retain_graph), create_graph_(create_graph), accumulate_(accumulate) {}

  // The gradients of the inputs where they are not accumulated; see python/glassgrad/autograd/engine.py.
  PyObject* run(PyObject* roots, PyObject* gradients, PyObject* inputs) {
    std::vector<Edge> start;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(roots); ++i) start.push_back(number(PyList_GET_ITEM(roots, i)));
    find();
    if (inputs != Py_None) choose(inputs);
    for (const End& end : ends_)
      if (end.useful) for_edges(end, [&](Py_ssize_t, int64_t to, int) { ++ends_[size_t(to)].waiting; });
    for (auto [end, output] : start) ++ends_[size_t(end)].waiting;
    for (size_t i = 0; i < start.size(); ++i)
      send(start[i].to, start[i].output, Ref::to(PyList_GET_ITEM(gradients, Py_ssize_t(i))));
    while (!ready_.empty()) {
      End& end = ends_[size_t(ready_.back())];
      ready_.pop_back();
      is_leaf(end.object.get()) ? finish_leaf(end) : step(end);
    }
    Ref list = Ref::checked(PyList_New(Py_ssize_t(found_.size())));
    for (size_t i = 0; i < found_.size(); ++i)
      PyList_SET_ITEM(list.get(), Py_ssize_t(i), found_[i] ? found_[i].release() : Py_NewRef(Py_None));
    return list.release();
  }

 private:
  struct Edge {
    int64_t to;  // the number of an end, -1 for none
    int output;
  };

  int64_t number_of(PyObject* object) {
    int64_t n = numbers_.of(object, int64_t(ends_.size()));
    if (size_t(n) == ends_.size()) {
      ends_.emplace_back();
      ends_.back().object = Ref::to(object);
    }
    return n;
  }
  Edge number(PyObject* tensor) {
    Ref edge = Ref::checked(edge_of(tensor));
    check<std::runtime_error>(edge.get() != Py_None, "backward: a tensor of the call does not require grad");
    auto [object, output] = target(edge.get());
    return {number_of(object), output};
  }

  // Every end that the roots lead to gets its number, and a node its edges.
  void find() {
    for (size_t i = 0; i < ends_.size(); ++i) {
      PyObject* object = ends_[i].object.get();
      if (is_leaf(object)) continue;
      check<DTypeError>(PyObject_TypeCheck(object, node_base), "backward: the graph holds a ", Py_TYPE(object)->tp_name,
                        ", which is no Op");
      PyObject* edges = as_node(object)->edges;
      ends_[i].edges = edges_.size();
      ends_[i].edge_count = size_t(PyTuple_GET_SIZE(edges));
      for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(edges); ++k) {
        PyObject* edge = PyTuple_GET_ITEM(edges, k);
        auto [to, output] = target(edge);
        edges_.push_back({edge == Py_None ? -1 : number_of(to), output});
      }
    }
  }

  // f(place, number of the end, its output) for each edge of a node that leads somewhere.
  template <class F> void for_edges(const End& end, const F& f) {
    for (size_t k = 0; k < end.edge_count; ++k)
      if (auto [to, output] = edges_[end.edges + k]; to >= 0) f(Py_ssize_t(k), to, output);
  }

  // With inputs, only what leads to them is useful.
  void choose(PyObject* inputs) {
    has_inputs_ = true;
    inputs_ = inputs;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(inputs); ++i) {
      auto [end, output] = number(PyList_GET_ITEM(inputs, i));
      ends_[size_t(end)].wanted = true;
      places_.push_back({end, output});
    }
    found_.resize(places_.size());
    std::vector<std::vector<int64_t>> parents(ends_.size());
    for (size_t i = 0; i < ends_.size(); ++i) {
      ends_[i].useful = false;
      for_edges(ends_[i], [&](Py_ssize_t, int64_t to, int) { parents[size_t(to)].push_back(int64_t(i)); });
    }
    std::vector<int64_t> stack;
    for (auto [end, output] : places_) stack.push_back(end);
    while (!stack.empty()) {
      int64_t end = stack.back();
      stack.pop_back();
      for (int64_t parent : parents[size_t(end)]) {
        if (ends_[size_t(parent)].useful) continue;
        ends_[size_t(parent)].useful = true;
        stack.push_back(parent);
      }
    }
  }

  Ref& part(End& end, int output) {
    if (output == 0) return end.dy;
    if (end.other_dys.empty()) end.other_dys.resize(size_t(output_count(end.object.get()) - 1));
    return end.other_dys.at(size_t(output - 1));
  }

  void send(int64_t to, int output, Ref dy) {
    End& end = ends_[size_t(to)];
    if (dy && dy.get() != Py_None) {
      Ref& so_far = part(end, output);
      so_far = so_far ? Ref::checked(PyNumber_Add(so_far.get(), dy.get())) : std::move(dy);
    }
    if (--end.waiting == 0) ready_.push_back(to);
  }

  void step(End& end) {
    Ref object = Ref::to(end.object.get());
    NodeObject* node = as_node(object.get());
    int64_t here = &end - ends_.data();
    if (node->hooks && node->hooks != Py_None) call_node_hooks(node, end);
    for (size_t i = 0; i < places_.size(); ++i) {
      if (places_[i].to != here) continue;
      Ref dy = Ref::to(part(end, places_[i].output).get());
      if (!accumulate_)
        found_[i] = std::move(dy);
      else if (dy)
        accumulate(PyList_GET_ITEM(inputs_, Py_ssize_t(i)), std::move(dy));
    }
    if (!end.useful) return forget(end);
    Ref dxs = call_backward(object.get(), end);
    if (!retain_graph_) release_saved(node);
    bool several = dxs && PyTuple_CheckExact(dxs.get());
    Py_ssize_t given = several ? PyTuple_GET_SIZE(dxs.get()) : 1;
    for_edges(end, [&](Py_ssize_t k, int64_t to, int output) {
      if (!ends_[size_t(to)].useful && !ends_[size_t(to)].wanted) return;
      PyObject* dx = !dxs || k >= given ? nullptr : several ? PyTuple_GET_ITEM(dxs.get(), k) : dxs.get();
      send(to, output, Ref::to(dx));
    });
  }

  void forget(End& end) {
    end.dy = Ref();
    end.other_dys.clear();
  }

  // dy in the dtype of what it is the gradient of.
  static Ref cast(Ref dy, PyObject* dtype) {
    DType t;
    if (!dy || !is_tensor(dy.get()) || !dtype_from(dtype, &t) || as_tensor(dy.get())->array.dtype() == t) return dy;
    return Ref::checked(PyObject_CallMethodOneArg(dy.get(), s_to, dtype));
  }

  // Nothing where no gradient came. The gradients are given away: the rule may be the last to hold them.
  Ref call_backward(PyObject* object, End& end) {
    PyObject* dtype = as_node(object)->dtype;
    bool several = dtype && PyTuple_CheckExact(dtype);
    size_t n = several ? size_t(PyTuple_GET_SIZE(dtype)) : 1;
    bool any = bool(end.dy);
    for (const Ref& dy : end.other_dys) any = any || dy;
    if (!any) return {};
    if (!several) {
      Ref dy = cast(std::move(end.dy), dtype);
      PyObject* args[] = {object, dy.get()};
      return Ref::checked(PyObject_VectorcallMethod(s_backward, args, 2, nullptr));
    }
    std::vector<Ref> dys;
    std::vector<PyObject*> args = {object};
    for (size_t i = 0; i < n; ++i) {
      dys.push_back(cast(std::move(part(end, int(i))), PyTuple_GET_ITEM(dtype, Py_ssize_t(i))));
      args.push_back(dys.back() ? dys.back().get() : Py_None);
    }
    forget(end);
    return Ref::checked(PyObject_VectorcallMethod(s_backward, args.data(), args.size(), nullptr));
  }

  static Ref call_hooks(PyObject* hooks, Ref dy) {
    Ref list = Ref::checked(PyDict_Values(hooks));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list.get()); ++i) {
      Ref changed = Ref::checked(PyObject_CallOneArg(PyList_GET_ITEM(list.get(), i), dy.get()));
      if (changed.get() != Py_None) dy = std::move(changed);
    }
    return dy;
  }

  void call_node_hooks(NodeObject* node, End& end) {
    Ref items = Ref::checked(PyDict_Items(node->hooks));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items.get()); ++i) {
      PyObject* item = PyList_GET_ITEM(items.get(), i);
      int output = int(PyLong_AsLong(PyTuple_GET_ITEM(item, 0)));
      if (output >= output_count(end.object.get())) continue;
      Ref& dy = part(end, output);
      if (dy) dy = call_hooks(PyTuple_GET_ITEM(item, 1), std::move(dy));
    }
  }

  void finish_leaf(End& end) {
    Ref dy = std::move(end.dy);
    if (!dy) return;
    Ref leaf = Ref::to(end.object.get());
    TensorObject* t = as_tensor(leaf.get());
    Ref dtype(dtype_object(t->array.dtype()));
    dy = cast(std::move(dy), dtype.get());
    if (t->hooks && PyDict_GET_SIZE(t->hooks) > 0) dy = call_hooks(t->hooks, std::move(dy));
    const Array& g = From<Array>::from(dy.get(), {"backward", "a gradient"});
    check<ShapeError>(g.shape() == t->array.shape(), "backward: a gradient of shape ", g.shape(),
                      " arrived for a leaf of shape ", t->array.shape());
    int64_t here = &end - ends_.data();
    if (!has_inputs_ || (accumulate_ && end.wanted)) return accumulate(leaf.get(), std::move(dy));
    for (size_t i = 0; i < places_.size(); ++i)
      if (places_[i].to == here) found_[i] = Ref::to(dy.get());
  }

  // The first gradient is kept as it is if nobody else can see its memory.
  void accumulate(PyObject* leaf, Ref dy) {
    if (!as_tensor(leaf)->grad && !create_graph_ && Py_REFCNT(dy.get()) == 1 && owns_storage(dy.get())) {
      if (!set_gradient(leaf, dy.get())) throw Failed();
      return;
    }
    PyObject* args[] = {leaf, dy.get(), create_graph_ ? Py_True : Py_False};
    Ref done = Ref::checked(PyObject_Vectorcall(accumulate_in, args, 3, nullptr));
  }

  const bool retain_graph_, create_graph_, accumulate_;
  bool has_inputs_ = false;
  PyObject* inputs_ = nullptr;
  std::vector<End> ends_;
  std::vector<Edge> edges_;
  std::vector<Edge> places_;  // of the inputs
  std::vector<Ref> found_;    // their gradients
  std::vector<int64_t> ready_;
  Numbers numbers_;
};

// backward(roots, gradients, retain_graph, create_graph, inputs or None, accumulate): lists; a list.
PyObject* backward(PyObject*, PyObject* const* args, Py_ssize_t n) {
  if (n != 6) return PyErr_Format(PyExc_TypeError, "backward: takes 6 arguments, got %zd", n);
  bool retain_graph = PyObject_IsTrue(args[2]) == 1, create_graph = PyObject_IsTrue(args[3]) == 1;
  bool before = grad_enabled;
  PyObject* found = nullptr;
  grad_enabled = create_graph;
  try {
    found = Run(retain_graph, create_graph, args[5] == Py_True).run(args[0], args[1], args[4]);
  } catch (const Failed&) {
  } catch (...) {
    set_python_error();
  }
  grad_enabled = before;
  return found;
}

PyObject* set_accumulate(PyObject*, PyObject* function) {
  Py_XSETREF(accumulate_in, Py_NewRef(function));
  Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"backward", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(backward)), METH_FASTCALL,
     "Propagates gradients from roots through the graph."},
    {"set_accumulate", set_accumulate, METH_O, "Registers what adds a gradient to a leaf's."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

void bind_engine(pybind11::module_& m) {
  s_backward = PyUnicode_InternFromString("backward");
  s_to = PyUnicode_InternFromString("to");
  if (PyModule_AddFunctions(m.ptr(), functions) < 0) throw pybind11::error_already_set();
}

}  // namespace gg::python
