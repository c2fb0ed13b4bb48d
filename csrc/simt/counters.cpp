#include "simt/counters.h"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <vector>

#include "simt/internal.h"

namespace gg::simt {

Counters counters;
bool counting = false;

namespace {

constexpr uint64_t kSector = 32, kWord = 4, kBanks = 32;

struct Request {
  uint64_t at[kWarp];
  unsigned lanes = 0;
};

// The requests of one warp by one instruction that still wait for lanes, and how many each lane has made.
struct Instruction {
  size_t bytes;
  bool shared;
  std::deque<Request> open;
  uint64_t closed = 0, made[kWarp] = {};
};

std::unordered_map<uint64_t, Instruction> instructions;  // by warp, code and kind
bool in_bulk = false;
uint64_t bulk_sector, bulk_shared_bytes;

std::vector<uint64_t> pieces;  // sectors or words of a request

void keep_distinct() {
  std::sort(pieces.begin(), pieces.end());
  pieces.erase(std::unique(pieces.begin(), pieces.end()), pieces.end());
}

void settle_global(const Request& r, size_t bytes) {
  pieces.clear();
  for (int lane = 0; lane < kWarp; ++lane)
    if (r.lanes >> lane & 1)
      for (uint64_t s = r.at[lane] / kSector; s <= (r.at[lane] + bytes - 1) / kSector; ++s) pieces.push_back(s);
  ++counters.global_requests;
  keep_distinct();
  counters.global_sectors += pieces.size();
}

void settle_shared(const Request& r, size_t bytes) {
  ++counters.shared_requests;
  const int together = bytes <= kWord ? kWarp : int(kWarp * kWord / bytes);
  for (int first = 0; first < kWarp; first += together) {
    pieces.clear();
    for (int lane = first; lane < first + together; ++lane)
      if (r.lanes >> lane & 1)
        for (uint64_t w = r.at[lane] / kWord; w <= (r.at[lane] + bytes - 1) / kWord; ++w) pieces.push_back(w);
    keep_distinct();
    uint64_t of_bank[kBanks] = {};
    for (uint64_t w : pieces) ++of_bank[w % kBanks];
    counters.shared_wavefronts += *std::max_element(of_bank, of_bank + kBanks);
  }
}

void settle(const Request& r, const Instruction& i) {
  i.shared ? settle_shared(r, i.bytes) : settle_global(r, i.bytes);
}

}  // namespace

void count(bool on) {
  if (on) counters = {};
  counting = on;
}

void count_access(uint64_t address, size_t bytes, bool writes, bool shared, const void* code) {
  if (bytes > 16 && !in_bulk) {
    Bulk whole;
    return count_access(address, bytes, writes, shared, code);
  }
  Counters& c = counters;
  if (shared)
    (writes ? c.shared_write_bytes : c.shared_read_bytes) += bytes;
  else
    (writes ? c.global_write_bytes : c.global_read_bytes) += bytes;
  if (in_bulk && shared) {
    bulk_shared_bytes += bytes;
  } else if (in_bulk) {
    for (uint64_t s = address / kSector; s <= (address + bytes - 1) / kSector; ++s) {
      c.global_sectors += s != bulk_sector;
      bulk_sector = s;
    }
  } else {
    const Thread& t = *machine.self;
    const uint64_t place_in_code = reinterpret_cast<uintptr_t>(code);
    const uint64_t key = uint64_t(t.warp) << 52 ^ place_in_code << 2 ^ uint64_t(writes) << 1 ^ uint64_t(shared);
    Instruction& i = instructions.try_emplace(key, Instruction{bytes, shared, {}}).first->second;
    const uint64_t place = i.made[t.lane]++ - i.closed;
    while (i.open.size() <= place) i.open.emplace_back();
    Request& r = i.open[place];
    r.at[t.lane] = address;
    r.lanes |= 1u << t.lane;
    for (; !i.open.empty() && i.open.front().lanes == ~0u; ++i.closed) {
      settle(i.open.front(), i);
      i.open.pop_front();
    }
  }
}

void end_counted_cluster() {
  for (const auto& [key, i] : instructions)
    for (const Request& r : i.open)
      if (r.lanes) settle(r, i);
  instructions.clear();
}

Bulk::Bulk() {
  in_bulk = true;
  bulk_sector = ~uint64_t(0);
  bulk_shared_bytes = 0;
}
Bulk::~Bulk() {
  in_bulk = false;
  counters.shared_wavefronts += (bulk_shared_bytes + kWord * kBanks - 1) / (kWord * kBanks);
}

}  // namespace gg::simt
