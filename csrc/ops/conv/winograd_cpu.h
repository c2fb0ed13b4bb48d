// Winograd's minimal filtering F(4x4, 3x3) after Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
// (2015): a tile of 4x4 outputs takes 36 products for each pair of channels in place of 144.
//   y = A^T [ sum over channels of (G w G^T) * (B^T d B) ] A      d: the tile's 6x6 inputs, *: entry by entry
// The 36 sums over channels are products of matrices, (tiles x channels)(channels x outputs); lanes are channels, so
// images are transposed on their way in and out.
//
// Interpolation at 0, +-3/4, +-3/2 and infinity: after Barabasz et al., "Error Analysis and Improving the Accuracy of
// Winograd Convolution for Deep Neural Networks" (2020), points near 1 keep the error within twice that of the plain
// sum, where the customary 0, +-1, +-2 make it four times as large. B and A are exact in binary.
//
// An infinity or a NaN would spread over its tile, as would an overflow of a transform. Each of them leaves some output
// not finite; then the caller computes once more, directly.
#pragma once
#include "core/parallel.h"
#include "cpu/gemm.h"
#include "cpu/phases.h"
#include "cpu/scratch.h"
#include "ops/conv/problem_cpu.h"

namespace gg::GG_ISA {
namespace {

constexpr int kTileOut = 4, kTileIn = 6, kPoints = kTileIn * kTileIn;

// One axis of a tile: B^T d, G w and A^T m.
template <class V> [[gnu::always_inline]] inline void transform_input(const V (&d)[6], V (&v)[6]) {
  constexpr float a = 0.75f, b = 1.5f, aa = a * a, bb = b * b;
  const V even_a = d[4] - d[2] * bb, odd_a = (d[3] - d[1] * bb) * a;
  const V even_b = d[4] - d[2] * aa, odd_b = (d[3] - d[1] * aa) * b;
  v[0] = d[4] - d[2] * (aa + bb) + d[0] * (aa * bb);
  v[1] = even_a + odd_a;
  v[2] = even_a - odd_a;
  v[3] = even_b + odd_b;
  v[4] = even_b - odd_b;
  v[5] = d[5] - d[3] * (aa + bb) + d[1] * (aa * bb);
}
template <class C, class V> [[gnu::always_inline]] inline void transform_filter(const V (&g)[3], V (&u)[6]) {
  constexpr C a = 0.75, b = 1.5, aa = a * a, bb = b * b, na = 1 / (2 * aa * (aa - bb)), nb = 1 / (2 * bb * (bb - aa));
  const V even_a = g[0] * na + g[2] * (na * aa), odd_a = g[1] * (na * a);
  const V even_b = g[0] * nb + g[2] * (nb * bb), odd_b = g[1] * (nb * b);
  u[0] = g[0] * (1 / (aa * bb));
  u[1] = even_a + odd_a;
  u[2] = even_a - odd_a;
  u[3] = even_b + odd_b;
  u[4] = even_b - odd_b;
  u[5] = g[2];
}
template <class V> [[gnu::always_inline]] inline void transform_output(const V (&m)[6], V (&y)[4]) {
  constexpr float a = 0.75f, b = 1.5f;
  const V even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  y[0] = m[0] + even_a + even_b;
  y[1] = odd_a * a + odd_b * b;
  y[2] = even_a * (a * a) + even_b * (b * b);
  y[3] = odd_a * (a * a * a) + odd_b * (b * b * b) + m[5];
}

template <class T> struct WinogradPlan {
  using C = compute_t<T>;
  using V = Vec<C>;
  static constexpr int L = kLanes<C>;
  static constexpr int64_t kFewTiles = 128;   // up to which filters are transformed as they are used
  static constexpr int64_t kLeastTiles = 48;  // of a block, to use a transformed filter for
  static constexpr int64_t kBytes = 1 << 20;  // of a block's transforms: they stay in the L2 cache
  static constexpr int64_t kFilterBytes = 1 << 19;

  const Problem& p;
  int64_t height, width;            // of the output
  int64_t tiles_h, tiles_w, tiles;  // of an image; of all
  int64_t channels_up;              // rounded up to whole vectors
  int64_t line;                     // pixels of a row of tiles with its border

  explicit WinogradPlan(const Problem& problem) : p(problem) {
    height = p.axis[1].out;
    width = p.axis[2].out;
    tiles_h = ceil_div(height, kTileOut);
    tiles_w = ceil_div(width, kTileOut);
    tiles = p.batch * tiles_h * tiles_w;
    channels_up = round_up(p.channels, L);
    line = tiles_w * kTileOut + 2;
  }

  // Two axes, kernels of 3x3, steps of one, and enough of everything to pay for the transforms: cycles by pair of
  // channels, counted.
  static bool fits(const Problem& p) {
    const WindowAxis &d = p.axis[0], &h = p.axis[1], &w = p.axis[2];
    if (d.taps != 1 || d.in != 1 || d.out != 1 || d.pad != 0 || p.channels < 16 || p.rows < 16) return false;
    for (const WindowAxis& a : {h, w})
      if (a.taps != 3 || a.stride != 1 || (a.step != 1 && a.step != -1) || a.pad < 0) return false;
    if (p.w_tap[1] != 3 || p.w_tap[2] != 1 || p.map.axis[2] != 1 || p.map.axis[1] != w.out) return false;
    const WinogradPlan plan(p);
    if (w.in + w.pad > plan.line) return false;
    const double cycles = double(plan.tiles) * (1.2 + 14.0 / double(p.rows) + 10.0 / double(p.channels)) + 12;
    return cycles < 0.35 * double(p.batch * h.out * w.out);
  }

  // `images` images from `image` on, tile rows [row, row + rows) of each.
  struct Block {
    int64_t image, images, row, rows;
    int64_t tiles(const WinogradPlan& plan) const { return images * rows * plan.tiles_w; }
  };

  // to[point][tile][channel] for channels [c0, c1); points lie `point` items apart.
  void transform_images(const T* x, const Block& block, int64_t c0, int64_t c1, C* to, int64_t point) const {
    const WindowAxis &ah = p.axis[1], &aw = p.axis[2];
    const int64_t lines = block.rows * kTileOut + 2;
    const int64_t h0 = larger(0, block.row * kTileOut - ah.pad);
    const int64_t h1 = larger(h0, smaller(ah.in, block.row * kTileOut + lines - ah.pad));
    const Scratch<C> pixels(lines * line * L);
    memset(pixels.data(), 0, size_t(lines * line * L) * sizeof(C));
    for (int64_t i = 0; i < block.images; ++i)
      for (int64_t c = c0; c < c1; c += L) {
        const T* from = x + (block.image + i) * p.x_image + c * p.x_channel;
        const int64_t channels = smaller(L, p.channels - c);
        C* out = pixels.data() + ((h0 + ah.pad - block.row * kTileOut) * line + aw.pad) * L;
        for (int64_t at = h0 * aw.in, column = 0; at < h1 * aw.in; at += L) {
          const int64_t n = smaller(L, h1 * aw.in - at);
          V v[L];
#pragma GCC unroll 16
          for (int r = 0; r < L; ++r)
            v[r] = r >= channels ? V{}
                   : n == L      ? load(from + r * p.x_channel + at)
                                 : load_n(from + r * p.x_channel + at, n);
          transpose_square<C>(v);
          for (int r = 0; r < n; ++r, out += L) {
            if (column == aw.in) {
              column = 0;
              out += (line - aw.in) * L;
            }
            store(out, v[r]);
            ++column;
          }
        }
        C* tile = to + i * block.rows * tiles_w * channels_up + c - c0;
        for (int64_t th = 0; th < block.rows; ++th)
          for (int64_t tw = 0; tw < tiles_w; ++tw, tile += channels_up) {
            const C* d = pixels.data() + (th * line + tw) * kTileOut * L;
            V columns[6][6];
            for (int j = 0; j < 6; ++j) {
              V in[6], v[6];
              for (int k = 0; k < 6; ++k) in[k] = load(d + (k * line + j) * L);
              transform_input(in, v);
              for (int k = 0; k < 6; ++k) columns[k][j] = v[k];
            }
            for (int k = 0; k < 6; ++k) {
              V v[6];
              transform_input(columns[k], v);
              for (int j = 0; j < 6; ++j) store(tile + (k * 6 + j) * point, v[j]);
            }
          }
      }
  }

  // to[point][channel][output] for outputs [m0, m0 + wide) of a group and channels [c0, c1); wide is whole vectors.
  void transform_filters(const T* w, int64_t m0, int64_t wide, int64_t c0, int64_t c1, C* to, int64_t point) const {
    const bool turned = p.axis[1].step < 0, mirrored = p.axis[2].step < 0;
    for (int64_t m = 0; m < wide; m += L)
      for (int64_t c = c0; c < c1; ++c) {
        const T* from = w + (m0 + m) * p.w_row + c * p.w_channel;
        const int64_t rows = smaller(L, p.rows - m0 - m);
        V taps[round_up(9, L)];
        for (int t = 0; t < 9; t += L) {
          V v[L];
#pragma GCC unroll 16
          for (int r = 0; r < L; ++r) v[r] = r < rows ? load_n(from + r * p.w_row + t, smaller(L, 9 - t)) : V{};
          transpose_square<C>(v);
          for (int r = 0; r < L; ++r) taps[t + r] = v[r];
        }
        V columns[6][3];
        for (int j = 0; j < 3; ++j) {
          V g[3], u[6];
          for (int k = 0; k < 3; ++k) g[k] = taps[(turned ? 2 - k : k) * 3 + (mirrored ? 2 - j : j)];
          transform_filter<C>(g, u);
          for (int k = 0; k < 6; ++k) columns[k][j] = u[k];
        }
        C* out = to + (c - c0) * wide + m;
        for (int k = 0; k < 6; ++k) {
          V u[6];
          transform_filter<C>(columns[k], u);
          for (int j = 0; j < 6; ++j) store(out + (k * 6 + j) * point, u[j]);
        }
      }
  }

  // Outputs [m0, m0 + wide) of a group from[point][tile][output]; returns zero, or NaN if one is not finite.
  C store_outputs(const Block& block, const C* from, int64_t point, int64_t m0, int64_t wide, const T* bias,
                  T* y) const {
    const int64_t h0 = block.row * kTileOut, lines = smaller(block.rows * kTileOut, height - h0);
    const Scratch<C> pixels(round_up(lines * width, L) * L);
    V zero{};
    for (int64_t i = 0; i < block.images; ++i)
      for (int64_t m = 0; m < smaller(wide, p.rows - m0); m += L) {
        const int64_t rows = smaller(L, p.rows - m0 - m);
        const V b = bias ? load_n(bias + m0 + m, rows) : V{};
        const C* tile = from + i * block.rows * tiles_w * wide + m;
        for (int64_t th = 0; th < block.rows; ++th)
          for (int64_t tw = 0; tw < tiles_w; ++tw, tile += wide) {
            V columns[4][6];
            for (int j = 0; j < 6; ++j) {
              V in[6], v[4];
              for (int k = 0; k < 6; ++k) in[k] = load(tile + (k * 6 + j) * point);
              transform_output(in, v);
              for (int k = 0; k < 4; ++k) columns[k][j] = v[k];
            }
            C* out = pixels.data() + (th * width + tw) * kTileOut * L;
            const int64_t high = smaller(4, lines - th * 4), broad = smaller(4, width - tw * 4);
            for (int k = 0; k < high; ++k, out += width * L) {
              V v[4];
              transform_output(columns[k], v);
              for (int j = 0; j < 4; ++j)
                if (j < broad) {
                  store(out + j * L, v[j] + b);
                  zero += v[j] * 0;
                }
            }
          }
        T* to = y + (block.image + i) * p.map.image + (m0 + m) * p.y_channel + h0 * width;
        for (int64_t at = 0; at < lines * width; at += L) {
          const int64_t n = smaller(L, lines * width - at);
          V v[L];
#pragma GCC unroll 16
          for (int r = 0; r < L; ++r) v[r] = load(pixels.data() + (at + r) * L);
          transpose_square<C>(v);
          if (n == L && rows == L)
#pragma GCC unroll 16
            for (int r = 0; r < L; ++r) store(to + r * p.y_channel + at, v[r]);
          else
#pragma GCC unroll 16
            for (int r = 0; r < L; ++r)
              if (r < rows) store_n(to + r * p.y_channel + at, v[r], n);
        }
      }
    return sum_lanes<C>(zero);
  }

  // Whether all outputs are finite, and so right.
  bool multiply(const T* x, const T* w, const T* bias, T* y) const {
    constexpr int64_t kWideOut = kTileColumns<C>, kLine = 64 / sizeof(C);
    const bool few = tiles <= kFewTiles;
    const int64_t parts_m = ceil_div(p.rows, kWideOut), rows_up = round_up(p.rows, L);
    auto wide_at = [&](int64_t part) { return smaller(kWideOut, rows_up - part * kWideOut); };

    int64_t images = p.batch, rows = tiles_h;
    if (!few) {
      const int64_t wanted = larger(kLeastTiles, kBytes / (kPoints * int64_t(sizeof(C)) * (channels_up + kWideOut)));
      images = larger(1, smaller(p.batch, wanted / (tiles_h * tiles_w)));
      rows = larger(1, smaller(tiles_h, wanted / tiles_w));
      rows = ceil_div(tiles_h, ceil_div(tiles_h, rows));
    }
    const int64_t parts_h = ceil_div(tiles_h, rows), blocks = parts_h * ceil_div(p.batch, images);
    const int64_t most_tiles = images * rows * tiles_w;
    auto block_at = [&](int64_t i) {
      const int64_t image = i / parts_h * images, row = i % parts_h * rows;
      return Block{image, smaller(images, p.batch - image), row, smaller(rows, tiles_h - row)};
    };

    // An odd number of cache lines from point to point keeps them out of the same cache set.
    auto odd_lines = [](int64_t n) { return (ceil_div(n, kLine) | 1) * kLine; };
    const int64_t v_point = odd_lines(most_tiles * channels_up), m_point = odd_lines(most_tiles * kWideOut);
    const int64_t depth =
        few ? smaller(p.channels, larger(32, kFilterBytes / (kPoints * kWideOut * int64_t(sizeof(C))))) : p.channels;
    auto u_point = [&](int64_t wide) { return odd_lines(depth * wide); };
    const int64_t u_part = kPoints * u_point(kWideOut), v_all = kPoints * v_point;

    const Scratch<C> all_u(few ? 0 : p.groups * parts_m * u_part), all_v(few ? p.groups * v_all : 0);
    if (few) {
      const int64_t vectors = channels_up / L;
      parallel_for(p.groups * vectors, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t group = i / vectors, c = i % vectors * L;
          transform_images(x + group * p.channels * p.x_channel, block_at(0), c, c + L,
                           all_v.data() + group * v_all + c, v_point);
        }
      });
    } else {
      constexpr int64_t kChannels = 16;
      const int64_t pieces = ceil_div(p.channels, kChannels);
      parallel_for(p.groups * parts_m * pieces, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t c = i % pieces * kChannels, part = i / pieces % parts_m, group = i / pieces / parts_m;
          const int64_t wide = wide_at(part);
          transform_filters(w + group * p.w_group + p.w_start, part * kWideOut, wide, c,
                            smaller(c + kChannels, p.channels),
                            all_u.data() + (group * parts_m + part) * u_part + c * wide, u_point(wide));
        }
      });
    }

    // A task: a block of tiles with all outputs, or few tiles with one part of the outputs.
    const int64_t tasks = p.groups * (few ? parts_m : blocks);
    const Scratch<C> zero(tasks);
    parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
      const Scratch<C> own_u(few ? u_part : 0), own_v(few ? 0 : v_all), sums(kPoints * m_point);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t group = task % p.groups, i = task / p.groups;
        const Block block = block_at(few ? 0 : i);
        const T* filters = w + group * p.w_group + p.w_start;
        const C* v = few ? all_v.data() + group * v_all : own_v.data();
        if (!few) transform_images(x + group * p.channels * p.x_channel, block, 0, channels_up, own_v.data(), v_point);
        zero[task] = 0;
        for (int64_t part = few ? i : 0; part < (few ? i + 1 : parts_m); ++part) {
          const int64_t wide = wide_at(part), m0 = part * kWideOut;
          Epilogue<C, C> e{};
          for (int64_t c = 0; c < p.channels; c += depth, e.accumulate = true) {
            const int64_t now = smaller(depth, p.channels - c);
            const C* u = few ? own_u.data() : all_u.data() + (group * parts_m + part) * u_part;
            if (few) transform_filters(filters, m0, wide, c, c + now, own_u.data(), u_point(wide));
            for (int k = 0; k < kPoints; ++k)
              multiply_block(block.tiles(*this), wide, now, Matrix<const C>{v + k * v_point + c, channels_up, 1},
                             Matrix<const C>{u + k * u_point(wide), 0, 1}, true, e,
                             Matrix<C>{sums.data() + k * m_point, wide, 1});
          }
          zero[task] += store_outputs(block, sums.data(), m_point, m0, wide, bias ? bias + group * p.rows : nullptr,
                                      y + p.y_start + group * p.rows * p.y_channel);
        }
      }
    });
    C total = 0;
    for (int64_t i = 0; i < tasks; ++i) total += zero[i];
    return total == 0;
  }
};

}  // namespace
}  // namespace gg::GG_ISA
