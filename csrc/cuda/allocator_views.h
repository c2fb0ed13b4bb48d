// What an allocator tells, as Python sees it: counters under PyTorch's names, and every segment with its blocks.
#pragma once
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "cuda/allocator.h"

namespace gg::cuda {

inline pybind11::dict stats_dict(const AllocatorStats& s) {
  static constexpr const char* kNames[kCounters] = {
      "allocation",      "segment",        "active",       "inactive_split",
      "allocated_bytes", "reserved_bytes", "active_bytes", "inactive_split_bytes",
      "requested_bytes"};
  static constexpr const char* kShareNames[kShares] = {"all", "small_pool", "large_pool"};
  pybind11::dict d;
  for (int c = 0; c < kCounters; ++c)
    for (int share = 0; share < kShares; ++share) {
      const Tally& t = s.tallies[c][share];
      const std::string key = std::string(kNames[c]) + "." + kShareNames[share] + ".";
      d[pybind11::str(key + "current")] = t.current;
      d[pybind11::str(key + "peak")] = t.peak;
      d[pybind11::str(key + "allocated")] = t.allocated;
      d[pybind11::str(key + "freed")] = t.freed;
    }
  d["num_alloc_retries"] = s.retries;
  d["num_ooms"] = s.failures;
  d["num_device_alloc"] = s.device_allocations;
  d["num_device_free"] = s.device_releases;
  return d;
}

inline pybind11::list segments_list(const std::vector<SegmentView>& views, int device) {
  auto number = [](const void* p) { return reinterpret_cast<uintptr_t>(p); };
  pybind11::list segments;
  for (const SegmentView& s : views) {
    pybind11::list blocks;
    for (const BlockView& b : s.blocks) {
      pybind11::dict block;
      block["address"] = number(b.data);
      block["size"] = b.bytes;
      block["requested_size"] = b.requested;
      block["state"] = b.in_use ? "active_allocated" : b.waiting ? "active_awaiting_free" : "inactive";
      blocks.append(block);
    }
    pybind11::dict segment;
    segment["device"] = device;
    segment["address"] = number(s.data);
    segment["total_size"] = s.bytes;
    segment["stream"] = number(s.stream);
    segment["segment_type"] = s.large ? "large" : "small";
    segment["segment_pool_id"] = s.pool;
    segment["blocks"] = blocks;
    segments.append(segment);
  }
  return segments;
}

}  // namespace gg::cuda
