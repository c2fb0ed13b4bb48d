// Convolution on Hopper as products over channels, by the tiles of gemm_sm90.h; nothing like im2col is ever stored.
//
//   forward      y[pixel, k]  = sum over taps (r, s) and c of x[pixel shifted by the tap, c] w[k, tap, c]
//   data grad    the same with dy for x and the taps in opposite order (stride 1)
//   weight grad  dw[k, tap, c] = sum over pixels of dy[pixel, k] x[pixel shifted by the tap, c]
//
// Inside, images lie with channels innermost (NHWC), so that a slice of 64 channels of a box of pixels is one TMA copy:
// a tap shifts its coordinates, a stride is the copy's step, and the padding is what TMA fills in outside the array. A
// tile's rows are a box of images x rows x columns of pixels, powers of two whose product is 128 (64 in a slice of the
// weight gradient). Results are written with pixels innermost, as the rest of the library has them.
#include "ops/conv/conv_sm90.h"

#include "cuda/gemm_sm90.h"
#include "ops/layout/layout.h"

namespace gg::cuda {
namespace {

using namespace sm90;

// A box of pixels: 2^w columns, 2^h rows, 2^n images.
struct Box {
  int w, h, n;

  // The one that cuts (images, rows, columns) into the fewest boxes of 2^log_pixels, wide ones first.
  static Box best(int log_pixels, int64_t images, int64_t rows, int64_t columns, int64_t stride) {
    Box best{};
    int64_t fewest = -1;
    for (int w = log_pixels; w >= 0; --w)
      for (int h = log_pixels - w; h >= 0; --h) {
        const Box b{w, h, log_pixels - w - h};
        if ((stride << w) > 256 || (stride << h) > 256) continue;
        const int64_t count = b.count(images, 2) * b.count(rows, 1) * b.count(columns, 0);
        if (fewest < 0 || count < fewest) {
          fewest = count;
          best = b;
        }
      }
    return best;
  }
  int log(int axis) const { return axis == 0 ? w : axis == 1 ? h : n; }
  int64_t count(int64_t size, int axis) const { return ceil_div(size, int64_t(1) << log(axis)); }
};

// The boxes of an output of N images, P rows and Q columns, one after the other.
struct Pixels {
  Box box;
  int N, P, Q;
  int boxes_h, boxes_w, boxes;
  int stride, row_offset, column_offset;  // of the pixel of x under tap (0, 0): q * stride + column_offset
  int dilation_h, dilation_w, taps_w;

  struct Corner { int n, p, q; };
  __device__ Corner corner(int index) const {
    const int q = index % boxes_w, rest = index / boxes_w;
    return {rest / boxes_h << box.n, rest % boxes_h << box.h, q << box.w};
  }
  // 64 channels from c on of the box, shifted by a tap.
  __device__ void load(char* to, const TensorMap* map, PhaseBarrier* full, Corner at, int c, int tap) const {
    tma_load(to, map, full, c, at.q * stride + column_offset + tap % taps_w * dilation_w,
             at.p * stride + row_offset + tap / taps_w * dilation_h, at.n);
  }
};

struct PixelTile { int box, column, first, last; };

// y (N, K, P, Q) from x (N, H, W, C) and w (K, taps, C).
template <class Element, int kColumns> struct Forward {
  using T = Element;
  static constexpr bool kTransposeA = false, kTransposeB = false;
  static constexpr int kN = kColumns, kRow = 64 + 8;  // pixels of a channel in the writer's room, apart in banks
  TensorMap x_map, w_map;
  Pixels pixels;
  int K, columns, taps, slices_c;
  int run;  // pixels that are written in one access
  const T* bias;
  T* y;

  __host__ __device__ int tiles() const { return pixels.boxes * columns; }
  __device__ PixelTile tile(int index) const { return {index / columns, index % columns, 0, taps * slices_c}; }

  __device__ void load(char* a, char* b, PhaseBarrier* full, const PixelTile& t, int slice) const {
    const int tap = slice / slices_c, c = slice % slices_c * kK;
    pixels.load(a, &x_map, full, pixels.corner(t.box), c, tap);
    tma_load(b, &w_map, full, c, tap, t.column * kN);
  }

  __device__ void finish(float (&d)[kN / 2], const PixelTile& t, const Writer& w) const {
    T* room = reinterpret_cast<T*>(w.room);
    w.meet();  // the tile before has been read out
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) {
      const int c = w.column() + i / 4 * 8 + i % 2, k = t.column * kN + c;
      const float b = bias && k < K ? from_element<float>(bias[k]) : 0.0f;
      room[c * kRow + w.row() + i % 4 / 2 * 8] = to_element<T>(d[i] + b);
    }
    w.meet();
    switch (run) {
      case 8: return write<8>(room, t, w);
      case 4: return write<4>(room, t, w);
      case 2: return write<2>(room, t, w);
      default: return write<1>(room, t, w);
    }
  }
  template <int kRun> __device__ void write(const T* room, const PixelTile& t, const Writer& w) const {
    const auto corner = pixels.corner(t.box);
    const Box box = pixels.box;
    for (int i = w.thread; i < kN * 64 / kRun; i += 128) {
      const int c = i / (64 / kRun), at = i % (64 / kRun) * kRun, pixel = w.consumer * 64 + at, k = t.column * kN + c;
      const int q = corner.q + (pixel & ((1 << box.w) - 1)), p = corner.p + (pixel >> box.w & ((1 << box.h) - 1)),
                n = corner.n + (pixel >> (box.w + box.h));
      if (k >= K || q >= pixels.Q || p >= pixels.P || n >= pixels.N) continue;
      T* to = y + ((int64_t(n) * K + k) * pixels.P + p) * pixels.Q + q;
      store_pack<kRun>(to, load_pack<kRun>(room + c * kRow + at));
    }
  }
  __device__ void end(const Writer&) const {}
};

struct TapTile { int row, column, tap, split, first, last; };

// parts (split, tap, K, C) of dw; a slice is a box of 64 pixels.
template <class Element> struct WeightGrad {
  using T = Element;
  static constexpr bool kTransposeA = true, kTransposeB = true;
  static constexpr int kN = 128;
  TensorMap dy_map, x_map;
  Pixels pixels;
  int K, C, rows, columns, taps, splits;
  float* parts;

  __host__ __device__ int tiles() const { return rows * columns * taps * splits; }
  __device__ TapTile tile(int index) const {
    TapTile t;
    t.row = index % rows;
    index /= rows;
    t.column = index % columns;
    index /= columns;
    t.tap = index % taps;
    t.split = index / taps;
    const int each = (pixels.boxes + splits - 1) / splits, end = (t.split + 1) * each;
    t.first = t.split * each < pixels.boxes ? t.split * each : pixels.boxes;
    t.last = end < pixels.boxes ? end : pixels.boxes;
    return t;
  }

  __device__ void load(char* a, char* b, PhaseBarrier* full, const TapTile& t, int slice) const {
    const auto corner = pixels.corner(slice);
#pragma unroll
    for (int j = 0; j < kM / 64; ++j)
      tma_load(a + j * kBlock, &dy_map, full, t.row * kM + 64 * j, corner.q, corner.p, corner.n);
#pragma unroll
    for (int j = 0; j < kN / 64; ++j) pixels.load(b + j * kBlock, &x_map, full, corner, t.column * kN + 64 * j, t.tap);
  }

  __device__ void finish(float (&d)[kN / 2], const TapTile& t, const Writer& w) const {
    float* part = parts + (int64_t(t.split) * taps + t.tap) * K * C;
    const int row = t.row * kM + w.consumer * 64 + w.row(), column = t.column * kN + w.column();
#pragma unroll
    for (int i = 0; i < kN / 2; i += 2) {
      const int k = row + i % 4 / 2 * 8, c = column + i / 4 * 8;
      if (k < K && c < C) *reinterpret_cast<float2*>(part + int64_t(k) * C + c) = make_float2(d[i], d[i + 1]);
    }
  }
  __device__ void end(const Writer&) const {}
};

// dw (K, C, taps) from the parts, in their order.
template <class T>
__global__ void combine_parts_kernel(const float* __restrict__ parts, T* __restrict__ dw, int64_t channels, int taps,
                                     int splits, int64_t total) {
  for (int64_t i = first_item(); i < total; i += item_step()) {
    const int64_t tap = i % taps, kc = i / taps;
    float sum = 0;
    for (int s = 0; s < splits; ++s) sum += parts[(int64_t(s) * taps + tap) * channels + kc];
    store(dw + i, sum);
  }
}

// out = in with axes moved: out is dense, strides are in's, in elements of 16 bits.
void rearrange(void* out, const void* in, int64_t a, int64_t b, int64_t c, int64_t stride_a, int64_t stride_b,
               int64_t stride_c) {
  Loop<2> loop{};
  loop.ndim = 3;
  loop.numel = a * b * c;
  const int64_t shape[] = {a, b, c}, from[] = {stride_a, stride_b, stride_c}, to[] = {b * c, c, 1};
  for (int d = 0; d < 3; ++d) {
    loop.shape[d] = shape[d];
    loop.stride[0][d] = 2 * to[d];
    loop.stride[1][d] = 2 * from[d];
  }
  loop.data[0] = static_cast<char*>(out);
  loop.data[1] = static_cast<char*>(const_cast<void*>(in));
  loop.dtype[0] = loop.dtype[1] = DType::Int16;
  layout_kernels.copy(loop);
}
// (N, C, pixels) to (N, pixels, C).
void channels_last(void* out, const void* in, int64_t n, int64_t c, int64_t pixels) {
  rearrange(out, in, n, pixels, c, c * pixels, 1, pixels);
}

// x (N, H, W, C), in boxes of 64 channels and pixels at steps.
TensorMap image_map(DType dtype, const void* x, int64_t n, int64_t h, int64_t w, int64_t c, const Box& box,
                    int stride) {
  const int64_t size[] = {c, w, h, n}, strides[] = {c * 2, w * c * 2, h * w * c * 2};
  const int boxes[] = {64, 1 << box.w, 1 << box.h, 1 << box.n}, step[] = {1, stride, stride, 1};
  return make_tensor_map(dtype, x, 4, size, strides, boxes, true, step);
}

// Whether the products are large enough to be worth the way of channels to the inside and back.
bool suits(DType dtype, const ConvShape& s) {
  const int64_t taps = s.kernel[1] * s.kernel[2], pixels = s.batch * s.out[1] * s.out[2];
  return architecture() == 90 && is_half(dtype) && s.groups == 1 && s.in[0] == 1 && s.out[0] == 1 && s.kernel[0] == 1 &&
         s.pad[0] == 0 && s.stride[1] == s.stride[2] && s.stride[1] <= 2 && s.in_channels % 8 == 0 &&
         s.out_channels % 8 == 0 && s.in_channels >= 32 && s.out_channels >= 32 && pixels >= 128 &&
         pixels * taps < (int64_t(1) << 31) && s.in[1] * s.in[2] < (int64_t(1) << 28);
}

Pixels pixels_of(const Box& box, int64_t n, int64_t p, int64_t q, int64_t stride, const int64_t* pad,
                 const int64_t* dilation, int64_t taps_w) {
  const int64_t boxes_h = box.count(p, 1), boxes_w = box.count(q, 0);
  return {box,
          int(n),
          int(p),
          int(q),
          int(boxes_h),
          int(boxes_w),
          int(boxes_h * boxes_w * box.count(n, 2)),
          int(stride),
          int(-pad[1]),
          int(-pad[2]),
          int(dilation[1]),
          int(dilation[2]),
          int(taps_w)};
}

// y of n images of p rows and q columns and K channels; x (n, H, W, C) and w (K, taps, C) rearranged already.
template <class T, int kN>
void multiply(DType dtype, const Pixels& pixels, const void* x, int64_t h, int64_t w, const void* weight, int64_t c,
              int64_t k, int64_t taps, const void* bias, void* y) {
  const int64_t size[] = {c, taps, k}, strides[] = {c * 2, taps * c * 2};
  const int box[] = {64, 1, kN};
  int run = 8;
  while (run > 1 && (pixels.Q % run != 0 || !aligned(y, size_t(run) * 2) || (1 << pixels.box.w) % run != 0)) run /= 2;
  const Forward<T, kN> f{image_map(dtype, x, pixels.N, h, w, c, pixels.box, pixels.stride),
                         make_tensor_map(dtype, weight, 3, size, strides, box),
                         pixels,
                         int(k),
                         int(ceil_div(k, kN)),
                         int(taps),
                         int(ceil_div(c, kK)),
                         run,
                         static_cast<const T*>(bias),
                         static_cast<T*>(y)};
  start_product(f, f.tiles());
}

template <class... Arguments> void dispatch(DType dtype, int64_t k, Arguments... arguments) {
  auto with = [&]<class T>() {
    k <= 64 ? multiply<T, 64>(dtype, arguments...) : multiply<T, 128>(dtype, arguments...);
  };
  dtype == DType::Float16 ? with.template operator()<float16>() : with.template operator()<bfloat16>();
}

template <class T>
void weight_grad(DType dtype, const ConvShape& s, const Pixels& pixels, const void* x, const void* dy, void* dw) {
  const int64_t k = s.out_channels, c = s.in_channels, taps = s.kernel[1] * s.kernel[2];
  const int rows = int(ceil_div(k, kM)), columns = int(ceil_div(c, WeightGrad<T>::kN));
  const int splits = splits_for(rows * columns * taps, pixels.boxes);
  Scratch<float> parts(splits * taps * k * c);
  const WeightGrad<T> g{image_map(dtype, dy, s.batch, s.out[1], s.out[2], k, pixels.box, 1),
                        image_map(dtype, x, s.batch, s.in[1], s.in[2], c, pixels.box, pixels.stride),
                        pixels,
                        int(k),
                        int(c),
                        rows,
                        columns,
                        int(taps),
                        splits,
                        parts};
  start_product(g, g.tiles());
  launch(combine_parts_kernel<T>, grid_for(taps * k * c, 256), dim3(256), 0, parts.get(), static_cast<T*>(dw), k * c,
         int(taps), splits, taps * k * c);
}

}  // namespace

bool conv_forward_sm90(DType dtype, const ConvShape& s, const void* x, const void* w, const void* bias, void* y) {
  if (!suits(dtype, s)) return false;
  const int64_t c = s.in_channels, k = s.out_channels, taps = s.kernel[1] * s.kernel[2], area = s.in[1] * s.in[2];
  Scratch<uint16_t> images(s.batch * area * c), weights(k * taps * c);
  channels_last(images, x, s.batch, c, area);
  channels_last(weights, w, k, c, taps);
  const Box box = Box::best(7, s.batch, s.out[1], s.out[2], s.stride[1]);
  const Pixels pixels = pixels_of(box, s.batch, s.out[1], s.out[2], s.stride[1], s.pad, s.dilation, s.kernel[2]);
  dispatch(dtype, k, pixels, images.get(), s.in[1], s.in[2], weights.get(), c, k, taps, bias, y);
  return true;
}

bool conv_data_grad_sm90(DType dtype, const ConvShape& s, const void* dy, const void* w, const void* bias, void* dx) {
  if (!suits(dtype, s) || s.stride[1] != 1) return false;
  const int64_t c = s.in_channels, k = s.out_channels, taps = s.kernel[1] * s.kernel[2], area = s.out[1] * s.out[2];
  Scratch<uint16_t> images(s.batch * area * k), weights(k * taps * c);
  channels_last(images, dy, s.batch, k, area);
  // (K, C, taps) to (C, taps backwards, K)
  rearrange(weights, static_cast<const uint16_t*>(w) + taps - 1, c, taps, k, taps, -1, c * taps);
  const Box box = Box::best(7, s.batch, s.in[1], s.in[2], 1);
  const int64_t pad[] = {0, s.dilation[1] * (s.kernel[1] - 1) - s.pad[1], s.dilation[2] * (s.kernel[2] - 1) - s.pad[2]};
  const Pixels pixels = pixels_of(box, s.batch, s.in[1], s.in[2], 1, pad, s.dilation, s.kernel[2]);
  dispatch(dtype, c, pixels, images.get(), s.out[1], s.out[2], weights.get(), k, c, taps, bias, dx);
  return true;
}

bool conv_weight_grad_sm90(DType dtype, const ConvShape& s, const void* x, const void* dy, void* dw) {
  if (!suits(dtype, s)) return false;
  const int64_t c = s.in_channels, k = s.out_channels, in = s.in[1] * s.in[2], out = s.out[1] * s.out[2];
  Scratch<uint16_t> images(s.batch * in * c), gradients(s.batch * out * k);
  channels_last(images, x, s.batch, c, in);
  channels_last(gradients, dy, s.batch, k, out);
  const Box box = Box::best(6, s.batch, s.out[1], s.out[2], s.stride[1]);
  const Pixels pixels = pixels_of(box, s.batch, s.out[1], s.out[2], s.stride[1], s.pad, s.dilation, s.kernel[2]);
  if (dtype == DType::Float16)
    weight_grad<float16>(dtype, s, pixels, images, gradients, dw);
  else
    weight_grad<bfloat16>(dtype, s, pixels, images, gradients, dw);
  return true;
}

}  // namespace gg::cuda
