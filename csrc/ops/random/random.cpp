#include "python/bind.h"

namespace gg {

void bind_random(pybind11::module_&) {}

}  // namespace gg
