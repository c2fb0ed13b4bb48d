// Attention on Hopper: O = softmax(scale Q K^T) V for 16-bit floats, E and F at most kD = 64 or 128 (TMA fills up with
// zeros), causal or not; L queries, S keys.
//
// Forward: persistent blocks own tiles of 2 times 64 queries. One producer thread brings tiles of K and V by TMA into a
// ring of stages; two consumer warpgroups take 64 queries each through all keys: S = Q K^T by wgmma into registers,
// online softmax there (Milakov and Gimelshein 2018), O += P V with P in registers as wgmma's operand. The exponentials
// of one tile run beside the products of the tile before with V, as in FlashAttention-3 (Shah, Bikshandi, Zhang,
// Thakkar, Ramani and Dao 2024), and beside the products of the other warpgroup, which nothing but the ring's barriers
// ties to this one. Outputs leave by TMA while the next tile is under way.
#include "ops/attention/attention_sm90.h"

#include "cuda/block.h"
#include "cuda/hopper.h"

namespace gg::cuda::attention {
namespace {

constexpr int kConsumers = 2, kThreads = 128 * (1 + kConsumers);
constexpr int kRows = 64, kOwned = kConsumers * kRows;  // of a consumer, and of a block
constexpr int kKeys = 128;                              // of a tile in forward
constexpr int kLine = 128;  // bytes of 64 elements: longer rows lie in several blocks of lines

template <int kD> struct ForwardTiles {
  static constexpr int kStages = kD == 64 ? 4 : 2, kBlocks = kD / 64;
  alignas(1024) char q[kConsumers][kBlocks][kRows * kLine];
  char out[kConsumers][kBlocks][kRows * kLine];
  char k[kStages][kBlocks][kKeys * kLine], v[kStages][kBlocks][kKeys * kLine];
  PhaseBarrier q_full[kConsumers], k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];

  __device__ void start() {
    if (threadIdx.x == 0) {
      for (PhaseBarrier& b : q_full) barrier_init(&b, 1);
      for (int i = 0; i < kStages; ++i) {
        barrier_init(&k_full[i], 1);
        barrier_init(&v_full[i], 1);
        barrier_init(&k_empty[i], 4 * kConsumers);
        barrier_init(&v_empty[i], 4 * kConsumers);
      }
      barrier_init_done();
    }
    __syncthreads();
  }
};

// What a block does next: the rows from row0 on of one head.
struct Task { int batch, head, row0; };

// Causal tasks differ in length. The heads whose rows share the second-level cache are worked on together, their
// longest tasks first, so that blocks that take every n-th task get about the same.
struct Plan {
  int batch, heads, tiles, heads_together;
  bool last_first;

  Plan(int64_t batches, int64_t all_heads, int64_t rows, bool last_is_longest, int64_t together)
      : batch(int(batches)),
        heads(int(all_heads)),
        tiles(int(ceil_div(rows, kOwned))),
        heads_together(int(together < 1 ? 1 : least(together, batches * all_heads))),
        last_first(last_is_longest) {}
  __host__ __device__ int tasks() const { return batch * heads * tiles; }
  __device__ Task task(int index) const {
    const int first = index / (heads_together * tiles) * heads_together;
    const int together = least(heads_together, batch * heads - first);
    index -= first * tiles;
    const int head = first + index % together, tile = index / together;
    return {head / heads, head % heads, (last_first ? tiles - 1 - tile : tile) * kOwned};
  }
};

struct ForwardPlan {
  TensorMap q, k, v, out;
  float* stats;
  float scale;  // in units of 1 / log2 e
  bool causal;
  int l, s, group;
  Plan plan;

  __device__ int visible(const Task& t) const { return causal ? least(s, t.row0 + kOwned) : s; }
};

template <int kD>
__device__ inline void load_queries(ForwardTiles<kD>& s, const ForwardPlan& a, int index, int consumer) {
  const Task t = a.plan.task(index);
  barrier_expect(&s.q_full[consumer], kRows * kD * 2);
#pragma unroll
  for (int j = 0; j < kD / 64; ++j)
    tma_load(s.q[consumer][j], &a.q, &s.q_full[consumer], 64 * j, t.row0 + consumer * kRows, t.head, t.batch);
}

template <int kD> __device__ inline void produce(ForwardTiles<kD>& s, const ForwardPlan& a) {
  Ring<ForwardTiles<kD>::kStages> ring;
  const auto load = [&](char (&to)[kD / 64][kKeys* kLine], const TensorMap* map, PhaseBarrier* full,
                        PhaseBarrier* empty, const Task& t, int s0) {
    barrier_wait(empty, ring.parity ^ 1);
    barrier_expect(full, kKeys * kD * 2);
#pragma unroll
    for (int j = 0; j < kD / 64; ++j) tma_load(to[j], map, full, 64 * j, s0, t.head / a.group, t.batch);
  };
  for (int index = blockIdx.x; index < a.plan.tasks(); index += gridDim.x) {
    const Task t = a.plan.task(index);
    for (int s0 = 0; s0 < a.visible(t); s0 += kKeys, ring.next()) {
      const int i = ring.stage;
      load(s.k[i], &a.k, &s.k_full[i], &s.k_empty[i], t, s0);
      load(s.v[i], &a.v, &s.v_full[i], &s.v_empty[i], t, s0);
    }
  }
}

// A consumer thread holds rows row() and row() + 8 of its warpgroup's, columns 8 j + column() and the next; register
// 4 j + 2 h + u is row h, column u.
struct Consumer {
  int index, thread;
  __device__ Consumer() : index(int(threadIdx.x) / 128 - 1), thread(int(threadIdx.x) % 128) {}
  __device__ int row() const { return thread / 32 * 16 + thread % 32 / 4; }
  __device__ int column() const { return thread % 4 * 2; }
  __device__ void meet() const { meet_threads(1 + index, 128); }
  __device__ void arrive(PhaseBarrier* b) const {
    if (thread % 32 == 0) barrier_arrive(b);
  }
};

// Sums of a consumer, times a factor for each of the thread's rows, as lines that TMA will fetch.
template <class T, int kD>
__device__ inline void put_rows(const float (&x)[kD / 2], const float (&factor)[2], char (&to)[kD / 64][kRows * kLine],
                                const Consumer& c) {
#pragma unroll
  for (int i = 0; i < kD / 2; i += 2) {
    const int row = c.row() + i % 4 / 2 * 8, chunk = i / 4;
    char* line = to[chunk / 8] + row * kLine + (chunk % 8 ^ row % 8) * 16;
    *reinterpret_cast<uint32_t*>(line + c.column() * 2) =
        pack_halves<T>(x[i] * factor[i % 4 / 2], x[i + 1] * factor[i % 4 / 2]);
  }
}

// Weights of a row of columns, as wgmma's left operand.
template <class T, int kN> __device__ inline void pack(const float (&x)[kN / 2], uint32_t (&to)[kN / 16][4]) {
#pragma unroll
  for (int i = 0; i < kN / 2; i += 2) to[i / 8][i % 8 / 2] = pack_halves<T>(x[i], x[i + 1]);
}

// Scores become weights, 2^((x - top) scale), top and sums follow, and what to multiply earlier sums by is `shrink`.
__device__ inline void weigh(float (&x)[kKeys / 2], float scale, float (&top)[2], float (&l)[2], float (&shrink)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float now = top[h];
#pragma unroll
    for (int i = 2 * h; i < kKeys / 2; i += 4) now = fmaxf(now, fmaxf(x[i], x[i + 1]));
    now = warp_reduce<Max>(now, 4);
    // A row that has seen no key yet has top = -inf: exponentials are then taken from 0, and give 0.
    const float base = now == -kInfinity<float> ? 0.f : now * scale;
    shrink[h] = exp2_fast(top[h] * scale - base);
    top[h] = now;
    float sum = 0;
#pragma unroll
    for (int i = 2 * h; i < kKeys / 2; i += 4)
#pragma unroll
      for (int u = i; u < i + 2; ++u) sum += x[u] = exp2_fast(__fmaf_rn(x[u], scale, -base));
    l[h] = l[h] * shrink[h] + sum;
  }
}

// A tile of outputs leaves by TMA; its row's statistics directly.
template <class T, int kD>
__device__ inline void finish(ForwardTiles<kD>& s, const ForwardPlan& a, const Task& t, const Consumer& c,
                              const float (&o)[kD / 2], const float (&top)[2], const float (&l)[2]) {
  const int row0 = t.row0 + c.index * kRows;
  float share[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float total = warp_reduce<Sum>(l[h], 4);
    const bool none = total == 0;  // every score was -inf
    share[h] = none ? 0.f : 1 / total;
    const int row = row0 + c.row() + 8 * h;
    if (c.column() == 0 && row < a.l) {
      float* to = a.stats + 2 * ((int64_t(t.batch) * a.plan.heads + t.head) * a.l + row);
      to[0] = none ? 0.f : top[h] * a.scale * float(1 / kLog2e);
      to[1] = share[h];
    }
  }
  if (c.thread == 0) tma_store_wait_read<0>();
  c.meet();
  put_rows<T, kD>(o, share, s.out[c.index], c);
  fence_shared_for_async();
  c.meet();
  if (c.thread == 0) {
#pragma unroll
    for (int j = 0; j < kD / 64; ++j) tma_store(&a.out, s.out[c.index][j], 64 * j, row0, t.head, t.batch);
    tma_store_commit();
  }
}

template <class T, int kD> __device__ inline void consume(ForwardTiles<kD>& s, const ForwardPlan& a) {
  Ring<ForwardTiles<kD>::kStages> k_ring, v_ring;
  const Consumer c;
  float x[kKeys / 2], o[kD / 2], top[2], l[2], shrink[2];
  uint32_t weights[kKeys / 16][4];

  const auto start_scores = [&] {
    barrier_wait(&s.k_full[k_ring.stage], k_ring.parity);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kD / 16; ++k)
      wgmma<T>(x, tile_descriptor(s.q[c.index][k / 4] + k % 4 * 32, 1024),
               tile_descriptor(s.k[k_ring.stage][k / 4] + k % 4 * 32, 1024), k > 0);
    wgmma_commit();
  };
  const auto start_outputs = [&] {
    barrier_wait(&s.v_full[v_ring.stage], v_ring.parity);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k)
      wgmma<T, true>(o, weights[k], tile_descriptor(s.v[v_ring.stage][0] + k * 16 * kLine, 1024, kKeys * kLine), true);
    wgmma_commit();
  };
  const auto leave_keys = [&] {
    c.arrive(&s.k_empty[k_ring.stage]);
    k_ring.next();
  };
  const auto leave_values = [&] {
    c.arrive(&s.v_empty[v_ring.stage]);
    v_ring.next();
  };

  int q_parity = 0;
  if (c.thread == 0 && int(blockIdx.x) < a.plan.tasks()) load_queries(s, a, blockIdx.x, c.index);
  for (int index = blockIdx.x; index < a.plan.tasks(); index += gridDim.x, q_parity ^= 1) {
    const Task t = a.plan.task(index);
    const int row0 = t.row0 + c.index * kRows;
    // Later keys are hidden from these rows, if not from others of the block.
    const int all_visible = a.visible(t), visible = a.causal ? least(all_visible, row0 + kRows) : all_visible;
    const auto take_scores = [&](int s0) {
      leave_keys();
      if (s0 + kKeys >= visible && index + int(gridDim.x) < a.plan.tasks()) {
        c.meet();  // Q has been read by all
        if (c.thread == 0) load_queries(s, a, index + gridDim.x, c.index);
      }
      if (s0 + kKeys > a.s || (a.causal && s0 + kKeys - 1 > row0)) {
#pragma unroll
        for (int i = 0; i < kKeys / 2; ++i) {
          const int key = s0 + i / 4 * 8 + c.column() + i % 2, query = row0 + c.row() + i % 4 / 2 * 8;
          if (key >= a.s || (a.causal && key > query)) x[i] = -kInfinity<float>;
        }
      }
      weigh(x, a.scale, top, l, shrink);
    };
    top[0] = top[1] = -kInfinity<float>;
    l[0] = l[1] = 0;
#pragma unroll
    for (float& sum : o) sum = 0;
    barrier_wait(&s.q_full[c.index], q_parity);
    start_scores();
    wgmma_wait<0>();
    take_scores(0);
    pack<T, kKeys>(x, weights);
    // The products of one tile with V run beside the exponentials of the next.
    for (int s0 = kKeys; s0 < visible; s0 += kKeys) {
      start_scores();
      start_outputs();
      wgmma_wait<1>();
      take_scores(s0);
      wgmma_wait<0>();
      leave_values();
      pack<T, kKeys>(x, weights);
#pragma unroll
      for (int i = 0; i < kD / 2; ++i) o[i] *= shrink[i % 4 / 2];
    }
    start_outputs();
    wgmma_wait<0>();
    leave_values();
    for (int s0 = (visible + kKeys - 1) / kKeys * kKeys; s0 < all_visible; s0 += kKeys) {
      barrier_wait(&s.k_full[k_ring.stage], k_ring.parity);
      leave_keys();
      barrier_wait(&s.v_full[v_ring.stage], v_ring.parity);
      leave_values();
    }
    finish<T>(s, a, t, c, o, top, l);
  }
  if (c.thread == 0) tma_store_wait<0>();
}

// hot: no spills
template <class T, int kD>
__global__ void __launch_bounds__(kThreads, 1) forward_sm90_kernel(const __grid_constant__ ForwardPlan a) {
  auto& s = shared<ForwardTiles<kD>>();
  s.start();
  if (threadIdx.x < 128) {
    registers_give<24>();
    if (threadIdx.x == 0) produce<kD>(s, a);
  } else {
    registers_take<240>();
    consume<T, kD>(s, a);
  }
}

// Backward. As in attention_mma_cuda.cu one kernel serves both sides: with A, A', B, B' = Q, dO, K, V where a block
// owns queries, K, V, Q, dO where it owns keys,
//   X = A B^T,  dX = A' B'^T,  P = 2^(scale X - base),  dS = P * (dX - D),
// dQ += dS B or dK += dS B, dV += P B'. A consumer's products wait in line: dX runs beside the exponentials, dV beside
// dS, the sums of one turn beside nothing but the scores of the next, which start with them.
constexpr int kStreamed = 64;  // rows of a tile of B

template <int kD> struct BackwardTiles {
  static constexpr int kStages = kD == 64 ? 4 : 3, kBlocks = kD / 64;
  alignas(1024) char owned[2][2][kConsumers][kBlocks][kRows * kLine];  // of this task and the next: A, A'
  char streamed[kStages][2][kBlocks][kStreamed * kLine];               // B, B'
  float base[kStages][kStreamed], d[kStages][kStreamed];               // where queries are streamed
  PhaseBarrier owned_full[2], owned_empty[2], full[kStages], empty[kStages];

  // fillers: how many threads bring a tile of B.
  __device__ void start(int fillers) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < 2; ++i) {
        barrier_init(&owned_full[i], 1);
        barrier_init(&owned_empty[i], kConsumers);
      }
      for (int i = 0; i < kStages; ++i) {
        barrier_init(&full[i], fillers);
        barrier_init(&empty[i], 4 * kConsumers);
      }
      barrier_init_done();
    }
    __syncthreads();
  }
};

struct BackwardPlan {
  TensorMap owned[2], streamed[2], sums[2];
  const float *stats, *d;
  float scale, factor;  // of scores, in units of 1 / log2 e, and of dQ and dK
  bool causal;
  int l, s, heads, group;  // heads of queries
  Plan plan;
};

// The tiles of the other side that a task meets: keys, or the queries of each head that reads the task's keys.
template <bool kOwnsQueries> struct Turns {
  int first, per_head, head0, count;

  __device__ Turns(const BackwardPlan& a, const Task& t)
      : first(!kOwnsQueries && a.causal ? t.row0 : 0),
        per_head(0),
        head0(kOwnsQueries ? t.head / a.group : t.head * a.group),
        count(0) {
    const int end = !kOwnsQueries ? a.l : a.causal ? least(a.s, t.row0 + kOwned) : a.s;
    per_head = end > first ? (end - first + kStreamed - 1) / kStreamed : 0;
    count = per_head * (kOwnsQueries ? 1 : a.group);
  }
  __device__ int head(int turn) const { return kOwnsQueries ? head0 : head0 + turn / per_head; }
  __device__ int row0(int turn) const { return first + (kOwnsQueries ? turn : turn % per_head) * kStreamed; }
};

// By a warp: one lane starts the copies, and where queries are streamed all write their rows' numbers.
template <int kD, bool kOwnsQueries>
__device__ inline void produce_backward(BackwardTiles<kD>& s, const BackwardPlan& a) {
  const int lane = threadIdx.x % 32;
  Ring<BackwardTiles<kD>::kStages> ring;
  Ring<2> slots;
  for (int index = blockIdx.x; index < a.plan.tasks(); index += gridDim.x, slots.next()) {
    const Task t = a.plan.task(index);
    const Turns<kOwnsQueries> turns(a, t);
    barrier_wait(&s.owned_empty[slots.stage], slots.parity ^ 1);
    if (lane == 0) {
      PhaseBarrier* full = &s.owned_full[slots.stage];
      barrier_expect(full, 2 * kOwned * kD * 2);
#pragma unroll
      for (int i = 0; i < 2 * kConsumers * (kD / 64); ++i) {
        const int side = i % 2, consumer = i / 2 % kConsumers, j = i / 2 / kConsumers;
        tma_load(s.owned[slots.stage][side][consumer][j], &a.owned[side], full, 64 * j, t.row0 + consumer * kRows,
                 t.head, t.batch);
      }
    }
    for (int turn = 0; turn < turns.count; ++turn, ring.next()) {
      const int head = turns.head(turn), row0 = turns.row0(turn), stage = ring.stage;
      float base[2], d[2];
      if (!kOwnsQueries)
        for (int h = 0; h < 2; ++h)
          row_numbers(a.stats, a.d, t.batch * a.heads + head, row0 + lane + 32 * h, a.l, base[h], d[h]);
      barrier_wait(&s.empty[stage], ring.parity ^ 1);
      if (lane == 0) {
        barrier_expect(&s.full[stage], 2 * kStreamed * kD * 2);
#pragma unroll
        for (int i = 0; i < 2 * (kD / 64); ++i)
          tma_load(s.streamed[stage][i % 2][i / 2], &a.streamed[i % 2], &s.full[stage], 64 * (i / 2), row0, head,
                   t.batch);
      }
      if (!kOwnsQueries) {
        for (int h = 0; h < 2; ++h) s.base[stage][lane + 32 * h] = base[h], s.d[stage][lane + 32 * h] = d[h];
        barrier_arrive(&s.full[stage]);
      }
    }
  }
}

template <class T, int kD, bool kOwnsQueries>
__device__ inline void consume_backward(BackwardTiles<kD>& s, const BackwardPlan& a) {
  Ring<BackwardTiles<kD>::kStages> ring;
  Ring<2> slots;
  const Consumer c;
  float sums[kD / 2], more[kD / 2], x[kStreamed / 2], dx[kStreamed / 2];  // dQ or dK, dV, P, dS
  uint32_t packed[kStreamed / 16][4];

  const auto start_products = [&] {
    barrier_wait(&s.full[ring.stage], ring.parity);
    wgmma_fence();
#pragma unroll
    for (int side = 0; side < 2; ++side) {
#pragma unroll
      for (int k = 0; k < kD / 16; ++k)
        wgmma<T>(side ? dx : x, tile_descriptor(s.owned[slots.stage][side][c.index][k / 4] + k % 4 * 32, 1024),
                 tile_descriptor(s.streamed[ring.stage][side][k / 4] + k % 4 * 32, 1024), k > 0);
      wgmma_commit();
    }
  };
  const auto start_sums = [&](float (&to)[kD / 2], int side, int stage) {
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kStreamed / 16; ++k)
      wgmma<T, true>(to, packed[k],
                     tile_descriptor(s.streamed[stage][side][0] + k * 16 * kLine, 1024, kStreamed * kLine), true);
    wgmma_commit();
  };

  for (int index = blockIdx.x; index < a.plan.tasks(); index += gridDim.x) {
    const Task t = a.plan.task(index);
    const Turns<kOwnsQueries> turns(a, t);
    const int row0 = t.row0 + c.index * kRows;
    float row_base[2] = {}, row_d[2] = {};
    if (kOwnsQueries)
      for (int h = 0; h < 2; ++h)
        row_numbers(a.stats, a.d, t.batch * a.heads + t.head, row0 + c.row() + 8 * h, a.l, row_base[h], row_d[h]);
#pragma unroll
    for (int i = 0; i < kD / 2; ++i) sums[i] = more[i] = 0;

    barrier_wait(&s.owned_full[slots.stage], slots.parity);
    // From the products of a turn, dX still under way, to dS.
    const auto take_products = [&](int turn) {
      const int stage = ring.stage, column0 = turns.row0(turn);
      if (kOwnsQueries ? column0 + kStreamed > a.s || (a.causal && column0 + kStreamed - 1 > row0)
                       : a.causal && row0 + kRows - 1 > column0) {
#pragma unroll
        for (int i = 0; i < kStreamed / 2; ++i) {
          const int row = row0 + c.row() + i % 4 / 2 * 8, column = column0 + i / 4 * 8 + c.column() + i % 2;
          const int key = kOwnsQueries ? column : row, query = kOwnsQueries ? row : column;
          if (key >= a.s || (a.causal && key > query)) x[i] = -kInfinity<float>;
        }
      }
#pragma unroll
      for (int i = 0; i < kStreamed / 2; ++i) {
        const float base = kOwnsQueries ? row_base[i % 4 / 2] : s.base[stage][i / 4 * 8 + c.column() + i % 2];
        x[i] = exp2_fast(__fmaf_rn(x[i], a.scale, -base));
      }
      if constexpr (kOwnsQueries) {
        wgmma_wait<0>();
      } else {
        pack<T, kStreamed>(x, packed);
        start_sums(more, 1, stage);
        wgmma_wait<1>();
      }
#pragma unroll
      for (int i = 0; i < kStreamed / 2; ++i) {
        const float d = kOwnsQueries ? row_d[i % 4 / 2] : s.d[stage][i / 4 * 8 + c.column() + i % 2];
        dx[i] = x[i] * (dx[i] - d);
      }
      if constexpr (!kOwnsQueries) wgmma_wait<0>();
      pack<T, kStreamed>(dx, packed);
    };
    int before = 0;
    if (turns.count > 0) {
      start_products();
      wgmma_wait<1>();
      take_products(0);
      for (int turn = 1; turn < turns.count; ++turn) {
        before = ring.stage;
        ring.next();
        start_sums(sums, 0, before);
        if (!kOwnsQueries && kD == 128) wgmma_wait<0>();  // the registers do not hold all that would be under way
        start_products();
        wgmma_wait<1>();  // X, and the sums of the turn before
        c.arrive(&s.empty[before]);
        take_products(turn);
      }
      start_sums(sums, 0, ring.stage);
      wgmma_wait<0>();
      c.arrive(&s.empty[ring.stage]);
      ring.next();
    }

    if (c.thread == 0 && index >= int(gridDim.x)) {  // what left from the other slot has left
      tma_store_wait_read<0>();
      barrier_arrive(&s.owned_empty[slots.stage ^ 1]);
    }
    c.meet();  // A and A' have been read by all
    const float factor[2] = {a.factor, a.factor}, one[2] = {1, 1};
    put_rows<T, kD>(sums, factor, s.owned[slots.stage][0][c.index], c);
    if constexpr (!kOwnsQueries) put_rows<T, kD>(more, one, s.owned[slots.stage][1][c.index], c);
    fence_shared_for_async();
    c.meet();
    if (c.thread == 0) {
#pragma unroll
      for (int side = 0; side < (kOwnsQueries ? 1 : 2); ++side)
#pragma unroll
        for (int j = 0; j < kD / 64; ++j)
          tma_store(&a.sums[side], s.owned[slots.stage][side][c.index][j], 64 * j, row0, t.head, t.batch);
      tma_store_commit();
    }
    slots.next();
  }
  if (c.thread == 0) tma_store_wait<0>();
}

// hot: no spills
template <class T, int kD, bool kOwnsQueries>
__global__ void __launch_bounds__(kThreads, 1) backward_sm90_kernel(const __grid_constant__ BackwardPlan a) {
  auto& s = shared<BackwardTiles<kD>>();
  s.start(kOwnsQueries ? 1 : 1 + 32);
  if (threadIdx.x < 128) {
    registers_give<24>();
    if (threadIdx.x < 32) produce_backward<kD, kOwnsQueries>(s, a);
  } else {
    registers_take<240>();
    consume_backward<T, kD, kOwnsQueries>(s, a);
  }
}

// (batch, heads, rows, columns) by strides in elements, as boxes of `box_rows` lines. TMA wants a stride even where an
// axis has one element.
TensorMap map_of(DType t, const void* data, const int64_t* strides, int64_t batch, int64_t heads, int64_t rows,
                 int64_t columns, int box_rows) {
  const int64_t size[] = {columns, rows, heads, batch};
  const int64_t step[] = {rows > 1 ? strides[2] : 64, heads > 1 ? strides[1] : 64, batch > 1 ? strides[0] : 64};
  const int64_t bytes[] = {2 * step[0], 2 * step[1], 2 * step[2]};
  const int box[] = {64, box_rows, 1, 1};
  return make_tensor_map(t, data, 4, size, bytes, box);
}

// Whether TMA can follow the strides of (batch, heads, rows): positive wherever there is more than one.
bool can_map(const int64_t* strides, int64_t batch, int64_t heads, int64_t rows) {
  return (batch == 1 || strides[0] > 0) && (heads == 1 || strides[1] > 0) && (rows == 1 || strides[2] > 0);
}

// Whether TMA and the consumers' tiles suit a problem.
bool takes(const AttentionProblem& p) {
  if (architecture() != 90 || !is_plain(p) || p.e == 0 || p.f == 0 || p.e > 128 || p.f > 128) return false;
  if (p.l < kRows || p.s == 0 || p.l > (1 << 28) || p.s > (1 << 28)) return false;
  return can_map(p.q_strides, p.batch, p.heads, p.l) && can_map(p.k_strides, p.batch, p.kv_heads, p.s) &&
         can_map(p.v_strides, p.batch, p.kv_heads, p.s);
}

// How many heads of `rows` rows of E and F elements fit in half of the second-level cache.
int64_t heads_in_cache(const AttentionProblem& p, int64_t rows) { return (24 << 20) / (rows * (p.e + p.f) * 2); }

dim3 blocks_for(const Plan& plan) { return dim3(unsigned(least(plan.tasks(), multiprocessors()))); }

// f.template operator()<T, kD>() with the type of the elements and the columns that rows fill.
template <class F> void dispatch_shape(DType t, const AttentionProblem& p, const F& f) {
  const auto with_type = [&]<class T>() {
    if (p.e <= 64 && p.f <= 64)
      f.template operator()<T, 64>();
    else
      f.template operator()<T, 128>();
  };
  if (t == DType::BFloat16)
    with_type.template operator()<bfloat16>();
  else
    with_type.template operator()<float16>();
}

}  // namespace

bool forward_sm90(const ForwardArguments<float>& f) {
  const AttentionProblem& p = f.p;
  if (!takes(p) || !can_map(f.out_strides, p.batch, p.heads, p.l)) return false;
  const int64_t group = p.heads / p.kv_heads;
  const ForwardPlan a{map_of(f.dtype, p.q, p.q_strides, p.batch, p.heads, p.l, p.e, kRows),
                      map_of(f.dtype, p.k, p.k_strides, p.batch, p.kv_heads, p.s, p.e, kKeys),
                      map_of(f.dtype, p.v, p.v_strides, p.batch, p.kv_heads, p.s, p.f, kKeys),
                      map_of(f.dtype, f.out, f.out_strides, p.batch, p.heads, p.l, p.f, kRows),
                      f.stats,
                      float(p.scale * kLog2e),
                      p.causal,
                      int(p.l),
                      int(p.s),
                      int(group),
                      Plan(p.batch, p.heads, p.l, true, p.causal ? heads_in_cache(p, p.s) * group : 1)};
  dispatch_shape(f.dtype, p, [&]<class T, int kD>() {
    launch(forward_sm90_kernel<T, kD>, blocks_for(a.plan), kThreads, sizeof(ForwardTiles<kD>), a);
  });
  return true;
}

bool backward_sm90(const BackwardArguments<float>& b) {
  const AttentionProblem& p = b.p;
  if (!takes(p) || !can_map(b.dout_strides, p.batch, p.heads, p.l)) return false;
  const int64_t group = p.heads / p.kv_heads;
  const auto map_dense = [&](void* data, int64_t heads, int64_t rows, int64_t columns) {
    const int64_t strides[] = {heads * rows * columns, rows * columns, columns};
    return map_of(b.dtype, data, strides, p.batch, heads, rows, columns, kRows);
  };
  const TensorMap q = map_of(b.dtype, p.q, p.q_strides, p.batch, p.heads, p.l, p.e, kRows),
                  k = map_of(b.dtype, p.k, p.k_strides, p.batch, p.kv_heads, p.s, p.e, kRows),
                  v = map_of(b.dtype, p.v, p.v_strides, p.batch, p.kv_heads, p.s, p.f, kRows),
                  dout = map_of(b.dtype, b.dout, b.dout_strides, p.batch, p.heads, p.l, p.f, kRows),
                  dq = map_dense(b.dq, p.heads, p.l, p.e), dk = map_dense(b.dk, p.kv_heads, p.s, p.e),
                  dv = map_dense(b.dv, p.kv_heads, p.s, p.f);
  const auto start = [&](const TensorMap(&maps)[6], auto kernel, size_t shared_bytes, const Plan& plan) {
    const BackwardPlan a{{maps[0], maps[1]},
                         {maps[2], maps[3]},
                         {maps[4], maps[5]},
                         b.stats,
                         b.d,
                         float(p.scale * kLog2e),
                         float(p.scale),
                         p.causal,
                         int(p.l),
                         int(p.s),
                         int(p.heads),
                         int(group),
                         plan};
    launch(kernel, blocks_for(plan), kThreads, shared_bytes, a);
  };
  const int64_t together = p.causal ? heads_in_cache(p, p.s) * group : 1;
  const int64_t together_keys = p.causal ? heads_in_cache(p, p.l * group) : 1;
  dispatch_shape(b.dtype, p, [&]<class T, int kD>() {
    start({k, v, q, dout, dk, dv}, backward_sm90_kernel<T, kD, false>, sizeof(BackwardTiles<kD>),
          Plan(p.batch, p.kv_heads, p.s, false, together_keys));
    start({q, dout, k, v, dq, dq}, backward_sm90_kernel<T, kD, true>, sizeof(BackwardTiles<kD>),
          Plan(p.batch, p.heads, p.l, true, together));
  });
  return true;
}

}  // namespace gg::cuda::attention
