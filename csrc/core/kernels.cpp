#include "core/kernels.h"

#include <atomic>
#include <string>

#include "core/check.h"

namespace gg {
namespace {

Isa best_isa() {
  if (isa_supported(Isa::Avx512)) return Isa::Avx512;
  return isa_supported(Isa::Avx2) ? Isa::Avx2 : Isa::Baseline;
}

std::atomic<Isa> chosen{best_isa()};

}  // namespace

bool isa_supported(Isa isa) {
#if defined(GG_X86_ISAS)
  if (isa == Isa::Avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
           __builtin_cpu_supports("bmi2");
  if (isa == Isa::Avx512)
    return isa_supported(Isa::Avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return isa == Isa::Baseline;
}

Isa active_isa() { return chosen.load(std::memory_order_relaxed); }

void set_isa(Isa isa) { chosen.store(isa); }

void throw_no_kernels(const char* table, Device device) {
  throw ValueError(std::string(table) + ": no kernels are loaded for device " + name(device.type));
}

}  // namespace gg
