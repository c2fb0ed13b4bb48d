// Around a kernel that somebody writes (glassgrad.testing.simt): the language, a launch by argument addresses, and a
// call of a host function that launches kernels. Static __shared__ arrays lie in a section of their own, which the
// checks know.
#pragma once
#include <utility>

#include "cuda/block.h"
#include "cuda/hopper.h"
#include "cuda/launch.h"
#include "cuda/number.h"

#define __shared__ static __attribute__((section("gg_shared")))
extern "C" {
__attribute__((weak, visibility("hidden"))) extern char __start_gg_shared[], __stop_gg_shared[];
}

namespace gg::simt {

// p: an address; i, j: 4 and 8 bytes of a whole number; f, d: float and double.
template <class P> constexpr char parameter_kind() {
  if constexpr (std::is_pointer_v<P>)
    return 'p';
  else if constexpr (std::is_floating_point_v<P>)
    return sizeof(P) == 4 ? 'f' : 'd';
  else {
    static_assert(std::is_integral_v<P> && (sizeof(P) == 4 || sizeof(P) == 8),
                  "parameters are pointers, 4- or 8-byte whole numbers, float and double");
    return sizeof(P) == 4 ? 'i' : 'j';
  }
}

template <auto function> struct Raw;
template <class... P, void (*function)(P...)> struct Raw<function> {
  static constexpr char kinds[] = {parameter_kind<P>()..., 0};

  static void start(Dim3 grid, Dim3 block, size_t shared_bytes, const void* const* arguments) {
    with(arguments, [&](P... p) { cuda::launch(function, grid, block, shared_bytes, p...); });
  }
  static void call(const void* const* arguments) { with(arguments, function); }

 private:
  struct StaticShared {
    StaticShared() { set_static_shared(__start_gg_shared, size_t(__stop_gg_shared - __start_gg_shared)); }
    ~StaticShared() { set_static_shared(nullptr, 0); }
  };
  template <class F> static void with(const void* const* arguments, F f) {
    StaticShared here;
    [&]<size_t... I>(std::index_sequence<I...>) {
      f(*static_cast<const P*>(arguments[I])...);
    }(std::index_sequence_for<P...>());
  }
};

}  // namespace gg::simt

using namespace gg::cuda;
