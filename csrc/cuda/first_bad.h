// The least position that any thread of any launch reports, for a front that turns it into an error.
//
// While a graph is captured nothing has run, so nothing is known. A kernel therefore leaves alone what it reports: it
// reads zeros and writes nothing there, which is what a graph replayed with bad positions does.
#pragma once
#include "cuda/language.h"
#include "cuda/memory.h"

namespace gg::cuda {

using BadPosition = unsigned long long;  // inverted: 0 is none, and the greatest of these is the least position

__device__ inline void report_bad(BadPosition* bad, int64_t position) { atomicMax(bad, ~BadPosition(position)); }

class FirstBad {
 public:
  FirstBad() : position_(1) { zero(position_, sizeof(BadPosition)); }
  BadPosition* get() { return position_; }
  int64_t result() {  // -1 for none
    if (replay_words()) return -1;
    const BadPosition found = read(position_.get());
    return found ? int64_t(~found) : -1;
  }

 private:
  Scratch<BadPosition> position_;
};

}  // namespace gg::cuda
