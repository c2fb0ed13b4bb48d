// Products on Hopper: C (M, N) = alpha A B + beta D, A (M, K), B (K, N), a batch of them, by the tiles of gemm_sm90.h.
//
// A finished tile leaves through shared memory by TMA. Tiles are visited in groups of 16 rows of tiles, so that blocks
// that run together share operands in the second-level cache. Where C has fewer tiles than the device multiprocessors,
// k is split: the parts' sums go to a workspace, and a second kernel adds them in order.
//
// float32 is split into three bfloat16 parts, x = x1 + x2 + x3 exactly but for the last bits; six of the nine products
// of parts matter. Tensor cores truncate as they add, so every slice's sum is added to the accumulators by ordinary
// float32 additions (Ootomo and Yokota 2022, "Recovering single precision accuracy from Tensor Cores").
#include "ops/matmul/matmul_sm90.h"

#include <utility>

#include "cuda/gemm_sm90.h"

namespace gg::cuda {
namespace {

using namespace sm90;

// What becomes of the accumulators.
struct Epilogue {
  float alpha, beta;
  const void* d;
  int64_t d_row, d_col, d_batch;

  template <class T> __device__ float of(float x, int batch, int64_t row, int64_t column) const {
    x *= alpha;
    if (beta != 0)
      x += beta * from_element<float>(static_cast<const T*>(d)[batch * d_batch + row * d_row + column * d_col]);
    return x;
  }
};

struct Tile { int row, column, batch, split, first, last; };

// The tiles of the problem, and the k-slices of each part of a split k.
struct Plan {
  int m, n;  // of the output
  int tiles_m, tiles_n, batch;
  int slices, splits;    // in all; a split has ceil(slices / splits)
  int a_batch, b_batch;  // 1, or 0 where one matrix serves the whole batch

  __host__ __device__ int tiles() const { return tiles_m * tiles_n * batch * splits; }
  __device__ Tile tile(int index) const {
    const int per_batch = tiles_m * tiles_n, group = 16;
    Tile t;
    t.split = index / (per_batch * batch);
    index -= t.split * per_batch * batch;
    t.batch = index / per_batch;
    index -= t.batch * per_batch;
    const int strip = index / (group * tiles_n), top = strip * group;
    const int rows = tiles_m - top < group ? tiles_m - top : group;
    index -= strip * group * tiles_n;
    t.row = top + index % rows;
    t.column = index / rows;
    const int each = (slices + splits - 1) / splits, end = (t.split + 1) * each;
    t.first = t.split * each < slices ? t.split * each : slices;
    t.last = end < slices ? end : slices;
    return t;
  }
};

// kSplit: sums go to the workspace `parts` (split, batch, M, N).
template <class Element, bool kA, bool kB, int kColumns, bool kSplit> struct Matmul {
  using T = Element;
  static constexpr bool kTransposeA = kA, kTransposeB = kB;
  static constexpr int kN = kColumns;
  TensorMap a_map, b_map, c_map;
  Plan plan;
  Epilogue epilogue;
  float* parts;

  __device__ int tiles() const { return plan.tiles(); }
  __device__ Tile tile(int index) const { return plan.tile(index); }

  __device__ void load(char* a, char* b, PhaseBarrier* full, const Tile& t, int slice) const {
    const int k = slice * kK, row = t.row * kM, column = t.column * kN;
    if constexpr (kA) {
      tma_load(a, &a_map, full, row, k, t.batch * plan.a_batch);
      tma_load(a + kBlock, &a_map, full, row + 64, k, t.batch * plan.a_batch);
    } else {
      tma_load(a, &a_map, full, k, row, t.batch * plan.a_batch);
    }
    if constexpr (kB) {
#pragma unroll
      for (int j = 0; j < kN / 64; ++j)
        tma_load(b + j * kBlock, &b_map, full, column + 64 * j, k, t.batch * plan.b_batch);
    } else {
      tma_load(b, &b_map, full, k, column, t.batch * plan.b_batch);
    }
  }

  __device__ void finish(float (&d)[kN / 2], const Tile& t, const Writer& w) const {
    const int row = t.row * kM + w.consumer * 64 + w.row(), column = t.column * kN + w.column();
    if constexpr (kSplit) {
      float* part = parts + (int64_t(t.split) * plan.batch + t.batch) * plan.m * plan.n;
#pragma unroll
      for (int i = 0; i < kN / 2; i += 2) {
        const int r = row + i % 4 / 2 * 8, c = column + i / 4 * 8;
        if (r >= plan.m || c >= plan.n) continue;
        *reinterpret_cast<float2*>(part + int64_t(r) * plan.n + c) = make_float2(d[i], d[i + 1]);  // n is even
      }
    } else {
      if (w.thread == 0) tma_store_wait_read<0>();
      w.meet();
#pragma unroll
      for (int i = 0; i < kN / 2; i += 2) {
        const int r = i % 4 / 2 * 8, c = i / 4 * 8;
        float low = d[i] * epilogue.alpha, high = d[i + 1] * epilogue.alpha;
        if (epilogue.beta != 0 && row + r < plan.m && column + c < plan.n) {
          low = epilogue.of<T>(d[i], t.batch, row + r, column + c);
          high = epilogue.of<T>(d[i + 1], t.batch, row + r, column + c + 1);
        }
        const int line = w.row() + r, at = c + w.column(), chunk = at % 64 / 8 ^ line % 8;
        store_pack<2>(reinterpret_cast<T*>(w.room + at / 64 * kBlock + line * 128 + chunk * 16) + at % 8,
                      Pack<T, 2>{to_element<T>(low), to_element<T>(high)});
      }
      fence_shared_for_async();
      w.meet();
      if (w.thread == 0) {
#pragma unroll
        for (int j = 0; j < kN / 64; ++j)
          tma_store(&c_map, w.room + j * kBlock, t.column * kN + 64 * j, t.row * kM + w.consumer * 64, t.batch);
        tma_store_commit();
      }
    }
  }
  __device__ void end(const Writer& w) const {
    if (!kSplit && w.thread == 0) tma_store_wait<0>();
  }
};

// C from the sums of the splits, in their order.
template <class T>
__global__ void combine_splits_kernel(const float* __restrict__ parts, T* __restrict__ c, int64_t c_row,
                                      int64_t c_batch, int64_t per_batch, int64_t n, int64_t total, int splits,
                                      const Epilogue e) {
  for (int64_t i = first_item(); i < total; i += item_step()) {
    float x = 0;
    for (int s = 0; s < splits; ++s) x += parts[s * total + i];
    const int64_t batch = i / per_batch, row = i % per_batch / n, column = i % n;
    store(c + batch * c_batch + row * c_row + column, e.of<T>(x, int(batch), row, column));
  }
}

// The three parts of a float, each its leading bits; infinities and NaNs stay in the first.
struct Parts { bfloat16 of[3]; };
__device__ inline Parts split(float x) {
  Parts p;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const uint32_t bits = __float_as_uint(x) & 0xffff0000u;
    p.of[i].bits = uint16_t(x != x ? 0x7fc0 : bits >> 16);
    x = i == 0 && !(x - x == 0) ? 0 : x - __uint_as_float(bits);
  }
  return p;
}

// x (batch, rows, k), by strides, as its parts: out[part][batch][rows][padded k], zero beyond k. Tiles of 32 by 32 pass
// through shared memory, so that whichever axis is dense is read along it.
struct SplitTile { float x[32][33]; };
__global__ void __launch_bounds__(256) split_kernel(const float* __restrict__ x, bfloat16* __restrict__ out, int rows,
                                                    int k, int padded, int64_t x_row, int64_t x_k, int64_t x_batch) {
  SplitTile& s = shared<SplitTile>();
  const int batch = blockIdx.z, lane = threadIdx.x % 32, line = threadIdx.x / 32;
  const bool along_k = x_k == 1;
  for (int i = line; i < 32; i += 8) {
    const int r = blockIdx.y * 32 + (along_k ? i : lane), c = blockIdx.x * 32 + (along_k ? lane : i);
    const float value = r < rows && c < k ? x[batch * x_batch + r * x_row + c * x_k] : 0.0f;
    s.x[along_k ? i : lane][along_k ? lane : i] = value;
  }
  __syncthreads();
  const int64_t part = int64_t(gridDim.z) * rows * padded;
  for (int i = line; i < 32; i += 8) {
    const int r = blockIdx.y * 32 + i, c = blockIdx.x * 32 + lane;
    if (r >= rows || c >= padded) continue;
    const Parts p = split(s.x[i][lane]);
    for (int j = 0; j < 3; ++j) out[j * part + (int64_t(batch) * rows + r) * padded + c] = p.of[j];
  }
}

constexpr int kFloatN = 128, kFloatStages = 2;
struct FloatTiles {
  alignas(1024) char a[kFloatStages][3][kM * kK * 2];
  char b[kFloatStages][3][kFloatN * kK * 2];
  Barriers<kFloatStages> barriers;
};

// float32 from parts (part * batch + batch index, rows, k), k-major.
// hot: no spills
__global__ void __launch_bounds__(kThreads, 1)
    matmul_sm90_float_kernel(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
                             const Plan p, const Epilogue e, int a_part, int b_part, float* __restrict__ c,
                             int64_t c_row, int64_t c_batch) {
  FloatTiles& s = shared<FloatTiles>();
  s.barriers.start();
  Ring<kFloatStages> ring;
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == 0) {
    registers_give<40>();
    if (threadIdx.x != 0) return;
    for (int index = blockIdx.x; index < p.tiles(); index += gridDim.x) {
      const Tile t = p.tile(index);
      for (int slice = t.first; slice < t.last; ++slice, ring.next()) {
        PhaseBarrier* full = &s.barriers.full[ring.stage];
        barrier_wait(&s.barriers.empty[ring.stage], ring.parity ^ 1);
        barrier_expect(full, 3 * (kM + kFloatN) * kK * 2);
#pragma unroll
        for (int i = 0; i < 3; ++i) {
          tma_load(s.a[ring.stage][i], &a_map, full, slice * kK, t.row * kM, i * a_part + t.batch * p.a_batch);
          tma_load(s.b[ring.stage][i], &b_map, full, slice * kK, t.column * kFloatN, i * b_part + t.batch * p.b_batch);
        }
      }
    }
    return;
  }
  registers_take<232>();
  const int consumer = warpgroup - 1, thread = threadIdx.x % 128, lane = thread % 32;
  for (int index = blockIdx.x; index < p.tiles(); index += gridDim.x) {
    const Tile t = p.tile(index);
    float sum[kFloatN / 2], d[kFloatN / 2];
#pragma unroll
    for (int i = 0; i < kFloatN / 2; ++i) sum[i] = 0;
    for (int slice = t.first; slice < t.last; ++slice, ring.next()) {
      barrier_wait(&s.barriers.full[ring.stage], ring.parity);
      wgmma_fence();
      // Pairs of parts, the smallest products first: (3,1) (2,2) (1,3) (2,1) (1,2) (1,1).
#pragma unroll
      for (int pair = 0; pair < 6; ++pair) {
        const int i = pair == 0                ? 2
                      : pair == 1 || pair == 3 ? 1
                                               : 0,
                  j = pair == 2                ? 2
                      : pair == 1 || pair == 4 ? 1
                                               : 0;
#pragma unroll
        for (int k = 0; k < kK / 16; ++k)
          wgmma<bfloat16>(d, tile_descriptor(s.a[ring.stage][i] + consumer * kBlock + k * 32, 1024),
                          tile_descriptor(s.b[ring.stage][j] + k * 32, 1024), pair > 0 || k > 0);
      }
      wgmma_commit();
      wgmma_wait<0>();
      if (lane == 0) barrier_arrive(&s.barriers.empty[ring.stage]);
#pragma unroll
      for (int i = 0; i < kFloatN / 2; ++i) sum[i] += d[i];
    }
    const int row = t.row * kM + consumer * 64 + thread / 32 * 16 + lane / 4,
              column = t.column * kFloatN + lane % 4 * 2;
    float* out = c + t.batch * c_batch;
#pragma unroll
    for (int i = 0; i < kFloatN / 2; ++i) {
      const int r = row + i % 4 / 2 * 8, q = column + i / 4 * 8 + i % 2;
      if (r < p.m && q < p.n) out[r * c_row + q] = e.of<float>(sum[i], t.batch, r, q);
    }
  }
}

// A matrix of the batch as TMA takes it: dense along one axis, 16-byte steps along the others.
struct Operand {
  const void* data;
  int64_t rows, k, row, col, batch;  // strides in elements
  bool transposed() const { return col != 1; }
  bool suits(int64_t matrices) const {
    const int64_t other = transposed() ? col : row;
    return (row == 1 || col == 1) && other % 8 == 0 && other > 0 && (matrices == 1 || batch % 8 == 0) &&
           aligned(data, 16);
  }
  TensorMap map(DType dtype, int64_t matrices, int box_rows) const {
    const bool t = transposed();
    const int64_t size[] = {t ? rows : k, t ? k : rows, batch ? matrices : 1};
    const int64_t strides[] = {(t ? col : row) * 2, (batch && matrices > 1 ? batch : (t ? col * k : row * rows)) * 2};
    const int box[] = {64, t ? 64 : box_rows, 1};
    return make_tensor_map(dtype, data, 3, size, strides, box);
  }
};

struct Product {
  DType dtype;
  Operand a, b;  // b by its columns: rows are those of B transposed
  Operand c;     // k is n
  Plan plan;
  Epilogue epilogue;
};

template <class T, bool kTransposeA, bool kTransposeB, int kN, bool kSplit> void start(const Product& x, float* parts) {
  const int matrices = x.plan.batch;
  const TensorMap a = x.a.map(x.dtype, matrices, kM), b = x.b.map(x.dtype, matrices, kN),
                  c = kSplit ? a : x.c.map(x.dtype, matrices, 64);
  start_product(Matmul<T, kTransposeA, kTransposeB, kN, kSplit>{a, b, c, x.plan, x.epilogue, parts}, x.plan.tiles());
}

template <class T, int kN, bool kSplit> void start_layout(const Product& x, float* parts) {
  if (x.a.transposed())
    x.b.transposed() ? start<T, true, true, kN, kSplit>(x, parts) : start<T, true, false, kN, kSplit>(x, parts);
  else
    x.b.transposed() ? start<T, false, true, kN, kSplit>(x, parts) : start<T, false, false, kN, kSplit>(x, parts);
}

template <class T> void multiply(Product& x) {
  x.plan.tiles_m = int(ceil_div(x.plan.m, kM));
  const int64_t strips = int64_t(x.plan.tiles_m) * x.plan.batch;
  const bool wide = strips * ceil_div(x.plan.n, 256) >= multiprocessors();
  x.plan.tiles_n = int(ceil_div(x.plan.n, wide ? 256 : 128));
  x.plan.splits = wide ? 1 : splits_for(strips * x.plan.tiles_n, x.plan.slices);
  if (x.plan.splits == 1)
    return wide ? start_layout<T, 256, false>(x, nullptr) : start_layout<T, 128, false>(x, nullptr);
  const int64_t per_batch = int64_t(x.plan.m) * x.plan.n, total = per_batch * x.plan.batch;
  Scratch<float> parts(total * x.plan.splits);
  start_layout<T, 128, true>(x, parts);
  launch(combine_splits_kernel<T>, grid_for(total, 256), dim3(256), 0, parts.get(),
         static_cast<T*>(const_cast<void*>(x.c.data)), x.c.row, x.c.batch, per_batch, int64_t(x.plan.n), total,
         x.plan.splits, x.epilogue);
}

void multiply_float(Product& x) {
  const int matrices = x.plan.batch;
  const int64_t padded = ceil_div(x.a.k, 8) * 8;
  Operand parts[2];
  const Operand* operands[] = {&x.a, &x.b};
  const int64_t a_matrices = x.a.batch ? matrices : 1, b_matrices = x.b.batch ? matrices : 1;
  Scratch<bfloat16> a(3 * a_matrices * x.a.rows * padded), b(3 * b_matrices * x.b.rows * padded);
  for (int i = 0; i < 2; ++i) {
    const Operand& o = *operands[i];
    bfloat16* out = i == 0 ? a.get() : b.get();
    const int64_t count = i == 0 ? a_matrices : b_matrices;
    launch(split_kernel, dim3(unsigned(ceil_div(padded, 32)), unsigned(ceil_div(o.rows, 32)), unsigned(count)),
           dim3(256), sizeof(SplitTile), static_cast<const float*>(o.data), out, int(o.rows), int(o.k), int(padded),
           o.row, o.col, o.batch);
    parts[i] = {out, o.rows, padded, padded, 1, o.rows * padded};
  }
  x.plan.tiles_m = int(ceil_div(x.plan.m, kM));
  x.plan.tiles_n = int(ceil_div(x.plan.n, kFloatN));
  x.plan.splits = 1;
  const int tiles = x.plan.tiles(), most = multiprocessors();
  launch(matmul_sm90_float_kernel, dim3(unsigned(tiles < most ? tiles : most)), dim3(kThreads), sizeof(FloatTiles),
         parts[0].map(DType::BFloat16, 3 * a_matrices, kM), parts[1].map(DType::BFloat16, 3 * b_matrices, kFloatN),
         x.plan, x.epilogue, int(a_matrices), int(b_matrices), static_cast<float*>(const_cast<void*>(x.c.data)),
         x.c.row, x.c.batch);
}

// The least work in multiplications for which splitting pays.
constexpr int64_t kFloatWork = int64_t(1) << 27;

}  // namespace

bool matmul_sm90(DType dtype, const MatmulProblem& given) {
  if (architecture() != 90 || given.batch_ndim > 1 || given.k == 0) return false;
  if (!is_half(dtype) && dtype != DType::Float32) return false;
  if (given.m >= (1 << 28) || given.n >= (1 << 28) || given.k >= (1 << 28)) return false;
  const int64_t batch = given.batch_ndim ? given.batch_shape[0] : 1;
  auto step = [&](const int64_t* strides) { return given.batch_ndim ? strides[0] : 0; };
  Operand a{given.a, given.m, given.k, given.a_row, given.a_col, step(given.a_batch)},
      b{given.b, given.n, given.k, given.b_col, given.b_row, step(given.b_batch)},
      c{given.c, given.m, given.n, given.c_row, given.c_col, step(given.c_batch)};
  Epilogue e{float(given.alpha), given.d ? float(given.beta) : 0, given.d, given.d_row, given.d_col,
             step(given.d_batch)};
  if (c.col != 1) {  // C transposed is B transposed times A transposed
    if (c.row != 1) return false;
    std::swap(a, b);
    std::swap(c.rows, c.k);
    std::swap(c.row, c.col);
    std::swap(e.d_row, e.d_col);
  }
  Product x{dtype, a, b, c, {}, e};
  x.plan = {int(c.rows), int(c.k), 0, 0, int(batch), int(ceil_div(a.k, kK)), 1, a.batch ? 1 : 0, b.batch ? 1 : 0};
  if (dtype == DType::Float32) {
    if (c.rows * c.k * a.k * batch < kFloatWork || c.rows < 64 || c.k < 64) return false;
    multiply_float(x);
    return true;
  }
  if (c.rows < 32 || c.k < 32 || c.k % 2 != 0 || !a.suits(batch) || !b.suits(batch) || !c.suits(batch)) return false;
  dtype == DType::Float16 ? multiply<float16>(x) : multiply<bfloat16>(x);
  return true;
}

}  // namespace gg::cuda
