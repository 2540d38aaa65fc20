// 256-bit vectors under the names that format-independent kernel code uses. Included only by *_avx2.cpp files;
// everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/simd/exp2_avx2.h"
#include "kernels/simd/inline.h"
#include "kernels/simd/row_avx2.h"

namespace glimpse {
namespace {

/// Vectors of 8 lanes: integers I and floats F, whose operations have `_f` in their names where an integer's is called
/// alike. Half of a 16-lane vector of a panel.
struct Vec256 {
  using I = __m256i;
  using F = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kHalves = 2;

  static GLIMPSE_INLINE I load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static GLIMPSE_INLINE void store(void* p, I v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }
  static GLIMPSE_INLINE F load_f(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
  static GLIMPSE_INLINE void store_f(void* p, F v) { _mm256_storeu_ps(static_cast<float*>(p), v); }
  static GLIMPSE_INLINE I set8(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
  static GLIMPSE_INLINE I set32(int v) { return _mm256_set1_epi32(v); }
  static GLIMPSE_INLINE I broadcast32(const void* p) {
    int32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
  }
  static GLIMPSE_INLINE F broadcast_f(const void* p) {
    float v;
    __builtin_memcpy(&v, p, sizeof v);
    return _mm256_set1_ps(v);
  }
  static GLIMPSE_INLINE I zero() { return _mm256_setzero_si256(); }
  static GLIMPSE_INLINE F zero_f() { return _mm256_setzero_ps(); }
  static GLIMPSE_INLINE F set_f(float v) { return _mm256_set1_ps(v); }
  static GLIMPSE_INLINE I and_(I a, I b) { return _mm256_and_si256(a, b); }
  static GLIMPSE_INLINE I or_(I a, I b) { return _mm256_or_si256(a, b); }
  static GLIMPSE_INLINE I xor_(I a, I b) { return _mm256_xor_si256(a, b); }
  static GLIMPSE_INLINE I add8(I a, I b) { return _mm256_add_epi8(a, b); }
  static GLIMPSE_INLINE I add32(I a, I b) { return _mm256_add_epi32(a, b); }
  static GLIMPSE_INLINE I sub32(I a, I b) { return _mm256_sub_epi32(a, b); }
  static GLIMPSE_INLINE I max32(I a, I b) { return _mm256_max_epi32(a, b); }
  static GLIMPSE_INLINE I srl(I a, int n) { return n == 0 ? a : _mm256_srli_epi32(a, n); }
  static GLIMPSE_INLINE I sll(I a, int n) { return n == 0 ? a : _mm256_slli_epi32(a, n); }
  static GLIMPSE_INLINE I sra(I a, int n) { return n == 0 ? a : _mm256_srai_epi32(a, n); }
  /// srl by a number that is known when it runs.
  static GLIMPSE_INLINE I srl_by(I a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  /// Bytes of `table` (16 bytes) at the indices (0..15) of v.
  static GLIMPSE_INLINE I lookup(const int8_t* table, I v) {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), v);
  }
  static GLIMPSE_INLINE F to_float(I v) { return _mm256_cvtepi32_ps(v); }
  /// Lanes [8 half, ...) of an array of 16 f16.
  static GLIMPSE_INLINE F load_f16(const void* p, int half = 0) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p) + half));
  }
  static GLIMPSE_INLINE I load_u16(const uint8_t* p, int half) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * half)));
  }
  static GLIMPSE_INLINE I load_u8(const uint8_t* p, int half) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * half)));
  }
  static GLIMPSE_INLINE F as_float(I v) { return _mm256_castsi256_ps(v); }
  static GLIMPSE_INLINE I as_int(F v) { return _mm256_castps_si256(v); }
  static GLIMPSE_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
  static GLIMPSE_INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static GLIMPSE_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static GLIMPSE_INLINE F div(F a, F b) { return _mm256_div_ps(a, b); }
  /// a b + c, a b - c and c - a b, rounded once.
  static GLIMPSE_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static GLIMPSE_INLINE F fms(F a, F b, F c) { return _mm256_fmsub_ps(a, b, c); }
  static GLIMPSE_INLINE F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
  /// The second operand where one is NaN.
  static GLIMPSE_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
  static GLIMPSE_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
  static GLIMPSE_INLINE F abs(F v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
  /// a where the sign of v is set, else b.
  static GLIMPSE_INLINE F if_negative(F v, F a, F b) { return _mm256_blendv_ps(b, a, v); }
  /// Lanes [0, count) of v, the others `rest`.
  static GLIMPSE_INLINE F first_lanes(F v, int64_t count, float rest) {
    return _mm256_blendv_ps(set_f(rest), v, as_float(lanes_below_avx2(count)));
  }
  static GLIMPSE_INLINE float reduce_max(F v) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }
  /// Lanes 4 apart first, then 2 and 1.
  static GLIMPSE_INLINE float reduce_add(F v) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
  }
  /// Lanes [0, count) of a row: zero elsewhere, and not stored elsewhere.
  static GLIMPSE_INLINE F load_row(const float* p, int64_t count) { return load_row_avx2(p, count); }
  static GLIMPSE_INLINE void store_row(float* p, int64_t count, F v) { store_row_avx2(p, count, v); }
  /// See exp2_avx2.h.
  static GLIMPSE_INLINE F exp2_nonpositive(F v) { return exp2_nonpositive_avx2(v); }
  static GLIMPSE_INLINE F exp2_scaled(F v, float high, float low) { return exp2_scaled_avx2(v, high, low); }
  static GLIMPSE_INLINE F exp2_product(F a, F b) { return exp2_product_avx2(a, b); }
};

}  // namespace
}  // namespace glimpse
