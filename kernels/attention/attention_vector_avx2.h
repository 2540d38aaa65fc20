// Vector operations of the attention kernels: AVX2, 8 lanes, 16 registers. Internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/attention/attention_isa.h"
#include "kernels/simd/vec_avx2.h"

namespace glimpse {
namespace {

struct Avx2 : Vec256 {
  static constexpr int kScoreRows = 4;  // 4 x 2 accumulators, 4 key vectors (two widened pairs), a query: 13 of 16
  static constexpr int kScoreVectors = 2;
  static constexpr int kValueVectors = 2;
  static constexpr int kValueRows = 4;

  static GLIMPSE_INLINE void load_bf16_pair(const std::byte* p, F& low, F& high) {
    const __m256i words = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
    low = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
    high = _mm256_castsi256_ps(_mm256_blend_epi16(_mm256_setzero_si256(), words, 0xaa));
  }
  static GLIMPSE_INLINE F load_bf16(const uint16_t* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static GLIMPSE_INLINE F round_to_bf16(F x) {
    return _mm256_castsi256_ps(_mm256_blend_epi16(_mm256_setzero_si256(), round_bf16_avx2(x), 0xaa));
  }
  static GLIMPSE_INLINE float first(F x) { return _mm256_cvtss_f32(x); }
  /// Rounded to binary16, to nearest even; finite values that would become infinite stop at +-65504. min and max return
  /// their second operand where one is NaN.
  static GLIMPSE_INLINE void store_saturated_f16(std::byte* p, F x) {
    const F limit = set_f(65504.0f), sign = set_f(-0.0f);
    const F clamped = min(limit, max(_mm256_xor_ps(limit, sign), x));
    const F infinite = _mm256_cmp_ps(abs(x), set_f(__builtin_inff()), _CMP_EQ_OQ);
    const __m128i half = _mm256_cvtps_ph(_mm256_blendv_ps(clamped, x, infinite), _MM_FROUND_TO_NEAREST_INT);
    _mm_store_si128(reinterpret_cast<__m128i*>(p), half);
  }
  static GLIMPSE_INLINE void store_bf16(uint16_t* p, F x) {
    const __m256i words = _mm256_srli_epi32(round_bf16_avx2(x), 16);
    const __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), half);
  }
  /// Pairs of neighbours, and of equal lanes, in a word each.
  static GLIMPSE_INLINE I pack_bf16_pairs(F first, F second) { return pack_bf16_avx2(first, second); }
  static GLIMPSE_INLINE I interleave_bf16(F low, F high) {
    return _mm256_blend_epi16(srl(round_bf16_avx2(low), 16), round_bf16_avx2(high), 0xaa);
  }
  static GLIMPSE_INLINE void transpose(I* rows) { transpose_avx2(rows); }
  static GLIMPSE_INLINE void merge(const AttentionState& state, const AttentionState& block, int64_t n_rows,
                                   int64_t d) {
    merge_attention_avx2(state, block, n_rows, d);
  }
};

}  // namespace
}  // namespace glimpse
