#include "core/backend.h"

#include <pthread.h>

#include "core/check.h"

namespace gg {
namespace {

struct Installed {
  const Backend* backend = nullptr;
  int devices = 0;
  bool left_behind = false;  // in a child process: the driver serves the parent only
};
Installed installed[2];
void (*loader)(DeviceType);

int slot(DeviceType type) { return type == DeviceType::Cuda ? 0 : 1; }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] {
  Installed& cuda = installed[slot(DeviceType::Cuda)];
  cuda.left_behind = cuda.backend;
});

Installed& load(DeviceType type) {
  Installed& b = installed[slot(type)];
  if (!b.backend) {
    if (loader) loader(type);
    check<ValueError>(b.backend, "device ", name(type), " is not available in this build");
  }
  check<ValueError>(!b.left_behind, "device ", name(type),
                    ": a forked process cannot use the GPU that its parent uses; start it with the method 'spawn'");
  return b;
}

}  // namespace

const Backend& backend(Device device) {
  Installed& b = load(device.type);
  check<ValueError>(b.devices > 0, "device ", device, ": the driver finds no device");
  check<ValueError>(device.index < b.devices, "device ", device, ": of ", b.devices, " devices the last is number ",
                    b.devices - 1);
  b.backend->use_device(device.index);
  return *b.backend;
}

int device_count(DeviceType type) { return type == DeviceType::Cpu ? 1 : load(type).devices; }

bool backend_loaded(DeviceType type) { return installed[slot(type)].backend; }

void install_backend(DeviceType type, const Backend* b) {
  installed[slot(type)] = {b, b->device_count(), false};
#define GG_INSTALL(Table, name) name##_on_gpu[slot(type)] = b->name;
  GG_TABLES(GG_INSTALL)
#undef GG_INSTALL
}

void enter_device(Device device) { backend(device); }

void release_on_device(Storage* s) {
  const Installed& b = installed[slot(s->device.type)];
  if (s->data && !b.left_behind) b.backend->release(s->data, s->bytes, s->device.index);
}

void set_backend_loader(void (*load)(DeviceType)) { loader = load; }

}  // namespace gg
