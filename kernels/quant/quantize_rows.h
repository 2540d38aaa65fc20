// The row quantisers behind quantize_row_ref, one file per family. Private to kernels/quant.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/quant/blocks.h"

namespace glimpse {

// x: n floats; out: the row's blocks, any alignment; importance: n weights >= 0 or nullptr.
void quantize_row_q4_0(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q4_1(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q5_0(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q5_1(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q8_0(const float* x, std::byte* out, int64_t n);

void quantize_row_q2_k(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q3_k(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q4_k(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q5_k(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_q6_k(const float* x, std::byte* out, int64_t n, const float* importance);

void quantize_row_iq4_nl(const float* x, std::byte* out, int64_t n, const float* importance);
void quantize_row_iq4_xs(const float* x, std::byte* out, int64_t n, const float* importance);

/// Sum of squares, added in order.
inline float sum_of_squares(const float* x, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

/// Nibbles of 32 quants (0..15) as split halves in 16 bytes.
inline void pack_split_nibbles(const uint8_t* q, uint8_t* qs) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
}

}  // namespace glimpse
