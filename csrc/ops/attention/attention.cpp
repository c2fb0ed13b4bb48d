#include "python/bind.h"

namespace gg {

void bind_attention(pybind11::module_&) {}

}  // namespace gg
