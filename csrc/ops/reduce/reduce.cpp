#include "python/bind.h"

namespace gg {

void bind_reduce(pybind11::module_&) {}

}  // namespace gg
