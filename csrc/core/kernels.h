// Which kernels run: a family declares one table of function pointers, and every backend fills one.
//
// A family's header states its contract as a struct of function pointers over raw pointers and sizes, then
//     GG_KERNELS(SoftmaxKernels, softmax_kernels)
// declares a table for each ISA the CPU file is compiled for, room for the CUDA and simt tables (which their module
// hands over when it is loaded), and softmax_kernels(device), which picks one.
//
// Pointers that a contract takes are memory of the table's device, unless it says "host memory". Structures, sizes and
// strides, and lists of them or of pointers are host memory: a kernel gets them by value. What a function returns is on
// the host: one that computes it on a device waits for it.
#pragma once
#include "core/device.h"

namespace gg {

// Amx runs the kernels of Avx512, which then take the matrix unit where they have a use for it (cpu/tiles.h).
enum class Isa { Baseline, Avx2, Avx512, Amx };
constexpr int kIsas = 4;

Isa active_isa();
bool isa_supported(Isa isa);
void set_isa(Isa isa);  // the caller has checked that it is supported
[[noreturn]] void throw_no_kernels(const char* table, Device device);
void enter_device(Device device);  // what follows concerns this device, which is not the CPU

#if defined(GG_X86_ISAS)
#define GG_DECLARE_ISA_TABLES(Table, name) \
  namespace baseline {                     \
  extern const Table name;                 \
  }                                        \
  namespace avx2 {                         \
  extern const Table name;                 \
  }                                        \
  namespace avx512 {                       \
  extern const Table name;                 \
  }                                        \
  inline const Table* const name##_by_isa[kIsas] = {&baseline::name, &avx2::name, &avx512::name, &avx512::name};
#else
#define GG_DECLARE_ISA_TABLES(Table, name) \
  namespace baseline {                     \
  extern const Table name;                 \
  }                                        \
  inline const Table* const name##_by_isa[kIsas] = {&baseline::name, &baseline::name, &baseline::name, &baseline::name};
#endif

#define GG_KERNELS(Table, name)                                                   \
  GG_DECLARE_ISA_TABLES(Table, name)                                              \
  namespace cuda {                                                                \
  extern const Table name __attribute__((weak));                                  \
  }                                                                               \
  inline const Table* name##_on_gpu[2] = {nullptr, nullptr}; /* cuda, simt */     \
  inline const Table& name(Device device) {                                       \
    if (device.type == DeviceType::Cpu) return *name##_by_isa[int(active_isa())]; \
    const Table* table = name##_on_gpu[device.type == DeviceType::Cuda ? 0 : 1];  \
    if (!table) throw_no_kernels(#name, device);                                  \
    enter_device(device);                                                         \
    return *table;                                                                \
  }

}  // namespace gg
