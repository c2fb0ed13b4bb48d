// Tiles of matrix products, for matmul and convolution: C (M, N) = A (M, K) B (K, N), one or a batch of them.
//
// A block owns a tile of C. Slices of A and B pass through shared memory, the next ones on their way while one is
// multiplied: in SimtTile by ordinary arithmetic, up to 8 by 8 sums a thread; in TensorTile by mma.sync, fed by
// asynchronous copies. Where C has too few tiles for the device, K is split: parts go to a workspace, and a second
// kernel adds them in order. Tiles of warps and threads after CUTLASS, "Efficient GEMM in CUDA".
//
// A problem says what is multiplied and what becomes of the sums: problem.at(batch) is a product with sizes m, n and k,
// factors a and b, and store<N>(row, column, sums), which takes N columns and ignores those beyond n.
#pragma once
#include "cuda/launch.h"
#include "cuda/number.h"
#include "cuda/ptx.h"

namespace gg::cuda {

// A factor is lines of columns: element (l, c) lies at data[offset + lines.at(l) + columns.at(c)]. Lines run along m
// (or n) and columns along k, or, along_k, the other way round.
struct Linear {
  int64_t step;
  __device__ int64_t at(int64_t i) const { return i * step; }
  __device__ int64_t apart() const { return step; }  // neighbours within 16 bytes, for columns
};
template <class T, class Lines = Linear, class Columns = Linear> struct Factor {
  const T* data;
  int64_t offset;
  Lines lines;
  Columns columns;
  bool along_k;
  bool packed;  // 16 bytes of a line, from a multiple of as many on, are one aligned piece
  static constexpr bool kPadded = false;

  __device__ int64_t at(int64_t line, int64_t column) const { return offset + lines.at(line) + columns.at(column); }

  // kN columns of a line from the one at `at` on: where packed; or the valid ones, followed by zeros.
  template <int kN, class C> __device__ void load(int64_t at, C (&v)[kN]) const {
    const auto pack = load_pack<kN>(data + at);
#pragma unroll
    for (int j = 0; j < kN; ++j) v[j] = from_element<C>(pack[j]);
  }
  template <int kN, class C> __device__ void load(int64_t at, int64_t valid, C (&v)[kN]) const {
    if (packed && valid >= kN) return load(at, v);
#pragma unroll
    for (int j = 0; j < kN; ++j, at += columns.apart()) v[j] = j < valid ? cuda::load(data + at) : C(0);
  }
};

// The same where lines are padded to whole pieces of 16 bytes, which are then all there is to read.
template <class T, class Lines, class Columns> struct PaddedFactor {
  const T* data;
  int64_t offset;
  Lines lines;
  Columns columns;
  bool along_k;
  static constexpr bool packed = true, kPadded = true;

  template <int kN, class C> __device__ void load(int64_t at, C (&v)[kN]) const {
    const auto pack = load_pack<kN>(data + at);
#pragma unroll
    for (int j = 0; j < kN; ++j) v[j] = from_element<C>(pack[j]);
  }
  template <int kN, class C> __device__ void load(int64_t at, int64_t valid, C (&v)[kN]) const {
    if (valid > 0) return load(at, v);
#pragma unroll
    for (int j = 0; j < kN; ++j) v[j] = 0;
  }
};

// Which tile, part of K and matrix of the batch a block works on. Tiles follow each other in groups of 8 rows of tiles:
// blocks that run together then share slices in the second-level cache.
struct Partition {
  int64_t tiles_m, tiles_n, splits, first_batch;
  int64_t m, n, batch;  // of the workspace: the largest product's
  void* parts;

  struct Place {
    int64_t row, column, split, batch;  // row and column of the tile among tiles
  };
  __device__ Place place() const {
    const unsigned rows = unsigned(tiles_m), columns = unsigned(tiles_n), tiles = rows * columns;
    const unsigned tile = blockIdx.x % tiles, rest = blockIdx.x / tiles, group = 8 * columns;
    const unsigned first = tile / group * 8, height = rows - first < 8 ? rows - first : 8, at = tile % group;
    return {first + at % height, at / height, rest % unsigned(splits), first_batch + rest / unsigned(splits)};
  }
  __device__ int64_t part_at(int64_t split, int64_t b) const { return (split * batch + b) * m * n; }
};

// Where the sums of a part of K go.
template <class C> struct PartOfProduct {
  C* to;
  int64_t m, n, pitch;
  template <int kN> __device__ void store(int64_t row, int64_t column, const C (&v)[kN]) const {
    if (row >= m) return;
#pragma unroll
    for (int j = 0; j < kN; ++j)
      if (column + j < n) to[row * pitch + column + j] = v[j];
  }
};

// How many of the next kN columns exist, where `left` are left.
template <int kN> __device__ inline int columns_of(int64_t left) { return left <= 0 ? 0 : left < kN ? int(left) : kN; }

// One factor's way into shared memory, C of kDepth rows of kX + kPad: 2 kX threads fetch pieces of 16 bytes into
// registers and deposit them when there is room. Two threads share a line of k, or neighbours a line along k, so that
// both the reads of lines and the writes of columns are free of bank conflicts. Beyond the last line of m (n) it is
// read again: those sums go nowhere.
template <class C, int kX, int kPad, int kDepth, class Factor> class SimtReader {
 public:
  __device__ SimtReader(const Factor& f, int64_t i0, int64_t i_end, int64_t k_end) : factor_(f), k_end_(k_end) {
    const int t = threadIdx.x, line = f.along_k ? t / kGroups : t / 2;
    const int column = (f.along_k ? t % kGroups : t % 2) * kVec;
    if (f.along_k) {
      room_ = columns_of<kVec>(i_end - i0 - column);
      fixed_ = f.offset + f.columns.at(room_ > 0 ? i0 + column : i0);
    } else {
      room_ = kVec;
      fixed_ = f.offset + f.lines.at(i0 + line < i_end ? i0 + line : i_end - 1);
    }
    own_ = f.along_k ? line : column;
    place_ = f.along_k ? line * kPitch + column : column * kPitch + line;
  }
  __device__ void fetch(int64_t k0) {
    const int64_t k = k0 + own_;
    if (!kPadded && factor_.packed && k0 + kDepth <= k_end_ && room_ == kVec) {
#pragma unroll
      for (int i = 0; i < kItems; ++i) factor_.load(fixed_ + along(k + i * kStep), values_[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        const int64_t left = k_end_ - k - i * kStep;
        factor_.load(fixed_ + (left > 0 ? along(k + i * kStep) : 0),
                     !kPadded && factor_.along_k && left > 0 ? room_ : left, values_[i]);
      }
    }
  }
  __device__ void deposit(C (&to)[kDepth][kX + kPad]) const {
    C* const first = &to[0][0] + place_;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      if (factor_.along_k) {
        Pack<C, kVec> pack;
#pragma unroll
        for (int j = 0; j < kVec; ++j) pack[j] = values_[i][j];
        store_pack(first + i * kStep * kPitch, pack);
      } else {
#pragma unroll
        for (int j = 0; j < kVec; ++j) first[(i * kStep + j) * kPitch] = values_[i][j];
      }
    }
  }

 private:
  static constexpr int kPitch = kX + kPad, kVec = kPack<C>, kItems = kDepth / kVec / 2, kGroups = kX / kVec;
  static constexpr int kStep = 2 * kVec;  // along k, from item to item
  static constexpr bool kPadded = Factor::kPadded;

  __device__ int64_t along(int64_t k) const { return factor_.along_k ? factor_.lines.at(k) : factor_.columns.at(k); }

  const Factor& factor_;
  const int64_t k_end_;
  int64_t fixed_;  // where the thread's line begins, or its columns
  int own_;        // its first k in a slice
  int place_;      // where its first piece goes
  int room_;       // how many columns of a piece exist along m (n)
  C values_[kItems][kVec];
};

// kSize x kSize sums of type C, kRows x kColumns of them a thread: pieces of 4 x 4, those of a warp's 4 x 8 lanes side
// by side.
template <class C_, int kSize, int kRows, int kColumns> struct SimtTile {
  using C = C_;
  static constexpr int kM = kSize, kN = kSize, kDepth = 16, kThreads = 2 * kSize;
  static constexpr int kBlocks = 2048 / (kThreads * int(sizeof(C)));  // a multiprocessor: as many as registers allow
  static constexpr int kPad = 4, kWarpM = 4 * kRows, kWarpN = 8 * kColumns;
  static_assert(kM / kWarpM * (kN / kWarpN) * 32 == kThreads);
  using Sums = C[kRows][kColumns];
  struct Shared { C a[2][kDepth][kM + kPad], b[2][kDepth][kN + kPad]; };

  // The first row and column of the thread's pieces, which are 16 rows and 32 columns apart.
  static __device__ int first_row() { return threadIdx.x / 32 % (kM / kWarpM) * kWarpM + threadIdx.x % 32 / 8 * 4; }
  static __device__ int first_column() { return threadIdx.x / 32 / (kM / kWarpM) * kWarpN + threadIdx.x % 8 * 4; }

  template <class Product>
  static __device__ void multiply(Shared& s, const Product& p, int64_t m0, int64_t n0, int64_t k0, int64_t k1,
                                  Sums& sums) {
    SimtReader<C, kM, kPad, kDepth, decltype(p.a)> a(p.a, m0, p.m, k1);
    SimtReader<C, kN, kPad, kDepth, decltype(p.b)> b(p.b, n0, p.n, k1);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) sums[i][j] = 0;
    if (k0 < k1) {
      a.fetch(k0);
      b.fetch(k0);
      a.deposit(s.a[0]);
      b.deposit(s.b[0]);
    }
    __syncthreads();
    int buffer = 0;
    for (int64_t k = k0; k < k1; k += kDepth, buffer ^= 1) {
      const bool more = k + kDepth < k1;
      if (more) {
        a.fetch(k + kDepth);
        b.fetch(k + kDepth);
      }
      multiply_slice(s.a[buffer], s.b[buffer], sums);
      if (more) {
        a.deposit(s.a[buffer ^ 1]);
        b.deposit(s.b[buffer ^ 1]);
      }
      __syncthreads();
    }
  }

  template <class Output>
  static __device__ void store(Shared&, const Sums& sums, int64_t m0, int64_t n0, const Output& out) {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; j += 4) {
        const C four[4] = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
        out.store(m0 + first_row() + i / 4 * 16 + i % 4, n0 + first_column() + j / 4 * 32, four);
      }
  }

 private:
  static __device__ void multiply_slice(const C (&a)[kDepth][kM + kPad], const C (&b)[kDepth][kN + kPad], Sums& sums) {
#pragma unroll 2  // more would fetch more ahead than registers hold beside the sums
    for (int k = 0; k < kDepth; ++k) {
      C x[kRows], y[kColumns];
#pragma unroll
      for (int i = 0; i < kRows; i += kPack<C>) {
        const auto pack = load_pack<kPack<C>>(&a[k][first_row() + i / 4 * 16 + i % 4]);
#pragma unroll
        for (int j = 0; j < kPack<C>; ++j) x[i + j] = pack[j];
      }
#pragma unroll
      for (int i = 0; i < kColumns; i += kPack<C>) {
        const auto pack = load_pack<kPack<C>>(&b[k][first_column() + i / 4 * 32 + i % 4]);
#pragma unroll
        for (int j = 0; j < kPack<C>; ++j) y[i + j] = pack[j];
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int j = 0; j < kColumns; ++j) sums[i][j] += x[i] * y[j];
    }
  }
};

// A slice of 16-bit elements in shared memory: lines of kGroups times 8 columns, whose groups of 16 bytes are permuted
// so that eight lines' group g, which ldmatrix reads at once, lie in different banks.
template <int kGroups> __device__ inline int group_at(int line, int group) {
  return line * kGroups + (group ^ (kGroups == 4 ? line / 2 % 4 : line % 8));
}

// One factor's way into shared memory by asynchronous copies of 16 bytes. Beyond the last line of m (n) it is read
// again: those sums go nowhere.
template <class T, int kX, int kDepth, int kThreads, bool kAlongK, class Factor> class AsyncReader {
 public:
  __device__ AsyncReader(const Factor& f, int64_t i0, int64_t i_end, int64_t k_end)
      : factor_(f), i0_(i0), i_end_(i_end), k_end_(k_end) {
    const int line = threadIdx.x / kGroups, group = threadIdx.x % kGroups;
    own_ = kAlongK ? line : group * kVec;
    place_ = group_at<kGroups>(line, group) * kVec;
    room_ = kAlongK ? columns_of<kVec>(i_end - i0 - group * kVec) : kVec;
#pragma unroll
    for (int i = 0; i < kFixed; ++i) from_[i] = keep_in_register(f.data + fixed(i));
  }
  __device__ void start(T* slice, int64_t k0) const {
    const int64_t k = k0 + own_;
    if (!factor_.packed || k0 + kDepth > k_end_ || room_ < kVec) return start_carefully(slice, k);
    const int64_t moving = kAlongK ? 0 : factor_.columns.at(k);
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const T* from = kAlongK ? from_[0] + factor_.lines.at(k + i * kStep) : from_[i] + moving;
      copy_async<16>(slice + place_ + i * kFurther, from);
    }
  }

 private:
  static constexpr int kVec = 8, kLines = kAlongK ? kDepth : kX, kGroups = (kAlongK ? kX : kDepth) / kVec;
  static constexpr int kItems = kLines * kGroups / kThreads, kStep = kThreads / kGroups, kFixed = kAlongK ? 1 : kItems;
  static constexpr int kFurther = kStep * kGroups * kVec;  // from item to item in the slice
  static_assert(kStep % 8 == 0, "the permutation of groups must be the same for all items");

  // Where item i's line begins, or the thread's columns.
  __device__ int64_t fixed(int i) const {
    if constexpr (kAlongK) {
      const int64_t column = i0_ + threadIdx.x % kGroups * kVec;
      return factor_.offset + factor_.columns.at(column < i_end_ ? column : i0_);
    } else {
      const int64_t line = i0_ + threadIdx.x / kGroups + i * kStep;
      return factor_.offset + factor_.lines.at(line < i_end_ ? line : i_end_ - 1);
    }
  }
  // At the end of K, at the last columns of m (n), and where no 16 bytes are one piece.
  __device__ void start_carefully(T* slice, int64_t k) const {
#pragma unroll 1
    for (int i = 0; i < kItems; ++i) {
      const int64_t line = kAlongK ? k + i * kStep : k;
      const int n = kAlongK && line < k_end_ ? room_ : columns_of<kVec>(k_end_ - line);
      int64_t at = fixed(i);
      if (n > 0) at += kAlongK ? factor_.lines.at(line) : factor_.columns.at(k);
      T* const to = slice + place_ + i * kFurther;
      if (factor_.packed) {
        copy_async<16>(to, factor_.data + at, n * int(sizeof(T)));
      } else {
        Pack<T, kVec> pack = {};
#pragma unroll
        for (int j = 0; j < kVec; ++j, at += factor_.columns.apart())
          if (j < n) pack[j] = factor_.data[at];
        store_pack(to, pack);
      }
    }
  }

  const Factor& factor_;
  const int64_t i0_, i_end_, k_end_;
  const T* from_[kFixed];
  int own_;    // the thread's first k in a slice
  int place_;  // where its first item goes
  int room_;   // how many columns of an item exist along m (n)
};

// Where ldmatrix finds squares of 16 x 16 elements of a slice, as four matrices whose registers are those of A's
// fragment, or of two of B's. kLinesFirst: the second matrix lies 8 lines further, the third 8 columns; else the other
// way round.
template <class T, int kGroups, bool kTransposed, bool kLinesFirst> class Squares {
 public:
  __device__ Squares(int line, int group) {
    const int lane = threadIdx.x % 32, second = lane / 8 % 2, third = lane / 16;
    at_ = group_at<kGroups>(line + lane % 8 + 8 * (kLinesFirst ? second : third),
                            group + (kLinesFirst ? third : second)) *
          8;
  }
  // The one that lies `lines` further, a multiple of 8, and `groups`, an even number smaller than the power of two that
  // the first group is a multiple of: there the permutation commutes with the addition.
  __device__ void load(uint32_t (&r)[4], const T* slice, int lines, int groups) const {
    const T* row = slice + (at_ ^ groups * 8) + lines * kGroups * 8;
    if constexpr (kTransposed)
      ldmatrix_trans(r, row);
    else
      ldmatrix(r, row);
  }

 private:
  int at_;
};

// Sums of float16 or bfloat16 products in float32, kWarpM x kWarpN of them a warp. kAlongA and kAlongB are the factors'
// along_k: matrices that lie along the other axis are transposed as they are loaded.
template <class T, int kM_, int kN_, int kWarpM, int kWarpN, bool kAlongA, bool kAlongB> struct TensorTile {
  using C = float;
  static constexpr int kM = kM_, kN = kN_, kDepth = 32, kStages = 3;
  static constexpr int kWarps = kM / kWarpM * (kN / kWarpN), kThreads = 32 * kWarps, kBlocks = 2;
  static constexpr int kPitch = kWarpN + 8;  // rows of staged sums, in distinct banks
  using Sums = float[kWarpM / 16][kWarpN / 8][4];
  struct Slice { T a[kM * kDepth], b[kN * kDepth]; };
  union Shared {
    Slice slice[kStages];
    float rows[kWarps][16][kPitch];
  };
  using ASquares = Squares<T, (kAlongA ? kM : kDepth) / 8, kAlongA, !kAlongA>;
  using BSquares = Squares<T, (kAlongB ? kN : kDepth) / 8, kAlongB, kAlongB>;

  static __device__ int first_row() { return threadIdx.x / 32 % (kM / kWarpM) * kWarpM; }
  static __device__ int first_column() { return threadIdx.x / 32 / (kM / kWarpM) * kWarpN; }

  template <class Product>
  static __device__ void multiply(Shared& s, const Product& p, int64_t m0, int64_t n0, int64_t k0, int64_t k1,
                                  Sums& sums) {
    const AsyncReader<T, kM, kDepth, kThreads, kAlongA, decltype(p.a)> a(p.a, m0, p.m, k1);
    const AsyncReader<T, kN, kDepth, kThreads, kAlongB, decltype(p.b)> b(p.b, n0, p.n, k1);
#pragma unroll
    for (int i = 0; i < kWarpM / 16; ++i)
#pragma unroll
      for (int j = 0; j < kWarpN / 8; ++j)
#pragma unroll
        for (int r = 0; r < 4; ++r) sums[i][j][r] = 0;
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) {
      if (k0 + i * kDepth < k1) {
        a.start(s.slice[i].a, k0 + i * kDepth);
        b.start(s.slice[i].b, k0 + i * kDepth);
      }
      copy_async_commit();
    }
    const ASquares a_at(kAlongA ? 0 : first_row(), kAlongA ? first_row() / 8 : 0);
    const BSquares b_at(kAlongB ? 0 : first_column(), kAlongB ? first_column() / 8 : 0);
    int now = 0, next = kStages - 1;
    for (int64_t k = k0; k < k1; k += kDepth) {
      copy_async_wait<kStages - 2>();
      __syncthreads();  // the slice is here, and the one before it is used up
      if (k + (kStages - 1) * kDepth < k1) {
        a.start(s.slice[next].a, k + (kStages - 1) * kDepth);
        b.start(s.slice[next].b, k + (kStages - 1) * kDepth);
      }
      copy_async_commit();
      multiply_slice(s.slice[now], a_at, b_at, sums);
      now = now + 1 == kStages ? 0 : now + 1;
      next = next + 1 == kStages ? 0 : next + 1;
    }
    copy_async_wait<0>();
    __syncthreads();
  }

  // Sums pass through shared memory, so that each lane has 8 columns of a row.
  template <class Output>
  static __device__ void store(Shared& s, const Sums& sums, int64_t m0, int64_t n0, const Output& out) {
    const int lane = threadIdx.x % 32;
    float (&rows)[16][kPitch] = s.rows[threadIdx.x / 32];
#pragma unroll
    for (int i = 0; i < kWarpM / 16; ++i) {
#pragma unroll
      for (int j = 0; j < kWarpN / 8; ++j)
#pragma unroll
        for (int r = 0; r < 4; r += 2)
          store_pack(&rows[lane / 4 + r / 2 * 8][j * 8 + lane % 4 * 2],
                     Pack<float, 2>{sums[i][j][r], sums[i][j][r + 1]});
      sync_warp();
      constexpr int kGroups = kWarpN / 8;
#pragma unroll 1
      for (int row = lane / kGroups; row < 16; row += 32 / kGroups) {
        float v[8];
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
          const auto pack = load_pack<4>(&rows[row][lane % kGroups * 8 + j]);
#pragma unroll
          for (int l = 0; l < 4; ++l) v[j + l] = pack[l];
        }
        out.store(m0 + first_row() + i * 16 + row, n0 + first_column() + lane % kGroups * 8, v);
      }
      sync_warp();
    }
  }

 private:
  static __device__ void multiply_slice(const Slice& slice, const ASquares& a_at, const BSquares& b_at, Sums& sums) {
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t a[kWarpM / 16][4], b[kWarpN / 16][4];
#pragma unroll
      for (int i = 0; i < kWarpM / 16; ++i) a_at.load(a[i], slice.a, kAlongA ? k : 16 * i, kAlongA ? 2 * i : k / 8);
#pragma unroll
      for (int j = 0; j < kWarpN / 16; ++j) b_at.load(b[j], slice.b, kAlongB ? k : 16 * j, kAlongB ? 2 * j : k / 8);
#pragma unroll
      for (int i = 0; i < kWarpM / 16; ++i)
#pragma unroll
        for (int j = 0; j < kWarpN / 8; ++j) {
          const uint32_t half[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16<T>(sums[i][j], a[i], half);
        }
    }
  }
};

// hot: no spills
template <class Tile, class Problem>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    gemm_kernel(const __grid_constant__ Problem problem, const __grid_constant__ Partition part) {
  auto& s = shared<typename Tile::Shared>();
  const auto at = part.place();
  const auto p = problem.at(at.batch);
  const int64_t m0 = at.row * Tile::kM, n0 = at.column * Tile::kN;
  if (m0 >= p.m || n0 >= p.n) return;
  const int64_t slices = (p.k + Tile::kDepth - 1) / Tile::kDepth;
  const int64_t per_split = (slices + part.splits - 1) / part.splits * Tile::kDepth, k0 = at.split * per_split;
  typename Tile::Sums sums;
  Tile::multiply(s, p, m0, n0, k0, k0 + per_split < p.k ? k0 + per_split : p.k, sums);
  if (part.splits == 1) {
    // Asked for again, so that it need not stay in registers beside the sums.
    Tile::store(s, sums, m0, n0, problem.at(part.place().batch));
  } else {
    auto* parts = static_cast<typename Tile::C*>(part.parts) + part.part_at(at.split, at.batch);
    Tile::store(s, sums, m0, n0, PartOfProduct<typename Tile::C>{parts, p.m, p.n, part.n});
  }
}

// Adds the parts of K in their order.
template <class C, class Problem>
__global__ void combine_parts_kernel(const __grid_constant__ Problem problem, const __grid_constant__ Partition part) {
  const int64_t per_batch = part.m * part.n;
  for (int64_t i = first_item(); i < part.batch * per_batch; i += item_step()) {
    const int64_t batch = i / per_batch, row = i % per_batch / part.n, column = i % part.n;
    const auto p = problem.at(batch);
    if (row >= p.m || column >= p.n) continue;
    const C* from = static_cast<const C*>(part.parts) + i;
    C sum[1] = {0};
    for (int64_t s = 0; s < part.splits; ++s) sum[0] += from[s * part.batch * per_batch];
    p.store(row, column, sum);
  }
}

// Sizes of the largest product of a problem.
struct Extent { int64_t m, n, k, batch; };

template <class Tile, class Problem> void multiply(const Problem& problem, const Extent& e, int64_t splits) {
  using C = typename Tile::C;
  const int64_t tiles_m = ceil_div(e.m, Tile::kM), tiles_n = ceil_div(e.n, Tile::kN);
  Scratch<C> parts(splits > 1 ? splits * e.batch * e.m * e.n : 0);
  Partition part{tiles_m, tiles_n, splits, 0, e.m, e.n, e.batch, parts.get()};
  const int64_t blocks = tiles_m * tiles_n * splits, most = ((int64_t(1) << 31) - 1) / blocks;
  for (; part.first_batch < e.batch; part.first_batch += most) {
    const int64_t batch = e.batch - part.first_batch < most ? e.batch - part.first_batch : most;
    launch(gemm_kernel<Tile, Problem>, dim3(unsigned(blocks * batch)), dim3(Tile::kThreads),
           sizeof(typename Tile::Shared), problem, part);
  }
  if (splits > 1)
    launch(combine_parts_kernel<C, Problem>, grid_for(e.batch * e.m * e.n, 256), dim3(256), 0, problem, part);
}

// A kind of tile and how many multiplications a multiprocessor finishes with it in a cycle.
struct TileKind { int size, depth, rate; };
struct TileChoice {
  int size;
  int64_t splits;
};

// The square tile and the number of parts of K that should take the fewest cycles: rounds of blocks over the
// multiprocessors, each with a start and an end, and for parts a second kernel that reads them. Parts are such that
// they fill whole rounds.
template <int kKinds> TileChoice choose_tile(const TileKind (&kinds)[kKinds], const Extent& e) {
  const int64_t multi = multiprocessors();
  TileChoice best{kinds[0].size, 1};
  double least = 0;
  for (const TileKind& kind : kinds) {
    const int64_t tiles = ceil_div(e.m, kind.size) * ceil_div(e.n, kind.size) * e.batch;
    const int64_t slices = ceil_div(e.k, kind.depth);
    for (int64_t rounds = 0; rounds <= 4; ++rounds) {
      int64_t splits = rounds * multi / tiles < slices / 4 ? rounds * multi / tiles : slices / 4;
      if (splits > 1) splits = ceil_div(slices, ceil_div(slices, splits));
      if (splits <= 1 && rounds > 0) continue;
      if (splits < 1) splits = 1;
      const double area = double(kind.size) * kind.size, per_block = double(ceil_div(slices, splits)) * kind.depth;
      double cycles = double(ceil_div(tiles * splits, multi)) * (per_block * area / kind.rate + 1500 + area / 16);
      if (splits > 1)
        cycles += 5000 + double(splits) * double(e.batch) * double(e.m) * double(e.n) * 8 / (double(multi) * 16);
      if (least == 0 || cycles < least) {
        least = cycles;
        best = {kind.size, splits};
      }
    }
  }
  return best;
}

}  // namespace gg::cuda
