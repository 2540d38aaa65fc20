// The int8 segment: what it would cost, the conversion, queries. One piece of code, compiled for the instruction sets
// of the files that include it: loops are written so that the compiler can take them in vectors without changing the
// order of any sum. Everything has internal linkage.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/base/half.h"
#include "kernels/attention/attention_int8.h"
#include "kernels/attention/attention_isa.h"

namespace glimpse {

// attention_int8_avx512.cpp
Int8Estimate estimate_int8_avx512(const SegmentQueries& queries, int64_t head_dim, int64_t n_keys,
                                  const std::byte* keys, const std::byte* values, std::byte* scratch);
void quantize_segment_avx512(int64_t head_dim, int64_t n_keys, std::byte* keys, std::byte* values, std::byte* scratch);
void prepare_queries_int8_avx512(const float* const* q_rows, int64_t n_rows, int64_t head_dim, const std::byte* keys,
                                 void* out);

namespace {

constexpr int64_t kGroup = 16;         // keys side by side in a panel
constexpr int64_t kKeyStride = 4;      // of the keys, every fourth group is looked at for mean, t and estimate
constexpr int64_t kQuerySample = 128;  // of the query rows, at least so many are
constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it leaves a small number's integer in the lowest bits
constexpr int32_t kMagicBits = 0x4b400000;

float low_half(uint32_t word) {
  return std::bit_cast<float>(word << 16);
}
float high_half(uint32_t word) {
  return std::bit_cast<float>(word & 0xffff0000u);
}
int32_t to_integer(float x) {
  return std::bit_cast<int32_t>(x + kMagic) - kMagicBits;
}
float magnitude(float x) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0x7fffffffu);
}

// Scratch: five rows of channels, 16 lanes per channel, and a block of bfloat16 as it was.
struct Scratch {
  float *factor, *mean, *inverse, *low, *high, *lanes;
  uint32_t* block;
  Scratch(std::byte* at, int64_t d)
      : factor(reinterpret_cast<float*>(at)),
        mean(factor + d),
        inverse(mean + d),
        low(inverse + d),
        high(low + d),
        lanes(high + d),
        block(reinterpret_cast<uint32_t*>(lanes + kGroup * d)) {}
};

bool all_finite_bf16(const std::byte* panels, int64_t n_words) {
  const auto* words = reinterpret_cast<const uint32_t*>(panels);
  uint32_t bad = 0;  // an exponent of all ones carries into the bit above it
  for (int64_t i = 0; i < n_words; ++i) {
    bad |= ((words[i] & 0x7f807f80u) + 0x00800080u) & 0x80008000u;
  }
  return bad == 0;
}

// lanes[c][j] += what of(value, c) says, over the sampled groups of keys.
template <typename Of>
void sum_keys(const uint32_t* keys, int64_t d, int64_t n_groups, float* lanes, const Of& of) {
  std::fill_n(lanes, kGroup * d, 0.0f);
  for (int64_t g = 0; g < n_groups; g += kKeyStride) {
    const uint32_t* group = keys + g * (d / 2) * kGroup;
    for (int64_t i = 0; i < d / 2; ++i) {
      float *even = lanes + 2 * i * kGroup, *odd = even + kGroup;
      for (int64_t j = 0; j < kGroup; ++j) {
        even[j] += of(low_half(group[i * kGroup + j]), 2 * i);
        odd[j] += of(high_half(group[i * kGroup + j]), 2 * i + 1);
      }
    }
  }
}
float sum_lanes(const float* lanes) {
  float sum = 0;
  for (int64_t j = 0; j < kGroup; ++j) sum += lanes[j];
  return sum;
}

// x (d, 16 keys) = (key - mean) / t, max (16): the greatest magnitude of each key. n: keys of the group that exist.
void shifted_group(const uint32_t* group, int64_t d, const float* mean, const float* inverse, float* x, float* max) {
  std::fill_n(max, kGroup, 0.0f);
  for (int64_t i = 0; i < d / 2; ++i) {
    float *even = x + 2 * i * kGroup, *odd = even + kGroup;
    const float mean0 = mean[2 * i], mean1 = mean[2 * i + 1], by0 = inverse[2 * i], by1 = inverse[2 * i + 1];
    for (int64_t j = 0; j < kGroup; ++j) {
      even[j] = (low_half(group[i * kGroup + j]) - mean0) * by0;
      odd[j] = (high_half(group[i * kGroup + j]) - mean1) * by1;
      max[j] = std::max(max[j], std::max(magnitude(even[j]), magnitude(odd[j])));
    }
  }
}

int64_t query_stride(const SegmentQueries& queries) {
  return std::max<int64_t>(1, queries.n_rows / kQuerySample);
}

struct Squares {
  double norm = 0, step = 0;  // means of the squared length and of the squared scale
};

// Squared magnitudes of the sampled queries per channel.
void query_squares(const SegmentQueries& queries, int64_t head_dim, float* squares) {
  for (int64_t r = 0; r < queries.n_rows; r += query_stride(queries)) {
    for (int64_t h = 0; h < queries.n_heads; ++h) {
      const float* q = queries.rows + r * queries.ld + h * head_dim;
      for (int64_t c = 0; c < head_dim; ++c) squares[c] += q[c] * q[c];
    }
  }
}

Squares query_steps(const SegmentQueries& queries, int64_t head_dim, const float* factor) {
  const float scale = static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
  Squares out;
  int64_t count = 0;
  for (int64_t r = 0; r < queries.n_rows; r += query_stride(queries)) {
    for (int64_t h = 0; h < queries.n_heads; ++h, ++count) {
      const float* q = queries.rows + r * queries.ld + h * head_dim;
      float max = 0, sum = 0;
      for (int64_t c = 0; c < head_dim; ++c) {
        const float x = q[c] * scale * factor[c];
        max = std::max(max, magnitude(x));
        sum += x * x;
      }
      out.norm += sum;
      out.step += static_cast<double>(max / 127) * (max / 127);
    }
  }
  out.norm /= static_cast<double>(std::max<int64_t>(1, count));
  out.step /= static_cast<double>(std::max<int64_t>(1, count));
  return out;
}

Squares key_steps(const uint32_t* keys, int64_t d, int64_t n_groups, const Scratch& s) {
  Squares out;
  int64_t count = 0;
  for (int64_t g = 0; g < n_groups; g += kKeyStride, count += kGroup) {
    float max[kGroup], squares[kGroup] = {};
    shifted_group(keys + g * (d / 2) * kGroup, d, s.mean, s.inverse, s.lanes, max);
    for (int64_t c = 0; c < d; ++c) {
      for (int64_t j = 0; j < kGroup; ++j) squares[j] += s.lanes[c * kGroup + j] * s.lanes[c * kGroup + j];
    }
    for (int64_t j = 0; j < kGroup; ++j) {
      out.norm += squares[j];
      out.step += static_cast<double>(max[j] / 127) * (max[j] / 127);
    }
  }
  out.norm /= static_cast<double>(std::max<int64_t>(1, count));
  out.step /= static_cast<double>(std::max<int64_t>(1, count));
  return out;
}

// The least and greatest value of every channel among the first n keys of a block.
void value_range(const uint32_t* block, int64_t d, int64_t n, float* low, float* high) {
  std::fill_n(low, d, std::numeric_limits<float>::max());
  std::fill_n(high, d, -std::numeric_limits<float>::max());
  for (int64_t p = 0; p < n / 2; ++p) {
    for (int64_t c = 0; c < d; ++c) {
      const float x = low_half(block[p * d + c]), y = high_half(block[p * d + c]);
      low[c] = std::min(low[c], std::min(x, y));
      high[c] = std::max(high[c], std::max(x, y));
    }
  }
  if (n % 2 == 0) return;
  for (int64_t c = 0; c < d; ++c) {
    const float x = low_half(block[n / 2 * d + c]);
    low[c] = std::min(low[c], x);
    high[c] = std::max(high[c], x);
  }
}

// centre and step of a channel; halves first, so that nothing overflows.
float centre_of(float low, float high) {
  return low * 0.5f + high * 0.5f;
}
float step_of(float low, float high) {
  return high * (1.0f / 254) - low * (1.0f / 254);
}

float value_error(const uint32_t* values, int64_t d, int64_t head_dim, int64_t n_keys, const Scratch& s) {
  double errors = 0, signal = 0;
  for (int64_t first = 0; first < n_keys; first += kKeyBlock) {
    const int64_t n = std::min(kKeyBlock, n_keys - first);
    const uint32_t* block = values + first / 2 * d;
    value_range(block, d, n, s.low, s.high);
    // Distances of keys that lie half a block apart: neighbours in a picture are too much alike.
    float* const distance = s.lanes;
    std::fill_n(distance, d, 0.0f);
    const int64_t n_pairs = n / 4;
    for (int64_t p = 0; p < n_pairs; ++p) {
      const uint32_t *one = block + p * d, *other = block + (p + n_pairs) * d;
      for (int64_t c = 0; c < d; ++c) {
        distance[c] +=
            magnitude(low_half(one[c]) - low_half(other[c])) + magnitude(high_half(one[c]) - high_half(other[c]));
      }
    }
    for (int64_t c = 0; c < head_dim; ++c) {
      const double step = step_of(s.low[c], s.high[c]);
      // Independent values are sqrt(2) times as far from each other as from their mean.
      const double spread = n_pairs == 0 ? s.high[c] : 0.70710678 * distance[c] / static_cast<double>(2 * n_pairs);
      errors += static_cast<double>(n) * step * step / 12;
      signal += static_cast<double>(n) * spread * spread;
    }
  }
  return errors == 0 ? 0.0f : static_cast<float>(errors / signal);
}

void quantize_keys(int64_t d, int64_t n_keys, std::byte* keys, const Scratch& s) {
  const std::byte* from = keys;
  std::byte* to = keys + int8_key_header_bytes(d);
  for (int64_t first = 0; first < n_keys; first += kKeyBlock, to += int8_key_block_bytes(d)) {
    std::memcpy(s.block, from + first * d * 2, static_cast<size_t>(kKeyBlock * d * 2));
    auto* scales = reinterpret_cast<float*>(to);
    auto* words = reinterpret_cast<uint32_t*>(to + kKeyBlock * 4);
    for (int64_t g = 0; g < kKeyBlock / kGroup; ++g, scales += kGroup, words += d / 4 * kGroup) {
      float max[kGroup], by[kGroup];
      shifted_group(s.block + g * (d / 2) * kGroup, d, s.mean, s.inverse, s.lanes, max);
      for (int64_t j = 0; j < kGroup; ++j) {
        const bool real = first + g * kGroup + j < n_keys && max[j] >= 0x1p-100f;
        scales[j] = real ? max[j] / 127 : 0.0f;
        by[j] = real ? 127 / max[j] : 0.0f;
      }
      for (int64_t i = 0; i < d / 4; ++i) {
        const float* x = s.lanes + 4 * i * kGroup;
        for (int64_t j = 0; j < kGroup; ++j) {  // in [-127, 127]: a product of rounded factors is below 127.5
          const int32_t a = to_integer(x[j] * by[j]) + 128, b = to_integer(x[kGroup + j] * by[j]) + 128,
                        c = to_integer(x[2 * kGroup + j] * by[j]) + 128,
                        e = to_integer(x[3 * kGroup + j] * by[j]) + 128;
          words[i * kGroup + j] = static_cast<uint32_t>(a | b << 8 | c << 16) | static_cast<uint32_t>(e) << 24;
        }
      }
    }
  }
  std::memcpy(keys, s.factor, static_cast<size_t>(d) * sizeof(float));
  std::memcpy(keys + d * 4, s.mean, static_cast<size_t>(d) * sizeof(float));
}

void quantize_values(int64_t d, int64_t n_keys, std::byte* values, const Scratch& s) {
  const std::byte* from = values;
  std::byte* to = values;
  for (int64_t first = 0; first < n_keys; first += kKeyBlock, to += int8_value_block_bytes(d)) {
    std::memcpy(s.block, from + first * d * 2, static_cast<size_t>(kKeyBlock * d * 2));
    const int64_t n = std::min(kKeyBlock, n_keys - first);
    value_range(s.block, d, n, s.low, s.high);
    auto* scale = reinterpret_cast<float*>(to);
    float *const centre = scale + d, *const by = s.lanes;
    for (int64_t c = 0; c < d; ++c) {
      const float step = step_of(s.low[c], s.high[c]);
      const bool real = step >= 0x1p-100f;
      centre[c] = centre_of(s.low[c], s.high[c]);
      scale[c] = real ? step : 0.0f;
      by[c] = real ? 1 / step : 0.0f;
    }
    auto* words = reinterpret_cast<uint32_t*>(to + 8 * d);
    for (int64_t lane = 0; lane < kKeyBlock; lane += 4) {
      uint32_t* out = words + int8_value_slot(lane) * d;
      const uint32_t *p0 = s.block + lane / 2 * d, *p1 = p0 + d;
      if (lane + 4 > n) {  // keys that do not exist have weight zero, whatever their bytes
        std::fill_n(out, d, 0u);
        if (lane >= n) continue;
      }
      for (int64_t c = 0; c < d; ++c) {
        const float x[4] = {low_half(p0[c]), high_half(p0[c]), low_half(p1[c]), high_half(p1[c])};
        uint32_t word = 0;
        for (int64_t e = 0; e < 4; ++e) {
          const float y = std::min(std::max((x[e] - centre[c]) * by[c], -127.0f), 127.0f);
          word |= (static_cast<uint32_t>(to_integer(y)) & 0xffu) << (8 * e);
        }
        out[c] = word;
      }
    }
  }
}

Int8Estimate estimate_segment(const SegmentQueries& queries, int64_t head_dim, int64_t n_keys, const std::byte* keys,
                              const std::byte* values, std::byte* scratch) {
  const int64_t d = padded_head_dim(head_dim), n_groups = n_keys / kGroup;  // a last group in part is not looked at
  const Scratch s(scratch, d);
  Int8Estimate out;
  const int64_t n_stored = (n_keys + kGroup - 1) / kGroup * kGroup;  // the keys' words of a group
  out.finite = all_finite_bf16(keys, n_stored * d / 2) && all_finite_bf16(values, (n_keys + 1) / 2 * d);
  if (!out.finite) return out;

  const auto* words = reinterpret_cast<const uint32_t*>(keys);
  const auto n_sampled = static_cast<float>(std::max<int64_t>(1, (n_groups + kKeyStride - 1) / kKeyStride * kGroup));
  sum_keys(words, d, n_groups, s.lanes, [](float key, int64_t) { return key; });
  for (int64_t c = 0; c < d; ++c) s.mean[c] = sum_lanes(s.lanes + c * kGroup) / n_sampled;
  sum_keys(words, d, n_groups, s.lanes, [&](float key, int64_t c) { return (key - s.mean[c]) * (key - s.mean[c]); });
  std::fill_n(s.low, d, 0.0f);
  query_squares(queries, head_dim, s.low);
  // A hundredth of the mean channel added: a channel that the sample happens to show as silent may not be.
  float key_floor = 0, query_floor = 0;
  for (int64_t c = 0; c < d; ++c) {
    s.high[c] = sum_lanes(s.lanes + c * kGroup);
    key_floor += s.high[c] * 0.01f / static_cast<float>(d);
    query_floor += s.low[c] * 0.01f / static_cast<float>(d);
  }
  const int64_t n_rows = (queries.n_rows + query_stride(queries) - 1) / query_stride(queries) * queries.n_heads;
  const float samples = static_cast<float>(std::max<int64_t>(1, n_rows)) / n_sampled;
  for (int64_t c = 0; c < d; ++c) {
    const float ratio = (s.high[c] + key_floor) / (s.low[c] + query_floor) * samples;  // of the mean squares
    const bool usable = ratio >= 0x1p-40f && ratio <= 0x1p40f;                         // false for NaN
    s.factor[c] = usable ? std::sqrt(std::sqrt(ratio)) : 1.0f;
    s.inverse[c] = 1 / s.factor[c];
  }
  const Squares q = query_steps(queries, head_dim, s.factor), k = key_steps(words, d, n_groups, s);
  out.score = static_cast<float>(std::sqrt((q.norm * k.step + k.norm * q.step) / 12));
  out.value = value_error(reinterpret_cast<const uint32_t*>(values), d, head_dim, n_keys, s);
  return out;
}

void convert_segment(int64_t head_dim, int64_t n_keys, std::byte* keys, std::byte* values, std::byte* scratch) {
  const int64_t d = padded_head_dim(head_dim);
  const Scratch s(scratch, d);
  quantize_keys(d, n_keys, keys, s);
  quantize_values(d, n_keys, values, s);
}

void prepare_query(const float* q, float scale, int64_t head_dim, const std::byte* keys, std::byte* out) {
  const int64_t d = padded_head_dim(head_dim);
  const auto* factor = reinterpret_cast<const float*>(keys);
  auto* row = reinterpret_cast<int8_t*>(out);
  uint32_t bits = 0;  // the greatest magnitude; NaN and infinities are greater than all numbers
  for (int64_t c = 0; c < head_dim; ++c) {
    bits = std::max(bits, std::bit_cast<uint32_t>(q[c] * scale * factor[c]) & 0x7fffffffu);
  }
  const float max = std::bit_cast<float>(bits);
  const bool finite = bits < 0x7f800000u, real = finite && max >= 0x1p-100f;
  const float by = real ? 127 / max : 0.0f;
  int32_t sum = 0;
  std::fill_n(row, d, int8_t{0});
  if (real) {
    // Nothing else is where the row is written: only then is this loop made of vectors.
    int8_t* __restrict const codes = row;
    for (int64_t c = 0; c < head_dim; ++c) {  // in [-127, 127], as those of keys
      const int32_t code = to_integer(q[c] * scale * factor[c] * by);
      codes[c] = static_cast<int8_t>(code);
      sum += code;
    }
  }
  const int32_t start = -128 * sum;
  const float step = real ? max / 127 : finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  std::memcpy(out + d, &step, 4);
  std::memcpy(out + d + 4, &start, 4);
}

void prepare_rows(const float* const* q_rows, int64_t n_rows, int64_t head_dim, const std::byte* keys, void* out) {
  const int64_t row_bytes = int8_query_bytes(padded_head_dim(head_dim));
  const float scale = score_scale(head_dim);
  for (int64_t r = 0; r < n_rows; ++r) {
    if (r + kQueriesAhead < n_rows) prefetch_query(q_rows[r + kQueriesAhead], head_dim);
    prepare_query(q_rows[r], scale, head_dim, keys, static_cast<std::byte*>(out) + r * row_bytes);
  }
}

}  // namespace
}  // namespace glimpse
