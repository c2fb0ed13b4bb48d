// Where an array lives: the CPU, a CUDA device, or simt, which runs the CUDA kernels on the CPU.
#pragma once
#include <stdint.h>

namespace gg {

enum class DeviceType : uint8_t { Cpu, Cuda, Simt };

struct Device {
  DeviceType type = DeviceType::Cpu;
  int8_t index = 0;
  bool operator==(const Device& other) const { return type == other.type && index == other.index; }
  bool operator!=(const Device& other) const { return !(*this == other); }
};

constexpr const char* name(DeviceType t) {
  return t == DeviceType::Cpu ? "cpu" : t == DeviceType::Cuda ? "cuda" : "simt";
}

}  // namespace gg
