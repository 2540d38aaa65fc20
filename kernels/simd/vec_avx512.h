// 512-bit vectors under the names that format-independent kernel code uses. Included only by *_avx512*.cpp files;
// everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/simd/exp2_avx512.h"
#include "kernels/simd/inline.h"
#include "kernels/simd/row_avx512.h"

namespace glimpse {
namespace {

/// One half: a whole 16-lane vector of a panel.
struct Vec512 {
  using I = __m512i;
  using F = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kHalves = 1;

  static GLIMPSE_INLINE I load(const void* p) { return _mm512_loadu_si512(p); }
  static GLIMPSE_INLINE void store(void* p, I v) { _mm512_store_si512(p, v); }
  static GLIMPSE_INLINE F load_f(const void* p) { return _mm512_loadu_ps(p); }
  static GLIMPSE_INLINE void store_f(void* p, F v) { _mm512_storeu_ps(p, v); }
  static GLIMPSE_INLINE I set8(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  static GLIMPSE_INLINE I set32(int v) { return _mm512_set1_epi32(v); }
  static GLIMPSE_INLINE I broadcast32(const void* p) {
    int32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
  }
  static GLIMPSE_INLINE F broadcast_f(const void* p) {
    float v;
    __builtin_memcpy(&v, p, sizeof v);
    return _mm512_set1_ps(v);
  }
  static GLIMPSE_INLINE I zero() { return _mm512_setzero_si512(); }
  static GLIMPSE_INLINE F zero_f() { return _mm512_setzero_ps(); }
  static GLIMPSE_INLINE F set_f(float v) { return _mm512_set1_ps(v); }
  static GLIMPSE_INLINE I and_(I a, I b) { return _mm512_and_si512(a, b); }
  static GLIMPSE_INLINE I or_(I a, I b) { return _mm512_or_si512(a, b); }
  static GLIMPSE_INLINE I xor_(I a, I b) { return _mm512_xor_si512(a, b); }
  static GLIMPSE_INLINE I add8(I a, I b) { return _mm512_add_epi8(a, b); }
  static GLIMPSE_INLINE I add32(I a, I b) { return _mm512_add_epi32(a, b); }
  static GLIMPSE_INLINE I sub32(I a, I b) { return _mm512_sub_epi32(a, b); }
  static GLIMPSE_INLINE I max32(I a, I b) { return _mm512_max_epi32(a, b); }
  static GLIMPSE_INLINE I srl(I a, int n) { return n == 0 ? a : _mm512_srli_epi32(a, static_cast<unsigned>(n)); }
  static GLIMPSE_INLINE I sll(I a, int n) { return n == 0 ? a : _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
  static GLIMPSE_INLINE I sra(I a, int n) { return n == 0 ? a : _mm512_srai_epi32(a, static_cast<unsigned>(n)); }
  /// srl by a number that is known when it runs.
  static GLIMPSE_INLINE I srl_by(I a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  /// Bytes of `table` (16 bytes) at the indices (0..15) of v.
  static GLIMPSE_INLINE I lookup(const int8_t* table, I v) {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), v);
  }
  static GLIMPSE_INLINE F to_float(I v) { return _mm512_cvtepi32_ps(v); }
  /// Lanes [16 half, ...) of an array of 16 f16.
  static GLIMPSE_INLINE F load_f16(const void* p, int = 0) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static GLIMPSE_INLINE I load_u16(const uint8_t* p, int) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static GLIMPSE_INLINE I load_u8(const uint8_t* p, int) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static GLIMPSE_INLINE F as_float(I v) { return _mm512_castsi512_ps(v); }
  static GLIMPSE_INLINE I as_int(F v) { return _mm512_castps_si512(v); }
  static GLIMPSE_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  static GLIMPSE_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static GLIMPSE_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static GLIMPSE_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
  /// a b + c, a b - c and c - a b, rounded once.
  static GLIMPSE_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static GLIMPSE_INLINE F fms(F a, F b, F c) { return _mm512_fmsub_ps(a, b, c); }
  static GLIMPSE_INLINE F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
  /// The second operand where one is NaN.
  static GLIMPSE_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  static GLIMPSE_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  static GLIMPSE_INLINE F abs(F v) { return _mm512_abs_ps(v); }
  /// a where the sign of v is set, else b.
  static GLIMPSE_INLINE F if_negative(F v, F a, F b) {
    return _mm512_mask_mov_ps(b, _mm512_movepi32_mask(as_int(v)), a);
  }
  /// Lanes [0, count) of v, the others `rest`.
  static GLIMPSE_INLINE F first_lanes(F v, int64_t count, float rest) {
    return _mm512_mask_mov_ps(set_f(rest), lanes_below_avx512(count), v);
  }
  static GLIMPSE_INLINE float reduce_max(F v) { return _mm512_reduce_max_ps(v); }
  static GLIMPSE_INLINE float reduce_add(F v) { return _mm512_reduce_add_ps(v); }
  /// Lanes [0, count) of a row: zero elsewhere, and not stored elsewhere.
  static GLIMPSE_INLINE F load_row(const float* p, int64_t count) { return load_row_avx512(p, count); }
  static GLIMPSE_INLINE void store_row(float* p, int64_t count, F v) { store_row_avx512(p, count, v); }
  /// See exp2_avx512.h.
  static GLIMPSE_INLINE F exp2_nonpositive(F v) { return exp2_nonpositive_avx512(v); }
  static GLIMPSE_INLINE F exp2_scaled(F v, float high, float low) { return exp2_scaled_avx512(v, high, low); }
  static GLIMPSE_INLINE F exp2_product(F a, F b) { return exp2_product_avx512(a, b); }
};

}  // namespace
}  // namespace glimpse
