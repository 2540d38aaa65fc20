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
  static GLIMPSE_INLINE void merge(const AttentionState& state, const AttentionState& block, int64_t n_rows,
                                   int64_t d) {
    merge_attention_avx2(state, block, n_rows, d);
  }
};

}  // namespace
}  // namespace glimpse
