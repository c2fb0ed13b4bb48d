// The module glassgrad._simt: the kernels of *_cuda.cu as fibers on the CPU, and the switches of their checks.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <string.h>

#include <array>

#include <string>
#include <vector>

#include "core/backend.h"
#include "core/check.h"
#include "cuda/memory.h"
#include "simt/check.h"
#include "simt/counters.h"
#include "simt/runtime.h"

namespace gg::cuda {

void* scratch_allocate(size_t bytes) { return simt::device_allocate(bytes); }
void scratch_release(void* data, size_t bytes) { simt::device_release(data, bytes); }
void copy_in(void* device, const void* host, size_t bytes) {
  simt::Unlocked memory_is_open;
  memcpy(device, host, bytes);
}
void copy_out(void* host, const void* device, size_t bytes) {
  simt::Unlocked memory_is_open;
  memcpy(host, device, bytes);
}
void zero(void* device, size_t bytes) {
  simt::Unlocked memory_is_open;
  memset(device, 0, bytes);
}
int multiprocessors() { return 2; }
int architecture() { return simt::settings().architecture; }
size_t shared_limit() { return simt::kMaxShared; }
const uint64_t* replay_words() { return nullptr; }

}  // namespace gg::cuda

namespace gg::simt {
namespace {

int64_t allocations = 0, peak = 0;

void* allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  ++allocations;
  void* p = device_allocate(bytes);
  peak = std::max(peak, int64_t(device_bytes_in_use()));
  return p;
}

const Backend kBackend = {[] { return 1; },
                          [](int) {},
                          allocate,
                          [](void* data, size_t bytes, int) { device_release(data, bytes); },
                          cuda::copy_in,
                          cuda::copy_out,
                          [](void* to, const void* from, size_t bytes) {
                            Unlocked memory_is_open;
                            memmove(to, from, bytes);
                          },
                          [] {},
                          [] { return MemoryStats{int64_t(device_bytes_in_use()), peak, 0, allocations, 0}; },
                          [] { peak = int64_t(device_bytes_in_use()); },
                          [] {},
#define GG_TABLE_ADDRESS(Table, name) &cuda::name,
                          GG_TABLES(GG_TABLE_ADDRESS)
#undef GG_TABLE_ADDRESS
};

void set_schedule(const std::string& kind, uint64_t seed) {
  Settings& s = settings();
  if (kind == "forward")
    s.schedule = Schedule::Forward;
  else if (kind == "reverse")
    s.schedule = Schedule::Reverse;
  else if (kind == "random")
    s.schedule = Schedule::Random;
  else
    throw pybind11::value_error("schedule: '" + kind + "' is none of 'forward', 'reverse' and 'random'");
  s.seed = seed;
}

void set_architecture(int architecture) {
  if (architecture != 75 && architecture != 80 && architecture != 90)
    throw pybind11::value_error("architecture: " + std::to_string(architecture) + " is none of 75, 80 and 90");
  settings().architecture = architecture;
}

// The tables of a Backend, in their order: they are its last members.
std::vector<std::string> table_names() {
#define GG_TABLE_NAME(Table, name) #name,
  return {GG_TABLES(GG_TABLE_NAME)};
#undef GG_TABLE_NAME
}

// A kernel of another module, by the start function that raw.h gives it and the bytes of its arguments.
void start_raw(uintptr_t start, const std::array<unsigned, 3>& grid, const std::array<unsigned, 3>& block,
               size_t shared_bytes, const std::vector<std::string>& arguments) {
  std::vector<const void*> addresses;
  for (const std::string& a : arguments) addresses.push_back(a.data());
  using Start = void (*)(Dim3, Dim3, size_t, const void* const*);
  reinterpret_cast<Start>(start)(Dim3(grid[0], grid[1], grid[2]), Dim3(block[0], block[1], block[2]), shared_bytes,
                                 addresses.data());
}

pybind11::dict counted() {
  pybind11::dict d;
#define GG_COUNTER_ITEM(name) d[#name] = counters.name;
  GG_COUNTERS(GG_COUNTER_ITEM)
#undef GG_COUNTER_ITEM
  return d;
}

const char* schedule_name() {
  Schedule s = settings().schedule;
  return s == Schedule::Forward ? "forward" : s == Schedule::Reverse ? "reverse" : "random";
}

}  // namespace
}  // namespace gg::simt

namespace gg::simt {
void bind_mock_memory(pybind11::module_& m);
}

PYBIND11_MODULE(_simt, m) {
  namespace py = pybind11;
  using namespace gg::simt;
  m.doc() = "The CUDA kernels of glassgrad on the CPU, with checks.";
  if (const char* text = std::getenv("GLASSGRAD_SIMT_CHECKS")) settings().checks = strcmp(text, "0") != 0;
  if (const char* text = std::getenv("GLASSGRAD_SIMT_LOCK")) settings().lock = strcmp(text, "0") != 0;
  if (const char* text = std::getenv("GLASSGRAD_SIMT_SCHEDULE")) {
    std::string all = text, kind = all.substr(0, all.find(':'));
    set_schedule(kind, kind.size() < all.size() ? std::stoull(all.substr(kind.size() + 1)) : 0);
  }
  if (const char* text = std::getenv("GLASSGRAD_SIMT_ARCH")) set_architecture(std::atoi(text));
  m.attr("backend") = py::capsule(&kBackend, "glassgrad.backend");
  bind_mock_memory(m);
  m.def("set_checks", [](bool on) { settings().checks = on; });
  m.def("get_checks", [] { return settings().checks; });
  m.def("set_schedule", set_schedule);
  m.def("set_architecture", set_architecture);
  m.def("get_architecture", [] { return settings().architecture; });
  m.def("count", count);
  m.def("counters", counted);
  m.def("start_raw", start_raw);
  m.def("table_names", table_names);
  m.def("functions_before_tables", [] { return sizeof(gg::Backend) / sizeof(void*) - table_names().size(); });
  m.def("get_schedule", [] { return py::make_tuple(schedule_name(), settings().seed); });
}
