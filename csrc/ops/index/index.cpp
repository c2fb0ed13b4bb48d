#include "python/bind.h"

namespace gg {

void bind_index(pybind11::module_&) {}

}  // namespace gg
