#include "tools/synth/random_weights.h"

#include <cmath>
#include <cstring>

#include "engine/base/block_format.h"
#include "engine/base/half.h"
#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

constexpr uint64_t kPoolBlocks = 8192;  // a power of two

// Offsets of the binary16 scales inside a block.
std::vector<uint32_t> scale_offsets(DType type) {
  const BlockFormat format = block_format(type);
  std::vector<uint32_t> offsets = {static_cast<uint32_t>(format.d_at)};
  if (format.m_at >= 0) offsets.push_back(static_cast<uint32_t>(format.m_at));
  return offsets;
}

// Inverse of the normal distribution by bisection on erfc: exact to double and only computed 65536 times.
double normal_quantile(double p) {
  double low = -9, high = 9;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

uint32_t float_bits(DType type, float value) {
  if (type == DType::kF16) return float_to_half(value);
  if (type == DType::kBF16) return float_to_bf16(value);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace

const std::vector<float>& gaussian_table() {
  static const std::vector<float> table = [] {
    std::vector<float> values(65536);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(normal_quantile((static_cast<double>(i) + 0.5) / 65536));
    return values;
  }();
  return table;
}

RandomWeights::RandomWeights(DType type, double deviation, double mean)
    : type_(type), scale_offsets_(scale_offsets(type)), deviation_(static_cast<float>(deviation)) {
  const std::vector<float>& gaussian = gaussian_table();
  if (is_float_type(type)) {
    floats_.reserve(gaussian.size());
    for (float value : gaussian) floats_.push_back(float_bits(type, static_cast<float>(mean + deviation * value)));
    return;
  }
  const DTypeInfo& info = dtype_info(type);
  const int64_t n = static_cast<int64_t>(kPoolBlocks) * info.block_length;
  std::vector<float> values(static_cast<size_t>(n));
  SplitMix64 random{static_cast<uint64_t>(type)};
  for (float& value : values) value = gaussian[random() >> 48];
  pool_.resize(kPoolBlocks * info.block_bytes);
  quantize_row_ref(type, values.data(), pool_.data(), n, nullptr);
}

void RandomWeights::fill(uint64_t seed, int64_t n, std::byte* out) const {
  floats_.empty() ? fill_blocks(seed, n, out) : fill_floats(seed, n, out);
}

void RandomWeights::fill_floats(uint64_t seed, int64_t n, std::byte* out) const {
  SplitMix64 random{seed};
  const size_t size = dtype_info(type_).block_bytes;
  for (int64_t i = 0; i < n; i += 4) {
    const uint64_t bits = random();
    for (int64_t k = 0; k < 4 && i + k < n; ++k) {
      std::memcpy(out + static_cast<size_t>(i + k) * size, &floats_[(bits >> (16 * k)) & 0xffff], size);
    }
  }
}

void RandomWeights::fill_blocks(uint64_t seed, int64_t n, std::byte* out) const {
  SplitMix64 random{seed};
  const DTypeInfo& info = dtype_info(type_);
  for (int64_t i = 0; i < n; i += info.block_length, out += info.block_bytes) {
    const uint64_t bits = random();
    std::memcpy(out, pool_.data() + (bits % kPoolBlocks) * info.block_bytes, info.block_bytes);
    // Blocks of one row differ in scale as trained ones do: a factor of 0.75 to 1.25.
    const float factor = deviation_ * (0.75f + static_cast<float>(bits >> 40) * (0.5f / 16777216.0f));
    for (uint32_t offset : scale_offsets_) {
      uint16_t half;
      std::memcpy(&half, out + offset, sizeof half);
      half = float_to_half(half_to_float(half) * factor);
      std::memcpy(out + offset, &half, sizeof half);
    }
  }
}

}  // namespace glimpse
