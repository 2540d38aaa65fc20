// Rows of floats in 256-bit vectors: tails, bf16 rounding, 8 x 8 transposition. Internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace glimpse {
namespace {

/// All bits set in the lanes that lie in front of `count` (which may be negative or above 8).
inline __m256i lanes_below_avx2(int64_t count) {
  const int clamped = count >= 8 ? 8 : count <= 0 ? 0 : static_cast<int>(count);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(clamped), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/// Lanes [0, count) of p, zero elsewhere.
inline __m256 load_row_avx2(const float* p, int64_t count) {
  return _mm256_maskload_ps(p, lanes_below_avx2(count));
}

/// Stores lanes [0, count). Whole vectors take the plain store: a masked one is many times slower on Zen.
inline void store_row_avx2(float* p, int64_t count, __m256 x) {
  if (count >= 8) {
    _mm256_storeu_ps(p, x);
  } else {
    _mm256_maskstore_ps(p, lanes_below_avx2(count), x);
  }
}

/// Rounds each float to bfloat16 (nearest even, NaN made quiet) exactly as float_to_bf16 does, denormals included.
/// The bf16 bits are the upper half of each lane; the lower half is rubbish.
inline __m256i round_bf16_avx2(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

/// 16 floats as 8 words, word i = bf16 pair (2 i, 2 i + 1), the first in the low half.
inline __m256i pack_bf16_avx2(__m256 first, __m256 second) {
  const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(round_bf16_avx2(first), 16),
                                             _mm256_srli_epi32(round_bf16_avx2(second), 16));
  return _mm256_permute4x64_epi64(packed, 0xd8);  // packus works per 128-bit lane
}

/// rows[i][j] -> rows[j][i] for 8 x 8 words.
inline void transpose_avx2(__m256i rows[8]) {
  __m256i t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {  // 4 x 4 within each 128-bit lane
    rows[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    rows[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    rows[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    rows[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm256_permute2x128_si256(rows[j], rows[4 + j], 0x20);
    t[4 + j] = _mm256_permute2x128_si256(rows[j], rows[4 + j], 0x31);
  }
  for (int i = 0; i < 8; ++i) rows[i] = t[i];
}

}  // namespace
}  // namespace glimpse
