#include "kernels/cuda/host/fiber.h"

#include <ucontext.h>

#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define GLIMPSE_FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GLIMPSE_FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define GLIMPSE_FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GLIMPSE_FIBER_TSAN 1
#endif
#endif
#if defined(GLIMPSE_FIBER_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(GLIMPSE_FIBER_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

// swapcontext() asks the kernel to save the signal mask, which costs more than everything else a fiber does here.
#if defined(__x86_64__) && !defined(__SHSTK__)
#define GLIMPSE_FIBER_X86_64 1
// System V ABI: rbx, rbp and r12 to r15 belong to the caller.
asm(R"(
  .text
  .p2align 4
  .type glimpse_fiber_swap, @function
glimpse_fiber_swap:
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
  .size glimpse_fiber_swap, .-glimpse_fiber_swap
  .type glimpse_fiber_first, @function
glimpse_fiber_first:
  movq %r12, %rdi
  pushq $0
  jmp *%r13
  .size glimpse_fiber_first, .-glimpse_fiber_first
)");
extern "C" {
void glimpse_fiber_swap(void** save, void* load);
void glimpse_fiber_first();
}
#endif

namespace glimpse::cuda::host {
namespace {

#if defined(GLIMPSE_FIBER_ASAN) || defined(GLIMPSE_FIBER_TSAN)
thread_local FiberContext* t_from = nullptr;  // who switched last
#endif

// After control arrived on a stack.
void arrived(void* state) {
#if defined(GLIMPSE_FIBER_ASAN)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(state, &bottom, &bytes);
  if (t_from != nullptr && t_from->stack == nullptr) {  // the OS thread's stack shows itself when it is first left
    t_from->stack = const_cast<void*>(bottom);
    t_from->stack_bytes = bytes;
  }
#else
  (void)state;
#endif
}

#if !defined(GLIMPSE_FIBER_X86_64)
struct Start {
  void (*entry)(void*);
  void* argument;
};
thread_local Start t_start;
void run_start() {
  const Start start = t_start;
  start.entry(start.argument);
}
#endif

}  // namespace

void fiber_started() {
  arrived(nullptr);
}

void fiber_prepare(FiberContext& fiber, void* stack, size_t bytes, void (*entry)(void*), void* argument) {
  fiber.stack = stack;
  fiber.stack_bytes = bytes;
#if defined(GLIMPSE_FIBER_ASAN)
  __asan_unpoison_memory_region(stack, bytes);
#endif
#if defined(GLIMPSE_FIBER_TSAN)
  if (fiber.sanitizer_state == nullptr) fiber.sanitizer_state = __tsan_create_fiber(0);
#endif
#if defined(GLIMPSE_FIBER_X86_64)
  // What glimpse_fiber_swap pops: r15 r14 r13 r12 rbx rbp, then the address it returns to.
  void** top = reinterpret_cast<void**>(static_cast<std::byte*>(stack) + bytes) - 2;
  void** frame = top - 7;
  std::memset(frame, 0, 9 * sizeof(void*));
  frame[2] = reinterpret_cast<void*>(entry);
  frame[3] = argument;
  frame[6] = reinterpret_cast<void*>(&glimpse_fiber_first);
  fiber.saved = frame;
#else
  if (fiber.saved == nullptr) fiber.saved = new ucontext_t;
  auto* context = static_cast<ucontext_t*>(fiber.saved);
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = bytes;
  context->uc_link = nullptr;
  const uint64_t words[2] = {reinterpret_cast<uint64_t>(entry), reinterpret_cast<uint64_t>(argument)};
  makecontext(context, reinterpret_cast<void (*)()>(+[](unsigned a, unsigned b, unsigned c, unsigned d) {
                t_start = {reinterpret_cast<void (*)(void*)>(uint64_t{a} | uint64_t{b} << 32),
                           reinterpret_cast<void*>(uint64_t{c} | uint64_t{d} << 32)};
                run_start();
              }),
              4, static_cast<unsigned>(words[0]), static_cast<unsigned>(words[0] >> 32),
              static_cast<unsigned>(words[1]), static_cast<unsigned>(words[1] >> 32));
#endif
}

void fiber_switch(FiberContext& from, FiberContext& to, bool final) {
#if defined(GLIMPSE_FIBER_ASAN)
  t_from = &from;
  __sanitizer_start_switch_fiber(final ? nullptr : &from.sanitizer_state, to.stack, to.stack_bytes);
#else
  (void) final;
#endif
#if defined(GLIMPSE_FIBER_TSAN)
  if (from.sanitizer_state == nullptr) from.sanitizer_state = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.sanitizer_state, 0);
#endif
#if defined(GLIMPSE_FIBER_X86_64)
  glimpse_fiber_swap(&from.saved, to.saved);
#else
  if (from.saved == nullptr) from.saved = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.saved), static_cast<ucontext_t*>(to.saved));
#endif
#if defined(GLIMPSE_FIBER_ASAN)
  arrived(from.sanitizer_state);
#endif
}

void fiber_release(FiberContext& fiber) {
#if defined(GLIMPSE_FIBER_TSAN)
  if (fiber.sanitizer_state != nullptr && fiber.stack != nullptr) __tsan_destroy_fiber(fiber.sanitizer_state);
#endif
#if !defined(GLIMPSE_FIBER_X86_64)
  delete static_cast<ucontext_t*>(fiber.saved);
#endif
  fiber = {};
}

}  // namespace glimpse::cuda::host
