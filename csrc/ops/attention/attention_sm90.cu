// Attention on Hopper: O = softmax(scale Q K^T) V for 16-bit floats, E and F at most kD = 64 or 128 (TMA fills up with
// zeros), causal or not; L queries, S keys.
//
// Persistent blocks own tiles of 2 times 64 queries. One producer thread brings tiles of K and V by TMA into a ring of
// stages; two consumer warpgroups take 64 queries each through all keys: S = Q K^T by wgmma into registers, online
// softmax there (Milakov and Gimelshein 2018), O += P V with P in registers as wgmma's operand. The exponentials of one
// tile run beside the products of the tile before with V, as in FlashAttention-3 (Shah, Bikshandi, Zhang, Thakkar,
// Ramani and Dao 2024), and beside the products of the other warpgroup, which nothing but the ring's barriers ties to
// this one. Outputs leave by TMA while the next tile is under way.
#include "ops/attention/attention_sm90.h"

#include "cuda/block.h"
#include "cuda/hopper.h"

namespace gg::cuda::attention {
namespace {

constexpr int kConsumers = 2, kThreads = 128 * (1 + kConsumers);
constexpr int kRows = 64, kQueries = kConsumers * kRows, kKeys = 128;
constexpr int kLine = 128;  // bytes of 64 elements: longer rows lie in several blocks of lines

template <int kD> struct Tiles {
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

// What a block does next: from row0 on, the queries of a head that see keys up to `visible`.
struct Task { int batch, head, kv_head, row0, visible; };

// Causal tiles differ in length. The heads whose keys share the second-level cache are worked on together, their
// longest tiles first, so that blocks that take every n-th tile get about the same.
struct Arguments {
  TensorMap q, k, v, out;
  float* stats;
  float scale;  // in units of 1 / log2 e
  bool causal;
  int l, s, batch, heads, group;
  int tiles_each, heads_together;

  __host__ __device__ int tasks() const { return batch * heads * tiles_each; }
  __device__ Task task(int index) const {
    const int first = index / (heads_together * tiles_each) * heads_together;
    const int together = least(heads_together, batch * heads - first);
    index -= first * tiles_each;
    const int head = first + index % together, tile = tiles_each - 1 - index / together;
    Task t;
    t.batch = head / heads;
    t.head = head % heads;
    t.kv_head = t.head / group;
    t.row0 = tile * kQueries;
    t.visible = causal ? least(s, t.row0 + kQueries) : s;
    return t;
  }
};

template <int kD> __device__ inline void load_queries(Tiles<kD>& s, const Arguments& a, int index, int consumer) {
  const Task t = a.task(index);
  barrier_expect(&s.q_full[consumer], kRows * kD * 2);
#pragma unroll
  for (int j = 0; j < kD / 64; ++j)
    tma_load(s.q[consumer][j], &a.q, &s.q_full[consumer], 64 * j, t.row0 + consumer * kRows, t.head, t.batch);
}

template <int kD> __device__ inline void produce(Tiles<kD>& s, const Arguments& a) {
  Ring<Tiles<kD>::kStages> ring;
  const auto load = [&](char (&to)[kD / 64][kKeys* kLine], const TensorMap* map, PhaseBarrier* full,
                        PhaseBarrier* empty, const Task& t, int s0) {
    barrier_wait(empty, ring.parity ^ 1);
    barrier_expect(full, kKeys * kD * 2);
#pragma unroll
    for (int j = 0; j < kD / 64; ++j) tma_load(to[j], map, full, 64 * j, s0, t.kv_head, t.batch);
  };
  for (int index = blockIdx.x; index < a.tasks(); index += gridDim.x) {
    const Task t = a.task(index);
    for (int s0 = 0; s0 < t.visible; s0 += kKeys, ring.next()) {
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
__device__ inline void finish(Tiles<kD>& s, const Arguments& a, const Task& t, const Consumer& c,
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
      float* to = a.stats + 2 * ((int64_t(t.batch) * a.heads + t.head) * a.l + row);
      to[0] = none ? 0.f : top[h] * a.scale * float(1 / kLog2e);
      to[1] = share[h];
    }
  }
  if (c.thread == 0) tma_store_wait_read<0>();
  c.meet();
#pragma unroll
  for (int i = 0; i < kD / 2; i += 2) {
    const int row = c.row() + i % 4 / 2 * 8, chunk = i / 4;
    char* line = s.out[c.index][chunk / 8] + row * kLine + (chunk % 8 ^ row % 8) * 16;
    *reinterpret_cast<uint32_t*>(line + c.column() * 2) =
        pack_halves<T>(o[i] * share[i % 4 / 2], o[i + 1] * share[i % 4 / 2]);
  }
  fence_shared_for_async();
  c.meet();
  if (c.thread == 0) {
#pragma unroll
    for (int j = 0; j < kD / 64; ++j) tma_store(&a.out, s.out[c.index][j], 64 * j, row0, t.head, t.batch);
    tma_store_commit();
  }
}

template <class T, int kD> __device__ inline void consume(Tiles<kD>& s, const Arguments& a) {
  Ring<Tiles<kD>::kStages> k_ring, v_ring;
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
  if (c.thread == 0 && int(blockIdx.x) < a.tasks()) load_queries(s, a, blockIdx.x, c.index);
  for (int index = blockIdx.x; index < a.tasks(); index += gridDim.x, q_parity ^= 1) {
    const Task t = a.task(index);
    const int row0 = t.row0 + c.index * kRows;
    // Later keys are hidden from these rows, if not from others of the block.
    const int visible = a.causal ? least(t.visible, row0 + kRows) : t.visible;
    const auto take_scores = [&](int s0) {
      leave_keys();
      if (s0 + kKeys >= visible && index + int(gridDim.x) < a.tasks()) {
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
    const auto pack_weights = [&] {
#pragma unroll
      for (int i = 0; i < kKeys / 2; i += 2) weights[i / 8][i % 8 / 2] = pack_halves<T>(x[i], x[i + 1]);
    };

    top[0] = top[1] = -kInfinity<float>;
    l[0] = l[1] = 0;
#pragma unroll
    for (float& sum : o) sum = 0;
    barrier_wait(&s.q_full[c.index], q_parity);
    start_scores();
    wgmma_wait<0>();
    take_scores(0);
    pack_weights();
    // The products of one tile with V run beside the exponentials of the next.
    for (int s0 = kKeys; s0 < visible; s0 += kKeys) {
      start_scores();
      start_outputs();
      wgmma_wait<1>();
      take_scores(s0);
      wgmma_wait<0>();
      leave_values();
      pack_weights();
#pragma unroll
      for (int i = 0; i < kD / 2; ++i) o[i] *= shrink[i % 4 / 2];
    }
    start_outputs();
    wgmma_wait<0>();
    leave_values();
    for (int s0 = (visible + kKeys - 1) / kKeys * kKeys; s0 < t.visible; s0 += kKeys) {
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
__global__ void __launch_bounds__(kThreads, 1) forward_sm90_kernel(const __grid_constant__ Arguments a) {
  auto& s = shared<Tiles<kD>>();
  s.start();
  if (threadIdx.x < 128) {
    registers_give<24>();
    if (threadIdx.x == 0) produce<kD>(s, a);
  } else {
    registers_take<240>();
    consume<T, kD>(s, a);
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

template <class T, int kD> void start(const Arguments& a) {
  const int tasks = a.tasks(), most = multiprocessors();
  launch(forward_sm90_kernel<T, kD>, dim3(unsigned(tasks < most ? tasks : most)), kThreads, sizeof(Tiles<kD>), a);
}

}  // namespace

bool forward_sm90(const ForwardArguments<float>& f) {
  const AttentionProblem& p = f.p;
  const int64_t columns = p.e > p.f ? p.e : p.f;
  if (architecture() != 90 || !is_plain(p) || columns > 128 || p.e == 0 || p.f == 0) return false;
  if (p.l < kRows || p.s == 0 || p.l > (1 << 28) || p.s > (1 << 28)) return false;
  if (!can_map(p.q_strides, p.batch, p.heads, p.l) || !can_map(p.k_strides, p.batch, p.kv_heads, p.s) ||
      !can_map(p.v_strides, p.batch, p.kv_heads, p.s) || !can_map(f.out_strides, p.batch, p.heads, p.l))
    return false;
  Arguments a;
  a.q = map_of(f.dtype, p.q, p.q_strides, p.batch, p.heads, p.l, p.e, kRows);
  a.k = map_of(f.dtype, p.k, p.k_strides, p.batch, p.kv_heads, p.s, p.e, kKeys);
  a.v = map_of(f.dtype, p.v, p.v_strides, p.batch, p.kv_heads, p.s, p.f, kKeys);
  a.out = map_of(f.dtype, f.out, f.out_strides, p.batch, p.heads, p.l, p.f, kRows);
  a.stats = f.stats;
  a.scale = float(p.scale * kLog2e);
  a.causal = p.causal;
  a.l = int(p.l), a.s = int(p.s), a.batch = int(p.batch), a.heads = int(p.heads);
  a.group = int(p.heads / p.kv_heads);
  a.tiles_each = int(ceil_div(p.l, kQueries));
  constexpr int64_t kCache = 24 << 20;  // half of the second-level cache
  const int64_t keys_fit = kCache / (p.s * (p.e + p.f) * 2);
  a.heads_together = !p.causal || keys_fit < 1 ? 1 : int(least(keys_fit * a.group, p.batch * p.heads));
  const auto with_type = [&]<class T>() { columns <= 64 ? start<T, 64>(a) : start<T, 128>(a); };
  if (f.dtype == DType::BFloat16)
    with_type.template operator()<bfloat16>();
  else
    with_type.template operator()<float16>();
  return true;
}

}  // namespace gg::cuda::attention
