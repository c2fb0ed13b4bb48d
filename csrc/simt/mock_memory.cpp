// The CUDA backend's allocator over a device that only counts: it is tested where no GPU is.
#include <pybind11/pybind11.h>

#include <map>
#include <set>
#include <string>

#include "cuda/allocator.h"
#include "cuda/allocator_views.h"

namespace gg::simt {
namespace {

void* pointer(uintptr_t number) { return reinterpret_cast<void*>(number); }
uintptr_t number(const void* p) { return reinterpret_cast<uintptr_t>(p); }

// Addresses that nobody may read or write. Work in a stream is done when `finish` says so, or when it is waited for.
class MockMemory : public cuda::DeviceMemory {
 public:
  explicit MockMemory(size_t capacity) : capacity(capacity) {}

  void* allocate(size_t bytes) override {
    if (bytes > capacity - in_use) return nullptr;
    in_use += bytes;
    uintptr_t at = next_address;
    next_address += bytes;
    live[at] = bytes;
    return pointer(at);
  }
  void release(void* data) override {
    in_use -= live.at(number(data));
    live.erase(number(data));
  }
  void info(size_t* free, size_t* total) override {
    *free = capacity - in_use;
    *total = capacity;
  }
  void* record(void* stream) override {
    uintptr_t event = next_event++;
    under_way[event] = number(stream);
    return pointer(event);
  }
  bool passed(void* event) override { return !under_way.count(number(event)); }
  void wait(void* event) override {
    ++waits;
    finish(under_way.at(number(event)), number(event));
  }
  void drop(void* event) override { under_way.erase(number(event)); }

  void finish(uintptr_t stream, uintptr_t last = UINTPTR_MAX) {
    std::erase_if(under_way, [&](auto& e) { return e.second == stream && e.first <= last; });
  }

  size_t capacity, in_use = 0;
  int waits = 0;
  std::map<uintptr_t, size_t> live;
  std::map<uintptr_t, uintptr_t> under_way;  // event: stream
  uintptr_t next_address = uintptr_t(1) << 40, next_event = 1;
};

struct MockAllocator {
  explicit MockAllocator(size_t capacity) : memory(capacity), allocator(memory, "mock:0") {}
  MockMemory memory;
  cuda::CachingAllocator allocator;
};

}  // namespace

void bind_mock_memory(pybind11::module_& m) {
  namespace py = pybind11;
  using A = MockAllocator;
  py::class_<A>(m, "MockAllocator")
      .def(py::init<size_t>())
      .def("allocate", [](A& a, size_t bytes, uintptr_t s) { return number(a.allocator.allocate(bytes, pointer(s))); })
      .def("release", [](A& a, uintptr_t data) { a.allocator.release(pointer(data)); })
      .def("record_stream",
           [](A& a, uintptr_t data, uintptr_t s) { return a.allocator.record_stream(pointer(data), pointer(s)); })
      .def("finish", [](A& a, uintptr_t stream) { a.memory.finish(stream); })
      .def("empty_cache", [](A& a) { a.allocator.empty_cache(); })
      .def("set_limit", [](A& a, size_t bytes) { a.allocator.set_limit(bytes); })
      .def("stats", [](A& a) { return cuda::stats_dict(a.allocator.stats()); })
      .def("reset_peak", [](A& a) { a.allocator.reset_peak(); })
      .def("reset_accumulated", [](A& a) { a.allocator.reset_accumulated(); })
      .def("segments", [](A& a) { return cuda::segments_list(a.allocator.segments(), 0); })
      .def("make_pool", [](A& a) { return a.allocator.make_pool(); })
      .def("hold_pool", [](A& a, uint64_t pool) { a.allocator.hold_pool(pool); })
      .def("drop_pool", [](A& a, uint64_t pool) { a.allocator.drop_pool(pool); })
      .def("begin_capture",
           [](A& a, uint64_t pool, uintptr_t stream) {
             a.allocator.begin_capture(pool, [stream](void* s) { return number(s) == stream; });
           })
      .def("end_capture", [](A& a, uint64_t pool) { a.allocator.end_capture(pool); })
      .def_property_readonly("device_bytes", [](A& a) { return a.memory.in_use; })
      .def_property_readonly("waits", [](A& a) { return a.memory.waits; })
      .def_property_readonly("events", [](A& a) { return a.memory.under_way.size(); });
}

}  // namespace gg::simt
