#include "python/bind.h"

namespace gg {

void bind_embedding(pybind11::module_&) {}

}  // namespace gg
