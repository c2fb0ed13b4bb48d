// CUDA kernels of the matrix product for any GPU: tiles of cuda/gemm.h, products with a thin matrix, pairwise distances
// and inverses. matmul() chooses: Hopper's own kernels (matmul_sm90.cu), a pass over the large matrix where the other
// has up to 8 columns, tensor cores for 16-bit floats from sm_80 on, ordinary arithmetic.
#include "ops/matmul/matmul.h"

#include <math.h>

#include "cuda/block.h"
#include "cuda/gemm.h"
#include "ops/matmul/matmul_sm90.h"

namespace gg::cuda {
namespace {

struct BatchOffsets { int64_t a = 0, b = 0, c = 0, d = 0; };
__device__ inline BatchOffsets batch_offsets(const MatmulProblem& q, int64_t index) {
  BatchOffsets o;
  for (int i = q.batch_ndim - 1; i >= 0; --i) {
    const int64_t at = index % q.batch_shape[i];
    index /= q.batch_shape[i];
    o.a += at * q.a_batch[i];
    o.b += at * q.b_batch[i];
    o.c += at * q.c_batch[i];
    o.d += at * q.d_batch[i];
  }
  return o;
}

int64_t batch_of(const MatmulProblem& q) {
  int64_t count = 1;
  for (int i = 0; i < q.batch_ndim; ++i) count *= q.batch_shape[i];
  return count;
}

// How a matrix is read: which of its axes are lines, and whether 16 bytes of a line are one piece.
struct Reading {
  int64_t line, column;  // steps
  bool along_k, packed;
};

// `i` and `k` are the steps of the axes; those of size 1 have none that matters.
Reading reading_of(const void* data, DType t, int64_t i, int64_t i_size, int64_t k, int64_t k_size,
                   const int64_t* batch, int batch_ndim) {
  const int pack = 16 / item_size(t);
  auto can_pack = [&](int64_t line, int64_t lines, int64_t column) {
    bool fits = column == 1 && aligned(data, 16) && (lines == 1 || line % pack == 0);
    for (int d = 0; d < batch_ndim; ++d) fits = fits && batch[d] % pack == 0;
    return fits;
  };
  const bool packed_k = can_pack(i, i_size, k), packed_i = can_pack(k, k_size, i);
  auto size = [](int64_t step) { return step < 0 ? -step : step; };
  const bool along_k = packed_i || (!packed_k && i_size > 1 && (k_size == 1 || size(i) < size(k)));
  return along_k ? Reading{k, i, true, packed_i} : Reading{i, k, false, packed_k};
}

MatmulProblem transposed(const MatmulProblem& q) {
  MatmulProblem t = q;
  t.m = q.n, t.n = q.m;
  t.a = q.b, t.a_row = q.b_col, t.a_col = q.b_row;
  t.b = q.a, t.b_row = q.a_col, t.b_col = q.a_row;
  t.c_row = q.c_col, t.c_col = q.c_row;
  t.d_row = q.d_col, t.d_col = q.d_row;
  for (int i = 0; i < q.batch_ndim; ++i) {
    t.a_batch[i] = q.b_batch[i];
    t.b_batch[i] = q.a_batch[i];
  }
  return t;
}

// One product of a batch.
template <class T> struct Product {
  using C = compute_t<T>;
  int64_t m, n, k;
  Factor<T> a, b;
  C alpha, beta;
  const T* d;
  T* c;
  int64_t d_row, d_col, c_row, c_col;
  bool c_packed, d_packed;

  template <int kN> __device__ void store(int64_t row, int64_t column, const C (&v)[kN]) const {
    if (row >= m) return;
    T* const to = c + row * c_row + column * c_col;
    const T* const addend = d ? d + row * d_row + column * d_col : nullptr;
    if constexpr (kN % kPack<T> == 0) {
      if (c_packed && column + kN <= n) {
#pragma unroll
        for (int i = 0; i < kN; i += kPack<T>) {
          Pack<T, kPack<T>> pack = {}, out;
          if (addend && d_packed) pack = load_pack<kPack<T>>(addend + i);
#pragma unroll
          for (int j = 0; j < kPack<T>; ++j) {
            C x = alpha * v[i + j];
            if (addend) x += beta * from_element<C>(d_packed ? pack[j] : addend[(i + j) * d_col]);
            out[j] = to_element<T>(x);
          }
          store_pack(to + i, out);
        }
        return;
      }
    }
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      if (column + j >= n) continue;
      C x = alpha * v[j];
      if (addend) x += beta * cuda::load(addend + j * d_col);
      cuda::store(to + j * c_col, x);
    }
  }
};

template <class T> struct Problem {
  MatmulProblem q;
  Reading a, b;
  bool c_packed, d_packed;

  Problem(DType t, const MatmulProblem& given) : q(given) {
    a = reading_of(q.a, t, q.a_row, q.m, q.a_col, q.k, q.a_batch, q.batch_ndim);
    b = reading_of(q.b, t, q.b_col, q.n, q.b_row, q.k, q.b_batch, q.batch_ndim);
    c_packed = reading_of(q.c, t, q.c_row, q.m, q.c_col, 2, q.c_batch, q.batch_ndim).packed && q.c_col == 1;
    d_packed = q.d && q.d_col == 1 && reading_of(q.d, t, q.d_row, q.m, 1, 2, q.d_batch, q.batch_ndim).packed;
  }
  __device__ Product<T> at(int64_t batch) const {
    const BatchOffsets o = batch_offsets(q, batch);
    const T* d = static_cast<const T*>(q.d);
    return {q.m,
            q.n,
            q.k,
            {static_cast<const T*>(q.a), o.a, {a.line}, {a.column}, a.along_k, a.packed},
            {static_cast<const T*>(q.b), o.b, {b.line}, {b.column}, b.along_k, b.packed},
            compute_t<T>(q.alpha),
            compute_t<T>(q.beta),
            d ? d + o.d : nullptr,
            static_cast<T*>(q.c) + o.c,
            q.d_row,
            q.d_col,
            q.c_row,
            q.c_col,
            c_packed,
            d_packed};
  }
};

// Factors and products of any dtype, element by element: whole numbers in 64 bits, whose sums wrap as two's complement
// does and whose low bits the result keeps, and 16-bit floats in float32.
template <class C> __device__ inline C load_any(const void* p, int64_t i, DType t) {
  if constexpr (kWhole<C>) {
    switch (t) {
      case DType::UInt8: return static_cast<const uint8_t*>(p)[i];
      case DType::Int8: return C(int64_t(static_cast<const int8_t*>(p)[i]));
      case DType::Int16: return C(int64_t(static_cast<const int16_t*>(p)[i]));
      case DType::Int32: return C(int64_t(static_cast<const int32_t*>(p)[i]));
      default: return C(static_cast<const int64_t*>(p)[i]);
    }
  } else {
    return t == DType::Float16 ? to_float(static_cast<const float16*>(p)[i])
                               : to_float(static_cast<const bfloat16*>(p)[i]);
  }
}
template <class C> __device__ inline void store_any(void* p, int64_t i, DType t, C x) {
  if constexpr (kWhole<C>) {
    switch (t) {
      case DType::UInt8: static_cast<uint8_t*>(p)[i] = uint8_t(x); break;
      case DType::Int8: static_cast<int8_t*>(p)[i] = int8_t(x); break;
      case DType::Int16: static_cast<int16_t*>(p)[i] = int16_t(x); break;
      case DType::Int32: static_cast<int32_t*>(p)[i] = int32_t(x); break;
      default: static_cast<int64_t*>(p)[i] = int64_t(x);
    }
  } else if (t == DType::Float16) {
    static_cast<float16*>(p)[i] = to_float16(x);
  } else {
    static_cast<bfloat16*>(p)[i] = to_bfloat16(x);
  }
}

struct AnyFactor {
  const void* data;
  int64_t offset;
  Linear lines, columns;
  bool along_k;
  DType dtype;
  static constexpr bool packed = true, kPadded = false;

  template <int kN, class C> __device__ void load(int64_t at, C (&v)[kN]) const { load(at, kN, v); }
  template <int kN, class C> __device__ void load(int64_t at, int64_t valid, C (&v)[kN]) const {
#pragma unroll
    for (int j = 0; j < kN; ++j, at += columns.apart()) v[j] = j < valid ? load_any<C>(data, at, dtype) : C(0);
  }
};

template <class C> struct AnyProduct {
  int64_t m, n, k;
  AnyFactor a, b;
  const MatmulProblem& q;
  BatchOffsets at;

  template <int kN> __device__ void store(int64_t row, int64_t column, const C (&v)[kN]) const {
    if (row >= m) return;
    const DType t = a.dtype;
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      if (column + j >= n) continue;
      C x = factor(q.alpha) * v[j];
      if (q.d) x += factor(q.beta) * load_any<C>(q.d, at.d + row * q.d_row + (column + j) * q.d_col, t);
      store_any(q.c, at.c + row * q.c_row + (column + j) * q.c_col, t, x);
    }
  }
  static __device__ C factor(double x) {
    if constexpr (kWhole<C>)
      return C(int64_t(x));
    else
      return C(x);
  }
};

template <class C> struct AnyProblem {
  MatmulProblem q;
  DType dtype;
  Reading a, b;

  AnyProblem(DType t, const MatmulProblem& given) : q(given), dtype(t) {
    a = reading_of(q.a, t, q.a_row, q.m, q.a_col, q.k, q.a_batch, q.batch_ndim);
    b = reading_of(q.b, t, q.b_col, q.n, q.b_row, q.k, q.b_batch, q.batch_ndim);
  }
  __device__ AnyProduct<C> at(int64_t batch) const {
    const BatchOffsets o = batch_offsets(q, batch);
    return {q.m,
            q.n,
            q.k,
            {q.a, o.a, {a.line}, {a.column}, a.along_k, dtype},
            {q.b, o.b, {b.line}, {b.column}, b.along_k, dtype},
            q,
            o};
  }
};

Extent extent_of(const MatmulProblem& q) { return {q.m, q.n, q.k, batch_of(q)}; }

void multiply_float(const MatmulProblem& q) {
  const Problem<float> problem(DType::Float32, q);
  const Extent e = extent_of(q);
  const TileChoice choice = choose_tile({{128, 16, 110}, {64, 16, 80}, {32, 16, 40}}, e);
  switch (choice.size) {
    case 128: return multiply<SimtTile<float, 128, 8, 8>>(problem, e, choice.splits);
    case 64: return multiply<SimtTile<float, 64, 8, 4>>(problem, e, choice.splits);
    default: return multiply<SimtTile<float, 32, 4, 4>>(problem, e, choice.splits);
  }
}

template <class T, bool kAlongA, bool kAlongB> void multiply_halves(const Problem<T>& problem) {
  const Extent e = extent_of(problem.q);
  const TileChoice choice = choose_tile({{128, 32, 1000}, {64, 32, 600}}, e);
  if (choice.size == 128)
    multiply<TensorTile<T, 128, 128, 64, 64, kAlongA, kAlongB>>(problem, e, choice.splits);
  else
    multiply<TensorTile<T, 64, 64, 32, 32, kAlongA, kAlongB>>(problem, e, choice.splits);
}
template <class T> void multiply_halves(DType t, const MatmulProblem& q) {
  const Problem<T> problem(t, q);
  if (problem.a.along_k)
    problem.b.along_k ? multiply_halves<T, true, true>(problem) : multiply_halves<T, true, false>(problem);
  else
    problem.b.along_k ? multiply_halves<T, false, true>(problem) : multiply_halves<T, false, false>(problem);
}

// Numbers without a fast path of their own.
template <class C, class AProblem> void multiply_plainly(const AProblem& problem) {
  const Extent e = extent_of(problem.q);
  multiply<SimtTile<C, 64, 8, 4>>(problem, e, choose_tile({{64, 16, 20}}, e).splits);
}

// Up to kThin columns of B: A is read once, 16 bytes a lane, and sums stay in registers.
constexpr int kThin = 8;
constexpr int kThinThreads = 128;

// Rows of A lie along k: a warp has four rows, its lanes go along k. B passes through shared memory, kPanel of its rows
// at a time, columns side by side; the 16-byte pieces that a lane needs are so placed that the lanes' n-th pieces
// follow each other.
template <class T, int kN> struct ThinRows {
  using C = compute_t<T>;
  static constexpr int kPanel = 1024, kVec = kPack<T>, kPiece = kPack<C>, kRows = kThinThreads / 32 * 4;
  C y[kN][kPanel];
  static __device__ int place(int k) {
    return k % kVec / kPiece * (kPanel / kVec * kPiece) + k / kVec * kPiece + k % kPiece;
  }
};
// hot: no spills
template <class T, int kN>
__global__ void __launch_bounds__(kThinThreads, 3)
    thin_rows_kernel(const __grid_constant__ Problem<T> problem, const __grid_constant__ Partition part) {
  using C = compute_t<T>;
  using Shared = ThinRows<T, kN>;
  constexpr int kVec = kPack<T>, kPanel = Shared::kPanel;
  Shared& s = shared<Shared>();
  const auto at = part.place();
  const auto p = problem.at(at.batch);
  const int lane = threadIdx.x % 32;
  const int64_t row0 = at.row * Shared::kRows + threadIdx.x / 32 * 4;
  const int64_t per_split = (p.k + part.splits * kVec - 1) / (part.splits * kVec) * kVec, k0 = at.split * per_split;
  const int64_t k1 = k0 + per_split < p.k ? k0 + per_split : p.k;
  C sums[4][kN] = {};
  for (int64_t panel = k0; panel < k1; panel += kPanel) {
    const int depth = k1 - panel < kPanel ? int(k1 - panel) : kPanel, filled = (depth + kVec - 1) / kVec * kVec;
    __syncthreads();
    for (int i = threadIdx.x; i < filled * kN; i += kThinThreads) {
      const int k = p.b.along_k ? i / kN : i % filled, j = p.b.along_k ? i % kN : i / filled;
      const int64_t line = p.b.along_k ? panel + k : j, column = p.b.along_k ? j : panel + k;
      const bool exists = k < depth && j < p.n;
      s.y[j][Shared::place(k)] = exists ? load(p.b.data + p.b.at(line, column)) : C(0);
    }
    __syncthreads();
    for (int k = lane * kVec; k < depth; k += 32 * kVec) {
      C x[4][kVec];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const bool exists = row0 + r < p.m;
        p.a.load(exists ? p.a.at(row0 + r, panel + k) : 0, exists ? depth - k : 0, x[r]);
      }
#pragma unroll
      for (int j = 0; j < kN; ++j)
#pragma unroll
        for (int i = 0; i < kVec; i += Shared::kPiece) {
          const auto y = load_pack<Shared::kPiece>(&s.y[j][Shared::place(k + i)]);
#pragma unroll
          for (int r = 0; r < 4; ++r)
#pragma unroll
            for (int l = 0; l < Shared::kPiece; ++l) sums[r][j] += x[r][i + l] * y[l];
        }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int j = 0; j < kN; ++j) sums[r][j] = warp_reduce<Sum>(sums[r][j]);
  if (lane != 0) return;
  C* const parts = static_cast<C*>(part.parts) + part.part_at(at.split, at.batch);
#pragma unroll
  for (int r = 0; r < 4; ++r)
    if (part.splits == 1)
      p.store(row0 + r, 0, sums[r]);
    else
      PartOfProduct<C>{parts, p.m, p.n, part.n}.store(row0 + r, 0, sums[r]);
}

// Rows of A lie along m: lanes have neighbouring rows, the warps of a block share out k.
template <class T, int kN> struct ThinColumns {
  static constexpr int kRows = 32 * kPack<T>, kWarps = kThinThreads / 32;
  compute_t<T> sums[kWarps][kN][kRows];
};
// hot: no spills
template <class T, int kN>
__global__ void __launch_bounds__(kThinThreads, 3)
    thin_columns_kernel(const __grid_constant__ Problem<T> problem, const __grid_constant__ Partition part) {
  using C = compute_t<T>;
  using Shared = ThinColumns<T, kN>;
  constexpr int kVec = kPack<T>;
  Shared& s = shared<Shared>();
  const auto at = part.place();
  const auto p = problem.at(at.batch);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t row0 = at.row * Shared::kRows, row = row0 + lane * kVec;
  const int64_t per_split = (p.k + part.splits - 1) / part.splits, k0 = at.split * per_split;
  const int64_t k1 = k0 + per_split < p.k ? k0 + per_split : p.k;
  const int64_t b_k = p.b.along_k ? p.b.lines.step : p.b.columns.step;
  const int64_t b_n = p.b.along_k ? p.b.columns.step : p.b.lines.step;
  C sums[kVec][kN] = {};
#pragma unroll 2
  for (int64_t k = k0 + warp; k < k1; k += Shared::kWarps) {
    C x[kVec];
    p.a.load(p.a.at(k, row), p.m - row, x);
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      if (j >= p.n) continue;
      const C y = load(p.b.data + p.b.offset + k * b_k + j * b_n);
#pragma unroll
      for (int i = 0; i < kVec; ++i) sums[i][j] += x[i] * y;
    }
  }
#pragma unroll
  for (int i = 0; i < kVec; ++i)
#pragma unroll
    for (int j = 0; j < kN; ++j) s.sums[warp][j][lane * kVec + i] = sums[i][j];
  __syncthreads();
  C* const parts = static_cast<C*>(part.parts) + part.part_at(at.split, at.batch);
  for (int r = threadIdx.x; r < Shared::kRows; r += kThinThreads) {
    C total[kN];
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      total[j] = s.sums[0][j][r];
      for (int w = 1; w < Shared::kWarps; ++w) total[j] += s.sums[w][j][r];
    }
    if (part.splits == 1)
      p.store(row0 + r, 0, total);
    else
      PartOfProduct<C>{parts, p.m, p.n, part.n}.store(row0 + r, 0, total);
  }
}

template <class T, int kN> void multiply_thin(const Problem<T>& problem) {
  using C = compute_t<T>;
  const Extent e = extent_of(problem.q);
  const bool columns = problem.a.along_k;
  const int rows = columns ? ThinColumns<T, kN>::kRows : ThinRows<T, kN>::kRows;
  // A part of K must be long enough to be worth a second kernel.
  const int64_t tiles = ceil_div(e.m, rows), least = columns ? 256 : 128 * kPack<T>;
  int64_t splits = 1;
  while (tiles * e.batch * splits < 2 * multiprocessors() && e.k / (2 * splits) >= least) splits *= 2;
  Scratch<C> parts(splits > 1 ? splits * e.batch * e.m * e.n : 0);
  Partition part{tiles, 1, splits, 0, e.m, e.n, e.batch, parts.get()};
  const int64_t most = ((int64_t(1) << 31) - 1) / (tiles * splits);
  for (; part.first_batch < e.batch; part.first_batch += most) {
    const int64_t batch = e.batch - part.first_batch < most ? e.batch - part.first_batch : most;
    const dim3 grid(unsigned(tiles * splits * batch));
    if (columns)
      launch(thin_columns_kernel<T, kN>, grid, dim3(kThinThreads), sizeof(ThinColumns<T, kN>), problem, part);
    else
      launch(thin_rows_kernel<T, kN>, grid, dim3(kThinThreads), sizeof(ThinRows<T, kN>), problem, part);
  }
  if (splits > 1)
    launch(combine_parts_kernel<C, Problem<T>>, grid_for(e.batch * e.m * e.n, 256), dim3(256), 0, problem, part);
}

void matmul(DType t, const MatmulProblem& given) {
  if (!is_floating(t)) return multiply_plainly<uint64_t>(AnyProblem<uint64_t>(t, given));
  if (given.m <= kThin || given.n <= kThin) {
    const MatmulProblem q = given.n <= given.m ? given : transposed(given);
    return dispatch_floating(t, [&]<class T>() {
      const Problem<T> problem(t, q);
      q.n == 1 ? multiply_thin<T, 1>(problem) : multiply_thin<T, kThin>(problem);
    });
  }
  if (matmul_sm90 && matmul_sm90(t, given)) return;
  const MatmulProblem q = given.c_col == 1 ? given : transposed(given);
  if (t == DType::Float32) return multiply_float(q);
  if (t == DType::Float64) return multiply_plainly<double>(Problem<double>(t, q));
  if (architecture() < 80) return multiply_plainly<float>(AnyProblem<float>(t, q));
  t == DType::Float16 ? multiply_halves<float16>(t, q) : multiply_halves<bfloat16>(t, q);
}

// Distances: a block has 32 x 32 of them, a thread 2 x 2, over slices of 32 coordinates in shared memory.
enum class Norm { Count, Sum, Euclidean, Max, Power };
Norm norm_of(double p) {
  return p == 0 ? Norm::Count : p == 1 ? Norm::Sum : p == 2 ? Norm::Euclidean : p == HUGE_VAL ? Norm::Max : Norm::Power;
}

// One coordinate's share of a distance, and the distance of the sum of shares.
template <Norm kNorm, class C> __device__ inline C add_share(C sum, C diff, double p) {
  const C size = diff < C(0) ? -diff : diff;
  if constexpr (kNorm == Norm::Count) return sum + (diff != C(0) ? C(1) : C(0));
  if constexpr (kNorm == Norm::Sum) return sum + size;
  if constexpr (kNorm == Norm::Euclidean) return sum + diff * diff;
  if constexpr (kNorm == Norm::Max) return size > sum || size != size ? size : sum;
  if constexpr (kNorm == Norm::Power) return sum + C(pow(double(size), p));
}
template <class C> __device__ inline C distance_of(Norm norm, C sum, double p) {
  if (norm == Norm::Euclidean) return C(sqrt(double(sum)));
  return norm == Norm::Power ? C(pow(double(sum), 1 / p)) : sum;
}

constexpr int kDistances = 32;
template <class C> struct DistanceTile { C x[kDistances][kDistances + 1], y[kDistances][kDistances + 1]; };

template <Norm kNorm, class C>
__device__ inline void add_slice(const DistanceTile<C>& s, int count, double p, C (&sums)[2][2]) {
  const int row = threadIdx.x / 16, column = threadIdx.x % 16;
  for (int u = 0; u < count; ++u)
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j)
        sums[i][j] = add_share<kNorm>(sums[i][j], s.x[row + 16 * i][u] - s.y[column + 16 * j][u], p);
}

template <class T>
__global__ void __launch_bounds__(256)
    cdist_forward_kernel(Norm norm, double p, const T* __restrict__ x, const T* __restrict__ y, T* __restrict__ out,
                         int64_t m, int64_t n, int64_t t, int64_t tiles_m, int64_t tiles_n, int64_t tiles) {
  using C = compute_t<T>;
  auto& s = shared<DistanceTile<C>>();
  const int lane = threadIdx.x % 32, line = threadIdx.x / 32;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t b = tile / (tiles_m * tiles_n), i0 = tile / tiles_n % tiles_m * kDistances,
                  j0 = tile % tiles_n * kDistances;
    C sums[2][2] = {};
    for (int64_t u0 = 0; u0 < t; u0 += kDistances) {
      __syncthreads();
      for (int r = line; r < kDistances; r += 8) {
        const int64_t u = u0 + lane;
        s.x[r][lane] = i0 + r < m && u < t ? load(x + (b * m + i0 + r) * t + u) : C(0);
        s.y[r][lane] = j0 + r < n && u < t ? load(y + (b * n + j0 + r) * t + u) : C(0);
      }
      __syncthreads();
      const int count = t - u0 < kDistances ? int(t - u0) : kDistances;
      switch (norm) {
        case Norm::Count: add_slice<Norm::Count>(s, count, p, sums); break;
        case Norm::Sum: add_slice<Norm::Sum>(s, count, p, sums); break;
        case Norm::Euclidean: add_slice<Norm::Euclidean>(s, count, p, sums); break;
        case Norm::Max: add_slice<Norm::Max>(s, count, p, sums); break;
        case Norm::Power: add_slice<Norm::Power>(s, count, p, sums); break;
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int64_t row = i0 + threadIdx.x / 16 + 16 * i, column = j0 + threadIdx.x % 16 + 16 * j;
        if (row < m && column < n) store(out + (b * m + row) * n + column, distance_of(norm, sums[i][j], p));
      }
  }
}

void cdist_forward(DType dtype, double p, const void* x, const void* y, void* out, int64_t batch, int64_t m, int64_t n,
                   int64_t t) {
  const int64_t tiles_m = ceil_div(m, kDistances), tiles_n = ceil_div(n, kDistances), tiles = batch * tiles_m * tiles_n;
  dispatch_floating(dtype, [&]<class T>() {
    launch(cdist_forward_kernel<T>, grid_for(tiles, 1), dim3(256), sizeof(DistanceTile<compute_t<T>>), norm_of(p), p,
           static_cast<const T*>(x), static_cast<const T*>(y), static_cast<T*>(out), m, n, t, tiles_m, tiles_n, tiles);
  });
}

// d out / d x_u = sign(x_u - y_u) (|x_u - y_u| / out)^(p - 1), 0 where out is 0. For p = inf only the largest
// coordinate counts (all of them, where several are); for p = 0 nothing does. The distance was rounded to T, and so is
// the coordinate that is compared with it.
template <class T, class C = compute_t<T>> __device__ inline C distance_slope(Norm norm, double p, C diff, C dist) {
  if (dist == C(0) || norm == Norm::Count) return 0;
  const C size = diff < C(0) ? -diff : diff, sign = diff > C(0) ? C(1) : diff < C(0) ? C(-1) : C(0);
  if (norm == Norm::Sum) return sign;
  if (norm == Norm::Euclidean) return diff / dist;
  if (norm == Norm::Max) return from_element<C>(to_element<T>(size)) == dist ? sign : C(0);
  return diff == C(0) ? C(0) : sign * C(pow(double(size / dist), p - 1));
}

// A block has one row of x and up to 32 of its coordinates; its threads share out the rows of y, whose sums are then
// added in order.
template <class C> struct SlopeSums { C of[256]; };
template <class T>
__global__ void __launch_bounds__(256, 4)
    cdist_backward_kernel(Norm norm, double p, const T* __restrict__ dout, const T* __restrict__ x,
                          const T* __restrict__ y, const T* __restrict__ out, T* __restrict__ dx, int64_t m, int64_t n,
                          int64_t t, int64_t out_row, int64_t out_col, int width, int64_t pieces, int64_t items) {
  using C = compute_t<T>;
  C* const sums = shared<SlopeSums<C>>().of;
  const int lane = threadIdx.x % width, part = threadIdx.x / width, parts = blockDim.x / width;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t row = item / pieces, b = row / m, i = row % m, u = item % pieces * width + lane;
    C sum = 0;
    if (u < t) {
      const C mine = load(x + row * t + u);
      for (int64_t j = part; j < n; j += parts) {
        const int64_t at = b * m * n + i * out_row + j * out_col;
        const C slope = distance_slope<T>(norm, p, mine - load(y + (b * n + j) * t + u), load(out + at));
        sum += load(dout + at) * slope;
      }
    }
    __syncthreads();
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (part == 0 && u < t) {
      for (int q = 1; q < parts; ++q) sum += sums[q * width + lane];
      store(dx + row * t + u, sum);
    }
  }
}

void cdist_backward(DType dtype, double p, const void* dout, const void* x, const void* y, const void* out, void* dx,
                    int64_t batch, int64_t m, int64_t n, int64_t t, int64_t out_row, int64_t out_col) {
  int width = 1;
  while (width < 32 && width < t) width *= 2;
  const int64_t pieces = ceil_div(t, width), items = batch * m * pieces;
  dispatch_floating(dtype, [&]<class T>() {
    launch(cdist_backward_kernel<T>, grid_for(items, 1), dim3(256), sizeof(SlopeSums<compute_t<T>>), norm_of(p), p,
           static_cast<const T*>(dout), static_cast<const T*>(x), static_cast<const T*>(y), static_cast<const T*>(out),
           static_cast<T*>(dx), m, n, t, out_row, out_col, width, pieces, items);
  });
}

// Gauss and Jordan with row exchanges, in double: [A | I] becomes [I | A^-1] column by column, the largest element as
// pivot. A block has one matrix of the batch at a time, in global memory; two tables of its own hold the pivot's row
// and column, which every step reads and changes.
struct Candidate {
  double size;  // -1 for none
  int64_t row;
};
struct Larger {  // the upper of equals
  static __device__ Candidate of(Candidate a, Candidate b) {
    return b.size > a.size || (b.size == a.size && b.row < a.row) ? b : a;
  }
};
struct Pivots { Candidate of[8]; };

template <class T>
__global__ void __launch_bounds__(256) inverse_kernel(const T* __restrict__ a, T* __restrict__ out, double* work,
                                                      int* singular, int64_t batch, int64_t n) {
  Candidate* const parts = shared<Pivots>().of;
  const int64_t width = 2 * n;
  double* const table = work + blockIdx.x * (n * width + n);  // rows of [A | I]
  double* const column = table + n * width;
  for (int64_t b = blockIdx.x; b < batch; b += gridDim.x) {
    for (int64_t i = threadIdx.x; i < n * width; i += blockDim.x) {
      const int64_t row = i / width, at = i % width;
      table[i] = at < n ? double(a[(b * n + row) * n + at]) : at - n == row ? 1.0 : 0.0;
    }
    __syncthreads();
    bool fine = true;
    for (int64_t k = 0; k < n && fine; ++k) {
      Candidate best{-1, n};
      for (int64_t i = k + threadIdx.x; i < n; i += blockDim.x) {
        const double size = fabs(table[i * width + k]);
        // A NaN is passed over, but in row k nothing is larger.
        best = Larger::of(best, {size == size ? size : i == k ? HUGE_VAL : -1.0, i});
      }
      const int64_t pivot = block_reduce<Larger>(best, parts).row;
      const double x = table[pivot * width + k];
      fine = x != 0;
      if (!fine) continue;
      __syncthreads();
      for (int64_t j = threadIdx.x; j < width; j += blockDim.x) {
        const double top = table[pivot * width + j];
        table[pivot * width + j] = table[k * width + j];
        table[k * width + j] = top / x;
      }
      __syncthreads();
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x) column[i] = i == k ? 0 : table[i * width + k];
      __syncthreads();
      for (int64_t i = threadIdx.x; i < n * width; i += blockDim.x) {
        const double y = column[i / width];
        if (y != 0) table[i] -= y * table[k * width + i % width];
      }
      __syncthreads();
    }
    if (!fine && threadIdx.x == 0) atomicOr(singular, 1);
    if (fine)
      for (int64_t i = threadIdx.x; i < n * n; i += blockDim.x)
        store(out + b * n * n + i, table[i / n * width + n + i % n]);
    __syncthreads();
  }
}

bool inverse(DType dtype, const void* a, void* out, int64_t batch, int64_t n) {
  const dim3 grid = grid_for(batch, 1, 4);
  Scratch<double> work(int64_t(grid.x) * (2 * n * n + n));
  Scratch<int> singular(1);
  zero(singular, sizeof(int));
  auto run = [&]<class T>(T) {
    launch(inverse_kernel<T>, grid, dim3(256), sizeof(Pivots), static_cast<const T*>(a), static_cast<T*>(out),
           work.get(), singular.get(), batch, n);
  };
  dtype == DType::Float64 ? run(double()) : run(float());
  return read(singular.get()) == 0;
}

}  // namespace

const MatmulKernels matmul_kernels = {matmul, cdist_forward, cdist_backward, inverse};

}  // namespace gg::cuda
