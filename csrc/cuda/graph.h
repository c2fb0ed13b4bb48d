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
  void cancel();  // the capture, if one is under way
  // key and moved: what random kernels read as replay_words().
  void replay(uint64_t key, uint64_t moved);
  void reset();
  uint64_t pool() const { return pool_; }
  size_t nodes() const { return nodes_; }

  // Host memory that lives as long as the graph, filled with a copy of the bytes: a replay copies it in again.
  void* keep(const void* host, size_t bytes);
  size_t kept() const { return host_.size(); }
  const uint64_t* words() const { return words_; }
  // Between the two, what this thread copies in is written over what was kept from number `first` on, and kernels are
  // not started: code that ran during the capture runs again to bring its numbers up to date.
  void begin_refresh(size_t first);
  void end_refresh(size_t last);

 private:
  friend void refresh(const void* host, size_t bytes);
  cudaError_t stop(cudaGraph_t* graph);
  void rewrite(size_t index, const void* host, size_t bytes);

  int device_ = 0;
  cudaStream_t stream_ = nullptr;  // while it records
  unsigned long long id_ = 0;
  uint64_t pool_ = 0;
  cudaGraphExec_t ready_ = nullptr;
  size_t nodes_ = 0;
  cudaEvent_t replayed_ = nullptr;
  uint64_t* words_ = nullptr;
  struct Kept {
    void* data;
    size_t bytes;
  };
  std::vector<Kept> host_;
};

bool is_refreshing();
void refresh(const void* host, size_t bytes);  // the next of what was kept

// The graph that records what the stream is given, or null.
Graph* recorder(cudaStream_t stream);

}  // namespace gg::cuda
