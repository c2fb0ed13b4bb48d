#include "cuda/allocator.h"

#include <stdio.h>

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace gg::cuda {
namespace {

constexpr size_t kKiB = 1024, kMiB = kKiB * 1024;
constexpr size_t kRound = 512;
constexpr size_t kSmall = kMiB;              // the largest request that counts as small
constexpr size_t kSmallSegment = 2 * kMiB;   // shared by small requests
constexpr size_t kLargeSegment = 20 * kMiB;  // shared by large requests
constexpr size_t kOwnSegment = 10 * kMiB;    // from here on a request has a segment of its own
constexpr size_t kRoundSegment = 2 * kMiB;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

size_t segment_size(size_t size) {
  return size <= kSmall ? kSmallSegment : size < kOwnSegment ? kLargeSegment : round_up(size, kRoundSegment);
}

}  // namespace

std::string format_bytes(size_t bytes) {
  char text[32];
  double b = double(bytes);
  if (bytes < kMiB)
    snprintf(text, sizeof text, bytes < kKiB ? "%.0f bytes" : "%.2f KiB", bytes < kKiB ? b : b / kKiB);
  else if (bytes < kKiB * kMiB)
    snprintf(text, sizeof text, "%.2f MiB", b / kMiB);
  else
    snprintf(text, sizeof text, "%.2f GiB", b / kMiB / kKiB);
  return text;
}

void Tally::add(int64_t n) {
  current += n;
  peak = std::max(peak, current);
  (n > 0 ? allocated : freed) += n > 0 ? n : -n;
}

struct CachingAllocator::Block {
  char* data;
  size_t size;
  void* stream;
  Pool* pool;
  bool large;
  size_t requested = 0;
  bool in_use = false;
  int marks = 0;                           // events it waits for
  std::set<void*> streams = {};            // others that used it
  Block *prev = nullptr, *next = nullptr;  // neighbours within the segment

  bool whole() const { return !prev && !next; }
};

// Free blocks by stream, then size, then address: the first that is not less than a request is its best fit.
bool CachingAllocator::InOrder::operator()(const Block* a, const Block* b) const {
  if (a->stream != b->stream) return std::less<void*>()(a->stream, b->stream);
  if (a->size != b->size) return a->size < b->size;
  return std::less<char*>()(a->data, b->data);
}

struct CachingAllocator::Pool {
  uint64_t id;
  int holders = 1;
  size_t segments = 0;
  Bin bins[2] = {};  // small, large
};

CachingAllocator::CachingAllocator(DeviceMemory& memory, std::string device)
    : memory_(memory), device_(std::move(device)) {
  pools_[0].reset(new Pool{.id = 0});
}

CachingAllocator::~CachingAllocator() {
  for (auto& [data, first] : segments_)
    for (Block* b = first; b;) delete std::exchange(b, b->next);
}

void CachingAllocator::count(Counter c, bool large, int64_t n) {
  stats_.tallies[int(c)][int(Share::All)].add(n);
  stats_.tallies[int(c)][int(large ? Share::Large : Share::Small)].add(n);
}

void* CachingAllocator::allocate(size_t bytes, void* stream) {
  if (bytes == 0) return nullptr;
  check<OutOfMemory>(bytes <= size_t(1) << 62, "out of memory: an array of more than 2^62 bytes was asked for");
  std::lock_guard<std::mutex> lock(mutex_);
  collect_passed();
  Pool& pool = pool_for(stream);
  const size_t size = round_up(bytes, kRound);
  const bool large = size > kSmall;
  Block* block = take_kept(pool, large, size, stream);
  if (block) ++stats_.hits;
  if (!block) block = take_fresh(pool, large, size, stream);
  if (!block) {
    // Waiting may bring back a block that fits; else all that is kept goes back, for the driver to make one piece of.
    wait_for_all();
    block = take_kept(pool, large, size, stream);
  }
  if (!block) {
    give_back_kept();
    block = take_fresh(pool, large, size, stream);
    if (block) ++stats_.retries;
  }
  if (!block) {
    ++stats_.failures;
    throw_out_of_memory(bytes);
  }
  return hand_out(block, size, bytes);
}

CachingAllocator::Pool& CachingAllocator::pool_for(void* stream) {
  for (const Capture& c : captures_)
    if (c.captured(stream)) return *pools_[c.pool];
  return *pools_[0];
}

CachingAllocator::Block* CachingAllocator::take_kept(Pool& pool, bool large, size_t size, void* stream) {
  Block wanted{.data = nullptr, .size = size, .stream = stream, .pool = &pool, .large = large};
  auto found = pool.bins[large].lower_bound(&wanted);
  if (found == pool.bins[large].end() || (*found)->stream != stream) return nullptr;
  Block* block = *found;
  take_from_bin(block);
  return block;
}

CachingAllocator::Block* CachingAllocator::take_fresh(Pool& pool, bool large, size_t size, void* stream) {
  const size_t bytes = segment_size(size);
  const size_t held = size_t(stats_.of(Counter::ReservedBytes).current);
  if (held > limit_ || bytes > limit_ - held) return nullptr;
  auto* data = static_cast<char*>(memory_.allocate(bytes));
  if (!data) return nullptr;
  ++stats_.device_allocations;
  ++pool.segments;
  count(Counter::Segment, large, 1);
  count(Counter::ReservedBytes, large, int64_t(bytes));
  auto* block = new Block{.data = data, .size = bytes, .stream = stream, .pool = &pool, .large = large};
  segments_[data] = block;
  return block;
}

// What a request leaves of a block becomes a block again, where it is large enough to be of use.
void* CachingAllocator::hand_out(Block* block, size_t size, size_t requested) {
  const size_t rest = block->size - size;
  if (block->large ? rest > kSmall : rest >= kRound) {
    auto* left = new Block{
        .data = block->data + size, .size = rest, .stream = block->stream, .pool = block->pool, .large = block->large};
    left->prev = block;
    left->next = block->next;
    if (left->next) left->next->prev = left;
    block->next = left;
    block->size = size;
    put_in_bin(left);
  }
  block->in_use = true;
  block->requested = requested;
  in_use_[block->data] = block;
  count(Counter::Allocation, block->large, 1);
  count(Counter::AllocatedBytes, block->large, int64_t(block->size));
  count(Counter::RequestedBytes, block->large, int64_t(requested));
  count(Counter::Active, block->large, 1);
  count(Counter::ActiveBytes, block->large, int64_t(block->size));
  return block->data;
}

void CachingAllocator::release(void* data) {
  if (!data) return;
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = in_use_.find(data);
  if (found == in_use_.end()) return;
  Block* block = found->second;
  in_use_.erase(found);
  block->in_use = false;
  count(Counter::Allocation, block->large, -1);
  count(Counter::AllocatedBytes, block->large, -int64_t(block->size));
  count(Counter::RequestedBytes, block->large, -int64_t(block->requested));
  if (block->streams.empty())
    keep(block);
  else if (captures_.empty())
    mark_streams(block);
  else
    unmarked_.push_back(block);
}

bool CachingAllocator::record_stream(void* data, void* stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = in_use_.find(data);
  if (found == in_use_.end()) return false;
  if (found->second->stream != stream) found->second->streams.insert(stream);
  return true;
}

void CachingAllocator::mark_streams(Block* block) {
  for (void* stream : block->streams) {
    marks_[stream].push_back({memory_.record(stream), block});
    ++block->marks;
  }
  block->streams.clear();
}

void CachingAllocator::collect_passed() {
  if (!captures_.empty()) return;
  for (Block* block : std::exchange(unmarked_, {})) mark_streams(block);
  for (auto& [stream, marks] : marks_)
    while (!marks.empty() && memory_.passed(marks.front().event)) {
      auto [event, block] = marks.front();
      marks.pop_front();
      memory_.drop(event);
      if (--block->marks == 0) keep(block);
    }
}

void CachingAllocator::wait_for_all() {
  if (!captures_.empty()) return;
  collect_passed();
  for (auto& [stream, marks] : marks_)
    if (!marks.empty()) memory_.wait(marks.back().event);
  collect_passed();
}

// A block that nobody uses any more, joined with its free neighbours.
void CachingAllocator::keep(Block* block) {
  count(Counter::Active, block->large, -1);
  count(Counter::ActiveBytes, block->large, -int64_t(block->size));
  block->requested = 0;
  auto is_free = [](const Block* b) { return b && !b->in_use && b->marks == 0 && b->streams.empty(); };
  if (is_free(block->prev)) merge(block, block->prev);
  if (is_free(block->next)) merge(block, block->next);
  put_in_bin(block);
}

void CachingAllocator::merge(Block* block, Block* neighbour) {
  take_from_bin(neighbour);
  if (neighbour == block->prev) {
    if (segments_.count(neighbour->data)) segments_[neighbour->data] = block;
    block->data = neighbour->data;
    block->prev = neighbour->prev;
    if (block->prev) block->prev->next = block;
  } else {
    block->next = neighbour->next;
    if (block->next) block->next->prev = block;
  }
  block->size += neighbour->size;
  delete neighbour;
}

void CachingAllocator::put_in_bin(Block* block) {
  block->pool->bins[block->large].insert(block);
  if (block->whole()) return;
  count(Counter::InactiveSplit, block->large, 1);
  count(Counter::InactiveSplitBytes, block->large, int64_t(block->size));
}

void CachingAllocator::take_from_bin(Block* block) {
  block->pool->bins[block->large].erase(block);
  if (block->whole()) return;
  count(Counter::InactiveSplit, block->large, -1);
  count(Counter::InactiveSplitBytes, block->large, -int64_t(block->size));
}

void CachingAllocator::empty_cache() {
  std::lock_guard<std::mutex> lock(mutex_);
  wait_for_all();
  give_back_kept();
}

// Segments in which no block is in use, save those of graphs that may be replayed.
void CachingAllocator::give_back_kept() {
  for (auto it = pools_.begin(); it != pools_.end();) {
    Pool& pool = *it->second;
    if (pool.id == 0 || pool.holders == 0)
      for (Bin& bin : pool.bins) give_back(bin);
    it = pool.id != 0 && pool.holders == 0 && pool.segments == 0 ? pools_.erase(it) : std::next(it);
  }
}

void CachingAllocator::give_back(Bin& bin) {
  for (auto it = bin.begin(); it != bin.end();) {
    Block* block = *it;
    if (!block->whole()) {
      ++it;
      continue;
    }
    it = bin.erase(it);
    memory_.release(block->data);
    ++stats_.device_releases;
    --block->pool->segments;
    count(Counter::Segment, block->large, -1);
    count(Counter::ReservedBytes, block->large, -int64_t(block->size));
    segments_.erase(block->data);
    delete block;
  }
}

void CachingAllocator::set_limit(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  limit_ = bytes;
}

uint64_t CachingAllocator::make_pool() {
  std::lock_guard<std::mutex> lock(mutex_);
  uint64_t id = next_pool_++;
  pools_[id].reset(new Pool{.id = id});
  return id;
}

void CachingAllocator::hold_pool(uint64_t pool) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = pools_.find(pool);
  check<ValueError>(pool != 0 && found != pools_.end(), "pool: there is no memory pool of number ", pool);
  ++found->second->holders;
}

void CachingAllocator::drop_pool(uint64_t pool) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = pools_.find(pool);
  if (found != pools_.end() && --found->second->holders == 0 && found->second->segments == 0) pools_.erase(found);
}

void CachingAllocator::begin_capture(uint64_t pool, std::function<bool(void*)> captured) {
  std::lock_guard<std::mutex> lock(mutex_);
  check<ValueError>(pool != 0 && pools_.count(pool), "pool: there is no memory pool of number ", pool);
  collect_passed();
  captures_.push_back({pool, std::move(captured)});
}

void CachingAllocator::end_capture(uint64_t pool) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(captures_, [pool](const Capture& c) { return c.pool == pool; });
}

AllocatorStats CachingAllocator::stats() {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& counter : stats_.tallies)
    for (Tally& t : counter) t.peak = t.current;
}

void CachingAllocator::reset_accumulated() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& counter : stats_.tallies)
    for (Tally& t : counter) t.allocated = t.freed = 0;
  stats_.hits = stats_.retries = stats_.failures = stats_.device_allocations = stats_.device_releases = 0;
}

std::vector<SegmentView> CachingAllocator::segments() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<SegmentView> out;
  for (auto& [data, first] : segments_) {
    SegmentView s{data, 0, first->stream, first->large, first->pool->id, {}};
    for (const Block* b = first; b; b = b->next) {
      s.bytes += b->size;
      bool waiting = !b->in_use && (b->marks > 0 || !b->streams.empty());
      s.blocks.push_back({b->data, b->size, b->requested, b->in_use, waiting});
    }
    out.push_back(std::move(s));
  }
  return out;
}

void CachingAllocator::throw_out_of_memory(size_t bytes) {
  size_t free = 0, total = 0;
  memory_.info(&free, &total);
  const size_t allocated = size_t(stats_.of(Counter::AllocatedBytes).current);
  const size_t active = size_t(stats_.of(Counter::ActiveBytes).current);
  const size_t reserved = size_t(stats_.of(Counter::ReservedBytes).current);

  std::vector<size_t> largest;
  for (auto& [data, block] : in_use_) largest.push_back(block->size);
  size_t shown = std::min<size_t>(largest.size(), 3), gap = 0, in_graphs = 0;
  std::partial_sort(largest.begin(), largest.begin() + shown, largest.end(), std::greater<>());
  for (auto& [id, pool] : pools_)
    for (Bin& bin : pool->bins)
      for (const Block* b : bin) {
        if (id == 0)
          gap = std::max(gap, b->size);
        else
          in_graphs += b->size;
      }

  std::string text = message("out of memory on ", device_, ": asked for ", format_bytes(bytes), ". Of ",
                             format_bytes(total), " there are ", format_bytes(free), " free");
  if (limit_ != SIZE_MAX) text += message(" and ", format_bytes(limit_), " allowed to this process");
  text += message("; arrays hold ", format_bytes(allocated), " in ", in_use_.size(), " blocks");
  for (size_t i = 0; i < shown; ++i) text += message(i ? ", " : ", the largest ", format_bytes(largest[i]));
  if (active > allocated) text += message("; ", format_bytes(active - allocated), " wait for other streams");
  if (in_graphs) text += message("; captured graphs keep ", format_bytes(in_graphs));
  if (reserved - active > in_graphs)
    text += message("; ", format_bytes(reserved - active - in_graphs), " lie in gaps of at most ", format_bytes(gap));
  if (total > free + reserved)
    text += message("; other programs and the driver hold ", format_bytes(total - free - reserved));
  throw OutOfMemory(text + ". Let go of arrays, or make the batch smaller");
}

}  // namespace gg::cuda
