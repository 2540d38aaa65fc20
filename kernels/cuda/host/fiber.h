// Fibers: functions with a stack of their own that pass control to one another by hand. Just enough for the executor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glimpse::cuda::host {

/// A place to return to. The OS thread's own stack and every fiber have one.
struct FiberContext {
  void* saved = nullptr;  // stack pointer, or a ucontext_t
  // For sanitizers: where the stack lies, what they keep of it while it sleeps.
  void* stack = nullptr;
  size_t stack_bytes = 0;
  void* sanitizer_state = nullptr;
};

/// Prepares `fiber` to run entry(argument) on stack[0, bytes) when first switched to. entry must not return: its last
/// act is fiber_switch(..., true).
void fiber_prepare(FiberContext& fiber, void* stack, size_t bytes, void (*entry)(void*), void* argument);
/// Leaves `from`, which goes on when somebody switches to it (never, when it is `final`), and runs `to`.
void fiber_switch(FiberContext& from, FiberContext& to, bool final);
/// To be called first thing by an entry function.
void fiber_started();
/// Frees what a context holds beside its stack; for fibers that ended or were abandoned.
void fiber_release(FiberContext& fiber);

}  // namespace glimpse::cuda::host
