// Deterministic scatters without atomics: positions 0..n-1 are put in stable order of the block of memory they write
// to, by one parallel counting sort; whoever owns a block then visits its positions in their own order.
//
// Blocks are 2^shift items wide, at most kMaxBlocks of them: enough for balance, few enough for a histogram in L1.
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/parallel.h"
#include "cpu/scratch.h"

namespace gg::GG_ISA {
namespace {

constexpr int kMaxBlocks = 256;

class Destinations {
 public:
  // destination[j] lies in [0, extent).
  Destinations(const int64_t* destination, int64_t n, int64_t extent) : position_(n) {
    while ((extent - 1) >> shift_ >= kMaxBlocks) ++shift_;
    blocks_ = int(((extent - 1) >> shift_) + 1);
    const int64_t chunk = 1 << 14, chunks = (n + chunk - 1) / chunk;
    Scratch<int64_t> next(chunks * kMaxBlocks);  // counts, then where each chunk writes its next position of each block
    memset(next.data(), 0, size_t(chunks) * kMaxBlocks * sizeof(int64_t));
    parallel_for(n, chunk, [&](int64_t begin, int64_t end) {
      int64_t* count = next.data() + begin / chunk * kMaxBlocks;
      for (int64_t j = begin; j < end; ++j) ++count[destination[j] >> shift_];
    });
    int64_t sum = 0;
    for (int b = 0; b < blocks_; ++b) {
      begin_[b] = sum;
      for (int64_t c = 0; c < chunks; ++c) {
        int64_t count = next[c * kMaxBlocks + b];
        next[c * kMaxBlocks + b] = sum;
        sum += count;
      }
    }
    begin_[blocks_] = sum;
    parallel_for(n, chunk, [&](int64_t begin, int64_t end) {
      int64_t* to = next.data() + begin / chunk * kMaxBlocks;
      for (int64_t j = begin; j < end; ++j) position_[to[destination[j] >> shift_]++] = j;
    });
  }

  int blocks() const { return blocks_; }
  int64_t width() const { return int64_t(1) << shift_; }
  const int64_t* begin(int block) const { return position_.data() + begin_[block]; }
  const int64_t* end(int block) const { return position_.data() + begin_[block + 1]; }

 private:
  Scratch<int64_t> position_;
  int64_t begin_[kMaxBlocks + 1];
  int shift_ = 0;
  int blocks_ = 1;
};

}  // namespace
}  // namespace gg::GG_ISA
