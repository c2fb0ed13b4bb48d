#include "simt/runtime.h"

#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <map>
#include <numeric>
#include <random>
#include <sstream>
#include <vector>

#include "core/check.h"
#include "core/fault.h"
#include "simt/check.h"
#include "simt/counters.h"
#include "simt/internal.h"

#if defined(__x86_64__)
asm(R"(
.text
.globl gg_simt_switch
.hidden gg_simt_switch
.type gg_simt_switch, @function
gg_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gg_simt_switch, .-gg_simt_switch
)");
#endif

namespace gg::simt {

Machine machine;
char* stacks;  // kMaxThreads * kMaxCluster of them

Settings& settings() {
  static Settings s;
  return s;
}

namespace {

// Lanes of a warp, or warps of a block, that meet: who has come, what they brought, and in which round.
struct Meeting {
  unsigned mask = 0, arrived = 0;
  uint32_t round = 0;
  size_t bytes = 0;
  const char* what = nullptr;
  alignas(16) char in[kWarp * kMaxSlot];
  alignas(16) char out[2][kWarp * kMaxSlot];  // by round: late lanes read while early ones are at the next meeting
};

struct BlockBarrier {
  int arrived = 0;
  int expected = 0;
  uint32_t round = 0;
  uint64_t warps[kMaxWarps / 64] = {};  // that have come
  Clock clock[2];                       // by round: early threads come again before late ones have left
};

constexpr int kMeetings = 8, kNamedBarriers = 16;
std::vector<Thread> threads;
std::vector<Meeting> meetings;  // kMeetings a warp
BlockBarrier barriers[kMaxCluster][kNamedBarriers], cluster_wide;
std::vector<char*> free_stacks;
std::vector<char> shared_memory;
char* arena_base;
size_t arena_stride;

void make_stacks() {
  if (stacks) return;
  void* p = mmap(nullptr, kAllStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw OutOfMemory("simt: no memory for the stacks of threads");
  stacks = static_cast<char*>(p);
  shared_memory.resize(256 * 1024 * kMaxCluster);
  auto base = reinterpret_cast<uintptr_t>(shared_memory.data());
  arena_base = reinterpret_cast<char*>((base + 1023) / 1024 * 1024);
}

void leave() {  // the running thread stops for now
  Thread* t = machine.self;
  switch_context(t->context, machine.scheduler);
}

void thread_entry() {
  machine.launch->call(machine.launch->params);
  end_hopper_thread();
  machine.self->state = State::Done;
  leave();
}

std::string text(Dim3 d) { return message("(", d.x, ", ", d.y, ", ", d.z, ")"); }

std::string waits() {
  std::map<std::string, std::pair<int, const Thread*>> groups;
  int ended = 0, running = 0;
  for (const Thread& t : threads) {
    if (t.state == State::Done) ++ended;
    if (t.state != State::Waiting) continue;
    ++running;
    std::string key = message(t.what, " at ", here(t.place));
    auto [at, fresh] = groups.try_emplace(key, 0, &t);
    ++at->second.first;
  }
  std::string out = message("nobody can go on: ", ended, " of ", threads.size(), " threads have ended");
  for (auto& [key, group] : groups)
    out += message("; ", group.first, " wait in ", key, ", the first of them ", describe_thread(*group.second));
  return out;
}

void run_cluster(const std::vector<int>& order) {
  Machine& m = machine;
  const Launch& l = *m.launch;
  size_t left = threads.size();
  while (left > 0) {
    bool progress = false;
    for (int i : order) {
      Thread& t = threads[size_t(i)];
      if (t.state == State::Done || (t.state == State::Waiting && !t.ready(t.argument))) continue;
      if (t.state == State::Fresh) {
        t.stack = free_stacks.back();
        free_stacks.pop_back();
        make_context(t.context, t.stack, kStackBytes, thread_entry);
      }
      t.state = State::Running;
      m.self = &t;
      switch_context(m.scheduler, t.context);
      m.self = nullptr;
      progress = true;
      if (!m.failure.empty()) return;
      if (t.state == State::Done) {
        free_stacks.push_back(t.stack);
        --left;
      }
    }
    if (!progress) {
      m.failure = message("simt: ", kernel_name(l.kernel), ": block ", text(m.block_index[0]), ": ", waits());
      return;
    }
  }
}

void start_cluster(uint64_t number) {
  Machine& m = machine;
  const Launch& l = *m.launch;
  int per_block = int(l.block.x * l.block.y * l.block.z);
  m.cluster_number = number;
  m.warps_per_block = (per_block + kWarp - 1) / kWarp;
  m.warps = m.warps_per_block * int(m.blocks);
  for (unsigned b = 0; b < m.blocks; ++b) {
    uint64_t linear = number * m.blocks + b;
    m.block_index[b] = Dim3(unsigned(linear % l.grid.x), unsigned(linear / l.grid.x % l.grid.y),
                            unsigned(linear / l.grid.x / l.grid.y));
    for (int i = 0; i < per_block; ++i) {
      Thread& t = threads[size_t(b) * size_t(per_block) + size_t(i)];
      t.index = Dim3(unsigned(i) % l.block.x, unsigned(i) / l.block.x % l.block.y, unsigned(i) / l.block.x / l.block.y);
      t.lane = i % kWarp;
      t.warp = int(b) * m.warps_per_block + i / kWarp;
      t.block = b;
      t.number = uint16_t(b * unsigned(per_block) + unsigned(i));
      m.warp_of[t.number] = uint8_t(t.warp);
      t.state = State::Fresh;
      t.copies.clear();
      t.copy_groups = 0;
    }
    for (BlockBarrier& barrier : barriers[b]) barrier = {};
  }
  cluster_wide = {};
  start_hopper_cluster();
  for (int w = 0; w < m.warps; ++w) {
    m.epoch[w] = 1;
    m.fenced[w] = 0;
    memset(m.clock[w].of, 0, sizeof(uint32_t) * size_t(m.warps));
    for (int k = 0; k < kMeetings; ++k) {
      Meeting& meeting = meetings[size_t(w * kMeetings + k)];
      meeting.mask = meeting.arrived = 0;
    }
  }
}

void check_launch(const Launch& l) {
  uint64_t per_block = uint64_t(l.block.x) * l.block.y * l.block.z;
  auto refuse = [&](const std::string& why) {
    throw ValueError(message("launch of ", kernel_name(l.kernel), " with grid ", text(l.grid), ", block ",
                             text(l.block), " and ", l.shared_bytes, " bytes of shared memory: ", why));
  };
  if (per_block == 0 || per_block > kMaxThreads) refuse(message(per_block, " threads in a block; 1 to 1024 can be"));
  if (l.block.z > 64) refuse("a block's z is at most 64");
  if (l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0) refuse("an empty grid");
  if (l.grid.x > 0x7fffffffu || l.grid.y > 65535 || l.grid.z > 65535) refuse("a grid's y and z are at most 65535");
  if (l.shared_bytes > kMaxShared) refuse(message("a block can have ", kMaxShared));
  if (l.params_bytes > 4096 + 64) refuse(message(l.params_bytes, " bytes of arguments; 4096 can be"));
  if (l.cluster == 0 || l.cluster > kMaxCluster || l.grid.x % l.cluster != 0)
    refuse(
        message("a cluster of ", l.cluster, " blocks along x does not divide the grid or is more than ", kMaxCluster));
}

}  // namespace

void run(const Launch& l) {
  check_launch(l);
  Unlocked memory_is_open;
  make_stacks();
  Machine& m = machine;
  uint64_t per_block = uint64_t(l.block.x) * l.block.y * l.block.z;
  uint64_t clusters = uint64_t(l.grid.x) * l.grid.y * l.grid.z / l.cluster;
  m.launch = &l;
  m.blocks = l.cluster;
  m.failure.clear();
  threads.resize(per_block * l.cluster);
  size_t warps = (per_block + kWarp - 1) / kWarp * l.cluster;
  if (meetings.size() < warps * kMeetings) meetings.resize(warps * kMeetings);
  free_stacks.clear();
  for (size_t i = threads.size(); i-- > 0;) free_stacks.push_back(stacks + i * kStackBytes);
  arena_stride = (l.shared_bytes + 1023) / 1024 * 1024 + 1024;

  const Settings& s = settings();
  std::vector<int> order(threads.size());
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(s.seed);
  if (s.schedule == Schedule::Reverse) std::reverse(order.begin(), order.end());
  std::vector<uint64_t> block_order;
  if (s.schedule == Schedule::Random && clusters <= (1 << 20)) {
    block_order.resize(clusters);
    std::iota(block_order.begin(), block_order.end(), 0);
    std::shuffle(block_order.begin(), block_order.end(), random);
  }
  const bool watched = s.checks || counting;
  if (counting) ++counters.launches;
  if (watched) begin_checked_launch(l);
  for (uint64_t i = 0; i < clusters && m.failure.empty(); ++i) {
    uint64_t number = !block_order.empty() ? block_order[i] : s.schedule == Schedule::Reverse ? clusters - 1 - i : i;
    if (s.schedule == Schedule::Random) std::shuffle(order.begin(), order.end(), random);
    start_cluster(number);
    if (watched) begin_checked_cluster(arena_base, arena_stride, m.blocks);
    run_cluster(order);
    if (counting) end_counted_cluster();
  }
  if (watched) end_checked_launch();
  m.launch = nullptr;
  if (!m.failure.empty()) throw KernelFault(m.failure);
}

Dim3 thread_index() { return machine.self->index; }
Dim3 block_index() { return machine.block_index[machine.self->block]; }
Dim3 block_size() { return machine.launch->block; }
Dim3 grid_size() { return machine.launch->grid; }
int lane() { return machine.self->lane; }
int warp_in_cluster() { return machine.self->warp; }
unsigned block_in_cluster() { return machine.self->block; }
unsigned cluster_size() { return machine.blocks; }
char* arena_of(unsigned block) { return arena_base + block * arena_stride; }

void* arena(size_t align, size_t bytes) {
  if (bytes > machine.launch->shared_bytes)
    fault("shared memory is used as a struct of %zu bytes, but the launch gave %zu", bytes,
          machine.launch->shared_bytes);
  (void)align;  // an arena begins at a multiple of 1024
  return arena_of(machine.self->block);
}

void fault(const char* format, ...) {
  char buffer[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  machine.failure =
      message("simt: ", kernel_name(machine.launch->kernel), ": ", describe_thread(*machine.self), ": ", buffer);
  for (;;) leave();
}

void wait(bool (*ready)(void*), void* argument, const char* what, Place place) {
  if (ready(argument)) return;
  Thread* t = machine.self;
  t->ready = ready;
  t->argument = argument;
  t->what = what;
  t->place = place;
  t->state = State::Waiting;
  leave();
}

// A clock takes in what the running warp has seen and done; the warp's later acts belong to a new epoch.
void release(Clock& clock) {
  Machine& m = machine;
  int w = m.self->warp;
  for (int v = 0; v < m.warps; ++v) clock.of[v] = std::max(clock.of[v], m.clock[w].of[v]);
  clock.of[w] = std::max(clock.of[w], m.epoch[w]);
  ++m.epoch[w];
}

void acquire(const Clock& clock) {
  Machine& m = machine;
  int w = m.self->warp;
  for (int v = 0; v < m.warps; ++v) m.clock[w].of[v] = std::max(m.clock[w].of[v], clock.of[v]);
}

namespace {

struct Round {
  const uint32_t* now;
  uint32_t mine;
};
bool round_over(void* argument) {
  auto* r = static_cast<Round*>(argument);
  return *r->now != r->mine;
}

// The last of `expected` threads makes every warp that took part see what all the others did. The epochs of the warps
// end then, not as their lanes come: until then lanes of a warp are unordered.
void meet_at(BlockBarrier& b, int expected, bool waits, const char* what, Place place) {
  Machine& m = machine;
  if (b.arrived > 0 && b.expected != expected)
    fault("%s at %s expects %d threads, but others came expecting %d", what, here(place).c_str(), expected, b.expected);
  b.expected = expected;
  const uint32_t mine = b.round;
  Clock& clock = b.clock[mine & 1];
  const int self = m.self->warp;
  if (!waits) release(clock);
  b.warps[self / 64] |= uint64_t(1) << self % 64;
  if (++b.arrived == expected) {
    ++counters.barriers;
    for (int w = 0; w < m.warps; ++w) {
      if (!(b.warps[w / 64] >> w % 64 & 1)) continue;
      for (int v = 0; v < m.warps; ++v) clock.of[v] = std::max(clock.of[v], m.clock[w].of[v]);
      clock.of[w] = std::max(clock.of[w], m.epoch[w]);
      ++m.epoch[w];
    }
    memset(b.warps, 0, sizeof b.warps);
    b.arrived = 0;
    ++b.round;
    b.clock[b.round & 1] = {};
  }
  if (!waits) return;
  Round r{&b.round, mine};
  wait(round_over, &r, what, place);
  acquire(clock);
}

}  // namespace

void block_barrier(const char* file, int line) {
  meet_at(barriers[machine.self->block][0], int(threads.size() / machine.blocks), true, "__syncthreads", {file, line});
}
void named_barrier(int id, int expected, bool waits, const char* file, int line) {
  if (id < 0 || id >= kNamedBarriers) fault("named barrier %d; there are %d", id, kNamedBarriers);
  if (expected % kWarp != 0 || expected <= 0) fault("named barrier %d for %d threads: whole warps meet", id, expected);
  meet_at(barriers[machine.self->block][id], expected, waits, "a named barrier", {file, line});
}
void cluster_barrier(const char* file, int line) {
  meet_at(cluster_wide, int(threads.size()), true, "a cluster barrier", {file, line});
}

void meet(unsigned mask, const void* in, void* out, size_t bytes, Combine combine, void* context, const char* what,
          Place place) {
  Machine& m = machine;
  Thread& t = *m.self;
  if (!(mask >> t.lane & 1))
    fault("%s at %s: the mask %08x leaves out this lane, %d", what, here(place).c_str(), mask, t.lane);
  int per_block = int(threads.size()) / int(m.blocks);
  int warp_lanes = std::min(kWarp, per_block - (t.warp % m.warps_per_block) * kWarp);
  if (warp_lanes < kWarp && mask >> warp_lanes)
    fault("%s at %s: the mask %08x names lanes that a block of %d threads does not have", what, here(place).c_str(),
          mask, per_block);
  Meeting* meeting = nullptr;
  for (int k = 0; k < kMeetings && !meeting; ++k) {
    Meeting& candidate = meetings[size_t(t.warp * kMeetings + k)];
    if (candidate.mask == mask || candidate.mask == 0) meeting = &candidate;
  }
  if (!meeting) fault("%s: more than %d sets of lanes meet in one warp", what, kMeetings);
  if (meeting->arrived == 0) {
    meeting->mask = mask;
    meeting->bytes = bytes;
    meeting->what = what;
  } else if (strcmp(meeting->what, what) != 0 || meeting->bytes != bytes) {
    fault("%s at %s, while other lanes of the warp are at %s", what, here(place).c_str(), meeting->what);
  }
  uint32_t mine = meeting->round;
  if (bytes) memcpy(meeting->in + size_t(t.lane) * bytes, in, bytes);
  meeting->arrived |= 1u << t.lane;
  if (meeting->arrived == mask) {
    if (combine) combine(mask, meeting->in, meeting->out[mine & 1], bytes, context);
    meeting->arrived = 0;
    ++meeting->round;
    ++m.epoch[t.warp];
  } else {
    Round r{&meeting->round, mine};
    wait(round_over, &r, what, place);
  }
  if (bytes && out) memcpy(out, meeting->out[mine & 1] + size_t(t.lane) * bytes, bytes);
}

void sync_warp(unsigned mask, const char* file, int line) {
  meet(mask, nullptr, nullptr, 0, nullptr, nullptr, "__syncwarp", {file, line});
}

namespace {

constexpr size_t kMaxShuffle = 32;

struct Exchange {
  int source;
  char value[kMaxShuffle];
};

}  // namespace

// Shuffles order nothing in memory on a GPU, but lanes cannot pass one before all have come: as a warp barrier.
void exchange(unsigned mask, const void* in, void* out, size_t bytes, int source, const char* what, Place place) {
  if (bytes > kMaxShuffle || bytes % 4) fault("%s of %zu bytes: whole words can be, up to 32 bytes", what, bytes);
  Exchange mine{source < 0 ? machine.self->lane : source, {}}, result;
  memcpy(mine.value, in, bytes);
  meet(
      mask, &mine, &result, sizeof mine,
      [](unsigned lanes, const char* all, char* results, size_t, void*) {
        auto* a = reinterpret_cast<const Exchange*>(all);
        auto* r = reinterpret_cast<Exchange*>(results);
        ++counters.shuffles;
        for (int lane = 0; lane < kWarp; ++lane) {
          if (!(lanes >> lane & 1)) continue;
          if (!(lanes >> a[lane].source & 1))
            fault("lane %d reads from lane %d, which is not in the mask %08x", lane, a[lane].source, lanes);
          memcpy(r[lane].value, a[a[lane].source].value, kMaxShuffle);
        }
      },
      nullptr, what, place);
  memcpy(out, result.value, bytes);
}

unsigned ballot(bool condition, unsigned mask, const char* file, int line) {
  unsigned mine = condition, result;
  meet(mask, &mine, &result, sizeof mine,
       [](unsigned lanes, const char* all, char* results, size_t, void*) {
         auto* a = reinterpret_cast<const unsigned*>(all);
         auto* r = reinterpret_cast<unsigned*>(results);
         unsigned votes = 0;
         for (int lane = 0; lane < kWarp; ++lane)
           if (lanes >> lane & 1) votes |= a[lane] << lane;
         for (int lane = 0; lane < kWarp; ++lane) r[lane] = votes;
       },
       nullptr, "ballot", {file, line});
  return result;
}

std::string describe_thread(const Thread& t) {
  return message("block ", text(machine.block_index[t.block]), ", thread ", text(t.index));
}

namespace {

// "function\nfile:line" from binutils' addr2line, run on the error path only.
std::string symbol(const void* address) {
  Dl_info info;
  if (!dladdr(address, &info)) return "?\n?";
  auto offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  char command[4096];
  snprintf(command, sizeof command, "addr2line -Cfie '%s' 0x%zx 2>/dev/null", info.dli_fname, size_t(offset));
  std::string out;
  if (FILE* pipe = popen(command, "r")) {
    char buffer[512];
    while (fgets(buffer, sizeof buffer, pipe)) out += buffer;
    pclose(pipe);
  }
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out.empty() ? "?\n?" : out;
}

}  // namespace

std::string from_root(const std::string& file) {
  size_t root = file.rfind("csrc/");
  return file.substr(root != std::string::npos ? root : file.rfind('/') + 1);
}

std::string here(Place place) { return from_root(message(place.file ? place.file : "?", ":", place.line)); }

std::string describe_code(const void* address) {
  // A return address may belong to the next line: the call before it is meant. Lines alternate: function, place; from
  // the innermost inlined function outwards.
  std::istringstream lines(symbol(static_cast<const char*>(address) - 1));
  std::string function, place, innermost;
  while (std::getline(lines, function) && std::getline(lines, place)) {
    place = place.substr(0, place.find(" (discriminator"));
    if (innermost.empty()) innermost = place;
    if (place.find(".cu:") != std::string::npos) return from_root(place);
  }
  return from_root(innermost);
}

std::string kernel_name(const void* kernel) {
  std::string s = symbol(kernel);
  s = s.substr(0, s.find('\n'));
  for (std::string part : {"void ", "gg::cuda::", "sm90::", "gg::", "(anonymous namespace)::"})
    for (size_t at; (at = s.find(part)) != std::string::npos;) s.erase(at, part.size());
  return s.substr(0, s.find('('));
}

float half_to_float(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
  if (exponent == 0) {
    float magnitude = ldexpf(float(fraction), -24);
    return sign ? -magnitude : magnitude;
  }
  uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

uint16_t float_to_half(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
  if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);
  if (magnitude < 0x38800000) {  // subnormal: the nearest multiple of 2^-24, ties to even
    float scaled = ldexpf(fabsf(x), 24);
    return uint16_t(sign | uint32_t(nearbyintf(scaled)));
  }
  uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000;
  return uint16_t(sign | rounded >> 13);
}

uint16_t float_to_bfloat(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace gg::simt
