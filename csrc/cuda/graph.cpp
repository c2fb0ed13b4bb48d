#include "cuda/graph.h"

#include <string.h>

#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "core/check.h"
#include "cuda/allocator.h"
#include "cuda/memory.h"
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

struct Refreshed {
  Graph* graph = nullptr;
  size_t next = 0;
};
thread_local Refreshed refreshed;

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
  cancel();
  try {
    reset();
  } catch (const std::exception&) {  // an earlier kernel's error; the next launch reports it
  }
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
  auto* words = static_cast<uint64_t*>(memory.allocate(2 * sizeof(uint64_t), stream));
  cudaError_t error = cudaStreamBeginCapture(stream, mode);
  if (error != cudaSuccess) {
    memory.release(words);
    memory.drop_pool(pool);
  }
  check_cuda(error, "beginning to capture a graph");
  pool_ = pool;
  stream_ = stream;
  words_ = words;
  id_ = capture_of(stream);
  memory.begin_capture(pool, [id = id_](void* s) { return capture_of(cudaStream_t(s)) == id; });
  Recording& r = recording();
  std::lock_guard<std::mutex> lock(r.mutex);
  r.by_id[id_] = this;
  ++r.count;
}

cudaError_t Graph::stop(cudaGraph_t* graph) {
  cudaError_t error = cudaStreamEndCapture(std::exchange(stream_, nullptr), graph);
  allocator(device_).end_capture(pool_);
  Recording& r = recording();
  std::lock_guard<std::mutex> lock(r.mutex);
  r.count -= int(r.by_id.erase(id_));
  return error;
}

void Graph::end() {
  check<ValueError>(stream_, "graph: no capture has begun");
  cudaGraph_t graph = nullptr;
  cudaError_t error = stop(&graph);
  if (error == cudaSuccess) error = cudaGraphGetNodes(graph, nullptr, &nodes_);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&ready_, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  if (error != cudaSuccess) reset();
  check_cuda(error, "ending the capture of a graph");
}

void Graph::cancel() {
  if (!stream_) return;
  cudaGraph_t graph = nullptr;
  stop(&graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void Graph::replay(uint64_t key, uint64_t moved) {
  check<ValueError>(ready_, "graph: nothing is captured to be replayed");
  OnDevice on(device_);
  const uint64_t words[] = {key, moved};
  copy_in(words_, words, sizeof words);
  check_cuda(cudaGraphLaunch(ready_, cuda::stream()), "replaying a graph");
  if (!replayed_) replayed_ = take_event(device_);
  check_cuda(cudaEventRecord(replayed_, cuda::stream()), "replaying a graph");
}

void Graph::reset() {
  check<ValueError>(!stream_, "graph: it is being captured");
  if (ready_) {
    // Its last replay may still run, and uses the memory that goes now.
    OnDevice on(device_);
    if (replayed_) cudaEventSynchronize(replayed_);
    cudaGraphExecDestroy(std::exchange(ready_, nullptr));
    cudaGetLastError();
  }
  if (replayed_) return_event(device_, std::exchange(replayed_, nullptr));
  if (words_) allocator(device_).release(std::exchange(words_, nullptr));
  if (pool_) allocator(device_).drop_pool(std::exchange(pool_, 0));
  for (const Kept& k : std::exchange(host_, {})) pinned_release(k.data);
  nodes_ = 0;
}

void* Graph::keep(const void* host, size_t bytes) {
  void* copy = pinned_allocate(bytes);
  host_.push_back({copy, bytes});
  memcpy(copy, host, bytes);
  return copy;
}

void Graph::begin_refresh(size_t first) {
  check<ValueError>(ready_, "graph: nothing is captured to be brought up to date");
  if (replayed_) {  // the last replay reads what is written now
    Waiting waiting;
    check_cuda(cudaEventSynchronize(replayed_), "waiting for the last replay of a graph");
  }
  refreshed = {this, first};
}

void Graph::end_refresh(size_t last) {
  const size_t reached = std::exchange(refreshed, {}).next;
  check<ValueError>(reached == last, "graph: what is brought up to date before a replay copied ", reached,
                    " times to the device and ", last, " during the capture: it may not depend on the step");
}

bool is_refreshing() { return refreshed.graph; }

void refresh(const void* host, size_t bytes) { refreshed.graph->rewrite(refreshed.next++, host, bytes); }

void Graph::rewrite(size_t index, const void* host, size_t bytes) {
  check<ValueError>(index < host_.size() && host_[index].bytes == bytes,
                    "graph: what is brought up to date before a replay copied other sizes during the capture");
  memcpy(host_[index].data, host, bytes);
}

}  // namespace gg::cuda
