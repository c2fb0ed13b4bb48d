// Convolution on the CPU as a GEMM over shifted images (cpu/phases.h): row (c, tap) of the right factor is not copied
// but read from the channel's phase line at the tap's offset.
//   forward, data gradient   y[m, q] = sum_k A[m, k] B[q + offset(k)]      m: output channel, q: pixel, k: (channel,
//   tap) weight gradient          dw[m, k] = sum_q dy[m, q] B[q + offset(k)]
// The data gradient is, for each phase of dx, a forward convolution of dy with the taps that reach this phase. Where
// gaps between the rows would waste much work (tiny images), a tile's pixels are packed side by side first. Register
// tiles after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008); shifts in place of
// im2col after Anderson et al., "Low-memory GEMM-based convolution algorithms for deep neural networks" (2017).
#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/phases.h"
#include "cpu/scratch.h"
#include "ops/conv/conv.h"

namespace gg::GG_ISA {
namespace {

// The register tile: kRows output channels times kWide vectors of pixels, in 32 registers or in 16.
constexpr bool kManyRegisters = GG_VECTOR_BYTES == 64;
constexpr int kRows = kManyRegisters ? 8 : 4;
constexpr int kWide = 3;
constexpr int kWideThin = 6;           // for one or two output channels (depthwise)
constexpr int64_t kDepth = 640;        // rows of k per pass: a panel of A stays in the L1 cache
constexpr int64_t kCache = 640 << 10;  // bytes of phase lines per task: L2
constexpr int64_t kTaskFlops = 4 << 20;

// A convolution with the strides that tell forward from data gradient.
struct Problem {
  int64_t batch, groups, channels, rows;  // channels (reduced) and output channels, both of one group
  WindowAxis axis[3];
  int64_t x_image, x_channel;  // strides of the input, in items
  int64_t w_group, w_row, w_channel, w_tap[3], w_start;
  int64_t y_channel, y_start;
  OutputMap map;

  // Leaves out the taps at the ends of each axis that only ever see the border.
  void trim() {
    for (int i = 0; i < 3; ++i) {
      WindowAxis& a = axis[i];
      int64_t begin = 0, end = a.taps;
      while (begin < end && !a.alive(begin)) ++begin;
      while (begin < end && !a.alive(end - 1)) --end;
      a.start += begin * a.step;
      a.taps = end - begin;
      w_start += begin * w_tap[i];
    }
  }
  int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  // f(number, index of its weight, its tap on each axis)
  template <class F> void each_tap(const F& f) const {
    int64_t i = 0;
    for (int64_t a = 0; a < axis[0].taps; ++a)
      for (int64_t b = 0; b < axis[1].taps; ++b)
        for (int64_t c = 0; c < axis[2].taps; ++c)
          f(i++, w_start + a * w_tap[0] + b * w_tap[1] + c * w_tap[2], a, b, c);
  }
};

// How the pixels are cut into tasks: `images` whole images each, or `lines` outputs of the outermost axis of one image.
struct Blocks {
  int64_t images, lines, count;
  int at;

  Blocks(const Windows& w, int64_t batch, int64_t most_positions, int64_t least_blocks) {
    at = 0;
    while (at < 2 && w.axis[at].length() == 1) ++at;
    lines = w.axis[at].out;
    images = larger(1, smaller(most_positions / w.image, batch / larger(1, least_blocks)));
    if (w.image > most_positions || batch < least_blocks) {
      const int64_t one = larger(1, w.image / w.pitch[at]), halo = w.axis[at].max_shift();
      const int64_t per_image = ceil_div(least_blocks, batch);
      int64_t fit = smaller(most_positions / one - halo, ceil_div(lines, per_image));
      fit =
          larger(fit, larger(2 * halo, ceil_div(4 * kWide * 16, one)));  // what is computed outweighs what is recopied
      if (fit < lines) lines = ceil_div(lines, ceil_div(lines, fit));
    }
    count = parts(w) * ceil_div(batch, images);
  }
  int64_t parts(const Windows& w) const { return ceil_div(w.axis[at].out, lines); }
};

// acc[i][j] += sum_k a[k][i] * b[offset[k]][j]: kR rows, kN vectors, stored to c (rows of kN vectors).
template <class C, int kR, int kN>
void multiply_tile(int64_t depth, const C* a, const C* b, const int64_t* offset, C* c, bool first) {
  constexpr int L = kLanes<C>;
  Vec<C> acc[kR][kN];
#pragma GCC unroll 8
  for (int i = 0; i < kR; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kN; ++j) acc[i][j] = first ? Vec<C>{} : load(c + (i * kN + j) * L);
  for (int64_t k = 0; k < depth; ++k, a += kR) {
    const C* row = b + offset[k];
    Vec<C> v[kN];
#pragma GCC unroll 8
    for (int j = 0; j < kN; ++j) v[j] = load(row + j * L);
#pragma GCC unroll 8
    for (int i = 0; i < kR; ++i) {
      const Vec<C> s = splat(a[i]);
#pragma GCC unroll 8
      for (int j = 0; j < kN; ++j) acc[i][j] += s * v[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kR; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kN; ++j) store(c + (i * kN + j) * L, acc[i][j]);
}

template <class C, int kN>
void multiply_rows(int64_t rows, int64_t depth, const C* a, const C* b, const int64_t* offset, C* c, bool first) {
  switch (rows) {
    case 1: return multiply_tile<C, 1, kN>(depth, a, b, offset, c, first);
    case 2: return multiply_tile<C, 2, kN>(depth, a, b, offset, c, first);
    default: break;
  }
  if constexpr (kN == kWide) {
    switch (rows) {
      case 3: return multiply_tile<C, 3, kN>(depth, a, b, offset, c, first);
      case 4: return multiply_tile<C, 4, kN>(depth, a, b, offset, c, first);
      default: break;
    }
    if constexpr (kRows == 8) {
      switch (rows) {
        case 5: return multiply_tile<C, 5, kN>(depth, a, b, offset, c, first);
        case 6: return multiply_tile<C, 6, kN>(depth, a, b, offset, c, first);
        case 7: return multiply_tile<C, 7, kN>(depth, a, b, offset, c, first);
        default: return multiply_tile<C, 8, kN>(depth, a, b, offset, c, first);
      }
    }
  }
}

// y[0..n) = c + bias, rounded to T. The last whole vector overlaps its neighbour instead of leaving a remainder.
template <class T, class C> inline void store_run(const C* c, C bias, T* y, int64_t n) {
  constexpr int L = kLanes<C>;
  const Vec<C> b = splat(bias);
  if (n < L) return store_n(y, load_n(c, n) + b, n);
  for (int64_t i = 0; i < n; i += L) {
    const int64_t at = smaller(i, n - L);
    store(y + at, load(c + at) + b);
  }
}

template <class T, class C>
void store_tile(const Run* run, const Run* end, int64_t step, const C* c, int64_t rows, int64_t width, const T* bias,
                T* y, int64_t y_channel) {
  while (run < end) {
    const int64_t at = run->at, to = run->y;
    int64_t n = run->count;
    for (++run; run < end && step == 1 && run->at == at + n && run->y == to + n; ++run) n += run->count;
    for (int64_t i = 0; i < rows; ++i) {
      const C b = bias ? load1(bias + i) : C(0);
      const C* from = c + i * width + at;
      T* out = y + i * y_channel + to;
      if (step == 1)
        store_run(from, b, out, n);
      else
        for (int64_t j = 0; j < n; ++j) store1(out + j * step, from[j] + b);
    }
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

template <class T> void multiply_shifted(Problem p, const T* x, const T* w, const T* bias, T* y) {
  using C = compute_t<T>;
  constexpr int L = kLanes<C>;
  p.trim();
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
  const Blocks blocks(windows, p.batch, larger(4 * width, kCache / row_bytes), ceil_div(tasks_wanted, p.groups));
  const int64_t row_parts = larger(1, smaller(row_tiles, tasks_wanted / (2 * blocks.count * p.groups)));

  const Windows full = windows.part(blocks.at, 0, blocks.lines);
  const int64_t line = full.line(blocks.images, width);
  const int64_t channel_line = windows.slots * line;
  const bool dense = worth_packing(full, blocks.images, ceil_div(p.rows, row_parts), width);

  // B's offsets, and the same for packed panels; A in panels of the tile's rows: [group][tile][k][row].
  Scratch<int64_t> offset(2 * depth + taps);
  int64_t* const packed_offset = offset.data() + depth;
  int64_t* const w_offset = packed_offset + depth;
  p.each_tap([&](int64_t i, int64_t weight, int64_t a, int64_t b, int64_t c) {
    w_offset[i] = weight;
    const int64_t shift = full.offset(a, b, c, line);
    for (int64_t channel = 0; channel < p.channels; ++channel)
      offset[channel * taps + i] = channel * channel_line + shift;
  });
  for (int64_t k = 0; k < depth; ++k) packed_offset[k] = k * width;
  Scratch<C> a(p.groups * p.rows * depth);
  parallel_for(p.groups * row_tiles, ceil_div(32768, kRows * depth + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / row_tiles, m0 = row_at(i % row_tiles), rows = row_at(i % row_tiles + 1) - m0;
      C* panel = a.data() + (group * p.rows + m0) * depth;
      for (int64_t r = 0; r < rows; ++r) {
        const T* from = w + group * p.w_group + (m0 + r) * p.w_row;
        for (int64_t c = 0; c < p.channels; ++c)
          for (int64_t t = 0; t < taps; ++t)
            panel[(c * taps + t) * rows + r] = load1(from + c * p.w_channel + w_offset[t]);
      }
    }
  });

  // A block of tiles shares each pass over k; its accumulators stay in the L2 cache.
  const int64_t passes = larger(1, ceil_div(depth, kDepth)), pass = ceil_div(depth, passes);
  const int64_t part_rows = kRows * ceil_div(row_tiles, row_parts);
  const int64_t together =
      passes == 1 && !dense ? 1
                            : larger(1, smaller(16, (int64_t(256) << 10) / (part_rows * width * int64_t(sizeof(C)))));
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
            const C* panel = a.data() + channel * depth + k0 * rows;
            for (int64_t t = t0; t < t1; ++t) {
              C* c = acc.data() + ((m - tile_begin) * together + t - t0) * kRows * width;
              const C* b = dense ? panels.data() + (t - t0) * pass * width : lines.data() + t * width;
              const int64_t* at = dense ? packed_offset : &offset[k0];
              if (thin)
                multiply_rows<C, kWideThin>(rows, k, panel, b, at, c, k0 == 0);
              else
                multiply_rows<C, kWide>(rows, k, panel, b, at, c, k0 == 0);
              if (k0 + pass >= depth)
                store_tile(&runs[first[t]], &runs[first[t + 1]], p.map.axis[2], c, rows, width,
                           bias ? bias + channel : nullptr, out + channel * p.y_channel, p.y_channel);
            }
          }
          if (depth == 0) break;
        }
      }
    }
  });
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
  multiply_shifted(forward_problem(s), x, w, bias, y);
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
    int64_t r0 = 0, step = 1;
    while (r0 < s.kernel[i] && r0 * dilation % stride != phase) ++r0;
    while (step * dilation % stride != 0) ++step;
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
  for (int64_t a = 0; a < s.stride[0]; ++a)
    for (int64_t b = 0; b < s.stride[1]; ++b)
      for (int64_t c = 0; c < s.stride[2]; ++c) {
        const Phase phase[3] = {phase_of(0, a), phase_of(1, b), phase_of(2, c)};
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
        if (!empty) multiply_shifted(p, dy, w, bias, dx);
      }
}

void conv_data_grad(DType t, const ConvShape& s, const void* dy, const void* w, const void* bias, void* dx) {
  dispatch_convolved(t, [&]<class T>() {
    conv_data_grad_t(s, static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<const T*>(bias),
                     static_cast<T*>(dx));
  });
}

// The weight gradient's register tile: kDotRows rows of dy times kDotTaps rows of B, one vector of partial sums each.
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
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kT; ++j) sum[i * sum_line + sum_at[j]] += sum_lanes<C>(acc[i][j]);
}

template <class C, int kM>
void dot_rows(int64_t taps, int64_t n, const C* a, int64_t a_line, const C* b, const int64_t* offset, C* sum,
              int64_t sum_line, const int64_t* sum_at) {
  switch (taps) {
    case 1: return dot_tile<C, kM, 1>(n, a, a_line, b, offset, sum, sum_line, sum_at);
    case 2: return dot_tile<C, kM, 2>(n, a, a_line, b, offset, sum, sum_line, sum_at);
    case 3: return dot_tile<C, kM, 3>(n, a, a_line, b, offset, sum, sum_line, sum_at);
    case 4: return dot_tile<C, kM, 4>(n, a, a_line, b, offset, sum, sum_line, sum_at);
    default: break;
  }
  if constexpr (kDotTaps == 6)
    if (taps == 6) return dot_tile<C, kM, 6>(n, a, a_line, b, offset, sum, sum_line, sum_at);
  dot_tile<C, kM, 5>(n, a, a_line, b, offset, sum, sum_line, sum_at);
}

template <class C>
void dot(int64_t rows, int64_t taps, int64_t n, const C* a, int64_t a_line, const C* b, const int64_t* offset, C* sum,
         int64_t sum_line, const int64_t* sum_at) {
  if constexpr (kDotRows == 4) {
    if (rows == 4) return dot_rows<C, 4>(taps, n, a, a_line, b, offset, sum, sum_line, sum_at);
    if (rows == 3) return dot_rows<C, 3>(taps, n, a, a_line, b, offset, sum, sum_line, sum_at);
  }
  if (rows == 2) return dot_rows<C, 2>(taps, n, a, a_line, b, offset, sum, sum_line, sum_at);
  dot_rows<C, 1>(taps, n, a, a_line, b, offset, sum, sum_line, sum_at);
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

template <class C> bool all_finite(const C* x, int64_t n) {
  C zero = 0;
  for (int64_t i = 0; i < n; ++i) zero += x[i] * 0;
  return zero == 0;
}

// Pixels are cut into blocks, blocks dealt to a number of partial sums that depends on sizes only; partial sums are
// added in order, so the result is the same for any number of threads.
template <class T> void conv_weight_grad_t(const ConvShape& s, const T* x, const T* dy, T* dw) {
  using C = compute_t<T>;
  Problem p = forward_problem(s);
  p.trim();
  const Windows windows(p.axis);
  const int64_t taps = p.taps(), depth = p.channels * taps, size = s.out_channels * p.w_row;
  const int64_t outputs = p.axis[0].out * p.axis[1].out * p.axis[2].out;
  const int64_t width = kDotLength;

  const double flops = 2.0 * double(p.batch) * double(outputs) * double(s.out_channels) * double(depth + 4);
  const int64_t tasks_wanted = larger(1, smaller(32, int64_t(flops / double(kTaskFlops))));
  const int64_t row_bytes = larger(1, (p.channels * windows.slots + p.rows) * int64_t(sizeof(C)));
  const Blocks blocks(windows, p.batch, larger(256, kCache / row_bytes), ceil_div(tasks_wanted, p.groups));
  const int64_t sums =
      larger(1, smaller(smaller(blocks.count, ceil_div(tasks_wanted, p.groups)), (4 << 20) / (size + 1)));
  const int64_t row_parts = larger(1, smaller(p.rows / (4 * kDotRows), tasks_wanted / (2 * sums * p.groups)));
  const Windows full = windows.part(blocks.at, 0, blocks.lines);
  const int64_t line = full.line(blocks.images, width), channel_line = windows.slots * line;
  const bool dense = worth_packing(full, blocks.images, p.rows / row_parts, kWide * kLanes<C>);
  const int64_t most_tiles = max_tiles(full, blocks.images, width), a_line = most_tiles * width + 16;

  Scratch<int64_t> offset(2 * depth + kDotTaps);
  int64_t* const sum_at = offset.data() + depth;
  int64_t* const packed_offset = sum_at + depth;
  p.each_tap([&](int64_t i, int64_t weight, int64_t a, int64_t b, int64_t c) {
    for (int64_t channel = 0; channel < p.channels; ++channel) {
      offset[channel * taps + i] = channel * channel_line + full.offset(a, b, c, line);
      sum_at[channel * taps + i] = channel * p.w_channel + weight;
    }
  });
  for (int j = 0; j < kDotTaps; ++j) packed_offset[j] = j * width;

  Scratch<C> partial(sums * size);
  const int64_t parts = blocks.parts(windows), tap_tiles = ceil_div(depth, kDotTaps);
  const int64_t tasks = sums * p.groups * row_parts;
  parallel_for(
      tasks, larger(1, int64_t(double(tasks) * double(kTaskFlops) / (flops + 1))), [&](int64_t begin, int64_t end) {
        Scratch<C> lines(p.channels * channel_line);
        Scratch<C> a(ceil_div(p.rows, row_parts) * a_line);
        Scratch<C> panel(kDotTaps * width);
        Scratch<Run> runs(max_runs(full, blocks.images, width));
        Scratch<int64_t> first(most_tiles + 1);
        for (int64_t task = begin; task < end; ++task) {
          const int64_t row_part = task % row_parts, group = task / row_parts % p.groups,
                        sum = task / row_parts / p.groups;
          const int64_t m0 = p.rows * row_part / row_parts, rows = p.rows * (row_part + 1) / row_parts - m0;
          const int64_t row_tiles = ceil_div(rows, kDotRows);
          C* const out = partial.data() + sum * size + (group * p.rows + m0) * p.w_row;
          for (bool packed = dense;; packed = true) {
            fill(out, C(0), rows * p.w_row);
            for (int64_t block = blocks.count * sum / sums; block < blocks.count * (sum + 1) / sums; ++block) {
              const int64_t n0 = block / parts * blocks.images, n = smaller(blocks.images, p.batch - n0);
              const int64_t from = block % parts * blocks.lines;
              const Windows here =
                  windows.part(blocks.at, from, smaller(from + blocks.lines, windows.axis[blocks.at].out));
              const int64_t tiles = cut_runs(here, p.map, n, width, packed, runs.data(), first.data());
              const T* image = x + n0 * p.x_image + group * p.channels * p.x_channel;
              for (int64_t c = 0; c < p.channels; ++c)
                cut_phases(here, image + c * p.x_channel, p.x_image, n, C(0), lines.data() + c * channel_line, line);
              const T* from_dy = dy + n0 * p.map.image + from * p.map.axis[blocks.at];
              for (int64_t i = 0; i < rows; ++i)
                lay_out(runs.data(), first.data(), tiles, width, from_dy + (group * p.rows + m0 + i) * p.y_channel,
                        a.data() + i * a_line);
              for (int64_t t = 0; t < tiles; ++t) {
                const Run *r0 = &runs[first[t]], *r1 = &runs[first[t + 1]];
                if (r0 == r1) continue;
                const int64_t length = round_up((r1 - 1)->at + (r1 - 1)->count, kLanes<C>);
                for (int64_t j = 0; j < tap_tiles; ++j) {
                  const int64_t k0 = depth * j / tap_tiles, k = depth * (j + 1) / tap_tiles - k0;
                  if (packed) {
                    for (int64_t i = 0; i < k; ++i)
                      fill(panel.data() + i * width + length - kLanes<C>, C(0), kLanes<C>);
                    pack_tile(r0, r1, lines.data(), &offset[k0], k, width, panel.data());
                  }
                  const C* b = packed ? panel.data() : lines.data() + t * width;
                  const int64_t* at = packed ? packed_offset : &offset[k0];
                  for (int64_t i = 0; i < row_tiles; ++i) {
                    const int64_t i0 = rows * i / row_tiles, m = rows * (i + 1) / row_tiles - i0;
                    dot(m, k, length, a.data() + i0 * a_line + t * width, a_line, b, at, out + i0 * p.w_row, p.w_row,
                        sum_at + k0);
                  }
                }
              }
            }
            // A zero in the gaps times an infinity of x is a NaN that does not belong in the sum: then once more,
            // packed.
            if (packed || all_finite(out, rows * p.w_row)) break;
          }
        }
      });
  parallel_for(size, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      C total = partial[i];
      for (int64_t j = 1; j < sums; ++j) total += partial[j * size + i];
      store1(dw + i, total);
    }
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
