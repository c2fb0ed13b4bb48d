// launch() on the CPU: every thread of the grid is a fiber that calls the kernel with a copy of the arguments.
#pragma once
#include <tuple>

#include "simt/runtime.h"

namespace gg::cuda {

template <class T> inline T& shared() { return *static_cast<T*>(simt::arena(alignof(T), sizeof(T))); }

template <class... Params, class... Args>
void launch_cluster(void (*kernel)(Params...), unsigned cluster, simt::Dim3 grid, simt::Dim3 block, size_t shared_bytes,
                    Args... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> params;
    static void run(void* self) { std::apply(static_cast<Call*>(self)->kernel, static_cast<Call*>(self)->params); }
  } call{kernel, std::tuple<Params...>(args...)};
  simt::run({reinterpret_cast<void*>(kernel), Call::run, &call, sizeof call, grid, block, cluster, shared_bytes});
}

}  // namespace gg::cuda
