// IQ4_NL and IQ4_XS: 16 unevenly spaced levels, one searched scale per 32 elements; in IQ4_XS the scales of eight
// groups are quantised to signed 6 bits.
#include <algorithm>
#include <array>
#include <cmath>

#include "engine/base/half.h"
#include "kernels/quant/quantize_rows.h"
#include "kernels/quant/search.h"

namespace glimpse {
namespace {

constexpr int kHalfUnits = 512;

/// Index of the nearest level for each half unit [i / 2 - 128, i / 2 - 127.5). The midpoints between levels are
/// multiples of one half, so no half unit contains one inside; a midpoint itself belongs to the upper level.
constexpr std::array<uint8_t, kHalfUnits> kNearestLevel = [] {
  std::array<uint8_t, kHalfUnits> table{};
  for (int i = 0; i < kHalfUnits; ++i) {
    int level = 0;
    while (level < 15 && i - kHalfUnits / 2 >= kIq4Table.value[level] + kIq4Table.value[level + 1]) ++level;
    table[static_cast<size_t>(i)] = static_cast<uint8_t>(level);
  }
  return table;
}();

constexpr std::array<float, 16> kLevels = [] {
  std::array<float, 16> levels{};
  for (size_t i = 0; i < 16; ++i) levels[i] = static_cast<float>(kIq4Table.value[i]);
  return levels;
}();

/// Index of the level nearest to `value`; NaN gives 0.
uint8_t nearest_level(float value) {
  value *= 2;
  value = value > -256 ? value : -256;
  value = value < 255 ? value : 255;
  const int truncated = static_cast<int>(value);
  const int floor = truncated - (static_cast<float>(truncated) > value);
  return kNearestLevel[static_cast<size_t>(floor + kHalfUnits / 2)];
}

/// The scale that minimises the weighted error of 32 elements.
float fit_levels(const float* x, const float* weights) {
  const float max = signed_max(x, kBlock32);
  if (!(std::fabs(max) >= kZeroGroup)) return 0;
  float best_scale = 0;
  float best = 0;
  const auto consider = [&](float inverse_scale, bool first) {
    float sum_xl = 0;
    float sum_l2 = 0;
    for (int e = 0; e < kBlock32; ++e) {
      const float l = kLevels[nearest_level(inverse_scale * x[e])];
      const float wl = weights[e] * l;
      sum_xl += wl * x[e];
      sum_l2 += wl * l;
    }
    if (!(sum_l2 > 0) || !(first || sum_xl * sum_xl > best * sum_l2)) return;
    best_scale = sum_xl / sum_l2;
    best = best_scale * sum_xl;
  };
  // The levels are not symmetric: the largest element goes to +127 (which is cut to 113) first, then around -127.
  consider(1 / (-max / kLevels[0]), true);
  constexpr int kSteps = 7;
  for (int t = -kSteps; t <= kSteps; ++t) consider((static_cast<float>(t) + kLevels[0]) / max, false);
  return best_scale;
}

/// variance: twice the mean square of the block that shares one d.
float fit_group(const float* x, const float* importance, float variance) {
  float weights[kBlock32];
  for (int e = 0; e < kBlock32; ++e) {
    weights[e] = importance != nullptr ? importance[e] * std::sqrt(variance + x[e] * x[e]) : x[e] * x[e];
  }
  return fit_levels(x, weights);
}

/// The nearest levels of 32 elements for one scale.
void assign_levels(const float* x, float scale, uint8_t* q) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  for (int e = 0; e < kBlock32; ++e) q[e] = nearest_level(inverse * x[e]);
}

}  // namespace

void quantize_row_iq4_nl(const float* x, std::byte* out, int64_t n, const float* importance) {
  BlockCodes codes;
  for (int64_t i = 0; i < n; i += kBlock32) {
    const float variance = sum_of_squares(x + i, kBlock32) * (2.0f / kBlock32);
    const float scale = fit_group(x + i, importance != nullptr ? importance + i : nullptr, variance);
    codes.d = float_to_half(scale);
    assign_levels(x + i, scale, codes.q);
    put_block(DType::kIQ4_NL, codes, out);
  }
}

void quantize_row_iq4_xs(const float* x, std::byte* out, int64_t n, const float* importance) {
  constexpr int kGroups = kSuperBlock / kBlock32;
  BlockCodes codes;
  for (int64_t i = 0; i < n; i += kSuperBlock) {
    const float variance = sum_of_squares(x + i, kSuperBlock) * (2.0f / kSuperBlock);
    float scales[kGroups];
    for (int k = 0; k < kGroups; ++k) {
      const int64_t at = i + kBlock32 * k;
      scales[k] = fit_group(x + at, importance != nullptr ? importance + at : nullptr, variance);
    }
    const float d = -signed_max(scales, kGroups) / 32;
    const float inverse = d != 0 ? 1 / d : 0;
    codes.d = float_to_half(d);
    for (int k = 0; k < kGroups; ++k) {
      const int scale = round_clamped(inverse * scales[k], -32, 31);
      codes.scale[k] = static_cast<uint8_t>(scale + 32);
      assign_levels(x + i + kBlock32 * k, d * static_cast<float>(scale), codes.q + kBlock32 * k);
    }
    put_block(DType::kIQ4_XS, codes, out);
  }
}

}  // namespace glimpse
