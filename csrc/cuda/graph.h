// A CUDA graph: the launches of a stream recorded once and replayed as one, with the memory they used kept for them.
#pragma once
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include <vector>

namespace gg::cuda {

class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Records what the current stream is given from now on. pool: the memory pool of another graph, which is never
  // replayed at the same time, or 0 for one of its own.
  void begin(uint64_t pool, cudaStreamCaptureMode mode);
  void end();
  void replay();
  void reset();
  uint64_t pool() const { return pool_; }
  size_t nodes() const { return nodes_; }

  // Host memory that lives as long as the graph, filled with a copy of the bytes.
  void* keep(const void* host, size_t bytes);

 private:
  int device_ = 0;
  cudaStream_t stream_ = nullptr;  // while it records
  unsigned long long id_ = 0;
  uint64_t pool_ = 0;
  cudaGraphExec_t ready_ = nullptr;
  size_t nodes_ = 0;
  std::vector<void*> host_;
};

// The graph that records what the stream is given, or null.
Graph* recorder(cudaStream_t stream);

}  // namespace gg::cuda
