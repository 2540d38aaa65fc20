// What the pools of the backends on the host have in common. Private to engine/runtime.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/runtime/kv_store.h"

namespace glimpse {

/// Pages in host memory, one behind the other.
class HostKvPool : public KvPool {
 public:
  AlignedBuffer memory;

  Status copy(int32_t from, int32_t to) override {
    std::memcpy(page(to), page(from), page_bytes);
    return {};
  }
  Status upload(int32_t to, std::span<const std::byte> bytes) override {
    std::memcpy(page(to), bytes.data(), page_bytes);
    return {};
  }

 protected:
  std::byte* page(int32_t number) const {
    return const_cast<std::byte*>(memory.data()) + static_cast<uint64_t>(number) * page_bytes;
  }
};
/// The pages of a text for stores that read their numbers from host memory.
class HostKvTable : public KvTable {
 public:
  Status set(int64_t block, int32_t page) override {
    pages_[static_cast<size_t>(block)] = page;
    return {};
  }

 protected:
  explicit HostKvTable(int64_t n_blocks) : pages_(static_cast<size_t>(n_blocks)) {}
  std::vector<int32_t> pages_;
};

}  // namespace glimpse
