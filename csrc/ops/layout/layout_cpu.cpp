// Copies by the shape of the problem: dense rows are memcpy; where input and output disagree about the fastest axis,
// tiles of 64 x 64 go through a buffer that fits the L1 cache, so that every cache line is read once and written once,
// whole; inside a tile, square blocks are transposed in registers (cpu/transpose.h). A padded row is its middle,
// copied, between two ends of few elements; the gradient folds such rows back.
#include <string.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/convert.h"
#include "cpu/integers.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "cpu/transpose.h"
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

// One square block, n lanes of T in 16 bytes.
template <class T> inline void transpose_block(const char* in, int64_t in_stride, T* out) {
  constexpr int n = 16 / int(sizeof(T));
  typename Packed<T, n>::type a[n];
  for (int i = 0; i < n; ++i) memcpy(&a[i], in + i * in_stride, 16);
  transpose_square<T, n>(a);
  for (int i = 0; i < n; ++i) memcpy(out + i * kTile, &a[i], 16);
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

// Calls row(r, where) for the rows [begin, end) of a dense array: where[d] is the row's place along axis d.
template <class F> void for_places(const int64_t* shape, int ndim, int64_t begin, int64_t end, F row) {
  int64_t at[kMaxDims];
  for (int64_t d = ndim - 1, rest = begin; d >= 0; rest /= shape[d--]) at[d] = rest % shape[d];
  for (int64_t r = begin; r < end; ++r) {
    row(r, at);
    for (int d = ndim - 1; d >= 0 && ++at[d] == shape[d]; --d) at[d] = 0;
  }
}

constexpr int64_t kPadGrain = kGrain / 4;

void pad(int item, const PadView& view, const void* x, void* y, const void* value_) {
  const int outer = view.ndim - 1;
  const PadAxis last = view.axis[outer];
  int64_t shape[kMaxDims], rows = 1;
  for (int d = 0; d < outer; ++d) rows *= shape[d] = view.axis[d].out;
  // y's elements [first, end) of a row are x's in order.
  const int64_t first = smaller(last.out, larger(0, last.left + last.low)),
                end = larger(first, smaller(last.out, last.left + last.high));
  Scratch<int64_t> source(last.out);
  for (int64_t i = 0; i < last.out; ++i) source[i] = last.source(view.border, i) * last.stride;
  dispatch_size(item, [&]<class T>() {
    T value;
    memcpy(&value, value_, sizeof value);
    auto ends = [&](T* to, const T* from, int64_t i, int64_t stop) {
      if (view.border == Border::Constant)
        for (; i < stop; ++i) to[i] = value;
      else
        for (; i < stop; ++i) to[i] = from[source[i]];
    };
    auto middle = [&](T* to, const T* from, int64_t i, int64_t stop) {
      from -= last.left * last.stride;
      if (last.stride == 1)
        memcpy(to + i, from + i, size_t(stop - i) * sizeof(T));
      else
        for (; i < stop; ++i) to[i] = from[i * last.stride];
    };
    auto each_row = [&](int64_t begin, int64_t stop, const auto& row) {
      for_places(shape, outer, begin, stop, [&](int64_t r, const int64_t* at) {
        const T* from = static_cast<const T*>(x);
        bool inside = true;
        for (int d = 0; d < outer; ++d) {
          const int64_t k = view.axis[d].source(view.border, at[d]);
          inside &= k >= 0;
          from += k * view.axis[d].stride;
        }
        T* to = static_cast<T*>(y) + r * last.out;
        if (inside) return row(to, from);
        for (int64_t i = 0; i < last.out; ++i) to[i] = value;
      });
    };
    if (last.out < 2 * kGrain) {
      parallel_for(rows, 1 + kPadGrain / last.out, [&](int64_t begin, int64_t stop) {
        each_row(begin, stop, [&](T* to, const T* from) {
          ends(to, from, 0, first);
          middle(to, from, first, end);
          ends(to, from, end, last.out);
        });
      });
      return;
    }
    each_row(0, rows, [&](T* to, const T* from) {
      ends(to, from, 0, first);
      parallel_for(end - first, kGrain,
                   [&](int64_t begin, int64_t stop) { middle(to, from, first + begin, first + stop); });
      ends(to, from, end, last.out);
    });
  });
}

// A row of dx is the sum of the rows of dy that show it, each folded along the last axis.
void pad_backward(DType t, const PadView& view, const void* dy, void* dx) {
  const int outer = view.ndim - 1;
  const PadAxis last = view.axis[outer];
  int64_t shape[kMaxDims], stride[kMaxDims], rows = 1, width = last.out;
  for (int d = outer - 1; d >= 0; --d) {
    rows *= shape[d] = view.axis[d].in;
    stride[d] = width;
    width *= view.axis[d].out;
  }
  // dx's elements [first, end) of a row stand in dy's in order; others of dy's show an element a second time.
  const int64_t first = smaller(last.in, larger(last.low, -last.left)),
                end = larger(first, smaller(last.high, last.out - last.left));
  Scratch<int64_t> source(last.out);
  for (int64_t i = 0; i < last.out; ++i) source[i] = last.source(view.border, i);
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(rows, 1 + kPadGrain / last.out, [&](int64_t row_begin, int64_t row_end) {
      Scratch<C> sums(last.out), folded(last.in);
      for_places(shape, outer, row_begin, row_end, [&](int64_t r, const int64_t* at) {
        PadTargets targets[kMaxDims];
        int64_t total = 1;
        for (int d = 0; d < outer; ++d) {
          targets[d] = view.axis[d].targets(view.border, at[d]);
          total *= targets[d].total();
        }
        const C* row = sums.data();
        for (int64_t i = 0; i < total; ++i) {
          const T* from = static_cast<const T*>(dy);
          int64_t rest = i;
          for (int d = outer - 1; d >= 0; --d) {
            from += targets[d].at(rest % targets[d].total()) * stride[d];
            rest /= targets[d].total();
          }
          if constexpr (sizeof(T) == sizeof(C))
            if (total == 1) row = from;
          if (row == sums.data())
            for_vectors<C>(last.out, [&](int64_t j, auto part) {
              Vec<C> v = load_part(from + j, part);
              store_part(sums.data() + j, i ? load_part(sums.data() + j, part) + v : v, part);
            });
        }
        T* to = static_cast<T*>(dx) + r * last.in;
        if (total == 0) {
          memset(to, 0, size_t(last.in) * sizeof(T));
          return;
        }
        C* fold = folded.data();
        if constexpr (sizeof(T) == sizeof(C)) fold = to;
        for (int64_t k = 0; k < first; ++k) fold[k] = 0;
        memcpy(fold + first, row + last.left + first, size_t(end - first) * sizeof(C));
        for (int64_t k = end; k < last.in; ++k) fold[k] = 0;
        for (int64_t i = 0; i < last.left + first; ++i) fold[source[i]] += row[i];
        for (int64_t i = last.left + end; i < last.out; ++i) fold[source[i]] += row[i];
        if constexpr (sizeof(T) != sizeof(C))
          for_vectors<C>(last.in, [&](int64_t k, auto part) { store_part(to + k, load_part(fold + k, part), part); });
      });
    });
  });
}

}  // namespace

const LayoutKernels layout_kernels = {copy, fill, triangle, repeat_index, pad, pad_backward};

}  // namespace gg::GG_ISA
