#include "allocation_faults.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace {

std::atomic<bool> armed{false};
std::atomic<bool> stays{false};
std::atomic<long> fails_at{0};
std::atomic<long> count{0};

bool refuse() {
  if (!armed.load(std::memory_order_relaxed)) return false;
  const long number = count.fetch_add(1, std::memory_order_relaxed) + 1, first = fails_at.load();
  const bool hit = first > 0 && (stays ? number >= first : number == first);
  if (hit) errno = ENOMEM;
  return hit;
}

}  // namespace

extern "C" void arm_allocation_faults(long first, int sticky) {
  count = 0;
  fails_at = first;
  stays = sticky != 0;
  armed = true;
}

extern "C" long disarm_allocation_faults(void) {
  armed = false;
  return count;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

void* operator new(size_t n) {
  void* const p = refuse() ? nullptr : std::malloc(n == 0 ? 1 : n);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void* operator new(size_t n, const std::nothrow_t&) noexcept {
  return refuse() ? nullptr : std::malloc(n == 0 ? 1 : n);
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, const std::nothrow_t&) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}

#else

// glibc's own, by the names that are meant for such as this.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t n) {
  return refuse() ? nullptr : __libc_malloc(n);
}
void* calloc(size_t n, size_t size) {
  return refuse() ? nullptr : __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) {
  return refuse() ? nullptr : __libc_realloc(p, n);
}
void* aligned_alloc(size_t alignment, size_t n) {
  return refuse() ? nullptr : __libc_memalign(alignment, n);
}
void* memalign(size_t alignment, size_t n) {
  return refuse() ? nullptr : __libc_memalign(alignment, n);
}
int posix_memalign(void** out, size_t alignment, size_t n) {
  if (refuse()) return ENOMEM;
  void* const p = __libc_memalign(alignment, n);
  if (p == nullptr) return ENOMEM;
  *out = p;
  return 0;
}
}

#endif
