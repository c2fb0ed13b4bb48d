#include "python/bind.h"

namespace gg {

void bind_norm(pybind11::module_&) {}

}  // namespace gg
