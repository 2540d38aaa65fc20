// Reference attention: one row and one key at a time, in double.
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/base/half.h"
#include "kernels/attention/attention_isa.h"

namespace glimpse {
namespace {

double load_query(KvElement element, const void* queries, int64_t index) {
  if (element == KvElement::kF32) return static_cast<const float*>(queries)[index];
  return bf16_to_float(static_cast<const uint16_t*>(queries)[index]);
}
double load_panel(KvElement element, const std::byte* panel, int64_t index) {
  if (element == KvElement::kF32) return reinterpret_cast<const float*>(panel)[index];
  return bf16_to_float(reinterpret_cast<const uint16_t*>(panel)[index]);
}

// softmax(q K^T) V of one row over its visible keys: scores are in base 2, so p = 2^(score - max).
void attend_row(KvElement element, const void* queries, int64_t row, int64_t d, const std::byte* keys,
                const std::byte* values, int64_t key_begin, int64_t n_visible, const AttentionState& block) {
  double p[kKeyBlock];
  float max = -std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < n_visible; ++k) {
    const int64_t group = (key_begin + k) / 16, lane = (key_begin + k) % 16;
    double score = 0;
    for (int64_t i = 0; i < d; ++i) {
      const int64_t index = element == KvElement::kF32 ? (group * d + i) * 16 + lane
                                                       : ((group * (d / 2) + i / 2) * 16 + lane) * 2 + i % 2;
      score += load_query(element, queries, row * d + i) * load_panel(element, keys, index);
    }
    p[k] = score;
    max = std::fmax(max, static_cast<float>(score));
  }
  double sum = 0;
  for (int64_t k = 0; k < n_visible; ++k) {
    p[k] = std::exp2(p[k] - static_cast<double>(max));
    sum += p[k];
  }
  for (int64_t i = 0; i < d; ++i) {
    double acc = 0;
    for (int64_t k = 0; k < n_visible; ++k) {
      const int64_t position = key_begin + k;
      const int64_t index = element == KvElement::kF32 ? position * d + i : (position / 2 * d + i) * 2 + position % 2;
      acc += p[k] * load_panel(element, values, index);
    }
    block.acc[i] = static_cast<float>(acc);
  }
  *block.max = max;
  *block.sum = static_cast<float>(sum);
}

void attend_block_ref(KvElement element, const void* queries, int64_t n_rows, int64_t d, const std::byte* keys,
                      const std::byte* values, int64_t key_begin, const int32_t* n_visible, const AttentionState& state,
                      std::byte* scratch) {
  float max, sum;
  const AttentionState block = {&max, &sum, reinterpret_cast<float*>(scratch)};
  for (int64_t r = 0; r < n_rows; ++r) {
    if (n_visible[r] == 0) continue;
    attend_row(element, queries, r, d, keys, values, key_begin, n_visible[r], block);
    merge_attention_ref({state.max + r, state.sum + r, state.acc + r * d}, block, 1, d);
  }
}

}  // namespace

void attention_bf16_ref(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                        int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  attend_block_ref(KvElement::kBf16, queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}
void attention_f32_ref(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                       int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  attend_block_ref(KvElement::kF32, queries, n_rows, d, keys, values, key_begin, n_visible, state, scratch);
}

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
    if (element == KvElement::kF32) {
      static_cast<float*>(out)[i] = value;
    } else {
      static_cast<uint16_t*>(out)[i] = float_to_bf16(value);
    }
  }
}

}  // namespace glimpse
