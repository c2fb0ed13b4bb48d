#include "python/bind.h"

namespace gg {

void bind_conv(pybind11::module_&) {}

}  // namespace gg
