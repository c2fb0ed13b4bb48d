#include "python/bind.h"

namespace gg {

void bind_layout(pybind11::module_&) {}

}  // namespace gg
