// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: one scale (and offset) per 32 elements. Without importance the scale follows from the
// extremes; with importance it is searched.
#include <algorithm>
#include <cmath>

#include "engine/base/half.h"
#include "kernels/quant/quantize_rows.h"
#include "kernels/quant/search.h"

namespace glimpse {
namespace {

constexpr AffineGrid kImportanceGrid{-0.9f, 0.05f, 36, false};

/// Truncates to 0..high; NaN gives 0.
uint8_t truncate_clamped(float value, float high) {
  value = value > 0 ? value : 0;
  return static_cast<uint8_t>(value < high ? value : high);
}

/// y = d (q - half), q in 0..2 half - 1: the element of largest magnitude sits at -half.
void quantize_symmetric(const float* x, int half, BlockCodes& out) {
  const auto offset = static_cast<float>(half);
  const float d = signed_max(x, kBlock32) / -offset;
  const float inverse = d != 0 ? 1 / d : 0;
  for (int e = 0; e < kBlock32; ++e) {
    out.q[e] = truncate_clamped(x[e] * inverse + (offset + 0.5f), 2 * offset - 1);
  }
  out.d = float_to_half(d);
}

/// y = d q + m, q in 0..top.
void quantize_affine(const float* x, int top, BlockCodes& out) {
  const auto [min, max] = std::minmax_element(x, x + kBlock32);
  const float m = *min;
  const float d = (*max - m) / static_cast<float>(top);
  const float inverse = d != 0 ? 1 / d : 0;
  for (int e = 0; e < kBlock32; ++e) {
    out.q[e] = truncate_clamped((x[e] - m) * inverse + 0.5f, static_cast<float>(top));
  }
  out.d = float_to_half(d);
  out.m = float_to_half(m);
}

/// Error weights of a block: importance, more for large elements. variance: mean square of the row.
void importance_weights(const float* x, const float* importance, float variance, float* weights) {
  for (int e = 0; e < kBlock32; ++e) weights[e] = importance[e] * std::sqrt(variance + x[e] * x[e]);
}

template <typename Quantise>
void quantize_blocks(DType type, const float* x, std::byte* out, int64_t n, const float* importance,
                     Quantise quantise) {
  const float variance = importance != nullptr ? sum_of_squares(x, n) / static_cast<float>(n) : 0;
  float weights[kBlock32];
  BlockCodes codes;
  for (int64_t i = 0; i < n; i += kBlock32) {
    if (importance != nullptr) importance_weights(x + i, importance + i, variance, weights);
    quantise(x + i, importance != nullptr ? weights : nullptr, codes);
    put_block(type, codes, out);
  }
}

/// weights: per element, or nullptr.
template <int half>
void symmetric(const float* x, const float* weights, BlockCodes& out) {
  if (weights == nullptr) {
    quantize_symmetric(x, half, out);
  } else {
    out.d = float_to_half(fit_symmetric(x, weights, kBlock32, half, out.q));
  }
}

template <int top>
void affine(const float* x, const float* weights, BlockCodes& out) {
  if (weights == nullptr) {
    quantize_affine(x, top, out);
    return;
  }
  const AffineFit fit = fit_affine(x, weights, kBlock32, top, kImportanceGrid, out.q);
  out.d = float_to_half(fit.scale);
  out.m = float_to_half(-fit.min);
}

}  // namespace

void quantize_row_q4_0(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks(DType::kQ4_0, x, out, n, importance, symmetric<8>);
}
void quantize_row_q4_1(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks(DType::kQ4_1, x, out, n, importance, affine<15>);
}
void quantize_row_q5_0(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks(DType::kQ5_0, x, out, n, importance, symmetric<16>);
}
void quantize_row_q5_1(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks(DType::kQ5_1, x, out, n, importance, affine<31>);
}

// Too fine to gain from importance.
void quantize_row_q8_0(const float* x, std::byte* out, int64_t n, const float*) {
  BlockCodes codes;
  for (int64_t i = 0; i < n; i += kBlock32) {
    const float d = std::fabs(signed_max(x + i, kBlock32)) / 127;
    const float inverse = d != 0 ? 1 / d : 0;
    codes.d = float_to_half(d);
    for (int e = 0; e < kBlock32; ++e) {
      // Half away from zero. Adding 0.5 and truncating would round 0.49999997 up; the remainder here is exact.
      float value = x[i + e] * inverse;
      value = value > -127 ? value : -127;
      value = value < 127 ? value : 127;
      const int whole = static_cast<int>(value);
      const float rest = value - static_cast<float>(whole);
      codes.q[e] = static_cast<uint8_t>(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
    put_block(DType::kQ8_0, codes, out);
  }
}

}  // namespace glimpse
