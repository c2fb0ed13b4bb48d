// Convolution on the CPU as a GEMM over shifted images (cpu/phases.h): row (c, tap) of the right factor is not copied
// but read from the channel's phase line at the tap's offset.
//   forward, data gradient   y[m, q] = sum_k A[m, k] B[q + offset(k)]   m: output channel, q: pixel, k: (channel, tap)
//   weight gradient          dw[m, k] = sum_q dy[m, q] B[q + offset(k)]
// The data gradient is, for each phase of dx, a forward convolution of dy with the taps that reach this phase. Where
// gaps between the rows would waste much work (tiny images), a tile's pixels are packed side by side first. Register
// tiles after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008); shifts in place of
// im2col after Anderson et al., "Low-memory GEMM-based convolution algorithms for deep neural networks" (2017).
// Forward and data gradient of 1x1 kernels are products without shifts, those of 3x3 ones Winograd's (winograd_cpu.h);
// what is left of float32 takes the matrix unit where there is one (tiles_cpu.h).
#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/gemm.h"
#include "cpu/phases.h"
#include "cpu/scratch.h"
#include "cpu/transpose.h"
#include "ops/conv/conv.h"
#include "ops/conv/problem_cpu.h"
#include "ops/conv/tiles_cpu.h"
#include "ops/conv/winograd_cpu.h"
#include "ops/conv/winograd_weight_cpu.h"

namespace gg::GG_ISA {
namespace {

// The register tile: kRows output channels times kWide vectors of pixels, in 32 registers or in 16.
constexpr bool kManyRegisters = GG_VECTOR_BYTES == 64;
constexpr int kRows = kManyRegisters ? 8 : 4;
constexpr int kWide = 3;
constexpr int kWideThin = 6;         // for one or two output channels (depthwise)
constexpr int64_t kPassDepth = 640;  // rows of k per pass: a panel of A stays in the L1 cache
constexpr int64_t kPackFor = 1024;   // pixels that pay for packing the weights

// The left factor: row i of column k lies at data + i*row + k*step.
template <class C> struct Left {
  const C* data;
  int64_t row, step;
};

// c[i][j] (+)= sum_k a[i][k] * b[offset[k]][j] for kR rows and kN vectors; c is dense.
template <class C, int kR, int kN>
void multiply_tile(int64_t depth, Left<C> left, const C* b, const int64_t* offset, C* c, bool first) {
  constexpr int L = kLanes<C>;
  Vec<C> acc[kR][kN];
#pragma GCC unroll 8
  for (int i = 0; i < kR; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kN; ++j) acc[i][j] = first ? Vec<C>{} : load(c + (i * kN + j) * L);
  const C* a = left.data;
  for (int64_t k = 0; k < depth; ++k, a += left.step) {
    const C* row = b + offset[k];
    Vec<C> v[kN];
#pragma GCC unroll 8
    for (int j = 0; j < kN; ++j) v[j] = load(row + j * L);
#pragma GCC unroll 8
    for (int i = 0; i < kR; ++i) {
      const Vec<C> s = splat(a[i * left.row]);
#pragma GCC unroll 8
      for (int j = 0; j < kN; ++j) acc[i][j] += s * v[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kR; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kN; ++j) store(c + (i * kN + j) * L, acc[i][j]);
}

template <class C, int kN, int kR>
void multiply_rows(int64_t rows, int64_t depth, Left<C> a, const C* b, const int64_t* offset, C* c, bool first) {
  if constexpr (kR > 1)
    if (rows < kR) return multiply_rows<C, kN, kR - 1>(rows, depth, a, b, offset, c, first);
  multiply_tile<C, kR, kN>(depth, a, b, offset, c, first);
}

// A tile of `rows` <= kRows rows and `wide` vectors: 1 to kWide, or kWideThin for one or two rows.
template <class C>
void multiply(int64_t rows, int64_t wide, int64_t depth, Left<C> a, const C* b, const int64_t* offset, C* c,
              bool first) {
  switch (wide) {
    case 1: return multiply_rows<C, 1, kRows>(rows, depth, a, b, offset, c, first);
    case 2: return multiply_rows<C, 2, kRows>(rows, depth, a, b, offset, c, first);
    case 3: return multiply_rows<C, 3, kRows>(rows, depth, a, b, offset, c, first);
    default: return multiply_rows<C, kWideThin, 2>(rows, depth, a, b, offset, c, first);
  }
}

// Packs the pixels of a dense tile: panel[k][width] for the rows of B at offset[0..depth).
template <class C>
void pack_tile(const Run* run, const Run* end, const C* b, const int64_t* offset, int64_t depth, int64_t width,
               C* panel) {
  constexpr int L = kLanes<C>;
  for (; run < end; ++run) {
    const int64_t n = run->count;
    const C* from = b + run->q;
    C* to = panel + run->at;
    if (n >= L) {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t i = 0; i < n; i += L) {
          const int64_t at = smaller(i, n - L);
          store(to + k * width + at, load(from + offset[k] + at));
        }
    } else if (n >= 4) {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t i = 0; i < n; i += 4) {
          const int64_t at = smaller(i, n - 4);
          memcpy(to + k * width + at, from + offset[k] + at, 4 * sizeof(C));
        }
    } else {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t i = 0; i < n; ++i) to[k * width + i] = from[offset[k] + i];
    }
  }
}

// Packing costs a few cycles per row of k and run; gaps cost their share of the tile's multiplications.
inline bool worth_packing(const Windows& w, int64_t batch, int64_t rows, int64_t width) {
  const double outputs = double(w.axis[0].out) * w.axis[1].out * w.axis[2].out;
  const double positions = double(batch > 1 ? w.image : w.last + 1);
  const double runs_per_tile = double(width) / smaller(width, w.axis[2].out) + 1;
  const double wasted_cycles = (positions / outputs - 1) * double(rows) * kWide / 2;
  return wasted_cycles > 4 + 2 * runs_per_tile;
}

template <class T> void multiply_shifted(const Problem& p, const T* x, const T* w, const T* bias, T* y) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  const Windows windows(p.axis);
  const int64_t taps = p.taps(), depth = p.channels * taps;
  const bool thin = p.rows <= 2;
  const int64_t width = (thin ? kWideThin : kWide) * L;
  const int64_t row_tiles = ceil_div(p.rows, kRows);
  const int64_t outputs = p.axis[0].out * p.axis[1].out * p.axis[2].out;
  auto row_at = [&](int64_t tile) { return p.rows * tile / row_tiles; };  // tiles differ by one row at most

  // Enough tasks for many cores, each long enough to be worth starting.
  const double flops = 2.0 * double(p.batch) * double(outputs) * double(p.groups) * double(p.rows) * double(depth + 4);
  const int64_t tasks_wanted = larger(1, smaller(32, int64_t(flops / double(kTaskFlops))));
  const int64_t row_bytes = larger(1, p.channels * windows.slots * int64_t(sizeof(C)));
  const Blocks blocks(windows, p.batch, 4 * width, larger(4 * width, kCache / row_bytes),
                      ceil_div(tasks_wanted, p.groups));
  const int64_t row_parts = larger(1, smaller(row_tiles, tasks_wanted / (2 * blocks.count * p.groups)));

  const Windows full = windows.part(blocks.at, 0, blocks.lines);
  const int64_t line = full.line(blocks.images, width);
  const int64_t channel_line = windows.slots * line;
  const bool dense = worth_packing(full, blocks.images, ceil_div(p.rows, row_parts), width);

  // B's offsets, the same for packed panels, and the weights' places; A in panels of its tiles: [group][tile][k][row].
  Scratch<int64_t> offset(3 * depth);
  int64_t *const packed_offset = offset.data() + depth, *const w_offset = packed_offset + depth;
  p.each_tap([&](int64_t i, int64_t weight, int64_t a, int64_t b, int64_t c) {
    const int64_t shift = full.offset(a, b, c, line);
    for (int64_t channel = 0; channel < p.channels; ++channel) {
      offset[channel * taps + i] = channel * channel_line + shift;
      w_offset[channel * taps + i] = channel * p.w_channel + weight;
    }
  });
  for (int64_t k = 0; k < depth; ++k) packed_offset[k] = k * width;
  // With few pixels to use them, weights that lie in the order of k already are read where they are.
  const bool in_place = sizeof(T) == sizeof(C) && p.w_row == depth && p.w_channel == taps && p.w_tap[2] == 1 &&
                        p.batch * outputs < kPackFor;
  Scratch<C> a(in_place ? 1 : p.groups * p.rows * depth);
  constexpr int64_t kChannels = 16;  // packed at a time, so that reads and writes run along few pages
  const int64_t channel_blocks = ceil_div(p.channels, kChannels), packing = channel_blocks * p.groups * row_tiles;
  parallel_for(in_place ? 0 : packing, ceil_div(32768, kRows * kChannels * taps + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t tile = i % row_tiles, group = i / row_tiles % p.groups, block = i / row_tiles / p.groups;
      const int64_t m0 = row_at(tile), rows = row_at(tile + 1) - m0;
      const int64_t k0 = block * kChannels * taps, k1 = smaller(k0 + kChannels * taps, depth);
      const T* from = w + group * p.w_group + m0 * p.w_row;
      C* to = a.data() + (group * p.rows + m0) * depth + k0 * rows;
      for (int64_t k = k0; k < k1; ++k)
        for (int64_t r = 0; r < rows; ++r) *to++ = load1(from + r * p.w_row + w_offset[k]);
    }
  });

  // A block of tiles shares each pass over k; its accumulators stay in the L2 cache.
  const int64_t passes = larger(1, ceil_div(depth, kPassDepth)), pass = ceil_div(depth, passes);
  const int64_t part_rows = kRows * ceil_div(row_tiles, row_parts);
  const int64_t together =
      passes == 1 && !dense ? 1
                            : larger(1, smaller(16, (int64_t(512) << 10) / (part_rows * width * int64_t(sizeof(C)))));
  const int64_t parts = blocks.parts(windows), tasks = blocks.count * p.groups * row_parts;
  const int64_t grain = larger(1, int64_t(double(tasks) * double(kTaskFlops) / (flops + 1)));
  const int64_t most_tiles = max_tiles(full, blocks.images, width);
  parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
    Scratch<C> lines(p.channels * channel_line);
    Scratch<C> acc(together * part_rows * width);
    Scratch<C> panels(dense ? together * pass * width : 1);
    Scratch<Run> runs(max_runs(full, blocks.images, width));
    Scratch<int64_t> first(most_tiles + 1);
    int64_t cut = -1;  // the (block, group) whose phase lines are in the scratch
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row_part = task % row_parts, group = task / row_parts % p.groups,
                    block = task / row_parts / p.groups;
      const int64_t n0 = block / parts * blocks.images, n = smaller(blocks.images, p.batch - n0);
      const int64_t from = block % parts * blocks.lines;
      const Windows here = windows.part(blocks.at, from, smaller(from + blocks.lines, windows.axis[blocks.at].out));
      if (depth > 0 && cut != task / row_parts) {
        cut = task / row_parts;
        const T* image = x + n0 * p.x_image + group * p.channels * p.x_channel;
        for (int64_t c = 0; c < p.channels; ++c)
          cut_phases(here, image + c * p.x_channel, p.x_image, n, C(0), lines.data() + c * channel_line, line);
      }
      const int64_t tiles = cut_runs(here, p.map, n, width, dense, runs.data(), first.data());
      const int64_t tile_begin = row_tiles * row_part / row_parts, tile_end = row_tiles * (row_part + 1) / row_parts;
      T* const out = y + n0 * p.map.image + p.y_start + from * p.map.axis[blocks.at];
      for (int64_t t0 = 0; t0 < tiles; t0 += together) {
        const int64_t t1 = smaller(tiles, t0 + together);
        for (int64_t k0 = 0; k0 < depth || k0 == 0; k0 += pass) {
          const int64_t k = smaller(pass, depth - k0);
          if (dense)
            for (int64_t t = t0; t < t1; ++t)
              pack_tile(&runs[first[t]], &runs[first[t + 1]], lines.data(), &offset[k0], k, width,
                        panels.data() + (t - t0) * pass * width);
          for (int64_t m = tile_begin; m < tile_end; ++m) {
            const int64_t m0 = row_at(m), rows = row_at(m + 1) - m0, channel = group * p.rows + m0;
            Left<C> left = {a.data() + channel * depth + k0 * rows, 1, rows};
            if constexpr (sizeof(T) == sizeof(C))
              if (in_place) left = {w + channel * depth + k0, depth, 1};
            for (int64_t t = t0; t < t1; ++t) {
              const Run *r0 = &runs[first[t]], *r1 = &runs[first[t + 1]];
              if (r0 == r1) continue;
              const int64_t vectors = ceil_div((r1 - 1)->at + (r1 - 1)->count, L);  // a block's last tile is narrower
              const int64_t wide = vectors <= kWide ? vectors : kWideThin;
              C* c = acc.data() + ((m - tile_begin) * together + t - t0) * kRows * width;
              const C* b = dense ? panels.data() + (t - t0) * pass * width : lines.data() + t * width;
              multiply(rows, wide, k, left, b, dense ? packed_offset : &offset[k0], c, k0 == 0);
              if (k0 + pass >= depth)
                store_tile(r0, r1, p.map.axis[2], c, rows, wide * L, bias ? bias + channel : nullptr,
                           out + channel * p.y_channel, p.y_channel);
            }
          }
          if (depth == 0) break;
        }
      }
    }
  });
}

// Kernels of one element without a border: for every image and group y = W x + bias is a product of matrices, read and
// written where they lie. Images too small to fill register tiles are gathered side by side first, as are pixels that
// are not neighbours.
inline bool is_pointwise(const Problem& p) {
  bool yes = p.taps() == 1;
  for (const WindowAxis& a : p.axis)
    yes &= a.pad <= a.coordinate(0) && (a.out - 1) * a.stride + a.coordinate(0) - a.pad < a.in;
  return yes;
}

// f(element of x, number of the first pixel, its places along the two outer axes) for every row of an image's pixels.
template <class F> void each_pixel_row(const Problem& p, const F& f) {
  auto place = [](const WindowAxis& a, int64_t o) { return o * a.stride + a.coordinate(0) - a.pad; };
  const WindowAxis &ad = p.axis[0], &ah = p.axis[1], &aw = p.axis[2];
  for (int64_t d = 0, at = 0; d < ad.out; ++d)
    for (int64_t h = 0; h < ah.out; ++h, at += aw.out)
      f((place(ad, d) * ah.in + place(ah, h)) * aw.in + place(aw, 0), at, d, h);
}

template <class T> void multiply_pointwise(const Problem& p, const T* x, const T* w, const T* bias, T* y) {
  constexpr int64_t kLeastColumns = 128, kMostColumns = 512;  // of a product
  const WindowAxis& aw = p.axis[2];
  const int64_t pixels = p.axis[0].out * p.axis[1].out * aw.out;
  bool dense_in = true, dense_out = true;
  for (int64_t i = 2, step = 1; i >= 0; step *= p.axis[i--].out) {
    dense_in &= p.axis[i].in == p.axis[i].out;
    dense_out &= p.axis[i].out == 1 || p.map.axis[i] == step;
  }
  const int64_t images = pixels >= kLeastColumns ? 1 : smaller(p.batch, larger(1, kMostColumns / pixels));
  const bool gather = !dense_in || images > 1, scatter = !dense_out || images > 1;
  const int64_t columns = images * pixels;
  const int64_t tasks = ceil_div(p.batch, images) * p.groups;
  const bool few = tasks < 4;  // then each product is cut for the threads instead
  const double flops = 2.0 * double(p.rows) * double(p.channels) * double(columns);
  parallel_for(few ? 1 : tasks, larger(1, int64_t(double(kTaskFlops) / flops)), [&](int64_t begin, int64_t end) {
    if (few) end = tasks;
    const Scratch<T> xs(gather ? p.channels * columns : 0), ys(scatter ? p.rows * columns : 0);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t group = task % p.groups, n0 = task / p.groups * images, n = smaller(images, p.batch - n0);
      const T* from = x + n0 * p.x_image + group * p.channels * p.x_channel;
      T* to = y + n0 * p.map.image + p.y_start + group * p.rows * p.y_channel;
      const Matrix<const T> a{w + group * p.w_group + p.w_start, p.w_row, p.w_channel};
      const Matrix<const T> d{bias ? bias + group * p.rows : nullptr, 1, 0};
      Matrix<const T> b{from, p.x_channel, 1};
      Matrix<T> c{to, p.y_channel, 1};
      if (gather) {
        b = {xs.data(), columns, 1};
        for (int64_t k = 0; k < p.channels; ++k)
          for (int64_t i = 0; i < n; ++i)
            each_pixel_row(p, [&](int64_t xi, int64_t at, int64_t, int64_t) {
              const T* row = from + k * p.x_channel + i * p.x_image + xi;
              for (int64_t j = 0; j < aw.out; ++j) xs[k * columns + i * pixels + at + j] = row[j * aw.stride];
            });
      }
      if (scatter) c = {ys.data(), columns, 1};
      gemm<T>(p.rows, n * pixels, p.channels, 1, a, b, bias ? 1 : 0, d, c);
      if (scatter)
        for (int64_t m = 0; m < p.rows; ++m)
          for (int64_t i = 0; i < n; ++i)
            each_pixel_row(p, [&](int64_t, int64_t at, int64_t d, int64_t h) {
              T* row = to + m * p.y_channel + i * p.map.image + d * p.map.axis[0] + h * p.map.axis[1];
              for (int64_t j = 0; j < aw.out; ++j) row[j * p.map.axis[2]] = ys[m * columns + i * pixels + at + j];
            });
    }
  });
}

// The way that fits the shape.
template <class T> void multiply_problem(Problem p, const T* x, const T* w, const T* bias, T* y) {
  p.trim();
  if constexpr (!std::is_same_v<T, int64_t>) {
    if (is_pointwise(p)) return multiply_pointwise(p, x, w, bias, y);
    if (WinogradPlan<T>::fits(p) && WinogradPlan<T>(p).multiply(x, w, bias, y)) return;
  }
#if defined(GG_TILES)
  if constexpr (std::is_same_v<T, float>)
    if (TiledConv::fits(p) && TiledConv(p).multiply(x, w, bias, y)) return;
#endif
  multiply_shifted(p, x, w, bias, y);
}

Problem forward_problem(const ConvShape& s) {
  Problem p;
  p.batch = s.batch;
  p.groups = s.groups;
  p.channels = s.in_channels / s.groups;
  p.rows = s.out_channels / s.groups;
  for (int i = 0; i < 3; ++i) p.axis[i] = {s.in[i], s.out[i], s.stride[i], s.pad[i], s.kernel[i], 0, s.dilation[i]};
  p.x_channel = s.in[0] * s.in[1] * s.in[2];
  p.x_image = s.in_channels * p.x_channel;
  p.w_tap[2] = 1;
  p.w_tap[1] = s.kernel[2];
  p.w_tap[0] = s.kernel[1] * s.kernel[2];
  p.w_channel = s.kernel[0] * p.w_tap[0];
  p.w_row = p.channels * p.w_channel;
  p.w_group = p.rows * p.w_row;
  p.w_start = 0;
  p.y_channel = s.out[0] * s.out[1] * s.out[2];
  p.y_start = 0;
  p.map = {s.out_channels * p.y_channel, {s.out[1] * s.out[2], s.out[2], 1}};
  return p;
}

template <class T> void conv_forward_t(const ConvShape& s, const T* x, const T* w, const T* bias, T* y) {
  multiply_problem(forward_problem(s), x, w, bias, y);
}

template <class F> void dispatch_convolved(DType t, F&& f) {
  if (t == DType::Int64) return f.template operator()<int64_t>();
  dispatch_floating(t, f);
}

void conv_forward(DType t, const ConvShape& s, const void* x, const void* w, const void* bias, void* y) {
  dispatch_convolved(t, [&]<class T>() {
    conv_forward_t(s, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias),
                   static_cast<T*>(y));
  });
}

// dx[i] gathers w[r] dy[o] over all o*stride + r*dilation = i + pad. Write i + pad = u*stride + phase: the taps of a
// phase are those with r*dilation = phase modulo stride, each reads o = u - (r*dilation - phase)/stride, so one phase
// of dx is a convolution of dy with stride 1, its channels and outputs exchanged.
template <class T> void conv_data_grad_t(const ConvShape& s, const T* dy, const T* w, const T* bias, T* dx) {
  const Problem f = forward_problem(s);
  Problem p = f;
  p.channels = f.rows;
  p.rows = f.channels;
  p.x_channel = f.y_channel;
  p.x_image = f.map.image;
  p.w_row = f.w_channel;
  p.w_channel = f.w_row;
  p.y_channel = f.x_channel;
  const int64_t x_axis[3] = {s.in[1] * s.in[2], s.in[2], 1};

  struct Phase {
    WindowAxis axis;
    int64_t first_tap, tap_step, start;  // start: the first dx of this phase
  };
  auto phase_of = [&](int i, int64_t phase) {
    const int64_t stride = s.stride[i], dilation = s.dilation[i], pad = s.pad[i];
    int64_t r0 = 0;
    while (r0 < s.kernel[i] && r0 * dilation % stride != phase) ++r0;
    const int64_t step = stride / divisor(stride, dilation);
    Phase a;
    a.first_tap = r0;
    a.tap_step = step;
    const int64_t taps = r0 < s.kernel[i] ? (s.kernel[i] - 1 - r0) / step + 1 : 0;
    const int64_t u0 = larger(0, ceil_div(pad - phase, stride)), u1 = floor_div(s.in[i] - 1 + pad - phase, stride);
    a.start = u0 * stride + phase - pad;
    const int64_t back = taps ? ((r0 + (taps - 1) * step) * dilation - phase) / stride : 0;  // the farthest tap's
    const int64_t near = taps ? (r0 * dilation - phase) / stride : 0;
    a.axis = {s.out[i], larger(0, u1 - u0 + 1), 1, back - u0, taps, back - near, -step * dilation / stride};
    return a;
  };
  // The phases that dx has: at most as many as elements.
  auto phases = [&](int i) { return smaller(s.stride[i], s.in[i]); };
  auto nth_phase = [&](int i, int64_t n) { return phase_of(i, (s.pad[i] + n) % s.stride[i]); };
  for (int64_t a = 0; a < phases(0); ++a)
    for (int64_t b = 0; b < phases(1); ++b)
      for (int64_t c = 0; c < phases(2); ++c) {
        const Phase phase[3] = {nth_phase(0, a), nth_phase(1, b), nth_phase(2, c)};
        p.map = {f.x_image, {}};
        p.w_start = p.y_start = 0;
        bool empty = false;
        for (int i = 0; i < 3; ++i) {
          p.axis[i] = phase[i].axis;
          empty |= phase[i].axis.out == 0;
          p.w_start += phase[i].first_tap * f.w_tap[i];
          p.w_tap[i] = phase[i].tap_step * f.w_tap[i];
          p.y_start += phase[i].start * x_axis[i];
          p.map.axis[i] = s.stride[i] * x_axis[i];
        }
        if (!empty) multiply_problem(p, dy, w, bias, dx);
      }
}

void conv_data_grad(DType t, const ConvShape& s, const void* dy, const void* w, const void* bias, void* dx) {
  dispatch_convolved(t, [&]<class T>() {
    conv_data_grad_t(s, static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<const T*>(bias),
                     static_cast<T*>(dx));
  });
}

// How the weight gradient is cut into tasks: pixels into blocks, blocks dealt to `sums` partial sums, a number that
// depends on sizes only; partial sums are added in order, so the result is the same for any number of threads.
struct WeightPlan {
  Problem p;
  Windows windows;
  int64_t taps, size;  // size of dw
  double flops;
  int64_t tasks_wanted;
  Blocks blocks;
  int64_t sums, row_parts, parts, tasks;
  Windows full;  // of one block

  WeightPlan(const ConvShape& s, const Problem& trimmed, int item_bytes)
      : p(trimmed),
        windows(p.axis),
        taps(p.taps()),
        size(s.out_channels * p.w_row),
        flops(2.0 * double(p.batch) * double(p.axis[0].out * p.axis[1].out * p.axis[2].out) * double(s.out_channels) *
              double(p.channels * taps + 4)),
        tasks_wanted(larger(1, smaller(32, int64_t(flops / double(kTaskFlops))))),
        blocks(windows, p.batch, 256, larger(256, kCache / ((p.channels * windows.slots + p.rows) * item_bytes)),
               ceil_div(tasks_wanted, p.groups)),
        sums(larger(1, smaller(smaller(blocks.count, ceil_div(tasks_wanted, p.groups)), (4 << 20) / (size + 1)))),
        row_parts(larger(1, smaller(p.rows / (2 * kRows), tasks_wanted / (2 * sums * p.groups)))),
        parts(blocks.parts(windows)),
        tasks(sums * p.groups * row_parts),
        full(windows.part(blocks.at, 0, blocks.lines)) {}

  int64_t grain() const { return larger(1, int64_t(double(tasks) * double(kTaskFlops) / (flops + 1))); }
};

struct WeightTask {
  int64_t group, sum, m0, rows;
  WeightTask(const WeightPlan& w, int64_t task) {
    const int64_t part = task % w.row_parts;
    group = task / w.row_parts % w.p.groups;
    sum = task / w.row_parts / w.p.groups;
    m0 = w.p.rows * part / w.row_parts;
    rows = w.p.rows * (part + 1) / w.row_parts - m0;
  }
  // f(windows, images, first image of x, first row of dy) for every block of the partial sum.
  template <class T, class F> void each_block(const WeightPlan& w, const T* x, const T* dy, const F& f) const {
    const Problem& p = w.p;
    for (int64_t i = w.blocks.count * sum / w.sums; i < w.blocks.count * (sum + 1) / w.sums; ++i) {
      const int64_t n0 = i / w.parts * w.blocks.images, from = i % w.parts * w.blocks.lines;
      const int64_t to = smaller(from + w.blocks.lines, w.windows.axis[w.blocks.at].out);
      f(w.windows.part(w.blocks.at, from, to), smaller(w.blocks.images, p.batch - n0),
        x + n0 * p.x_image + group * p.channels * p.x_channel,
        dy + n0 * p.map.image + from * p.map.axis[w.blocks.at] + (group * p.rows + m0) * p.y_channel);
    }
  }
};

// y[j * y_pitch + r] = x[r * x_row + j * step] for `rows` <= lanes; zero in the other lanes.
template <class T, class C>
void transpose_rows(const T* x, int64_t x_row, int64_t rows, int64_t step, int64_t n, C* y, int64_t y_pitch) {
  constexpr int L = kLanes<C>;
  for (int64_t j = 0; j < n; j += L, x += L * step, y += L * y_pitch) {
    const int64_t m = smaller(L, n - j);
    Vec<C> v[L];
    for (int r = 0; r < L; ++r) {
      C row[L] = {};
      if (r < rows && (step != 1 || m < L)) copy_strided(x + r * x_row, step, row, m);
      v[r] = r < rows && step == 1 && m == L ? load(x + r * x_row) : load(row);
    }
    transpose_square<C>(v);
    if (m == L)
      for (int i = 0; i < L; ++i) store(y + i * y_pitch, v[i]);
    else
      for (int64_t i = 0; i < m; ++i) store(y + i * y_pitch, v[i]);
  }
}

// Many channels: x and dy are laid out pixel by pixel, channels side by side, so that for one tap
//   dw[m, c] += sum over pixels of dy[pixel][m] * x[pixel + offset(tap)][c]
// is the product of the forward pass, with pixels in the place of k; its offsets leave the gaps out.
template <class T> void weight_grad_by_channels(const WeightPlan& w, const T* x, const T* dy, compute_t<T>* partial) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  constexpr int64_t kPixels = 256;  // per pass: a tile's rows of dy and x stay in the L1 and L2 caches
  const Problem& p = w.p;
  auto pitch_of = [](int64_t n) { return (round_up(n, 16) / 16 | 1) * 16; };  // an odd number of cache lines
  const int64_t line = w.full.line(w.blocks.images, 1), vectors = ceil_div(p.channels, L);
  const int64_t wide_tiles = ceil_div(vectors, kWide), x_pitch = ceil_div(vectors, wide_tiles) * L;
  const int64_t x_tile = w.full.slots * line * x_pitch;  // x has a part of its own for each tile of channels
  auto wide_at = [&](int64_t tile) { return vectors * tile / wide_tiles; };
  const int64_t y_pitch = pitch_of(ceil_div(p.rows, w.row_parts)),
                most_tiles = max_tiles(w.full, w.blocks.images, kPixels);
  Scratch<int64_t> tap_offset(2 * w.taps);
  int64_t* const tap_weight = tap_offset.data() + w.taps;
  p.each_tap([&](int64_t i, int64_t weight, int64_t a, int64_t b, int64_t c) {
    tap_offset[i] = w.full.offset(a, b, c, line) * x_pitch;
    tap_weight[i] = weight;
  });
  parallel_for(w.tasks, w.grain(), [&](int64_t begin, int64_t end) {
    Scratch<C> xs(wide_tiles * x_tile), ys(most_tiles * kPixels * y_pitch);
    Scratch<C> acc(ceil_div(p.rows, w.row_parts) * w.taps * vectors * L);
    Scratch<Run> runs(max_runs(w.full, w.blocks.images, kPixels));
    Scratch<int64_t> first(most_tiles + 1), offset(kPixels);
    for (int64_t i = begin; i < end; ++i) {
      const WeightTask task(w, i);
      const int64_t row_tiles = ceil_div(task.rows, kRows);
      bool fresh = true;
      task.each_block(w, x, dy, [&](const Windows& here, int64_t n, const T* image, const T* grad) {
        memset(xs.data(), 0, size_t(wide_tiles * x_tile) * sizeof(C));
        for (int64_t j = 0; j < wide_tiles; ++j)
          for (int64_t v = wide_at(j); v < wide_at(j + 1); ++v) {
            const T* channels = image + v * L * p.x_channel;
            C* const tile = xs.data() + j * x_tile + (v - wide_at(j)) * L;
            each_phase_row(here, p.x_image, n, [&](int64_t from, int64_t to, int64_t count, int64_t slot) {
              transpose_rows(channels + from, p.x_channel, smaller(L, p.channels - v * L), here.axis[2].stride, count,
                             tile + (slot * line + to) * x_pitch, x_pitch);
            });
          }
        const int64_t tiles = cut_runs(here, p.map, n, kPixels, true, runs.data(), first.data());
        for (int64_t t = 0; t < tiles; ++t)
          for (const Run* r = &runs[first[t]]; r < &runs[first[t + 1]];) {
            const Run* next = r + 1;
            int64_t count = r->count;
            for (; next < &runs[first[t + 1]] && next->y == r->y + count; ++next) count += next->count;
            for (int64_t m = 0; m < task.rows; m += L)
              transpose_rows(grad + m * p.y_channel + r->y, p.y_channel, smaller(L, task.rows - m), 1, count,
                             ys.data() + (t * kPixels + r->at) * y_pitch + m, y_pitch);
            r = next;
          }
        for (int64_t t = 0; t < tiles; ++t, fresh = false) {
          int64_t pixels = 0;
          for (const Run* r = &runs[first[t]]; r < &runs[first[t + 1]]; ++r)
            for (int64_t j = 0; j < r->count; ++j) offset[pixels++] = (r->q + j) * x_pitch;
          for (int64_t j = 0; j < wide_tiles; ++j) {
            const int64_t v = wide_at(j), wide = wide_at(j + 1) - v;
            for (int64_t tap = 0; tap < w.taps; ++tap)
              for (int64_t k = 0; k < row_tiles; ++k) {
                const int64_t m = task.rows * k / row_tiles, rows = task.rows * (k + 1) / row_tiles - m;
                multiply<C>(rows, wide, pixels, {ys.data() + t * kPixels * y_pitch + m, 1, y_pitch},
                            xs.data() + j * x_tile + tap_offset[tap], offset.data(),
                            acc.data() + ((tap * vectors + v) * task.rows + m * wide) * L, fresh);
              }
          }
        }
      });
      C* const out = partial + task.sum * w.size + (task.group * p.rows + task.m0) * p.w_row;
      fill(out, C(0), task.rows * p.w_row);
      for (int64_t j = 0; j < wide_tiles; ++j) {
        const int64_t v = wide_at(j), wide = wide_at(j + 1) - v;
        for (int64_t m = 0; m < task.rows; ++m)
          for (int64_t c = v * L; c < smaller((v + wide) * L, p.channels); ++c)
            for (int64_t tap = 0; tap < w.taps; ++tap)
              out[m * p.w_row + c * p.w_channel + tap_weight[tap]] =
                  acc[((tap * vectors + v) * task.rows + m * wide) * L + c - v * L];
      }
    }
  });
}

// Few channels: dot products along the pixels. A register tile is kDotRows rows of dy times kDotTaps rows of B (a
// channel at a tap's offset), one vector of partial sums each.
constexpr int kDotRows = kManyRegisters ? 4 : 2;
constexpr int kDotTaps = kManyRegisters ? 6 : 5;
constexpr int64_t kDotLength = 1024;  // pixels per tile: its rows of dy stay in the L1 cache

// sum[i][j] += sum_q a[i*a_line + q] * b[offset[j] + q]
template <class C, int kM, int kT>
void dot_tile(int64_t n, const C* a, int64_t a_line, const C* b, const int64_t* offset, C* sum, int64_t sum_line,
              const int64_t* sum_at) {
  constexpr int L = kLanes<C>;
  Vec<C> acc[kM][kT] = {};
  const C* row[kT];
#pragma GCC unroll 8
  for (int j = 0; j < kT; ++j) row[j] = b + offset[j];
  for (int64_t q = 0; q < n; q += L) {
    Vec<C> v[kT];
#pragma GCC unroll 8
    for (int j = 0; j < kT; ++j) v[j] = load(row[j] + q);
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
      const Vec<C> s = load(a + i * a_line + q);
#pragma GCC unroll 8
      for (int j = 0; j < kT; ++j) acc[i][j] += s * v[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kT; j += L) {
      Vec<C> group[L] = {};
#pragma GCC unroll 8
      for (int k = 0; k < L && k < kT; ++k)
        if (j + k < kT) group[k] = acc[i][j + k];
      const Vec<C> total = sum_each<C>(group);
      for (int k = 0; k < L && j + k < kT; ++k) sum[i * sum_line + sum_at[j + k]] += total[k];
    }
  }
}

template <class C, int kM, int kT>
void dot_taps(int64_t taps, int64_t n, const C* a, int64_t a_line, const C* b, const int64_t* offset, C* sum,
              int64_t sum_line, const int64_t* sum_at) {
  if constexpr (kT > 1)
    if (taps < kT) return dot_taps<C, kM, kT - 1>(taps, n, a, a_line, b, offset, sum, sum_line, sum_at);
  dot_tile<C, kM, kT>(n, a, a_line, b, offset, sum, sum_line, sum_at);
}

template <class C, int kM>
void dot(int64_t rows, int64_t taps, int64_t n, const C* a, int64_t a_line, const C* b, const int64_t* offset, C* sum,
         int64_t sum_line, const int64_t* sum_at) {
  if constexpr (kM > 1)
    if (rows < kM) return dot<C, kM - 1>(rows, taps, n, a, a_line, b, offset, sum, sum_line, sum_at);
  dot_taps<C, kM, kDotTaps>(taps, n, a, a_line, b, offset, sum, sum_line, sum_at);
}

// Scatters one channel of dy into the tiles' columns, zero in the gaps: a sparse line, or a dense one.
template <class T, class C>
void lay_out(const Run* runs, const int64_t* first, int64_t tiles, int64_t width, const T* dy, C* out) {
  C* end = out;
  for (int64_t t = 0; t < tiles; ++t)
    for (const Run* r = runs + first[t]; r < runs + first[t + 1]; ++r) {
      C* to = out + t * width + r->at;
      fill(end, C(0), to - end);
      copy_strided(dy + r->y, 1, to, r->count);
      end = to + r->count;
    }
  fill(end, C(0), out + tiles * width - end);
}

template <class T> bool all_finite(const T* x, int64_t n) {
  using C = compute_t<T>;
  C zero = 0;
  for (int64_t i = 0; i < n; ++i) zero += load1(x + i) * 0;
  return zero == 0;
}

template <class T> void weight_grad_by_pixels(const WeightPlan& w, const T* x, const T* dy, compute_t<T>* partial) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  const Problem& p = w.p;
  const int64_t depth = p.channels * w.taps, tap_tiles = ceil_div(depth, kDotTaps), width = kDotLength;
  const int64_t line = w.full.line(w.blocks.images, width), channel_line = w.full.slots * line;
  const bool dense = worth_packing(w.full, w.blocks.images, p.rows / w.row_parts, kWide * L);
  const int64_t most_tiles = max_tiles(w.full, w.blocks.images, width), a_line = most_tiles * width + 16;
  Scratch<int64_t> offset(2 * depth + kDotTaps);
  int64_t *const sum_at = offset.data() + depth, *const packed_offset = sum_at + depth;
  p.each_tap([&](int64_t i, int64_t weight, int64_t a, int64_t b, int64_t c) {
    for (int64_t channel = 0; channel < p.channels; ++channel) {
      offset[channel * w.taps + i] = channel * channel_line + w.full.offset(a, b, c, line);
      sum_at[channel * w.taps + i] = channel * p.w_channel + weight;
    }
  });
  for (int j = 0; j < kDotTaps; ++j) packed_offset[j] = j * width;
  parallel_for(w.tasks, w.grain(), [&](int64_t begin, int64_t end) {
    Scratch<C> lines(p.channels * channel_line), a(ceil_div(p.rows, w.row_parts) * a_line), panel(kDotTaps * width);
    Scratch<Run> runs(max_runs(w.full, w.blocks.images, width));
    Scratch<int64_t> first(most_tiles + 1);
    for (int64_t i = begin; i < end; ++i) {
      const WeightTask task(w, i);
      const int64_t row_tiles = ceil_div(task.rows, kDotRows);
      C* const out = partial + task.sum * w.size + (task.group * p.rows + task.m0) * p.w_row;
      for (bool packed = dense;; packed = true) {
        fill(out, C(0), task.rows * p.w_row);
        task.each_block(w, x, dy, [&](const Windows& here, int64_t n, const T* image, const T* grad) {
          const int64_t tiles = cut_runs(here, p.map, n, width, packed, runs.data(), first.data());
          for (int64_t c = 0; c < p.channels; ++c)
            cut_phases(here, image + c * p.x_channel, p.x_image, n, C(0), lines.data() + c * channel_line, line);
          for (int64_t m = 0; m < task.rows; ++m)
            lay_out(runs.data(), first.data(), tiles, width, grad + m * p.y_channel, a.data() + m * a_line);
          for (int64_t t = 0; t < tiles; ++t) {
            const Run *r0 = &runs[first[t]], *r1 = &runs[first[t + 1]];
            if (r0 == r1) continue;
            const int64_t length = round_up((r1 - 1)->at + (r1 - 1)->count, L);
            for (int64_t j = 0; j < tap_tiles; ++j) {
              const int64_t k0 = depth * j / tap_tiles, k = depth * (j + 1) / tap_tiles - k0;
              if (packed) {
                for (int64_t r = 0; r < k; ++r) fill(panel.data() + r * width + length - L, C(0), L);
                pack_tile(r0, r1, lines.data(), &offset[k0], k, width, panel.data());
              }
              const C* b = packed ? panel.data() : lines.data() + t * width;
              const int64_t* at = packed ? packed_offset : &offset[k0];
              for (int64_t r = 0; r < row_tiles; ++r) {
                const int64_t m = task.rows * r / row_tiles, rows = task.rows * (r + 1) / row_tiles - m;
                dot<C, kDotRows>(rows, k, length, a.data() + m * a_line + t * width, a_line, b, at, out + m * p.w_row,
                                 p.w_row, sum_at + k0);
              }
            }
          }
        });
        // A zero in the gaps times an infinity of x is a NaN that does not belong in the sum: then once more, packed.
        if (packed || all_finite(out, task.rows * p.w_row)) break;
      }
    }
  });
}

// Kernels of one element: dw = sum over images of dy[n] x[n]^T, the transpose packed by the product. Small images are
// laid side by side first, and so is what a stride leaves of x; `sums` ranges of images make partial sums.
struct PointwiseWeights {
  static constexpr int64_t kLeastDepth = 128, kDepthWanted = 512, kMostSums = 8;

  const Problem& p;
  int64_t pixels, size, together, sums;  // together: images in one product
  bool strided;

  explicit PointwiseWeights(const Problem& p)
      : p(p), pixels(p.axis[0].out * p.axis[1].out * p.axis[2].out), size(p.groups * p.rows * p.channels) {
    strided = p.x_channel != pixels;
    together = pixels >= kLeastDepth && !strided ? 1 : larger(1, smaller(p.batch, ceil_div(kDepthWanted, pixels)));
    const double flops = 2.0 * double(p.batch) * double(pixels) * double(size);
    sums = smaller(smaller(ceil_div(p.batch, together), kMostSums / p.groups),
                   smaller(int64_t(flops / double(kTaskFlops)), (4 << 20) / size));
    sums = larger(1, sums);
  }
  static bool fits(const Problem& p) {
    return is_pointwise(p) && p.w_channel == 1 && p.rows >= 8 && p.channels >= 8 && p.batch > 0;
  }

  template <class T> void multiply(const T* x, const T* dy, compute_t<T>* partial) const {
    const int64_t tasks = sums * p.groups;
    if (tasks == 1) return sum_images(x, dy, partial, 0);  // the product is cut into pieces instead
    parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) sum_images(x, dy, partial, task);
    });
  }

 private:
  template <class T> void sum_images(const T* x, const T* dy, compute_t<T>* partial, int64_t task) const {
    using C = compute_t<T>;
    const int64_t group = task % p.groups, sum = task / p.groups, stop = p.batch * (sum + 1) / sums;
    const int64_t columns = together * pixels;
    const bool gather_x = together > 1 || strided, gather_y = together > 1;
    Scratch<T> xs(gather_x ? p.channels * columns : 1), ys(gather_y ? p.rows * columns : 1);
    Epilogue<C, C> e;
    for (int64_t n0 = p.batch * sum / sums; n0 < stop; n0 += together, e.accumulate = true) {
      const int64_t n = smaller(together, stop - n0);
      const T* from = x + n0 * p.x_image + group * p.channels * p.x_channel;
      const T* grad = dy + n0 * p.map.image + group * p.rows * p.y_channel;
      Matrix<const T> a{grad, p.y_channel, 1}, b{from, 1, p.x_channel};
      if (gather_y) {
        a = {ys.data(), columns, 1};
        parallel_for(p.rows, ceil_div(kTaskFlops / 64, n * pixels), [&](int64_t begin, int64_t end) {
          for (int64_t m = begin; m < end; ++m)
            for (int64_t i = 0; i < n; ++i)
              memcpy(ys.data() + m * columns + i * pixels, grad + i * p.map.image + m * p.y_channel,
                     size_t(pixels) * sizeof(T));
        });
      }
      if (gather_x) {
        b = {xs.data(), 1, columns};
        parallel_for(p.channels, ceil_div(kTaskFlops / 64, n * pixels), [&](int64_t begin, int64_t end) {
          for (int64_t c = begin; c < end; ++c)
            for (int64_t i = 0; i < n; ++i)
              gather(from + i * p.x_image + c * p.x_channel, xs.data() + c * columns + i * pixels);
        });
      }
      gemm_panels<C>(p.rows, p.channels, n * pixels, a, b, e,
                     Matrix<C>{partial + sum * size + group * p.rows * p.w_row, p.w_row, 1});
    }
  }
  template <class T> void gather(const T* x, T* to) const {
    if (!strided) return void(memcpy(to, x, size_t(pixels) * sizeof(T)));
    each_pixel_row(p, [&](int64_t xi, int64_t at, int64_t, int64_t) {
      for (int64_t j = 0; j < p.axis[2].out; ++j) to[at + j] = x[xi + j * p.axis[2].stride];
    });
  }
};

// f(p) leaves `sums` partial sums of dw one after the other at p, in the compute type.
template <class T, class F> void sum_partials(int64_t size, int64_t sums, T* dw, const F& f) {
  using C = compute_t<T>;
  if constexpr (sizeof(T) == sizeof(C))
    if (sums == 1) return f(dw);  // one sum needs no adding up
  Scratch<C> partial(sums * size);
  f(partial.data());
  parallel_for(size, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      C total = partial[i];
      for (int64_t j = 1; j < sums; ++j) total += partial[j * size + i];
      store1(dw + i, total);
    }
  });
}

template <class T> void conv_weight_grad_t(const ConvShape& s, const T* x, const T* dy, T* dw) {
  using C = compute_t<T>;
  Problem p = forward_problem(s);
  p.trim();
  const int64_t size = s.out_channels * p.w_row;
  if (PointwiseWeights::fits(p)) {
    const PointwiseWeights w(p);
    return sum_partials(size, w.sums, dw, [&](C* partial) { w.multiply(x, dy, partial); });
  }
  if (WinogradWeights::fits(s, kLanes<C>)) {
    const WinogradWeights w(s, kLanes<C>);
    sum_partials(size, w.sums, dw, [&](C* partial) { winograd_weights(w, x, dy, partial); });
    if (all_finite(dw, size)) return;
  }
  const WeightPlan w(s, p, sizeof(C));
  sum_partials(size, w.sums, dw, [&](C* partial) {
    if (4 * p.channels >= 3 * round_up(p.channels, kLanes<C>))
      weight_grad_by_channels(w, x, dy, partial);
    else
      weight_grad_by_pixels(w, x, dy, partial);
  });
}

void conv_weight_grad(DType t, const ConvShape& s, const void* x, const void* dy, void* dw) {
  dispatch_floating(t, [&]<class T>() {
    conv_weight_grad_t(s, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dw));
  });
}

}  // namespace

const ConvKernels conv_kernels = {conv_forward, conv_data_grad, conv_weight_grad};

}  // namespace gg::GG_ISA
