// Rows of floats in 512-bit vectors: tails, bf16 rounding, 16 x 16 transposition. Internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace glimpse {
namespace {

/// Mask of the lanes of a 16-lane vector that lie in front of `count` (which may be negative or above 16).
inline __mmask16 lanes_below_avx512(int64_t count) {
  if (count >= 16) return static_cast<__mmask16>(0xffff);
  return count <= 0 ? static_cast<__mmask16>(0) : static_cast<__mmask16>((1u << count) - 1u);
}

/// Lanes [0, count) of p, zero elsewhere.
inline __m512 load_row_avx512(const float* p, int64_t count) {
  return _mm512_maskz_loadu_ps(lanes_below_avx512(count), p);
}

/// Stores lanes [0, count).
inline void store_row_avx512(float* p, int64_t count, __m512 x) {
  _mm512_mask_storeu_ps(p, lanes_below_avx512(count), x);
}

/// Rounds each float to bfloat16 (nearest even, NaN made quiet) exactly as float_to_bf16 does, denormals included.
/// The bf16 bits are the upper half of each lane; the lower half is rubbish.
inline __m512i round_bf16_avx512(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
}

/// 16 floats as 16 bf16 in order.
inline __m256i pack_bf16_avx512(__m512 x) {
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16_avx512(x), 16));
}

/// 32 floats as 16 words, word i = bf16 pair (2 i, 2 i + 1), the first in the low half.
inline __m512i pack_bf16_avx512(__m512 first, __m512 second) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(pack_bf16_avx512(first)), pack_bf16_avx512(second), 1);
}

/// rows[i][j] -> rows[j][i] for 16 x 16 words.
inline void transpose_avx512(__m512i rows[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {  // pairs of rows
    t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // 4 x 4 within each 128-bit lane: row i + j holds column j of the lane
    rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int j = 0; j < 4;
       ++j) {  // the 4 x 4 grid of lanes: result row 4 lane + j = lane `lane` of rows j, 4+j, 8+j, 12+j
    const __m512i low01 = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0x44);
    const __m512i high01 = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0xee);
    const __m512i low23 = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0x44);
    const __m512i high23 = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0xee);
    t[j] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
    t[8 + j] = _mm512_shuffle_i32x4(high01, high23, 0x88);
    t[12 + j] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
  }
  for (int i = 0; i < 16; ++i) rows[i] = t[i];
}

}  // namespace
}  // namespace glimpse
