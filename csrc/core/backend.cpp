#include "core/backend.h"

#include "core/check.h"

namespace gg {
namespace {

const Backend* installed[2];
void (*loader)(DeviceType);

int slot(DeviceType type) { return type == DeviceType::Cuda ? 0 : 1; }

}  // namespace

const Backend& backend(Device device) {
  const Backend*& b = installed[slot(device.type)];
  if (!b) {
    if (loader) loader(device.type);
    check<ValueError>(b, "device ", name(device.type), " is not available in this build");
  }
  b->use_device(device.index);
  return *b;
}

bool backend_loaded(DeviceType type) { return installed[slot(type)]; }

void install_backend(DeviceType type, const Backend* b) {
  installed[slot(type)] = b;
#define GG_INSTALL(Table, name) name##_on_gpu[slot(type)] = b->name;
  GG_TABLES(GG_INSTALL)
#undef GG_INSTALL
}

void enter_device(Device device) { backend(device); }

void set_backend_loader(void (*load)(DeviceType)) { loader = load; }

}  // namespace gg
