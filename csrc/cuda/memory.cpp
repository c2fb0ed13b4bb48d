// Copies and scratch memory in the order of the current stream.
//
// The driver copies from pageable memory only after waiting for the stream. So bytes on their way in pass through a
// ring of pinned memory: the caller's are free at once, nothing waits unless the ring is full, and events say when a
// piece of the ring may be written again. Bytes on their way out pass through two pieces in turn, one being filled by
// the device while the other is emptied.
#include "cuda/memory.h"

#include <string.h>

#include <algorithm>
#include <deque>
#include <mutex>

#include "core/check.h"
#include "cuda/allocator.h"
#include "cuda/graph.h"
#include "cuda/pinned.h"
#include "cuda/runtime.h"

namespace gg::cuda {
namespace {

constexpr size_t kPiece = size_t(4) << 20;
constexpr size_t kRing = 8 * kPiece;
constexpr size_t kAlign = 256;

char* pinned_once(size_t bytes) {
  OnDevice on(0);
  OutsideCapture outside;
  void* data = nullptr;
  check_cuda(cudaHostAlloc(&data, bytes, cudaHostAllocPortable), "allocating pinned memory for copies");
  return static_cast<char*>(data);
}

void wait_for(int device, cudaEvent_t event) {
  OutsideCapture outside;
  cudaError_t error = cudaEventSynchronize(event);
  return_event(device, event);
  check_cuda(error, "waiting for a copy");
}

// Positions count on for ever; a position lies at position % kRing.
class Ring {
 public:
  // Copies at most kPiece bytes.
  void copy_in(void* to, const void* host, size_t bytes, int device, cudaStream_t stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!data_) data_ = pinned_once(kRing);
    const size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
    if (head_ % kRing + size > kRing) head_ += kRing - head_ % kRing;
    while (!flying_.empty() && head_ + size > flying_.front().begin + kRing) {
      Flight f = flying_.front();
      flying_.pop_front();
      wait_for(f.device, f.event);
    }
    char* piece = data_ + head_ % kRing;
    memcpy(piece, host, bytes);
    cudaEvent_t event = take_event(device);
    cudaError_t error = cudaMemcpyAsync(to, piece, bytes, cudaMemcpyHostToDevice, stream);
    if (error == cudaSuccess) error = cudaEventRecord(event, stream);
    if (error != cudaSuccess) return_event(device, event);
    check_cuda(error, "copying to the device");
    flying_.push_back({head_, device, event});
    head_ += size;
  }

 private:
  struct Flight {
    size_t begin;
    int device;
    cudaEvent_t event;
  };
  std::mutex mutex_;
  char* data_ = nullptr;
  size_t head_ = 0;
  std::deque<Flight> flying_;
};

class Pair {
 public:
  void copy_out(char* host, const char* from, size_t bytes, int device, cudaStream_t stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!data_) data_ = pinned_once(2 * kPiece);
    const size_t pieces = (bytes + kPiece - 1) / kPiece;
    cudaEvent_t events[2] = {};
    for (size_t k = 0; k < pieces + 1; ++k) {
      if (k < pieces) {
        events[k % 2] = take_event(device);
        cudaError_t error = cudaMemcpyAsync(data_ + k % 2 * kPiece, from + k * kPiece,
                                            std::min(kPiece, bytes - k * kPiece), cudaMemcpyDeviceToHost, stream);
        if (error == cudaSuccess) error = cudaEventRecord(events[k % 2], stream);
        check_cuda(error, "copying from the device");
      }
      if (k > 0) {
        wait_for(device, events[(k - 1) % 2]);
        memcpy(host + (k - 1) * kPiece, data_ + (k - 1) % 2 * kPiece, std::min(kPiece, bytes - (k - 1) * kPiece));
      }
    }
  }

 private:
  std::mutex mutex_;
  char* data_ = nullptr;
};

Ring& ring() {
  static Ring* r = new Ring;
  return *r;
}
Pair& pair() {
  static Pair* p = new Pair;
  return *p;
}

void check_not_captured(cudaStream_t stream) {
  if (recorder(stream) || is_refreshing())
    throw std::runtime_error(
        "cuda: a value is wanted on the host while a graph is captured, which runs nothing yet: .item(), .numpy(), "
        "printing and shapes that depend on values cannot be part of a graph");
}

int device_of(const void* data) {
  cudaPointerAttributes attributes = {};
  check_cuda(cudaPointerGetAttributes(&attributes, data), "asking where memory lies");
  return attributes.device;
}

// What comes in stream `after` waits for what `before` was given.
void order(int device, cudaStream_t before, cudaStream_t after) {
  OnDevice on(device);
  cudaEvent_t event = take_event(device);
  cudaError_t error = cudaEventRecord(event, before);
  if (error == cudaSuccess) error = cudaStreamWaitEvent(after, event, 0);
  return_event(device, event);  // the wait holds what it waits for
  check_cuda(error, "letting a stream wait for another");
}

}  // namespace

void* scratch_allocate(size_t bytes) { return allocator(device_in_use()).allocate(bytes, stream()); }

void scratch_release(void* data, size_t) { allocator(device_in_use()).release(data); }

void copy_in(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  if (is_refreshing()) return refresh(host, bytes);
  const int index = device_in_use();
  cudaStream_t s = stream();
  if (Graph* graph = recorder(s)) {  // every replay reads the same bytes
    const void* kept = graph->keep(host, bytes);
    return check_cuda(cudaMemcpyAsync(device, kept, bytes, cudaMemcpyHostToDevice, s), "copying to the device");
  }
  for (size_t done = 0; done < bytes; done += kPiece)
    ring().copy_in(static_cast<char*>(device) + done, static_cast<const char*>(host) + done,
                   std::min(kPiece, bytes - done), index, s);
}

void copy_out(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  cudaStream_t s = stream();
  check_not_captured(s);
  Waiting waiting;
  if (bytes > kPiece && is_pinned(host)) {
    check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, s), "copying from the device");
    return check_cuda(cudaStreamSynchronize(s), "copying from the device");
  }
  pair().copy_out(static_cast<char*>(host), static_cast<const char*>(device), bytes, device_in_use(), s);
}

void copy_in_async(void* device, const void* host, size_t bytes) {
  cudaStream_t s = stream();
  if (bytes == 0 || is_refreshing() || !is_pinned(host)) return copy_in(device, host, bytes);
  check_cuda(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, s), "copying to the device");
  pinned_in_use(host, device_in_use(), s);
}

void copy_out_async(void* host, const void* device, size_t bytes) {
  cudaStream_t s = stream();
  if (bytes == 0 || is_refreshing() || !is_pinned(host)) return copy_out(host, device, bytes);
  check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, s), "copying from the device");
  pinned_in_use(host, device_in_use(), s);
}

void copy_within(void* to, const void* from, size_t bytes) {
  if (bytes == 0 || is_refreshing()) return;
  const int target = device_count() > 1 ? device_of(to) : 0, source = device_count() > 1 ? device_of(from) : 0;
  cudaStream_t s = current_stream(target);
  if (source == target)
    return check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, s), "copying on the device");
  order(source, current_stream(source), s);
  {
    OnDevice on(target);
    check_cuda(cudaMemcpyPeerAsync(to, target, from, source, bytes, s), "copying between devices");
  }
  order(target, s, current_stream(source));  // what `from` holds is not overwritten before it has been read
}

const uint64_t* replay_words() {
  Graph* graph = recorder(stream());
  return graph ? graph->words() : nullptr;
}

void zero(void* device, size_t bytes) {
  if (bytes && !is_refreshing()) check_cuda(cudaMemsetAsync(device, 0, bytes, stream()), "clearing memory");
}

}  // namespace gg::cuda
