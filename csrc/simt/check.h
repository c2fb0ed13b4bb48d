// The checks of memory: every load and store of a kernel comes here before it happens.
//
// Kernel files are compiled with -fsanitize=thread but linked with hooks of our own: the compiler announces each access
// and the .cu line is its return address. A shadow cell for every 4 bytes of device and shared memory remembers who
// wrote and read them last, and when. Two accesses of one launch, one of them a write, are a race unless barriers order
// them: every warp keeps a clock of what it has seen of the others (Lamport 1978; Mattern 1989, vector clocks), lanes
// of a warp are ordered by its own barriers only, and blocks are never ordered.
#pragma once
#include "simt/runtime.h"

namespace gg::simt {

// Device memory is one region of addresses; shadow memory beside it is touched only where kernels go.
void* device_allocate(size_t bytes);
void device_release(void* data, size_t bytes);
size_t device_bytes_in_use();

// Where memory is locked (GLASSGRAD_SIMT_LOCK=1), a launch or a copy holds one of these while it runs: code of the host
// that looks into device memory, which only a GPU would refuse, is a segmentation fault here too.
class Unlocked {
 public:
  Unlocked();
  ~Unlocked();
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;
};

enum class Access { Read, Write, Atomic, AsyncRead };  // AsyncRead: by TMA or wgmma, past the threads' own path

// The accesses that a twin makes on behalf of a thread: checked at once, or, for an asynchronous copy, in two halves:
// from begin_async on the bytes may not be read or written, until end_async makes them a write of the running thread.
void check_access(const void* p, size_t bytes, Access access, const void* caller, const char* what);
void begin_async(const void* p, size_t bytes, const void* caller, const char* what);
void end_async(const void* p, size_t bytes, const void* caller);
// The same as a write of the thread that started the copy, at the time it did so.
struct Moment {
  uint16_t thread;
  uint32_t epoch;
};
Moment now();
void end_async_of(Moment start, const void* p, size_t bytes, const void* caller);
// An asynchronous copy out of shared memory begins or ends: between the two nobody may write there.
void mark_leaving(const void* p, size_t bytes, bool begins);

// For the scheduler. Runs are numbered: cells of earlier ones are forgotten.
void begin_checked_launch(const Launch& launch);
void begin_checked_cluster(char* arena, size_t bytes_per_block, unsigned blocks);
void end_checked_launch();

}  // namespace gg::simt
