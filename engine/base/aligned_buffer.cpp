#include "engine/base/aligned_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "engine/base/checked.h"
#include "engine/base/huge_pages.h"

namespace glimpse {

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
  if (mapped_ != 0) {
    munmap(data_, mapped_);
  } else {
    std::free(data_);
  }
}

void AlignedBuffer::join_pages() {
  if (mapped_ != 0) allow_huge_pages(data_, mapped_);
}

uint64_t AlignedBuffer::memory_bytes(uint64_t n_bytes) {
  return checked_align_up(n_bytes, n_bytes < kHugePage ? 64 : kHugePage).value_or(n_bytes);
}

Result<AlignedBuffer> AlignedBuffer::allocate(uint64_t n_bytes, const char* purpose, Pages pages) {
  AlignedBuffer buffer;
  if (n_bytes == 0) return buffer;
  const auto fail = [&] {
    return make_error(ErrorCode::kOutOfMemory, "cannot allocate %.1f MB for %s", static_cast<double>(n_bytes) / 1e6,
                      purpose);
  };
  if (n_bytes > std::numeric_limits<uint64_t>::max() / 4) return fail();
  if (n_bytes < kHugePage) {
    const auto rounded = static_cast<size_t>(memory_bytes(n_bytes));
    buffer.data_ = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
    if (buffer.data_ == nullptr) return fail();
    std::memset(buffer.data_, 0, rounded);
    buffer.size_ = n_bytes;
    return buffer;
  }
  // Map one huge page more than needed and give back what lies before and after the aligned part.
  const uint64_t rounded = memory_bytes(n_bytes);
  void* raw = mmap(nullptr, rounded + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return fail();
  auto* start = static_cast<std::byte*>(raw);
  const uint64_t skip = (kHugePage - reinterpret_cast<uintptr_t>(raw) % kHugePage) % kHugePage;
  if (skip != 0) munmap(start, skip);
  if (kHugePage != skip) munmap(start + skip + rounded, kHugePage - skip);
  if (pages == Pages::kQuick) {
    prepare_pages(start + skip, rounded);
  } else {
    allow_huge_pages(start + skip, rounded);
  }
  buffer.data_ = start + skip;
  buffer.size_ = n_bytes;
  buffer.mapped_ = rounded;
  return buffer;
}

uint64_t available_memory_bytes() {
  uint64_t available = std::numeric_limits<uint64_t>::max();
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  uint64_t kilobytes = 0;
  while (meminfo >> key >> kilobytes) {
    meminfo.ignore(64, '\n');
    if (key == "MemAvailable:") {
      available = kilobytes * 1024;
      break;
    }
  }
  std::ifstream limit_file("/sys/fs/cgroup/memory.max"), used_file("/sys/fs/cgroup/memory.current");
  uint64_t limit = 0, used = 0;
  if (limit_file >> limit && used_file >> used) available = std::min(available, limit > used ? limit - used : 0);
  return available;
}

}  // namespace glimpse
