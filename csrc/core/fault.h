// KernelFault: a kernel went wrong on its device. A RuntimeError in Python.
#pragma once
#include <stdexcept>

namespace gg {

struct KernelFault : std::runtime_error { using std::runtime_error::runtime_error; };

}  // namespace gg
