#include "python/bind.h"

namespace gg {

void bind_elementwise(pybind11::module_&) {}

}  // namespace gg
