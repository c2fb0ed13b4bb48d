// Many threads call parallel_for at once, with nested calls, exceptions, changing thread counts and, with a second
// argument, forks. Every piece must run exactly once and every exception arrive. Built by test_threads.py.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace {

void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

void rounds(uint32_t seed, int count) {
  uint32_t random = seed * 7919 + 1;
  for (int round = 0; round < count; ++round) {
    random = random * 1664525u + 1013904223u;
    int64_t n = 1 + (random >> 16) % 500, grain = 1 + (random >> 8) % 7;
    bool throws = random % 11 == 0, caught = false;
    std::vector<int> visits(size_t(n), 0);
    std::atomic<int> nested{0};
    try {
      gg::parallel_for(n, grain, [&](int64_t begin, int64_t end) {
        void* scratch = gg::scratch_allocate(64 + begin);
        for (int64_t i = begin; i < end; ++i) ++visits[size_t(i)];
        if (begin == 0) gg::parallel_for(8, 1, [&](int64_t, int64_t) { ++nested; });
        gg::scratch_release(scratch, 64 + begin);
        if (throws && begin <= n / 2 && n / 2 < end) throw std::runtime_error("piece");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    require(caught == throws, "an exception was lost or made up");
    for (int v : visits) require(v == 1 || (throws && v == 0), "a piece did not run exactly once");
    require(nested == 8 || throws, "a nested call lost pieces");
    if (random % 97 == 0) gg::set_num_threads(1 + int(random % 5));
  }
}

}  // namespace

int main(int argc, char** argv) {
  require(argc > 1, "usage: parallel_stress rounds [fork]");
  gg::set_num_threads(4);
  constexpr int kCallers = 3;
  std::atomic<int> running{kCallers};
  std::vector<std::thread> callers;
  for (uint32_t i = 0; i < kCallers; ++i)
    callers.emplace_back([&, i] {
      rounds(i, std::atoi(argv[1]));
      --running;
    });
  while (argc > 2 && running > 0) {
    pid_t child = fork();
    require(child >= 0, "fork failed");
    if (child == 0) {
      alarm(60);  // a child that hangs on a lock it inherited dies here
      rounds(99, 20);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    require(status == 0, "a forked child hung or failed");
  }
  for (std::thread& t : callers) t.join();
}
