#include "python/bind.h"

namespace gg {

void bind_optimizer(pybind11::module_&) {}

}  // namespace gg
