#include "cuda/hopper.h"

#include <string.h>

#include <deque>
#include <unordered_map>
#include <vector>

#include "core/check.h"
#include "cuda/tensor_map.h"
#include "simt/check.h"
#include "simt/counters.h"
#include "simt/internal.h"

namespace gg::simt {
namespace {

constexpr int kWarpgroup = 128;

struct Load {
  TensorMap map;
  char* to;
  int at[4];
  Moment start;
  const void* code;
};

struct PhaseState {
  int count = 0, left = 0;  // arrivals of a phase, and of them still to come
  uint32_t phase = 0;
  int64_t announced = 0, queued = 0;  // bytes
  std::vector<Load> loads;
  Clock clock[2];  // by phase: what its arrivals release is what its waits acquire
  Clock& released() { return clock[phase & 1]; }
};

struct Store {
  TensorMap map;
  const char* from;
  int at[4];
  const void* code;
};

struct Product {
  float* d;
  int registers;
  WgmmaOperands operands;
  uint32_t a[4];
  Place place;
  const void* code;
};

// What one thread has under way, in groups; the last one is not committed yet.
struct Pending {
  std::deque<std::vector<Store>> stores{1};
  std::deque<std::vector<Product>> products{1};
  bool fenced = false;  // a wgmma_fence since the registers were last touched
};

struct Warpgroup {
  int arrived = 0;
  uint32_t round = 0;
  Clock clock[2];  // by round
  const Thread* members[kWarpgroup];
};

std::unordered_map<const void*, PhaseState> phases;
std::unordered_map<const Thread*, Pending> pending;
std::unordered_map<int, Warpgroup> warpgroups;
std::unordered_map<int, int> registers_of;  // of a warp, once set

PhaseState& state_of(const Barrier* b, Place place) {
  auto found = phases.find(b);
  if (found == phases.end()) fault("at %s: a barrier that nobody initialised", here(place).c_str());
  return found->second;
}

size_t box_bytes(const TensorMap& map) {
  size_t bytes = size_t(item_size(map.dtype));
  for (int k = 0; k < map.rank; ++k) bytes *= size_t(map.box[k]);
  return bytes;
}

// Calls f(array bytes or null where outside, shared bytes, n) for each run of the box, in the order of shared memory:
// 16-byte chunks with swizzle, else rows.
template <class F> void for_each_chunk(const TensorMap& map, char* tile, const int* at, F f) {
  const int item = item_size(map.dtype);
  const int row_bytes = map.box[0] * item, chunk = map.swizzle ? 16 : row_bytes;
  int64_t rows = 1;
  for (int k = 1; k < map.rank; ++k) rows *= map.box[k];
  for (int64_t r = 0; r < rows; ++r) {
    bool inside = true;
    int64_t rest = r, offset = 0;
    for (int k = 1; k < map.rank; ++k) {
      int64_t i = at[k] + rest % map.box[k] * map.step[k];
      rest /= map.box[k];
      inside = inside && i >= 0 && i < map.size[k];
      offset += i * map.stride[k];
    }
    for (int c = 0; c < row_bytes; c += chunk) {
      int64_t first = at[0] + c / item, low = std::max<int64_t>(first, 0),
              high = std::min<int64_t>(first + chunk / item, map.size[0]);
      size_t to = size_t(r * row_bytes + c);
      if (map.swizzle) to ^= (to >> 7 & 7) << 4;
      char* shared = tile + to;
      if (!inside || low >= high) {
        f(static_cast<char*>(nullptr), shared, chunk);
        continue;
      }
      if (low > first) f(static_cast<char*>(nullptr), shared, int(low - first) * item);
      f(const_cast<char*>(map.data) + offset + low * item, shared + (low - first) * item, int(high - low) * item);
      if (high < first + chunk / item)
        f(static_cast<char*>(nullptr), shared + (high - first) * item, int(first + chunk / item - high) * item);
    }
  }
}

bool completable(const PhaseState& s) { return s.left == 0 && s.queued == s.announced; }

// Ends the phase: the loads happen now.
void complete(PhaseState& s) {
  ++counters.phases;
  for (const Load& l : s.loads) {
    Bulk box;
    for_each_chunk(l.map, l.to, l.at, [&](char* array, char* shared, int n) {
      if (array) {
        check_access(array, size_t(n), Access::Read, l.code, "TMA load");
        memcpy(shared, array, size_t(n));
      } else {
        memset(shared, 0, size_t(n));
      }
      end_async_of(l.start, shared, size_t(n), l.code);
    });
  }
  s.loads.clear();
  s.announced = s.queued = 0;
  s.left = s.count;
  ++s.phase;
  s.released() = {};
}

void arrive(PhaseState& s, int bytes, Place place) {
  if (s.left == 0 && completable(s)) complete(s);
  if (s.left == 0) fault("at %s: more arrivals than the %d that the barrier counts", here(place).c_str(), s.count);
  release(s.released());
  s.announced += bytes;
  --s.left;
  if (completable(s) && s.loads.empty()) complete(s);
}

struct Waiting {
  PhaseState* state;
  uint32_t parity;
};
bool may_pass(void* argument) {
  auto* w = static_cast<Waiting*>(argument);
  return (w->state->phase & 1) != w->parity || completable(*w->state);
}

}  // namespace

void start_hopper_cluster() {
  phases.clear();
  pending.clear();
  warpgroups.clear();
  registers_of.clear();
}

void end_hopper_thread() {
  auto found = pending.find(machine.self);
  if (found == pending.end()) return;
  Pending& p = found->second;
  for (auto& group : p.products)
    if (!group.empty())
      fault("the thread ends while a wgmma started at %s was never waited for", here(group[0].place).c_str());
  for (auto& group : p.stores)
    if (!group.empty())
      fault("the thread ends while a TMA store started at %s was never waited for",
            describe_code(group[0].code).c_str());
}

void barrier_init(Barrier* b, int count) {
  if (reinterpret_cast<uintptr_t>(b) % 8 != 0)
    fault("a barrier at %p is not aligned to 8 bytes", static_cast<void*>(b));
  PhaseState& s = phases[b];
  s = {};
  s.count = s.left = count;
}
void barrier_init_done() {}

void barrier_arrive(Barrier* b, const char* file, int line) { arrive(state_of(b, {file, line}), 0, {file, line}); }
void barrier_expect(Barrier* b, int bytes, const char* file, int line) {
  arrive(state_of(b, {file, line}), bytes, {file, line});
}

void barrier_wait(Barrier* b, int parity, const char* file, int line) {
  PhaseState& s = state_of(b, {file, line});
  Waiting w{&s, uint32_t(parity)};
  wait(may_pass, &w, "a wait for a phase", {file, line});
  if ((s.phase & 1) == w.parity) complete(s);
  acquire(s.clock[w.parity]);
}

void fence_shared_for_async() { machine.fenced[machine.self->warp] = machine.epoch[machine.self->warp]; }

void set_registers(int registers, bool gives) {
  if (registers % 8 != 0 || registers < 24 || registers > 256)
    fault("setmaxnreg %d: a multiple of 8 from 24 to 256 is needed", registers);
  const int warps = machine.warps_per_block, first = int(machine.self->block) * warps;
  const int given = std::min(255, 65536 / (warps * kWarp) / 8 * 8);
  auto of = [&](int w) {
    auto found = registers_of.find(w);
    return found == registers_of.end() ? given : found->second;
  };
  int before = of(machine.self->warp);
  if (gives && registers > given) fault("setmaxnreg.dec to %d from at most %d registers", registers, given);
  registers_of[machine.self->warp] = registers;
  if (gives || registers == before) return;
  // The others may still be on their way to give: what counts is that all can be had at the end.
  int64_t total = 0;
  for (int w = 0; w < warps; ++w)
    if (registers_of.count(first + w)) total += int64_t(of(first + w)) * kWarp;
  const int had = given * warps * kWarp;
  if (total > had)
    fault("setmaxnreg.inc to %d: the block would hold %lld registers, and was launched with %d", registers,
          (long long)total, had);
}

void tma_load_at(void* to, const TensorMap* map, Barrier* b, const int* at, int rank, Place place) {
  PhaseState& s = state_of(b, place);
  if (rank != map->rank) fault("at %s: %d coordinates for a map of %d axes", here(place).c_str(), rank, map->rank);
  if (shared_offset(to) % (map->swizzle ? 1024 : 128) != 0)
    fault("at %s: a TMA tile at offset %llu of shared memory must be aligned to %d bytes", here(place).c_str(),
          (unsigned long long)shared_offset(to), map->swizzle ? 1024 : 128);
  Load l{*map, static_cast<char*>(to), {}, {}, __builtin_return_address(0)};
  memcpy(l.at, at, sizeof(int) * size_t(rank));
  if (s.left == 0 && completable(s)) complete(s);
  begin_async(to, box_bytes(*map), l.code, "TMA load");
  l.start = now();
  release(s.released());
  s.loads.push_back(l);
  s.queued += int64_t(box_bytes(*map));
  if (s.left == 0 && s.queued > s.announced)
    fault("at %s: TMA brings %lld bytes where %lld were announced", here(place).c_str(), (long long)s.queued,
          (long long)s.announced);
}

void tma_store_at(const TensorMap* map, const void* from, const int* at, int rank, Place place) {
  if (rank != map->rank) fault("at %s: %d coordinates for a map of %d axes", here(place).c_str(), rank, map->rank);
  Store s{*map, static_cast<const char*>(from), {}, __builtin_return_address(0)};
  memcpy(s.at, at, sizeof(int) * size_t(rank));
  mark_leaving(from, box_bytes(*map), true);
  pending[machine.self].stores.back().push_back(s);
}
void tma_store_commit() { pending[machine.self].stores.emplace_back(); }

void finish_stores(int keep) {
  auto& groups = pending[machine.self].stores;
  while (int(groups.size()) - 1 > keep) {
    for (const Store& s : groups.front()) {
      Bulk box;
      for_each_chunk(s.map, const_cast<char*>(s.from), s.at, [&](char* array, char* shared, int n) {
        check_access(shared, size_t(n), Access::AsyncRead, s.code, "TMA store");
        if (!array) return;
        check_access(array, size_t(n), Access::Write, s.code, "TMA store");
        memcpy(array, shared, size_t(n));
      });
      mark_leaving(s.from, box_bytes(s.map), false);
    }
    groups.pop_front();
  }
}

uint64_t shared_offset(const void* p) { return uint64_t(static_cast<const char*>(p) - arena_of(machine.self->block)); }

void wgmma_fence() { pending[machine.self].fenced = true; }

void wgmma_start(float* d, int registers, const WgmmaOperands& operands, Place place) {
  Pending& p = pending[machine.self];
  if (!p.fenced) fault("at %s: wgmma without a wgmma_fence since its registers were touched", here(place).c_str());
  Product product{d, registers, operands, {}, place, __builtin_return_address(0)};
  if (operands.a_registers) memcpy(product.a, operands.a_registers, 16);
  p.products.back().push_back(product);
}
void wgmma_commit() { pending[machine.self].products.emplace_back(); }

namespace {

float widen(uint16_t bits, bool bf16) {
  if (!bf16) return half_to_float(bits);
  uint32_t wide = uint32_t(bits) << 16;
  float x;
  memcpy(&x, &wide, 4);
  return x;
}

// Element (i, k) of a tile that a descriptor names, i along m or n: where it lies in the arena.
size_t place_of(uint64_t descriptor, int i, int k, bool mn_major) {
  size_t start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4,
         stride = (descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1) fault("a wgmma descriptor without the 128-byte swizzle");
  size_t at = mn_major
                  ? start + size_t(i / 64) * leading + size_t(k / 8) * stride + size_t(k % 8) * 128 + size_t(i % 64) * 2
                  : start + size_t(i / 8) * stride + size_t(i % 8) * 128 + size_t(k) * 2;
  return at ^ ((at >> 7 & 7) << 4);
}

// tile[i][k] for n rows i and 16 columns k.
void read_tile(uint64_t descriptor, int n, bool mn_major, bool bf16, float* tile, const void* code) {
  char* arena = arena_of(machine.self->block);
  Bulk tile_of_product;
  for (int i = 0; i < n; i += mn_major ? 8 : 1)
    for (int k = 0; k < 16; k += mn_major ? 1 : 8) {
      const char* chunk = arena + place_of(descriptor, i, k, mn_major);
      check_access(chunk, 16, Access::AsyncRead, code, "wgmma");
      uint16_t eight[8];
      memcpy(eight, chunk, 16);
      for (int e = 0; e < 8; ++e) tile[mn_major ? (i + e) * 16 + k : i * 16 + k + e] = widen(eight[e], bf16);
    }
}

// One product of a warpgroup; all[t] is thread t's part.
void multiply(const Product* const (&all)[kWarpgroup]) {
  const Product& first = *all[0];
  const WgmmaOperands& o = first.operands;
  for (const Product* p : all)
    if (p->registers != first.registers || p->operands.b != o.b || p->operands.a != o.a ||
        p->operands.accumulate != o.accumulate || !p->operands.a_registers != !o.a_registers)
      fault("at %s: the threads of a warpgroup disagree on a wgmma", here(first.place).c_str());
  const int n = first.registers * 2;
  static float a[64 * 16], b[256 * 16], transposed[16 * 256], d[64 * 256];
  read_tile(o.b, n, o.transpose_b, o.bf16, b, first.code);
  for (int k = 0; k < 16; ++k)
    for (int j = 0; j < n; ++j) transposed[k * n + j] = b[j * 16 + k];
  if (o.a_registers) {
    for (int t = 0; t < kWarpgroup; ++t) {
      int row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
      for (int r = 0; r < 4; ++r)
        for (int e = 0; e < 2; ++e)
          a[(row + r % 2 * 8) * 16 + column + r / 2 * 8 + e] = widen(uint16_t(all[t]->a[r] >> 16 * e), o.bf16);
    }
  } else {
    read_tile(o.a, 64, o.transpose_a, o.bf16, a, first.code);
  }
  counters.tensor_multiply_adds += uint64_t(64 * 16) * uint64_t(n);
  for (int i = 0; i < 64; ++i) {
    float* row = d + i * n;
    memset(row, 0, sizeof(float) * size_t(n));
    for (int k = 0; k < 16; ++k) {
      float x = a[i * 16 + k];
      for (int j = 0; j < n; ++j) row[j] += x * transposed[k * n + j];
    }
  }
  for (int t = 0; t < kWarpgroup; ++t) {
    int row = t / 32 * 16 + t % 32 / 4;
    for (int r = 0; r < first.registers; ++r) {
      float x = d[(row + r % 4 / 2 * 8) * n + r / 4 * 8 + t % 4 * 2 + r % 2];
      all[t]->d[r] = o.accumulate ? all[t]->d[r] + x : x;
    }
  }
}

struct Round {
  const uint32_t* now;
  uint32_t mine;
};

}  // namespace

void finish_wgmma(int keep, Place place) {
  const int key = machine.self->warp / 4;
  Warpgroup& g = warpgroups[key];
  Pending& mine = pending[machine.self];
  mine.fenced = false;
  const uint32_t round = g.round;
  Clock& clock = g.clock[round & 1];
  if (g.arrived == 0) clock = {};
  release(clock);
  g.members[machine.self->warp % 4 * kWarp + machine.self->lane] = machine.self;
  if (++g.arrived < kWarpgroup) {
    Round r{&g.round, round};
    wait(
        [](void* argument) {
          auto* waiting = static_cast<Round*>(argument);
          return *waiting->now != waiting->mine;
        },
        &r, "wgmma_wait", place);
    acquire(clock);
    return;
  }
  acquire(clock);
  Pending* all[kWarpgroup];
  for (int t = 0; t < kWarpgroup; ++t) {
    all[t] = &pending[g.members[t]];
    if (all[t]->products.size() != mine.products.size())
      fault("at %s: the threads of a warpgroup have committed different numbers of groups", here(place).c_str());
  }
  while (int(mine.products.size()) - 1 > keep) {
    for (size_t i = 0; i < mine.products.front().size(); ++i) {
      const Product* parts[kWarpgroup];
      for (int t = 0; t < kWarpgroup; ++t) {
        if (all[t]->products.front().size() != mine.products.front().size())
          fault("at %s: the threads of a warpgroup have started different products", here(place).c_str());
        parts[t] = &all[t]->products.front()[i];
      }
      multiply(parts);
    }
    for (Pending* p : all) p->products.pop_front();
  }
  g.arrived = 0;
  ++g.round;
}

}  // namespace gg::simt

namespace gg::cuda {

TensorMap make_tensor_map(DType dtype, const void* data, int rank, const int64_t* size, const int64_t* byte_stride,
                          const int* box, bool swizzle, const int* step) {
  check_tensor_map(dtype, data, rank, size, byte_stride, box, swizzle, step);
  TensorMap map{dtype, static_cast<const char*>(data), rank, {}, {}, {}, {}, swizzle};
  for (int k = 0; k < rank; ++k) {
    map.size[k] = size[k];
    map.stride[k] = k == 0 ? item_size(dtype) : byte_stride[k - 1];
    map.box[k] = box[k];
    map.step[k] = step ? step[k] : 1;
  }
  return map;
}

}  // namespace gg::cuda
