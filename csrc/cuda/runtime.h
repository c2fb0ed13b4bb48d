// The CUDA runtime as the rest sees it: whether there is a device, which is in use, its streams, launches, and errors
// as sentences.
#pragma once
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include <string>

namespace gg::cuda {

class CachingAllocator;

// Throws a RuntimeError of one sentence, "cuda: <doing>: <what went wrong>", and forgets the error.
void throw_cuda(cudaError_t error, const std::string& doing);
inline void check_cuda(cudaError_t error, const char* doing) {
  if (error != cudaSuccess) [[unlikely]]
    throw_cuda(error, doing);
}

// Devices that can be used, asked once. Where there are none, `problem` says why and what to do.
int device_count();
const std::string& problem();
std::string explain_absence(cudaError_t error, int driver_version, int runtime_version);

// What follows on this thread concerns the device. Throws where it cannot be had.
void use_device(int device);
int device_in_use();
const cudaDeviceProp& properties(int device);
// 10 * major + minor.
int capability(int device);

// Makes a device the one in use until the end of its scope.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_;
};

// Every device has a default stream: an own one, for the legacy stream cannot be captured, but one that waits for the
// legacy stream and the other way round, so that what other libraries do there is in order with it. The current stream
// is the thread's, the default one at first.
cudaStream_t default_stream(int device);
cudaStream_t current_stream(int device);
void set_current_stream(int device, cudaStream_t stream);
cudaStream_t stream();  // the current one of the device in use
// One of 32 a device and priority, in turn; they live as long as the process.
cudaStream_t side_stream(int device, bool high_priority);
bool is_capturing(cudaStream_t stream);

// launch.h's way to the hardware. cluster: blocks of a cluster along x, 1 for none.
void start_kernel(const void* kernel, unsigned cluster, dim3 grid, dim3 block, size_t shared_bytes, void** arguments);

CachingAllocator& allocator(int device);
void empty_caches();  // of every device that has been used

// Lets calls that a capture in strict mode forbids pass until the end of its scope: those that do not touch what is
// captured.
class OutsideCapture {
 public:
  OutsideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~OutsideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  OutsideCapture(const OutsideCapture&) = delete;
  OutsideCapture& operator=(const OutsideCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// An event without a clock, from a pool of the device.
cudaEvent_t take_event(int device);
void return_event(int device, cudaEvent_t event);

// Called around waits for the device that hold no lock: other Python threads run meanwhile.
struct WaitHooks {
  void* (*let_go)() = nullptr;
  void (*take_back)(void*) = nullptr;
};
void set_wait_hooks(WaitHooks hooks);
class Waiting {
 public:
  Waiting();
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  void* state_ = nullptr;
};

}  // namespace gg::cuda
