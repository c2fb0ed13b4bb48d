// Sizes of windows as users give them: one number for all axes, or one per axis.
#pragma once
#include <string>

#include "core/check.h"

namespace gg {

// nd numbers in [least, 2^31): products of two of them cannot overflow.
inline Dims per_axis(const std::string& op, const char* what, const Dims& given, int nd, int64_t least) {
  check<ValueError>(given.n == 1 || given.n == nd, op, ": ", what, " ", given, " has ", given.n, " numbers; 1 or ", nd,
                    " are needed");
  for (int64_t v : given) {
    check<ValueError>(v >= least, op, ": ", what, " ", given, " must be at least ", least);
    check<ValueError>(v < (int64_t(1) << 31), op, ": ", what, " ", given, " must be less than 2^31");
  }
  return given.n == nd ? given : Dims::filled(nd, given[0]);
}

}  // namespace gg
