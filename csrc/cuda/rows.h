// Rows picked out of an array and laid one after the other: y[o, j] = the row at x + o * outer + offsets[j] * step, or
// zeros where offsets[j] does not lie in [0, limit).
//
// Sixteen bytes a thread; a row that begins off a 16-byte boundary is read item by item.
#pragma once
#include "cuda/launch.h"
#include "cuda/number.h"
#include "cuda/offsets.h"

namespace gg::cuda {

// units: of 16 bytes in a row. outer and step in bytes.
template <class U>
__global__ void pick_rows_kernel(const char* __restrict__ x, int64_t outer, const int64_t* __restrict__ offsets,
                                 int64_t step, int64_t limit, Pack<U, kPack<U>>* __restrict__ y, int64_t items,
                                 Split units, Split rows) {
  for (int64_t item = first_item(); item < items; item += item_step()) {
    const int64_t row = units.quotient(item), o = rows.quotient(row), j = row - o * rows.d;
    const int64_t offset = offsets[j];
    const char* from = x + o * outer + offset * step + (item - row * units.d) * 16;
    Pack<U, kPack<U>> v{};
    const bool inside = uint64_t(offset) < uint64_t(limit);
    if (inside && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
      v = load_pack<kPack<U>>(reinterpret_cast<const U*>(from));
    } else if (inside) {
#pragma unroll
      for (int k = 0; k < kPack<U>; ++k) v[k] = reinterpret_cast<const U*>(from)[k];
    }
    y[item] = v;
  }
}

// Whether rows of so many bytes can be picked so.
inline bool rows_fit(int64_t row_bytes, const void* y) { return row_bytes % 16 == 0 && aligned(y, 16); }

template <class U>
void pick_rows(const void* x, int64_t outer_rows, int64_t outer, const int64_t* offsets, int64_t n, int64_t step,
               int64_t limit, int64_t row_bytes, void* y) {
  const int64_t units = row_bytes / 16, items = outer_rows * n * units;
  launch(pick_rows_kernel<U>, grid_for(items, 256), dim3(256), 0, static_cast<const char*>(x), outer, offsets, step,
         limit, static_cast<Pack<U, kPack<U>>*>(y), items, Split(units, items), Split(n, items));
}

}  // namespace gg::cuda
