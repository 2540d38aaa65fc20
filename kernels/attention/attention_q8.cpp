// The int8 key/value store: quantisation, storage, queries. One piece of code for every instruction set.
#include "kernels/attention/attention_q8.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "engine/base/half.h"

namespace glimpse {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Queries are integers of this magnitude at most: 128 times an int8 in [-127, 127] and one in [-64, 63].
constexpr int32_t kMostQueryCode = 127 * 128;
constexpr auto kMostQuery = static_cast<float>(kMostQueryCode);

// Root mean square that the biases of a head's keys may have where they are mixed with the rest. Measured on
// Qwen2.5-Coder 0.5B and 1.5B (README.md, "Keys and values"): 1 to 2 give the same, 3 begins to cost.
constexpr double kMaxMixedBias = 1.5;

// The greatest magnitude of n floats; NaN if one of them is no finite number. As integers, so that the compiler can
// take the maximum in vectors.
float finite_max(const float* x, int64_t n) {
  int32_t max = 0;
  for (int64_t i = 0; i < n; ++i) max = std::max(max, std::bit_cast<int32_t>(x[i]) & 0x7fffffff);
  return max < 0x7f800000 ? std::bit_cast<float>(max) : kNan;
}

// To nearest even, of magnitudes up to 2^22: adding 1.5 * 2^23 leaves the integer in the lowest bits.
int32_t to_integer(float x) {
  return std::bit_cast<int32_t>(x + 12582912.0f) - 0x4b400000;
}

// q = x * inverse to nearest even, in [-127, 127].
void quantize(const float* x, float inverse, int64_t n, int8_t* q) {
  for (int64_t i = 0; i < n; ++i) {
    q[i] = static_cast<int8_t>(to_integer(std::min(std::max(x[i] * inverse, -127.0f), 127.0f)));
  }
}

// One block of a key or value: the scale as binary16, n int8. The scale is rounded up, so that the greatest magnitude
// fits, but stays finite for finite numbers.
uint16_t quantize_block(const float* x, int64_t n, int8_t* q) {
  const float max = finite_max(x, n);
  if (std::isnan(max)) {
    std::fill_n(q, n, int8_t{0});
    return float_to_half(kNan);
  }
  const float exact = max / 127.0f;
  uint16_t scale = float_to_half(std::min(exact, 65504.0f));
  if (half_to_float(scale) < exact && scale < 0x7bff) ++scale;
  quantize(x, scale == 0 ? 0.0f : 1.0f / half_to_float(scale), n, q);
  return scale;
}

// A power of two near the square root of n, a power of two.
float mixing_divisor(int64_t n) {
  float divisor = 1;
  for (; n >= 4; n /= 4) divisor *= 2;
  return divisor;
}

constexpr int64_t kMostDims = 512;  // of a head, padded: a row fits on the stack

// Where the scale, the wide channels and the int8 of a position lie, from its group's start.
int64_t scale_offset(int64_t position, int64_t block) {
  return (block * 16 + position % 16) * 2;
}
int64_t key_offset(int64_t d, int64_t n_wide, int64_t position, int64_t dim) {
  return q8_scale_bytes(d) + 32 * n_wide + (dim / 4 * 16 + position % 16) * 4 + dim % 4;
}
int64_t value_offset(int64_t d, int64_t position, int64_t dim) {
  const int64_t begin = dim / kQ8Block * kQ8Block, width = std::min(kQ8Block, d - begin), lane = position % 16;
  return q8_scale_bytes(d) + begin * 16 + (lane / 2 * width + dim - begin) * 2 + lane % 2;
}

float load_half(const std::byte* at) {
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return half_to_float(bits);
}

// Quantises each block of a row (d), stores its scale and hands on its int8: store(first dimension, width, int8).
template <typename Store>
void store_blocks(const float* row, int64_t d, int64_t position, std::byte* group, const Store& store) {
  for (int64_t block = 0; block < q8_blocks(d); ++block) {
    int8_t q[kQ8Block];
    const int64_t begin = block * kQ8Block, width = std::min(kQ8Block, d - begin);
    const uint16_t scale = quantize_block(row + begin, width, q);
    std::memcpy(group + scale_offset(position, block), &scale, 2);
    store(begin, width, q);
  }
}

}  // namespace

void mix_channels(float* x, int64_t d) {
  const int64_t n = mixed_channels(d);
  const float by = 1 / mixing_divisor(n);
  for (float* part = x; part < x + d; part += n) {
    for (int64_t step = 1; step < n; step *= 2) {
      for (int64_t i = 0; i < n; i += 2 * step) {
        for (int64_t j = i; j < i + step; ++j) {
          const float a = part[j], b = part[j + step];
          part[j] = a + b;
          part[j + step] = a - b;
        }
      }
    }
    for (int64_t i = 0; i < n; ++i) part[i] *= by;
  }
}
float mixing_gain(int64_t d) {
  const int64_t n = mixed_channels(d);
  return static_cast<float>(n) / (mixing_divisor(n) * mixing_divisor(n));
}

namespace {
// Channels (head_dim) times scale as they are mixed: the wide ones zero, padded with zeros to d.
void mixed_row(const float* row, float scale, int64_t head_dim, int64_t d, WideChannels wide, float* x) {
  for (int64_t i = 0; i < d; ++i) x[i] = i < head_dim ? row[i] * scale : 0.0f;
  for (const int32_t channel : wide) x[channel] = 0;
  mix_channels(x, d);
}
}  // namespace

void store_key_q8(const float* key, int64_t head_dim, int64_t position, WideChannels wide, std::byte* keys) {
  const int64_t d = padded_head_dim(head_dim), n_wide = static_cast<int64_t>(wide.size());
  std::byte* const group = keys + position / 16 * q8_group_bytes(d, n_wide);
  std::byte* at = group + q8_scale_bytes(d) + position % 16 * 2;
  for (const int32_t channel : wide) {
    const float x = key[channel];
    const uint16_t bits = float_to_half(std::isinf(x) ? x : std::clamp(x, -65504.0f, 65504.0f));
    std::memcpy(at, &bits, 2);
    at += 32;
  }
  float x[kMostDims];
  mixed_row(key, 1.0f, head_dim, d, wide, x);
  store_blocks(x, d, position, group, [&](int64_t begin, int64_t width, const int8_t* q) {
    std::byte* const out = group + key_offset(d, n_wide, position, begin);
    for (int64_t i = 0; i < width; i += 4) std::memcpy(out + i * 16, q + i, 4);
  });
}
void store_value_q8(const float* value, int64_t head_dim, int64_t position, std::byte* values) {
  const int64_t d = padded_head_dim(head_dim);
  std::byte* const group = values + position / 16 * q8_group_bytes(d);
  float x[kMostDims];
  for (int64_t i = 0; i < d; ++i) x[i] = i < head_dim ? value[i] : 0.0f;
  store_blocks(x, d, position, group, [&](int64_t begin, int64_t width, const int8_t* q) {
    std::byte* const out = group + value_offset(d, position, begin);
    for (int64_t i = 0; i < width; ++i) out[2 * i] = static_cast<std::byte>(q[i]);
  });
}
void load_mixed_key_q8(const std::byte* keys, int64_t d, int64_t position, int64_t n_wide, float* out) {
  const std::byte* const group = keys + position / 16 * q8_group_bytes(d, n_wide);
  for (int64_t i = 0; i < d; ++i) {
    const auto code = static_cast<int8_t>(group[key_offset(d, n_wide, position, i)]);
    out[i] = load_half(group + scale_offset(position, i / kQ8Block)) * static_cast<float>(code);
  }
  const std::byte* const wide = group + q8_scale_bytes(d) + position % 16 * 2;
  for (int64_t i = 0; i < n_wide; ++i) out[d + i] = load_half(wide + 32 * i);
}
void load_key_q8(const std::byte* keys, int64_t head_dim, int64_t position, WideChannels wide, float* key) {
  const int64_t d = padded_head_dim(head_dim), n_wide = static_cast<int64_t>(wide.size());
  float x[2 * kMostDims];
  load_mixed_key_q8(keys, d, position, n_wide, x);
  mix_channels(x, d);
  for (int64_t i = 0; i < head_dim; ++i) key[i] = x[i] / mixing_gain(d);
  for (int64_t i = 0; i < n_wide; ++i) key[wide[static_cast<size_t>(i)]] = x[d + i];
}
void load_value_q8(const std::byte* values, int64_t head_dim, int64_t position, float* value) {
  const int64_t d = padded_head_dim(head_dim);
  const std::byte* const group = values + position / 16 * q8_group_bytes(d);
  for (int64_t i = 0; i < head_dim; ++i) {
    const auto code = static_cast<int8_t>(group[value_offset(d, position, i)]);
    value[i] = load_half(group + scale_offset(position, i / kQ8Block)) * static_cast<float>(code);
  }
}

void prepare_query_q8(const float* q, float scale, int64_t head_dim, WideChannels wide, std::byte* out) {
  const int64_t d = padded_head_dim(head_dim), blocks = q8_blocks(d);
  float x[kMostDims];
  mixed_row(q, scale / mixing_gain(d), head_dim, d, wide, x);
  auto *high = reinterpret_cast<int8_t*>(out), *low = high + d;
  auto* const scales = reinterpret_cast<float*>(out + 2 * d);
  auto* const starts = reinterpret_cast<int32_t*>(scales + blocks);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kQ8Block, width = std::min(kQ8Block, d - begin);
    const float max = finite_max(x + begin, width);
    const bool empty = !(max >= 0x1p-100f);  // nothing, so little that the inverse might overflow, or NaN
    const float inverse = empty ? 0.0f : kMostQuery / max;
    scales[block] = std::isnan(max) ? kNan : empty ? 0.0f : max / kMostQuery;
    int32_t sum_high = 0, sum_low = 0;
    for (int64_t i = begin; i < begin + width; ++i) {
      const int32_t code = empty ? 0 : std::clamp(to_integer(x[i] * inverse), -kMostQueryCode, kMostQueryCode);
      const int32_t upper = (code + 64) >> 7, lower = code - 128 * upper;
      high[i] = static_cast<int8_t>(upper);
      low[i] = static_cast<int8_t>(lower);
      sum_high += upper;
      sum_low += lower;
    }
    starts[2 * block] = -128 * sum_high;
    starts[2 * block + 1] = -128 * sum_low;
  }
  const auto n_wide = static_cast<int32_t>(wide.size());
  std::memcpy(starts + 2 * blocks, &n_wide, 4);
  auto* const wide_out = reinterpret_cast<float*>(starts + 2 * blocks + 1);
  for (size_t i = 0; i < wide.size(); ++i) wide_out[i] = q[wide[i]] * scale;
}

std::vector<int32_t> wide_key_channels(std::span<const float> bias, int64_t n_heads, int64_t head_dim) {
  if (bias.empty()) return {};
  const int64_t half = head_dim / 2;
  struct Pair {
    double square;
    int32_t first;
  };
  std::vector<std::vector<Pair>> heads(static_cast<size_t>(n_heads));
  int64_t most = 0;  // pairs of a head
  for (int64_t h = 0; h < n_heads; ++h) {
    std::vector<Pair>& pairs = heads[static_cast<size_t>(h)];
    double rest = 0;
    for (int64_t i = 0; i < half; ++i) {
      const double a = bias[static_cast<size_t>(h * head_dim + i)],
                   b = bias[static_cast<size_t>(h * head_dim + i + half)];
      pairs.push_back({a * a + b * b, static_cast<int32_t>(i)});
      rest += a * a + b * b;
    }
    std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) { return a.square > b.square; });
    int64_t n = 0;
    for (; n < half && rest > kMaxMixedBias * kMaxMixedBias * static_cast<double>(head_dim); ++n) {
      rest -= pairs[static_cast<size_t>(n)].square;
    }
    most = std::max(most, n);
  }
  std::vector<int32_t> channels;
  for (const std::vector<Pair>& pairs : heads) {
    for (int64_t i = 0; i < most; ++i) {
      const int32_t first = pairs[static_cast<size_t>(i)].first;
      channels.insert(channels.end(), {first, first + static_cast<int32_t>(half)});
    }
  }
  return channels;
}

}  // namespace glimpse
