// The weight gradient of a 3x3 convolution with stride 1 by Winograd's minimal filtering F(3x3, 2x2): 16 products where
// the definition has 36. For each 2x2 tile g of dy and the 4x4 tile d of padded x under it,
//   dw += A^T [ (G g G^T) . (B^T d B) ] A         .: element by element; along one axis, with the halves moved to A,
//   G g = g0, g0 + g1, g0 - g1, g1         B^T d = d0 - d2, d1 + d2, d2 - d1, d3 - d1
//   A^T s = s0 + (s1 + s2)/2, (s1 - s2)/2, (s1 + s2)/2 + s3
// A^T comes last, after the sum over tiles, which for each of the 16 elements is a product of matrices:
//   S[m, c] = sum over tiles of (G g G^T)[m, tile] (B^T d B)[tile, c]
// Lavin and Gray, "Fast algorithms for convolutional neural networks" (2015). An infinity in x or dy becomes a NaN in
// more elements of dw than by the definition: whoever calls this looks at the result.
#pragma once
#include "core/parallel.h"
#include "cpu/gemm.h"
#include "cpu/phases.h"
#include "cpu/scratch.h"
#include "ops/conv/conv.h"

namespace gg::GG_ISA {
namespace {

struct WinogradWeights {
  // Sums of kSide x kSide weights, 16 elements each, stay in the L2 cache beside kTiles columns of both factors.
  static constexpr int64_t kSide = 128, kTiles = 16384, kMostSums = 8;

  int64_t batch, groups, rows, channels;  // of one group
  int64_t in_high, in_wide, out_high, out_wide, pad_high, pad_wide;
  int64_t high, wide;                             // tiles of an image
  int64_t row_parts, channel_parts, sums, block;  // block: rows of tiles that are multiplied at once

  WinogradWeights(const ConvShape& s, int lanes)
      : batch(s.batch),
        groups(s.groups),
        rows(s.out_channels / s.groups),
        channels(s.in_channels / s.groups),
        in_high(s.in[1]),
        in_wide(s.in[2]),
        out_high(s.out[1]),
        out_wide(s.out[2]),
        pad_high(s.pad[1]),
        pad_wide(s.pad[2]),
        high(ceil_div(out_high, 2)),
        wide(ceil_div(out_wide, 2)),
        row_parts(ceil_div(rows, kSide)),
        channel_parts(ceil_div(round_up(channels, lanes), kSide)) {
    const int64_t side = larger(part_rows(), part_channels(lanes));
    block = smaller(larger(1, kTiles / side / wide), batch * high);
    const int64_t blocks = ceil_div(batch * high, block);
    sums = larger(1, smaller(blocks, kMostSums / (groups * row_parts * channel_parts)));
  }
  int64_t part_rows() const { return ceil_div(rows, row_parts); }
  int64_t part_channels(int lanes) const { return round_up(ceil_div(channels, channel_parts), lanes); }

  static bool fits(const ConvShape& s, int lanes) {
    for (int i = 0; i < 3; ++i) {
      if (s.stride[i] != 1 || s.dilation[i] != 1 || s.kernel[i] != (i ? 3 : 1)) return false;
    }
    if (s.in[0] != 1 || s.out[0] != 1) return false;
    const int64_t rows = s.out_channels / s.groups, channels = s.in_channels / s.groups;
    const int64_t tiles = ceil_div(s.out[1], 2) * ceil_div(s.out[2], 2);
    // What the transforms cost is earned by the products that are saved, unless tiles overhang the image.
    return rows >= 24 && 4 * channels >= 3 * round_up(channels, lanes) && channels >= 24 && s.batch * tiles >= 64 &&
           16 * tiles * 3 <= 2 * 9 * s.out[1] * s.out[2];
  }
};

template <class C, int... i> inline Vec<C> odd_lanes(Vec<C> a, Vec<C> b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, (2 * i + 1)...);
}

// Up to 2L elements of a row, the even ones and the odd ones; zero behind the first n.
template <class C, class T> inline void load_pairs(const T* p, int64_t n, Vec<C>& even, Vec<C>& odd) {
  constexpr int L = kLanes<C>;
  constexpr auto lanes = std::make_integer_sequence<int, L>();
  const Vec<C> low = n >= L ? load(p) : n > 0 ? load_n(p, n) : Vec<C>{};
  const Vec<C> high = n >= 2 * L ? load(p + L) : n > L ? load_n(p + L, n - L) : Vec<C>{};
  even = even_lanes<C>(low, high, lanes);
  odd = odd_lanes<C>(low, high, lanes);
}

// Row `line` of G g G^T for one row of tiles of one channel of dy: to[h * pitch + tile] for h = 0..3. Whole vectors are
// stored: what goes beyond the row is overwritten by the next, or lies in the space behind the last.
template <class T, class C>
void transform_gradient(const T* dy, int64_t columns, bool second, int line, C* to, int64_t pitch) {
  constexpr int L = kLanes<C>;
  const T* next = dy + columns;
  for (int64_t j = 0; j < columns; j += 2 * L, to += L) {
    Vec<C> even = {}, odd = {}, e = {}, o = {};
    if (line < 3) load_pairs<C>(dy + j, columns - j, even, odd);
    if (line > 0 && second) load_pairs<C>(next + j, columns - j, e, o);
    even = line == 2 ? even - e : even + e;
    odd = line == 2 ? odd - o : odd + o;
    store(to, even);
    store(to + pitch, even + odd);
    store(to + 2 * pitch, even - odd);
    store(to + 3 * pitch, odd);
  }
}

// Row `line` of B^T d B for a row of tiles and one vector of channels: x[row * x_row + column * width] are padded rows,
// to[h * pitch + tile * width].
template <class C>
void transform_image(const C* x, int64_t x_row, int64_t width, int64_t tiles, int line, C* to, int64_t pitch) {
  constexpr int kOther[4] = {2, 2, 1, 1};
  const C *a = x + line * x_row, *b = x + kOther[line] * x_row;
  auto column = [&](int64_t j) {
    const Vec<C> u = load(a + j * width), v = load(b + j * width);
    return line == 1 ? u + v : u - v;
  };
  Vec<C> d0 = column(0), d1 = column(1);
  for (int64_t j = 0; j < tiles; ++j, to += width) {
    const Vec<C> d2 = column(2 * j + 2), d3 = column(2 * j + 3);
    store(to, d0 - d2);
    store(to + pitch, d1 + d2);
    store(to + 2 * pitch, d2 - d1);
    store(to + 3 * pitch, d3 - d1);
    d0 = d2;
    d1 = d3;
  }
}

// Padded row h of the channels at x, side by side: to[column * width + channel].
template <class T, class C>
void lay_row(const WinogradWeights& w, const T* x, int64_t h, int64_t channels, int64_t width, C* to) {
  const int64_t columns = 2 * w.wide + 2, row = h - w.pad_high;
  const int64_t begin = row >= 0 && row < w.in_high ? smaller(w.pad_wide, columns) : columns;
  const int64_t end = smaller(begin + w.in_wide, columns);
  fill(to, C(0), begin * width);
  if (begin < end)
    pack_panel<C>(Matrix<const T>{x + row * w.in_wide, 1, w.in_high * w.in_wide}, end - begin, channels, width,
                  to + begin * width);
  fill(to + end * width, C(0), (columns - end) * width);
}

// dw = A^T S A for one row of weights: sums[element * pitch + c], dw[c][3][3].
template <class C> void transform_weights(const C* sums, int64_t pitch, int64_t channels, C* dw) {
  constexpr int L = kLanes<C>;
  auto combine = [](const Vec<C>* s, Vec<C>* o, int step, int o_step) {
    const Vec<C> sum = (s[step] + s[2 * step]) * C(0.5);
    o[0] = s[0] + sum;
    o[o_step] = (s[step] - s[2 * step]) * C(0.5);
    o[2 * o_step] = sum + s[3 * step];
  };
  for (int64_t c = 0; c < channels; c += L, sums += L, dw += 9 * L) {
    Vec<C> s[16], t[12], o[9];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) s[i] = load(sums + i * pitch);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) combine(s + i, t + i, 4, 4);
#pragma GCC unroll 4
    for (int i = 0; i < 3; ++i) combine(t + 4 * i, o + 3 * i, 1, 1);
    const int64_t n = smaller(L, channels - c);
#pragma GCC unroll 4
    for (int first = 0; first < 9; first += L) {
      Vec<C> x[L] = {};
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i)
        if (first + i < 9) x[i] = o[first + i];
      transpose_square<C>(x);
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i)
        if (i < n) store_n(dw + 9 * i + first, x[i], smaller(L, 9 - first));
    }
  }
}

// partial[sum][rows of all groups][channels][3][3]
template <class T> void winograd_weights(const WinogradWeights& w, const T* x, const T* dy, compute_t<T>* partial) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  const int64_t x_channel = w.in_high * w.in_wide, y_channel = w.out_high * w.out_wide;
  const int64_t part_rows = w.part_rows(), part_channels = w.part_channels(L);
  const int64_t tiles = w.block * w.wide, pitch = round_up(tiles, L) + L;  // of dy's rows
  const int64_t columns = 2 * w.wide + 2;
  const int64_t strips = w.batch * w.high;  // rows of tiles
  const int64_t most_lines = 2 * w.block + 2 * (w.block / w.high + 2);
  auto each_panel = [](int64_t channels, auto&& f) {
    for (int64_t j = 0, width; j < channels; j += width) {
      width = panel_vectors<C>(channels - j) * L;
      f(j, width);
    }
  };
  parallel_for(w.sums * w.groups * w.row_parts * w.channel_parts, 1, [&](int64_t begin, int64_t end) {
    Scratch<C> sums(16 * part_rows * part_channels), image(most_lines * columns * part_channels);
    Scratch<C> left(4 * part_rows * pitch), right(4 * tiles * part_channels);
    Scratch<int64_t> line_of(w.block);  // the first of the four padded rows under each strip
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row_part = task % w.row_parts, channel_part = task / w.row_parts % w.channel_parts;
      const int64_t group = task / w.row_parts / w.channel_parts % w.groups;
      const int64_t sum = task / w.row_parts / w.channel_parts / w.groups;
      const int64_t m0 = w.rows * row_part / w.row_parts, rows = w.rows * (row_part + 1) / w.row_parts - m0;
      const int64_t c0 = channel_part * part_channels, channels = smaller(part_channels, w.channels - c0);
      const int64_t padded = round_up(channels, L);
      bool fresh = true;
      const int64_t stop = strips * (sum + 1) / w.sums;
      for (int64_t s0 = strips * sum / w.sums; s0 < stop; s0 += w.block, fresh = false) {
        const int64_t s1 = smaller(stop, s0 + w.block), depth = (s1 - s0) * w.wide;
        int64_t lines = 0;
        for (int64_t s = s0; s < s1; ++s) {
          const int64_t n = s / w.high, i = s % w.high;
          const bool shares = s > s0 && i > 0;
          line_of[s - s0] = shares ? lines - 2 : lines;
          const T* from = x + ((n * w.groups + group) * w.channels + c0) * x_channel;
          for (int64_t r = shares ? 2 : 0; r < 4; ++r, ++lines)
            each_panel(padded, [&](int64_t j, int64_t width) {
              lay_row(w, from + j * x_channel, 2 * i + r, smaller(width, channels - j), width,
                      image.data() + most_lines * columns * j + lines * columns * width);
            });
        }
        for (int line = 0; line < 4; ++line) {
          for (int64_t m = 0; m < rows; ++m)
            for (int64_t s = s0; s < s1; ++s) {
              const int64_t n = s / w.high, i = s % w.high;
              const T* from = dy + ((n * w.groups + group) * w.rows + m0 + m) * y_channel + 2 * i * w.out_wide;
              transform_gradient(from, w.out_wide, 2 * i + 1 < w.out_high, line,
                                 left.data() + m * pitch + (s - s0) * w.wide, part_rows * pitch);
            }
          each_panel(padded, [&](int64_t j, int64_t width) {
            for (int64_t s = 0; s < s1 - s0; ++s)
              for (int64_t v = 0; v < width; v += L)
                transform_image(image.data() + most_lines * columns * j + line_of[s] * columns * width + v,
                                columns * width, width, w.wide, line, right.data() + j * depth + s * w.wide * width + v,
                                tiles * part_channels);
          });
          Epilogue<C, C> e;
          e.accumulate = !fresh;
          for (int64_t h = 0; h < 4; ++h)
            multiply_block<C>(rows, padded, depth, Matrix<const C>{left.data() + h * part_rows * pitch, pitch, 1},
                              Matrix<const C>{right.data() + h * tiles * part_channels, 0, 1}, true, e,
                              Matrix<C>{sums.data() + (line * 4 + h) * part_rows * part_channels, part_channels, 1});
        }
      }
      C* to = partial + ((sum * w.groups + group) * w.rows + m0) * w.channels * 9 + c0 * 9;
      for (int64_t m = 0; m < rows; ++m)
        transform_weights(sums.data() + m * part_channels, part_rows * part_channels, channels,
                          to + m * w.channels * 9);
    }
  });
}

}  // namespace
}  // namespace gg::GG_ISA
