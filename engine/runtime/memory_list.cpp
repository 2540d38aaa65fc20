#include "engine/runtime/memory_list.h"

#include <utility>

namespace glimpse {

void MemoryList::buffer(const char* name, int64_t n_floats, std::unique_ptr<BackendBuffer>& to) {
  entries_.push_back({name, [n_floats](const Ops&) { return static_cast<uint64_t>(n_floats) * sizeof(float); },
                      [name, n_floats, &to](Ops& ops) -> Status {
                        GLIMPSE_ASSIGN(to, ops.allocate(n_floats, name));
                        return {};
                      }});
}

void MemoryList::attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) {
  entries_.push_back({"attention", [=](const Ops& ops) { return ops.kv_scratch_bytes(n_kv_heads, head_dim, capacity); },
                      [=](Ops& ops) { return ops.reserve_attention(n_kv_heads, head_dim, capacity); }});
}

void MemoryList::product(int64_t rows, int64_t cols) {
  entries_.push_back({"products", [=](const Ops& ops) { return ops.reserve_bytes(rows, cols); },
                      [=](Ops& ops) { return ops.reserve(rows, cols); }});
}

void MemoryList::experts(int64_t rows, const ExpertWeights& weights) {
  entries_.push_back({"experts", [rows, &weights](const Ops& ops) { return ops.reserve_experts_bytes(rows, weights); },
                      [rows, &weights](Ops& ops) { return ops.reserve_experts(rows, weights); }});
}

std::vector<std::pair<std::string, uint64_t>> MemoryList::sizes(const Ops& ops) const {
  std::vector<std::pair<std::string, uint64_t>> sizes;
  for (const Entry& entry : entries_) sizes.emplace_back(entry.name, entry.bytes(ops));
  return sizes;
}

uint64_t MemoryList::bytes(const Ops& ops) const {
  uint64_t sum = 0;
  for (const auto& [name, bytes] : sizes(ops)) sum += bytes;
  return sum;
}

Status MemoryList::allocate(Ops& ops) const {
  for (const Entry& entry : entries_) GLIMPSE_TRY(entry.allocate(ops));
  return {};
}

}  // namespace glimpse
