// The int8 segment's conversion for any instruction set, the choice between that and AVX-512's, and reading back.
#include "kernels/attention/attention_int8.h"

#include "kernels/attention/attention_int8_segment.h"

namespace glimpse {

uint64_t int8_scratch_bytes(int64_t d) {
  return static_cast<uint64_t>(d) * (5 * sizeof(float) + kGroup * sizeof(float) + kKeyBlock * 2);
}

Int8Estimate estimate_int8(Isa isa, const SegmentQueries& queries, int64_t head_dim, int64_t n_keys,
                           const std::byte* keys, const std::byte* values, std::byte* scratch) {
  const auto estimate = isa.has(Isa::kAvx512) ? estimate_int8_avx512 : estimate_segment;
  return estimate(queries, head_dim, n_keys, keys, values, scratch);
}

void quantize_segment(Isa isa, int64_t head_dim, int64_t n_keys, std::byte* keys, std::byte* values,
                      std::byte* scratch) {
  const auto convert = isa.has(Isa::kAvx512) ? quantize_segment_avx512 : convert_segment;
  convert(head_dim, n_keys, keys, values, scratch);
}

void prepare_queries_int8(Isa isa, const float* const* q_rows, int64_t n_rows, int64_t head_dim, const std::byte* keys,
                          void* out) {
  const auto prepare = isa.has(Isa::kAvx512) ? prepare_queries_int8_avx512 : prepare_rows;
  prepare(q_rows, n_rows, head_dim, keys, out);
}

namespace {

const float* key_block(const std::byte* keys, int64_t d, int64_t position) {
  return reinterpret_cast<const float*>(keys + int8_key_header_bytes(d) +
                                        position / kKeyBlock * int8_key_block_bytes(d));
}

}  // namespace

void load_key_int8(const std::byte* keys, int64_t head_dim, int64_t position, float* key) {
  const int64_t d = padded_head_dim(head_dim), lane = position % kKeyBlock;
  const auto* factor = reinterpret_cast<const float*>(keys);
  const float* scales = key_block(keys, d, position);
  const auto* bytes = reinterpret_cast<const uint8_t*>(scales + kKeyBlock) + lane / kGroup * kGroup * d;
  for (int64_t c = 0; c < head_dim; ++c) {
    const int32_t code = bytes[(c / 4 * kGroup + lane % kGroup) * 4 + c % 4] - 128;
    key[c] = static_cast<float>(code) * scales[lane] * factor[c] + factor[d + c];
  }
}

void load_value_int8(const std::byte* values, int64_t head_dim, int64_t position, float* value) {
  const int64_t d = padded_head_dim(head_dim), lane = position % kKeyBlock;
  const auto* scale = reinterpret_cast<const float*>(values + position / kKeyBlock * int8_value_block_bytes(d));
  const auto* bytes = reinterpret_cast<const int8_t*>(scale + 2 * d) + int8_value_slot(lane) * d * 4;
  for (int64_t c = 0; c < head_dim; ++c) {
    value[c] = static_cast<float>(bytes[c * 4 + lane % 4]) * scale[c] + scale[d + c];
  }
}

}  // namespace glimpse
