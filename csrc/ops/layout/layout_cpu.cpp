// Copies by the shape of the problem: dense rows are memcpy; where input and output disagree about the fastest axis,
// tiles of 64 x 64 go through a buffer that fits the L1 cache, so that every cache line is read once and written once,
// whole; inside a tile, square blocks are transposed in registers by log2(n) perfect shuffles of their rows (Eklundh
// 1972).
#include <string.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/convert.h"
#include "ops/layout/layout.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kGrain = 65536;  // elements a piece
constexpr int64_t kTile = 64;
constexpr int64_t kShortRow = 16;

// Rows of different dtypes, through blocks of the compute type; where that is one of the two, there is no block
// between.
template <class C>
void convert_row(DType to, char* out, int64_t out_stride, DType from, const char* in, int64_t in_stride, int64_t n) {
  constexpr DType middle = dtype_of<C>::value;
  if (from == middle && in_stride == sizeof(C))
    return store_block(to, out, out_stride, reinterpret_cast<const C*>(in), n);
  if (to == middle && out_stride == sizeof(C)) return load_block(from, in, in_stride, reinterpret_cast<C*>(out), n);
  constexpr int64_t kBlock = 512;
  C block[kBlock];
  for (int64_t i = 0; i < n; i += kBlock) {
    int64_t m = n - i < kBlock ? n - i : kBlock;
    load_block(from, in + i * in_stride, in_stride, block, m);
    store_block(to, out + i * out_stride, out_stride, block, m);
  }
}

template <class T> void fill_row(char* out, int64_t stride, const void* value, int64_t n) {
  T v;
  memcpy(&v, value, sizeof v);
  if (stride == sizeof(T)) {
    T* y = reinterpret_cast<T*>(out);
    for (int64_t i = 0; i < n; ++i) y[i] = v;
  } else {
    for (int64_t i = 0; i < n; ++i) *reinterpret_cast<T*>(out + i * stride) = v;
  }
}

void copy_row(DType to, char* out, int64_t out_stride, DType from, const char* in, int64_t in_stride, int64_t n) {
  if (to == from) {
    int item = item_size(to);
    if (out_stride == item && in_stride == item) {
      memcpy(out, in, size_t(n) * item);
      return;
    }
    dispatch_size(item, [&]<class T>() {
      if (in_stride == 0) return fill_row<T>(out, out_stride, in, n);
      if (out_stride == item) {
        T* y = reinterpret_cast<T*>(out);
        if (in_stride == -item) {
          const T* x = reinterpret_cast<const T*>(in);
          for (int64_t i = 0; i < n; ++i) y[i] = x[-i];
        } else {
          for (int64_t i = 0; i < n; ++i) y[i] = *reinterpret_cast<const T*>(in + i * in_stride);
        }
      } else {
        for (int64_t i = 0; i < n; ++i)
          *reinterpret_cast<T*>(out + i * out_stride) = *reinterpret_cast<const T*>(in + i * in_stride);
      }
    });
    return;
  }
  // A whole number becomes a float by one rounding, and one never passes through a float on its way to another.
  if (is_floating(to)) {
    if (to == DType::Float64) return convert_row<double>(to, out, out_stride, from, in, in_stride, n);
    return convert_row<float>(to, out, out_stride, from, in, in_stride, n);
  }
  if (from == DType::Float64) return convert_row<double>(to, out, out_stride, from, in, in_stride, n);
  if (is_floating(from)) return convert_row<float>(to, out, out_stride, from, in, in_stride, n);
  convert_row<int64_t>(to, out, out_stride, from, in, in_stride, n);
}

// Calls row(offsets into the operands in bytes, length) for the rows, or parts of rows, of elements [begin, end).
template <int N, class F> void for_rows(const Loop<N>& loop, int64_t begin, int64_t end, F row) {
  int last = loop.ndim - 1;
  int64_t at[kMaxDims], offset[N] = {};
  int64_t rest = begin;
  for (int d = last; d >= 0; --d) {
    at[d] = rest % loop.shape[d];
    rest /= loop.shape[d];
    for (int k = 0; k < N; ++k) offset[k] += at[d] * loop.stride[k][d];
  }
  while (begin < end) {
    int64_t n = loop.shape[last] - at[last];
    if (n > end - begin) n = end - begin;
    row(offset, n);
    begin += n;
    for (int k = 0; k < N; ++k) offset[k] -= at[last] * loop.stride[k][last];
    at[last] = 0;
    for (int d = last - 1; d >= 0; --d) {
      for (int k = 0; k < N; ++k) offset[k] += loop.stride[k][d];
      if (++at[d] < loop.shape[d]) break;
      for (int k = 0; k < N; ++k) offset[k] -= at[d] * loop.stride[k][d];
      at[d] = 0;
    }
  }
}

// One square block, n lanes of T in 16 bytes: rows n/2 apart are interleaved log2(n) times, which is a transpose.
template <class T> inline void transpose_block(const char* in, int64_t in_stride, T* out) {
  constexpr int n = 16 / int(sizeof(T));
  using V = typename Packed<T, n>::type;
  V low, high;  // the shuffles' lane numbers: 0, n, 1, n + 1, ... and the upper half alike
  for (int i = 0; i < n; ++i) {
    low[i] = T(i / 2 + i % 2 * n);
    high[i] = T(i / 2 + n / 2 + i % 2 * n);
  }
  V a[n], b[n];
  for (int i = 0; i < n; ++i) memcpy(&a[i], in + i * in_stride, sizeof(V));
  for (int step = 1; step < n; step *= 2) {
    for (int i = 0; i < n / 2; ++i) {
      b[2 * i] = __builtin_shuffle(a[i], a[i + n / 2], low);
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + n / 2], high);
    }
    for (int i = 0; i < n; ++i) a[i] = b[i];
  }
  for (int i = 0; i < n; ++i) memcpy(out + i * kTile, &a[i], sizeof(V));
}

// tile[r][c] = in[r, c] for rows r along the axis that is dense in the input and columns c along the one dense in the
// output.
template <class T>
void read_tile(const char* in, int64_t row_stride, int64_t col_stride, int64_t rows, int64_t cols, T* tile) {
  constexpr int64_t n = 16 / int64_t(sizeof(T));
  int64_t full_rows = row_stride == int64_t(sizeof(T)) ? rows / n * n : 0, full_cols = cols / n * n;
  for (int64_t c = 0; c < full_cols; c += n)
    for (int64_t r = 0; r < full_rows; r += n)
      transpose_block<T>(in + r * row_stride + c * col_stride, col_stride, tile + r * kTile + c);
  for (int64_t c = 0; c < cols; ++c)
    for (int64_t r = c < full_cols ? full_rows : 0; r < rows; ++r)
      tile[r * kTile + c] = *reinterpret_cast<const T*>(in + r * row_stride + c * col_stride);
}

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// The axis along which the input is dense, if that is not the output's innermost one and a tile pays; else -1.
int tile_axis(const Loop<2>& loop) {
  int last = loop.ndim - 1, best = -1;
  int64_t least = magnitude(loop.stride[1][last]);
  for (int d = 0; d < last; ++d) {
    int64_t stride = magnitude(loop.stride[1][d]);
    if (stride == 0 || stride >= least) continue;
    least = stride;
    best = d;
  }
  return best;
}

void copy_tiles(const Loop<2>& loop, int axis) {
  int last = loop.ndim - 1;
  Loop<2> outer = loop;
  outer.ndim = 0;
  int64_t outer_size = 1;
  for (int d = 0; d < last; ++d) {
    if (d == axis) continue;
    outer.shape[outer.ndim] = loop.shape[d];
    for (int k = 0; k < 2; ++k) outer.stride[k][outer.ndim] = loop.stride[k][d];
    outer_size *= loop.shape[d];
    ++outer.ndim;
  }
  int64_t rows = loop.shape[axis], cols = loop.shape[last];
  int64_t tile_rows = (rows + kTile - 1) / kTile, tile_cols = (cols + kTile - 1) / kTile;
  int64_t tile_size = (rows < kTile ? rows : kTile) * (cols < kTile ? cols : kTile);
  parallel_for(
      outer_size * tile_rows * tile_cols, (kGrain + tile_size - 1) / tile_size, [&](int64_t begin, int64_t end) {
        alignas(64) uint64_t buffer[kTile * kTile];
        for (int64_t i = begin; i < end; ++i) {
          int64_t r = i / tile_cols % tile_rows * kTile, c = i % tile_cols * kTile, rest = i / tile_cols / tile_rows;
          int64_t offset[2];
          for (int k = 0; k < 2; ++k) offset[k] = r * loop.stride[k][axis] + c * loop.stride[k][last];
          for (int d = outer.ndim - 1; d >= 0; --d) {
            for (int k = 0; k < 2; ++k) offset[k] += rest % outer.shape[d] * outer.stride[k][d];
            rest /= outer.shape[d];
          }
          int64_t m = rows - r < kTile ? rows - r : kTile, n = cols - c < kTile ? cols - c : kTile;
          int item = item_size(loop.dtype[1]);
          dispatch_size(item, [&]<class T>() {
            read_tile<T>(loop.data[1] + offset[1], loop.stride[1][axis], loop.stride[1][last], m, n,
                         reinterpret_cast<T*>(buffer));
          });
          for (int64_t row = 0; row < m; ++row)
            copy_row(loop.dtype[0], loop.data[0] + offset[0] + row * loop.stride[0][axis], loop.stride[0][last],
                     loop.dtype[1], reinterpret_cast<const char*>(buffer) + row * kTile * item, item, n);
        }
      });
}

// Where the output's innermost axis is short (the channels of an image, a window), a loop over it would be all
// overhead: the long axis is crossed instead, once for each place along the short one, in stretches that stay in the L1
// cache.
void copy_short_rows(Loop<2> loop, int axis) {
  constexpr int64_t kStretch = 512;
  int last = loop.ndim - 1;
  int64_t n = loop.shape[axis], width = loop.shape[last], out_stride = loop.stride[0][axis],
          in_stride = loop.stride[1][axis];
  int64_t out_step = loop.stride[0][last], in_step = loop.stride[1][last];
  // What is left to walk: the outer axes, then the stretches of the long one.
  loop.ndim = 0;
  loop.numel = 1;
  for (int d = 0; d < last; ++d) {
    if (d == axis) continue;
    loop.shape[loop.ndim] = loop.shape[d];
    for (int k = 0; k < 2; ++k) loop.stride[k][loop.ndim] = loop.stride[k][d];
    loop.numel *= loop.shape[loop.ndim++];
  }
  int64_t stretches = (n + kStretch - 1) / kStretch;
  loop.shape[loop.ndim] = stretches;
  loop.stride[0][loop.ndim] = kStretch * out_stride;
  loop.stride[1][loop.ndim++] = kStretch * in_stride;
  loop.numel *= stretches;
  int64_t size = (n < kStretch ? n : kStretch) * width;
  parallel_for(loop.numel, (kGrain + size - 1) / size, [&](int64_t begin, int64_t end) {
    int inner = loop.ndim - 1;
    for_rows(loop, begin, end, [&](const int64_t* offset, int64_t count) {
      int64_t first = begin % stretches;
      for (int64_t i = 0; i < count; ++i) {
        int64_t m = first + i == stretches - 1 ? n - (stretches - 1) * kStretch : kStretch;
        for (int64_t j = 0; j < width; ++j)
          copy_row(loop.dtype[0], loop.data[0] + offset[0] + i * loop.stride[0][inner] + j * out_step, out_stride,
                   loop.dtype[1], loop.data[1] + offset[1] + i * loop.stride[1][inner] + j * in_step, in_stride, m);
      }
      begin += count;
    });
  });
}

void copy(const Loop<2>& loop) {
  int axis = tile_axis(loop);
  int across = axis >= 0 ? axis : loop.ndim - 2;
  if (across >= 0 && loop.shape[loop.ndim - 1] < kShortRow && loop.shape[across] >= 2 * kShortRow)
    return copy_short_rows(loop, across);
  if (axis >= 0) return copy_tiles(loop, axis);
  int last = loop.ndim - 1;
  parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
    for_rows(loop, begin, end, [&](const int64_t* offset, int64_t n) {
      copy_row(loop.dtype[0], loop.data[0] + offset[0], loop.stride[0][last], loop.dtype[1], loop.data[1] + offset[1],
               loop.stride[1][last], n);
    });
  });
}

void fill(const Loop<1>& loop, const void* value) {
  int last = loop.ndim - 1;
  dispatch_size(item_size(loop.dtype[0]), [&]<class T>() {
    parallel_for(loop.numel, kGrain, [&](int64_t begin, int64_t end) {
      for_rows(loop, begin, end, [&](const int64_t* offset, int64_t n) {
        fill_row<T>(loop.data[0] + offset[0], loop.stride[0][last], value, n);
      });
    });
  });
}

void triangle(DType t, const void* x, void* y, int64_t batch, int64_t rows, int64_t cols, int64_t diagonal,
              bool lower) {
  int64_t item = item_size(t);
  parallel_for(batch * rows, 1 + kGrain / (cols + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Columns [0, cut) belong to the lower part; torch's bounds let the diagonal lie outside of the matrix.
      int64_t cut = i % rows + diagonal + (lower ? 1 : 0);
      cut = cut < 0 ? 0 : cut > cols ? cols : cut;
      const char* in = static_cast<const char*>(x) + i * cols * item;
      char* out = static_cast<char*>(y) + i * cols * item;
      int64_t kept = lower ? 0 : cut, from = lower ? cut : 0;
      memcpy(out + kept * item, in + kept * item, size_t((lower ? cut : cols - cut) * item));
      memset(out + from * item, 0, size_t((lower ? cols - cut : cut) * item));
    }
  });
}

void repeat_index(const int64_t* ends, int64_t n, int64_t, int64_t* y) {
  for (int64_t i = 0, k = 0; i < n; ++i)
    for (; k < ends[i]; ++k) y[k] = i;
}

}  // namespace

const LayoutKernels layout_kernels = {copy, fill, triangle, repeat_index};

}  // namespace gg::GG_ISA
