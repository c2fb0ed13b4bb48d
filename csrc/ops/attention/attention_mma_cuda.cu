// CUDA kernels of attention for 16-bit floats on tensor cores (mma.sync, sm_80 and later). L queries, S keys; rows of
// Q, K, V and O fill kD = 64, 128 or 256 columns, with zeros where they are shorter.
//
// Dao 2023, "FlashAttention-2". Four warps own rows, 16 kHeight each, which stay in shared memory, and meet the other
// side in tiles that asynchronous copies bring. Forward owns queries. Backward has one kernel for both sides, with
//   X = A B^T,  dX = A' B'^T:  A, A', B, B' = Q, dO, K, V where it owns queries (dQ), K, V, Q, dO where it owns keys,
// so that X, the scores or their transpose, always has the rows of the sums. A product of mma leaves its rows spread
// over a warp just as the next one wants them: weights go from one product to the next in registers.
// Scores are kept in units of 1 / log2 e, for exponentials are then one instruction.
#include "cuda/block.h"
#include "cuda/ptx.h"
#include "ops/attention/attention_device.h"

namespace gg::cuda::attention {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;

// A head's rows of 16-bit elements, in chunks of 8.
template <class T> struct Rows {
  T* data;
  int64_t stride;
  int rows, chunks;

  __device__ Rows(const void* all, const int64_t* strides, int batch, int head, int64_t n, int64_t width)
      : data(static_cast<T*>(const_cast<void*>(all)) + batch * strides[0] + head * strides[1]),
        stride(strides[2]),
        rows(int(n)),
        chunks(int(width) / 8) {}
};

// Where a row's chunk lies in a tile. The swizzle puts a column of 8 rows into 8 different groups of banks; from chunk
// 0 or 1 it is an exclusive or with 16 k to chunk 2 k or 2 k + 1.
template <int kD> __device__ inline int place(int row, int chunk) { return row * kD + (chunk ^ (row & 7)) * 8; }

// Starts the copy of kTileRows rows from row0 on; rows and columns that x lacks become 0.
template <int kD, int kTileRows, class T> __device__ inline void start_copy(const Rows<T>& x, int row0, T* tile) {
  constexpr int kChunks = kD / 8;
  const int chunk = threadIdx.x % kChunks, row1 = threadIdx.x / kChunks;
  const T* from = x.data + int64_t(row0 + row1) * x.stride + chunk * 8;
#pragma unroll 1  // addresses would take the registers of sums
  for (int r = 0; r < kTileRows; r += kThreads / kChunks) {
    const bool inside = row0 + row1 + r < x.rows && chunk < x.chunks;
    copy_async<16>(tile + place<kD>(row1 + r, chunk), inside ? from + r * x.stride : x.data, inside ? 16 : 0);
  }
}

// A fragment's share of a warp's product: kHeight times 16 rows, kWidth times 8 columns.
template <int kHeight, int kWidth> using Fragments = float[kHeight][kWidth][4];

// Row and column of element c of the fragments (i, j).
__device__ inline int row_of(int i, int c) { return 16 * i + int(threadIdx.x) % 32 / 4 + c / 2 * 8; }
__device__ inline int column_of(int j, int c) { return 8 * j + int(threadIdx.x) % 4 * 2 + c % 2; }

template <int kHeight, int kWidth> __device__ inline void clear(Fragments<kHeight, kWidth>& x) {
#pragma unroll
  for (int i = 0; i < kHeight; ++i)
#pragma unroll
    for (int j = 0; j < kWidth; ++j)
#pragma unroll
      for (int c = 0; c < 4; ++c) x[i][j][c] = 0;
}

template <class T> __device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t b[2] = {b0, b1};
  mma_m16n8k16<T>(d, a, b);
}

// to = A B^T: rows from a_row on of one tile by rows from b_row on of another.
template <int kD, class T, int kHeight, int kWidth>
__device__ inline void products(Fragments<kHeight, kWidth>& to, const T* a, int a_row, const T* b, int b_row) {
  const int lane = threadIdx.x % 32;
  const int a_at = place<kD>(a_row + lane % 16, lane / 16);
  const int b_at = place<kD>(b_row + lane / 16 * 8 + lane % 8, lane / 8 % 2);
  clear(to);
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    uint32_t as[kHeight][4];
#pragma unroll
    for (int i = 0; i < kHeight; ++i) ldmatrix(as[i], a + (a_at ^ 16 * k) + 16 * i * kD);
#pragma unroll
    for (int j = 0; j < kWidth; j += 2) {
      uint32_t bs[4];
      ldmatrix(bs, b + (b_at ^ 16 * k) + 8 * j * kD);
#pragma unroll
      for (int i = 0; i < kHeight; ++i) {
        multiply<T>(to[i][j], as[i], bs[0], bs[1]);
        multiply<T>(to[i][j + 1], as[i], bs[2], bs[3]);
      }
    }
  }
}

// A product's result as the left side of the next: the fragments of 16 columns hold a fragment of A.
template <int kHeight, int kWidth> using Packed = uint32_t[kHeight][kWidth / 2][4];
template <class T, int kHeight, int kWidth>
__device__ inline void pack(const Fragments<kHeight, kWidth>& x, Packed<kHeight, kWidth>& to) {
#pragma unroll
  for (int i = 0; i < kHeight; ++i)
#pragma unroll
    for (int j = 0; j < kWidth; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c) to[i][j / 2][j % 2 * 2 + c] = pack_halves<T>(x[i][j][2 * c], x[i][j][2 * c + 1]);
}

// to += X B for 8 kWidth rows of a tile from b_row on.
template <int kD, int kWidth, class T, int kHeight>
__device__ inline void accumulate(Fragments<kHeight, kD / 8>& to, const Packed<kHeight, kWidth>& x, const T* b,
                                  int b_row) {
  const int lane = threadIdx.x % 32, b_at = place<kD>(b_row + lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < kWidth / 2; ++k)
#pragma unroll
    for (int j = 0; j < kD / 8; j += 2) {
      uint32_t bs[4];
      ldmatrix_trans(bs, b + (b_at ^ 8 * j) + 16 * k * kD);
#pragma unroll
      for (int i = 0; i < kHeight; ++i) {
        multiply<T>(to[i][j], x[i][k], bs[0], bs[1]);
        multiply<T>(to[i][j + 1], x[i][k], bs[2], bs[3]);
      }
    }
}

// Sums out to memory, by way of the warp's own rows of a tile, so that 16 bytes are moved at a time.
template <int kD, class T, int kHeight>
__device__ inline void put(const Fragments<kHeight, kD / 8>& x, T* tile, int tile_row, const Rows<T>& to, int row0) {
  const int lane = threadIdx.x % 32;
  sync_warp();
#pragma unroll
  for (int i = 0; i < kHeight; ++i)
#pragma unroll
    for (int j = 0; j < kD / 8; ++j)
#pragma unroll
      for (int c = 0; c < 4; c += 2)
        *reinterpret_cast<uint32_t*>(tile + place<kD>(tile_row + row_of(i, c), j) + lane % 4 * 2) =
            pack_halves<T>(x[i][j][c], x[i][j][c + 1]);
  sync_warp();
  for (int i = lane; i < 16 * kHeight * kD / 8; i += 32) {
    const int row = i / (kD / 8), chunk = i % (kD / 8);
    if (row0 + row < to.rows && chunk < to.chunks)
      store_pack<8>(to.data + int64_t(row0 + row) * to.stride + chunk * 8,
                    load_pack<8>(tile + place<kD>(tile_row + row, chunk)));
  }
}

// The scores are x * factor. Where a mask adds to them, or scale is not positive and the largest product is not the
// largest score, they are written out and factor is 1. Kernels compiled for plain problems alone have the registers
// that this and dropout need for more rows.
struct Scale {
  float scale, factor;
  bool general;
  explicit Scale(const AttentionProblem& p)
      : scale(float(p.scale * kLog2e)), factor(0), general(p.mask || !(p.scale > 0)) {
    factor = general ? 1.f : scale;
  }
};

// Masks products: query and key of element c of fragments (i, j) are query0 + row and key0 + column, or, transposed,
// query0 + column and key0 + row. edge: whether some of these keys are hidden or missing.
template <bool kTransposed, bool kPlain, int kHeight, int kWidth>
__device__ inline void mask_tile(Fragments<kHeight, kWidth>& x, const AttentionProblem& p, const Scale& scale,
                                 int batch, int head, int query0, int key0, bool edge) {
  const bool general = !kPlain && scale.general;
  if (!general && !edge) return;
#pragma unroll
  for (int i = 0; i < kHeight; ++i)
#pragma unroll
    for (int j = 0; j < kWidth; ++j)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int query = query0 + (kTransposed ? column_of(j, c) : row_of(i, c));
        const int key = key0 + (kTransposed ? row_of(i, c) : column_of(j, c));
        if (general)
          x[i][j][c] = x[i][j][c] * scale.scale + bias_of<float>(p, batch, head, query, key) * float(kLog2e);
        else if (key >= int(p.s) || (p.causal && key > query))
          x[i][j][c] = -kInfinity<float>;
      }
}

// What dropout multiplies the weights of elements c and c + 1 by, c even, of the same query, or, transposed, key.
template <bool kTransposed>
__device__ inline void keep_two(const Dropout<float>& dropout, const AttentionProblem& p, int64_t head, int query0,
                                int key0, int i, int j, int c, float (&keep)[2]) {
  if constexpr (kTransposed) {
    const int key = key0 + row_of(i, c);
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      const auto four = dropout.keep(p, head, query0 + column_of(j, c + u), key / 4 * 4);
      const float low = key % 2 ? four[1] : four[0], high = key % 2 ? four[3] : four[2];
      keep[u] = key % 4 < 2 ? low : high;
    }
  } else {
    const int key = key0 + column_of(j, c);
    const auto four = dropout.keep(p, head, query0 + row_of(i, c), key / 4 * 4);
    keep[0] = key % 4 < 2 ? four[0] : four[2];
    keep[1] = key % 4 < 2 ? four[1] : four[3];
  }
}

// Forward: a row's maximum and sum over a warp's four threads that hold it.
template <class Op> __device__ inline float over_row(float x) { return warp_reduce<Op>(x, 4); }

template <int kD, bool kPlain> struct ForwardShape {
  static constexpr int kHeight = kPlain ? 2 : 1, kQueries = 16 * kHeight * kWarps;
  static constexpr int kKeys = kD == 256 ? 32 : 64;
};
template <class T, int kD, bool kPlain> struct ForwardTiles {
  using Shape = ForwardShape<kD, kPlain>;
  alignas(1024) T q[Shape::kQueries * kD], k[Shape::kKeys * kD], v[Shape::kKeys * kD];
};

// hot: no spills
template <class T, int kD, bool kPlain>
__global__ void __launch_bounds__(kThreads, 2)
    forward_kernel(const __grid_constant__ ForwardArguments<float> a, Scale scale) {
  using Shape = ForwardShape<kD, kPlain>;
  constexpr int kHeight = Shape::kHeight, kKeys = Shape::kKeys;
  const AttentionProblem& p = a.p;
  auto& tiles = shared<ForwardTiles<T, kD, kPlain>>();
  Part part(int(p.heads), a.tiles, 1);
  if (p.causal) part.tile = a.tiles - 1 - part.tile;  // the longest first
  const int q0 = part.tile * Shape::kQueries, warp_row = threadIdx.x / 32 * 16 * kHeight;
  const int kv_head = part.head / int(p.heads / p.kv_heads);
  const Rows<T> k(p.k, p.k_strides, part.batch, kv_head, p.s, p.e), v(p.v, p.v_strides, part.batch, kv_head, p.s, p.f);
  const int visible = visible_keys(p, q0 + Shape::kQueries);

  start_copy<kD, Shape::kQueries>(Rows<T>(p.q, p.q_strides, part.batch, part.head, p.l, p.e), q0, tiles.q);
  start_copy<kD, kKeys>(k, 0, tiles.k);
  copy_async_commit();
  Fragments<kHeight, kD / 8> sums;
  clear(sums);
  float top[kHeight][2], l[kHeight][2];  // of rows g and g + 8; l is this thread's part
#pragma unroll
  for (int i = 0; i < kHeight; ++i)
    for (int h = 0; h < 2; ++h) top[i][h] = -kInfinity<float>, l[i][h] = 0;

  for (int s0 = 0; s0 < visible; s0 += kKeys) {
    copy_async_wait<0>();
    __syncthreads();  // K is here, and nobody reads V any more
    start_copy<kD, kKeys>(v, s0, tiles.v);
    copy_async_commit();
    Fragments<kHeight, kKeys / 8> x;
    products<kD>(x, tiles.q, warp_row, tiles.k, 0);
    const bool edge = s0 + kKeys > int(p.s) || (p.causal && s0 + kKeys - 1 > q0 + warp_row);
    mask_tile<false, kPlain>(x, p, scale, part.batch, part.head, q0 + warp_row, s0, edge);
#pragma unroll
    for (int i = 0; i < kHeight; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float now = top[i][h];
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j) now = fmaxf(now, fmaxf(x[i][j][2 * h], x[i][j][2 * h + 1]));
        now = over_row<Max>(now);
        // A row that has seen no key yet has top = -inf: exponentials are then taken from 0, and give 0.
        const float base = now == -kInfinity<float> ? 0.f : now * scale.factor;
        const float shrink = exp2_fast(top[i][h] * scale.factor - base);
        top[i][h] = now;
        l[i][h] *= shrink;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int u = 2 * h; u < 2 * h + 2; ++u) {
            x[i][j][u] = exp2_fast(__fmaf_rn(x[i][j][u], scale.factor, -base));
            l[i][h] += x[i][j][u];
          }
#pragma unroll
        for (int j = 0; j < kD / 8; ++j) sums[i][j][2 * h] *= shrink, sums[i][j][2 * h + 1] *= shrink;
      }
    if (!kPlain && a.dropout.on) {
      const int64_t head = part.batch * p.heads + part.head;
#pragma unroll
      for (int i = 0; i < kHeight; ++i)
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int c = 0; c < 4; c += 2) {
            float keep[2];
            keep_two<false>(a.dropout, p, head, q0 + warp_row, s0, i, j, c, keep);
            x[i][j][c] *= keep[0], x[i][j][c + 1] *= keep[1];
          }
    }
    Packed<kHeight, kKeys / 8> weights;
    pack<T>(x, weights);
    copy_async_wait<0>();
    __syncthreads();  // V is here, and nobody reads K any more
    if (s0 + kKeys < visible) start_copy<kD, kKeys>(k, s0 + kKeys, tiles.k);
    copy_async_commit();
    accumulate<kD, kKeys / 8>(sums, weights, tiles.v, 0);
  }

  copy_async_wait<0>();
#pragma unroll
  for (int i = 0; i < kHeight; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float total = over_row<Sum>(l[i][h]);
      const bool none = total == 0;
      const float share = none ? 0.f : 1 / total;
      const int row = q0 + warp_row + row_of(i, 2 * h);
      if (threadIdx.x % 4 == 0 && row < int(p.l)) {
        float* to = a.stats + 2 * ((part.batch * p.heads + part.head) * p.l + row);
        to[0] = none ? 0.f : top[i][h] * scale.factor * float(1 / kLog2e);
        to[1] = share;
      }
#pragma unroll
      for (int j = 0; j < kD / 8; ++j)
#pragma unroll
        for (int u = 2 * h; u < 2 * h + 2; ++u) sums[i][j][u] = none ? 0.f : sums[i][j][u] * share;
    }
  __syncthreads();
  put<kD>(sums, tiles.q, warp_row, Rows<T>(a.out, a.out_strides, part.batch, part.head, p.l, p.f), q0 + warp_row);
}

// What a kernel of backward sums up: kQueries owns queries, the others keys. Where a thread's registers do not hold dK
// beside dV, there is a kernel for each.
enum class Sums { Queries, Keys, Values, KeysAndValues };

template <int kD, Sums kSums, bool kPlain> struct BackwardShape {
  static constexpr bool kOwnsQueries = kSums == Sums::Queries;
  static constexpr int kHeight = kPlain && (kOwnsQueries || kD == 64) ? 2 : 1, kOwned = 16 * kHeight * kWarps;
  static constexpr int kStreamed = 32, kStages = kD == 256 ? 1 : 2;
};
template <class T, int kD, Sums kSums, bool kPlain> struct BackwardTiles {
  using Shape = BackwardShape<kD, kSums, kPlain>;
  alignas(1024) T owned[2][Shape::kOwned * kD], streamed[Shape::kStages][2][Shape::kStreamed * kD];
  // Of queries, which are owned, or streamed.
  float base[Shape::kStages][Shape::kOwnsQueries ? Shape::kOwned : Shape::kStreamed];
  float d[Shape::kStages][Shape::kOwnsQueries ? Shape::kOwned : Shape::kStreamed];
};

// hot: no spills
template <class T, int kD, Sums kSums, bool kPlain>
__global__ void __launch_bounds__(kThreads, 2)
    backward_kernel(const __grid_constant__ BackwardArguments<float> a, Scale scale) {
  using Shape = BackwardShape<kD, kSums, kPlain>;
  constexpr bool kOwnsQueries = Shape::kOwnsQueries;
  constexpr int kHeight = Shape::kHeight, kOwned = Shape::kOwned, kStreamed = Shape::kStreamed;
  const AttentionProblem& p = a.p;
  auto& tiles = shared<BackwardTiles<T, kD, kSums, kPlain>>();
  Part part(int(kOwnsQueries ? p.heads : p.kv_heads), a.tiles, 1);
  if (kOwnsQueries && p.causal) part.tile = a.tiles - 1 - part.tile;
  const int row0 = part.tile * kOwned, warp_row = threadIdx.x / 32 * 16 * kHeight;
  const int group = int(p.heads / p.kv_heads);

  // The other side: tiles of keys, or those of the queries of each head that reads these keys.
  const int first = !kOwnsQueries && p.causal ? row0 / kStreamed * kStreamed : 0;
  const int end = kOwnsQueries ? visible_keys(p, row0 + kOwned) : int(p.l);
  const int per_head = end > first ? (end - first + kStreamed - 1) / kStreamed : 0;
  const int turns = per_head * (kOwnsQueries ? 1 : group);
  const auto head_of = [&](int turn) { return kOwnsQueries ? part.head : part.head * group + turn / per_head; };
  const auto column_of_turn = [&](int turn) { return first + (kOwnsQueries ? turn : turn % per_head) * kStreamed; };
  const auto rows_of_queries = [&](int head, bool gradient) {
    return gradient ? Rows<T>(a.dout, a.dout_strides, part.batch, head, p.l, p.f)
                    : Rows<T>(p.q, p.q_strides, part.batch, head, p.l, p.e);
  };
  const auto rows_of_keys = [&](int head, bool gradient) {
    return gradient ? Rows<T>(p.v, p.v_strides, part.batch, head, p.s, p.f)
                    : Rows<T>(p.k, p.k_strides, part.batch, head, p.s, p.e);
  };
  const auto start = [&](int turn) {
    const int stage = turn % Shape::kStages, column0 = column_of_turn(turn);
    for (int i = 0; i < 2; ++i)
      start_copy<kD, kStreamed>(kOwnsQueries ? rows_of_keys(part.head / group, i) : rows_of_queries(head_of(turn), i),
                                column0, tiles.streamed[stage][i]);
    if (!kOwnsQueries && int(threadIdx.x) < kStreamed)
      row_numbers(a.stats, a.d, part.batch * p.heads + head_of(turn), column0 + int(threadIdx.x), int(p.l),
                  tiles.base[stage][threadIdx.x], tiles.d[stage][threadIdx.x]);
  };

  for (int i = 0; i < (kSums == Sums::Values ? 1 : 2); ++i)
    start_copy<kD, kOwned>(kOwnsQueries ? rows_of_queries(part.head, i) : rows_of_keys(part.head, i), row0,
                           tiles.owned[i]);
  if (turns > 0) start(0);
  copy_async_commit();

  constexpr bool kTwo = kSums == Sums::KeysAndValues;
  Fragments<kHeight, kD / 8> sums, more;  // dQ, dK or dV; dV beside dK
  clear(sums);
  if constexpr (kTwo) clear(more);
  if (kOwnsQueries && int(threadIdx.x) < kOwned)
    row_numbers(a.stats, a.d, part.batch * p.heads + part.head, row0 + int(threadIdx.x), int(p.l),
                tiles.base[0][threadIdx.x], tiles.d[0][threadIdx.x]);

  for (int turn = 0; turn < turns; ++turn) {
    if (Shape::kStages == 2 && turn + 1 < turns) start(turn + 1);
    copy_async_commit();
    copy_async_wait<Shape::kStages - 1>();
    __syncthreads();
    const int stage = turn % Shape::kStages, head = head_of(turn);
    const T *b = tiles.streamed[stage][0], *b_gradient = tiles.streamed[stage][1];
    const int column0 = column_of_turn(turn);
    const int query0 = kOwnsQueries ? row0 + warp_row : column0, key0 = kOwnsQueries ? column0 : row0 + warp_row;
    Fragments<kHeight, kStreamed / 8> x, dx;
    products<kD>(x, tiles.owned[0], warp_row, b, 0);
    const bool edge = (kOwnsQueries && key0 + kStreamed > int(p.s)) ||
                      (p.causal && key0 + (kOwnsQueries ? kStreamed : 16 * kHeight) - 1 > query0);
    mask_tile<!kOwnsQueries, kPlain>(x, p, scale, part.batch, head, query0, key0, edge);
    if constexpr (kSums != Sums::Values) products<kD>(dx, tiles.owned[1], warp_row, b_gradient, 0);
#pragma unroll
    for (int i = 0; i < kHeight; ++i)
#pragma unroll
      for (int j = 0; j < kStreamed / 8; ++j)
#pragma unroll
        for (int c = 0; c < 4; c += 2) {
          float keep[2] = {1, 1};
          if (!kPlain && a.dropout.on)
            keep_two<!kOwnsQueries>(a.dropout, p, part.batch * p.heads + head, query0, key0, i, j, c, keep);
#pragma unroll
          for (int u = 0; u < 2; ++u) {
            const int query = kOwnsQueries ? warp_row + row_of(i, c) : column_of(j, u);
            const float base = tiles.base[kOwnsQueries ? 0 : stage][query];
            const float w = exp2_fast(__fmaf_rn(x[i][j][c + u], scale.factor, -base));
            x[i][j][c + u] = w * keep[u];
            if constexpr (kSums != Sums::Values) {
              const float d = tiles.d[kOwnsQueries ? 0 : stage][query];
              dx[i][j][c + u] = w * (dx[i][j][c + u] * keep[u] - d);
            }
          }
        }
    Packed<kHeight, kStreamed / 8> weights, slopes;
    if constexpr (!kOwnsQueries && kSums != Sums::Keys) {
      pack<T>(x, weights);
      accumulate<kD, kStreamed / 8>(kTwo ? more : sums, weights, b_gradient, 0);
    }
    if constexpr (kSums != Sums::Values) {
      pack<T>(dx, slopes);
      accumulate<kD, kStreamed / 8>(sums, slopes, b, 0);
    }
    if constexpr (kOwnsQueries && !kPlain) {
      if (a.dscores) {
#pragma unroll
        for (int i = 0; i < kHeight; ++i)
#pragma unroll
          for (int j = 0; j < kStreamed / 8; ++j)
#pragma unroll
            for (int c = 0; c < 4; ++c) {
              const int query = query0 + row_of(i, c), key = key0 + column_of(j, c);
              if (query < int(p.l) && key < int(p.s))
                a.dscores[((part.batch * p.heads + head) * p.l + query) * p.s + key] = dx[i][j][c];
            }
      }
    }
    __syncthreads();
    if (Shape::kStages == 1 && turn + 1 < turns) start(turn + 1);
  }

  copy_async_wait<0>();
  __syncthreads();
  const auto finish = [&](Fragments<kHeight, kD / 8>& x, float factor, void* to, int64_t width, int i) {
#pragma unroll
    for (auto& row : x)
#pragma unroll
      for (auto& four : row)
#pragma unroll
        for (float& y : four) y *= factor;
    const int64_t rows = kOwnsQueries ? p.l : p.s, heads = kOwnsQueries ? p.heads : p.kv_heads;
    const int64_t strides[3] = {heads * rows * width, rows * width, width};
    put<kD>(x, tiles.owned[i], warp_row, Rows<T>(to, strides, part.batch, part.head, rows, width), row0 + warp_row);
  };
  const float factor = float(p.scale);
  if constexpr (kSums == Sums::Queries) finish(sums, factor, a.dq, p.e, 0);
  if constexpr (kSums == Sums::Keys || kTwo) finish(sums, factor, a.dk, p.e, 0);
  if constexpr (kSums == Sums::Values) finish(sums, 1.f, a.dv, p.f, 1);
  if constexpr (kTwo) finish(more, 1.f, a.dv, p.f, 1);
}

// f.template operator()<T, kD>() with the type of the elements and the columns that rows fill.
template <class F> void dispatch_shape(DType t, const AttentionProblem& p, const F& f) {
  const int64_t columns = p.e > p.f ? p.e : p.f;
  const auto with_type = [&]<class T>() {
    if (columns <= 64)
      f.template operator()<T, 64>();
    else if (columns <= 128)
      f.template operator()<T, 128>();
    else
      f.template operator()<T, 256>();
  };
  if (t == DType::BFloat16)
    with_type.template operator()<bfloat16>();
  else
    with_type.template operator()<float16>();
}

template <class T, int kD, Sums kSums, bool kPlain> void start_backward(BackwardArguments<float> a) {
  using Shape = BackwardShape<kD, kSums, kPlain>;
  const AttentionProblem& p = a.p;
  a.tiles = int(ceil_div(Shape::kOwnsQueries ? p.l : p.s, Shape::kOwned));
  const int64_t blocks = p.batch * (Shape::kOwnsQueries ? p.heads : p.kv_heads) * a.tiles;
  if (blocks > 0)
    launch(backward_kernel<T, kD, kSums, kPlain>, dim3(unsigned(blocks)), kThreads,
           sizeof(BackwardTiles<T, kD, kSums, kPlain>), a, Scale(p));
}

template <class T, int kD, bool kPlain> void start_forward(ForwardArguments<float> a) {
  const AttentionProblem& p = a.p;
  a.tiles = int(ceil_div(p.l, ForwardShape<kD, kPlain>::kQueries));
  const int64_t blocks = p.batch * p.heads * a.tiles;
  if (blocks > 0)
    launch(forward_kernel<T, kD, kPlain>, dim3(unsigned(blocks)), kThreads, sizeof(ForwardTiles<T, kD, kPlain>), a,
           Scale(p));
}

}  // namespace

bool mma_takes_rows(const void* data, const int64_t* strides) {
  return aligned(data, 16) && strides[0] % 8 == 0 && strides[1] % 8 == 0 && strides[2] % 8 == 0;
}

bool mma_takes(DType t, const AttentionProblem& p) {
  return is_half(t) && architecture() >= 80 && p.e % 8 == 0 && p.f % 8 == 0 && p.e <= 256 && p.f <= 256 &&
         mma_takes_rows(p.q, p.q_strides) && mma_takes_rows(p.k, p.k_strides) && mma_takes_rows(p.v, p.v_strides);
}

void forward_mma(ForwardArguments<float> a) {
  dispatch_shape(a.dtype, a.p, [&]<class T, int kD>() {
    if (kD < 256 && is_plain(a.p))
      start_forward < T, kD, kD<256>(a);
    else
      start_forward<T, kD, false>(a);
  });
}

void backward_mma(BackwardArguments<float> a) {
  dispatch_shape(a.dtype, a.p, [&]<class T, int kD>() {
    const bool plain = is_plain(a.p);
    if constexpr (kD == 256) {
      start_backward<T, kD, Sums::Values, false>(a);
      start_backward<T, kD, Sums::Keys, false>(a);
    } else if (kD == 64 && plain) {
      start_backward<T, kD, Sums::KeysAndValues, kD == 64>(a);
    } else {
      start_backward<T, kD, Sums::KeysAndValues, false>(a);
    }
    if (kD < 256 && plain)
      start_backward < T, kD, Sums::Queries, kD<256>(a);
    else
      start_backward<T, kD, Sums::Queries, false>(a);
  });
}

}  // namespace gg::cuda::attention
