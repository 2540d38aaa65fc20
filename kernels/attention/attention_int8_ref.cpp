// Reference attention on an int8 segment: the integers and the order of the float operations that the vector kernels
// have, one key at a time. A block's state has their bits; states are merged in double (attention_ref.cpp).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention/attention_int8.h"
#include "kernels/attention/attention_isa.h"

namespace glimpse {
namespace {

struct Query {
  const int8_t* values;
  float scale;
  int32_t start;
  Query(const std::byte* row, int64_t d) : values(reinterpret_cast<const int8_t*>(row)) {
    std::memcpy(&scale, row + d, 4);
    std::memcpy(&start, row + d + 4, 4);
  }
};

// scores[k] = float(q . k) * scale of the key; the row's own scale follows with the exponential.
float block_scores(const Query& query, int64_t d, const std::byte* block, int64_t n_visible, float* scores) {
  const auto* scales = reinterpret_cast<const float*>(block);
  const auto* bytes = reinterpret_cast<const uint8_t*>(scales + kKeyBlock);
  float max = -std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < n_visible; ++k) {
    const uint8_t* group = bytes + k / 16 * 16 * d + k % 16 * 4;
    int32_t dot = query.start;
    for (int64_t i = 0; i < d; ++i) dot += group[i / 4 * 64 + i % 4] * query.values[i];
    scores[k] = static_cast<float>(dot) * scales[k];
    max = std::max(max, scores[k]);
  }
  return max;
}

// 255 * 2^(scale * (score - max)), rounded.
int32_t weight(float score, float scale, float offset) {
  const float x = std::fma(score, scale, offset);
  if (!(x >= -32)) return x < 0 ? 0 : 255;  // far below half of one; NaN shows in the sum
  const float n = std::nearbyint(x), f = x - n;
  const float p = std::fma(std::fma(std::fma(kWeightC3, f, kWeightC2), f, kWeightC1), f, kWeightC0);
  return static_cast<int32_t>(std::min(std::nearbyint(std::ldexp(p, static_cast<int>(n))), 255.0f));
}

void attend_row(const Query& query, int64_t d, const std::byte* key_block, const std::byte* value_block,
                int64_t n_visible, float* scores, int32_t* sums, const AttentionState& block) {
  const float max = block_scores(query, d, key_block, n_visible, scores);
  const float offset = std::fma(-max, query.scale, kLog2Of255);
  const auto* scale = reinterpret_cast<const float*>(value_block);
  const float* centre = scale + d;
  const auto* bytes = reinterpret_cast<const int8_t*>(centre + d);
  std::fill_n(sums, d, 0);
  int32_t total = 0;
  for (int64_t k = 0; k < n_visible; ++k) {
    const int32_t p = weight(scores[k], query.scale, offset);
    const int8_t* slot = bytes + int8_value_slot(k) * d * 4 + k % 4;
    for (int64_t i = 0; i < d; ++i) sums[i] += p * slot[4 * i];
    total += p;
  }
  const auto sum = static_cast<float>(total);
  for (int64_t i = 0; i < d; ++i) block.acc[i] = std::fma(static_cast<float>(sums[i]), scale[i], centre[i] * sum);
  *block.max = max * query.scale;
  *block.sum = std::fma(query.scale, 0.0f, sum);  // a scale that is NaN makes the row NaN
}

}  // namespace

void attention_int8_ref(const void* queries, int64_t n_rows, int64_t d, const std::byte* keys, const std::byte* values,
                        int64_t key_begin, const int32_t* n_visible, const AttentionState& state, std::byte* scratch) {
  float max, sum;
  auto* scores = reinterpret_cast<float*>(scratch);
  auto* acc = scores + kKeyBlock;
  auto* sums = reinterpret_cast<int32_t*>(acc + d);
  const AttentionState block = {&max, &sum, acc};
  const int64_t index = key_begin / kKeyBlock;
  keys += int8_key_header_bytes(d) + index * int8_key_block_bytes(d);
  values += index * int8_value_block_bytes(d);
  for (int64_t r = 0; r < n_rows; ++r) {
    if (n_visible[r] == 0) continue;
    attend_row(Query(static_cast<const std::byte*>(queries) + r * int8_query_bytes(d), d), d, keys, values,
               n_visible[r], scores, sums, block);
    merge_attention_ref({state.max + r, state.sum + r, state.acc + r * d}, block, 1, d);
  }
}

}  // namespace glimpse
