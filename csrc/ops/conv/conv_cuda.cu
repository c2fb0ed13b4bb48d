// CUDA kernels of convolution. Floats become products of tiles (cuda/gemm.h), for each group:
//   forward, data gradient   y[m, p] = sum_q A[m, q] X[p, q]      m: output channel, p: pixel, q: (tap, channel)
//   weight gradient          dw[m, q] = sum_p dy[p, m] X[p, q]
// X is never made: the image is first laid out pixel by pixel, its channels side by side and padded to 16 bytes, with
// zeros around it, so that row p of X at tap r is a run of channels at an offset of p plus an offset of r. The data
// gradient is, for each phase of dx modulo the stride, a forward convolution of dy with the taps that reach this phase.
// A kernel of one pixel is a plain matrix product, Hopper has kernels of its own (conv_sm90.cu), and few channels, and
// numbers without tiles, are summed directly.
// Implicit products after Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning" (2014).
#include "ops/conv/conv.h"

#include "cuda/block.h"
#include "cuda/gemm.h"
#include "cuda/offsets.h"
#include "ops/conv/conv_sm90.h"
#include "ops/matmul/matmul.h"

namespace gg::cuda {
namespace {

constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
int64_t common_divisor(int64_t a, int64_t b) { return b == 0 ? a : common_divisor(b, a % b); }
int64_t volume(const int64_t (&size)[3]) { return size[0] * size[1] * size[2]; }
int64_t taps_of(const ConvShape& s) { return volume(s.kernel); }
int64_t channels_of(const ConvShape& s) { return s.in_channels / s.groups; }
int64_t rows_of(const ConvShape& s) { return s.out_channels / s.groups; }

Divisor divisor(int64_t d) { return Divisor(uint32_t(d < 1 ? 1 : d)); }  // nothing is divided by sizes of 0

// Cells of images that follow each other: number l is (image, three coordinates).
struct Grid {
  Divisor image, plane, line;
  uint32_t size[3];

  Grid() = default;
  explicit Grid(const int64_t (&s)[3])
      : image(divisor(volume(s))),
        plane(divisor(s[1] * s[2])),
        line(divisor(s[2])),
        size{uint32_t(s[0]), uint32_t(s[1]), uint32_t(s[2])} {}
  __device__ void at(uint32_t l, uint32_t (&cell)[4]) const {
    cell[0] = image.quotient(l);
    l -= cell[0] * image.d;
    cell[1] = plane.quotient(l);
    l -= cell[1] * plane.d;
    cell[2] = line.quotient(l);
    cell[3] = l - cell[2] * line.d;
  }
  __device__ void advance(uint32_t (&cell)[4]) const {
    if (++cell[3] < size[2]) return;
    cell[3] = 0;
    if (++cell[2] < size[1]) return;
    cell[2] = 0;
    if (++cell[1] < size[0]) return;
    cell[1] = 0;
    ++cell[0];
  }
};

// Row p of X lies at its cell times these steps, column q at its channel and its tap times these: all fit 32 bits.
struct Pixels {
  Grid grid;
  int step[4];
  __device__ int64_t at(int64_t p) const {
    uint32_t cell[4];
    grid.at(uint32_t(p), cell);
    return int(cell[0]) * step[0] + int(cell[1]) * step[1] + int(cell[2]) * step[2] + int(cell[3]) * step[3];
  }
};
struct Taps {
  Divisor channels, plane, line;  // padded channels, taps of the two inner axes, taps of the innermost
  int step[3];
  __device__ int64_t at(int64_t q) const {
    const uint32_t tap = channels.quotient(uint32_t(q)), channel = uint32_t(q) - tap * channels.d;
    const uint32_t a = plane.quotient(tap), rest = tap - a * plane.d, b = line.quotient(rest), c = rest - b * line.d;
    return int(channel) + int(a) * step[0] + int(b) * step[1] + int(c) * step[2];
  }
  __device__ int64_t apart() const { return 1; }
};

// How an image (batch, groups, channels, in...) is laid out for tiles: (group, batch, size..., padded). Cell j of an
// axis shows the image at start + j * step, or zero outside it.
struct Layout {
  int64_t batch, groups, channels, padded;
  int64_t in[3], start[3], step[3], size[3];

  int64_t pixels() const { return volume(size); }
  int64_t elements() const { return groups * batch * pixels() * padded; }
  int64_t group_step() const { return batch * pixels() * padded; }
  int64_t axis_step(int i) const { return padded * (i == 0 ? size[1] * size[2] : i == 1 ? size[2] : 1); }
};

constexpr int kTileElements = 2048;
template <class S> struct LayoutTile { S x[kTileElements + 64]; };

// A tile is `channels` channels of 2048 / channels pixels: read along pixels, written along channels.
template <class T, class S>
__global__ void __launch_bounds__(256)
    lay_out_kernel(const T* __restrict__ x, S* __restrict__ out, const Layout at, const Grid grid, int channels,
                   int64_t channel_tiles, int64_t pixel_tiles, int64_t tiles) {
  constexpr int kVec = kPack<S>;
  S* const tile = shared<LayoutTile<S>>().x;
  const int width = kTileElements / channels, pitch = width + 1, pixel = threadIdx.x % width;
  const int64_t pixels = int64_t(at.size[0]) * at.size[1] * at.size[2], plane = at.in[0] * at.in[1] * at.in[2];
  for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
    const int64_t p0 = i % pixel_tiles * width, c0 = i / pixel_tiles % channel_tiles * channels;
    const int64_t image = i / pixel_tiles / channel_tiles;  // of all groups and the batch
    const int64_t group = image / at.batch, n = image % at.batch;
    int64_t from = 0;
    bool inside = p0 + pixel < pixels;
    uint32_t cell[4];
    grid.at(uint32_t(p0 + pixel), cell);
#pragma unroll
    for (int d = 0; d < 3; ++d) {
      const int64_t j = at.start[d] + int64_t(cell[d + 1]) * at.step[d];
      inside = inside && j >= 0 && j < at.in[d];
      from = from * at.in[d] + j;
    }
    from += ((n * at.groups + group) * at.channels + c0) * plane;
    __syncthreads();
    for (int c = threadIdx.x / width; c < channels; c += 256 / width)
      tile[c * pitch + pixel] =
          inside && c0 + c < at.channels ? to_element<S>(load(x + from + c * plane)) : to_element<S>(compute_t<S>(0));
    __syncthreads();
    const int pieces = channels / kVec;
    for (int k = threadIdx.x; k < kTileElements / kVec; k += 256) {
      const int piece = k % pieces, p = k / pieces;
      if (p0 + p >= pixels || c0 + piece * kVec >= at.padded) continue;
      Pack<S, kVec> pack;
#pragma unroll
      for (int j = 0; j < kVec; ++j) pack[j] = tile[(piece * kVec + j) * pitch + p];
      store_pack(out + ((image * pixels + p0 + p) * at.padded + c0 + piece * kVec), pack);
    }
  }
}

template <class T, class S> void lay_out(const Layout& at, const void* x, S* out) {
  int channels = 8;
  while (channels < 64 && channels < at.padded) channels *= 2;
  const int64_t channel_tiles = ceil_div(at.padded, channels);
  const int64_t pixel_tiles = ceil_div(at.pixels(), kTileElements / channels);
  const int64_t tiles = at.groups * at.batch * channel_tiles * pixel_tiles;
  launch(lay_out_kernel<T, S>, grid_for(tiles, 1, 16), dim3(256), sizeof(LayoutTile<S>), static_cast<const T*>(x), out,
         at, Grid(at.size), channels, channel_tiles, pixel_tiles, tiles);
}
// To S from numbers of dtype t: S itself, or 16-bit floats where S is float.
template <class S> void lay_out(DType t, const Layout& at, const void* x, S* out) {
  if constexpr (kHalf<S>)
    lay_out<S, S>(at, x, out);
  else if (t == DType::Float16)
    lay_out<float16, S>(at, x, out);
  else if (t == DType::BFloat16)
    lay_out<bfloat16, S>(at, x, out);
  else
    lay_out<S, S>(at, x, out);
}

// A result of dtype t, from sums over S.
template <class S> __device__ inline float load_as(const void* p, int64_t i, DType t) {
  if constexpr (kHalf<S>) return load(static_cast<const S*>(p) + i);
  if (t == DType::Float16) return load(static_cast<const float16*>(p) + i);
  if (t == DType::BFloat16) return load(static_cast<const bfloat16*>(p) + i);
  return static_cast<const float*>(p)[i];
}
template <class S> __device__ inline void store_as(void* p, int64_t i, DType t, float x) {
  if constexpr (kHalf<S>)
    store(static_cast<S*>(p) + i, x);
  else if (t == DType::Float16)
    store(static_cast<float16*>(p) + i, x);
  else if (t == DType::BFloat16)
    store(static_cast<bfloat16*>(p) + i, x);
  else
    static_cast<float*>(p)[i] = x;
}

// A forward convolution of the laid out image: all of it, or one phase of the data gradient.
struct Phase {
  Pixels pixels;
  Taps image_taps, weight_taps;
  int64_t image_start, weight_start;
  int64_t n, k;
  int64_t y_start, y_step[4];
};
constexpr int kPhases = 8;

template <class S> struct ForwardProduct {
  int64_t m, n, k;
  PaddedFactor<S, Linear, Taps> a;
  PaddedFactor<S, Pixels, Taps> b;
  const Phase& phase;
  const void* bias;
  void* y;
  DType dtype;
  int64_t first_row, y_channel;
  bool dense;

  template <int kN> __device__ void store(int64_t row, int64_t column, const float (&v)[kN]) const {
    if (row >= m || column >= n) return;
    const float offset = bias ? load_as<S>(bias, first_row + row, dtype) : 0.0f;
    uint32_t cell[4];
    phase.pixels.grid.at(uint32_t(column), cell);
    const int64_t start = phase.y_start + (first_row + row) * y_channel;
    auto place = [&] {
      return start + cell[0] * phase.y_step[0] + cell[1] * phase.y_step[1] + cell[2] * phase.y_step[2] +
             cell[3] * phase.y_step[3];
    };
    if constexpr (kN % kPack<S> == 0) {
      if (dense && column + kN <= n) {
        Pack<S, kPack<S>> pack;
#pragma unroll
        for (int j = 0; j < kN; ++j) pack[j] = to_element<S>(v[j] + offset);
        return store_pack(static_cast<S*>(y) + place(), pack);
      }
    }
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      if (column + j >= n) break;
      store_as<S>(y, place(), dtype, v[j] + offset);
      phase.pixels.grid.advance(cell);
    }
  }
};

template <class S> struct ForwardProblem {
  const S *image, *weight;
  const void* bias;
  void* y;
  DType dtype;
  bool dense;  // columns of 16 bytes of y are one aligned piece
  int64_t groups, rows, image_group, weight_group, weight_row, y_channel;
  Phase phase[kPhases];

  __device__ ForwardProduct<S> at(int64_t batch) const {
    const int64_t group = batch % groups;
    const Phase& f = phase[batch / groups];
    return {rows,
            f.n,
            f.k,
            {weight, group * weight_group + f.weight_start, {weight_row}, f.weight_taps, false},
            {image, group * image_group + f.image_start, f.pixels, f.image_taps, false},
            f,
            bias,
            y,
            dtype,
            group * rows,
            y_channel,
            dense};
  }
};

template <class S> struct WeightProduct {
  int64_t m, n, k;
  PaddedFactor<S, Linear, Linear> a;
  PaddedFactor<S, Pixels, Taps> b;
  void* dw;
  DType dtype;
  int64_t start, row_step, taps, channels;

  template <int kN> __device__ void store(int64_t row, int64_t column, const float (&v)[kN]) const {
    if (row >= m) return;
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      if (column + j >= n) break;
      const uint32_t q = uint32_t(column + j), tap = b.columns.channels.quotient(q);
      const uint32_t channel = q - tap * b.columns.channels.d;
      if (channel < channels) store_as<S>(dw, start + row * row_step + channel * taps + tap, dtype, v[j]);
    }
  }
};

template <class S> struct WeightProblem {
  const S *image, *dy;
  void* dw;
  DType dtype;
  int64_t rows, channels, taps, pixels;  // pixels of the whole batch
  int64_t image_group, dy_group, dy_pixel;
  Pixels at_pixel;
  Taps at_tap;

  __device__ WeightProduct<S> at(int64_t group) const {
    return {rows,
            taps * at_tap.channels.d,
            pixels,
            {dy, group * dy_group, {dy_pixel}, {1}, true},
            {image, group * image_group, at_pixel, at_tap, true},
            dw,
            dtype,
            group * rows * channels * taps,
            channels * taps,
            taps,
            channels};
  }
};

constexpr TileKind kFloatTiles[] = {{128, 16, 110}, {64, 16, 80}}, kHalfTiles[] = {{128, 32, 1000}, {64, 32, 600}};

// kAlong: lines of both factors run along k.
template <class S, bool kAlong, class Problem> void multiply_tiles(const Problem& problem, const Extent& e) {
  if constexpr (kHalf<S>) {
    const TileChoice choice = choose_tile(kHalfTiles, e);
    if (choice.size == 128)
      multiply<TensorTile<S, 128, 128, 64, 64, kAlong, kAlong>>(problem, e, choice.splits);
    else
      multiply<TensorTile<S, 64, 64, 32, 32, kAlong, kAlong>>(problem, e, choice.splits);
  } else {
    const TileChoice choice = choose_tile(kFloatTiles, e);
    if (choice.size == 128)
      multiply<SimtTile<float, 128, 8, 8>>(problem, e, choice.splits);
    else
      multiply<SimtTile<float, 64, 8, 4>>(problem, e, choice.splits);
  }
}

// The image as forward and the weight gradient see it: cells that no window meets are left out.
Layout layout_of_image(const ConvShape& s, int pack) {
  Layout at{s.batch, s.groups, channels_of(s), round_up(channels_of(s), pack), {}, {}, {}, {}};
  for (int i = 0; i < 3; ++i) {
    const int64_t stride = s.out[i] > 1 ? s.stride[i] : 0, dilation = s.kernel[i] > 1 ? s.dilation[i] : 0;
    const int64_t step = common_divisor(stride, dilation);
    at.in[i] = s.in[i];
    at.start[i] = -s.pad[i];
    at.step[i] = step == 0 ? 1 : step;
    at.size[i] = ((s.out[i] - 1) * stride + (s.kernel[i] - 1) * dilation) / at.step[i] + 1;
  }
  return at;
}
Taps taps_at(int64_t padded, const int64_t (&taps)[3], int64_t a, int64_t b, int64_t c) {
  return {divisor(padded), divisor(taps[1] * taps[2]), divisor(taps[2]), {int(a), int(b), int(c)}};
}
Pixels pixels_of_image(const ConvShape& s, const Layout& at) {
  Pixels p{Grid(s.out), {int(at.pixels() * at.padded)}};
  for (int i = 0; i < 3; ++i) p.step[i + 1] = s.out[i] > 1 ? int(s.stride[i] / at.step[i] * at.axis_step(i)) : 0;
  return p;
}
Taps taps_of_image(const ConvShape& s, const Layout& at) {
  int64_t step[3];
  for (int i = 0; i < 3; ++i) step[i] = s.kernel[i] > 1 ? s.dilation[i] / at.step[i] * at.axis_step(i) : 0;
  return taps_at(at.padded, s.kernel, step[0], step[1], step[2]);
}

// Cells of a weight, which lie as one line of `in` and are laid out with its channels side by side.
Layout layout_of_weight(int64_t batch, int64_t groups, int64_t channels, int64_t in, int pack) {
  return {batch, groups, channels, round_up(channels, pack), {1, 1, in}, {0, 0, 0}, {1, 1, 1}, {1, 1, in}};
}

template <class S>
void forward_tiles(DType t, const ConvShape& s, const void* x, const void* w, const void* bias, void* y) {
  const int pack = kPack<S>;
  const Layout image_at = layout_of_image(s, pack);
  const Layout weight_at = layout_of_weight(s.out_channels, 1, channels_of(s), taps_of(s), pack);
  Scratch<S> image(image_at.elements()), weight(weight_at.elements());
  lay_out(t, image_at, x, image.get());
  lay_out(t, weight_at, w, weight.get());
  const int64_t pixels = volume(s.out), padded = image_at.padded, row = taps_of(s) * padded;
  ForwardProblem<S> problem{image,
                            weight,
                            bias,
                            y,
                            t,
                            item_size(t) == sizeof(S) && pixels % (kHalf<S> ? 8 : 4) == 0 && aligned(y, 16),
                            s.groups,
                            rows_of(s),
                            image_at.group_step(),
                            rows_of(s) * row,
                            row,
                            pixels,
                            {}};
  Phase& f = problem.phase[0];
  f.pixels = pixels_of_image(s, image_at);
  f.image_taps = taps_of_image(s, image_at);
  f.weight_taps = taps_at(padded, s.kernel, s.kernel[1] * s.kernel[2] * padded, s.kernel[2] * padded, padded);
  f.n = s.batch * pixels;
  f.k = row;
  const int64_t y_step[4] = {s.out_channels * pixels, s.out[1] * s.out[2], s.out[2], 1};
  for (int i = 0; i < 4; ++i) f.y_step[i] = y_step[i];
  multiply_tiles<S, false>(problem, {rows_of(s), f.n, f.k, s.groups});
}

// dx[i] gathers w[r] dy[o] over all o*stride + r*dilation = i + pad. Write i + pad = u*stride + phase: the taps of a
// phase are those with r*dilation = phase modulo stride, r = first + t*step, and tap t reads o = u - shift - t*back.
struct AxisPhase {
  int64_t first, step, taps;
  int64_t shift, back;
  int64_t u, count;  // the first u, and how many
  int64_t start;     // the dx of the first u

  AxisPhase(const ConvShape& s, int i, int64_t number) {
    const int64_t stride = s.stride[i], dilation = s.dilation[i], pad = s.pad[i], phase = (pad + number) % stride;
    first = 0;
    while (first < s.kernel[i] && first * dilation % stride != phase) ++first;
    step = stride / common_divisor(stride, dilation);
    taps = first < s.kernel[i] ? (s.kernel[i] - 1 - first) / step + 1 : 0;
    shift = taps ? (first * dilation - phase) / stride : 0;
    back = step * dilation / stride;
    u = pad > phase ? ceil_div(pad - phase, stride) : 0;
    start = u * stride + phase - pad;
    count = start < s.in[i] ? (s.in[i] - 1 - start) / stride + 1 : 0;
  }
  int64_t least() const { return u - shift - (taps - 1) * back; }  // the dy that its windows meet
  int64_t most() const { return u + count - 1 - shift; }
};
int64_t phases_of(const ConvShape& s, int i) { return s.stride[i] < s.in[i] ? s.stride[i] : s.in[i]; }

// dy as the phases see it.
Layout layout_of_gradient(const ConvShape& s, int pack) {
  Layout at{s.batch, s.groups, rows_of(s), round_up(rows_of(s), pack), {}, {}, {1, 1, 1}, {}};
  for (int i = 0; i < 3; ++i) {
    int64_t least = 0, most = -1;
    for (int64_t number = 0; number < phases_of(s, i); ++number) {
      const AxisPhase p(s, i, number);
      if (p.taps == 0 || p.count == 0) continue;
      if (most < least || p.least() < least) least = p.least();
      if (most < least || p.most() > most) most = p.most();
    }
    at.in[i] = s.out[i];
    at.start[i] = least;
    at.size[i] = most < least ? 1 : most - least + 1;
  }
  return at;
}

template <class S>
void data_grad_tiles(DType t, const ConvShape& s, const void* dy, const void* w, const void* bias, void* dx) {
  const int pack = kPack<S>;
  const Layout dy_at = layout_of_gradient(s, pack);
  const Layout weight_at = layout_of_weight(1, s.groups, rows_of(s), channels_of(s) * taps_of(s), pack);
  Scratch<S> gradient(dy_at.elements()), weight(weight_at.elements());
  lay_out(t, dy_at, dy, gradient.get());
  lay_out(t, weight_at, w, weight.get());
  const int64_t padded = dy_at.padded, pixels = volume(s.in);
  const int64_t phases[3] = {phases_of(s, 0), phases_of(s, 1), phases_of(s, 2)}, all = volume(phases);
  ForwardProblem<S> problem{
      gradient,
      weight,
      bias,
      dx,
      t,
      all == 1 && item_size(t) == sizeof(S) && pixels % (kHalf<S> ? 8 : 4) == 0 && aligned(dx, 16),
      s.groups,
      channels_of(s),
      dy_at.group_step(),
      weight_at.group_step(),
      taps_of(s) * padded,
      pixels,
      {}};
  const int64_t w_step[3] = {s.kernel[1] * s.kernel[2] * padded, s.kernel[2] * padded, padded};
  const int64_t dx_step[3] = {s.in[1] * s.in[2], s.in[2], 1};
  int count = 0;
  Extent e{problem.rows, 0, 0, 0};
  for (int64_t number = 0; number < all; ++number) {
    const AxisPhase p[3] = {AxisPhase(s, 0, number / phases[2] / phases[1]),
                            AxisPhase(s, 1, number / phases[2] % phases[1]), AxisPhase(s, 2, number % phases[2])};
    const int64_t size[3] = {p[0].count, p[1].count, p[2].count}, taps[3] = {p[0].taps, p[1].taps, p[2].taps};
    if (volume(size) > 0) {
      Phase& f = problem.phase[count++];
      f = {};
      f.pixels.grid = Grid(size);
      f.pixels.step[0] = int(dy_at.pixels() * padded);
      f.y_step[0] = s.in_channels * pixels;
      int64_t tap_step[3], weight_step[3];
      for (int i = 0; i < 3; ++i) {
        f.pixels.step[i + 1] = int(dy_at.axis_step(i));
        f.image_start += (p[i].u - p[i].shift - dy_at.start[i]) * dy_at.axis_step(i);
        f.weight_start += p[i].first * w_step[i];
        f.y_start += p[i].start * dx_step[i];
        f.y_step[i + 1] = s.stride[i] * dx_step[i];
        tap_step[i] = -p[i].back * dy_at.axis_step(i);
        weight_step[i] = p[i].step * w_step[i];
      }
      f.image_taps = taps_at(padded, taps, tap_step[0], tap_step[1], tap_step[2]);
      f.weight_taps = taps_at(padded, taps, weight_step[0], weight_step[1], weight_step[2]);
      f.n = s.batch * volume(size);
      f.k = volume(taps) * padded;
      e.n = f.n > e.n ? f.n : e.n;
      e.k = f.k > e.k ? f.k : e.k;
      e.batch += s.groups;
    }
    if (count > 0 && (count == kPhases || number + 1 == all)) {
      multiply_tiles<S, false>(problem, e);
      count = 0;
      e = {problem.rows, 0, 0, 0};
    }
  }
}

template <class S> void weight_grad_tiles(DType t, const ConvShape& s, const void* x, const void* dy, void* dw) {
  const int pack = kPack<S>;
  const Layout image_at = layout_of_image(s, pack);
  Layout dy_at{s.batch, s.groups, rows_of(s), round_up(rows_of(s), pack), {}, {0, 0, 0}, {1, 1, 1}, {}};
  for (int i = 0; i < 3; ++i) dy_at.in[i] = dy_at.size[i] = s.out[i];
  Scratch<S> image(image_at.elements()), gradient(dy_at.elements());
  lay_out(t, image_at, x, image.get());
  lay_out(t, dy_at, dy, gradient.get());
  const WeightProblem<S> problem{image,
                                 gradient,
                                 dw,
                                 t,
                                 rows_of(s),
                                 channels_of(s),
                                 taps_of(s),
                                 s.batch * volume(s.out),
                                 image_at.group_step(),
                                 dy_at.group_step(),
                                 dy_at.padded,
                                 pixels_of_image(s, image_at),
                                 taps_of_image(s, image_at)};
  multiply_tiles<S, true>(problem, {problem.rows, problem.taps * image_at.padded, problem.pixels, s.groups});
}

// Direct sums: a thread has one element of the result. Int: of offsets and coordinates.
template <class Int> struct DirectShape {
  Int batch, channels, rows, in_channels, out_channels;  // channels and rows of one group
  Int in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
  Divisor stride_divisor[3];
  Grid in_grid, out_grid;

  explicit DirectShape(const ConvShape& s)
      : batch(Int(s.batch)),
        channels(Int(channels_of(s))),
        rows(Int(rows_of(s))),
        in_channels(Int(s.in_channels)),
        out_channels(Int(s.out_channels)) {
    for (int i = 0; i < 3; ++i) {
      in[i] = Int(s.in[i]);
      out[i] = Int(s.out[i]);
      kernel[i] = Int(s.kernel[i]);
      stride[i] = Int(s.stride[i]);
      pad[i] = Int(s.pad[i]);
      dilation[i] = Int(s.dilation[i]);
      stride_divisor[i] = Divisor(uint32_t(s.stride[i]));
    }
    if constexpr (sizeof(Int) == 4) {
      in_grid = Grid(s.in);
      out_grid = Grid(s.out);
    }
  }
  // Cell l of images of this size.
  __device__ void cell(const Int (&size)[3], const Grid& grid, int64_t l, Int (&at)[4]) const {
    if constexpr (sizeof(Int) == 4) {
      uint32_t small[4];
      grid.at(uint32_t(l), small);
#pragma unroll
      for (int i = 0; i < 4; ++i) at[i] = Int(small[i]);
    } else {
      at[3] = l % size[2], l /= size[2];
      at[2] = l % size[1], l /= size[1];
      at[1] = l % size[0], at[0] = l / size[0];
    }
  }
  // Where tap r of window o looks; whether that is in the image.
  __device__ bool looks(int axis, Int o, Int r, Int& i) const {
    i = o * stride[axis] - pad[axis] + r * dilation[axis];
    return i >= 0 && i < in[axis];
  }
  // The window whose tap r looks at i; whether there is one.
  __device__ bool seen(int axis, Int i, Int r, Int& o) const {
    const Int from = i + pad[axis] - r * dilation[axis];
    if (from < 0) return false;
    if constexpr (sizeof(Int) == 4)
      o = Int(stride_divisor[axis].quotient(uint32_t(from)));
    else
      o = from / stride[axis];
    return o * stride[axis] == from && o < out[axis];
  }
};

template <class T, class Int>
__global__ void __launch_bounds__(256)
    direct_forward_kernel(const __grid_constant__ DirectShape<Int> s, const T* __restrict__ x, const T* __restrict__ w,
                          const T* __restrict__ bias, T* __restrict__ y, int64_t total) {
  using C = compute_t<T>;
  const Int image = s.in[0] * s.in[1] * s.in[2], taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  for (int64_t l = first_item(); l < total; l += item_step()) {
    Int o[4];
    s.cell(s.out, s.out_grid, l, o);
    const Int k = o[0] % s.out_channels, n = o[0] / s.out_channels;
    const T* xs = x + (n * s.in_channels + k / s.rows * s.channels) * image;
    const T* ws = w + k * s.channels * taps;
    C sum = bias ? load(bias + k) : C(0);
    for (Int c = 0; c < s.channels; ++c, xs += image, ws += taps)
      for (Int a = 0; a < s.kernel[0]; ++a) {
        Int i0, i1, i2;
        if (!s.looks(0, o[1], a, i0)) continue;
        for (Int b = 0; b < s.kernel[1]; ++b) {
          if (!s.looks(1, o[2], b, i1)) continue;
          for (Int d = 0; d < s.kernel[2]; ++d)
            if (s.looks(2, o[3], d, i2))
              sum += load(ws + (a * s.kernel[1] + b) * s.kernel[2] + d) * load(xs + (i0 * s.in[1] + i1) * s.in[2] + i2);
        }
      }
    store(y + l, sum);
  }
}

template <class T, class Int>
__global__ void __launch_bounds__(256, 4)
    direct_data_grad_kernel(const __grid_constant__ DirectShape<Int> s, const T* __restrict__ dy,
                            const T* __restrict__ w, const T* __restrict__ bias, T* __restrict__ dx, int64_t total) {
  using C = compute_t<T>;
  const Int image = s.out[0] * s.out[1] * s.out[2], taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  for (int64_t l = first_item(); l < total; l += item_step()) {
    Int i[4];
    s.cell(s.in, s.in_grid, l, i);
    const Int c = i[0] % s.in_channels, n = i[0] / s.in_channels, row0 = c / s.channels * s.rows;
    const T* dys = dy + (n * s.out_channels + row0) * image;
    const T* ws = w + (row0 * s.channels + c % s.channels) * taps;
    C sum = bias ? load(bias + c) : C(0);
    for (Int row = 0; row < s.rows; ++row, dys += image, ws += s.channels * taps)
      for (Int a = 0; a < s.kernel[0]; ++a) {
        Int o0, o1, o2;
        if (!s.seen(0, i[1], a, o0)) continue;
        for (Int b = 0; b < s.kernel[1]; ++b) {
          if (!s.seen(1, i[2], b, o1)) continue;
          for (Int d = 0; d < s.kernel[2]; ++d)
            if (s.seen(2, i[3], d, o2))
              sum +=
                  load(ws + (a * s.kernel[1] + b) * s.kernel[2] + d) * load(dys + (o0 * s.out[1] + o1) * s.out[2] + o2);
        }
      }
    store(dx + l, sum);
  }
}

// A warp has up to kTapsAtOnce taps of one weight (row, channel) and a part of the pixels of all images.
constexpr int kTapsAtOnce = 9;

template <class T, class Int>
__global__ void __launch_bounds__(256, 1)
    direct_weight_grad_kernel(const __grid_constant__ DirectShape<Int> s, const T* __restrict__ x,
                              const T* __restrict__ dy, compute_t<T>* __restrict__ parts, int64_t pieces, int64_t items,
                              int64_t pixels, int64_t per_part) {
  using C = compute_t<T>;
  const Int image = s.in[0] * s.in[1] * s.in[2], windows = s.out[0] * s.out[1] * s.out[2];
  const Int taps = s.kernel[0] * s.kernel[1] * s.kernel[2], weights = s.out_channels * s.channels;
  const int lane = threadIdx.x % 32;
  for (int64_t item = first_item() / 32; item < items; item += item_step() / 32) {
    const Int tap0 = Int(item % pieces) * kTapsAtOnce, count = taps - tap0 < kTapsAtOnce ? taps - tap0 : kTapsAtOnce;
    const Int weight = Int(item / pieces % weights);
    const int64_t part = item / pieces / weights;
    const Int k = weight / s.channels, c = k / s.rows * s.channels + weight % s.channels;
    const int64_t end = (part + 1) * per_part < pixels ? (part + 1) * per_part : pixels;
    C sums[kTapsAtOnce] = {};
    for (int64_t l = part * per_part + lane; l < end; l += 32) {
      Int o[4];
      s.cell(s.out, s.out_grid, l, o);
      const Int at = (o[1] * s.out[1] + o[2]) * s.out[2] + o[3];
      const C g = load(dy + (o[0] * s.out_channels + k) * windows + at);
      const T* xs = x + (o[0] * s.in_channels + c) * image;
      Int a = tap0 / (s.kernel[1] * s.kernel[2]), b = tap0 / s.kernel[2] % s.kernel[1], d = tap0 % s.kernel[2];
#pragma unroll
      for (int j = 0; j < kTapsAtOnce; ++j) {
        if (j >= count) break;
        Int i0, i1, i2;
        const bool in0 = s.looks(0, o[1], a, i0), in1 = s.looks(1, o[2], b, i1), in2 = s.looks(2, o[3], d, i2);
        if (in0 && in1 && in2) sums[j] += g * load(xs + (i0 * s.in[1] + i1) * s.in[2] + i2);
        if (++d == s.kernel[2]) {
          d = 0;
          if (++b == s.kernel[1]) {
            b = 0;
            ++a;
          }
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kTapsAtOnce; ++j) {
      if (j >= count) break;
      const C sum = warp_reduce<Sum>(sums[j]);
      if (lane == 0) parts[(part * weights + weight) * taps + tap0 + j] = sum;
    }
  }
}
template <class T>
__global__ void __launch_bounds__(256)
    add_parts_kernel(const compute_t<T>* __restrict__ parts, T* __restrict__ dw, int64_t size, int64_t count) {
  for (int64_t i = first_item(); i < size; i += item_step()) {
    compute_t<T> sum = parts[i];
    for (int64_t p = 1; p < count; ++p) sum += parts[p * size + i];
    store(dw + i, sum);
  }
}

// Whether offsets and coordinates fit 32 bits.
bool is_small(const ConvShape& s) {
  bool small = s.batch * s.in_channels * volume(s.in) < (int64_t(1) << 31) &&
               s.batch * s.out_channels * volume(s.out) < (int64_t(1) << 31) &&
               s.out_channels * channels_of(s) * taps_of(s) < (int64_t(1) << 31);
  for (int i = 0; i < 3; ++i)
    small = small && s.in[i] + s.pad[i] < (1 << 30) && (s.out[i] - 1) * s.stride[i] < (1 << 30) &&
            (s.kernel[i] - 1) * s.dilation[i] < (1 << 30);
  return small;
}
template <class F> void dispatch_index(const ConvShape& s, F&& f) {
  is_small(s) ? f.template operator()<int>() : f.template operator()<int64_t>();
}
template <class F> void dispatch_convolved(DType t, F&& f) {
  if (t == DType::Int64) return f.template operator()<int64_t>();
  dispatch_floating(t, f);
}

void forward_directly(DType t, const ConvShape& s, const void* x, const void* w, const void* bias, void* y) {
  const int64_t total = s.batch * s.out_channels * volume(s.out);
  dispatch_convolved(t, [&]<class T>() {
    dispatch_index(s, [&]<class Int>() {
      launch(direct_forward_kernel<T, Int>, grid_for(total, 256), dim3(256), 0, DirectShape<Int>(s),
             static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias), static_cast<T*>(y),
             total);
    });
  });
}
void data_grad_directly(DType t, const ConvShape& s, const void* dy, const void* w, const void* bias, void* dx) {
  const int64_t total = s.batch * s.in_channels * volume(s.in);
  dispatch_convolved(t, [&]<class T>() {
    dispatch_index(s, [&]<class Int>() {
      launch(direct_data_grad_kernel<T, Int>, grid_for(total, 256), dim3(256), 0, DirectShape<Int>(s),
             static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<const T*>(bias), static_cast<T*>(dx),
             total);
    });
  });
}
void weight_grad_directly(DType t, const ConvShape& s, const void* x, const void* dy, void* dw) {
  const int64_t pieces = ceil_div(taps_of(s), kTapsAtOnce), weights = s.out_channels * channels_of(s);
  const int64_t size = weights * taps_of(s), pixels = s.batch * volume(s.out);
  // Parts of some hundred pixels, until the device has its warps.
  const int64_t wanted = ceil_div(64 * multiprocessors(), pieces * weights), most = ceil_div(pixels, 512);
  const int64_t per_part = ceil_div(pixels, wanted < most ? wanted : most);
  const int64_t parts = ceil_div(pixels, per_part), items = parts * weights * pieces;
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    Scratch<C> sums(parts * size);
    dispatch_index(s, [&]<class Int>() {
      launch(direct_weight_grad_kernel<T, Int>, grid_for(items, 8), dim3(256), 0, DirectShape<Int>(s),
             static_cast<const T*>(x), static_cast<const T*>(dy), sums.get(), pieces, items, pixels, per_part);
    });
    launch(add_parts_kernel<T>, grid_for(size, 256), dim3(256), 0, sums.get(), static_cast<T*>(dw), size, parts);
  });
}

// Tiles are for float32 and 16-bit floats whose sizes fit 32 bits, where laying out and rounding up to whole tiles
// costs less than the memory accesses of direct sums. rows and columns: of the result; depth: of each sum.
bool tiles_pay(DType t, const ConvShape& s, const Layout& at, double rows, double columns, double depth,
               double useful) {
  constexpr double kMost = double(int64_t(1) << 31);
  if (!is_floating(t) || t == DType::Float64 || !is_small(s)) return false;
  const double elements =
      double(at.size[0]) * double(at.size[1]) * double(at.size[2]) * double(at.groups * at.batch) * double(at.padded);
  if (elements >= kMost || columns >= kMost || depth >= kMost || double(at.padded * taps_of(s)) >= kMost) return false;
  const double images =
      double(s.batch) * (double(s.in_channels) * double(volume(s.in)) + double(s.out_channels) * double(volume(s.out)));
  if (elements > 8 * images + (1 << 20)) return false;  // an image lost in its padding
  auto whole = [](double n) { return double(round_up(int64_t(n), 64)); };
  const double multi = multiprocessors(), rate = is_half(t) && architecture() >= 80 ? 600 : 80;
  const double tile_cycles = 10000 + double(s.groups) * whole(rows) * whole(columns) * depth / (rate * multi);
  return tile_cycles < 5 * useful / (128 * multi);
}

double multiplications(const ConvShape& s) {
  return double(s.batch) * double(volume(s.out)) * double(s.out_channels) * double(channels_of(s)) * double(taps_of(s));
}
int pack_of(DType t) { return is_half(t) && architecture() >= 80 ? 8 : 4; }
template <class F> void dispatch_tiles(DType t, F&& f) {
  if (!is_half(t) || architecture() < 80) return f.template operator()<float>();
  t == DType::Float16 ? f.template operator()<float16>() : f.template operator()<bfloat16>();
}

// A kernel of one pixel that looks at every pixel once: y[n] (rows, pixels) = A x[n] for each group, or dx by A^T.
// 16-bit floats need whole 16 bytes of pixels to be read fast.
bool is_product(DType t, const ConvShape& s) {
  for (int i = 0; i < 3; ++i)
    if (s.kernel[i] != 1 || s.stride[i] != 1 || s.pad[i] != 0 || s.in[i] != s.out[i]) return false;
  if (t == DType::Float64 || t == DType::Int64) return true;
  return volume(s.in) >= 64 && (!is_half(t) || volume(s.in) % 8 == 0);
}
void multiply_pixels(DType t, const ConvShape& s, bool transposed, const void* x, const void* w, const void* bias,
                     void* y) {
  MatmulProblem q{};
  const int64_t channels = channels_of(s), rows = rows_of(s), pixels = volume(s.in);
  q.m = transposed ? channels : rows;
  q.k = transposed ? rows : channels;
  q.n = pixels;
  q.alpha = q.beta = 1;
  q.a = w;
  q.a_row = transposed ? 1 : channels;
  q.a_col = transposed ? channels : 1;
  q.b = x;
  q.b_row = q.c_row = pixels;
  q.b_col = q.c_col = q.d_row = 1;
  q.c = y;
  q.d = bias;
  auto axis = [&](int64_t size, int64_t a, int64_t b, int64_t c, int64_t d) {
    if (size == 1) return;
    const int i = q.batch_ndim++;
    q.batch_shape[i] = size;
    q.a_batch[i] = a;
    q.b_batch[i] = b;
    q.c_batch[i] = c;
    q.d_batch[i] = bias ? d : 0;
  };
  axis(s.batch, 0, q.k * s.groups * pixels, q.m * s.groups * pixels, 0);
  axis(s.groups, rows * channels, q.k * pixels, q.m * pixels, q.m);
  matmul_kernels.matmul(t, q);
}

void conv_forward(DType t, const ConvShape& s, const void* x, const void* w, const void* bias, void* y) {
  if (is_product(t, s)) return multiply_pixels(t, s, false, x, w, bias, y);
  if (conv_forward_sm90 && conv_forward_sm90(t, s, x, w, bias, y)) return;
  const Layout at = layout_of_image(s, pack_of(t));
  const double pixels = double(s.batch) * double(volume(s.out));
  if (!tiles_pay(t, s, at, double(rows_of(s)), pixels, double(at.padded * taps_of(s)), multiplications(s)))
    return forward_directly(t, s, x, w, bias, y);
  dispatch_tiles(t, [&]<class S>() { forward_tiles<S>(t, s, x, w, bias, y); });
}

void conv_data_grad(DType t, const ConvShape& s, const void* dy, const void* w, const void* bias, void* dx) {
  if (is_product(t, s)) return multiply_pixels(t, s, true, dy, w, bias, dx);
  if (conv_data_grad_sm90 && conv_data_grad_sm90(t, s, dy, w, bias, dx)) return;
  const Layout at = layout_of_gradient(s, pack_of(t));
  const double phases = double(phases_of(s, 0)) * double(phases_of(s, 1)) * double(phases_of(s, 2));
  const double pixels = double(s.batch) * double(volume(s.in));
  // Each phase has its share of the pixels and of the taps.
  if (!tiles_pay(t, s, at, double(channels_of(s)), pixels, double(at.padded * taps_of(s)) / phases, multiplications(s)))
    return data_grad_directly(t, s, dy, w, bias, dx);
  dispatch_tiles(t, [&]<class S>() { data_grad_tiles<S>(t, s, dy, w, bias, dx); });
}

void conv_weight_grad(DType t, const ConvShape& s, const void* x, const void* dy, void* dw) {
  if (conv_weight_grad_sm90 && conv_weight_grad_sm90(t, s, x, dy, dw)) return;
  const Layout at = layout_of_image(s, pack_of(t));
  const double pixels = double(s.batch) * double(volume(s.out));
  if (!tiles_pay(t, s, at, double(rows_of(s)), double(at.padded * taps_of(s)), pixels, multiplications(s)))
    return weight_grad_directly(t, s, x, dy, dw);
  dispatch_tiles(t, [&]<class S>() { weight_grad_tiles<S>(t, s, x, dy, dw); });
}

}  // namespace

const ConvKernels conv_kernels = {conv_forward, conv_data_grad, conv_weight_grad};

}  // namespace gg::cuda
