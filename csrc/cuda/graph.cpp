#include "cuda/graph.h"

#include <string.h>

#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "core/check.h"
#include "cuda/allocator.h"
#include "cuda/pinned.h"
#include "cuda/runtime.h"

namespace gg::cuda {
namespace {

struct Recording {
  std::mutex mutex;
  std::map<unsigned long long, Graph*> by_id;
  std::atomic<int> count{0};
};
Recording& recording() {
  static Recording* r = new Recording;
  return *r;
}

// The number of the capture that a stream takes part in, 0 for none.
unsigned long long capture_of(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  if (cudaStreamGetCaptureInfo(stream, &status, &id) != cudaSuccess) return cudaGetLastError(), 0;
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

}  // namespace

Graph* recorder(cudaStream_t stream) {
  Recording& r = recording();
  if (r.count == 0) return nullptr;
  unsigned long long id = capture_of(stream);
  std::lock_guard<std::mutex> lock(r.mutex);
  auto found = r.by_id.find(id);
  return found == r.by_id.end() ? nullptr : found->second;
}

Graph::~Graph() {
  if (stream_) {
    cudaGraph_t broken = nullptr;
    cudaStreamEndCapture(std::exchange(stream_, nullptr), &broken);
    if (broken) cudaGraphDestroy(broken);
    cudaGetLastError();
    allocator(device_).end_capture(pool_);
    Recording& r = recording();
    std::lock_guard<std::mutex> lock(r.mutex);
    r.count -= int(r.by_id.erase(id_));
  }
  reset();
}

void Graph::begin(uint64_t pool, cudaStreamCaptureMode mode) {
  check<ValueError>(!stream_, "graph: it is being captured already");
  check<ValueError>(!ready_, "graph: it holds a capture already; reset() makes room for another");
  device_ = device_in_use();
  cudaStream_t stream = cuda::stream();
  CachingAllocator& memory = allocator(device_);
  if (pool)
    memory.hold_pool(pool);
  else
    pool = memory.make_pool();
  cudaError_t error = cudaStreamBeginCapture(stream, mode);
  if (error != cudaSuccess) memory.drop_pool(pool);
  check_cuda(error, "beginning to capture a graph");
  pool_ = pool;
  stream_ = stream;
  id_ = capture_of(stream);
  memory.begin_capture(pool, [id = id_](void* s) { return capture_of(cudaStream_t(s)) == id; });
  Recording& r = recording();
  std::lock_guard<std::mutex> lock(r.mutex);
  r.by_id[id_] = this;
  ++r.count;
}

void Graph::end() {
  check<ValueError>(stream_, "graph: no capture has begun");
  cudaGraph_t graph = nullptr;
  cudaError_t error = cudaStreamEndCapture(std::exchange(stream_, nullptr), &graph);
  allocator(device_).end_capture(pool_);
  {
    Recording& r = recording();
    std::lock_guard<std::mutex> lock(r.mutex);
    r.count -= int(r.by_id.erase(id_));
  }
  if (error == cudaSuccess) error = cudaGraphGetNodes(graph, nullptr, &nodes_);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&ready_, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  if (error != cudaSuccess) reset();
  check_cuda(error, "ending the capture of a graph");
}

void Graph::replay() {
  check<ValueError>(ready_, "graph: nothing is captured to be replayed");
  OnDevice on(device_);
  check_cuda(cudaGraphLaunch(ready_, cuda::stream()), "replaying a graph");
}

void Graph::reset() {
  check<ValueError>(!stream_, "graph: it is being captured");
  if (ready_) {
    // Its last replay may still run, and reads the memory that goes now.
    OnDevice on(device_);
    cudaDeviceSynchronize();
    cudaGraphExecDestroy(std::exchange(ready_, nullptr));
    cudaGetLastError();
  }
  if (pool_) allocator(device_).drop_pool(std::exchange(pool_, 0));
  for (void* data : std::exchange(host_, {})) pinned_release(data);
  nodes_ = 0;
}

void* Graph::keep(const void* host, size_t bytes) {
  void* copy = pinned_allocate(bytes);
  host_.push_back(copy);
  memcpy(copy, host, bytes);
  return copy;
}

}  // namespace gg::cuda
