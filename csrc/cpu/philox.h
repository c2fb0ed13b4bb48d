// Philox4x32-10: a block of four random words from a 64-bit key and a counter (Salmon, Moraes, Dror and Shaw 2011,
// "Parallel random numbers: as easy as 1, 2, 3"). In a loop over neighbouring counters the compiler makes vectors of
// it.
#pragma once
#include <stdint.h>

namespace gg::GG_ISA {
namespace {

struct Philox {
  uint32_t c0, c1, c2 = 0, c3 = 0;

  Philox(uint64_t counter, uint32_t draw = 0) : c0(uint32_t(counter)), c1(uint32_t(counter >> 32)), c2(draw) {}
  void rounds(uint64_t key) {
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
#pragma GCC unroll 10
    for (int r = 0; r < 10; ++r) {
      uint64_t p = uint64_t(c0) * 0xD2511F53u, q = uint64_t(c2) * 0xCD9E8D57u;
      c0 = uint32_t(q >> 32) ^ c1 ^ k0;
      c1 = uint32_t(q);
      c2 = uint32_t(p >> 32) ^ c3 ^ k1;
      c3 = uint32_t(p);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
  }
};

}  // namespace
}  // namespace gg::GG_ISA
