// Deterministic scatters: positions 0..n-1 in stable order of where they write, and each destination folded by one
// thread after the other in the order of its positions.
//
// The ordered positions are cut into chunks; a thread folds a column of a chunk, run by run. A run that crosses chunks
// leaves one part in each, which a second launch folds. Chunks depend on sizes only, so every sum has one order.
#pragma once
#include "cuda/block.h"
#include "cuda/launch.h"
#include "cuda/offsets.h"
#include "cuda/radix_sort.h"

namespace gg::cuda {

// Positions in lines of equal length, each line in order of its destinations, of which it has `size` to itself. One
// line holds all where any two positions may meet.
struct Ordered {
  const uint32_t* positions;  // in their line
  const void* keys;           // destinations in their line, ascending
  bool wide;                  // keys of 64 bits, else 32
  int64_t n, size, extent;
  Split line;

  __device__ int64_t position(int64_t s) const { return line.quotient(s) * line.d + positions[s]; }
  // -1: nothing is written, see cuda/first_bad.h.
  __device__ int64_t destination(int64_t s) const {
    const uint64_t key = wide ? static_cast<const uint64_t*>(keys)[s] : static_cast<const uint32_t*>(keys)[s];
    return key < uint64_t(size) ? line.quotient(s) * size + int64_t(key) : -1;
  }
};

// All ones for what does not lie in [0, extent).
template <class To>
__global__ void narrow_kernel(const int64_t* __restrict__ from, To* __restrict__ to, int64_t n, int64_t extent) {
  for (int64_t i = first_item(); i < n; i += item_step())
    to[i] = uint64_t(from[i]) < uint64_t(extent) ? To(from[i]) : To(~To(0));
}

class Destinations {
 public:
  static constexpr int64_t kMost = int64_t(1) << 31;  // positions that can be ordered at once

  // destination[j] lies in [0, extent), or nothing is written there.
  Destinations(const int64_t* destination, int64_t n, int64_t extent) : positions_(n), keys_(2 * n) {
    const bool wide = n <= kTile<uint64_t> || extent >= int64_t(UINT32_MAX);
    if (wide) {
      uint64_t* const to = reinterpret_cast<uint64_t*>(keys_.get());
      radix_sort(reinterpret_cast<const uint64_t*>(destination), {}, bits_of(extent), 1, n, n,
                 Sorted<uint64_t>{to, nullptr, positions_});
    } else {
      uint32_t* const narrow = keys_.get() + n;
      launch(narrow_kernel<uint32_t>, grid_for(n, 256), dim3(256), 0, destination, narrow, n, extent);
      radix_sort<uint32_t>(narrow, {}, bits_of(extent), 1, n, n, {keys_, nullptr, positions_});
    }
    ordered_ = {positions_, keys_, wide, n, extent, extent, Split(n, n)};
  }
  // Lines of `length` keys, each below size, or nothing is written there; size < 2^32 - 1.
  Destinations(const uint32_t* keys, int64_t lines, int64_t length, int64_t size)
      : positions_(lines * length), keys_(lines * length) {
    radix_sort<uint32_t>(keys, {}, bits_of(size), lines, length, length, {keys_, nullptr, positions_});
    ordered_ = {positions_, keys_, false, lines * length, size, lines * size, Split(length, lines * length)};
  }
  const Ordered& ordered() const { return ordered_; }

 private:
  // Of which all ones is not a destination.
  static int bits_of(int64_t extent) {
    int bits = 1;
    while (bits < 63 && extent >> bits) ++bits;
    return bits;
  }

  Scratch<uint32_t> positions_, keys_;
  Ordered ordered_;
};

// F says what is folded, for each of its columns:
//   Value                                   a column's part of a source or of a destination
//   Value read(destination, position, column)    destination may be -1
//   Value combine(Value, Value)
//   void write(destination, column, Value)  once for each destination and column
// `across`: threads next to each other take columns, else chunks.
template <class F>
__global__ void __launch_bounds__(256, 2)
    fold_chunks_kernel(const __grid_constant__ F f, Ordered at, int64_t columns, int64_t chunk, bool across,
                       typename F::Value* __restrict__ parts) {
  using Value = typename F::Value;
  constexpr int together = 4;  // reads under way at once
  const int64_t chunks = ceil_div(at.n, chunk);
  for (int64_t item = first_item(); item < chunks * columns; item += item_step()) {
    const int64_t c = across ? item / columns : item % chunks, column = across ? item % columns : item / chunks;
    const int64_t begin = c * chunk, end = begin + chunk < at.n ? begin + chunk : at.n;
    int64_t to = at.destination(begin);
    bool crosses = begin > 0 && at.destination(begin - 1) == to, started = false;
    Value sum{};
    for (int64_t s = begin; s < end; s += together) {
      Value v[together];
      int64_t d[together];
#pragma unroll
      for (int k = 0; k < together; ++k)
        if (s + k < end) {
          d[k] = at.destination(s + k);
          v[k] = f.read(d[k], at.position(s + k), column);
        }
#pragma unroll
      for (int k = 0; k < together; ++k) {
        if (s + k >= end) continue;
        if (d[k] == to) {
          sum = started ? f.combine(sum, v[k]) : v[k];
          started = true;
          continue;
        }
        if (crosses)
          parts[2 * c * columns + column] = sum;
        else if (to >= 0)
          f.write(to, column, sum);
        crosses = false;
        to = d[k];
        sum = v[k];
      }
    }
    if (crosses)
      parts[2 * c * columns + column] = sum;
    else if (end < at.n && at.destination(end) == to)
      parts[(2 * c + 1) * columns + column] = sum;
    else if (to >= 0)
      f.write(to, column, sum);
  }
}

template <class Value> struct CrossingRuns {
  Value sum[256];
  int64_t chunk[256];
  uint32_t parts[8];
};

// A run that crosses chunks begins at the end of its first one, part 2c + 1; part 2c of the others is theirs. `width`
// threads take columns, as many as there are groups take every so manieth part.
template <class F>
__global__ void __launch_bounds__(256, 2)
    fold_crossing_kernel(const __grid_constant__ F f, Ordered at, int64_t columns, int64_t chunk, int width,
                         const typename F::Value* __restrict__ parts) {
  using Value = typename F::Value;
  CrossingRuns<Value>& m = shared<CrossingRuns<Value>>();
  const int64_t chunks = ceil_div(at.n, chunk);
  const int groups = 256 / width, group = threadIdx.x / width, lane = threadIdx.x % width;
  for (int64_t first = int64_t(blockIdx.x) * 256; first < chunks; first += int64_t(gridDim.x) * 256) {
    const int64_t mine = first + threadIdx.x, next = (mine + 1) * chunk;
    bool begins = false;
    if (mine + 1 < chunks) {
      const int64_t to = at.destination(next);
      begins = at.destination(next - 1) == to && (mine == 0 || at.destination(mine * chunk - 1) != to);
    }
    uint32_t count;
    const uint32_t place = block_prefix_sum(uint32_t(begins), m.parts, &count);
    if (begins) m.chunk[place] = mine;
    __syncthreads();
    for (uint32_t k = 0; k < count; ++k) {
      const int64_t c = m.chunk[k], to = at.destination((c + 1) * chunk);
      int64_t last = c + 1, past = chunks;  // the last chunk that begins inside the run
      while (past - last > 1) {
        const int64_t middle = last + (past - last) / 2;
        if (at.destination(middle * chunk) == to)
          last = middle;
        else
          past = middle;
      }
      const int64_t pieces = last - c + 1;
      for (int64_t from = int64_t(blockIdx.y) * width; from < columns; from += int64_t(gridDim.y) * width) {
        const int64_t column = from + lane;
        const bool reads = column < columns && group < pieces;
        if (reads) {
          Value sum = parts[(group ? 2 * (c + group) : 2 * c + 1) * columns + column];
          for (int64_t p = group + groups; p < pieces; p += groups)
            sum = f.combine(sum, parts[2 * (c + p) * columns + column]);
          m.sum[threadIdx.x] = sum;
        }
        __syncthreads();
        if (reads && group == 0) {
          Value sum = m.sum[lane];
          for (int g = 1; g < groups && g < pieces; ++g) sum = f.combine(sum, m.sum[g * width + lane]);
          if (to >= 0) f.write(to, column, sum);
        }
        __syncthreads();
      }
    }
    __syncthreads();
  }
}

template <class F> void fold_ordered(const F& f, const Ordered& at, int64_t columns, bool across) {
  int64_t chunk = 64;
  while (chunk > 8 && at.n / chunk * columns < (int64_t(1) << 17)) chunk /= 2;
  const int64_t chunks = ceil_div(at.n, chunk);
  Scratch<typename F::Value> parts(chunks > 1 ? 2 * chunks * columns : 1);
  launch(fold_chunks_kernel<F>, grid_for(chunks * columns, 256), dim3(256), 0, f, at, columns, chunk, across,
         parts.get());
  if (chunks == 1) return;
  int width = 1;
  while (width < 256 && width < columns) width *= 2;
  const dim3 blocks = grid_for(chunks, 256);
  const int64_t tiles = ceil_div(columns, width), most = ceil_div(8 * multiprocessors(), blocks.x);
  launch(fold_crossing_kernel<F>, dim3(blocks.x, unsigned(tiles < most ? tiles : most)), dim3(256),
         sizeof(CrossingRuns<typename F::Value>), f, at, columns, chunk, width,
         static_cast<const typename F::Value*>(parts.get()));
}

}  // namespace gg::cuda
