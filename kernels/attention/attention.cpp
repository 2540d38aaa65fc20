// Selection, storage and dispatch around the attention kernels.
#include "kernels/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

#include "engine/base/enum_names.h"
#include "engine/base/half.h"
#include "kernels/attention/attention_int8.h"
#include "kernels/attention/attention_isa.h"
#include "kernels/attention/attention_q8.h"

namespace glimpse {
namespace {

// To nearest even; finite values that would become infinite stop at +-65504.
uint16_t saturated_half(float value) {
  return float_to_half(std::isinf(value) ? value : std::clamp(value, -65504.0f, 65504.0f));
}

constexpr AttentionKernel kKernels[] = {
#define GLIMPSE_KERNEL(isa, element, function) {#function, KvElement::element, Isa::isa, function},
#define GLIMPSE_INT8_KERNEL(isa, function) {#function, KvElement::kBf16, Isa::isa, function, true},
#include "kernels/attention/attention_kernels.inc"
};

bool is_float32(KvElement element) {
  return element == KvElement::kF32;
}

// Index of (position, dim) among the elements of the key or value panels of 2 or 4 bytes per element.
int64_t key_index(KvElement element, int64_t d, int64_t position, int64_t dim) {
  const int64_t group = position / 16, lane = position % 16;
  if (element != KvElement::kBf16) return (group * d + dim) * 16 + lane;
  return ((group * (d / 2) + dim / 2) * 16 + lane) * 2 + dim % 2;
}
int64_t value_index(KvElement element, int64_t d, int64_t position, int64_t dim) {
  if (element != KvElement::kBf16) return position * d + dim;
  return (position / 2 * d + dim) * 2 + position % 2;
}

void store_element(KvElement element, std::byte* base, int64_t index, float value) {
  if (is_float32(element)) {
    std::memcpy(base + index * 4, &value, 4);
  } else {
    const uint16_t bits = element == KvElement::kBf16 ? float_to_bf16(value) : saturated_half(value);
    std::memcpy(base + index * 2, &bits, 2);
  }
}
float load_element(KvElement element, const std::byte* base, int64_t index) {
  if (is_float32(element)) {
    float value;
    std::memcpy(&value, base + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, base + index * 2, 2);
  return element == KvElement::kBf16 ? bf16_to_float(bits) : half_to_float(bits);
}

}  // namespace

const char* kv_element_name(KvElement element) {
  constexpr const char* kNames[] = {"bf16", "f32", "f16", "q8_0"};
  return enum_name<KvElement::kQ8_0>(kNames, element);
}

std::span<const AttentionKernel> attention_kernels() {
  return kKernels;
}

const AttentionKernel& select_attention_kernel(KvElement element, Isa isa, bool int8) {
  // There is a kRef line for every element.
  return *select_kernel(
      kKernels, isa, [&](const AttentionKernel& kernel) { return kernel.element == element && kernel.int8 == int8; });
}

float score_scale(int64_t head_dim) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
}

uint64_t attention_scratch_bytes(int64_t d) {
  const auto kernels = static_cast<uint64_t>(kScratchAcc + 2 * kRowGroup * d * static_cast<int64_t>(sizeof(float)));
  return std::max(kernels, int8_scratch_bytes(d));
}

uint64_t kv_head_bytes(KvElement element, int64_t head_dim, int64_t capacity, int64_t n_wide) {
  const int64_t d = padded_head_dim(head_dim);
  if (element == KvElement::kQ8_0)
    return static_cast<uint64_t>(capacity / 16) * static_cast<uint64_t>(q8_group_bytes(d, n_wide));
  return static_cast<uint64_t>(d) * static_cast<uint64_t>(capacity) * (is_float32(element) ? 4 : 2);
}

void store_key(Isa, KvElement element, const float* key, int64_t head_dim, int64_t position, std::byte* keys,
               WideChannels wide) {
  if (element == KvElement::kQ8_0) return store_key_q8(key, head_dim, position, wide, keys);
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t i = 0; i < d; ++i) {
    store_element(element, keys, key_index(element, d, position, i), i < head_dim ? key[i] : 0.0f);
  }
}

void store_value(Isa, KvElement element, const float* value, int64_t head_dim, int64_t position, std::byte* values) {
  if (element == KvElement::kQ8_0) return store_value_q8(value, head_dim, position, values);
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t i = 0; i < d; ++i) {
    store_element(element, values, value_index(element, d, position, i), i < head_dim ? value[i] : 0.0f);
  }
}

void store_keys(Isa isa, KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim,
                int64_t position, std::byte* keys, WideChannels wide) {
  const int64_t d = padded_head_dim(head_dim);
  const int64_t end = position + n;
  while (position < end) {
    const int64_t n_groups = position % 16 == 0 ? (end - position) / 16 : 0;
    if (n_groups == 0 || !isa.has(Isa::kAvx2) || element == KvElement::kQ8_0) {
      store_key(isa, element, rows, head_dim, position, keys, wide);
      rows += ld, ++position;
      continue;
    }
    std::byte* group = keys + kv_head_bytes(element, d, position);
    const auto store = isa.has(Isa::kAvx512) ? store_key_groups_avx512 : store_key_groups_avx2;
    store(element, rows, ld, n_groups, head_dim, d, group);
    rows += 16 * n_groups * ld, position += 16 * n_groups;
  }
}

void store_values(Isa isa, KvElement element, const float* rows, int64_t ld, int64_t n, int64_t head_dim,
                  int64_t position, std::byte* values) {
  const int64_t d = padded_head_dim(head_dim);
  const int64_t end = position + n;
  const int64_t group = element == KvElement::kBf16 ? 2 : 1;
  while (position < end) {
    const int64_t whole = position % group == 0 ? (end - position) / group * group : 0;
    if (whole == 0 || !isa.has(Isa::kAvx2) || element == KvElement::kQ8_0) {
      store_value(isa, element, rows, head_dim, position, values);
      rows += ld, ++position;
      continue;
    }
    std::byte* out = values + kv_head_bytes(element, d, position);
    const auto store = isa.has(Isa::kAvx512) ? store_value_rows_avx512 : store_value_rows_avx2;
    store(element, rows, ld, whole, head_dim, d, out);
    rows += whole * ld, position += whole;
  }
}

void load_key(KvElement element, const std::byte* keys, int64_t head_dim, int64_t position, float* key,
              WideChannels wide) {
  if (element == KvElement::kQ8_0) return load_key_q8(keys, head_dim, position, wide, key);
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t i = 0; i < head_dim; ++i) key[i] = load_element(element, keys, key_index(element, d, position, i));
}

void load_value(KvElement element, const std::byte* values, int64_t head_dim, int64_t position, float* value) {
  if (element == KvElement::kQ8_0) return load_value_q8(values, head_dim, position, value);
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t i = 0; i < head_dim; ++i) value[i] = load_element(element, values, value_index(element, d, position, i));
}

void reset_attention_state(const AttentionState& state, int64_t n_rows, int64_t d) {
  std::fill_n(state.max, n_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, n_rows, 0.0f);
  std::fill_n(state.acc, n_rows * d, 0.0f);
}

void merge_attention_states(Isa isa, const AttentionState& state, const AttentionState& block, int64_t n_rows,
                            int64_t d) {
  if (isa.has(Isa::kAvx512)) return merge_attention_avx512(state, block, n_rows, d);
  if (isa.has(Isa::kAvx2)) return merge_attention_avx2(state, block, n_rows, d);
  merge_attention_ref(state, block, n_rows, d);
}

void finish_attention(Isa isa, const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows) {
  if (isa.has(Isa::kAvx512)) return finish_attention_avx512(state, n_rows, head_dim, out_rows);
  if (isa.has(Isa::kAvx2)) return finish_attention_avx2(state, n_rows, head_dim, out_rows);
  finish_attention_ref(state, n_rows, head_dim, out_rows);
}

uint64_t query_row_bytes(KvElement element, int64_t d, int64_t n_wide) {
  if (element == KvElement::kQ8_0) return static_cast<uint64_t>(q8_query_bytes(d, n_wide));
  return static_cast<uint64_t>(d) * (element == KvElement::kBf16 ? 2 : 4);
}

uint64_t max_query_row_bytes(int64_t d) {
  return static_cast<uint64_t>(std::max(4 * d, q8_query_bytes(d, d)));
}

void prepare_queries(Isa isa, KvElement element, const float* const* q_rows, int64_t n_rows, int64_t head_dim,
                     void* out, WideChannels wide) {
  const auto prepare = isa.has(Isa::kAvx512) ? prepare_queries_avx512
                       : isa.has(Isa::kAvx2) ? prepare_queries_avx2
                                             : prepare_queries_ref;
  const int64_t d = padded_head_dim(head_dim);
  const int64_t row_bytes = static_cast<int64_t>(query_row_bytes(element, d, static_cast<int64_t>(wide.size())));
  const float scale = score_scale(head_dim);
  for (int64_t r = 0; r < n_rows; ++r) {
    std::byte* row = static_cast<std::byte*>(out) + r * row_bytes;
    if (r + kQueriesAhead < n_rows) prefetch_query(q_rows[r + kQueriesAhead], head_dim);
    if (element == KvElement::kQ8_0) {
      prepare_query_q8(q_rows[r], scale, head_dim, wide, row);
    } else {
      prepare(element, q_rows[r], scale, head_dim, d, row);
    }
  }
}

}  // namespace glimpse
