// The K types: super-blocks of 256 in groups of 16 or 32, whose scales (and mins) are quantised again. Each group is
// fitted alone, then its quants are chosen anew for the scale that it got in the end.
#include <algorithm>
#include <cmath>

#include "engine/base/half.h"
#include "kernels/quant/quantize_rows.h"
#include "kernels/quant/search.h"

namespace glimpse {
namespace {

constexpr AffineGrid kImportanceGrid{-0.9f, 0.05f, 36, false};

/// What tells Q2_K, Q4_K and Q5_K apart.
struct AffineFormat {
  int group;              // elements of a group
  int max_level;          // of an element
  int max_scale;          // of a group's scale and min
  AffineGrid grid;        // search without importance
  bool rms_weight;        // weights without importance: |x| + rms of the group, or |x| alone
  float variance_factor;  // with importance: times the mean square of the super-block
};

constexpr AffineFormat kQ2K{16, 3, 15, {-0.5f, 0.1f, 15, true}, false, 1};
constexpr AffineFormat kQ4K{32, 15, 63, {-1.0f, 0.1f, 20, false}, true, 2};
constexpr AffineFormat kQ5K{32, 31, 63, {-0.5f, 0.1f, 15, false}, true, 2};

void plain_weights(const float* x, const AffineFormat& format, float* weights) {
  const float base =
      format.rms_weight ? std::sqrt(sum_of_squares(x, format.group) / static_cast<float>(format.group)) : 0;
  for (int e = 0; e < format.group; ++e) weights[e] = base + std::fabs(x[e]);
}

void importance_weights(const float* x, const float* importance, float variance, int n, float* weights) {
  for (int e = 0; e < n; ++e) weights[e] = importance[e] * std::sqrt(variance + x[e] * x[e]);
}

float sum_in_order(const float* x, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i];
  return sum;
}

/// Quantises values >= 0 so that the largest becomes max_level; returns the step.
float scale_by_largest(const float* values, int n, int max_level, uint8_t* q) {
  const float max = std::max(0.0f, *std::max_element(values, values + n));
  const float inverse = max > 0 ? static_cast<float>(max_level) / max : 0;
  for (int k = 0; k < n; ++k) q[k] = static_cast<uint8_t>(round_clamped(inverse * values[k], 0, max_level));
  return max / static_cast<float>(max_level);
}

template <const AffineFormat& format>
void quantize_affine(const float* x, const float* importance, BlockCodes& out) {
  constexpr int kGroup = format.group;
  constexpr int kGroups = kSuperBlock / kGroup;
  float scales[kGroups];
  float mins[kGroups];
  float weights[kGroup];
  if (importance == nullptr) {
    for (int k = 0; k < kGroups; ++k) {
      plain_weights(x + k * kGroup, format, weights);
      const AffineFit fit =
          fit_affine(x + k * kGroup, weights, kGroup, format.max_level, format.grid, out.q + k * kGroup);
      scales[k] = fit.scale;
      mins[k] = fit.min;
    }
    out.d = float_to_half(scale_by_largest(scales, kGroups, format.max_scale, out.scale));
    out.m = float_to_half(scale_by_largest(mins, kGroups, format.max_scale, out.min));
  } else {
    const float variance = format.variance_factor * sum_of_squares(x, kSuperBlock) / kSuperBlock;
    float group_weights[kGroups];
    for (int k = 0; k < kGroups; ++k) {
      importance_weights(x + k * kGroup, importance + k * kGroup, variance, kGroup, weights);
      group_weights[k] = sum_in_order(weights, kGroup);
      const AffineFit fit =
          fit_affine(x + k * kGroup, weights, kGroup, format.max_level, kImportanceGrid, out.q + k * kGroup);
      scales[k] = fit.scale;
      mins[k] = fit.min;
    }
    out.d = float_to_half(fit_positive(scales, group_weights, kGroups, format.max_scale, out.scale));
    out.m = float_to_half(fit_positive(mins, group_weights, kGroups, format.max_scale, out.min));
  }
  for (int k = 0; k < kGroups; ++k) {
    const float scale = half_to_float(out.d) * static_cast<float>(out.scale[k]);
    if (scale == 0) continue;  // q does not matter; the first choice stays
    const float min = half_to_float(out.m) * static_cast<float>(out.min[k]);
    for (int e = k * kGroup; e < (k + 1) * kGroup; ++e) {
      out.q[e] = static_cast<uint8_t>(round_clamped((x[e] + min) / scale, 0, format.max_level));
    }
  }
}

/// Chooses q for y = d (scale[k] - scale_offset) (q - half), groups of 16.
void requantize_symmetric(const float* x, const int* scales, int half, BlockCodes& out) {
  for (int k = 0; k < 16; ++k) {
    const float scale = half_to_float(out.d) * static_cast<float>(scales[k]);
    if (scale == 0) continue;
    for (int e = 16 * k; e < 16 * k + 16; ++e) {
      out.q[e] = static_cast<uint8_t>(half + round_clamped(x[e] / scale, -half, half - 1));
    }
  }
}

void quantize_q3_k(const float* x, const float* importance, BlockCodes& out) {
  float scales[16];
  if (importance == nullptr) {
    for (int k = 0; k < 16; ++k) scales[k] = fit_symmetric_sweeps(x + 16 * k, 16, 4, out.q + 16 * k);
    const float max = signed_max(scales, 16);
    const float inverse = max != 0 ? -32 / max : 0;
    for (int k = 0; k < 16; ++k) {
      out.scale[k] = max != 0 ? static_cast<uint8_t>(round_clamped(inverse * scales[k], -32, 31) + 32) : uint8_t{0};
    }
    out.d = max != 0 ? float_to_half(1 / inverse) : uint16_t{0};
  } else {
    const float variance = 2 * sum_of_squares(x, kSuperBlock) / kSuperBlock;
    float weights[16];
    float group_weights[16];
    for (int k = 0; k < 16; ++k) {
      importance_weights(x + 16 * k, importance + 16 * k, variance, 16, weights);
      group_weights[k] = sum_in_order(weights, 16);
      scales[k] = fit_symmetric(x + 16 * k, weights, 16, 4, out.q + 16 * k);
    }
    out.d = float_to_half(fit_symmetric(scales, group_weights, 16, 32, out.scale));
  }
  int signed_scales[16];
  for (int k = 0; k < 16; ++k) signed_scales[k] = out.scale[k] - 32;
  requantize_symmetric(x, signed_scales, 4, out);
}

void quantize_q6_k(const float* x, const float* importance, BlockCodes& out) {
  float scales[16];
  float squares[16];
  for (int k = 0; k < 16; ++k) {
    const float* group = x + 16 * k;
    for (int e = 0; e < 16; ++e) squares[e] = group[e] * group[e];
    const float* weights = importance != nullptr ? importance + 16 * k : squares;
    scales[k] = fit_symmetric(group, weights, 16, 32, out.q + 16 * k);
  }
  const float max = signed_max(scales, 16);
  if (!(std::fabs(max) >= kZeroGroup)) {
    out = {};
    return;
  }
  const float inverse = -128 / max;
  out.d = float_to_half(1 / inverse);
  int codes[16];
  for (int k = 0; k < 16; ++k) {
    codes[k] = round_clamped(inverse * scales[k], -128, 127);
    out.scale[k] = static_cast<uint8_t>(codes[k]);
  }
  requantize_symmetric(x, codes, 32, out);
}

template <typename Quantise>
void quantize_super_blocks(DType type, const float* x, std::byte* out, int64_t n, const float* importance,
                           Quantise quantise) {
  BlockCodes codes;
  for (int64_t i = 0; i < n; i += kSuperBlock) {
    quantise(x + i, importance != nullptr ? importance + i : nullptr, codes);
    put_block(type, codes, out);
  }
}

}  // namespace

void quantize_row_q2_k(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_super_blocks(DType::kQ2_K, x, out, n, importance, quantize_affine<kQ2K>);
}
void quantize_row_q3_k(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_super_blocks(DType::kQ3_K, x, out, n, importance, quantize_q3_k);
}
void quantize_row_q4_k(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_super_blocks(DType::kQ4_K, x, out, n, importance, quantize_affine<kQ4K>);
}
void quantize_row_q5_k(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_super_blocks(DType::kQ5_K, x, out, n, importance, quantize_affine<kQ5K>);
}
void quantize_row_q6_k(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_super_blocks(DType::kQ6_K, x, out, n, importance, quantize_q6_k);
}

}  // namespace glimpse
