#include "engine/runtime/cpu_kv.h"

#include <algorithm>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/host_kv.h"
#include "kernels/attention/attention_int8.h"

namespace glimpse {
namespace {

// A layer of a pool, as its tables' stores see it.
struct LayerPlace {
  int64_t n_kv_heads, head_dim;
  KvElement element;
  std::vector<int32_t> wide;
  uint64_t at;  // bytes from the beginning of a page

  CpuKv store(std::byte* memory, uint64_t page_bytes, const int32_t* pages, int64_t n_blocks) const {
    CpuKv kv({n_kv_heads, head_dim, element, wide}, n_blocks * kKeyBlock, kKeyBlock);
    kv.first_page = memory + at;
    kv.page_bytes = page_bytes;
    kv.pages = pages;
    return kv;
  }
};

class CpuTable final : public HostKvTable {
 public:
  CpuTable(const std::vector<LayerPlace>& layers, std::byte* memory, uint64_t page_bytes, int64_t n_blocks)
      : HostKvTable(n_blocks) {
    for (const LayerPlace& layer : layers) {
      layers_.push_back(std::make_unique<CpuKv>(layer.store(memory, page_bytes, pages_.data(), n_blocks)));
    }
  }
};

class CpuPool final : public HostKvPool {
 public:
  std::vector<LayerPlace> layers;

  Result<std::unique_ptr<KvTable>> make_table(int64_t n_blocks) override {
    return std::unique_ptr<KvTable>(std::make_unique<CpuTable>(layers, memory.data(), page_bytes, n_blocks));
  }
  const char* layout() const override { return "cpu panels 1"; }
  Status download(int32_t from, int64_t n_positions, std::span<std::byte> out) const override {
    std::memcpy(out.data(), page(from), page_bytes);
    constexpr int32_t kOnlyPage = 0;
    for (const LayerPlace& layer : layers) {
      CpuKv kv = layer.store(out.data(), page_bytes, &kOnlyPage, 1);
      const std::vector<float> zero(static_cast<size_t>(kv.head_dim));
      for (int64_t h = 0; h < kv.n_kv_heads; ++h) {
        kv.clear(Isa::kRef, h, zero.data(), kKeyBlock - n_positions, n_positions);
      }
    }
    return {};
  }
};

}  // namespace

CpuKv::CpuKv(const KvShape& shape, int64_t capacity_, int64_t page_positions_) : page_positions(page_positions_) {
  n_kv_heads = shape.n_kv_heads;
  head_dim = shape.head_dim;
  capacity = capacity_;
  element = shape.element;
  if (element == KvElement::kQ8_0) {
    n_wide = static_cast<int64_t>(shape.wide.size()) / n_kv_heads;
    wide.assign(shape.wide.begin(), shape.wide.end());
  }
  if (element == KvElement::kBf16 && page_positions == capacity) {
    begins.assign(static_cast<size_t>(n_kv_heads * capacity / kKeyBlock), Begins::kNothing);
  }
  position_bytes = static_cast<double>(layer_bytes()) / static_cast<double>(page_positions);
}

void CpuKv::begin_segment(int64_t first_key, int64_t end_key) {
  if (begins.empty()) return;
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    for (int64_t at = first_key; at < end_key; at += kKeyBlock) begins_at(head, at) = Begins::kNothing;
    begins_at(head, first_key) = Begins::kBf16;
  }
}

void CpuKv::store_head(Isa isa, int64_t head, const float* keys, const float* values, int64_t ld, int64_t n,
                       int64_t position) {
  for (int64_t done = 0; done < n;) {
    const int64_t at = position + done, count = std::min(n - done, room_in_page(at)), first = at % kKeyAlign;
    store_keys(isa, element, keys + done * ld, ld, count, head_dim, first, head_keys(head, at - first),
               head_wide(head));
    store_values(isa, element, values + done * ld, ld, count, head_dim, first, head_values(head, at - first));
    done += count;
  }
}

void CpuKv::store(Isa isa, const float* keys, const float* values, int64_t ld, int64_t n, int64_t position) {
  for (int64_t h = 0; h < n_kv_heads; ++h) {
    store_head(isa, h, keys + h * head_dim, values + h * head_dim, ld, n, position);
  }
}

void CpuKv::clear(Isa isa, int64_t head, const float* zero, int64_t n, int64_t position) {
  store_head(isa, head, zero, zero, 0, n, position);
}

void CpuKv::read(int64_t kv_head, int64_t position, float* key, float* value) const {
  int64_t first = position / kKeyBlock * kKeyBlock;  // of the segment that it may belong to
  while (!begins.empty() && first > 0 && begins_at(kv_head, first) == Begins::kNothing) first -= kKeyBlock;
  const std::byte *const keys = head_keys(kv_head, first), *const values = head_values(kv_head, first);
  if (is_int8(kv_head, first)) {
    load_key_int8(keys, head_dim, position - first, key);
    load_value_int8(values, head_dim, position - first, value);
  } else {
    load_key(element, keys, head_dim, position - first, key, head_wide(kv_head));
    load_value(element, values, head_dim, position - first, value);
  }
}

uint64_t cpu_page_bytes(std::span<const KvShape> layers) {
  uint64_t bytes = 0;
  for (const KvShape& shape : layers) bytes += CpuKv(shape, kKeyBlock, kKeyBlock).layer_bytes();
  return bytes;
}

Result<std::unique_ptr<KvPool>> make_cpu_pool(std::span<const KvShape> layers, int64_t n_pages) {
  auto pool = std::make_unique<CpuPool>();
  pool->n_pages = n_pages;
  for (const KvShape& shape : layers) {
    pool->layers.push_back(
        {shape.n_kv_heads, shape.head_dim, shape.element, {shape.wide.begin(), shape.wide.end()}, pool->page_bytes});
    pool->page_bytes += CpuKv(shape, kKeyBlock, kKeyBlock).layer_bytes();
  }
  const auto bytes = checked_mul(pool->page_bytes, static_cast<uint64_t>(n_pages));
  if (!bytes) return make_error(ErrorCode::kTooLarge, "%d pages of keys and values", n_pages);
  GLIMPSE_ASSIGN(pool->memory, AlignedBuffer::allocate(*bytes, "keys and values", AlignedBuffer::Pages::kHuge));
  return std::unique_ptr<KvPool>(std::move(pool));
}

}  // namespace glimpse
