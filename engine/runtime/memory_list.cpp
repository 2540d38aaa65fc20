#include "engine/runtime/memory_list.h"

#include <algorithm>
#include <utility>

namespace glimpse {

void MemoryList::buffer(const char* name, int64_t n_floats, std::unique_ptr<BackendBuffer>& to) {
  entries_.push_back({name, [n_floats](const Ops& ops) { return ops.buffer_bytes(n_floats); },
                      [name, n_floats, &to](Ops& ops) -> Status {
                        GLIMPSE_ASSIGN(to, ops.allocate(n_floats, name));
                        return {};
                      }});
}

void MemoryList::attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) {
  entries_.push_back({"attention", [=](const Ops& ops) { return ops.kv_scratch_bytes(n_kv_heads, head_dim, capacity); },
                      [=](Ops& ops) { return ops.reserve_attention(n_kv_heads, head_dim, capacity); }});
}

void MemoryList::kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                    std::unique_ptr<KvStore>& to) {
  entries_.push_back({"keys and values",
                      [=](const Ops& ops) { return ops.kv_bytes(n_kv_heads, head_dim, capacity, element); },
                      [=, &to](Ops& ops) -> Status {
                        GLIMPSE_ASSIGN(to, ops.make_kv(n_kv_heads, head_dim, capacity, element));
                        return {};
                      }});
  attention(n_kv_heads, head_dim, capacity);
}

uint64_t MemoryList::product_bytes(const Ops& ops) const {
  uint64_t for_rows = 0, for_cols = 0;
  for (const Product& p : products_) {
    const uint64_t cols_alone = ops.reserve_bytes(0, p.cols);
    for_rows = std::max(for_rows, ops.reserve_bytes(p.rows, p.cols) - cols_alone);
    for_cols = std::max(for_cols, cols_alone);
  }
  return for_rows + for_cols;
}

void MemoryList::experts(int64_t rows, const ExpertWeights& weights) {
  entries_.push_back({"experts", [rows, &weights](const Ops& ops) { return ops.reserve_experts_bytes(rows, weights); },
                      [rows, &weights](Ops& ops) { return ops.reserve_experts(rows, weights); }});
}

std::vector<std::pair<std::string, uint64_t>> MemoryList::sizes(const Ops& ops) const {
  std::vector<std::pair<std::string, uint64_t>> sizes;
  for (const Entry& entry : entries_) sizes.emplace_back(entry.name, entry.bytes(ops));
  sizes.emplace_back("products", product_bytes(ops));
  return sizes;
}

uint64_t MemoryList::bytes(const Ops& ops) const {
  uint64_t sum = 0;
  for (const auto& [name, bytes] : sizes(ops)) sum += bytes;
  return sum;
}

Status MemoryList::allocate(Ops& ops) const {
  for (const Entry& entry : entries_) GLIMPSE_TRY(entry.allocate(ops));
  for (const Product& p : products_) GLIMPSE_TRY(ops.reserve(p.rows, p.cols));
  return {};
}

}  // namespace glimpse
