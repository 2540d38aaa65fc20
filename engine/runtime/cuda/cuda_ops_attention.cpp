// CudaOps: caches and attention.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/base/checked.h"
#include "engine/base/half.h"
#include "engine/runtime/cuda/cuda_ops.h"
#include "kernels/attention/attention_q8.h"

namespace glimpse::cuda {
namespace {

constexpr uint64_t kLeastPartialBytes = 16u << 20;
constexpr uint64_t kTickets = 4096;

// Chunks of keys that blocks share; where it is too little, they do not. Enough for a row of a decode step with up to
// eight query heads per key/value head, whatever the context.
uint64_t partial_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) {
  const auto n_chunks = static_cast<uint64_t>(8 * n_kv_heads * ceil_div(capacity, kKeysPerSplit));
  const auto padded = static_cast<uint64_t>(padded_head_dim(head_dim));
  return std::max(kLeastPartialBytes, n_chunks * (padded + 2) * sizeof(float));
}

// Of one position of a head: keys or values.
uint64_t position_bytes(KvElement element, int64_t head_dim) {
  const auto padded = static_cast<uint64_t>(padded_head_dim(head_dim));
  if (element == KvElement::kQ8_0)
    return padded + sizeof(uint16_t) * static_cast<uint64_t>(scale_blocks(static_cast<int>(padded)));
  return padded * (element == KvElement::kF32 ? sizeof(float) : sizeof(uint16_t));
}

}  // namespace

KvView CudaKv::view() const {
  KvView v;
  v.type = element == KvElement::kF32    ? CacheType::kF32
           : element == KvElement::kF16  ? CacheType::kF16
           : element == KvElement::kQ8_0 ? CacheType::kQ8_0
                                         : CacheType::kBf16;
  v.head_dim = static_cast<int32_t>(head_dim);
  v.padded_dim = static_cast<int32_t>(padded_head_dim(head_dim));
  v.n_heads = static_cast<int32_t>(n_kv_heads);
  v.capacity = capacity;
  v.keys = memory.as<void>();
  v.values = memory.as<std::byte>() + memory.size() / 2;
  return v;
}

void CudaKv::read(int64_t kv_head, int64_t position, float* key, float* value) const {
  const KvView v = view();
  const auto n = static_cast<uint64_t>(head_dim), padded = static_cast<uint64_t>(v.padded_dim);
  const auto blocks = static_cast<uint64_t>(scale_blocks(v.padded_dim));
  const auto place = static_cast<uint64_t>(kv_head * capacity + position);
  const bool q8 = element == KvElement::kQ8_0;
  const uint64_t row_bytes = q8 ? padded : position_bytes(element, head_dim);
  for (const auto& [from, to] : {std::pair<void*, float*>(v.keys, key), std::pair<void*, float*>(v.values, value)}) {
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
    if (q8 && from == v.keys) {
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

// These kernels have no wide channels: layers that need some keep all of their keys and values in 16 bits.
static KvElement element_with(KvElement element, bool wide) {
  return element == KvElement::kQ8_0 && wide ? KvElement::kF16 : element;
}

uint64_t CudaOps::kv_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element,
                           int64_t n_wide) const {
  element = element_with(element, n_wide > 0);
  const int64_t positions = n_kv_heads * round_up(capacity, kKeyBlock);
  return 2 * static_cast<uint64_t>(positions) * position_bytes(element, head_dim);
}

uint64_t CudaOps::kv_scratch_bytes(int64_t n_kv_heads, int64_t head_dim, int64_t capacity) const {
  return partial_bytes(n_kv_heads, head_dim, capacity) + kTickets * sizeof(int32_t);
}

Result<std::unique_ptr<KvStore>> CudaOps::make_kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity,
                                                  KvElement element, std::span<const int32_t> wide) {
  element = element_with(element, !wide.empty());
  if (head_dim > kMaxDeviceHeadDim) {
    return make_error(ErrorCode::kUnsupported, "attention heads of %d values: the CUDA backend has kernels for %d",
                      head_dim, kMaxDeviceHeadDim);
  }
  if (element == KvElement::kInt8) {
    return make_error(ErrorCode::kUnsupported,
                      "a cache of %s: the CUDA backend keeps keys and values as f16, bf16, f32 or q8_0",
                      kv_element_name(element));
  }
  auto kv = std::make_unique<CudaKv>();
  kv->n_kv_heads = n_kv_heads;
  kv->head_dim = head_dim;
  kv->capacity = round_up(capacity, kKeyBlock);
  kv->element = element;
  kv->stream = stream_;
  GLIMPSE_ASSIGN(kv->memory, Memory::on_device(device_, kv_bytes(n_kv_heads, head_dim, capacity, element),
                                               "keys and values of a layer"));
  GLIMPSE_TRY(grow(partials_, partial_bytes(n_kv_heads, head_dim, kv->capacity), "attention"));
  GLIMPSE_TRY(grow(tickets_, kTickets * sizeof(int32_t), "attention"));
  return std::unique_ptr<KvStore>(std::move(kv));
}

void CudaOps::attention(Mat q, int64_t n_heads, Segments segments, Mat out) {
  for (const glimpse::Segment& s : segments) {
    if (s.n_rows == 0) continue;
    attend_segment(q.slice(s.first_row, s.n_rows), n_heads, s, out.slice(s.first_row, s.n_rows));
  }
}

void CudaOps::attend_segment(Mat q, int64_t n_heads, const glimpse::Segment& segment, Mat out) {
  const auto& kv = static_cast<const CudaKv&>(*segment.kv);
  AttentionArgs args;
  args.q = q.data;
  args.ld_q = q.ld;
  args.out = out.data;
  args.ld_out = out.ld;
  args.kv = kv.view();
  args.first_key = segment.first_key;
  args.n_heads = static_cast<int32_t>(n_heads);
  args.group = static_cast<int32_t>(n_heads / kv.n_kv_heads);
  args.n = static_cast<int32_t>(q.rows);
  const int64_t n_keys = segment.end_key() - segment.first_key;
  args.causal = segment.causal ? 1 : 0;
  args.n_past = segment.n_past - segment.first_key;
  args.step = step_;
  args.n_keys = n_keys;
  args.scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(kv.head_dim)));
  const int padded = args.kv.padded_dim;
  if (kv.element != KvElement::kF32 && q.rows > kFewRows) {
    launch(attend_tiles_kernel(args.kv.type, padded),
           LaunchShape{{ceil_div(q.rows, kRowsPerTileGroup), n_heads, 1}, attend_tiles_shared_bytes(padded)}, &args);
    return;
  }
  const int64_t n_chunks = ceil_div(n_keys, kKeysPerSplit);
  const int heads =
      attend_heads(args.kv.type, args.group, q.rows * kv.n_kv_heads * n_chunks, device_->n_multiprocessors());
  const int64_t blocks_y = kv.n_kv_heads * ceil_div(args.group, heads);
  const uint64_t partials = static_cast<uint64_t>(q.rows * n_heads * n_chunks * (padded + 2)) * sizeof(float);
  // Few rows leave most of the device idle unless the keys are shared out.
  if (q.rows <= kFewRows && n_chunks > 1 && n_chunks <= 65535 && partials <= partials_.size() &&
      static_cast<uint64_t>(q.rows * blocks_y) <= kTickets) {
    args.n_splits = static_cast<int32_t>(n_chunks);
    args.partial = partials_.as<float>();
    args.tickets = tickets_.as<int32_t>();
  }
  launch(attend_rows_kernel(args.kv.type, heads),
         LaunchShape{{q.rows, blocks_y, args.n_splits}, attend_rows_shared_bytes(heads, padded)}, &args);
}

}  // namespace glimpse::cuda
