// A fiber: a stack and the place where it goes on. Switching saves what the calling convention makes the callee keep.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace gg::simt {

#if defined(__x86_64__)

struct Context { void* stack_pointer = nullptr; };

// Saves where this goes on in `from` and goes on where `to` was left.
extern "C" void gg_simt_switch(void** from, void* to);
inline void switch_context(Context& from, Context& to) { gg_simt_switch(&from.stack_pointer, to.stack_pointer); }

// A context whose first switch calls entry() on this stack; entry never returns.
inline void make_context(Context& c, char* stack, size_t bytes, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15);
  auto* slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // where entry would return to; also keeps the stack aligned as after a call
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--slot = nullptr;  // rbp, rbx, r12 to r15
  c.stack_pointer = slot;
}

#else

struct Context { ucontext_t state; };
inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
inline void make_context(Context& c, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&c.state);
  c.state.uc_stack.ss_sp = stack;
  c.state.uc_stack.ss_size = bytes;
  c.state.uc_link = nullptr;
  makecontext(&c.state, entry, 0);
}

#endif

}  // namespace gg::simt
