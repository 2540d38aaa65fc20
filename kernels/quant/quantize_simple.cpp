// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: one scale (and offset) per 32 elements. Without importance the scale follows from the
// extremes; with importance it is searched.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/half.h"
#include "kernels/quant/quantize_rows.h"
#include "kernels/quant/search.h"

namespace glimpse {
namespace {

constexpr AffineGrid kImportanceGrid{-0.9f, 0.05f, 36, false};

/// A block's quants and halves before packing.
struct Quantised32 {
  uint8_t q[kBlock32];
  uint16_t d;
  uint16_t m;
};

/// Truncates to 0..high; NaN gives 0.
uint8_t truncate_clamped(float value, float high) {
  value = value > 0 ? value : 0;
  return static_cast<uint8_t>(value < high ? value : high);
}

/// y = d (q - half), q in 0..2 half - 1: the element of largest magnitude sits at -half.
void quantize_symmetric(const float* x, int half, Quantised32& out) {
  const auto offset = static_cast<float>(half);
  const float d = signed_max(x, kBlock32) / -offset;
  const float inverse = d != 0 ? 1 / d : 0;
  for (int e = 0; e < kBlock32; ++e) {
    out.q[e] = truncate_clamped(x[e] * inverse + (offset + 0.5f), 2 * offset - 1);
  }
  out.d = float_to_half(d);
}

/// y = d q + m, q in 0..top.
void quantize_affine(const float* x, int top, Quantised32& out) {
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

template <typename Block, typename Quantise, typename Pack>
void quantize_blocks(const float* x, std::byte* out, int64_t n, const float* importance, Quantise quantise, Pack pack) {
  const float variance = importance != nullptr ? sum_of_squares(x, n) / static_cast<float>(n) : 0;
  float weights[kBlock32];
  for (int64_t i = 0; i < n; i += kBlock32, out += sizeof(Block)) {
    if (importance != nullptr) importance_weights(x + i, importance + i, variance, weights);
    Quantised32 quantised;
    quantise(x + i, importance != nullptr ? weights : nullptr, quantised);
    Block block;
    pack(quantised, block);
    std::memcpy(out, &block, sizeof(Block));
  }
}

/// weights: per element, or nullptr.
template <int half>
void symmetric(const float* x, const float* weights, Quantised32& out) {
  if (weights == nullptr) {
    quantize_symmetric(x, half, out);
  } else {
    out.d = float_to_half(fit_symmetric(x, weights, kBlock32, half, out.q));
  }
}

template <int top>
void affine(const float* x, const float* weights, Quantised32& out) {
  if (weights == nullptr) {
    quantize_affine(x, top, out);
    return;
  }
  const AffineFit fit = fit_affine(x, weights, kBlock32, top, kImportanceGrid, out.q);
  out.d = float_to_half(fit.scale);
  out.m = float_to_half(-fit.min);
}

uint32_t fifth_bits(const uint8_t* q) {
  uint32_t bits = 0;
  for (int e = 0; e < kBlock32; ++e) bits |= static_cast<uint32_t>(q[e] >> 4 & 1) << e;
  return bits;
}

}  // namespace

void quantize_row_q4_0(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks<BlockQ4_0>(x, out, n, importance, symmetric<8>, [](const Quantised32& in, BlockQ4_0& block) {
    block.d = in.d;
    pack_split_nibbles(in.q, block.qs);
  });
}

void quantize_row_q4_1(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks<BlockQ4_1>(x, out, n, importance, affine<15>, [](const Quantised32& in, BlockQ4_1& block) {
    block.d = in.d;
    block.m = in.m;
    pack_split_nibbles(in.q, block.qs);
  });
}

void quantize_row_q5_0(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks<BlockQ5_0>(x, out, n, importance, symmetric<16>, [](const Quantised32& in, BlockQ5_0& block) {
    block.d = in.d;
    block.qh = fifth_bits(in.q);
    pack_split_nibbles(in.q, block.qs);
  });
}

void quantize_row_q5_1(const float* x, std::byte* out, int64_t n, const float* importance) {
  quantize_blocks<BlockQ5_1>(x, out, n, importance, affine<31>, [](const Quantised32& in, BlockQ5_1& block) {
    block.d = in.d;
    block.m = in.m;
    block.qh = fifth_bits(in.q);
    pack_split_nibbles(in.q, block.qs);
  });
}

void quantize_row_q8_0(const float* x, std::byte* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kBlock32, out += sizeof(BlockQ8_0)) {
    const float d = std::fabs(signed_max(x + i, kBlock32)) / 127;
    const float inverse = d != 0 ? 1 / d : 0;
    BlockQ8_0 block;
    block.d = float_to_half(d);
    for (int e = 0; e < kBlock32; ++e) {
      // Half away from zero. Adding 0.5 and truncating would round 0.49999997 up; the remainder here is exact.
      float value = x[i + e] * inverse;
      value = value > -127 ? value : -127;
      value = value < 127 ? value : 127;
      const int whole = static_cast<int>(value);
      const float rest = value - static_cast<float>(whole);
      block.qs[e] = static_cast<int8_t>(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
    std::memcpy(out, &block, sizeof(block));
  }
}

}  // namespace glimpse
