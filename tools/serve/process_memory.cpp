#include "tools/serve/process_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

namespace glimpse::serve {
namespace {

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
constexpr bool kHasCounts = true;
auto counts() {
  return mallinfo2();
}
#else
struct NoCounts {
  size_t arena = 0, hblkhd = 0, uordblks = 0;
};
constexpr bool kHasCounts = false;
NoCounts counts() {
  return {};
}
#endif

uint64_t resident_bytes() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/proc/self/statm", "re"), std::fclose);
  unsigned long long all = 0, resident = 0;
  if (file == nullptr || std::fscanf(file.get(), "%llu %llu", &all, &resident) != 2) return 0;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

ProcessMemory process_memory() {
  ProcessMemory memory;
  memory.resident = resident_bytes();
  if (!kHasCounts) return memory;
  const auto counted = counts();
  memory.heap_held = counted.arena + counted.hblkhd;
  memory.heap_used = counted.uordblks + counted.hblkhd;
  return memory;
}

void bound_heaps() {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 4);
#endif
}

}  // namespace glimpse::serve
