// Memory for weights and activations: 64-byte aligned, huge pages asked for when large, failure is a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "engine/base/result.h"

namespace glimpse {

/// Owns n_bytes of zeroed memory, aligned to 64 bytes (2 MiB when at least that large). Move-only.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~AlignedBuffer();

  /// kQuick: huge pages only where they are to be had quickly (huge_pages.h), for what is written soon: weights, and
  /// scratch, whose first use they would delay. kHuge: for what fills up slowly and is read again and again.
  enum class Pages { kHuge, kQuick };
  /// Errors: kOutOfMemory, with the number of bytes and what they were for. Pages are zero and (kQuick: all but a few)
  /// untouched, so that the thread that first writes a page decides where it lives.
  static Result<AlignedBuffer> allocate(uint64_t n_bytes, const char* purpose, Pages pages = Pages::kQuick);
  /// The memory that allocate() takes for n_bytes: what is large ends at a huge page.
  static uint64_t memory_bytes(uint64_t n_bytes);

  /// Of kQuick, all of it is written: small pages may become huge ones when the kernel has time.
  void join_pages();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  void swap(AlignedBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
  }
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  uint64_t mapped_ = 0;  // bytes from mmap; 0: from aligned_alloc
};

/// Bytes that a new allocation may use without the machine killing someone: free and reclaimable memory
/// (MemAvailable), capped by the cgroup's limit. UINT64_MAX when it cannot be known.
uint64_t available_memory_bytes();

}  // namespace glimpse
