// Vector operations of the attention kernels: AVX2, 8 lanes, 16 registers. Internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/attention/attention_isa.h"
#include "kernels/simd/exp2_avx2.h"
#include "kernels/simd/row_avx2.h"

namespace glimpse {
namespace {

struct Avx2 {
  using V = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kScoreRows = 4;  // 4 x 2 accumulators, 4 key vectors (two widened pairs), a query: 13 of 16
  static constexpr int kScoreVectors = 2;
  static constexpr int kValueVectors = 2;
  static constexpr int kValueRows = 4;

  static inline V zero() { return _mm256_setzero_ps(); }
  static inline V broadcast(float x) { return _mm256_set1_ps(x); }
  static inline V load(const float* p) { return _mm256_load_ps(p); }
  static inline V load_f32(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
  static inline void store(float* p, V x) { _mm256_store_ps(p, x); }
  static inline void load_bf16_pair(const std::byte* p, V& low, V& high) {
    const __m256i words = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
    low = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
    high = _mm256_castsi256_ps(_mm256_blend_epi16(_mm256_setzero_si256(), words, 0xaa));
  }
  static inline V load_bf16(const uint16_t* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static inline V load_f16(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static inline V round_to_bf16(V x) {
    return _mm256_castsi256_ps(_mm256_blend_epi16(_mm256_setzero_si256(), round_bf16_avx2(x), 0xaa));
  }
  static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
  static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static inline V max(V a, V b) { return _mm256_max_ps(a, b); }
  static inline V exp2_nonpositive(V x) { return exp2_nonpositive_avx2(x); }
  static inline V first_lanes(V x, int64_t count, float rest) {
    return _mm256_blendv_ps(_mm256_set1_ps(rest), x, _mm256_castsi256_ps(lanes_below_avx2(count)));
  }
  static inline float reduce_max(V x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }
  static inline float reduce_add(V x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
  }
  static inline void merge(const AttentionState& state, const AttentionState& block, int64_t n_rows, int64_t d) {
    merge_attention_avx2(state, block, n_rows, d);
  }
};

}  // namespace
}  // namespace glimpse
