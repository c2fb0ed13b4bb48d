// Philox4x32-10: a block of four random words from a 64-bit key and a counter (Salmon, Moraes, Dror and Shaw 2011,
// "Parallel random numbers: as easy as 1, 2, 3"); the same words as on the CPU.
#pragma once
#include "cuda/language.h"
#include "cuda/memory.h"

namespace gg::cuda {

struct Philox {
  uint32_t c[4];

  __device__ Philox(uint64_t counter, uint64_t key, uint32_t draw = 0)
      : c{uint32_t(counter), uint32_t(counter >> 32), draw, 0} {
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
#pragma unroll
    for (int r = 0; r < 10; ++r) {
      uint64_t p = uint64_t(c[0]) * 0xD2511F53u, q = uint64_t(c[2]) * 0xCD9E8D57u;
      uint32_t next = uint32_t(q >> 32) ^ c[1] ^ k0;
      c[2] = uint32_t(p >> 32) ^ c[3] ^ k1;
      c[1] = uint32_t(q);
      c[3] = uint32_t(p);
      c[0] = next;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
  }
};

// Where a kernel's random words come from. A graph freezes its kernels' arguments, but every replay draws new numbers:
// there key and counter depend on two words in device memory, which the replay writes.
class Draws {
 public:
  Draws(uint64_t key, uint64_t counter) : key_(key), counter_(counter), replay_(replay_words()) {}
  __device__ uint64_t key() const { return replay_ ? replay_[0] : key_; }
  __device__ uint64_t counter() const { return replay_ ? counter_ + replay_[1] : counter_; }

 private:
  uint64_t key_, counter_;
  const uint64_t* replay_;
};

}  // namespace gg::cuda
