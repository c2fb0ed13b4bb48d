// Stable sort of rows by a key of their elements, with the elements' positions.
//
// An element's key is the unsigned number of the same order: NaN the greatest, -0 equal to 0; turned over where the
// order is descending. Short rows: several to a block, by a bitonic network (Batcher 1968) of (key, position), which
// are distinct. Rows of a tile: one block, radix by bytes from the lowest in shared memory. Longer rows: three launches
// a byte, in which tiles count their digits, counts become places, and tiles move their elements (Satish, Harris and
// Garland 2009, "Designing efficient sorting algorithms for manycore GPUs"). Bytes that all keys share are passed over.
#pragma once
#include "core/dtype.h"
#include "cuda/block.h"
#include "cuda/launch.h"

namespace gg::cuda {

// U: an element's bits.
template <class U> struct KeyMap {
  enum Kind : uint8_t { Unsigned, Signed, Floating };
  Kind kind = Unsigned;
  U infinity = 0;  // its bits
  U turn = 0;      // all ones: the order is descending

  KeyMap() = default;
  KeyMap(DType t, bool descending) : turn(descending ? U(~U(0)) : U(0)) {
    if (is_floating(t)) {
      const int mantissa = t == DType::Float64 ? 52 : t == DType::Float32 ? 23 : t == DType::BFloat16 ? 7 : 10;
      kind = Floating;
      infinity = U(U(kTop - 1) >> mantissa << mantissa);
    } else if (t != DType::Bool && t != DType::UInt8) {
      kind = Signed;
    }
  }
  __device__ U operator()(U bits) const {
    U key = bits;
    if (kind == Signed) key = U(bits ^ kTop);
    if (kind == Floating) {
      const U magnitude = U(bits & U(~kTop)), negative = U(U(0) - U(bits >> (8 * sizeof(U) - 1)));
      key = magnitude == 0 ? kTop : U(bits ^ U(negative | kTop));
      if (magnitude > infinity) key = U(~U(0));
    }
    return U(key ^ turn);
  }
  static constexpr U kTop = U(U(1) << (8 * sizeof(U) - 1));
};

// Where the first `keep` elements of each sorted row go; any pointer may be null.
template <class U> struct Sorted {
  U* values = nullptr;
  int64_t* order = nullptr;
  uint32_t* places = nullptr;  // order in 32 bits

  __device__ void put(int64_t to, U value, int64_t position) const {
    if (values) values[to] = value;
    if (order) order[to] = position;
    if (places) places[to] = uint32_t(position);
  }
};

constexpr int kShortRow = 512, kShortSlots = 1024, kTileThreads = 256, kTileWarps = kTileThreads / 32, kDigits = 256;
template <class U> constexpr int kTileItems = sizeof(U) > 4 ? 8 : 16;
template <class U> constexpr int kTile = kTileThreads * kTileItems<U>;

template <class U> struct ShortRows {
  U key[kShortSlots];
  uint16_t position[kShortSlots];
};

// Rows lie `width` slots apart, a power of two; slots without an element sort last. Two slots a thread.
template <class U>
__global__ void __launch_bounds__(kShortSlots / 2)
    sort_short_kernel(const U* __restrict__ x, KeyMap<U> map, int64_t rows, int n, int width, int slots, int keep,
                      Sorted<U> out) {
  ShortRows<U>& m = shared<ShortRows<U>>();
  const int64_t together = slots / width;
  for (int64_t first = blockIdx.x * together; first < rows; first += gridDim.x * together) {
    for (int slot = threadIdx.x; slot < slots; slot += blockDim.x) {
      const int64_t row = first + slot / width;
      const int at = slot % width;
      const bool inside = row < rows && at < n;
      m.key[slot] = inside ? map(x[row * n + at]) : U(~U(0));
      m.position[slot] = uint16_t(at);
    }
    __syncthreads();
    for (int size = 2; size <= width; size *= 2)
      for (int step = size / 2; step > 0; step /= 2) {
        const int pair = threadIdx.x, within = pair & (step - 1), low = 2 * (pair - within) + within;
        const int high = step == size / 2 ? low ^ (size - 1) : low + step;
        const U a = m.key[low], b = m.key[high];
        const uint16_t p = m.position[low], q = m.position[high];
        if (a > b || (a == b && p > q)) {
          m.key[low] = b;
          m.key[high] = a;
          m.position[low] = q;
          m.position[high] = p;
        }
        // A warp's pairs of neighbours lie in 64 slots of its own.
        if (step > 1 ? step > 32 : size > 32)
          __syncthreads();
        else
          sync_warp();
      }
    __syncthreads();
    for (int slot = threadIdx.x; slot < slots; slot += blockDim.x) {
      const int64_t row = first + slot / width;
      const int at = slot % width;
      if (row < rows && at < keep) {
        const int64_t position = m.position[slot];
        out.put(row * keep + at, x[row * n + position], position);
      }
    }
    __syncthreads();
  }
}

// A byte of an element's key.
template <class U> struct Digit {
  KeyMap<U> map;
  int shift;
  __device__ uint32_t of(U element) const { return uint32_t(map(element) >> shift) & 255; }
};

struct DigitCounts {
  uint32_t count[kTileWarps][kDigits];  // of the warp's elements; then of those in warps before
  uint32_t start[kDigits];              // the first slot of each digit
  uint32_t parts[kTileWarps];
};

// Lanes whose digit is this lane's.
__device__ inline unsigned lanes_alike(uint32_t digit, bool valid) {
  unsigned alike = ballot(valid);
#pragma unroll
  for (int bit = 0; bit < 8; ++bit) {
    const bool one = digit >> bit & 1;
    const unsigned ones = ballot(one);
    alike &= one ? ones : ~ones;
  }
  return alike;
}

// A tile lies in registers warp by warp: item i of a thread is element tile_index(i).
template <class U> __device__ inline int tile_index(int i) {
  return int(threadIdx.x / 32) * 32 * kTileItems<U> + 32 * i + int(threadIdx.x % 32);
}

// slot[i]: where item i goes in the stable order of the tile's digits.
template <class U>
__device__ inline void rank_tile(const U (&element)[kTileItems<U>], const Digit<U>& digit, int size, DigitCounts& m,
                                 uint32_t (&slot)[kTileItems<U>]) {
  const unsigned below = (1u << threadIdx.x % 32) - 1;
  uint32_t* const count = m.count[threadIdx.x / 32];
  for (int w = 0; w < kTileWarps; ++w) m.count[w][threadIdx.x] = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTileItems<U>; ++i) {
    const bool valid = tile_index<U>(i) < size;
    const uint32_t d = digit.of(element[i]);
    const unsigned alike = lanes_alike(d, valid);
    const uint32_t before = count[d], rank = __popc(alike & below);
    sync_warp();
    if (valid && rank == 0) count[d] = before + __popc(alike);
    sync_warp();
    slot[i] = before + rank;
  }
  __syncthreads();
  uint32_t sum = 0, total;
  for (int w = 0; w < kTileWarps; ++w) {
    const uint32_t here = m.count[w][threadIdx.x];
    m.count[w][threadIdx.x] = sum;
    sum += here;
  }
  m.start[threadIdx.x] = block_prefix_sum(sum, m.parts, &total);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTileItems<U>; ++i) {
    const uint32_t d = digit.of(element[i]);
    slot[i] += m.start[d] + count[d];
  }
}

struct BitOr {
  template <class T> static __device__ T of(T a, T b) { return T(a | b); }
};

template <class U> struct SortedTile {
  U element[kTile<U>];
  uint16_t position[kTile<U>];
  DigitCounts digits;
  uint64_t parts[kTileWarps];
};

// Each row of n is cut into tiles, each of which keeps the first `keep` of its sorted elements, or all if it has fewer.
// position: the elements' own positions, null for their places in the row.
template <class U>
__global__ void __launch_bounds__(kTileThreads, 2)
    sort_tile_kernel(const U* __restrict__ x, const int64_t* __restrict__ position, KeyMap<U> map, int64_t n,
                     int64_t tiles, int64_t keep, int64_t row_out, Sorted<U> out) {
  SortedTile<U>& m = shared<SortedTile<U>>();
  constexpr int items = kTileItems<U>;
  const int64_t row = blockIdx.x / tiles, tile = blockIdx.x % tiles, begin = tile * kTile<U>;
  const int size = int(n - begin < kTile<U> ? n - begin : kTile<U>);
  U element[items];
  uint32_t at[items], slot[items];
  uint64_t ones = 0, zeros = 0;  // of any key
#pragma unroll
  for (int i = 0; i < items; ++i) {
    at[i] = tile_index<U>(i);
    element[i] = 0;
    if (int(at[i]) >= size) continue;
    element[i] = x[row * n + begin + at[i]];
    ones |= map(element[i]);
    zeros |= U(~map(element[i]));
  }
  const uint64_t varies = block_reduce<BitOr>(ones, m.parts) & block_reduce<BitOr>(zeros, m.parts);
  for (int shift = 0; shift < int(sizeof(U)) * 8; shift += 8) {
    if ((varies >> shift & 255) == 0) continue;
    rank_tile<U>(element, {map, shift}, size, m.digits, slot);
#pragma unroll
    for (int i = 0; i < items; ++i)
      if (tile_index<U>(i) < size) {
        m.element[slot[i]] = element[i];
        m.position[slot[i]] = uint16_t(at[i]);
      }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < items; ++i)
      if (tile_index<U>(i) < size) {
        element[i] = m.element[tile_index<U>(i)];
        at[i] = m.position[tile_index<U>(i)];
      }
  }
#pragma unroll
  for (int i = 0; i < items; ++i) {
    const int j = tile_index<U>(i);
    if (j >= size || j >= keep) continue;
    const int64_t place = begin + at[i];
    out.put(row * row_out + tile * keep + j, element[i], position ? position[row * n + place] : place);
  }
}

template <class U> int64_t tiles_of(int64_t n) { return ceil_div(n, kTile<U>); }

// How many elements sort_tiles leaves of a row.
template <class U> int64_t kept_by_tiles(int64_t n, int64_t keep) {
  const int64_t tiles = tiles_of<U>(n), last = n - (tiles - 1) * kTile<U>;
  return (tiles - 1) * keep + (last < keep ? last : keep);
}

template <class U>
void sort_tiles(const U* x, const int64_t* position, KeyMap<U> map, int64_t rows, int64_t n, int64_t keep,
                Sorted<U> out) {
  const int64_t tiles = tiles_of<U>(n);
  launch(sort_tile_kernel<U>, dim3(unsigned(rows * tiles)), dim3(kTileThreads), sizeof(SortedTile<U>), x, position, map,
         n, tiles, keep, kept_by_tiles<U>(n, keep), out);
}

// The passes of a long sort: pass p orders by byte p of the keys. Those in use alternate between two buffers, from x to
// out; which are in use only the device knows where the keys' varying bits are found there.
template <class U, class P> struct Passes {
  const U* x;
  U* element[2];
  P* position[2];
  const unsigned long long* bits;  // ones of any key, zeros of any key; null where all passes are in use
  uint32_t all;                    // a bit for each pass

  struct Pass {
    bool used, last;
    const U* from;
    const P* from_position;  // null: places in the row
    U* to;
    P* to_position;
  };
  __device__ Pass pass(int p) const {
    uint32_t used = all;
    if (bits) {
      const unsigned long long varies = bits[0] & bits[1];
      used = 0;
      for (int k = 0; k < int(sizeof(U)); ++k) used |= uint32_t((varies >> 8 * k & 255) != 0) << k;
      if (used == 0) used = 1;
    }
    const int before = __popc(used & ((1u << p) - 1));
    const bool odd = before % 2;
    return {(used >> p & 1) != 0,
            used >> p == 1,
            before == 0 ? x
            : odd       ? element[0]
                        : element[1],
            before == 0 ? nullptr
            : odd       ? position[0]
                        : position[1],
            odd ? element[1] : element[0],
            odd ? position[1] : position[0]};
  }
};

struct BitParts { uint64_t parts[8]; };

template <class U>
__global__ void __launch_bounds__(256, 2)
    varying_bits_kernel(const U* __restrict__ x, KeyMap<U> map, int64_t n, unsigned long long* __restrict__ bits) {
  BitParts& m = shared<BitParts>();
  uint64_t ones = 0, zeros = 0;
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const U key = map(x[i]);
    ones |= key;
    zeros |= U(~key);
  }
  ones = block_reduce<BitOr>(ones, m.parts);
  zeros = block_reduce<BitOr>(zeros, m.parts);
  if (threadIdx.x == 0) {
    atomicOr(bits, (unsigned long long)ones);
    atomicOr(bits + 1, (unsigned long long)zeros);
  }
}

struct TileCounts { uint32_t count[kDigits]; };

// counts[row][digit][tile]
template <class U, class P>
__global__ void __launch_bounds__(kTileThreads, 2)
    count_digits_kernel(Passes<U, P> passes, int p, KeyMap<U> map, int64_t n, int64_t tiles, P* __restrict__ counts) {
  TileCounts& m = shared<TileCounts>();
  const Digit<U> digit{map, 8 * p};
  const auto pass = passes.pass(p);
  if (!pass.used) return;
  const int64_t row = blockIdx.x / tiles, tile = blockIdx.x % tiles, begin = tile * kTile<U>;
  const int size = int(n - begin < kTile<U> ? n - begin : kTile<U>);
  const U* from = pass.from + row * n + begin;
  m.count[threadIdx.x] = 0;
  __syncthreads();
#pragma unroll 4
  for (int at = threadIdx.x; at < size; at += kTileThreads) atomicAdd(&m.count[digit.of(from[at])], 1u);
  __syncthreads();
  counts[(row * kDigits + threadIdx.x) * tiles + tile] = m.count[threadIdx.x];
}

// Each line of counts becomes its running sum before every tile; a warp takes a line.
template <class U, class P>
__global__ void __launch_bounds__(256) place_digits_kernel(Passes<U, P> passes, int p, P* __restrict__ counts,
                                                           P* __restrict__ totals, int64_t lines, int64_t tiles) {
  if (!passes.pass(p).used) return;
  const int lane = threadIdx.x % 32;
  for (int64_t line = first_item() / 32; line < lines; line += item_step() / 32) {
    P* const row = counts + line * tiles;
    P before = 0;
    for (int64_t tile = lane; tile - lane < tiles; tile += 32) {
      const P count = tile < tiles ? row[tile] : P(0);
      P sum = count;
      for (int step = 1; step < 32; step *= 2) {
        const P below = shuffle_up(sum, step);
        if (lane >= step) sum += below;
      }
      if (tile < tiles) row[tile] = before + sum - count;
      before += shuffle(sum, 31);
    }
    if (lane == 0) totals[line] = before;
  }
}

template <class U, class P> struct MovedTile {
  U element[kTile<U>];
  P position[kTile<U>];
  DigitCounts digits;
  P base[kDigits];  // where each digit's elements of this tile go
  P parts[kTileWarps];
};

template <class U, class P>
__global__ void __launch_bounds__(kTileThreads, 2)
    move_digits_kernel(Passes<U, P> passes, int p, KeyMap<U> map, int64_t n, int64_t tiles, int64_t keep,
                       const P* __restrict__ counts, const P* __restrict__ totals, Sorted<U> out) {
  MovedTile<U, P>& m = shared<MovedTile<U, P>>();
  constexpr int items = kTileItems<U>;
  const Digit<U> digit{map, 8 * p};
  const auto pass = passes.pass(p);
  if (!pass.used) return;
  const int64_t row = blockIdx.x / tiles, tile = blockIdx.x % tiles, begin = tile * kTile<U>;
  const int size = int(n - begin < kTile<U> ? n - begin : kTile<U>);
  const int64_t line = row * kDigits + threadIdx.x;
  P total;
  m.base[threadIdx.x] = block_prefix_sum(totals[line], m.parts, &total) + counts[line * tiles + tile];
  U element[items];
  uint32_t slot[items];
#pragma unroll
  for (int i = 0; i < items; ++i) {
    const int at = tile_index<U>(i);
    element[i] = at < size ? pass.from[row * n + begin + at] : U(0);
  }
  rank_tile<U>(element, digit, size, m.digits, slot);
#pragma unroll
  for (int i = 0; i < items; ++i) {
    const int at = tile_index<U>(i);
    if (at >= size) continue;
    m.element[slot[i]] = element[i];
    m.position[slot[i]] = pass.from_position ? pass.from_position[row * n + begin + at] : P(begin + at);
  }
  __syncthreads();
#pragma unroll 4
  for (int s = threadIdx.x; s < size; s += kTileThreads) {
    const U e = m.element[s];
    const uint32_t d = digit.of(e);
    const int64_t to = int64_t(m.base[d]) + s - m.digits.start[d];
    if (!pass.last) {
      pass.to[row * n + to] = e;
      pass.to_position[row * n + to] = m.position[s];
    } else if (to < keep) {
      out.put(row * keep + to, e, int64_t(m.position[s]));
    }
  }
}

template <class U, class P>
void sort_long(const U* x, KeyMap<U> map, int bits, int64_t rows, int64_t n, int64_t keep, Sorted<U> out) {
  const int64_t tiles = tiles_of<U>(n), lines = rows * kDigits;
  const int passes = (bits + 7) / 8, buffers = passes > 2 ? 2 : passes - 1;
  const bool find_bits = sizeof(U) == 8 && bits == 64;
  Scratch<U> element(buffers * rows * n + 1);
  Scratch<P> position(buffers * rows * n + 1), counts(lines * tiles), totals(lines);
  Scratch<unsigned long long> varying(2);
  U* const e = element;
  P* const q = position;
  const int64_t second = buffers > 1 ? rows * n : 0;
  const Passes<U, P> all{x, {e, e + second}, {q, q + second}, find_bits ? varying.get() : nullptr, (1u << passes) - 1};
  if (find_bits) {
    zero(varying, 2 * sizeof(unsigned long long));
    launch(varying_bits_kernel<U>, grid_for(rows * n, 256), dim3(256), sizeof(BitParts), x, map, rows * n,
           varying.get());
  }
  const dim3 grid(unsigned(rows * tiles)), block(kTileThreads);
  for (int p = 0; p < passes; ++p) {
    launch(count_digits_kernel<U, P>, grid, block, sizeof(TileCounts), all, p, map, n, tiles, counts.get());
    launch(place_digits_kernel<U, P>, grid_for(lines * 32, 256), dim3(256), 0, all, p, counts.get(), totals.get(),
           lines, tiles);
    launch(move_digits_kernel<U, P>, grid, block, sizeof(MovedTile<U, P>), all, p, map, n, tiles, keep,
           static_cast<const P*>(counts.get()), static_cast<const P*>(totals.get()), out);
  }
}

// Sorts rows of n elements of x by their keys, of which only the lowest `bits` bits are not zero. P holds positions.
template <class U, class P = uint32_t>
void radix_sort(const U* x, KeyMap<U> map, int bits, int64_t rows, int64_t n, int64_t keep, Sorted<U> out) {
  if (n <= kShortRow) {
    int width = 1;
    while (width < n) width *= 2;
    int slots = kShortSlots;
    while (slots > 64 && slots / 2 >= rows * width) slots /= 2;
    launch(sort_short_kernel<U>, grid_for(rows * width, slots), dim3(unsigned(slots / 2)), sizeof(ShortRows<U>), x, map,
           rows, int(n), width, slots, int(keep), out);
  } else if (n <= kTile<U>) {
    sort_tiles<U>(x, nullptr, map, rows, n, keep, out);
  } else {
    sort_long<U, P>(x, map, bits, rows, n, keep, out);
  }
}

}  // namespace gg::cuda
