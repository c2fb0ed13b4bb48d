// The module glassgrad._cuda: the kernels of *_cuda.cu and *_sm90.cu, memory, streams, events and graphs of CUDA
// devices. It imports on a machine without driver or device; the first use says what is missing.
#include <pybind11/pybind11.h>

#include <string>

#include "core/backend.h"
#include "core/check.h"
#include "cuda/allocator.h"
#include "cuda/allocator_views.h"
#include "cuda/graph.h"
#include "cuda/memory.h"
#include "cuda/pinned.h"
#include "cuda/runtime.h"

namespace py = pybind11;

namespace gg::cuda {
namespace {

int usable_devices() {
  check<ValueError>(device_count() > 0, "device cuda: ", problem());
  return device_count();
}

// Streams and events are numbers in Python.
cudaStream_t as_stream(uintptr_t s) { return reinterpret_cast<cudaStream_t>(s); }
cudaEvent_t as_event(uintptr_t e) { return reinterpret_cast<cudaEvent_t>(e); }
template <class Handle> uintptr_t number(Handle h) { return reinterpret_cast<uintptr_t>(h); }

void synchronize_device(int device) {
  OnDevice on(device);
  Waiting waiting;
  check_cuda(cudaDeviceSynchronize(), "waiting for the device");
}

MemoryStats memory_stats() {
  AllocatorStats s = allocator(device_in_use()).stats();
  const Tally& allocated = s.of(Counter::AllocatedBytes);
  return {allocated.current, allocated.peak, s.of(Counter::ReservedBytes).current - s.of(Counter::ActiveBytes).current,
          s.of(Counter::Allocation).allocated, s.hits};
}

// An error of an earlier kernel surfaces at the next launch; letting go of memory must not throw.
void release(void* data, size_t, int index) {
  try {
    allocator(index).release(data);
  } catch (const std::exception&) {
  }
}

const Backend kBackend = {usable_devices,
                          use_device,
                          [](size_t bytes) { return allocator(device_in_use()).allocate(bytes, stream()); },
                          release,
                          copy_in,
                          copy_out,
                          copy_within,
                          [] { synchronize_device(device_in_use()); },
                          memory_stats,
                          [] { allocator(device_in_use()).reset_peak(); },
                          [] { allocator(device_in_use()).empty_cache(); },
#define GG_TABLE_ADDRESS(Table, name) &cuda::name,
                          GG_TABLES(GG_TABLE_ADDRESS)
#undef GG_TABLE_ADDRESS
};

py::dict properties_dict(int device) {
  const cudaDeviceProp& p = properties(device);
  py::dict d;
  d["name"] = p.name;
  d["major"] = p.major;
  d["minor"] = p.minor;
  d["total_memory"] = p.totalGlobalMem;
  d["multi_processor_count"] = p.multiProcessorCount;
  d["warp_size"] = p.warpSize;
  d["max_threads_per_block"] = p.maxThreadsPerBlock;
  d["max_threads_per_multi_processor"] = p.maxThreadsPerMultiProcessor;
  d["regs_per_multiprocessor"] = p.regsPerMultiprocessor;
  d["shared_memory_per_block"] = p.sharedMemPerBlock;
  d["shared_memory_per_block_optin"] = p.sharedMemPerBlockOptin;
  d["shared_memory_per_multiprocessor"] = p.sharedMemPerMultiprocessor;
  d["L2_cache_size"] = p.l2CacheSize;
  d["is_integrated"] = p.integrated;
  d["is_multi_gpu_board"] = p.isMultiGpuBoard;
  d["pci_bus_id"] = p.pciBusID;
  d["pci_device_id"] = p.pciDeviceID;
  d["pci_domain_id"] = p.pciDomainID;
  std::string uuid;
  for (int i = 0; i < 16; ++i) {
    char two[3];
    snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(p.uuid.bytes[i]));
    uuid += std::string(i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "") + two;
  }
  d["uuid"] = uuid;
  return d;
}

std::pair<size_t, size_t> mem_get_info(int device) {
  OnDevice on(device);
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "asking for free memory");
  return {free, total};
}

// Pinned memory with the buffer protocol, for a tensor to lie in.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t bytes) : bytes_(bytes) {
    usable_devices();
    data_ = pinned_allocate(bytes);
  }
  ~PinnedBuffer() { pinned_release(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  py::buffer_info info() { return py::buffer_info(static_cast<uint8_t*>(data_), py::ssize_t(bytes_)); }

 private:
  size_t bytes_;
  void* data_;
};

uintptr_t make_event(int device, bool timing, bool blocking, bool interprocess) {
  OnDevice on(device);
  unsigned flags = (timing ? cudaEventDefault : cudaEventDisableTiming) |
                   (blocking ? cudaEventBlockingSync : cudaEventDefault) |
                   (interprocess ? cudaEventInterprocess : cudaEventDefault);
  cudaEvent_t event;
  check_cuda(cudaEventCreateWithFlags(&event, flags), "making an event");
  return number(event);
}

bool has_passed(cudaError_t state, const char* doing) {
  if (state == cudaErrorNotReady) return cudaGetLastError(), false;
  check_cuda(state, doing);
  return true;
}

cudaStreamCaptureMode capture_mode(const std::string& mode) {
  if (mode == "global") return cudaStreamCaptureModeGlobal;
  if (mode == "thread_local") return cudaStreamCaptureModeThreadLocal;
  if (mode == "relaxed") return cudaStreamCaptureModeRelaxed;
  throw ValueError("capture_error_mode: '" + mode + "' is none of 'global', 'thread_local' and 'relaxed'");
}

void bind_devices(py::module_& m) {
  m.def("problem", problem);
  m.def("explain_absence", [](int error, int driver_version, int runtime_version) {
    return explain_absence(cudaError_t(error), driver_version, runtime_version);
  });
  m.def("driver_version", [] {
    int version = 0;
    cudaDriverGetVersion(&version);
    return version;
  });
  m.def("device_count", device_count);
  m.def("use_device", use_device);
  m.def("properties", properties_dict);
  m.def("synchronize", synchronize_device);
  m.def("device_of", [](uintptr_t data) {
    cudaPointerAttributes a;
    check_cuda(cudaPointerGetAttributes(&a, reinterpret_cast<void*>(data)), "asking where memory is");
    return a.device;
  });
  m.def("can_access_peer", [](int device, int peer) {
    int can = 0;
    check_cuda(cudaDeviceCanAccessPeer(&can, device, peer), "asking whether a device reaches another");
    return can != 0;
  });
}

void bind_streams(py::module_& m) {
  m.def("default_stream", [](int device) { return number(default_stream(device)); });
  m.def("current_stream", [](int device) { return number(current_stream(device)); });
  m.def("set_current_stream", [](int device, uintptr_t stream) { set_current_stream(device, as_stream(stream)); });
  m.def("side_stream", [](int device, bool high_priority) { return number(side_stream(device, high_priority)); });
  m.def("stream_query",
        [](uintptr_t s) { return has_passed(cudaStreamQuery(as_stream(s)), "asking a stream whether it is done"); });
  m.def("stream_synchronize", [](uintptr_t s) {
    Waiting waiting;
    check_cuda(cudaStreamSynchronize(as_stream(s)), "waiting for a stream");
  });
  m.def("stream_is_capturing", [](uintptr_t s) { return is_capturing(as_stream(s)); });
  m.def("stream_wait_event", [](uintptr_t s, uintptr_t e) {
    check_cuda(cudaStreamWaitEvent(as_stream(s), as_event(e), 0), "letting a stream wait for an event");
  });
  m.def("make_event", make_event);
  m.def("destroy_event", [](uintptr_t e) { cudaEventDestroy(as_event(e)); });
  m.def("event_record",
        [](uintptr_t e, uintptr_t s) { check_cuda(cudaEventRecord(as_event(e), as_stream(s)), "recording an event"); });
  m.def("event_query",
        [](uintptr_t e) { return has_passed(cudaEventQuery(as_event(e)), "asking whether an event has passed"); });
  m.def("event_synchronize", [](uintptr_t e) {
    Waiting waiting;
    check_cuda(cudaEventSynchronize(as_event(e)), "waiting for an event");
  });
  m.def("event_elapsed_time", [](uintptr_t start, uintptr_t end) {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, as_event(start), as_event(end)), "measuring between two events");
    return milliseconds;
  });
}

void bind_memory(py::module_& m) {
  m.def("memory_stats", [](int device) { return stats_dict(allocator(device).stats()); });
  m.def("memory_snapshot", [](int device) { return segments_list(allocator(device).segments(), device); });
  m.def("mem_get_info", mem_get_info);
  m.def("reset_peak_memory_stats", [](int device) { allocator(device).reset_peak(); });
  m.def("reset_accumulated_memory_stats", [](int device) { allocator(device).reset_accumulated(); });
  m.def("empty_cache", empty_caches);
  m.def("set_memory_limit", [](int device, size_t bytes) { allocator(device).set_limit(bytes); });
  m.def("record_stream", [](int device, uintptr_t data, uintptr_t stream) {
    return allocator(device).record_stream(reinterpret_cast<void*>(data), as_stream(stream));
  });
  py::class_<PinnedBuffer>(m, "PinnedBuffer", py::buffer_protocol())
      .def(py::init<size_t>())
      .def_buffer(&PinnedBuffer::info);
  m.def("is_pinned", [](uintptr_t data) { return is_pinned(reinterpret_cast<void*>(data)); });
  m.def("pinned_empty_cache", pinned_empty_cache);
  m.def("copy_in_async", [](int device, uintptr_t to, uintptr_t host, size_t bytes) {
    use_device(device);
    copy_in_async(reinterpret_cast<void*>(to), reinterpret_cast<void*>(host), bytes);
  });
  m.def("copy_out_async", [](int device, uintptr_t host, uintptr_t from, size_t bytes) {
    use_device(device);
    copy_out_async(reinterpret_cast<void*>(host), reinterpret_cast<void*>(from), bytes);
  });
}

void bind_graphs(py::module_& m) {
  m.def("make_pool", [](int device) { return allocator(device).make_pool(); });
  py::class_<Graph>(m, "Graph")
      .def(py::init<>())
      .def("begin", [](Graph& g, uint64_t pool, const std::string& mode) { g.begin(pool, capture_mode(mode)); })
      .def("end", &Graph::end)
      .def("cancel", &Graph::cancel)
      .def("replay", &Graph::replay)
      .def("reset", &Graph::reset)
      .def("pool", &Graph::pool)
      .def("nodes", &Graph::nodes)
      .def("kept", &Graph::kept)
      .def("begin_refresh", &Graph::begin_refresh)
      .def("end_refresh", &Graph::end_refresh);
}

void* let_go() { return PyGILState_Check() ? PyEval_SaveThread() : nullptr; }
void take_back(void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); }

}  // namespace
}  // namespace gg::cuda

PYBIND11_MODULE(_cuda, m) {
  using namespace gg::cuda;
  m.doc() = "The CUDA kernels of glassgrad, and the memory, streams and graphs of CUDA devices.";
  py::register_local_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const gg::ValueError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const gg::OutOfMemory& e) {
      PyErr_SetString(py::module_::import("glassgrad._core").attr("OutOfMemoryError").ptr(), e.what());
    }
  });
  set_wait_hooks({let_go, take_back});
  m.attr("backend") = py::capsule(&kBackend, "glassgrad.backend");
  m.attr("architectures") = GG_CUDA_ARCHS;
  m.attr("runtime_version") = CUDART_VERSION;
  bind_devices(m);
  bind_streams(m);
  bind_memory(m);
  bind_graphs(m);
}
