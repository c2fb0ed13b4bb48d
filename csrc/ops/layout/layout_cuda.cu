// Copies by the shape of the problem. What is dense in both operands moves in units of up to 16 bytes, rows of any
// strides alike. Where input and output disagree about the fastest axis, tiles of 64 x 64 go through shared memory, so
// that both sides are read and written along their own; a tile's rows are padded by a word, else its columns would lie
// in one bank. Other dtypes pass through the compute type that keeps them: one kernel for each of the three.
#include "ops/layout/layout.h"

#include "cuda/convert.h"
#include "cuda/launch.h"
#include "cuda/offsets.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;
constexpr int64_t kShortAxis = 16;  // below it a tile would be mostly empty

struct alignas(16) Unit16 { uint64_t v[2]; };

template <class F> void dispatch_unit(int bytes, F&& f) {
  if (bytes == 16) return f.template operator()<Unit16>();
  dispatch_size(bytes, f);
}

// Turns a loop over items into one over the largest units that its rows fall into, and returns their size. The last
// bytes of a single row are left over if they do not fill one: they follow the units.
template <int N> int widen(Loop<N>& loop, int item, int* rest) {
  const int last = loop.ndim - 1;
  int64_t row = loop.shape[last] * item;
  *rest = 0;
  for (int k = 0; k < N; ++k)
    if (loop.stride[k][last] != item && loop.numel > 1) return item;
  if (loop.ndim == 1) {
    *rest = int(row % 16);
    row -= *rest;
  }
  auto fits = [&](int unit) {
    bool ok = row % unit == 0;
    for (int k = 0; k < N; ++k) {
      ok = ok && aligned(loop.data[k], size_t(unit));
      for (int d = 0; d < last; ++d) ok = ok && loop.stride[k][d] % unit == 0;
    }
    return ok;
  };
  int unit = item;
  while (unit < 16 && fits(2 * unit)) unit *= 2;
  loop.numel = loop.numel / loop.shape[last] * (row / unit);
  loop.shape[last] = row < unit ? 1 : row / unit;  // nothing but a rest: no index is asked for
  for (int k = 0; k < N; ++k) loop.stride[k][last] = unit;
  return unit;
}

// Each thread keeps four units on their way: that many bytes must be in flight to fill the memory's pipes.
// hot: no spills
template <class U>
__global__ void copy_kernel(char* __restrict__ out, const char* __restrict__ in, int64_t n,
                            const __grid_constant__ Offsets<2> at, int rest) {
  constexpr int kAtOnce = 4;
  const int64_t step = item_step();
  for (int64_t first = first_item(); first < n; first += kAtOnce * step) {
    U x[kAtOnce];
    char* to[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t i = first + k * step;
      if (i >= n) continue;
      int64_t offset[2];
      at.at(i, offset);
      to[k] = out + offset[0];
      x[k] = *reinterpret_cast<const U*>(in + offset[1]);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k)
      if (first + k * step < n) *reinterpret_cast<U*>(to[k]) = x[k];
  }
  for (int64_t i = first_item(); i < rest; i += step) out[n * sizeof(U) + i] = in[n * sizeof(U) + i];
}

void copy_units(Loop<2> loop) {
  int rest, unit = widen(loop, item_size(loop.dtype[0]), &rest);
  dispatch_unit(unit, [&]<class U>() {
    launch(copy_kernel<U>, grid_for((loop.numel + 3) / 4, kThreads), kThreads, 0, loop.data[0], loop.data[1],
           loop.numel, Offsets<2>(loop), rest);
  });
}

template <class T> struct Tile { T at[kTile][kTile + (sizeof(T) < 4 ? 4 / sizeof(T) : 1)]; };

// A matrix whose rows lie along the axis that is dense in the input and whose columns along the output's; strides in
// bytes. wide: packs of 16 bytes may be moved.
struct Plane {
  int64_t rows, cols;
  int64_t row_stride[2], col_stride[2];
  bool wide[2];
};

// hot: no spills
template <class T>
__global__ void copy_tiles_kernel(char* __restrict__ out, const char* __restrict__ in, int64_t tiles,
                                  const __grid_constant__ Plane plane, const __grid_constant__ Offsets<2> at) {
  constexpr int N = kPack<T>, kPacks = kTile / N;  // packs along a tile's side
  Tile<T>& tile = shared<Tile<T>>();
  const int64_t tile_cols = (plane.cols + kTile - 1) / kTile, tile_rows = (plane.rows + kTile - 1) / kTile;
  for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const int64_t q = t / tile_cols, c0 = (t - q * tile_cols) * kTile, r0 = q % tile_rows * kTile;
    const int rows = int(plane.rows - r0 < kTile ? plane.rows - r0 : kTile);
    const int cols = int(plane.cols - c0 < kTile ? plane.cols - c0 : kTile);
    int64_t offset[2];
    at.at(t, offset);
    const char* from = in + offset[1];
    char* to = out + offset[0];
#pragma unroll 4
    for (int p = threadIdx.x; p < kPacks * kTile; p += kThreads) {
      const int r = p % kPacks * N, c = p / kPacks;
      if (c >= cols) continue;
      const char* x = from + r * plane.row_stride[1] + c * plane.col_stride[1];
      if (plane.wide[1] && r + N <= rows) {
        const Pack<T, N> pack = load_pack<N>(reinterpret_cast<const T*>(x));
#pragma unroll
        for (int j = 0; j < N; ++j) tile.at[r + j][c] = pack[j];
      } else {
        for (int j = 0; j < N && r + j < rows; ++j)
          tile.at[r + j][c] = *reinterpret_cast<const T*>(x + j * plane.row_stride[1]);
      }
    }
    __syncthreads();
#pragma unroll 4
    for (int p = threadIdx.x; p < kPacks * kTile; p += kThreads) {
      const int c = p % kPacks * N, r = p / kPacks;
      if (r >= rows) continue;
      char* y = to + r * plane.row_stride[0] + c * plane.col_stride[0];
      if (plane.wide[0] && c + N <= cols) {
        Pack<T, N> pack;
#pragma unroll
        for (int j = 0; j < N; ++j) pack[j] = tile.at[r][c + j];
        store_pack<N>(reinterpret_cast<T*>(y), pack);
      } else {
        for (int j = 0; j < N && c + j < cols; ++j)
          *reinterpret_cast<T*>(y + j * plane.col_stride[0]) = tile.at[r][c + j];
      }
    }
    __syncthreads();
  }
}

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// The axis along which the input is dense, if that is not the output's innermost one and a tile pays; else -1.
int tile_axis(const Loop<2>& loop) {
  const int last = loop.ndim - 1;
  int best = -1;
  int64_t least = magnitude(loop.stride[1][last]);
  for (int d = 0; d < last; ++d) {
    const int64_t stride = magnitude(loop.stride[1][d]);
    if (stride == 0 || stride >= least) continue;
    least = stride;
    best = d;
  }
  return best >= 0 && loop.shape[best] >= kShortAxis && loop.shape[last] >= kShortAxis ? best : -1;
}

void copy_tiles(const Loop<2>& loop, int axis) {
  const int last = loop.ndim - 1, item = item_size(loop.dtype[0]);
  Plane plane;
  plane.rows = loop.shape[axis];
  plane.cols = loop.shape[last];
  Loop<2> tiles = loop;
  tiles.ndim = 0;
  tiles.numel = 1;
  auto walk = [&](int d, int64_t size, int64_t each) {
    tiles.shape[tiles.ndim] = size;
    for (int k = 0; k < 2; ++k) tiles.stride[k][tiles.ndim] = loop.stride[k][d] * each;
    tiles.numel *= size;
    ++tiles.ndim;
  };
  for (int d = 0; d < last; ++d)
    if (d != axis) walk(d, loop.shape[d], 1);
  walk(axis, ceil_div(plane.rows, kTile), kTile);
  walk(last, ceil_div(plane.cols, kTile), kTile);
  for (int k = 0; k < 2; ++k) {
    plane.row_stride[k] = loop.stride[k][axis];
    plane.col_stride[k] = loop.stride[k][last];
    const int dense = k == 0 ? last : axis;
    plane.wide[k] = aligned(loop.data[k], 16) && loop.stride[k][dense] == item;
    for (int d = 0; d <= last; ++d) plane.wide[k] = plane.wide[k] && (d == dense || loop.stride[k][d] % 16 == 0);
  }
  dispatch_size(item, [&]<class T>() {
    launch(copy_tiles_kernel<T>, grid_for(tiles.numel, 1), kThreads, sizeof(Tile<T>), loop.data[0], loop.data[1],
           tiles.numel, plane, Offsets<2>(tiles));
  });
}

constexpr int kRun = 4;

// Runs of elements where both operands are dense, two on their way for each thread; then one by one what is left or
// all.
template <class C>
__global__ void convert_kernel(char* __restrict__ out, DType to, const char* __restrict__ in, DType from, int64_t runs,
                               int64_t n, int out_item, int in_item, const __grid_constant__ Offsets<2> at) {
  const int64_t step = item_step();
  for (int64_t i = first_item(); i < runs; i += 2 * step) {
    C x[kRun], later[kRun];
    const bool more = i + step < runs;
    load_any(from, in + i * (kRun * in_item), x);
    if (more) load_any(from, in + (i + step) * (kRun * in_item), later);
    store_any(to, out + i * (kRun * out_item), x);
    if (more) store_any(to, out + (i + step) * (kRun * out_item), later);
  }
  for (int64_t i = runs * kRun + first_item(); i < n; i += step) {
    int64_t offset[2];
    at.at(i, offset);
    C x[1];
    load_any(from, in + offset[1], x);
    store_any(to, out + offset[0], x);
  }
}

template <class C> void convert_as(const Loop<2>& loop) {
  const int out_item = item_size(loop.dtype[0]), in_item = item_size(loop.dtype[1]);
  bool wide = loop.ndim == 1 && loop.stride[0][0] == out_item && loop.stride[1][0] == in_item;
  for (int k = 0; k < 2; ++k) wide = wide && run_aligned(loop.data[k], loop.dtype[k], kRun);
  const int64_t runs = wide ? loop.numel / kRun : 0;
  launch(convert_kernel<C>, grid_for(wide ? ceil_div(runs, 2) : loop.numel, kThreads), kThreads, 0, loop.data[0],
         loop.dtype[0], loop.data[1], loop.dtype[1], runs, loop.numel, out_item, in_item, Offsets<2>(loop));
}

// A whole number becomes a float by one rounding, and one never passes through a float on its way to another.
void convert(const Loop<2>& loop) {
  const DType to = loop.dtype[0], from = loop.dtype[1];
  if (to == DType::Float64 || (from == DType::Float64 && !is_half(to) && to != DType::Float32))
    convert_as<double>(loop);
  else if (is_floating(to) || is_floating(from))
    convert_as<float>(loop);
  else
    convert_as<int64_t>(loop);
}

void copy(const Loop<2>& loop) {
  if (loop.numel == 0) return;
  if (loop.dtype[0] != loop.dtype[1]) return convert(loop);
  const int axis = tile_axis(loop);
  axis >= 0 ? copy_tiles(loop, axis) : copy_units(loop);
}

template <class U>
__global__ void fill_kernel(char* __restrict__ out, U value, int64_t n, const __grid_constant__ Offsets<1> at,
                            int rest) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    int64_t offset[1];
    at.at(i, offset);
    *reinterpret_cast<U*>(out + offset[0]) = value;
  }
  const char* bytes = reinterpret_cast<const char*>(&value);
  for (int64_t i = first_item(); i < rest; i += item_step()) out[n * sizeof(U) + i] = bytes[i % sizeof(U)];
}

void fill(const Loop<1>& in_items, const void* value) {
  if (in_items.numel == 0) return;
  Loop<1> loop = in_items;
  const int item = item_size(loop.dtype[0]);
  int rest, unit = widen(loop, item, &rest);
  char repeated[16];
  for (int i = 0; i < 16; i += item) memcpy(repeated + i, value, size_t(item));
  dispatch_unit(unit, [&]<class U>() {
    U word;
    memcpy(&word, repeated, sizeof word);
    launch(fill_kernel<U>, grid_for(loop.numel, kThreads), kThreads, 0, loop.data[0], word, loop.numel,
           Offsets<1>(loop), rest);
  });
}

constexpr int kTriangleRows = 8;  // a block's: 32 threads walk along each

template <class T, int N>
__global__ void triangle_kernel(const T* __restrict__ x, T* __restrict__ y, int64_t all_rows, int64_t rows,
                                int64_t cols, int64_t diagonal, bool lower) {
  for (int64_t i = int64_t(blockIdx.x) * kTriangleRows + threadIdx.y; i < all_rows;
       i += int64_t(gridDim.x) * kTriangleRows) {
    const int64_t row = i % rows;
    for (int64_t c = threadIdx.x * N; c < cols; c += 32 * N) {
      // Kept are the columns up to row + diagonal, or from there on. A pack of which nothing is kept reads what is in
      // the cache already, the first.
      const int64_t first = c - row, last = first + N - 1;
      const bool some = lower ? first <= diagonal : last >= diagonal;
      Pack<T, N> pack = load_pack<N>(some ? x + i * cols + c : x);
#pragma unroll
      for (int j = 0; j < N; ++j) pack[j] = (lower ? first + j <= diagonal : first + j >= diagonal) ? pack[j] : T(0);
      store_pack<N>(y + i * cols + c, pack);
    }
  }
}

void triangle(DType t, const void* x, void* y, int64_t batch, int64_t rows, int64_t cols, int64_t diagonal,
              bool lower) {
  dispatch_size(item_size(t), [&]<class T>() {
    auto run = [&]<int N>() {
      launch(triangle_kernel<T, N>, grid_for(batch * rows, kTriangleRows), dim3(32, kTriangleRows), 0,
             static_cast<const T*>(x), static_cast<T*>(y), batch * rows, rows, cols, diagonal, lower);
    };
    const bool wide = cols % kPack<T> == 0 && aligned(x, 16) && aligned(y, 16);
    wide ? run.template operator()<kPack<T>>() : run.template operator()<1>();
  });
}

// The first end beyond k, by halving.
__global__ void repeat_index_kernel(const int64_t* __restrict__ ends, int64_t n, int64_t total,
                                    int64_t* __restrict__ y) {
  for (int64_t k = first_item(); k < total; k += item_step()) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (ends[middle] > k)
        high = middle;
      else
        low = middle + 1;
    }
    y[k] = low;
  }
}

void repeat_index(const int64_t* ends, int64_t n, int64_t total, int64_t* y) {
  launch(repeat_index_kernel, grid_for(total, kThreads), kThreads, 0, ends, n, total, y);
}

// How an index of a dense array falls into places along its axes.
struct PadPlaces {
  int ndim;
  Split axis[kMaxDims];

  PadPlaces(const PadView& view, int64_t PadAxis::* size) : ndim(view.ndim) {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= view.axis[d].*size;
    for (int d = 0; d < ndim; ++d) axis[d] = Split(view.axis[d].*size, n);
  }
  // The place along axis d of an index whose later places are taken out; the rest goes on.
  __device__ int64_t take(int d, int64_t* index) const {
    const int64_t q = axis[d].quotient(*index), place = *index - q * axis[d].d;
    *index = q;
    return place;
  }
};

template <class T>
__global__ void pad_kernel(const T* __restrict__ x, T* __restrict__ y, T value, int64_t n,
                           const __grid_constant__ PadView view, const __grid_constant__ PadPlaces places) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    int64_t rest = i, from = 0;
    bool inside = true;
    for (int d = view.ndim - 1; d >= 0; --d) {
      const int64_t k = view.axis[d].source(view.border, places.take(d, &rest));
      inside = inside && k >= 0;
      from += k * view.axis[d].stride;
    }
    y[i] = inside ? x[from] : value;
  }
}

void pad(int item, const PadView& view, const void* x, void* y, const void* value_) {
  int64_t n = 1;
  for (int d = 0; d < view.ndim; ++d) n *= view.axis[d].out;
  dispatch_size(item, [&]<class T>() {
    T value;
    memcpy(&value, value_, sizeof value);
    launch(pad_kernel<T>, grid_for(n, kThreads), kThreads, 0, static_cast<const T*>(x), static_cast<T*>(y), value, n,
           view, PadPlaces(view, &PadAxis::out));
  });
}

// Every element of dx gathers its own terms, the last axis fastest.
template <class T>
__global__ void pad_backward_kernel(const T* __restrict__ dy, T* __restrict__ dx, int64_t n,
                                    const __grid_constant__ PadView view, const __grid_constant__ PadPlaces places) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    PadTargets targets[kMaxDims];
    int64_t rest = i, total = 1;
    for (int d = view.ndim - 1; d >= 0; --d) {
      targets[d] = view.axis[d].targets(view.border, places.take(d, &rest));
      total *= targets[d].total();
    }
    compute_t<T> sum = 0;
    for (int64_t term = 0; term < total; ++term) {
      int64_t left = term, from = 0, stride = 1;
      for (int d = view.ndim - 1; d >= 0; --d) {
        from += targets[d].at(left % targets[d].total()) * stride;
        left /= targets[d].total();
        stride *= view.axis[d].out;
      }
      sum += load(dy + from);
    }
    store(dx + i, sum);
  }
}

void pad_backward(DType t, const PadView& view, const void* dy, void* dx) {
  int64_t n = 1;
  for (int d = 0; d < view.ndim; ++d) n *= view.axis[d].in;
  dispatch_floating(t, [&]<class T>() {
    launch(pad_backward_kernel<T>, grid_for(n, kThreads), kThreads, 0, static_cast<const T*>(dy), static_cast<T*>(dx),
           n, view, PadPlaces(view, &PadAxis::in));
  });
}

}  // namespace

const LayoutKernels layout_kernels = {copy, fill, triangle, repeat_index, pad, pad_backward};

}  // namespace gg::cuda
