#include "core/parallel.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "core/allocator.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define GG_PAUSE() _mm_pause()
#else
#define GG_PAUSE() ((void)0)
#endif

namespace gg {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kSpins = 2000;  // 20 to 100 microseconds: longer than the gap between two ops, shorter than a time slice

struct Job {
  Piece piece;
  void* context;
  int64_t n, grain, pieces;
  int threads;
};

// What threads poll, count and take from lies in cache lines of its own: polling the epoch must not delay those who
// take pieces.
constexpr size_t kLine = 64;

// Pieces [pieces * t / threads, pieces * (t + 1) / threads) are thread t's: run after run it touches the same part of
// an array, which its own cache then holds. It takes them from the front; whoever has no more of its own, from the
// back.
struct alignas(kLine) Share { std::atomic<uint64_t> taken{0}; };  // from the front; from the back in the upper half

struct Pool {
  std::mutex owner;  // held by the thread whose job it is
  std::atomic<bool> failed{false};
  alignas(kLine) std::atomic<uint32_t> epoch{0};  // odd while a job is open
  Job job{};                                      // read by those who saw the epoch change, so in its line
  Share shares[kMaxThreads];
  alignas(kLine) std::atomic<int> inside{0};  // workers that joined and have not left
  alignas(kLine) std::atomic<int> sleepers{0};
  std::exception_ptr error;
  std::mutex error_mutex;
  int workers = 0;  // threads started, the caller not counted
};

Pool* pool = new Pool;  // never destroyed: detached workers may outlive static destruction
std::atomic<int> thread_count{0};
thread_local bool in_piece = false;
RegionHooks hooks{nullptr, nullptr};

void futex_wait(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}
void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, 1 << 30, nullptr, nullptr, 0);
}

// All pieces of `thread`, then what others have not begun.
void take_pieces(Pool& p, const Job& job, int thread) {
  in_piece = true;
  for (int k = 0; k < job.threads; ++k) {
    const int owner = (thread + k) % job.threads;
    const int64_t first = job.pieces * owner / job.threads, last = job.pieces * (owner + 1) / job.threads;
    std::atomic<uint64_t>& taken = p.shares[owner].taken;
    while (!p.failed.load(std::memory_order_relaxed)) {
      const uint64_t before = taken.fetch_add(k == 0 ? 1 : uint64_t(1) << 32, std::memory_order_relaxed);
      const int64_t front = int64_t(before & 0xffffffff), back = int64_t(before >> 32);
      if (front + back >= last - first) break;
      const int64_t i = k == 0 ? first + front : last - 1 - back;
      int64_t begin = i * job.grain, end = begin + job.grain < job.n ? begin + job.grain : job.n;
      try {
        job.piece(job.context, begin, end);
      } catch (...) {
        std::lock_guard<std::mutex> lock(p.error_mutex);
        if (!p.failed.exchange(true)) p.error = std::current_exception();
      }
    }
  }
  in_piece = false;
}

void work(Pool* p, int id) {
  uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    uint32_t now;
    while ((now = p->epoch.load(std::memory_order_acquire)) == seen || now % 2 == 0) {
      if (++spins < kSpins) {
        GG_PAUSE();
        continue;
      }
      p->sleepers.fetch_add(1);
      futex_wait(p->epoch, now);
      p->sleepers.fetch_sub(1);
    }
    seen = now;
    if (id >= thread_count.load(std::memory_order_relaxed) - 1) continue;
    // Join, then look again. The caller closes the job (even epoch) before it waits for inside to fall to zero, and
    // both sides are sequentially consistent: either this thread sees the job closed, or the caller sees this thread
    // inside. So p->job is read only while it is open, and written only while nobody is inside.
    p->inside.fetch_add(1);
    if (p->epoch.load() == now) take_pieces(*p, p->job, id + 1);
    p->inside.fetch_sub(1);
  }
}

// A forked child has none of its parent's threads: it starts again with an empty pool. The old one may be locked by a
// thread that the child does not have, so it is left alone.
void after_fork_in_child() { pool = new Pool; }
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

void start_workers(Pool& p, int wanted) {
  while (p.workers < wanted) {
    try {
      std::thread(work, &p, p.workers).detach();
    } catch (const std::system_error&) {
      return;  // the machine gives no more threads: those there are do the work
    }
    ++p.workers;
  }
}

void run_in_order(const Job& job) {
  for (int64_t begin = 0; begin < job.n; begin += job.grain)
    job.piece(job.context, begin, begin + job.grain < job.n ? begin + job.grain : job.n);
}

int default_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return n < 1 ? 1 : n < kMaxThreads ? n : kMaxThreads;
}

struct Region {
  void* token;
  Region() : token(hooks.enter ? hooks.enter() : nullptr) {}
  ~Region() {
    if (token) hooks.leave(token);
  }
};

}  // namespace

int num_threads() {
  int n = thread_count.load(std::memory_order_relaxed);
  if (n == 0) {
    n = default_threads();
    thread_count.store(n);
  }
  return n;
}

void set_num_threads(int n) { thread_count.store(n < kMaxThreads ? n : kMaxThreads); }

void set_region_hooks(RegionHooks h) { hooks = h; }

void parallel_pieces(int64_t n, int64_t grain, Piece piece, void* context) {
  if (n <= 0) return;
  Job job{piece, context, n, grain, (n + grain - 1) / grain, num_threads()};
  if (job.pieces == 1 || in_piece) return run_in_order(job);
  Region region;
  Pool& p = *pool;
  if (job.threads == 1 || job.pieces > INT32_MAX || !p.owner.try_lock()) return run_in_order(job);
  std::lock_guard<std::mutex> unlock(p.owner, std::adopt_lock);
  start_workers(p, job.threads - 1);
  p.job = job;
  p.failed = false;
  for (int t = 0; t < job.threads; ++t) p.shares[t].taken.store(0, std::memory_order_relaxed);
  p.epoch.fetch_add(1);  // odd: open
  if (p.sleepers.load() > 0) futex_wake_all(p.epoch);
  take_pieces(p, job, 0);
  p.epoch.fetch_add(1);  // even: closed, nobody joins any more
  for (int spins = 0; p.inside.load() > 0;) {
    if (++spins < kSpins)
      GG_PAUSE();
    else
      sched_yield();  // a worker may have lost its core in the middle of a piece
  }
  if (p.failed.load()) std::rethrow_exception(std::exchange(p.error, nullptr));
}

void* scratch_allocate(int64_t bytes) { return cpu_allocate(size_t(bytes)); }
void scratch_release(void* data, int64_t bytes) { cpu_release(data, size_t(bytes)); }

}  // namespace gg
