#include "python/bind.h"

namespace gg {

void bind_pool(pybind11::module_&) {}

}  // namespace gg
