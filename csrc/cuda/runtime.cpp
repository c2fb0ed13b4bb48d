#include "cuda/runtime.h"

#include <cxxabi.h>
#include <pthread.h>
#include <stdlib.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "cuda/allocator.h"
#include "cuda/graph.h"
#include "cuda/memory.h"

#if !defined(GG_CUDA_ARCHS)
#define GG_CUDA_ARCHS "unknown"
#endif

namespace gg::cuda {
namespace {

constexpr int kMaxDevices = 64;
constexpr int kSideStreams = 32;

// After these the context is lost: every later call returns the same error.
bool is_fatal(cudaError_t e) {
  switch (e) {
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable: return true;
    default: return false;
  }
}

std::string version_text(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }

struct Found {
  int devices = 0;
  std::string problem;
};

// A fork of a process that has asked the driver can use no device.
std::atomic<bool> asked{false}, forked{false};
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = asked.load(); });

// Never destroyed, like all that is static here: arrays outlive static destruction at interpreter exit.
const Found& found() {
  static const Found* f = new Found([] {
    asked = true;
    int driver = 0, devices = 0;
    cudaDriverGetVersion(&driver);
    cudaError_t error = cudaGetDeviceCount(&devices);
    cudaGetLastError();
    if (error == cudaSuccess && devices == 0) error = cudaErrorNoDevice;
    if (error != cudaSuccess) return Found{0, explain_absence(error, driver, CUDART_VERSION)};
    return Found{devices < kMaxDevices ? devices : kMaxDevices, ""};
  }());
  return *f;
}

struct DeviceState {
  std::once_flag once;
  std::atomic<bool> started{false};
  cudaDeviceProp properties;
  cudaStream_t default_stream = nullptr;
  std::mutex mutex;  // of all below
  cudaStream_t side[2][kSideStreams] = {};
  unsigned next_side[2] = {};
  std::vector<cudaEvent_t> events;
  std::atomic<CachingAllocator*> allocator{nullptr};
};

DeviceState* states() {
  static DeviceState* all = new DeviceState[kMaxDevices];
  return all;
}

DeviceState& state(int device) {
  check<ValueError>(device_count() > 0, "cuda: ", problem());
  check<ValueError>(device >= 0 && device < device_count(), "cuda: there is no device ", device, ": of ",
                    device_count(), " devices the last is number ", device_count() - 1);
  DeviceState& s = states()[device];
  std::call_once(s.once, [&] {
    check_cuda(cudaGetDeviceProperties(&s.properties, device), "asking for the device's properties");
    check_cuda(cudaSetDevice(device), "starting the device");
    check_cuda(cudaStreamCreateWithFlags(&s.default_stream, cudaStreamDefault), "making a stream");
    s.started = true;
  });
  return s;
}

thread_local cudaStream_t chosen_stream[kMaxDevices];  // null: the default one

// Memory of one device for its caching allocator.
class DriverMemory : public DeviceMemory {
 public:
  explicit DriverMemory(int device) : device_(device) {}

  void* allocate(size_t bytes) override {
    OnDevice on(device_);
    OutsideCapture outside;
    void* data = nullptr;
    cudaError_t error = cudaMalloc(&data, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check_cuda(error, "allocating memory");
    return data;
  }
  // An error here is an earlier kernel's, which the next launch reports.
  void release(void* data) override {
    OnDevice on(device_);
    OutsideCapture outside;
    cudaFree(data);
  }
  void info(size_t* free, size_t* total) override {
    OnDevice on(device_);
    cudaMemGetInfo(free, total);
  }
  void* record(void* stream) override {
    OnDevice on(device_);
    cudaEvent_t event = take_event(device_);
    if (cudaEventRecord(event, cudaStream_t(stream)) == cudaSuccess) return event;
    return_event(device_, event);
    return nullptr;  // the device is lost: nothing is left to wait for
  }
  bool passed(void* event) override {
    OutsideCapture outside;
    bool waits = event && cudaEventQuery(cudaEvent_t(event)) == cudaErrorNotReady;
    if (waits) cudaGetLastError();
    return !waits;
  }
  void wait(void* event) override {
    OutsideCapture outside;
    if (event) cudaEventSynchronize(cudaEvent_t(event));
  }
  void drop(void* event) override {
    if (event) return_event(device_, cudaEvent_t(event));
  }

 private:
  int device_;
};

WaitHooks wait_hooks;

std::string describe_grid(dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

// void gg::cuda::(anonymous namespace)::scale_kernel<float>(float*, long) without return type, namespaces and
// arguments.
std::string short_name(std::string text) {
  for (std::string_view part : {"void ", "gg::cuda::", "gg::", "(anonymous namespace)::"})
    for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
  if (text.empty() || text.back() != ')') return text;
  size_t at = text.size() - 1;
  for (int depth = 1; depth > 0 && at > 0;) {
    --at;
    depth += (text[at] == ')') - (text[at] == '(');
  }
  return text.substr(0, at);
}

std::string kernel_name(const void* kernel) {
#if CUDART_VERSION >= 12030
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) == cudaSuccess && mangled) {
    int status = 0;
    std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(mangled, nullptr, nullptr, &status), free);
    std::string text = status == 0 ? name.get() : mangled;
    return short_name(text);
  }
  cudaGetLastError();
#endif
  return "a kernel";
}

[[noreturn]] void throw_launch(cudaError_t error, const void* kernel, unsigned cluster, dim3 grid, dim3 block,
                               size_t shared_bytes) {
  const int device = device_in_use();
  const cudaDeviceProp& p = properties(device);
  std::string doing = "starting " + kernel_name(kernel) + " on " + p.name;
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction)
    throw std::runtime_error(message("cuda: ", doing, ": this build has kernels for ", GG_CUDA_ARCHS,
                                     " and the device is sm_", p.major, p.minor,
                                     "; build with GLASSGRAD_CUDA_ARCHS=native on this machine"));
  std::string asked = message(" (asked for: grid ", describe_grid(grid), ", block ", describe_grid(block), ", ",
                              shared_bytes, " bytes of shared memory");
  if (cluster > 1) asked += message(", clusters of ", cluster);
  throw_cuda(error, doing + asked +
                        message("; the device has at most ", p.maxThreadsPerBlock, " threads and ",
                                p.sharedMemPerBlockOptin, " bytes a block)"));
  __builtin_unreachable();
}

// Kernels that take more shared memory than 48 KB, or clusters of more than 8, must say so once a device.
void allow(const void* kernel, int device, size_t shared_bytes, unsigned cluster) {
  constexpr size_t kAlways = 48 * 1024;
  constexpr unsigned kPortable = 8;
  if (shared_bytes <= kAlways && cluster <= kPortable) return;
  static std::mutex* mutex = new std::mutex;
  static auto* allowed = new std::map<std::pair<const void*, int>, std::pair<size_t, unsigned>>;
  std::lock_guard<std::mutex> lock(*mutex);
  auto& [bytes, blocks] = (*allowed)[{kernel, device}];
  if (shared_bytes > kAlways && shared_bytes > bytes) {
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)) != cudaSuccess) {
      cudaGetLastError();
      return;  // the launch fails and says what was asked
    }
    bytes = shared_bytes;
  }
  if (cluster > kPortable && cluster > blocks) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    blocks = cluster;
  }
}

}  // namespace

void throw_cuda(cudaError_t error, const std::string& doing) {
  cudaGetLastError();
  const std::string what = cudaGetErrorString(error);
  if (is_fatal(error))
    throw std::runtime_error("cuda: " + doing + ": a kernel started before failed (" + what +
                             "), and this process cannot use the device any more; with CUDA_LAUNCH_BLOCKING=1 in the "
                             "environment the launch that fails says so itself");
  if (error == cudaErrorStreamCaptureUnsupported || error == cudaErrorStreamCaptureInvalidated)
    throw std::runtime_error("cuda: " + doing + ": " + what +
                             ": while a graph is captured nothing may wait for the device, as .item(), .numpy() and "
                             "shapes that depend on values do");
  throw std::runtime_error("cuda: " + doing + ": " + what);
}

std::string explain_absence(cudaError_t error, int driver_version, int runtime_version) {
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  const std::string hidden =
      visible ? std::string("; CUDA_VISIBLE_DEVICES is '") + visible + "', which may hide some" : std::string();
  const std::string driver = version_text(driver_version), runtime = version_text(runtime_version);
  switch (error) {
    case cudaErrorStubLibrary:
      return "the CUDA driver that was found is the toolkit's stub: take the toolkit's lib64/stubs out of "
             "LD_LIBRARY_PATH";
    case cudaErrorInsufficientDriver:
      if (driver_version == 0) return "no NVIDIA driver is installed on this machine, or libcuda.so.1 is not found";
      return "the NVIDIA driver is too old: it serves CUDA " + driver + ", this build needs " + runtime +
             ": update the driver, or build with an older toolkit";
    case cudaErrorNoDevice: return "the NVIDIA driver finds no device" + hidden;
    case cudaErrorInvalidDevice: return "the NVIDIA driver finds no such device" + hidden;
    case cudaErrorSystemDriverMismatch:
      return "the NVIDIA kernel module and libcuda.so.1 are of different versions: restart the machine after a driver "
             "update";
    case cudaErrorSystemNotReady:
      return "the NVIDIA driver is not ready: where GPUs are joined by NVSwitch its service nvidia-fabricmanager must "
             "run";
    case cudaErrorCompatNotSupportedOnDevice:
      return "the NVIDIA driver is too old for CUDA " + runtime +
             ", and this device does not allow the compatibility package: update the driver";
    case cudaErrorDevicesUnavailable: return "every device is in use by a program that does not share it";
    case cudaErrorInitializationError:
    case cudaErrorUnknown:
      return "the NVIDIA driver does not start (" + std::string(cudaGetErrorString(error)) +
             "): its kernel module may not be loaded, or this process is a fork of one that used the GPU";
    default: return "the NVIDIA driver does not start: " + std::string(cudaGetErrorString(error));
  }
}

OnDevice::OnDevice(int device) : before_(device_in_use()) { use_device(device); }
OnDevice::~OnDevice() {
  // Going back to a device that was never started would start it, and take memory there.
  if (device_count() > 1 && states()[before_].started) cudaSetDevice(before_);
}

int device_count() { return forked ? 0 : found().devices; }
const std::string& problem() {
  static const auto* of_fork = new std::string(
      "a forked process cannot use the GPU of its parent, which has started it; start the process with the method "
      "'spawn'");
  return forked ? *of_fork : found().problem;
}

void use_device(int device) {
  state(device);
  if (device_count() > 1 && device_in_use() != device) check_cuda(cudaSetDevice(device), "changing the device");
}

int device_in_use() {
  if (device_count() <= 1) return 0;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "asking for the device in use");
  return device;
}

const cudaDeviceProp& properties(int device) { return state(device).properties; }

int capability(int device) {
  const cudaDeviceProp& p = properties(device);
  return 10 * p.major + p.minor;
}

cudaStream_t default_stream(int device) { return state(device).default_stream; }

cudaStream_t current_stream(int device) {
  cudaStream_t fallback = default_stream(device);
  return chosen_stream[device] ? chosen_stream[device] : fallback;
}

void set_current_stream(int device, cudaStream_t stream) {
  chosen_stream[device] = stream == default_stream(device) ? nullptr : stream;
}

cudaStream_t stream() { return current_stream(device_in_use()); }

cudaStream_t side_stream(int device, bool high_priority) {
  DeviceState& s = state(device);
  std::lock_guard<std::mutex> lock(s.mutex);
  cudaStream_t& stream = s.side[high_priority][s.next_side[high_priority]++ % kSideStreams];
  if (!stream) {
    OnDevice on(device);
    int least = 0, greatest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for the priorities of streams");
    check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, high_priority ? greatest : least),
               "making a stream");
  }
  return stream;
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "asking whether a stream is captured");
  return status != cudaStreamCaptureStatusNone;
}

void start_kernel(const void* kernel, unsigned cluster, dim3 grid, dim3 block, size_t shared_bytes, void** arguments) {
  if (is_refreshing()) return;
  allow(kernel, device_in_use(), shared_bytes, cluster);
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream();
  cudaLaunchAttribute attribute = {};
  if (cluster > 1) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = cluster;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  cudaError_t error = cudaLaunchKernelExC(&config, kernel, arguments);
  if (error != cudaSuccess) [[unlikely]]
    throw_launch(error, kernel, cluster, grid, block, shared_bytes);
}

CachingAllocator& allocator(int device) {
  DeviceState& s = state(device);
  if (CachingAllocator* found = s.allocator) return *found;
  std::lock_guard<std::mutex> lock(s.mutex);
  if (!s.allocator) {
    std::string name = message("cuda:", device, " (", s.properties.name, ")");
    s.allocator = new CachingAllocator(*new DriverMemory(device), name);
  }
  return *s.allocator;
}

void empty_caches() {
  for (int device = 0; device < device_count(); ++device)
    if (CachingAllocator* found = states()[device].allocator) found->empty_cache();
}

cudaEvent_t take_event(int device) {
  DeviceState& s = state(device);
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    if (!s.events.empty()) {
      cudaEvent_t event = s.events.back();
      s.events.pop_back();
      return event;
    }
  }
  OnDevice on(device);
  cudaEvent_t event;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  return event;
}

void return_event(int device, cudaEvent_t event) {
  DeviceState& s = state(device);
  std::lock_guard<std::mutex> lock(s.mutex);
  s.events.push_back(event);
}

void set_wait_hooks(WaitHooks hooks) { wait_hooks = hooks; }
Waiting::Waiting() {
  if (wait_hooks.let_go) state_ = wait_hooks.let_go();
}
Waiting::~Waiting() {
  if (state_) wait_hooks.take_back(state_);
}

int multiprocessors() { return properties(device_in_use()).multiProcessorCount; }
int architecture() { return capability(device_in_use()); }
size_t shared_limit() { return properties(device_in_use()).sharedMemPerBlockOptin; }

}  // namespace gg::cuda
