// Reference attention: one row and one key at a time, in double.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/base/half.h"
#include "kernels/attention/attention_isa.h"
#include "kernels/attention/attention_q8.h"

namespace glimpse {
namespace {

// Element i of a prepared query row; those of kQ8_0 are as load_mixed_key_q8() has them.
double load_query(KvElement element, const std::byte* row, int64_t d, int64_t i) {
  if (element == KvElement::kBf16) return bf16_to_float(reinterpret_cast<const uint16_t*>(row)[i]);
  if (element != KvElement::kQ8_0) return reinterpret_cast<const float*>(row)[i];
  const Q8Query query = q8_query(row, d);
  if (i >= d) return query.wide[i - d];
  return static_cast<double>(query.scales[i / kQ8Block]) * (128 * query.high[i] + query.low[i]);
}

// softmax(q K^T) V of one row over its visible keys: scores are in base 2, so p = 2^(score - max).
// panel_row: (2 d) float, acc: (d) double.
void attend_row(KvElement element, const std::byte* query, int64_t d, const std::byte* keys, const std::byte* values,
                int64_t key_begin, int64_t n_visible, float* panel_row, double* acc, const AttentionState& block) {
  const int64_t n_wide = element == KvElement::kQ8_0 ? *q8_query(query, d).n_wide : 0;
  double p[kKeyBlock];
  float max = -std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < n_visible; ++k) {
    if (element == KvElement::kQ8_0) {
      load_mixed_key_q8(keys, d, key_begin + k, n_wide, panel_row);
    } else {
      load_key(element, keys, d, key_begin + k, panel_row);
    }
    double score = 0;
    for (int64_t i = 0; i < d + n_wide; ++i) score += load_query(element, query, d, i) * panel_row[i];
    p[k] = score;
    max = std::fmax(max, static_cast<float>(score));
  }
  double sum = 0;
  std::fill_n(acc, d, 0.0);
  for (int64_t k = 0; k < n_visible; ++k) {
    p[k] = std::exp2(p[k] - static_cast<double>(max));
    sum += p[k];
    load_value(element, values, d, key_begin + k, panel_row);
    for (int64_t i = 0; i < d; ++i) acc[i] += p[k] * panel_row[i];
  }
  for (int64_t i = 0; i < d; ++i) block.acc[i] = static_cast<float>(acc[i]);
  *block.max = max;
  *block.sum = static_cast<float>(sum);
}

void attend_block_ref(KvElement element, const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                      const std::byte* values, int64_t key_begin, const int32_t* n_visible, const AttentionState& state,
                      std::byte* scratch) {
  float max, sum;
  auto* acc = reinterpret_cast<double*>(scratch);
  auto* panel_row = reinterpret_cast<float*>(acc + d);
  const AttentionState block = {&max, &sum, panel_row + 2 * d};
  const auto* const rows = static_cast<const std::byte*>(queries);
  const int64_t n_wide = element == KvElement::kQ8_0 ? *q8_query(rows, d).n_wide : 0;
  const auto row_bytes = static_cast<int64_t>(query_row_bytes(element, d, n_wide));
  for (int64_t r = 0; r < n_rows; ++r) {
    if (n_visible[r] == 0) continue;
    attend_row(element, rows + r * row_bytes, d, keys, values, key_begin, n_visible[r], panel_row, acc, block);
    merge_attention_ref({state.max + r, state.sum + r, state.acc + r * d}, block, 1, d);
  }
}

}  // namespace

#define GLIMPSE_ATTENTION_REF(function, element)                                                                  \
  void function(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,   \
                int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {   \
    attend_block_ref(KvElement::element, queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch); \
  }
GLIMPSE_ATTENTION_REF(attention_bf16_ref, kBf16)
GLIMPSE_ATTENTION_REF(attention_f16_ref, kF16)
GLIMPSE_ATTENTION_REF(attention_f32_ref, kF32)
GLIMPSE_ATTENTION_REF(attention_q8_ref, kQ8_0)
#undef GLIMPSE_ATTENTION_REF

// The algebra of partial softmax results (as in flashinfer's state.cuh): both sides are brought to the common maximum.
void merge_attention_ref(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {
  for (int64_t r = 0; r < n_rows; ++r) {
    if (block.sum[r] == 0) continue;  // false for NaN, which has to spread
    float* acc = state.acc + r * d;
    const float* block_acc = block.acc + r * d;
    if (state.sum[r] == 0) {
      state.max[r] = block.max[r];
      state.sum[r] = block.sum[r];
      std::memcpy(acc, block_acc, static_cast<size_t>(d) * sizeof(float));
      continue;
    }
    const float max = std::fmax(state.max[r], block.max[r]);
    const double a = std::exp2(static_cast<double>(state.max[r]) - static_cast<double>(max));
    const double b = std::exp2(static_cast<double>(block.max[r]) - static_cast<double>(max));
    state.max[r] = max;
    state.sum[r] = static_cast<float>(a * state.sum[r] + b * block.sum[r]);
    for (int64_t i = 0; i < d; ++i) acc[i] = static_cast<float>(a * acc[i] + b * block_acc[i]);
  }
}

void finish_attention_ref(const AttentionState& state, int64_t n_rows, int64_t head_dim, float* const* out_rows) {
  const int64_t d = padded_head_dim(head_dim);
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t i = 0; i < head_dim; ++i) {
      out_rows[r][i] = state.sum[r] == 0 ? 0.0f : state.acc[r * d + i] / state.sum[r];
    }
  }
}

void prepare_queries_ref(KvElement element, const float* q, float scale, int64_t head_dim, int64_t d, void* out) {
  for (int64_t i = 0; i < d; ++i) {
    const float value = i < head_dim ? q[i] * scale : 0.0f;
    if (element != KvElement::kBf16) {
      static_cast<float*>(out)[i] = value;
    } else {
      static_cast<uint16_t*>(out)[i] = float_to_bf16(value);
    }
  }
}

}  // namespace glimpse
