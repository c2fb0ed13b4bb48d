// The module glassgrad._core: the types, the machine's settings, then one line a family.
#include <pybind11/pybind11.h>

#include <cstdlib>

#include "core/allocator.h"
#include "core/backend.h"
#include "core/kernels.h"
#include "core/parallel.h"
#include "python/bind.h"

namespace gg {

namespace python {
void bind_types(pybind11::module_& m);
void bind_tensor(pybind11::module_& m);
void bind_graph(pybind11::module_& m);
void bind_engine(pybind11::module_& m);
void bind_interop(pybind11::module_& m);
}  // namespace python

void bind_elementwise(pybind11::module_& m);
void bind_reduce(pybind11::module_& m);
void bind_scan(pybind11::module_& m);
void bind_layout(pybind11::module_& m);
void bind_creation(pybind11::module_& m);
void bind_index(pybind11::module_& m);
void bind_sort(pybind11::module_& m);
void bind_matmul(pybind11::module_& m);
void bind_conv(pybind11::module_& m);
void bind_pool(pybind11::module_& m);
void bind_resample(pybind11::module_& m);
void bind_softmax(pybind11::module_& m);
void bind_norm(pybind11::module_& m);
void bind_loss(pybind11::module_& m);
void bind_attention(pybind11::module_& m);
void bind_embedding(pybind11::module_& m);
void bind_random(pybind11::module_& m);
void bind_optimizer(pybind11::module_& m);

namespace {

constexpr const char* kIsaName[kIsas] = {"baseline", "avx2", "avx512", "amx"};

void use_threads(int64_t n) {
  check<ValueError>(n >= 1, "set_num_threads: n is ", n, "; it must be at least 1");
  set_num_threads(int(n < 1024 ? n : 1024));
}
int64_t threads() { return num_threads(); }

void use_isa(const std::string& wanted) {
  for (int i = 0; i < kIsas; ++i) {
    if (wanted != kIsaName[i]) continue;
    check<ValueError>(isa_supported(Isa(i)), "set_isa: this machine or build has no ", wanted, " kernels");
    set_isa(Isa(i));
    return;
  }
  throw ValueError("set_isa: '" + wanted + "' is none of 'baseline', 'avx2', 'avx512' and 'amx'");
}
std::string isa() { return kIsaName[int(active_isa())]; }
std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (int i = 0; i < kIsas; ++i)
    if (isa_supported(Isa(i))) names.push_back(kIsaName[i]);
  return names;
}

// Settings from outside. One that cannot be had is a warning: an import should not fail over it, nor pass it over in
// silence.
void warn(const std::string& message) {
  if (PyErr_WarnEx(PyExc_RuntimeWarning, message.c_str(), 1) < 0) throw pybind11::error_already_set();
}

void read_isa_setting() {
  const char* text = std::getenv("GLASSGRAD_ISA");
  if (!text || !*text) return;
  std::string available;
  for (const std::string& name : isas()) {
    if (name == text) return use_isa(name);
    available += (available.empty() ? "" : ", ") + name;
  }
  warn("GLASSGRAD_ISA is '" + std::string(text) + "', but this build on this machine has " + available + "; using " +
       isa());
}

void read_threads_setting() {
  const char* text = std::getenv("GLASSGRAD_NUM_THREADS");
  if (!text || !*text) return;
  char* end;
  long n = std::strtol(text, &end, 10);
  if (*end == 0 && n >= 1) return use_threads(n);
  warn("GLASSGRAD_NUM_THREADS is '" + std::string(text) + "', which is not a number of at least 1; using " +
       std::to_string(threads()));
}

// What an import failed of, in one line.
std::string reason(const pybind11::error_already_set& error) {
  std::string text = pybind11::str(error.value());
  return text.substr(0, text.find('\n'));
}

// The module glassgrad._cuda or glassgrad._simt, with its kernels in a capsule.
void load_backend(DeviceType type) {
  namespace py = pybind11;
  const std::string device = name(type), module = "glassgrad._" + device;
  try {
    py::object capsule = py::module_::import(module.c_str()).attr("backend");
    void* found = PyCapsule_GetPointer(capsule.ptr(), "glassgrad.backend");
    if (!found) throw py::error_already_set();
    install_backend(type, static_cast<const Backend*>(found));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ModuleNotFoundError)) throw ValueError("device " + device + ": " + reason(error));
    if (type == DeviceType::Cuda)
      throw ValueError("device cuda: this build has no CUDA backend: it is made where CMake finds a CUDA compiler");
    throw ValueError("device " + device + ": this build has no module " + module);
  }
}

int64_t count_devices(const std::string& type) {
  for (DeviceType t : {DeviceType::Cpu, DeviceType::Cuda, DeviceType::Simt})
    if (type == name(t)) return device_count(t);
  throw ValueError("device_count: '" + type + "' is none of 'cpu', 'cuda' and 'simt'");
}

void synchronize(Device device) {
  if (device.type != DeviceType::Cpu) backend(device).synchronize();
}

std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t> memory_stats(std::optional<Device> device) {
  bool on_cpu = !device || device->type == DeviceType::Cpu;
  MemoryStats s = on_cpu ? cpu_memory_stats() : backend(*device).memory_stats();
  return {s.allocated, s.peak_allocated, s.cached, s.allocations, s.cache_hits};
}

void reset_peak(std::optional<Device> device) {
  if (!device || device->type == DeviceType::Cpu) return cpu_reset_peak();
  backend(*device).reset_peak();
}

void empty_cache(std::optional<Device> device) {
  if (!device || device->type == DeviceType::Cpu) return cpu_empty_cache();
  backend(*device).empty_cache();
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

DType get_default_dtype() { return default_dtype; }
void set_default_dtype(DType t) {
  check<DTypeError>(is_floating(t), "set_default_dtype: ", t, " is not a floating-point dtype");
  default_dtype = t;
}

DType promote_types(DType a, DType b) { return promote(a, b); }
DType result_type_of(const Operand& a, const Operand& b) { return result_type(a.array, b.array); }

// A long region lets other Python threads run; a region inside a worker, which holds no lock, changes nothing.
void* let_go() { return PyGILState_Check() ? PyEval_SaveThread() : nullptr; }
void take_back(void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); }

}  // namespace
}  // namespace gg

PYBIND11_MODULE(_core, m) {
  using namespace gg;
  m.doc() = "The core of glassgrad: arrays, kernels and the tensor type.";
  set_region_hooks({let_go, take_back});
  set_backend_loader(load_backend);
  read_isa_setting();
  read_threads_setting();
  python::bind_types(m);
  python::bind_tensor(m);
  python::bind_graph(m);
  python::bind_engine(m);
  python::bind_interop(m);
  python::def<&use_threads>(m, "set_num_threads", {"n"});
  python::def<&threads>(m, "get_num_threads", {});
  python::def<&use_isa>(m, "set_isa", {"isa"});
  python::def<&isa>(m, "get_isa", {});
  python::def<&isas>(m, "supported_isas", {});
  python::def<&count_devices>(m, "device_count", {"type"});
  python::def<&synchronize>(m, "synchronize", {"device"});
  python::def<&memory_stats>(m, "memory_stats", {"device"});
  python::def<&reset_peak>(m, "reset_peak_memory_stats", {"device"});
  python::def<&empty_cache>(m, "empty_cache", {"device"});
  python::def<&compiler>(m, "compiler", {});
  python::def<&get_default_dtype>(m, "get_default_dtype", {});
  python::def<&set_default_dtype>(m, "set_default_dtype", {"d"});
  python::def<&promote_types>(m, "promote_types", {"type1", "type2"});
  python::def<&result_type_of>(m, "result_type", {"tensor1", "tensor2"});
  python::def<&bump_version>(m, "bump_version", {"x"});

  bind_elementwise(m);
  bind_reduce(m);
  bind_scan(m);
  bind_layout(m);
  bind_creation(m);
  bind_index(m);
  bind_sort(m);
  bind_matmul(m);
  bind_conv(m);
  bind_pool(m);
  bind_resample(m);
  bind_softmax(m);
  bind_norm(m);
  bind_loss(m);
  bind_attention(m);
  bind_embedding(m);
  bind_random(m);
  bind_optimizer(m);
}
