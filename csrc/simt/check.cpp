#include "simt/check.h"

#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <map>
#include <vector>

#include "core/check.h"
#include "simt/counters.h"
#include "simt/internal.h"

namespace gg::simt {
namespace {

// Who touched 4 bytes last. A run is one cluster of one launch; thread counts through the cluster.
struct Cell {
  uint32_t write_run, write_epoch, read_run, read_epoch;
  uint32_t write_code, read_code;  // offsets in this module
  uint32_t known_run;              // the run in which `known` bytes of shared memory have been written
  uint16_t write_thread, read_thread;
  uint8_t write_mask, read_mask, known_mask;
  bool write_atomic, write_async;
  uint32_t pending_run;  // an asynchronous copy into these bytes is under way
  uint32_t leaving_run;  // or one out of them
};

constexpr size_t kRegionBytes = size_t(8) << 30, kGranule = 256;
constexpr size_t kArenaBytes = 256 * 1024 * kMaxCluster;

struct Allocation {
  uintptr_t begin = 0, end = 0;  // what was asked for
  size_t room = 0;
};

struct Memory {
  uintptr_t region = 0;
  size_t region_bytes = 0;
  uint32_t* owner = nullptr;  // allocation number of each granule, 0 for none
  Cell* cells = nullptr;
  std::vector<Allocation> allocations{1};
  std::vector<uint32_t> free_numbers;
  std::multimap<size_t, uintptr_t> free_rooms;
  uintptr_t next = 0;
  size_t in_use = 0;
} memory;

void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

void make_region() {
  if (memory.region) return;
  for (size_t bytes = kRegionBytes; bytes >= (size_t(1) << 28); bytes /= 2) {
    void* region = reserve(bytes);
    void* cells = reserve(bytes / 4 * sizeof(Cell));
    void* owner = reserve(bytes / kGranule * sizeof(uint32_t));
    if (region && cells && owner) {
      memory.region = memory.next = reinterpret_cast<uintptr_t>(region);
      memory.region_bytes = bytes;
      memory.cells = static_cast<Cell*>(cells);
      memory.owner = static_cast<uint32_t*>(owner);
      return;
    }
    if (region) munmap(region, bytes);
    if (cells) munmap(cells, bytes / 4 * sizeof(Cell));
    if (owner) munmap(owner, bytes / kGranule * sizeof(uint32_t));
  }
  throw OutOfMemory("simt: no address space for device memory");
}

// What of its own module a kernel may read: the constants.
struct Range { uintptr_t begin, end; };
uintptr_t module_base;
std::vector<Range> module_ranges;
bool in_module(uintptr_t a) {
  for (const Range& r : module_ranges)
    if (r.begin <= a && a < r.end) return true;
  return false;
}
void find_module(const void* kernel) {
  if (in_module(reinterpret_cast<uintptr_t>(kernel))) return;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* wanted) {
        auto here = reinterpret_cast<uintptr_t>(wanted);
        std::vector<Range> ranges;
        bool mine = false;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
          uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, end = begin + info->dlpi_phdr[i].p_memsz;
          ranges.push_back({begin, end});
          mine = mine || (begin <= here && here < end);
        }
        if (mine) {
          module_base = info->dlpi_addr;
          module_ranges = ranges;
        }
        return int(mine);
      },
      const_cast<void*>(kernel));
}

bool checking = false;
uint32_t run_number = 0, first_run = 0;
std::vector<uint64_t> clusters_of_runs;  // by run_number - first_run
std::vector<Cell> arena_cells(kArenaBytes / 4);
uintptr_t arena_begin;
size_t arena_stride, arena_blocks, arena_used;

char* static_begin = nullptr;
size_t static_bytes = 0;
std::vector<Cell> static_cells;

uint32_t code_offset(const void* code) { return uint32_t(reinterpret_cast<uintptr_t>(code) - module_base); }
std::string describe_offset(uint32_t offset) {
  return describe_code(reinterpret_cast<const void*>(module_base + offset));
}

inline Moment moment_now() { return {machine.self->number, machine.epoch[machine.self->warp]}; }

std::string describe_other(uint32_t run, uint16_t thread) {
  const Launch& l = *machine.launch;
  unsigned per_block = l.block.x * l.block.y * l.block.z;
  uint64_t block = clusters_of_runs[run - first_run] * machine.blocks + thread / per_block;
  unsigned i = thread % per_block;
  return message("block (", block % l.grid.x, ", ", block / l.grid.x % l.grid.y, ", ", block / l.grid.x / l.grid.y,
                 "), thread (", i % l.block.x, ", ", i / l.block.x % l.block.y, ", ", i / l.block.x / l.block.y, ")");
}

// Whether what thread `other` of this run did in `epoch` is known to come before what the running thread does now.
bool ordered(uint16_t other, uint32_t epoch, uint16_t self) {
  if (other == self) return true;
  const int warp = machine.warp_of[other], mine = machine.self->warp;
  if (warp == mine) return epoch < machine.epoch[mine];
  return epoch <= machine.clock[mine].of[warp];
}

const char* verb(Access a) {
  return a == Access::Write ? "writes" : a == Access::Atomic ? "updates atomically" : "reads";
}
bool writes(Access a) { return a == Access::Write || a == Access::Atomic; }

[[noreturn]] void report_race(const Cell& c, bool with_write, uintptr_t address, Access access, const void* code,
                              const char* space) {
  uint32_t run = with_write ? c.write_run : c.read_run;
  std::string other = describe_other(run, with_write ? c.write_thread : c.read_thread);
  std::string there = describe_offset(with_write ? c.write_code : c.read_code), here = describe_code(code);
  fault("race at %s: %s %s memory at %p, which %s %s at %s, and nothing orders the two", here.c_str(), verb(access),
        space, reinterpret_cast<void*>(address), other.c_str(), with_write ? "wrote" : "read", there.c_str());
}

void touch(Cell& c, uint8_t mask, uintptr_t address, Access access, const void* code, bool is_shared, Moment moment,
           bool async, bool ordered_before = false) {
  const char* space = is_shared ? "shared" : "global";
  const uint32_t oldest = is_shared ? run_number : first_run;
  const uint16_t self = moment.thread;
  if (!ordered_before && c.write_run >= oldest && (c.write_mask & mask) &&
      !(access == Access::Atomic && c.write_atomic))
    if (c.write_run != run_number || !ordered(c.write_thread, c.write_epoch, self))
      report_race(c, true, address, access, code, space);
  if (access == Access::AsyncRead && c.write_run == run_number && !c.write_async && is_shared &&
      machine.fenced[machine.warp_of[c.write_thread]] < c.write_epoch)
    fault(
        "missing fence: TMA or wgmma reads shared memory at %p that threads wrote at %s without "
        "fence_shared_for_async",
        reinterpret_cast<void*>(address), describe_offset(c.write_code).c_str());
  if (!ordered_before && writes(access) && c.read_run >= oldest && (c.read_mask & mask))
    if (c.read_run != run_number || !ordered(c.read_thread, c.read_epoch, self))
      report_race(c, false, address, access, code, space);
  const uint32_t epoch = moment.epoch;
  if (!writes(access)) {
    bool same = c.read_run == run_number && c.read_thread == self && c.read_epoch == epoch;
    c.read_mask = same ? c.read_mask | mask : mask;
    c.read_run = run_number;
    c.read_epoch = epoch;
    c.read_thread = self;
    c.read_code = code_offset(code);
  } else {
    bool same = c.write_run == run_number && c.write_thread == self && c.write_epoch == epoch;
    c.write_mask = same ? c.write_mask | mask : mask;
    c.write_run = run_number;
    c.write_epoch = epoch;
    c.write_thread = self;
    c.write_code = code_offset(code);
    c.write_atomic = access == Access::Atomic;
    c.write_async = async;
  }
}

enum class Phase { Whole, Begin, End };  // of an asynchronous access

void access_shared(uintptr_t a, size_t bytes, Access access, const void* code, Phase phase, Moment moment) {
  const bool is_static = a - arena_begin >= kArenaBytes;
  size_t at = is_static ? a - reinterpret_cast<uintptr_t>(static_begin) : a - arena_begin;
  const size_t block = at < arena_stride ? 0 : at / arena_stride;  // a division is dear here
  if (!is_static && (block >= arena_blocks || at - block * arena_stride + bytes > arena_used))
    fault("out of bounds at %s: %s %zu bytes at %zu of the %zu bytes of shared memory", describe_code(code).c_str(),
          verb(access), bytes, at % arena_stride, arena_used);
  if (counting && phase != Phase::End) count_access(at, bytes, writes(access), true, code);
  for (size_t i = 0; i < bytes;) {
    size_t in_cell = (at + i) % 4, n = std::min(bytes - i, 4 - in_cell);
    auto mask = uint8_t(((1u << n) - 1) << in_cell);
    Cell& c = (is_static ? static_cells : arena_cells)[(at + i) / 4];
    if (phase != Phase::End && c.pending_run == run_number)
      fault("missing wait at %s: %s shared memory at offset %zu while an asynchronous copy into it is under way",
            describe_code(code).c_str(), verb(access), at % arena_stride + i);
    if (writes(access) && c.leaving_run == run_number)
      fault("early reuse at %s: %s shared memory at offset %zu while an asynchronous copy out of it is under way",
            describe_code(code).c_str(), verb(access), at % arena_stride + i);
    if (phase == Phase::Begin) c.pending_run = run_number;
    if (phase == Phase::End) c.pending_run = 0;
    uint8_t known = c.known_run == run_number ? c.known_mask : 0;
    if (access != Access::Write && (known & mask) != mask)
      fault("unwritten memory at %s: %s shared memory at offset %zu, which nobody has written",
            describe_code(code).c_str(), verb(access), at % arena_stride + i);
    // What a copy's end might race with was looked at where it began, by the thread that knows.
    touch(c, mask, a + i, access, code, true, moment, phase != Phase::Whole, phase == Phase::End);
    if (writes(access) && phase != Phase::Begin) {
      c.known_run = run_number;
      c.known_mask = known | mask;
    }
    i += n;
  }
}

void access_global(uintptr_t a, size_t bytes, Access access, const void* code, Moment moment) {
  const Allocation& owner = memory.allocations[memory.owner[(a - memory.region) / kGranule]];
  if (a < owner.begin || a + bytes > owner.end) {
    if (owner.begin)
      fault("out of bounds at %s: %s %zu bytes at byte %zd of an allocation of %zu", describe_code(code).c_str(),
            verb(access), bytes, ptrdiff_t(a - owner.begin), size_t(owner.end - owner.begin));
    // The nearest allocation before says most about what went wrong.
    uint32_t number = 0;
    for (size_t g = (a - memory.region) / kGranule, steps = 0; g > 0 && steps < (1 << 16) && !number; ++steps)
      number = memory.owner[--g];
    if (number)
      fault("out of bounds at %s: %s %zu bytes, %zu after the end of an allocation of %zu", describe_code(code).c_str(),
            verb(access), bytes, size_t(a - memory.allocations[number].end),
            size_t(memory.allocations[number].end - memory.allocations[number].begin));
    fault("out of bounds at %s: %s %zu bytes at %p, where nothing is allocated", describe_code(code).c_str(),
          verb(access), bytes, reinterpret_cast<void*>(a));
  }
  if (counting) count_access(a, bytes, writes(access), false, code);
  for (size_t i = 0; i < bytes;) {
    size_t in_cell = (a + i) % 4, n = std::min(bytes - i, 4 - in_cell);
    touch(memory.cells[(a + i - memory.region) / 4], uint8_t(((1u << n) - 1) << in_cell), a + i, access, code, false,
          moment, false);
    i += n;
  }
}

void access_memory(uintptr_t a, size_t bytes, Access access, const void* code, Phase phase, Moment moment) {
  if (on_a_stack(a)) return;
  if (a - arena_begin < kArenaBytes || a - reinterpret_cast<uintptr_t>(static_begin) < static_bytes)
    return access_shared(a, bytes, access, code, phase, moment);
  if (a - memory.region < memory.region_bytes) return access_global(a, bytes, access, code, moment);
  auto params = reinterpret_cast<uintptr_t>(machine.launch->params);
  bool readable = in_module(a) || (a >= params && a + bytes <= params + machine.launch->params_bytes);
  if (!writes(access) && readable) return;
  fault("host memory at %s: %s %zu bytes at %p, which is no device memory", describe_code(code).c_str(), verb(access),
        bytes, reinterpret_cast<void*>(a));
}

// One load or store of a kernel.
inline void accessed(const void* p, size_t bytes, Access access, const void* code, bool may_be_unaligned = false) {
  if (!checking || !machine.self) return;
  auto a = reinterpret_cast<uintptr_t>(p);
  if (!may_be_unaligned && a % bytes != 0)
    fault("misaligned at %s: %s %zu bytes at %p", describe_code(code).c_str(), verb(access), bytes, p);
  access_memory(a, bytes, access, code, Phase::Whole, moment_now());
}

}  // namespace

Moment now() { return moment_now(); }

void check_access(const void* p, size_t bytes, Access access, const void* code, const char*) {
  if (checking) access_memory(reinterpret_cast<uintptr_t>(p), bytes, access, code, Phase::Whole, moment_now());
}
void begin_async(const void* p, size_t bytes, const void* code, const char*) {
  if (checking) access_memory(reinterpret_cast<uintptr_t>(p), bytes, Access::Write, code, Phase::Begin, moment_now());
}
void end_async(const void* p, size_t bytes, const void* code) { end_async_of(now(), p, bytes, code); }
void end_async_of(Moment start, const void* p, size_t bytes, const void* code) {
  if (checking) access_memory(reinterpret_cast<uintptr_t>(p), bytes, Access::Write, code, Phase::End, start);
}
void mark_leaving(const void* p, size_t bytes, bool begins) {
  const size_t at = size_t(reinterpret_cast<uintptr_t>(p) - arena_begin);
  if (!checking || at + bytes > kArenaBytes) return;
  for (size_t i = at / 4; i < (at + bytes + 3) / 4; ++i) arena_cells[i].leaving_run = begins ? run_number : 0;
}
void check_atomic(const void* p, size_t bytes, const void* code) { accessed(p, bytes, Access::Atomic, code); }

void set_static_shared(char* begin, size_t bytes) {
  static_begin = begin;
  static_bytes = begin ? bytes : 0;
  static_cells.assign(static_bytes / 4 + 2, Cell{});
}

void begin_checked_launch(const Launch& l) {
  find_module(l.kernel);
  checking = true;
  arena_used = l.shared_bytes;
  first_run = run_number + 1;
  clusters_of_runs.clear();
}
void begin_checked_cluster(char* arena, size_t bytes_per_block, unsigned blocks) {
  ++run_number;
  clusters_of_runs.push_back(machine.cluster_number);
  arena_begin = reinterpret_cast<uintptr_t>(arena);
  arena_stride = bytes_per_block;
  arena_blocks = blocks;
  for (unsigned b = 0; b < blocks; ++b) memset(arena + b * bytes_per_block, 0xff, arena_used);
  if (static_bytes) memset(static_begin, 0xff, static_bytes);
}
void end_checked_launch() { checking = false; }

namespace {
int unlocked = 0;
size_t locked_bytes = 0;  // from the region's beginning
}  // namespace

Unlocked::Unlocked() {
  if (settings().lock && unlocked++ == 0 && locked_bytes)
    mprotect(reinterpret_cast<void*>(memory.region), locked_bytes, PROT_READ | PROT_WRITE);
}

Unlocked::~Unlocked() {
  if (!settings().lock || --unlocked > 0 || !memory.region) return;
  locked_bytes = (memory.next - memory.region + 4095) / 4096 * 4096;
  mprotect(reinterpret_cast<void*>(memory.region), locked_bytes, PROT_NONE);
}

void* device_allocate(size_t bytes) {
  make_region();
  size_t room = (bytes + kGranule - 1) / kGranule * kGranule + kGranule;  // a granule between any two is nobody's
  uintptr_t begin = 0;
  auto free_room = memory.free_rooms.lower_bound(room);
  if (free_room != memory.free_rooms.end() && free_room->first <= room + room / 8) {
    begin = free_room->second;
    room = free_room->first;
    memory.free_rooms.erase(free_room);
  } else {
    if (memory.next + room > memory.region + memory.region_bytes)
      throw OutOfMemory(message("simt: out of memory: ", bytes, " bytes asked for, ", memory.in_use,
                                " in use, device memory is ", memory.region_bytes));
    begin = memory.next;
    memory.next += room;
  }
  uint32_t number;
  if (memory.free_numbers.empty()) {
    number = uint32_t(memory.allocations.size());
    memory.allocations.emplace_back();
  } else {
    number = memory.free_numbers.back();
    memory.free_numbers.pop_back();
  }
  memory.allocations[number] = {begin, begin + bytes, room};
  for (size_t g = 0; g < (bytes + kGranule - 1) / kGranule; ++g)
    memory.owner[(begin - memory.region) / kGranule + g] = number;
  memory.in_use += bytes;
  if (settings().checks) {
    Unlocked memory_is_open;
    memset(reinterpret_cast<void*>(begin), 0xff, bytes);  // a NaN where a kernel forgets to write
  }
  return reinterpret_cast<void*>(begin);
}

void device_release(void* data, size_t) {
  if (!data) return;
  auto begin = reinterpret_cast<uintptr_t>(data);
  size_t first = (begin - memory.region) / kGranule;
  uint32_t number = memory.owner[first];
  Allocation& a = memory.allocations[number];
  size_t bytes = a.end - a.begin, granules = (bytes + kGranule - 1) / kGranule;
  for (size_t g = 0; g < granules; ++g) memory.owner[first + g] = 0;
  memory.in_use -= bytes;
  if (bytes >= (size_t(1) << 20)) {  // its shadow is ten times as large
    auto cells = reinterpret_cast<uintptr_t>(&memory.cells[(begin - memory.region) / 4]);
    uintptr_t page = (cells + 4095) / 4096 * 4096, end = (cells + bytes / 4 * sizeof(Cell)) / 4096 * 4096;
    madvise(reinterpret_cast<void*>(page), end - page, MADV_DONTNEED);
  }
  memory.free_rooms.emplace(a.room, begin);
  a = {};
  memory.free_numbers.push_back(number);
}

size_t device_bytes_in_use() { return memory.in_use; }

}  // namespace gg::simt

// What -fsanitize=thread calls.
#define GG_HOOK(n)                                                                                                 \
  void __tsan_read##n(void* p) { accessed(p, n, Access::Read, __builtin_return_address(0)); }                      \
  void __tsan_write##n(void* p) { accessed(p, n, Access::Write, __builtin_return_address(0)); }                    \
  void __tsan_unaligned_read##n(void* p) { accessed(p, n, Access::Read, __builtin_return_address(0), true); }      \
  void __tsan_unaligned_write##n(void* p) { accessed(p, n, Access::Write, __builtin_return_address(0), true); }    \
  void __tsan_volatile_read##n(void* p) { accessed(p, n, Access::Atomic, __builtin_return_address(0)); }           \
  void __tsan_volatile_write##n(void* p) { accessed(p, n, Access::Atomic, __builtin_return_address(0)); }          \
  void __tsan_unaligned_volatile_read##n(void* p) { accessed(p, n, Access::Atomic, __builtin_return_address(0)); } \
  void __tsan_unaligned_volatile_write##n(void* p) { accessed(p, n, Access::Atomic, __builtin_return_address(0)); }
extern "C" {
using namespace gg::simt;
GG_HOOK(1)
GG_HOOK(2)
GG_HOOK(4)
GG_HOOK(8)
GG_HOOK(16)
void __tsan_read_range(void* p, size_t n) { accessed(p, n, Access::Read, __builtin_return_address(0), true); }
void __tsan_write_range(void* p, size_t n) { accessed(p, n, Access::Write, __builtin_return_address(0), true); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_init() {}
}
