#include "core/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <string>

#include "core/check.h"

namespace gg {
namespace {

// AMX with products of bfloat16, and the kernel's leave to use it: its registers are eight kilobytes of a thread's
// state, which Linux keeps only for processes that ask.
bool may_use_amx() {
#if defined(__x86_64__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return __builtin_cpu_supports("avx512bw") && (d & kBf16) && (d & kTile) &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Isa best_isa() {
  if (isa_supported(Isa::Amx)) return Isa::Amx;
  if (isa_supported(Isa::Avx512)) return Isa::Avx512;
  return isa_supported(Isa::Avx2) ? Isa::Avx2 : Isa::Baseline;
}

std::atomic<Isa> chosen{best_isa()};

}  // namespace

bool isa_supported(Isa isa) {
#if defined(GG_X86_ISAS) || defined(GG_NATIVE_AVX512)
  if (isa == Isa::Amx) {
    static const bool amx = may_use_amx();
    return amx;
  }
#endif
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
