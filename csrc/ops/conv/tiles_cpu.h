// Convolution of float32 on the matrix unit (cpu/tiles.h), forward and data gradient:
//   y[m, q] = sum_k A[m, k] B[q + offset(k)]   m: output channel, q: position, k: (channel, tap)
// Each number of x is split once: words pair channel c of 32 with channel c + 16, and lie in phase lines
// (cpu/phases.h). Blocks of 32 of the depth are 32 channels under one tap, so that a tile of B is read where it lies,
// 16 lines at the tap's shift, and nothing is copied for a tap.
#pragma once
#include "core/parallel.h"
#include "cpu/scratch.h"
#include "cpu/tiles.h"
#include "ops/conv/problem_cpu.h"

namespace gg::GG_ISA {
namespace {

#if defined(GG_TILES)

// Tiles of words that lie in lines of positions, `bytes` from one row of a tile to the next.
struct ShiftedTiles {
  const uint32_t* lines;
  const int64_t* offset;  // of the blocks of the depth
  int64_t part, bytes;
  const uint32_t* at(int64_t i, int64_t p) const { return lines + offset[p] + i * kSide; }
};

class TiledConv {
 public:
  static bool fits(const Problem& p) {
    const Windows w(p.axis);
    const double outputs = double(p.axis[0].out * p.axis[1].out * p.axis[2].out);
    const double used = double(p.channels) / double(round_up(p.channels, kDeep)) * double(p.rows) /
                        double(round_up(p.rows, kDeep)) * outputs / double(w.image);
    return has_tiles() && used >= kLeastUsed && p.rows * p.taps() >= kLeastReuse * w.slots &&
           double(p.batch) * outputs >= kLeastPixels;
  }

  explicit TiledConv(const Problem& p)
      : p_(p),
        windows_(p.axis),
        taps_(p.taps()),
        channel_blocks_(ceil_div(p.channels, kDeep)),
        depth_(channel_blocks_ * taps_),
        row_units_(ceil_div(p.rows, kDeep)),
        flops_(2.0 * double(p.batch * p.axis[0].out * p.axis[1].out * p.axis[2].out) * double(p.groups * p.rows) *
               double(p.channels * taps_)),
        blocks_(windows_, p.batch, 4 * kDeep,
                larger(4 * kDeep, kTileCache / (channel_blocks_ * kDeep * windows_.slots * kSplitBytes)),
                larger(1, ceil_div(smaller(32, int64_t(flops_ / double(kTaskFlops))), p.groups))),
        full_(windows_.part(blocks_.at, 0, blocks_.lines)),
        line_(full_.line(blocks_.images, kDeep)) {}

  // False where an operand is not finite: y must then be computed in another way.
  bool multiply(const float* x, const float* w, const float* bias, float* y) const {
    const Scratch<uint32_t> a(p_.groups * row_units_ * unit_words());
    if (!split_weights(w, a.data())) return false;
    const Scratch<int64_t> offset(depth_);
    p_.each_tap([&](int64_t i, int64_t, int64_t t0, int64_t t1, int64_t t2) {
      for (int64_t c = 0; c < channel_blocks_; ++c)
        offset[c * taps_ + i] = c * block_words() + full_.offset(t0, t1, t2, line_);
    });
    const int64_t parts = blocks_.parts(windows_), tasks = blocks_.count * p_.groups;
    const Scratch<bool> finite(tasks);
    parallel_for(tasks, larger(1, int64_t(double(tasks * kTaskFlops) / flops_)), [&](int64_t begin, int64_t end) {
      const TileRegisters registers;
      const Scratch<uint32_t> lines(channel_blocks_ * block_words());
      const Scratch<float> channels(2 * pair_words());
      const Scratch<Run> runs(max_runs(full_, blocks_.images, kDeep));
      const Scratch<int64_t> first(max_tiles(full_, blocks_.images, kDeep) + 1);
      alignas(64) float sums[kDeep * kDeep];
      for (int64_t task = begin; task < end; ++task) {
        const int64_t group = task % p_.groups, block = task / p_.groups;
        const int64_t n0 = block / parts * blocks_.images, n = smaller(blocks_.images, p_.batch - n0);
        const int64_t from = block % parts * blocks_.lines;
        const Windows here =
            windows_.part(blocks_.at, from, smaller(from + blocks_.lines, windows_.axis[blocks_.at].out));
        finite[task] = split_lines(here, n, x + n0 * p_.x_image + group * p_.channels * p_.x_channel, channels.data(),
                                   lines.data());
        if (!finite[task]) continue;
        const int64_t tiles = cut_runs(here, p_.map, n, kDeep, false, runs.data(), first.data());
        float* const out = y + n0 * p_.map.image + p_.y_start + from * p_.map.axis[blocks_.at];
        for (int64_t u = 0; u < row_units_; ++u) {
          const int64_t channel = group * p_.rows + u * kDeep;
          for (int64_t t = 0; t < tiles; ++t) {
            if (first[t] == first[t + 1]) continue;
            clear_sums();
            multiply_sums(depth_, left(a.data(), group * row_units_ + u),
                          ShiftedTiles{lines.data() + t * kDeep, offset.data(), kSide * pair_words(),
                                       pair_words() * int64_t(sizeof(uint32_t))});
            store_sums(sums, kDeep);
            store_tile(&runs[first[t]], &runs[first[t + 1]], p_.map.axis[2], sums, smaller(kDeep, p_.rows - u * kDeep),
                       kDeep, bias ? bias + channel : nullptr, out + channel * p_.y_channel, p_.y_channel);
          }
        }
      }
    });
    return all_of(finite, tasks);
  }

 private:
  static constexpr double kLeastUsed = 0.5;       // of the products
  static constexpr double kLeastPixels = 512;     // that pay for splitting the weights
  static constexpr int64_t kLeastReuse = 64;      // of a number of x
  static constexpr int64_t kSplitBytes = 6;       // of h, m and l
  static constexpr int64_t kTileCache = 1 << 20;  // bytes of split lines per task: L2

  // The lines of a pair of channels. An odd number of cache lines keeps the rows of a tile out of the same cache set.
  int64_t pair_words() const { return (windows_.slots * line_ / 16 | 1) * 16; }
  int64_t block_words() const { return 3 * kSide * pair_words(); }
  int64_t unit_words() const { return 2 * depth_ * kSplitWords; }
  SplitTiles<uint32_t> left(uint32_t* a, int64_t unit) const {
    return {a + unit * unit_words(), depth_ * kSplitWords, kSplitWords};
  }

  bool split_weights(const float* w, uint32_t* a) const {
    const int64_t units = p_.groups * row_units_;
    const Scratch<bool> finite(units);
    const Scratch<int64_t> weight(taps_);
    p_.each_tap([&](int64_t i, int64_t at, int64_t, int64_t, int64_t) { weight[i] = at; });
    parallel_for(units, ceil_div(1 << 15, kDeep * kDeep * depth_), [&](int64_t begin, int64_t end) {
      const TileRegisters registers;
      const Scratch<float> rows(kDeep * depth_ * kDeep);
      for (int64_t u = begin; u < end; ++u) {
        const int64_t group = u / row_units_, m0 = u % row_units_ * kDeep, count = smaller(kDeep, p_.rows - m0);
        const float* from = w + group * p_.w_group + m0 * p_.w_row;
        for (int64_t m = 0; m < count; ++m)
          for (int64_t k = 0; k < depth_; ++k) {
            const int64_t c0 = k / taps_ * kDeep, channels = smaller(kDeep, p_.channels - c0);
            float* to = rows.data() + (m * depth_ + k) * kDeep;
            for (int64_t c = 0; c < channels; ++c)
              to[c] = from[m * p_.w_row + (c0 + c) * p_.w_channel + weight[k % taps_]];
            fill(to + channels, 0.0f, kDeep - channels);
          }
        finite[u] = pack_left({rows.data(), depth_ * kDeep, 1}, count, depth_ * kDeep, left(a, u));
      }
    });
    return all_of(finite, units);
  }

  // Whether all numbers of the images' lines are finite.
  bool split_lines(const Windows& here, int64_t n, const float* x, float* channels, uint32_t* lines) const {
    Vec<float> probe{};
    for (int64_t c0 = 0; c0 < channel_blocks_ * kDeep; c0 += kDeep, lines += block_words())
      for (int64_t i = 0; i < kSide; ++i) {
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t c = c0 + i + half * kSide;
          float* to = channels + half * pair_words();
          if (c < p_.channels)
            cut_phases(here, x + c * p_.x_channel, p_.x_image, n, 0.0f, to, line_);
          else
            fill(to, 0.0f, windows_.slots * line_);
        }
        for (int64_t q = 0; q < windows_.slots * line_; q += kSide) {
          const Vec<float> first = load(channels + q), second = load(channels + pair_words() + q);
          probe += first * 0.0f + second * 0.0f;
          store_pairs(lines + i * pair_words() + q, kSide * pair_words(), split(first), split(second));
        }
      }
    return !any(probe != probe);
  }

  const Problem& p_;
  const Windows windows_;
  const int64_t taps_, channel_blocks_, depth_, row_units_;
  const double flops_;
  const Blocks blocks_;
  const Windows full_;  // of one block
  const int64_t line_;
};

#endif

}  // namespace
}  // namespace gg::GG_ISA
