// CudaOps: keys and values of a layer, and pages of them.
#include <algorithm>
#include <limits>

#include "engine/base/checked.h"
#include "engine/base/half.h"
#include "engine/runtime/cuda/cuda_ops.h"
#include "kernels/attention/attention_q8.h"

namespace glimpse::cuda {
namespace {

static_assert(kPagePositions == kKeyBlock);

// Of one position of a head: keys or values.
uint64_t bytes_of_position(KvElement element, int64_t head_dim) {
  const auto padded = static_cast<uint64_t>(padded_head_dim(head_dim));
  if (element == KvElement::kQ8_0) {
    return padded + sizeof(uint16_t) * static_cast<uint64_t>(scale_blocks(static_cast<int>(padded)));
  }
  return padded * (element == KvElement::kF32 ? sizeof(float) : sizeof(uint16_t));
}

// These kernels have no wide channels: layers that need some keep all of their keys and values in 16 bits.
KvElement element_with(KvElement element, bool wide) {
  return element == KvElement::kQ8_0 && wide ? KvElement::kF16 : element;
}

Status check_shape(const KvShape& shape) {
  if (shape.head_dim > kMaxDeviceHeadDim) {
    return make_error(ErrorCode::kUnsupported, "attention heads of %d values: the CUDA backend has kernels for %d",
                      shape.head_dim, kMaxDeviceHeadDim);
  }
  return {};
}

// A store over nothing yet.
std::unique_ptr<CudaKv> outline(const KvShape& shape, int64_t capacity, int64_t page_positions,
                                std::shared_ptr<Stream> stream) {
  auto kv = std::make_unique<CudaKv>();
  kv->n_kv_heads = shape.n_kv_heads;
  kv->head_dim = shape.head_dim;
  kv->capacity = capacity;
  kv->element = element_with(shape.element, !shape.wide.empty());
  kv->page_positions = page_positions;
  kv->stream = std::move(stream);
  kv->position_bytes = static_cast<double>(kv->layer_bytes()) / static_cast<double>(page_positions);
  return kv;
}

class CudaPool final : public KvPool {
 public:
  std::shared_ptr<Device> device;
  std::shared_ptr<Stream> stream;
  std::vector<KvShape> layers;  // without wide channels, for which their element stands
  Memory memory;

  class Table final : public KvTable {
   public:
    static Result<std::unique_ptr<KvTable>> create(const CudaPool& pool, int64_t n_blocks) {
      auto table = std::make_unique<Table>();
      table->stream_ = pool.stream;
      table->host_.resize(static_cast<size_t>(n_blocks));
      GLIMPSE_ASSIGN(table->device_, Memory::on_device(pool.device, static_cast<uint64_t>(n_blocks) * sizeof(int32_t),
                                                       "a table of pages"));
      auto* at = pool.memory.as<std::byte>();
      for (const KvShape& shape : pool.layers) {
        auto kv = outline(shape, n_blocks * kKeyBlock, kKeyBlock, pool.stream);
        kv->first_page = at;
        kv->page_bytes = pool.page_bytes;
        kv->pages = table->device_.as<int32_t>();
        kv->host_pages = &table->host_;
        at += kv->layer_bytes();
        table->layers_.push_back(std::move(kv));
      }
      return std::unique_ptr<KvTable>(std::move(table));
    }
    // In the order of the stream: who reads the table behind it sees it.
    Status set(int64_t block, int32_t page) override {
      int32_t& entry = host_[static_cast<size_t>(block)];
      entry = page;
      return stream_->copy_in(device_.as<int32_t>() + block, &entry, sizeof entry);
    }

   private:
    std::shared_ptr<Stream> stream_;
    std::vector<int32_t> host_;
    Memory device_;
  };

  Result<std::unique_ptr<KvTable>> make_table(int64_t n_blocks) override { return Table::create(*this, n_blocks); }
  Status copy(int32_t from, int32_t to) override { return stream->copy(page(to), page(from), page_bytes); }
  const char* layout() const override { return "cuda rows 1"; }
  Status download(int32_t from, int64_t n_positions, std::span<std::byte> out) const override {
    GLIMPSE_TRY(stream->copy_out(out.data(), page(from), page_bytes));
    GLIMPSE_TRY(stream->synchronize());
    std::byte* at = out.data();
    for (const KvShape& shape : layers) {
      // Rows of keys of each head, behind them those of scales, then the same of values.
      const auto padded = static_cast<uint64_t>(padded_head_dim(shape.head_dim));
      const uint64_t all = bytes_of_position(shape.element, shape.head_dim);
      const uint64_t row = shape.element == KvElement::kQ8_0 ? padded : all;
      for (int part = 0; part < 2; ++part) {
        for (const uint64_t bytes : {row, all - row}) {
          for (int64_t head = 0; head < shape.n_kv_heads; ++head, at += kKeyBlock * bytes) {
            std::fill(at + static_cast<uint64_t>(n_positions) * bytes, at + kKeyBlock * bytes, std::byte{0});
          }
        }
      }
    }
    return {};
  }
  Status upload(int32_t to, std::span<const std::byte> bytes) override {
    GLIMPSE_TRY(stream->copy_in(page(to), bytes.data(), page_bytes));
    return stream->synchronize();
  }

 private:
  std::byte* page(int32_t number) const { return memory.as<std::byte>() + static_cast<uint64_t>(number) * page_bytes; }
};

}  // namespace

uint64_t CudaKv::layer_bytes() const {
  return 2 * static_cast<uint64_t>(n_kv_heads * page_positions) * bytes_of_position(element, head_dim);
}

KvView CudaKv::view() const {
  KvView v;
  v.type = element == KvElement::kF32    ? CacheType::kF32
           : element == KvElement::kF16  ? CacheType::kF16
           : element == KvElement::kQ8_0 ? CacheType::kQ8_0
                                         : CacheType::kBf16;
  v.head_dim = static_cast<int32_t>(head_dim);
  v.padded_dim = static_cast<int32_t>(padded_head_dim(head_dim));
  v.n_heads = static_cast<int32_t>(n_kv_heads);
  v.capacity = page_positions;
  v.keys = first_page;
  v.values = first_page + layer_bytes() / 2;
  v.pages = pages;
  v.page_bytes = static_cast<int64_t>(page_bytes);
  return v;
}

void CudaKv::read(int64_t kv_head, int64_t position, float* key, float* value) const {
  const KvView v = view();
  const auto n = static_cast<uint64_t>(head_dim), padded = static_cast<uint64_t>(v.padded_dim);
  const auto blocks = static_cast<uint64_t>(scale_blocks(v.padded_dim));
  const int64_t block = position / page_positions;
  const auto place = static_cast<uint64_t>(kv_head * page_positions + position % page_positions);
  const uint64_t page = host_pages == nullptr ? 0 : static_cast<uint64_t>((*host_pages)[static_cast<size_t>(block)]);
  const bool q8 = element == KvElement::kQ8_0;
  const uint64_t row_bytes = q8 ? padded : bytes_of_position(element, head_dim);
  for (const bool is_key : {true, false}) {
    void* const from = static_cast<std::byte*>(is_key ? v.keys : v.values) + page * page_bytes;
    float* const to = is_key ? key : value;
    std::vector<float> codes(q8 ? padded : 0);
    std::vector<std::byte> row(row_bytes);
    std::vector<uint16_t> scales(q8 ? blocks : 0);
    Status status = stream->copy_out(row.data(), static_cast<const std::byte*>(from) + place * row_bytes, row_bytes);
    if (status.ok() && q8) {
      status = stream->copy_out(scales.data(), cache_scales(v, from) + place * blocks, blocks * sizeof(uint16_t));
    }
    if (status.ok()) status = stream->synchronize();
    for (uint64_t i = 0; i < codes.size(); ++i) {
      codes[i] = half_to_float(scales[i / kQ8Values]) * static_cast<float>(static_cast<int8_t>(row[i]));
    }
    if (q8 && is_key) {
      mix_channels(codes.data(), v.padded_dim);
      for (float& x : codes) x /= mixing_gain(v.padded_dim);
    }
    for (uint64_t i = 0; i < n; ++i) {
      if (!status.ok()) {
        to[i] = std::numeric_limits<float>::quiet_NaN();
      } else if (q8) {
        to[i] = codes[i];
      } else if (element == KvElement::kF32) {
        to[i] = reinterpret_cast<const float*>(row.data())[i];
      } else {
        const uint16_t bits = reinterpret_cast<const uint16_t*>(row.data())[i];
        to[i] = element == KvElement::kF16 ? half_to_float(bits) : bf16_to_float(bits);
      }
    }
  }
}

Status CudaKv::check_window(int64_t first_key) const {
  if (pages == nullptr || first_key % kKeyBlock == 0) return {};  // chunks of keys lie in one page
  return make_error(ErrorCode::kUnsupported, "windows of a paged cache from %d on, on the CUDA backend", first_key);
}

uint64_t CudaOps::kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                           int64_t n_wide) const {
  const int64_t positions = n_kv_heads * round_up(capacity, kKeyBlock);
  return 2 * static_cast<uint64_t>(positions) * bytes_of_position(element_with(element, n_wide > 0), head_dim);
}

Result<std::unique_ptr<KvStore>> CudaOps::make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity,
                                                  KvElement element, std::span<const int32_t> wide) {
  const KvShape shape{n_kv_heads, head_dim, element, wide};
  GLIMPSE_TRY(check_shape(shape));
  capacity = round_up(capacity, kKeyBlock);
  auto kv = outline(shape, capacity, capacity, stream_);
  GLIMPSE_ASSIGN(kv->memory, Memory::on_device(device_, kv->layer_bytes(), "keys and values of a layer"));
  kv->first_page = kv->memory.as<std::byte>();
  GLIMPSE_TRY(reserve_attention(n_kv_heads, head_dim, capacity));
  return std::unique_ptr<KvStore>(std::move(kv));
}

uint64_t CudaOps::kv_page_bytes(std::span<const KvShape> layers) const {
  uint64_t bytes = 0;
  for (const KvShape& s : layers) {
    bytes += kv_bytes(s.n_kv_heads, s.head_dim, kKeyBlock, s.element, static_cast<int64_t>(s.wide.size()));
  }
  return bytes;
}

Result<std::unique_ptr<KvPool>> CudaOps::make_kv_pool(std::span<const KvShape> layers, int64_t n_pages) {
  auto pool = std::make_unique<CudaPool>();
  pool->n_pages = n_pages;
  pool->page_bytes = kv_page_bytes(layers);
  pool->device = device_;
  pool->stream = stream_;
  for (const KvShape& shape : layers) {
    GLIMPSE_TRY(check_shape(shape));
    pool->layers.push_back({shape.n_kv_heads, shape.head_dim, element_with(shape.element, !shape.wide.empty()), {}});
  }
  const auto bytes = checked_mul(pool->page_bytes, static_cast<uint64_t>(n_pages));
  if (!bytes) return make_error(ErrorCode::kTooLarge, "%d pages of keys and values", n_pages);
  GLIMPSE_ASSIGN(pool->memory, Memory::on_device(device_, *bytes, "keys and values"));
  return std::unique_ptr<KvPool>(std::move(pool));
}

}  // namespace glimpse::cuda
