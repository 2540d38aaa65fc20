// CpuOps: keys and values of a layer, and pages of them. Private to engine/runtime.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/aligned_buffer.h"
#include "engine/runtime/kv_store.h"
#include "kernels/attention/attention.h"

namespace glimpse {

/// One layer's keys and values: in each page the keys of all heads one after another, then the values, all in the panel
/// layout of kernels/attention. A store of its own is one page of all positions.
struct CpuKv final : KvStore {
  /// A store over nothing yet. page_positions: kKeyBlock, or the capacity.
  CpuKv(const KvShape& shape, int64_t capacity_, int64_t page_positions_);

  int64_t page_positions = 0;
  int64_t n_wide = 0;               // kQ8_0: wide channels of a head's keys
  std::vector<int32_t> wide;        // (n_kv_heads, n_wide)
  std::byte* first_page = nullptr;  // of this layer
  uint64_t page_bytes = 0;          // from one page to the next, of all layers
  const int32_t* pages = nullptr;   // by block; nullptr: one page
  AlignedBuffer memory;             // of a store of its own
  /// What begins in a block of keys, by block and head; of stores of their own that keep kBf16, whose segments may be
  /// turned into int8 (Segment::int8).
  enum class Begins : uint8_t { kNothing, kBf16, kInt8 };
  std::vector<Begins> begins;

  Begins& begins_at(int64_t head, int64_t position) {
    return begins[static_cast<size_t>(position / kKeyBlock * n_kv_heads + head)];
  }
  Begins begins_at(int64_t head, int64_t position) const {
    return begins[static_cast<size_t>(position / kKeyBlock * n_kv_heads + head)];
  }
  /// Whether the panels of a head hold the segment that begins at first_key as int8.
  bool is_int8(int64_t head, int64_t first_key) const {
    return !begins.empty() && first_key % kKeyBlock == 0 && begins_at(head, first_key) == Begins::kInt8;
  }
  /// The segment's keys and values were written anew, as they are stored.
  void begin_segment(int64_t first_key, int64_t end_key);

  WideChannels head_wide(int64_t head) const {
    return WideChannels(wide).subspan(static_cast<size_t>(head * n_wide), static_cast<size_t>(n_wide));
  }
  /// Positions from this one on that lie in its page.
  int64_t room_in_page(int64_t position) const { return page_positions - position % page_positions; }
  /// A head's panels from a position on, a multiple of kKeyAlign, to the end of its page.
  const std::byte* head_keys(int64_t head, int64_t position) const {
    return page_of(position) + static_cast<uint64_t>(head) * key_bytes(page_positions) + key_bytes(in_page(position));
  }
  const std::byte* head_values(int64_t head, int64_t position) const {
    return page_of(position) + static_cast<uint64_t>(n_kv_heads) * key_bytes(page_positions) +
           static_cast<uint64_t>(head) * value_bytes(page_positions) + value_bytes(in_page(position));
  }
  std::byte* head_keys(int64_t head, int64_t position) {
    return const_cast<std::byte*>(std::as_const(*this).head_keys(head, position));
  }
  std::byte* head_values(int64_t head, int64_t position) {
    return const_cast<std::byte*>(std::as_const(*this).head_values(head, position));
  }
  /// Stores the keys and values of n positions from `position` on: row i of head h (head_dim floats) lies at
  /// keys + i * ld + h * head_dim, and so do the values.
  void store(Isa isa, const float* keys, const float* values, int64_t ld, int64_t n, int64_t position);
  /// Zeros in n positions of a head from `position` on: slots that nobody filled and that must be finite. zero:
  /// head_dim of them.
  void clear(Isa isa, int64_t head, const float* zero, int64_t n, int64_t position);
  void read(int64_t kv_head, int64_t position, float* key, float* value) const override;

  /// Of this layer in one page.
  uint64_t layer_bytes() const {
    return static_cast<uint64_t>(n_kv_heads) * (key_bytes(page_positions) + value_bytes(page_positions));
  }

 private:
  void store_head(Isa isa, int64_t head, const float* keys, const float* values, int64_t ld, int64_t n,
                  int64_t position);
  int64_t in_page(int64_t position) const { return pages == nullptr ? position : position % kKeyBlock; }
  const std::byte* page_of(int64_t position) const {
    return pages == nullptr ? first_page : first_page + static_cast<uint64_t>(pages[position / kKeyBlock]) * page_bytes;
  }
  /// Of the first n positions of one head.
  uint64_t key_bytes(int64_t n) const { return kv_head_bytes(element, head_dim, n, n_wide); }
  uint64_t value_bytes(int64_t n) const { return kv_head_bytes(element, head_dim, n); }
};

/// Pages in one allocation. Needs no context; any on the CPU may work on it.
Result<std::unique_ptr<KvPool>> make_cpu_pool(std::span<const KvShape> layers, int64_t n_pages);
uint64_t cpu_page_bytes(std::span<const KvShape> layers);

}  // namespace glimpse
