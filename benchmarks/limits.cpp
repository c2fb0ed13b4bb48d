// What this machine can do at most: `limits THREADS SMALL MIDDLE LARGE` prints one line a figure, "NAME VALUE".
// peak: fused multiply-adds, in operations a second. copy, triad, stream: bytes a second of a working set of SMALL
// (L2), MIDDLE (L3) and LARGE (memory) bytes a thread; stream writes past the caches.
#include <immintrin.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int kBytes = 64;
constexpr int kChains = 24;  // of 32 registers; two units of four cycles need eight
#else
constexpr int kBytes = 32;
constexpr int kChains = 12;  // of 16 registers
#endif
typedef float Vector __attribute__((vector_size(kBytes)));
constexpr int kLanes = kBytes / sizeof(float);
constexpr int kRepeats = 7;        // the best of them: a limit is what the machine can do
constexpr double kSeconds = 0.03;  // of one repeat

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

float multiply_add(long rounds) {
  Vector sum[kChains], a, b;
  for (int i = 0; i < kLanes; ++i) a[i] = 0.999f, b[i] = 1e-3f;
  for (int c = 0; c < kChains; ++c) sum[c] = a * float(c);
  for (long r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * a + b;
    asm volatile("" : "+x"(a));  // nothing is hoisted out of the loop
  }
  Vector total = sum[0];
  for (int c = 1; c < kChains; ++c) total += sum[c];
  return total[0];
}

enum Kind { kCopy, kTriad, kStream };

void move(Kind kind, float* out, const float* x, const float* y, long n) {
  if (kind == kCopy) {
    std::memcpy(out, x, n * sizeof(float));
  } else if (kind == kTriad) {
    for (long i = 0; i < n; ++i) out[i] = x[i] + 0.5f * y[i];
  } else {
    for (long i = 0; i < n; i += 8) _mm256_stream_ps(out + i, _mm256_load_ps(x + i));
    _mm_sfence();
  }
}

volatile float sink;

// Calls f(thread) on every thread again and again and returns calls a second of all of them, the best of kRepeats.
template <class F> double rate(int threads, F f) {
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<double> found(threads);
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t)
      team.emplace_back([&, t] {
        f(t);
        pthread_barrier_wait(&barrier);
        const double start = now();
        long calls = 0;
        do f(t), ++calls;
        while (now() - start < kSeconds);
        found[t] = calls / (now() - start);
      });
    for (auto& thread : team) thread.join();
    pthread_barrier_destroy(&barrier);
    double sum = 0;
    for (double calls : found) sum += calls;
    best = std::max(best, sum);
  }
  return best;
}

float* allocate(long n) {
  auto* p = static_cast<float*>(std::aligned_alloc(4096, (n * sizeof(float) + 4095) / 4096 * 4096));
  if (!p) std::abort();
  std::memset(p, 0, n * sizeof(float));  // every page is there
  return p;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const int threads = std::atoi(argv[1]);
  constexpr long kRounds = 20000;
  const double operations = 2.0 * kLanes * kChains * kRounds;
  std::printf("peak %g\n", operations * rate(threads, [](int) { sink = multiply_add(kRounds); }));
  const char* levels[] = {"L2", "L3", "memory"};
  const char* kinds[] = {"copy", "triad", "stream"};
  for (int level = 0; level < 3; ++level)
    for (Kind kind : {kCopy, kTriad, kStream}) {
      const int arrays = kind == kTriad ? 3 : 2;
      const long n = std::atol(argv[2 + level]) / (arrays * sizeof(float)) / 64 * 64;
      std::vector<float*> memory;
      for (int i = 0; i < 3 * threads; ++i) memory.push_back(i % 3 < arrays ? allocate(n) : nullptr);
      const double calls =
          rate(threads, [&](int t) { move(kind, memory[3 * t], memory[3 * t + 1], memory[3 * t + 2], n); });
      std::printf("%s_%s %g\n", levels[level], kinds[kind], calls * arrays * n * sizeof(float));
      for (float* p : memory) std::free(p);
    }
}
