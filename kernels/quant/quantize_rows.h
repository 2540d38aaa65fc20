// The row quantisers behind quantize_row_ref, one file per family. Private to kernels/quant.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/quant/block_codes.h"

namespace glimpse {

/// GLIMPSE_QUANTISER(type, function) for every type that glimpse can write.
#define GLIMPSE_QUANTISERS(GLIMPSE_QUANTISER)     \
  GLIMPSE_QUANTISER(kQ4_0, quantize_row_q4_0)     \
  GLIMPSE_QUANTISER(kQ4_1, quantize_row_q4_1)     \
  GLIMPSE_QUANTISER(kQ5_0, quantize_row_q5_0)     \
  GLIMPSE_QUANTISER(kQ5_1, quantize_row_q5_1)     \
  GLIMPSE_QUANTISER(kQ8_0, quantize_row_q8_0)     \
  GLIMPSE_QUANTISER(kQ2_K, quantize_row_q2_k)     \
  GLIMPSE_QUANTISER(kQ3_K, quantize_row_q3_k)     \
  GLIMPSE_QUANTISER(kQ4_K, quantize_row_q4_k)     \
  GLIMPSE_QUANTISER(kQ5_K, quantize_row_q5_k)     \
  GLIMPSE_QUANTISER(kQ6_K, quantize_row_q6_k)     \
  GLIMPSE_QUANTISER(kIQ4_NL, quantize_row_iq4_nl) \
  GLIMPSE_QUANTISER(kIQ4_XS, quantize_row_iq4_xs)

// x: n floats; out: the row's blocks, any alignment; importance: n weights >= 0 or nullptr.
#define GLIMPSE_QUANTISER(type, function) \
  void function(const float* x, std::byte* out, int64_t n, const float* importance);
GLIMPSE_QUANTISERS(GLIMPSE_QUANTISER)
#undef GLIMPSE_QUANTISER

/// Writes one block and moves on.
inline void put_block(DType type, const BlockCodes& codes, std::byte*& out) {
  encode_block(type, codes, reinterpret_cast<uint8_t*>(out));
  out += block_format(type).bytes();
}

/// Sum of squares, added in order.
inline float sum_of_squares(const float* x, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

}  // namespace glimpse
